//! What the kernel gives: its version, rings, locked memory, open files.

use runtime::{KERNEL_OLDEST, MEMLOCK_BYTES_MIN, RingsRefused, kernel_version};

use super::Finding;
use super::view::View;
use crate::config::Examined;

/// Where the packages' example of the setting goes.
const SYSCTL_FILE: &str = "/etc/sysctl.d/60-sallyport-io-uring.conf";

/// Descriptors that are open besides those of sessions: listeners, rings, files of recordings.
const FILES_BESIDES: u64 = 1024;

/// An agent's socket and its target's.
const FILES_PER_SESSION: u64 = 2;

/// Sessions that a machine should be good for, whatever the configuration allows.
const SESSIONS_LEAST: u64 = 256;

pub(super) fn all(view: &View, examined: &Examined) -> Vec<Finding> {
    let sessions = examined
        .loaded
        .as_ref()
        .map(|loaded| loaded.snapshot.limits.sessions);
    vec![
        version(view),
        rings(view),
        memory(view),
        files(view, sessions.unwrap_or_default()),
    ]
}

fn version(view: &View) -> Finding {
    const CHECK: &str = "kernel";
    let release = view.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (major, minor) = KERNEL_OLDEST;
    match kernel_version(release) {
        Some(found) if found < KERNEL_OLDEST => Finding::problem(
            CHECK,
            format!("Linux {release} is older than {major}.{minor}"),
            "install a newer kernel of the distribution (Debian 12, Ubuntu 24.04, EL 10 have one), \
             then `reboot`",
        ),
        Some(_) => {
            let said = format!("Linux {release} on {}", view.architecture);
            if matches!(view.architecture, "x86_64" | "aarch64") {
                Finding::ok(CHECK, said)
            } else {
                Finding::warning(
                    CHECK,
                    format!("{said}, which nobody has tried"),
                    "use x86-64 or AArch64",
                )
            }
        }
        None => Finding::warning(
            CHECK,
            format!("the version is not known; Linux {major}.{minor} or newer is needed"),
            "uname -r",
        ),
    }
}

/// Rings: the sysctl for the service's user, and what the kernel says to this process.
fn rings(view: &View) -> Finding {
    const CHECK: &str = "rings";
    let disabled = view
        .number("/proc/sys/kernel/io_uring_disabled")
        .unwrap_or(0);
    let group = view
        .read("/proc/sys/kernel/io_uring_group")
        .and_then(|group| group.trim().parse::<i64>().ok());
    let own = view.service.groups.first().copied().unwrap_or_default();
    let lines = format!(
        "printf 'kernel.io_uring_disabled = 1\\nkernel.io_uring_group = {own}\\n' > {SYSCTL_FILE}\n\
         sysctl --system"
    );
    let is_root = view.service.uid == 0;
    match disabled {
        0 => {}
        1 => {
            let is_in = |group: i64| {
                view.service
                    .groups
                    .iter()
                    .any(|own| i64::from(*own) == group)
            };
            if !is_root && !group.is_some_and(is_in) {
                let group = group.filter(|group| *group >= 0);
                let group = group.map_or_else(|| "none".to_owned(), |group| group.to_string());
                return Finding::problem(
                    CHECK,
                    format!(
                        "kernel.io_uring_disabled = 1 lets one group use them, \
                         kernel.io_uring_group = {group}, and {} is not in it",
                        view.service.user
                    ),
                    lines,
                );
            }
        }
        value => {
            return Finding::problem(
                CHECK,
                format!(
                    "kernel.io_uring_disabled = {value} refuses them to everybody; 1 lets root and \
                     one group use them, and nobody else gains anything"
                ),
                lines,
            );
        }
    }
    match view.ring {
        Ok(()) => Finding::ok(CHECK, "the kernel gives them"),
        // Right for the service's user, not for whoever looks.
        Err(RingsRefused::NotPermitted) if disabled == 1 => Finding::note(
            CHECK,
            format!(
                "the kernel gives them to {}; this user may not try",
                view.service.user
            ),
        ),
        Err(RingsRefused::NotPermitted) => Finding::problem(
            CHECK,
            "io_uring_setup is refused with EPERM, and not by kernel.io_uring_disabled: a filter of \
             system calls (a container's default profile does so) or a security module",
            "docker run --security-opt seccomp=FILE, with a copy of the default profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register\n\
             under systemd: SystemCallFilter=io_uring_setup io_uring_enter io_uring_register",
        ),
        Err(RingsRefused::NotImplemented) => Finding::problem(
            CHECK,
            "io_uring_setup is refused with ENOSYS: the kernel was built without, or a sandbox such \
             as gVisor is in its place",
            "use the distribution's kernel, and a runtime that shares it (runc, crun)",
        ),
        Err(RingsRefused::Failed { errno }) => Finding::problem(
            CHECK,
            format!("io_uring_setup failed with error {errno}"),
            "LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`",
        ),
    }
}

