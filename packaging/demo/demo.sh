#!/usr/bin/env bash
# An agent's psql through Sallyport to a real PostgreSQL, step by step.
#
# Starts a private PostgreSQL and Sallyport on loopback, in a directory of its own, checks what each step shows, and
# fails at the first that does not show it. Stops what it started and removes the directory, unless KEEP=1.
#
#   SALLYPORT   the binary (`make demo` sets it)
#   LOADGEN     the load generator's
#   KEEP=1      leave it running at the end, and print how to connect and how to stop it
set -euo pipefail

sallyport=${SALLYPORT:?set SALLYPORT to the binary, or run make demo}
loadgen=${LOADGEN:?set LOADGEN to the binary, or run make demo}
keep=${KEEP:-}
binaries=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -t/ -k5 -n | tail -n 1)
[ -x "$binaries/postgres" ] || { echo "PostgreSQL is missing: apt install postgresql" >&2; exit 1; }

root=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-demo.XXXXXX")
chmod 755 "$root"
postgres_pid="" sallyport_pid="" psql_pid=""

# PostgreSQL does not run as root.
as_postgres=()
if [ "$(id -u)" = 0 ]; then
    as_postgres=(setpriv --reuid nobody --regid nogroup --clear-groups)
fi

stop() {
    local status=$?
    trap - EXIT INT TERM
    if [ -n "$psql_pid" ]; then kill "$psql_pid" 2>/dev/null || true; fi
    if [ "$status" != 0 ]; then
        printf '\nThe demo failed. The last lines of Sallyport'"'"'s log:\n' >&2
        tail -n 20 "$root/sallyport.log" >&2 2>/dev/null || true
    fi
    if [ -n "$sallyport_pid" ]; then
        kill -TERM "$sallyport_pid" 2>/dev/null || true
        wait "$sallyport_pid" 2>/dev/null || true
    fi
    if [ -n "$postgres_pid" ]; then
        kill -INT "$postgres_pid" 2>/dev/null || true
        wait "$postgres_pid" 2>/dev/null || true
    fi
    rm -rf "$root"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

bold="" dim="" plain=""
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
steps=0

step() {
    steps=$((steps + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$steps" "$1" "$plain"
}

# Shows a command as a person would type it.
shown() {
    printf '%s$ %s%s\n' "$dim" "$1" "$plain"
}

# Prints what came out, indented.
output() {
    sed 's/^/    /' "$1"
}

fail() {
    printf '\nNot as it should be: %s\n' "$1" >&2
    exit 1
}

# contains FILE TEXT: the step showed what it claims.
contains() {
    grep --quiet --fixed-strings -- "$2" "$1" || fail "\"$2\" is not in the output above"
}

lacks() {
    ! grep --quiet --fixed-strings --ignore-case -- "$2" "$1" || fail "\"$2\" is in $1"
}

# until_true SECONDS COMMAND...: waits for what announces itself in no other way.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

random_password() {
    od -An -N18 -tx1 /dev/urandom | tr -d ' \n'
}

base64url() {
    openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# person_token NAME GROUP: what the organisation's own login would give a person. An issuer like any other: its public key
# is a JWKS file, its private key belongs to this script.
person_token() {
    local now signed
    now=$(date +%s)
    signed=$(printf '{"alg":"RS256","typ":"JWT","kid":"people"}' | base64url).$(
        printf '{"iss":"https://login.demo.invalid","aud":"sallyport","sub":"%s","groups":["%s"],"iat":%d,"exp":%d}' \
            "$1" "$2" "$now" "$((now + 3600))" | base64url
    )
    printf '%s.%s' "$signed" "$(printf '%s' "$signed" | openssl dgst -sha256 -sign "$root/people.pem" -binary | base64url)"
}

postgres_port=$(free_port)
port=$(free_port)
[ "$port" != "$postgres_port" ] || port=$((port + 1))
password=$(random_password)

# What an operator of the target would use: the superuser, over the server's own socket.
at_target() {
    "$binaries/psql" -X -q -h "$root/postgres" -p "$postgres_port" -U postgres "$@"
}

# ---------------------------------------------------------------- the target

step "A private PostgreSQL, with a database \"orders\" and an account \"svc\" that no agent knows"
mkdir "$root/postgres"
if [ "$(id -u)" = 0 ]; then chown nobody:nogroup "$root/postgres"; fi
"${as_postgres[@]}" "$binaries/initdb" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
    -D "$root/postgres/data" >"$root/initdb.log" 2>&1 || { cat "$root/initdb.log" >&2; exit 1; }
cat >"$root/hba.conf" <<HBA
local all postgres trust
host orders svc 127.0.0.1/32 scram-sha-256
HBA
"${as_postgres[@]}" cp "$root/hba.conf" "$root/postgres/data/pg_hba.conf"
setsid "${as_postgres[@]}" "$binaries/postgres" -D "$root/postgres/data" -c "port=$postgres_port" -c listen_addresses=127.0.0.1 \
    -c "unix_socket_directories=$root/postgres" -c fsync=off -c log_statement=all \
    -c "log_line_prefix=%t user=%u application=%a " >"$root/postgres.log" 2>&1 &
postgres_pid=$!
until_true 20 at_target -d postgres -c 'select 1' || { cat "$root/postgres.log" >&2; fail "PostgreSQL did not start"; }
# Unlogged: the server would write the password into its own log.
PGOPTIONS="-c log_statement=none" at_target -d postgres -c "create role svc login password '$password'"
at_target -d postgres -c "create database orders owner svc"
at_target -d orders >/dev/null <<'SQL'
set role svc;
create table customers (id int primary key, name text not null, country text not null, card text not null, note text not null);
create table orders (id int primary key, customer int not null references customers, total numeric(10, 2) not null);
insert into customers values (1, 'Ada', 'GB', '4111111111111111', 'write to ada@example.com'),
    (2, 'Grace', 'US', '5555555555554444', 'prefers the 378282246310005'),
    (3, 'Emmy', 'DE', '6011111111111117', 'order 4111111111111112 was late'), (4, 'Sofia', 'RU', '3530111333300000', '');
create view contacts as select id as number, name, card as paid_with from customers;
insert into orders select n, 1 + n % 4, round((n * 37 % 500)::numeric + 0.95, 2) from generate_series(1, 200) n;
SQL
echo "    PostgreSQL $(at_target -A -t -d postgres -c 'show server_version') on 127.0.0.1:$postgres_port"

# ---------------------------------------------------------------- the appliance

step "Sallyport in front of it: one target, three rules, two masks, and an issuer of people"
mkdir "$root/policy.d" "$root/state" "$root/run"
openssl genrsa -out "$root/people.pem" 2048 2>/dev/null
modulus=$(openssl rsa -in "$root/people.pem" -noout -modulus | cut -d= -f2 | sed 's/../\\x&/g')
printf '{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"people","e":"AQAB","n":"%s"}]}' \
    "$(printf '%b' "$modulus" | base64url)" >"$root/people.jwks"
(umask 077 && printf '%s' "$password" >"$root/orders-password")
cat >"$root/sallyport.toml" <<TOML
[listen]
postgres = ["127.0.0.1:$port"]
admin    = "$root/run/admin.sock"

[runtime]
directory = "$root/run"

[state]
directory = "$root/state"

[builtin_issuer]                         # of agents, in the demo
group_prefix = "agents:"

[[issuer]]                               # of people: no token that Sallyport makes has its groups
name         = "people"
issuer       = "https://login.demo.invalid"
audience     = ["sallyport"]
jwks         = "file:$root/people.jwks"
group_prefix = "people:"

[[target]]
name     = "orders"
protocol = "postgres"
address  = "127.0.0.1:$postgres_port"
database = "orders"
user     = "svc"
password = "file:$root/orders-password"
tls      = "disable"                     # a loopback address
TOML
cat >"$root/policy.d/orders.toml" <<'TOML'
[[rule]]
name    = "analysts-read"
groups  = ["agents:analysts"]
targets = ["orders"]
allow   = { statements = ["read", "transaction", "session"] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate", "alter", "grant", "copy-program", "delete-without-where", "update-without-where"] }
message = "Destructive statements are blocked here. Ask #data-platform for a migration."

[[rule]]
name      = "writes-need-a-person"
groups    = ["agents:analysts"]
targets   = ["orders"]
hold      = { statements = ["insert", "update", "delete"], tables = ["public.*"] }
approvers = ["people:oncall"]
expires   = "10m"

[[mask]]
name    = "card-numbers"
groups  = ["agents:analysts"]
targets = ["orders"]
columns = ["customers.card"]
with    = "last4"
deny_predicates = true

[[mask]]
name    = "pii-anywhere"
groups  = ["*"]
targets = ["*"]
detect  = ["payment-card", "email"]
with    = "redact"
TOML
cat "$root/policy.d/orders.toml" >"$root/shown"
output "$root/shown"
export SALLYPORT_CONFIG="$root/sallyport.toml"
shown "sallyport check"
"$sallyport" check >"$root/check" 2>&1 || { output "$root/check"; fail "the configuration is refused"; }
output "$root/check"
shown "sallyport serve"
setsid "$sallyport" serve >"$root/sallyport.log" 2>&1 &
sallyport_pid=$!
until_true 20 "$sallyport" status || fail "Sallyport did not start"
"$sallyport" status >"$root/status"
output "$root/status"
contains "$root/status" "$port"
certificate="$root/state/tls-certificate.pem"
[ -s "$certificate" ] || fail "no certificate of its own"

step "Whether anything is in the way (what it warns of here is that the demo stands in a directory of its own)"
shown "sallyport doctor"
"$sallyport" doctor >"$root/doctor" 2>&1 || { output "$root/doctor"; fail "something is in the way"; }
output "$root/doctor"
contains "$root/doctor" "orders accepts connections"

# ---------------------------------------------------------------- the agent

step "A token for the agent \"claude\", of the group \"analysts\""
shown "export PGPASSWORD=\$(sallyport token issue --agent claude --groups analysts --ttl 1h)"
token=$("$sallyport" token issue --agent claude --groups analysts --ttl 1h)
printf '    %s...\n' "${token:0:40}"

# Stock psql; verify-full, since libpq's default would hand the token to anybody in the middle.
as_agent() {
    local password=$1
    shift
    env -u PGOPTIONS -u PGSERVICE PGPASSWORD="$password" PGCONNECT_TIMEOUT=10 "$binaries/psql" -X \
        "host=localhost hostaddr=127.0.0.1 port=$port user=claude dbname=orders sslmode=verify-full sslrootcert=$certificate" "$@"
}

step "Stock psql with the token as password: a permitted query, a refused one, and the connection goes on"
cat >"$root/session.sql" <<'SQL'
\conninfo
select country, count(*) as orders, sum(total) as total
    from customers join orders on customer = customers.id group by country order by country;
drop table orders;
select count(*) as "orders still there" from orders;
SQL
shown "psql \"host=localhost port=$port user=claude dbname=orders sslmode=verify-full sslrootcert=.../tls-certificate.pem\""
as_agent "$token" -v VERBOSITY=verbose -f "$root/session.sql" >"$root/session" 2>&1 || { output "$root/session"; fail "psql failed"; }
output "$root/session"
contains "$root/session" "SSL connection"
contains "$root/session" "GB"
contains "$root/session" "42501"
contains "$root/session" "no-destruction"
contains "$root/session" "HINT:"
contains "$root/session" "#data-platform"
contains "$root/session" "orders still there"
lacks "$root/postgres.log" "drop table orders"
echo "    (the target's log has never seen the DROP)"

step "Card numbers do not leave, whatever shape they are asked for in"
cat >"$root/masked.sql" <<'SQL'
select id, name, card, note from customers order by id;
select paid_with, reverse(paid_with) from contacts where number = 1;
select row_to_json(c) from customers c where id = 2;
copy (select name, card from customers where id = 3) to stdout;
select name from customers where card like '4111%';
SQL
as_agent "$token" -a -f "$root/masked.sql" >"$root/masked" 2>&1 || { output "$root/masked"; fail "psql failed"; }
output "$root/masked"
contains "$root/masked" "************1111"
contains "$root/masked" "is masked for you and may not decide (WHERE)"
contains "$root/masked" "order 4111111111111112 was late"
for value in 4111111111111111 1111111111111114 5555555555554444 6011111111111117 3530111333300000 378282246310005 ada@example.com; do
    lacks "$root/masked" "$value"
done
echo "    (columns by their origin, also through a view or a function; a card in free text by its check digit: the order's number has none)"

step "An agent of another group is refused the target"
other=$("$sallyport" token issue --agent intern --groups marketing --ttl 1h)
shown "PGPASSWORD=\$(sallyport token issue --agent intern --groups marketing) psql ..."
if as_agent "$other" -c 'select 1' >"$root/refused" 2>&1; then
    output "$root/refused"
    fail "the agent was let in"
fi
output "$root/refused"
contains "$root/refused" "FATAL"
if as_agent "not-a-token" -c 'select 1' >"$root/wrong" 2>&1; then fail "a made-up token was let in"; fi
output "$root/wrong"

step "The target names the agent, although Sallyport logged in as \"svc\""
mkfifo "$root/stdin"
as_agent "$token" <"$root/stdin" >"$root/live" 2>&1 &
psql_pid=$!
exec 4>"$root/stdin"
echo "select id from orders where id = 7;" >&4
seen_in_activity() {
    [ -n "$(at_target -A -t -d postgres -c "select 1 from pg_stat_activity where query like 'select id from orders%'")" ]
}
until_true 10 seen_in_activity || fail "the session is not in pg_stat_activity"
shown "select usename, application_name, query from pg_stat_activity   -- at the target"
at_target -d postgres -c "select usename, application_name, query from pg_stat_activity where usename = 'svc' and query like 'select id%'" >"$root/activity"
output "$root/activity"
contains "$root/activity" "svc"
contains "$root/activity" "claude"
shown "grep 'select country' postgres.log"
grep "select country" "$root/postgres.log" | head -n 1 >"$root/logged" || fail "the target's log has no such line"
output "$root/logged"
contains "$root/logged" "user=svc"
contains "$root/logged" "claude"
echo "select current_setting('sallyport.subject');" >&4
exec 4>&-
wait "$psql_pid" || fail "psql failed"
psql_pid=
output "$root/live"
contains "$root/live" "claude"

step "A write waits on the wire until a person has approved it"
shown "psql ... -c 'update orders set total = 0 where id = 7 returning id, total'"
as_agent "$token" -c "update orders set total = 0 where id = 7 returning id, total" >"$root/held" 2>&1 &
psql_pid=$!
is_pending() {
    request=$("$sallyport" approvals list --json | grep -o '"id": *"[0-9A-Z]\{26\}"' | head -n 1 | cut -d'"' -f4)
    [ -n "$request" ]
}
until_true 20 is_pending || { output "$root/held"; fail "nothing waits for approval"; }
shown "sallyport approvals list"
"$sallyport" approvals list >"$root/pending"
output "$root/pending"
shown "sallyport approvals show $request"
"$sallyport" approvals show "$request" >"$root/asked"
output "$root/asked"
contains "$root/asked" "update orders set total = 0 where id = 7"
contains "$root/asked" "writes-need-a-person"
if SALLYPORT_TOKEN="$token" "$sallyport" approvals approve "$request" >"$root/own" 2>&1; then fail "the agent approved its own request"; fi
output "$root/own"
lacks "$root/postgres.log" "statement: update orders set total = 0"    # it was planned for an estimate, and not run
shown "SALLYPORT_TOKEN=... sallyport approvals approve $request     # ada, on call"
SALLYPORT_TOKEN=$(person_token ada oncall) "$sallyport" approvals approve "$request" >"$root/approved" 2>&1 \
    || { output "$root/approved"; fail "the approval was refused"; }
output "$root/approved"
wait "$psql_pid" || { output "$root/held"; fail "psql failed"; }
psql_pid=
output "$root/held"
contains "$root/held" "NOTICE"
contains "$root/held" "UPDATE 1"
contains "$root/postgres.log" "statement: update orders set total = 0"

step "What it adds to an answer, beside going directly (an unoptimised build: no figures)"
printf '%s\n' "$password" >"$root/svc-password"
chmod 600 "$root/svc-password"
shown "sallyport-loadgen compare --direct ... --via sallyport=... --rate 100"
"$loadgen" compare --rate 100 --duration 2s --warm-up 1s --rounds 2 --mode extended --database orders --quiet --lag-max 1s \
    --statement "select count(*) from orders" \
    --direct "127.0.0.1:$postgres_port,user=svc,password-file=$root/svc-password" \
    --via "sallyport=127.0.0.1:$port,agents=4,group=analysts,admin-socket=$root/run/admin.sock" >"$root/compared" 2>&1 \
    || { output "$root/compared"; fail "the load generator failed"; }
output "$root/compared"
contains "$root/compared" "p99"
lacks "$root/compared" "sqlstate"

step "Revoked, an agent is out at once, in the middle of a statement"
as_agent "$token" -c "select pg_sleep(600)" >"$root/cut" 2>&1 &
psql_pid=$!
is_sleeping() {
    [ -n "$(at_target -A -t -d postgres -c "select 1 from pg_stat_activity where query like 'select pg_sleep(600)%' and state = 'active'")" ]
}
until_true 10 is_sleeping || { output "$root/cut"; fail "the statement does not run"; }
shown "sallyport revoke agent claude --reason 'went astray'"
"$sallyport" revoke agent claude --reason "went astray" >"$root/revoked"
output "$root/revoked"
if wait "$psql_pid"; then fail "the session went on"; fi
psql_pid=
output "$root/cut"
contains "$root/cut" "FATAL"
is_gone() { ! is_sleeping; }
until_true 10 is_gone || fail "the statement still runs at the target"
if as_agent "$token" -c 'select 1' >"$root/again" 2>&1; then fail "a revoked agent was let in"; fi
output "$root/again"

step "What was recorded"
shown "sallyport sessions"
"$sallyport" sessions >"$root/sessions"
output "$root/sessions"
contains "$root/sessions" "claude"
session=$("$sallyport" sessions --json | grep claude | grep -o '"id":"[0-9A-Z]\{26\}"' | cut -d'"' -f4 | sort | head -n 1)
[ -n "$session" ] || fail "no session of claude"
shown "sallyport replay $session"
"$sallyport" replay "$session" >"$root/replay"
output "$root/replay"
contains "$root/replay" "select country, count(*) as orders"
contains "$root/replay" "GB"
contains "$root/replay" "drop table orders"
contains "$root/replay" "no-destruction"
contains "$root/replay" "orders still there"

step "The record can be proven untouched, without the appliance"
shown "sallyport audit verify"
"$sallyport" audit verify >"$root/verified" 2>&1 || { output "$root/verified"; fail "the archive does not verify"; }
output "$root/verified"

step "Nothing secret in what was written"
for secret in "$password" "${token##*.}"; do
    for file in sallyport.log postgres.log session masked held asked compared sessions replay verified; do
        lacks "$root/$file" "$secret"
    done
    ! grep --recursive --quiet --fixed-strings -- "$secret" "$root/state" "$root/run" 2>/dev/null || fail "a secret is in the appliance's files"
done
! grep --recursive --quiet --fixed-strings -- 5555555555554444 "$root/state" "$root/run" 2>/dev/null || fail "a card is in a recording"
echo "    neither svc's password nor the agent's token is in a log, a recording or an answer, nor a card number in a recording"

printf '\n%sAll %d steps showed what they claim.%s\n' "$bold" "$steps" "$plain"

if [ -n "$keep" ]; then
    cat >"$root/stop" <<STOP
#!/bin/sh
# Stops what \`make demo KEEP=1\` left running, and removes it.
kill -TERM $sallyport_pid
kill -INT $postgres_pid
while kill -0 $sallyport_pid 2>/dev/null || kill -0 $postgres_pid 2>/dev/null; do sleep 0.1; done
rm -rf "$root"
STOP
    chmod 755 "$root/stop"
    trap - EXIT INT TERM
    cat <<TEXT

It keeps running. To connect:

    export SALLYPORT_CONFIG=$root/sallyport.toml
    alias sallyport=$sallyport
    export PGPASSWORD=\$(sallyport token issue --agent me --groups analysts --ttl 8h)
    psql "host=localhost port=$port user=me dbname=orders sslmode=verify-full sslrootcert=$certificate"

Then \`sallyport sessions\`, \`sallyport replay ID\`; edit $root/policy.d/orders.toml and \`sallyport reload\`.
To stop it and remove everything: $root/stop
TEXT
fi
