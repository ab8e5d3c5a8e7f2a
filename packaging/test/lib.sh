# What the scripts in the booted system share. Each step says what it does; the first that does not hold ends the script.

set -euo pipefail

step() {
    printf '\n== %s (%s s)\n' "$1" "$SECONDS"
}

fail() {
    printf '\nNOT SO: %s\n' "$1"
    systemctl status --no-pager --lines=15 sallyport || true
    exit 1
}

# shows TEXT COMMAND...: the command succeeds and its output contains the text.
shows() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || fail "$* fails: $output"
    grep --quiet --fixed-strings -- "$text" <<<"$output" || fail "\"$text\" is not in the output of $*: $output"
}

# fails_with TEXT COMMAND...: the command fails, and says the text.
fails_with() {
    local text=$1 output
    shift
    if output=$("$@" 2>&1); then fail "$* succeeds: $output"; fi
    grep --quiet --fixed-strings -- "$text" <<<"$output" || fail "\"$text\" is not in the output of $*: $output"
}

is() { # is WHAT EXPECTED FOUND
    [ "$2" = "$3" ] || fail "$1: expected \"$2\", found \"$3\""
}

# until_true SECONDS COMMAND...: waits for what announces itself in no other way.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "not within the time: $*"
        sleep 0.1
    done
}

property() {
    systemctl show --property "$1" --value "${2:-sallyport}"
}

install_package() {
    case $1 in
        *.deb) apt-get install --quiet --yes --option Dpkg::Use-Pty=0 "./$1" ;;
        *.rpm) rpm --upgrade --nodeps "./$1" ;;
    esac
}

at_target() {
    runuser --user postgres -- psql --no-psqlrc --quiet --no-align --tuples-only --dbname "$@"
}

token() {
    sallyport token issue --agent "$1" --groups "$2" --ttl 1h
}

# as_agent TOKEN DATABASE PSQL-OPTION...: as stock psql connects.
as_agent() {
    local password=$1 database=$2
    shift 2
    cp --no-clobber /var/lib/sallyport/tls-certificate.pem /opt/t/certificate.pem
    PGPASSWORD=$password PGCONNECT_TIMEOUT=20 psql --no-psqlrc \
        "host=localhost hostaddr=127.0.0.1 port=6432 user=claude dbname=$database sslmode=verify-full sslrootcert=/opt/t/certificate.pem" "$@"
}

# A database with a table of people's data and one that load is written to, and the account that Sallyport has there.
prepare_target() {
    at_target postgres --command "create role svc login password 'of-the-target'" --command "create database orders owner svc"
    at_target orders >/dev/null <<'SQL'
set role svc;
create table customers (id int primary key, name text not null, card text not null);
insert into customers values (1, 'Ada', '4111111111111111'), (2, 'Grace', '5555555555554444');
create table written (id text primary key);
SQL
}

# The password as a credential of the unit, the target by its command, and the policy: what docs/install.md says.
add_target() {
    install --directory --mode 0700 /etc/credstore
    (umask 077 && printf of-the-target >/etc/credstore/orders-password)
    mkdir -p /etc/systemd/system/sallyport.service.d
    cat >/etc/systemd/system/sallyport.service.d/credentials.conf <<'UNIT'
[Service]
LoadCredential=orders-password:/etc/credstore/orders-password
UNIT
    systemctl daemon-reload
    systemctl restart sallyport
    sallyport targets add orders --address 127.0.0.1:5432 --user svc --tls disable --password credential:orders-password \
        || fail "targets add"
    cp /usr/share/doc/sallyport/examples/policy-read-only.toml /etc/sallyport/policy.d/read-only.toml
    cat >/etc/sallyport/policy.d/load.toml <<'TOML'
[[rule]]
name    = "load-writes"
groups  = ["load"]
targets = ["orders"]
allow   = { statements = ["read", "insert", "transaction", "session"] }
TOML
    sallyport check || fail "the configuration"
    systemctl reload sallyport || fail "the reload"
}

# What load.py was told was written, and what the target has, are the same. Statements that it was not told of are
# named; a crash may leave some, an upgrade none.
compare_load() { # compare_load LOG ALLOWED
    local acknowledged executed
    acknowledged=$(sed -n 's/^written //p' "$1" | LC_ALL=C sort)
    executed=$(at_target orders --command 'select id from written' | LC_ALL=C sort)
    [ -n "$acknowledged" ] || fail "the load wrote nothing"
    is "acknowledged but not executed" "" "$(comm -23 <(echo "$acknowledged") <(echo "$executed"))"
    unknown=$(comm -13 <(echo "$acknowledged") <(echo "$executed") | wc -l)
    [ "$unknown" -le "$2" ] || fail "$unknown statements were executed, and their clients never heard of it"
    echo "   $(wc -l <<<"$acknowledged") statements acknowledged and executed, $unknown executed in silence"
}