fn memory(view: &View) -> Finding {
    const CHECK: &str = "locked memory";
    let shards = u64::try_from(view.shards).unwrap_or(u64::MAX);
    let needed = MEMLOCK_BYTES_MIN.saturating_mul(shards);
    let Some((whose, limit)) = limit(view, "Max locked memory") else {
        return Finding::note(CHECK, "the limit is not known");
    };
    match limit {
        Some(bytes) if bytes < needed => Finding::problem(
            CHECK,
            format!("{whose} {bytes} bytes; {shards} shards need {needed}"),
            "LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`",
        ),
        _ => Finding::ok(CHECK, format!("{whose} enough for {shards} shards")),
    }
}

fn files(view: &View, sessions: usize) -> Finding {
    const CHECK: &str = "open files";
    let shards = u64::try_from(view.shards).unwrap_or(u64::MAX);
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    let of = |sessions: u64| {
        let all = sessions.saturating_mul(FILES_PER_SESSION);
        all.saturating_add(FILES_BESIDES)
    };
    let wanted = of(sessions.saturating_mul(shards));
    let Some((whose, limit)) = limit(view, "Max open files") else {
        return Finding::note(CHECK, "the limit is not known");
    };
    let fix = "LimitNOFILE=524288 in the unit, or `ulimit -n 524288`; or a lower `limits.sessions`";
    match limit {
        Some(files) if files < of(SESSIONS_LEAST) => Finding::problem(
            CHECK,
            format!("{whose} {files}: not enough for {SESSIONS_LEAST} sessions"),
            fix,
        ),
        Some(files) if files < wanted => Finding::warning(
            CHECK,
            format!("{whose} {files}: not enough for `limits.sessions`, which come to {wanted}"),
            fix,
        ),
        _ => Finding::ok(CHECK, format!("{whose} enough for `limits.sessions`")),
    }
}

