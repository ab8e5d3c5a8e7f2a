//! Ports, clocks and whoever is on the other side: issuers and targets.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use runtime::ListenAddress;

use super::Finding;
use super::service::unit_file;
use super::view::View;
use crate::config::{ConsoleListener, Examined, Startup};
use crate::control::{IssuerLook, Status, look_at_issuer};
use crate::identity::IssuerKeys;
use crate::telemetry::chain;
use crate::upstream::{self, Address, Host, TargetSettings};

/// How long one address of a target may take to accept.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What tokens may be off by before they are refused as too new or too old.
const SKEW_SECONDS: i64 = 30;

/// Ports that any user may listen on begin here, unless the kernel says otherwise.
const UNPRIVILEGED_PORT_FIRST: u64 = 1024;

const LISTENING: &str = "0A";

/// It holds the listeners of units beside them, and between two runs.
const SYSTEMD: u32 = 1;

/// One place where the appliance is to listen.
struct Wanted {
    key: &'static str,
    address: SocketAddr,
    /// It can do without.
    is_optional: bool,
}

pub(super) fn ports(view: &View, examined: &Examined, running: Option<&Status>) -> Vec<Finding> {
    let Some(startup) = &examined.startup else {
        return Vec::new();
    };
    let taken = listening(view);
    let mine = running.map(|status| status.pid);
    let wanted = wanted(startup);
    let findings = wanted.iter().map(|wanted| port(view, wanted, &taken, mine));
    findings.collect()
}

fn wanted(startup: &Startup) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut want = |key, address: SocketAddr, is_optional| {
        // Port 0 is whatever is free.
        if address.port() != 0 {
            wanted.push(Wanted {
                key,
                address,
                is_optional,
            });
        }
    };
    for listener in &startup.listeners {
        if let ListenAddress::Tcp(address) = &listener.address {
            want("listen.postgres", *address, false);
        }
    }
    match startup.console {
        ConsoleListener::At(address) => want("listen.console", address, false),
        ConsoleListener::ByDefault(address) => want("listen.console", address, true),
        ConsoleListener::Off => {}
    }
    if let Some(address) = startup.metrics {
        want("listen.metrics", address, false);
    }
    wanted
}

fn port(view: &View, wanted: &Wanted, taken: &[(SocketAddr, u64)], mine: Option<u32>) -> Finding {
    const CHECK: &str = "port";
    let Wanted { key, address, .. } = wanted;
    let mut holders = taken.iter().filter(|(other, _)| meet(*address, *other));
    let Some((_, inode)) = holders.next() else {
        return privileged(view, wanted);
    };
    let owners = owners(view, *inode);
    if mine.is_some_and(|mine| owners.iter().any(|(pid, _)| *pid == mine)) {
        return Finding::ok(CHECK, format!("{address} ({key}) is the appliance's"));
    }
    if owners.is_empty() && mine.is_some() {
        // Not ours to see, and the appliance says that it listens.
        return Finding::ok(CHECK, format!("{address} ({key}) is listened on"));
    }
    if owners.iter().any(|(pid, _)| *pid == SYSTEMD) && unit_file(view).is_some() {
        let said = format!("{address} ({key}) is kept open by systemd, for whoever starts next");
        return Finding::note(CHECK, said);
    }
    let owner = owners.into_iter().next();
    let (by, fix) = match owner {
        Some((pid, name)) => (
            format!("{name} (process {pid})"),
            format!(
                "stop it (systemctl status {pid} says what it belongs to), or `{key}` elsewhere"
            ),
        ),
        None => (
            "another process".to_owned(),
            format!(
                "ss -ltnp 'sport = :{}' as root says by whom; or `{key}` elsewhere",
                address.port()
            ),
        ),
    };
    let said = format!("{address} ({key}) is taken by {by}");
    if wanted.is_optional {
        return Finding::warning(CHECK, format!("{said}; there will be no console"), fix);
    }
    Finding::problem(CHECK, said, fix)
}

