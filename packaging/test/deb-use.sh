# The .deb from installing it to an upgrade under load and a crash, as a person would do it. Runs in a booted systemd,
# with PostgreSQL, the packages old.deb and new.deb, and the network not further than loopback.
. ./lib.sh
# The root leaves documentation out to be small. A person's machine does not.
sed --in-place /path-exclude/d /etc/dpkg/dpkg.cfg.d/*

step "apt-get install ./old.deb: it runs, with nothing configured"
install_package old.deb >install.log 2>&1 || { cat install.log; fail "apt-get install"; }
is "enabled" enabled "$(systemctl is-enabled sallyport)"
is "active" active "$(systemctl is-active sallyport)"
is "socket unit" disabled "$(systemctl is-enabled sallyport.socket || true)"
shows "targets add" systemctl status --no-pager sallyport
shows "targets add" sallyport status
shows "no mistake found" sallyport check
is "listening beyond loopback" "" "$(ss --no-header --listening --tcp --processes | awk '/sallyport/ && $4 !~ /^(127\.|\[::1\])/')"
for path in /etc/sallyport /etc/sallyport/policy.d /etc/sallyport/targets.d; do
    is "$path" "root:sallyport 2750" "$(stat --format '%U:%G %a' "$path")"
done
is "the configuration" "root:sallyport 640" "$(stat --format '%U:%G %a' /etc/sallyport/sallyport.toml)"
is "the state" "sallyport:sallyport 700" "$(stat --format '%U:%G %a' /var/lib/sallyport)"
is "conffiles" "/etc/sallyport/policy.d/README /etc/sallyport/sallyport.toml /etc/sallyport/targets.d/README" \
    "$(dpkg-query --show --showformat '${Conffiles}' sallyport | awk '{ print $1 }' | sort | xargs)"
is "files that are not as packaged" "" "$(dpkg --verify sallyport)"
systemd-analyze security --no-pager sallyport.service | tail -n 1
# In tenths: 15 is an exposure of 1.5.
systemd-analyze security --no-pager --threshold=15 sallyport.service >/dev/null || fail "the exposure is over 1.5"

step "targets add, a token, psql: the first session, with the password on standard input"
prepare_target
printf of-the-target | sallyport targets add orders --address 127.0.0.1:5432 --user svc --tls disable --password-stdin --allow-read analysts \
    || fail "targets add"
agent=$(token claude analysts)
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'
fails_with "no rule allows" as_agent "$agent" orders --command "insert into customers values (3, 'Eve', '')"
for path in targets.d/orders.toml policy.d/orders.toml secrets/orders-password; do
    is "who owns $path" root:sallyport "$(stat --format %U:%G "/etc/sallyport/$path")"
done
is "who may read the password" 640 "$(stat --format %a /etc/sallyport/secrets/orders-password)"
sallyport targets remove orders || fail "targets remove"

step "The same with a credential of the unit, and a policy from the examples"
add_target
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'

step "Masked, blocked, recorded"
output=$(as_agent "$agent" orders --command 'select * from customers')
grep --quiet Ada <<<"$output" || fail "no row: $output"
if grep --extended-regexp '4111111111111111|5555555555554444' <<<"$output"; then fail "a card number got out"; fi
fails_with "Destructive statements are blocked here" as_agent "$agent" orders --command 'drop table customers'
is "the table" customers "$(at_target orders --command "select 'customers'::regclass")"
session=$(sallyport sessions --denied --table customers --limit 1 --json | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
shows "drop table customers" sallyport replay --sql "$session"
shows "no-destruction" sallyport replay "$session"

step "sallyport-loadgen: eight agents with tokens of their own, nothing unmasked, refusals where they are due"
status=0
sallyport-loadgen run --quiet --rate 50 --warm-up 1s --duration 2s --connections 8 --statement 'select * from customers' --denied 10% \
    --canary 4111111111111111 --to "127.0.0.1:6432,database=orders,agents=8,group=analysts,tls=verify-full,ca=/opt/t/certificate.pem" \
    >loadgen.log 2>&1 || status=$?
# 4 is what it says of a machine that is too busy to measure on.
case $status in 0 | 4) head -n 12 loadgen.log ;; *) cat loadgen.log; fail "sallyport-loadgen ends with $status" ;; esac

step "A broken policy: the reload fails, the old one stays in force, the unit stays up"
process=$(property MainPID)
printf '[[rule]]\nname = "broken"\nallow = { statements = ["raed"] }\n' >/etc/sallyport/policy.d/broken.toml
if systemctl reload sallyport 2>reload.log; then fail "the reload of a broken policy succeeds"; fi
journalctl --unit sallyport --boot --lines 20 --output cat | grep --quiet "broken.toml" || fail "the journal does not say what is broken"
is "active" active "$(systemctl is-active sallyport)"
is "the process" "$process" "$(property MainPID)"
fails_with "Destructive statements are blocked here" as_agent "$agent" orders --command 'drop table customers'
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'

step "A good one: in force without a restart"
cat >/etc/sallyport/policy.d/broken.toml <<'TOML'
[[rule]]
name    = "not-two"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["explain"] }
message = "No plans today."
TOML
systemctl reload sallyport || fail "the reload"
is "the process" "$process" "$(property MainPID)"
fails_with "No plans today." as_agent "$agent" orders --command 'explain select 1'

step "An upgrade under load: no connection refused, no statement cut"
writer=$(token load load)
python3 load.py "$writer" upgrade.log &
load=$!
until_true 30 grep --quiet "^written 5-5" upgrade.log
install_package new.deb >upgrade-apt.log 2>&1 || { cat upgrade-apt.log; fail "the upgrade"; }
[ "$(property MainPID)" != "$process" ] || { cat upgrade-apt.log; fail "the old process still runs"; }
after=$(wc -l <upgrade.log)
until_more() { [ "$(grep --count ^written upgrade.log)" -gt "$((after + 60))" ]; }
until_true 60 until_more
kill -TERM "$load"
wait "$load" || fail "the load"
cut --delimiter ' ' --fields 1 upgrade.log | sort | uniq --count
if grep --quiet --extended-regexp '^(lost|unconnected)' upgrade.log; then
    grep --extended-regexp '^(lost|unconnected)' upgrade.log | head -n 10
    fail "a connection was refused or a statement cut"
fi
grep --quiet '^ended' upgrade.log || fail "no session was there when the process stopped"
compare_load upgrade.log 0
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'

step "An upgrade whose version refuses the configuration: apt succeeds, the process stays"
process=$(property MainPID)
printf 'nonsense\n' >/etc/sallyport/targets.d/broken.toml
apt-get install --quiet --yes --reinstall ./new.deb >refused.log 2>&1 || { cat refused.log; fail "apt-get"; }
is "the process" "$process" "$(property MainPID)"
grep --quiet "sallyport.service keeps running the version before" refused.log || { cat refused.log; fail "apt does not say so"; }
grep --quiet "broken.toml" refused.log || fail "apt does not say what is broken"
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'
rm /etc/sallyport/targets.d/broken.toml

step "kill -9 under load: systemd starts it again, and nothing that was acknowledged is missing in the recording"
at_target orders --command 'truncate written'
python3 load.py "$writer" crash.log &
load=$!
until_true 30 grep --quiet "^written 5-5" crash.log
kill -KILL "$process"
until_true 30 sallyport status
[ "$(property MainPID)" != "$process" ] || fail "the process is the killed one"
after=$(wc -l <crash.log)
until_more() { [ "$(grep --count ^written crash.log)" -gt "$((after + 60))" ]; }
until_true 60 until_more
kill -TERM "$load"
wait "$load" || fail "the load"
cut --delimiter ' ' --fields 1 crash.log | sort | uniq --count
if grep --quiet '^unconnected.*refused' crash.log; then fail "a connection was refused while the process was away"; fi
# Each client may have had one statement under way.
compare_load crash.log 6
sallyport export --to /opt/t/exported --format jsonl
recorded=$(grep --recursive --no-filename --only-matching --extended-regexp "insert into written values \('[0-9]+-[0-9]+'\)" exported | sed "s/.*'\(.*\)'.*/\1/" | LC_ALL=C sort -u)
is "acknowledged and not recorded" "" "$(comm -23 <(sed -n 's/^written //p' crash.log | LC_ALL=C sort) <(echo "$recorded") | head -n 5)"
shows "" sallyport audit verify
cp crash.log /opt/t/written-before-reboot