/// A limit as `/proc/PID/limits` has it: of the running appliance, of the unit, or of this process.
/// Inside, `None` is no limit.
fn limit(view: &View, name: &str) -> Option<(&'static str, Option<u64>)> {
    let unit = match name {
        "Max locked memory" => "LimitMEMLOCK",
        _ => "LimitNOFILE",
    };
    if view.running.is_none()
        && let Some(value) = super::service::unit_setting(view, unit)
    {
        return Some(("the unit has", value.parse().ok()));
    }
    let (whose, process) = match view.running {
        Some(process) => ("the running appliance has", process.to_string()),
        None => ("this process has", "self".to_owned()),
    };
    let limits = view.read(&format!("/proc/{process}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    // The soft one.
    let soft = line.split_whitespace().next()?;
    Some((whose, soft.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::view::made::Machine;
    use super::*;

    const USERS: [(&str, &str); 2] = [
        ("/etc/passwd", "sallyport:x:990:991::/:/usr/sbin/nologin\n"),
        ("/etc/group", "sallyport:x:991:\n"),
    ];

    fn machine(files: &[(&str, &str)]) -> Machine {
        Machine::new(&[&USERS[..], files].concat())
    }

    #[test]
    fn a_kernel_from_before_6_1_is_too_old() {
        let version = |release: &str| {
            version(&machine(&[("/proc/sys/kernel/osrelease", release)]).view).state
        };
        assert_eq!(version("6.1.0-18-amd64\n"), State::Ok);
        assert_eq!(version("6.0.19\n"), State::Problem);
        assert_eq!(version("5.14.0-427.el9.x86_64\n"), State::Problem);
        assert_eq!(version("\n"), State::Warning);
        let mut other = machine(&[("/proc/sys/kernel/osrelease", "6.1.0\n")]);
        other.view.architecture = "riscv64";
        assert_eq!(super::version(&other.view).state, State::Warning);
    }

    fn with_rings(disabled: &str, group: &str, ring: Result<(), RingsRefused>) -> Finding {
        let mut machine = machine(&[
            ("/proc/sys/kernel/io_uring_disabled", disabled),
            ("/proc/sys/kernel/io_uring_group", group),
        ]);
        machine.view.ring = ring;
        rings(&machine.view)
    }

    #[test]
    fn rings_are_opened_to_the_service_and_to_nobody_else() {
        assert_eq!(with_rings("0\n", "-1\n", Ok(())).state, State::Ok);
        let lines = "printf 'kernel.io_uring_disabled = 1\\nkernel.io_uring_group = 991\\n' > \
                     /etc/sysctl.d/60-sallyport-io-uring.conf\nsysctl --system";
        for (disabled, group) in [("2", "-1"), ("1", "-1"), ("1", "77")] {
            // Root may try, which says nothing about the service.
            let found = with_rings(disabled, group, Ok(()));
            assert_eq!(found.state, State::Problem, "{disabled} {group}");
            assert_eq!(found.fix.as_deref(), Some(lines));
        }
        assert_eq!(with_rings("1", "991", Ok(())).state, State::Ok);
        let another_user = with_rings("1", "991", Err(RingsRefused::NotPermitted));
        assert_eq!(another_user.state, State::Note);
    }

    #[test]
    fn a_filter_is_told_from_a_kernel_without() {
        let said = |refused| with_rings("0", "-1", Err(refused)).said;
        assert!(said(RingsRefused::NotPermitted).contains("EPERM"));
        assert!(said(RingsRefused::NotImplemented).contains("ENOSYS"));
        assert!(said(RingsRefused::Failed { errno: 12 }).contains("error 12"));
    }

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 524288               files
Max locked memory         1048575              8388608              bytes
";

    #[test]
    fn limits_are_those_of_the_running_appliance_of_the_unit_or_of_the_shell() {
        let mut machine = machine(&[
            ("/proc/self/limits", LIMITS),
            ("/proc/77/limits", &LIMITS.replace("1048575 ", "1048576 ")),
        ]);
        // Two shards need 1 MiB.
        let short = memory(&machine.view);
        assert_eq!(short.state, State::Problem);
        assert!(
            short.said.contains("this process has 1048575"),
            "{}",
            short.said
        );
        machine.view.running = Some(77);
        assert_eq!(memory(&machine.view).state, State::Ok);
        machine.view.running = None;
        let unit = machine
            .view
            .path("/usr/lib/systemd/system/sallyport.service");
        std::fs::create_dir_all(unit.parent().unwrap()).unwrap();
        std::fs::write(unit, "[Service]\nLimitMEMLOCK=infinity\n").unwrap();
        assert_eq!(memory(&machine.view).state, State::Ok);
    }

    #[test]
    fn files_suffice_for_some_sessions_or_for_all_that_are_allowed() {
        let with = |limit: &str, sessions| {
            let limits = LIMITS.replace("1024 ", &format!("{limit} "));
            files(&machine(&[("/proc/self/limits", &limits)]).view, sessions).state
        };
        assert_eq!(with("1535", 8192), State::Problem);
        assert_eq!(with("1536", 8192), State::Warning);
        assert_eq!(with("33792", 8192), State::Ok, "1024 + 2 * 2 * 8192");
        assert_eq!(with("unlimited", 8192), State::Ok);
    }
}