/// A port that takes a capability which the unit does not have.
fn privileged(view: &View, wanted: &Wanted) -> Finding {
    const CHECK: &str = "port";
    let Wanted { key, address, .. } = wanted;
    let first = view.number("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.unwrap_or(UNPRIVILEGED_PORT_FIRST);
    let has_capability = super::service::unit_setting(view, "AmbientCapabilities")
        .is_some_and(|set| set.contains("CAP_NET_BIND_SERVICE"));
    if u64::from(address.port()) < first && view.service.uid != 0 && !has_capability {
        return Finding::problem(
            CHECK,
            format!(
                "{address} ({key}): ports under {first} are not for {}",
                view.service.user
            ),
            "cp /usr/share/doc/sallyport/examples/low-port.conf /etc/systemd/system/sallyport.service.d/; \
             systemctl daemon-reload; systemctl restart sallyport",
        );
    }
    Finding::ok(CHECK, format!("{address} ({key}) is free"))
}

/// Whether one of them listening keeps the other from it.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Who listens on TCP: addresses, and the inodes of the sockets.
fn listening(view: &View) -> Vec<(SocketAddr, u64)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables: Vec<String> = tables.iter().filter_map(|path| view.read(path)).collect();
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_listening = fields.get(3) == Some(&LISTENING);
            let inode = fields.get(9)?.parse().ok()?;
            is_listening.then(|| Some((socket_address(fields.get(1)?)?, inode)))?
        })
        .collect()
}

/// Spec: proc_pid_net(5): words of 32 bits in the order of this machine, the port in hexadecimal.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The processes that have the socket open, as far as `/proc` shows them to us. systemd keeps those
/// of units.
fn owners(view: &View, inode: u64) -> Vec<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir(view.path("/proc")).into_iter().flatten();
    let owner = |process: fs::DirEntry| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.find(|link| link.as_os_str() == wanted.as_str())?;
        let name = view.read(&format!("/proc/{pid}/comm")).unwrap_or_default();
        Some((pid, name.trim().to_owned()))
    };
    processes.flatten().filter_map(owner).collect()
}

/// Whether the machine's clock is kept.
pub(super) fn clock() -> Vec<Finding> {
    let said = Command::new("timeout")
        .args([
            "5",
            "timedatectl",
            "show",
            "--property=NTPSynchronized",
            "--value",
        ])
        .output();
    let said = said.ok().filter(|output| output.status.success());
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
    vec![synchronised(said.as_deref())]
}

fn synchronised(said: Option<&str>) -> Finding {
    const CHECK: &str = "clock";
    match said.map(str::trim) {
        Some("yes") => Finding::ok(CHECK, "synchronised"),
        Some("no") => Finding::warning(
            CHECK,
            "not synchronised: tokens and certificates are judged by it",
            "timedatectl set-ntp true",
        ),
        _ => Finding::note(CHECK, "whether it is synchronised, systemd does not say"),
    }
}

/// Whether issuers can be reached, and agree about the time.
pub(super) fn issuers(examined: &Examined) -> Vec<Finding> {
    const CHECK: &str = "issuer";
    let Some(loaded) = &examined.loaded else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for issuer in loaded.snapshot.authenticators.issuers() {
        let IssuerKeys::Remote(_, source) = &issuer.keys else {
            continue;
        };
        let name = &issuer.name;
        let look = match look_at_issuer(source) {
            Ok(look) => look,
            Err(error) => {
                findings.push(Finding::note(
                    CHECK,
                    format!("{name} was not asked: {error}"),
                ));
                continue;
            }
        };
        findings.extend(looked(name, &look, runtime::unix_time()));
    }
    findings
}

