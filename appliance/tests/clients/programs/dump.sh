#!/usr/bin/env bash
# What pg_dump writes and pg_restore makes of it: the same through the appliance as directly.
# Connects by the PG* environment variables, to the database `spare` besides; PGBIN is the folder of PostgreSQL's programs.
set -euo pipefail
cd "$(dirname "$0")"

echo "# $("$PGBIN/pg_dump" --version)"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Otherwise a fresh random word in each dump.
key=
if "$PGBIN/pg_dump" --help | grep restrict-key >/dev/null; then
    key=--restrict-key=fixed
fi

echo "== schema"
"$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -f schema.sql

echo "== plain"
"$PGBIN/pg_dump" $key | tee "$folder/plain.sql"
echo "== plain, by INSERT"
"$PGBIN/pg_dump" $key --inserts --rows-per-insert=100 --clean --if-exists --no-owner --column-inserts | sha256sum
"$PGBIN/pg_dump" $key --serializable-deferrable --schema-only --schema=app | sha256sum
echo "== custom, and what pg_restore reads in it"
"$PGBIN/pg_dump" --format=custom --compress=0 --file="$folder/custom"
"$PGBIN/pg_restore" $key --file=- "$folder/custom" | sha256sum
"$PGBIN/pg_restore" --list "$folder/custom" | grep -v '^;.*\(Archive created\|Dumped\|Dump Version\)'
echo "== directory, by several connections with one snapshot"
"$PGBIN/pg_dump" --format=directory --jobs=3 --compress=0 --file="$folder/directory"
(cd "$folder/directory" && for file in $(ls | grep -v toc.dat); do sha256sum "$file"; done)
echo "== tar"
"$PGBIN/pg_dump" --format=tar | tar --list

restored() {
    echo "== restored $1"
    "$PGBIN/pg_dump" $key --dbname=spare >"$folder/again.sql"
    if diff "$folder/plain.sql" "$folder/again.sql" >"$folder/difference"; then
        echo "the same"
    else
        wc -l <"$folder/difference"
    fi
    "$PGBIN/psql" -X -q -d spare -c "set client_min_messages = error" -c "drop schema if exists app cascade" -c "drop table if exists customers, orders" -c "select lo_unlink(oid) from pg_largeobject_metadata" -o /dev/null
}

# Each may fail, and says so: what a newer pg_dump writes has settings that an older server does not know.
"$PGBIN/psql" -X -q -d spare -o /dev/null <"$folder/plain.sql"
restored "from the plain dump"
"$PGBIN/pg_restore" --dbname=spare --jobs=3 "$folder/directory" || echo "failed"
restored "by several connections"
"$PGBIN/pg_restore" --dbname=spare --single-transaction "$folder/custom" || echo "failed"
restored "in one transaction"

echo "== the rest of the family"
"$PGBIN/pg_dumpall" $key --globals-only --no-role-passwords --database="$PGDATABASE" | grep -v '^--'
"$PGBIN/vacuumdb" --analyze --jobs=2 --dbname="$PGDATABASE" --table=app.parent --table=app.child
"$PGBIN/reindexdb" --dbname="$PGDATABASE" --table=app.child
"$PGBIN/clusterdb" --dbname="$PGDATABASE" --table=app.parent || true
"$PGBIN/pg_isready" --quiet && echo ready
