//! Directories: the runtime directory on tmpfs, state and recordings with room, all of them the
//! service's own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Finding;
use super::view::View;
use crate::config::Examined;

/// Spec: statfs(2), `TMPFS_MAGIC` and `RAMFS_MAGIC`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Recording stops, and with it the traffic, when the disk is full: what a busy hour takes is free
/// at least.
const FREE_BYTES_LEAST: u64 = 256 * 1024 * 1024;
const FREE_BYTES_WANTED: u64 = 2 * 1024 * 1024 * 1024;

pub(super) fn all(view: &View, examined: &Examined) -> Vec<Finding> {
    let Some(startup) = &examined.startup else {
        return Vec::new();
    };
    let mut findings = vec![
        runtime_directory(view, &startup.runtime_directory),
        kept(view, "state directory", startup.state.path()),
    ];
    let recordings = &startup.recording.archive_directory;
    if recordings.exists() && !recordings.starts_with(startup.state.path()) {
        findings.push(kept(view, "recordings", recordings));
    }
    findings.push(room("disk", recordings));
    findings
}

fn runtime_directory(view: &View, path: &Path) -> Finding {
    const CHECK: &str = "runtime directory";
    let place = path.display();
    if !path.exists() {
        return missing(view, CHECK, path);
    }
    if let Some(barred) = view.service.barred_from_writing_in(path) {
        return not_ours(view, CHECK, path, barred);
    }
    let kind =
        rustix::fs::statfs(path).map(|found| u64::try_from(found.f_type).unwrap_or_default());
    if kind.is_ok_and(|kind| IN_MEMORY.contains(&kind)) {
        return Finding::ok(CHECK, format!("{place} is in memory"));
    }
    Finding::warning(
        CHECK,
        format!(
            "{place} is not on tmpfs: each command waits for the disk, and a crash of the machine \
                 leaves old rings behind"
        ),
        "`runtime.directory = \"/run/sallyport\"`",
    )
}

/// A directory that holds what agents saw.
fn kept(view: &View, check: &'static str, path: &Path) -> Finding {
    let place = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        return missing(view, check, path);
    };
    if let Some(barred) = view.service.barred_from_writing_in(path) {
        return not_ours(view, check, path, barred);
    }
    if metadata.mode() & 0o077 != 0 {
        return Finding::warning(
            check,
            format!(
                "{place} is open to others than {} (mode {:04o})",
                view.service.user,
                metadata.mode() & 0o777
            ),
            format!("chmod 0700 {place}"),
        );
    }
    Finding::ok(check, format!("{place} is {}'s own", view.service.user))
}

/// What is not there is made at the first start, by the unit or below a directory of the service's.
fn missing(view: &View, check: &'static str, path: &Path) -> Finding {
    let place = path.display();
    let above = path.ancestors().skip(1).find(|above| above.exists());
    let barred = above.and_then(|above| view.service.barred_from_writing_in(above));
    match barred {
        Some(barred) if super::service::unit_file(view).is_none() => Finding::problem(
            check,
            format!("{place} is not there, and it cannot be made: {barred}"),
            format!("install -d -m 0700 -o {} {place}", view.service.user),
        ),
        _ => Finding::note(check, format!("{place} is made at the first start")),
    }
}

fn not_ours(view: &View, check: &'static str, path: &Path, barred: String) -> Finding {
    Finding::problem(
        check,
        barred,
        format!("chown -R {} {}", view.service.user, path.display()),
    )
}

fn room(check: &'static str, path: &Path) -> Finding {
    let above = path.ancestors().find(|above| above.exists());
    let found = above.and_then(|above| rustix::fs::statvfs(above).ok());
    let Some(found) = found else {
        return Finding::note(check, "what is free is not known");
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    of_room(check, path, free)
}

fn of_room(check: &'static str, path: &Path, free: u64) -> Finding {
    let mebibytes = free / (1024 * 1024);
    let said = format!("{mebibytes} MiB are free for {}", path.display());
    let fix = format!(
        "`archive.keep` or `archive.keep_bytes` let old recordings go; df -h {}",
        path.display()
    );
    if free < FREE_BYTES_LEAST {
        return Finding::problem(check, format!("{said}: traffic stops when none are"), fix);
    }
    if free < FREE_BYTES_WANTED {
        return Finding::warning(check, said, fix);
    }
    Finding::ok(check, said)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::super::State;
    use super::super::view::made::Machine;
    use super::*;

    fn machine() -> Machine {
        let machine = Machine::new(&[]);
        fs::create_dir(machine.view.path("/state")).unwrap();
        machine
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_of_recordings_is_for_the_service_alone() {
        let machine = machine();
        let path = machine.view.path("/state");
        let found = || kept(&machine.view, "state directory", &path);
        set(&path, 0o700);
        assert_eq!(found().state, State::Ok);
        set(&path, 0o750);
        assert_eq!(found().state, State::Warning);
        assert_eq!(found().fix, Some(format!("chmod 0700 {}", path.display())));
    }

    #[test]
    fn a_directory_of_somebody_else_is_in_the_way() {
        let mut machine = machine();
        let path = machine.view.path("/state");
        set(&path, 0o700);
        set(machine.directory.path(), 0o755);
        machine.view.service.user = "sallyport".to_owned();
        machine.view.service.uid = 4711;
        machine.view.service.groups = vec![4711];
        let found = kept(&machine.view, "state directory", &path);
        assert_eq!(found.state, State::Problem);
        assert_eq!(
            found.fix,
            Some(format!("chown -R sallyport {}", path.display()))
        );
        // Only root gives files away.
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(4711), None).unwrap();
            assert_eq!(
                kept(&machine.view, "state directory", &path).state,
                State::Ok
            );
        }
    }

    #[test]
    fn what_is_missing_is_made_where_it_can_be() {
        let mut machine = machine();
        let path = machine.view.path("/none/of/these");
        assert_eq!(kept(&machine.view, "x", &path).state, State::Note);
        set(machine.directory.path(), 0o755);
        machine.view.service.uid = 4711;
        machine.view.service.groups = vec![4711];
        assert_eq!(kept(&machine.view, "x", &path).state, State::Problem);
        let unit = machine.view.path("/etc/systemd/system/sallyport.service");
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        fs::write(unit, "[Service]\n").unwrap();
        assert_eq!(
            kept(&machine.view, "x", &path).state,
            State::Note,
            "the unit makes it"
        );
    }

    #[test]
    fn room_is_counted_at_its_bounds() {
        let of = |free| of_room("disk", Path::new("/x"), free).state;
        assert_eq!(of(FREE_BYTES_LEAST - 1), State::Problem);
        assert_eq!(of(FREE_BYTES_LEAST), State::Warning);
        assert_eq!(of(FREE_BYTES_WANTED), State::Ok);
    }

    #[test]
    fn rings_belong_in_memory() {
        let machine = machine();
        let found = runtime_directory(&machine.view, Path::new("/dev/shm"));
        assert_eq!(found.state, State::Ok, "{}", found.said);
        let found = runtime_directory(&machine.view, Path::new("/proc/self"));
        assert_ne!(found.state, State::Ok);
    }
}