fn looked(name: &str, look: &IssuerLook, now: Duration) -> Vec<Finding> {
    const CHECK: &str = "issuer";
    if let Err(error) = &look.keys {
        let fix = "the machine needs a way to it: name server, firewall, `issuer.ca` for its authority; \
                   its tokens are accepted for `issuer.stale_max` from the last time";
        let said = format!("{name}: its keys cannot be had: {}", chain(error));
        return vec![Finding::problem(CHECK, said, fix)];
    }
    let mut findings = vec![Finding::ok(CHECK, format!("{name}: its keys can be had"))];
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let skew = look
        .date
        .as_deref()
        .and_then(http_date)
        .map(|theirs| now - theirs);
    findings.extend(skew.filter(|skew| skew.abs() > SKEW_SECONDS).map(|skew| {
        let (seconds, side) = (skew.abs(), if skew > 0 { "ahead of" } else { "behind" });
        Finding::problem(
            "clock",
            format!(
                "this machine is {seconds} s {side} the issuer {name}: its tokens seem too old or \
                     too new"
            ),
            "timedatectl set-ntp true",
        )
    }));
    findings
}

/// Seconds since 1970. Spec: RFC 9110, "Date/Time Formats", IMF-fixdate.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = fields.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    // As RFC 3339, which there is a parser for.
    let stamp = format!("{year}-{month:02}-{day:0>2}T{time}Z");
    let parsed = humantime::parse_rfc3339(&stamp).ok()?;
    let since = parsed.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Whether something answers at the targets' addresses. Logging in is `targets check`'s.
pub(super) fn targets(examined: &Examined) -> Vec<Finding> {
    let Some(loaded) = &examined.loaded else {
        return Vec::new();
    };
    loaded
        .snapshot
        .targets
        .iter()
        .map(|target| answering(target))
        .collect()
}

fn answering(target: &TargetSettings) -> Finding {
    const CHECK: &str = "target";
    let name = &target.name;
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    for address in &target.addresses {
        if let Err(error) = upstream::answers(address, ANSWER_WITHIN) {
            failed.insert(place(address), error.to_string());
        }
    }
    let failures: Vec<String> = failed
        .iter()
        .map(|(at, why)| format!("{at}: {why}"))
        .collect();
    let said = format!("{name}: {}", failures.join("; "));
    let fix = format!("sallyport targets check {name}");
    if failures.is_empty() {
        return Finding::ok(CHECK, format!("{name} accepts connections"));
    }
    if failures.len() < target.addresses.len() {
        return Finding::warning(CHECK, said, fix);
    }
    Finding::problem(CHECK, said, fix)
}

