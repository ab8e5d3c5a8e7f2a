#!/usr/bin/env bash
# What pgbench leaves behind in its three protocols: the same through the appliance as directly.
# Connects by the PG* environment variables; PGBIN is the folder of PostgreSQL's programs.
set -euo pipefail

echo "# $("$PGBIN/pgbench" --version)"

# What depends on the clock and the scheduler is not printed.
steady() {
    grep --extended-regexp --invert-match '^(pgbench \(|average connection time|starting vacuum|latency|initial connection|tps|done in|vacuuming|generating|creating|dropping|duration|[0-9]+ of )' || true
}

balances() {
    "$PGBIN/psql" -X -A -t -c "
        select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches),
            (select sum(delta) from pgbench_history), (select count(*) from pgbench_history),
            (select md5(string_agg(aid || ':' || abalance, ',' order by aid)) from pgbench_accounts)"
}

run() {
    echo "== pgbench $*"
    # A fixed seed: every client draws the same numbers in both runs.
    "$PGBIN/pgbench" --no-vacuum --random-seed=20261126 "$@" 2>&1 | steady
    balances
}

echo "== tables made by the client, by the server"
"$PGBIN/pgbench" --initialize --quiet --init-steps=dtgp --scale=1 2>&1 | steady
balances
"$PGBIN/pgbench" --initialize --quiet --init-steps=dtGvpf --scale=2 2>&1 | steady
balances

for mode in simple extended prepared; do
    run --protocol=$mode --client=4 --jobs=2 --transactions=50
    run --protocol=$mode --client=4 --jobs=2 --transactions=100 --select-only
done
run --protocol=prepared --client=2 --transactions=10 --connect
run --protocol=extended --client=2 --transactions=20 --skip-some-updates

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/pipeline.sql" <<'SQL'
\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
\startpipeline
begin;
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
select abalance from pgbench_accounts where aid = :aid;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, :aid, :delta, current_timestamp);
commit;
\endpipeline
SQL
cat >"$folder/pipeline-of-reads.sql" <<'SQL'
\startpipeline
select 1;
select count(*) from pgbench_branches;
select abalance from pgbench_accounts where aid = 7;
\endpipeline
\startpipeline
select 2;
\endpipeline
select 3 as a \gset
select :a + 1;
SQL
cat >"$folder/error.sql" <<'SQL'
select 1/0;
SQL
for mode in extended prepared; do
    for script in pipeline pipeline-of-reads; do
        echo "== $script"
        (cd "$folder" && run --protocol=$mode --client=3 --transactions=20 --file="$script.sql")
    done
done
for mode in simple extended prepared; do
    echo "== an error in $mode"
    (cd "$folder" && run --protocol=$mode --client=1 --transactions=2 --file=error.sql) || true
done
