# After a reboot of what deb-use.sh left: it comes back, and is removed and purged in both ways.
. ./lib.sh

step "It came back with the machine"
until_true 30 sallyport status
is "active" active "$(systemctl is-active sallyport)"
shows "" sallyport audit verify
agent=$(token claude analysts)
until_true 30 as_agent "$agent" orders --command 'select 1'
fails_with "Destructive statements are blocked here" as_agent "$agent" orders --command 'drop table customers'
before=$(sallyport sessions --limit 100000 | wc -l)

step "apt-get remove: nothing runs, configuration and state stay"
apt-get remove --quiet --yes sallyport >remove.log 2>&1 || { cat remove.log; fail "apt-get remove"; }
[ "$(systemctl is-active sallyport)" != active ] || fail "it still runs"
[ ! -e /usr/bin/sallyport ] || fail "the program is still there"
for path in /etc/sallyport/sallyport.toml /etc/sallyport/policy.d/read-only.toml /var/lib/sallyport/tls-certificate.pem; do
    [ -e "$path" ] || fail "$path is gone"
done

step "Installed again: it goes on where it was"
install_package new.deb >again.log 2>&1 || { cat again.log; fail "apt-get install"; }
is "active" active "$(systemctl is-active sallyport)"
agent=$(token claude analysts)
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'
after=$(sallyport sessions --limit 100000 | wc -l)
[ "$after" -gt "$before" ] || fail "sessions are missing: $before before, $after now"

step "apt-get purge: the configuration goes, recordings and their user stay"
apt-get purge --quiet --yes sallyport >purge.log 2>&1 || { cat purge.log; fail "apt-get purge"; }
grep --quiet "Kept: /var/lib/sallyport" purge.log || { cat purge.log; fail "it does not say what is kept"; }
[ ! -e /etc/sallyport ] || fail "/etc/sallyport is still there"
[ -e /var/lib/sallyport/tls-certificate.pem ] || fail "the state is gone"
getent passwd sallyport >/dev/null || fail "the user is gone"
if systemctl is-enabled sallyport >/dev/null 2>&1; then fail "it is still enabled"; fi

step "Installed and purged with SALLYPORT_PURGE=state: everything goes"
install_package new.deb >third.log 2>&1 || { cat third.log; fail "apt-get install"; }
until_true 30 sallyport status
SALLYPORT_PURGE=state apt-get purge --quiet --yes sallyport >purge.log 2>&1 || { cat purge.log; fail "apt-get purge"; }
for path in /etc/sallyport /var/lib/sallyport /run/sallyport /usr/share/doc/sallyport /usr/libexec/sallyport; do
    [ ! -e "$path" ] || fail "$path is still there: $(ls -A "$path")"
done
if getent passwd sallyport >/dev/null; then fail "the user is still there"; fi
if getent group sallyport >/dev/null; then fail "the group is still there"; fi
is "units that failed" "" "$(systemctl --failed --no-legend)"