fn place(address: &Address) -> String {
    match address {
        Address::Tcp {
            host: Host::Ip(ip),
            port,
        } => SocketAddr::new(*ip, *port).to_string(),
        Address::Tcp {
            host: Host::Name(name),
            port,
        } => format!("{name}:{port}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::State;
    use super::super::view::made::Machine;
    use super::*;
    use crate::control::FetchError;

    /// As x86-64 shows it: 127.0.0.1:6432, 0.0.0.0:7070, a connection at 6433, and [::]:80.
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1920 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 00000000:1B9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
   2: 0100007F:1921 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1 0
";

    fn machine() -> Machine {
        let machine = Machine::new(&[
            ("/proc/net/tcp", TCP),
            ("/proc/net/tcp6", TCP6),
            ("/proc/815/comm", "pgbouncer\n"),
            ("/proc/815/fd/0", ""),
        ]);
        symlink("socket:[4711]", machine.view.path("/proc/815/fd/7")).unwrap();
        machine
    }

    fn at(machine: &Machine, address: &str, is_optional: bool, mine: Option<u32>) -> Finding {
        let wanted = Wanted {
            key: "listen.postgres",
            address: address.parse().unwrap(),
            is_optional,
        };
        port(&machine.view, &wanted, &listening(&machine.view), mine)
    }

    #[test]
    fn a_taken_port_is_named_with_whoever_has_it() {
        let machine = machine();
        let taken = at(&machine, "127.0.0.1:6432", false, None);
        assert_eq!(taken.state, State::Problem);
        let said = "127.0.0.1:6432 (listen.postgres) is taken by pgbouncer (process 815)";
        assert_eq!(taken.said, said);
        assert_eq!(
            at(&machine, "127.0.0.1:6432", false, Some(815)).state,
            State::Ok
        );
        assert_eq!(at(&machine, "127.0.0.1:6433", false, None).state, State::Ok);
        assert_eq!(at(&machine, "[::]:6432", false, None).state, State::Problem);
        assert_eq!(at(&machine, "10.0.0.1:6432", false, None).state, State::Ok);
        let unseen = at(&machine, "127.0.0.1:7070", true, None);
        assert_eq!(unseen.state, State::Warning, "the console's default");
        assert!(unseen.said.contains("another process"), "{}", unseen.said);
        assert_eq!(
            at(&machine, "10.0.0.1:80", false, None).state,
            State::Problem
        );
    }

    #[test]
    fn what_systemd_keeps_for_the_unit_is_nobody_elses() {
        let machine = Machine::new(&[
            ("/proc/net/tcp", TCP),
            ("/proc/1/comm", "systemd\n"),
            ("/proc/1/fd/0", ""),
            ("/proc/815/comm", "sallyport\n"),
            ("/proc/815/fd/0", ""),
        ]);
        let link = |process: u32| {
            let path = machine.view.path(&format!("/proc/{process}/fd/7"));
            symlink("socket:[4711]", path).unwrap();
        };
        link(1);
        let kept = || at(&machine, "127.0.0.1:6432", false, None).state;
        assert_eq!(kept(), State::Problem, "no unit of ours");
        let unit = machine
            .view
            .path("/usr/lib/systemd/system/sallyport.service");
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        fs::write(unit, "").unwrap();
        assert_eq!(kept(), State::Note);
        link(815);
        let running = at(&machine, "127.0.0.1:6432", false, Some(815));
        assert_eq!(running.state, State::Ok, "{}", running.said);
    }

    #[test]
    fn a_low_port_takes_a_capability() {
        let mut machine = machine();
        assert_eq!(
            at(&machine, "10.0.0.1:443", false, None).state,
            State::Ok,
            "as root"
        );
        machine.view.service.uid = 990;
        assert_eq!(
            at(&machine, "10.0.0.1:443", false, None).state,
            State::Problem
        );
        assert_eq!(at(&machine, "10.0.0.1:1024", false, None).state, State::Ok);
        for (path, text) in [
            ("/etc/systemd/system/sallyport.service", ""),
            (
                "/etc/systemd/system/sallyport.service.d/low.conf",
                "AmbientCapabilities=CAP_NET_BIND_SERVICE\n",
            ),
        ] {
            let path = machine.view.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(at(&machine, "10.0.0.1:443", false, None).state, State::Ok);
    }

    #[test]
    fn clocks_may_differ_by_what_tokens_forgive() {
        let date = "Thu, 26 Nov 2026 17:00:00 GMT";
        assert_eq!(http_date(date), Some(1_795_712_400));
        assert_eq!(http_date("2026-11-26T17:00:00Z"), None);
        let look = |now: u64| {
            let look = IssuerLook {
                keys: Ok(()),
                date: Some(date.to_owned()),
            };
            looked("corp", &look, Duration::from_secs(now)).len()
        };
        assert_eq!(look(1_795_712_430), 1);
        assert_eq!(look(1_795_712_431), 2);
        assert_eq!(look(1_795_712_369), 2);
        let unreachable = IssuerLook {
            keys: Err(FetchError::TimedOut),
            date: None,
        };
        let found = looked("corp", &unreachable, Duration::ZERO);
        assert_eq!(found[0].state, State::Problem);
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_worth_a_word() {
        assert_eq!(synchronised(Some("yes\n")).state, State::Ok);
        assert_eq!(synchronised(Some("no\n")).state, State::Warning);
        assert_eq!(synchronised(None).state, State::Note);
    }
}
