# The .rpm with rpm itself: contents, dependencies and scriptlets, then installed, used, upgraded and erased in a booted
# systemd. Debian has no package that rpm knows of, so that dependencies are read here and not asked for.
. ./lib.sh

step "What is in it, what it needs, what it runs"
shows "" rpm --checksig --nosignature old.rpm
contents=$(rpm --query --list --package old.rpm)
for path in /usr/bin/sallyport /usr/bin/sallyport-loadgen /usr/lib/systemd/system/sallyport.service \
    /usr/lib/systemd/system/sallyport@.service /usr/lib/systemd/system/sallyport.socket /usr/lib/sysusers.d/sallyport.conf \
    /usr/lib/tmpfiles.d/sallyport.conf /etc/sallyport/sallyport.toml /usr/share/man/man1/sallyport.1.gz \
    /usr/share/man/man1/sallyport-loadgen.1.gz /usr/share/man/man5/sallyport.toml.5.gz \
    /usr/share/bash-completion/completions/sallyport /usr/share/zsh/site-functions/_sallyport \
    /usr/share/fish/vendor_completions.d/sallyport.fish /usr/share/licenses/sallyport/LICENSE \
    /usr/share/licenses/sallyport/THIRD-PARTY-NOTICES /usr/share/doc/sallyport/CHANGELOG.md; do
    grep --quiet --line-regexp --fixed-strings "$path" <<<"$contents" || fail "$path is not in the package"
done
is "configuration files" "/etc/sallyport/policy.d/README /etc/sallyport/sallyport.toml /etc/sallyport/targets.d/README" \
    "$(rpm --query --configfiles --package old.rpm | sort | xargs)"
# The C library, the compiler's, and what units and scriptlets use; versions of symbols aside.
is "what it needs" "/bin/sh ld-linux-x86-64.so.2 libc.so.6 libgcc_s.so.1 libm.so.6 systemd util-linux" \
    "$(rpm --query --requires --package old.rpm | grep --invert-match --extended-regexp '^(rpmlib|config|rtld)\(' | sed 's/[( ].*//' | LC_ALL=C sort --unique | xargs)"
for script in prein postin preun postun posttrans; do
    text=$(rpm --query --queryformat "%{${script^^}}" --package old.rpm)
    [ -n "$text" ] || fail "no scriptlet $script"
    sh -n <<<"$text" || fail "the scriptlet $script"
done

step "Installed: the user is made before the files that belong to it, and it starts"
rpm --install --nodeps ./old.rpm >install.log 2>&1 || { cat install.log; fail "rpm --install"; }
is "what the scriptlets say" "" "$(grep --invert-match --extended-regexp '^rpm: |^Creating ' install.log)"
for path in /etc/sallyport /etc/sallyport/policy.d /etc/sallyport/targets.d; do
    is "$path" "root:sallyport 2750" "$(stat --format '%U:%G %a' "$path")"
done
is "the configuration" "root:sallyport 640" "$(stat --format '%U:%G %a' /etc/sallyport/sallyport.toml)"
is "files that are not as packaged" "" "$(rpm --verify --nodeps sallyport)"
is "active before anybody asks" inactive "$(systemctl is-active sallyport || true)"
systemctl enable --now sallyport || fail "it does not start"
is "active" active "$(systemctl is-active sallyport)"

step "Used: masked, blocked"
prepare_target
add_target
agent=$(token claude analysts)
output=$(as_agent "$agent" orders --command 'select * from customers')
grep --quiet Ada <<<"$output" || fail "no row: $output"
if grep --extended-regexp '4111111111111111|5555555555554444' <<<"$output"; then fail "a card number got out"; fi
fails_with "Destructive statements are blocked here" as_agent "$agent" orders --command 'drop table customers'

step "Upgraded: the new version runs, what was configured stays"
echo '# a line of the administrator' >>/etc/sallyport/sallyport.toml
process=$(property MainPID)
install_package new.rpm >upgrade.log 2>&1 || { cat upgrade.log; fail "rpm --upgrade"; }
[ "$(property MainPID)" != "$process" ] || { cat upgrade.log; fail "the old process still runs"; }
is "one version" 1 "$(rpm --query sallyport | wc -l)"
is "the administrator's line" 1 "$(grep --count administrator /etc/sallyport/sallyport.toml)"
shows "Grace" as_agent "$agent" orders --command 'select name from customers where id = 2'

step "A version that refuses the configuration: rpm succeeds, the process stays"
process=$(property MainPID)
printf 'nonsense\n' >/etc/sallyport/targets.d/broken.toml
rpm --upgrade --nodeps --force ./new.rpm >refused.log 2>&1 || { cat refused.log; fail "rpm"; }
is "the process" "$process" "$(property MainPID)"
grep --quiet "sallyport.service keeps running the version before" refused.log || { cat refused.log; fail "rpm does not say so"; }
rm /etc/sallyport/targets.d/broken.toml

step "Erased: nothing runs; recordings, their user and what was written stay"
rpm --erase sallyport >erase.log 2>&1 || { cat erase.log; fail "rpm --erase"; }
[ "$(systemctl is-active sallyport)" != active ] || fail "it still runs"
for path in /usr/bin/sallyport /usr/lib/systemd/system/sallyport.service /etc/sallyport/sallyport.toml /usr/libexec/sallyport; do
    [ ! -e "$path" ] || fail "$path is still there"
done
[ ! -e /etc/systemd/system/multi-user.target.wants/sallyport.service ] || fail "it is still enabled"
for path in /etc/sallyport/sallyport.toml.rpmsave /etc/sallyport/targets.d/orders.toml /var/lib/sallyport/tls-certificate.pem; do
    [ -e "$path" ] || fail "$path is gone"
done
getent passwd sallyport >/dev/null || fail "the user is gone"
