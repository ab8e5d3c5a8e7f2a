/* Put in front of PostgreSQL's isolationtester.c, which names its sessions by set_config() with a computed value: the guard
 * `sallyport:attribution` refuses that, and the program ends when it fails. SET with a literal is how a client may do it. */
#include "postgres_fe.h"
#include "libpq-fe.h"

static PGresult *
name_session(PGconn *conn, const char *session)
{
	char		command[256];

	snprintf(command, sizeof(command), "SET application_name = '%s/%s'", getenv("PGAPPNAME"), session);
	PQclear(PQexec(conn, command));
	return PQexec(conn, "SHOW application_name");
}

#define PQexecParams(conn, command, count, types, values, ...) name_session(conn, *(values))
