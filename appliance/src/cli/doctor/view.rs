//! What the checks look at: the machine, as paths below a root and facts about this process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use runtime::RingsRefused;

use crate::config::{self, Environment};
use crate::control::Status;

/// The user and group that packages make.
const SERVICE: &str = "sallyport";

/// Longest file of `/proc` or `/etc` that is read, in bytes.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A machine.
pub(super) struct View {
    /// Its `/`.
    pub(super) root: PathBuf,
    /// Who runs the appliance, or would.
    pub(super) service: Service,
    /// The process of the running appliance.
    pub(super) running: Option<u32>,
    /// What the kernel says to a ring of this process.
    pub(super) ring: Result<(), RingsRefused>,
    /// As the compiler names it.
    pub(super) architecture: &'static str,
    pub(super) shards: usize,
}

/// The appliance's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Or its number, where it has no name.
    pub(super) user: String,
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
}

impl View {
    pub(super) fn of_this_machine(environment: &Environment, status: Option<&Status>) -> Self {
        let root = PathBuf::from("/");
        let socket = config::admin_socket(environment).ok();
        let owner = status
            .and_then(|_| fs::metadata(socket?).ok())
            .map(|socket| socket.uid());
        let cpus = runtime::allowed_cpus().map_or(1, |cpus| cpus.len());
        Self {
            service: Service::of(&root, owner),
            root,
            running: status.map(|status| status.pid),
            ring: runtime::try_ring(),
            architecture: std::env::consts::ARCH,
            shards: status.map_or(cpus, |status| status.shards),
        }
    }

    /// A path of the machine.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A text file of the machine. What is not there or not ours to read has no contents.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        read(&self.path(path))
    }

    /// The first number of a file.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.split_whitespace().next()?.parse().ok()
    }
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    (text.len() <= FILE_BYTES_MAX).then_some(text)
}

impl Service {
    /// The owner of the running process, else the user that packages make, else ourselves.
    pub(super) fn of(root: &Path, owner: Option<u32>) -> Self {
        let users = read(&root.join("etc/passwd")).unwrap_or_default();
        let wanted = |fields: &[&str]| match owner {
            Some(uid) => fields.get(2).and_then(|field| field.parse().ok()) == Some(uid),
            None => fields.first() == Some(&SERVICE),
        };
        let found = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| wanted(fields));
        let number = |fields: &[&str], at: usize| fields.get(at)?.parse::<u32>().ok();
        let ids = found
            .as_ref()
            .and_then(|fields| Some((number(fields, 2)?, number(fields, 3)?)));
        let name = found.as_ref().and_then(|fields| fields.first());
        let (uid, gid) = ids.unwrap_or_else(|| {
            let uid = owner.unwrap_or_else(|| rustix::process::geteuid().as_raw());
            (uid, rustix::process::getegid().as_raw())
        });
        let user = name.map_or_else(|| uid.to_string(), |name| (*name).to_owned());
        let groups = read(&root.join("etc/group")).unwrap_or_default();
        let others = groups.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let mut members = fields.get(3)?.split(',');
            let is_member = members.any(|member| member == user);
            is_member.then(|| number(&fields, 2))?
        });
        Self {
            groups: std::iter::once(gid).chain(others).collect(),
            user,
            uid,
        }
    }

    /// Whether it may do what these bits say, of a file with this owner and mode.
    fn may(&self, metadata: &fs::Metadata, bits: u32) -> bool {
        let mode = metadata.mode();
        let granted = if metadata.uid() == self.uid {
            mode >> 6
        } else if self.groups.contains(&metadata.gid()) {
            mode >> 3
        } else {
            mode
        };
        self.uid == 0 || granted & bits == bits
    }

    /// Why it cannot read a file, if so: the first thing in the way, from the root down.
    pub(super) fn barred_from(&self, path: &Path) -> Option<String> {
        const READ: u32 = 4;
        self.barred(path, READ)
    }

    /// Why it cannot make files in a directory, if so.
    pub(super) fn barred_from_writing_in(&self, path: &Path) -> Option<String> {
        const WRITE_AND_ENTER: u32 = 3;
        self.barred(path, WRITE_AND_ENTER)
    }

    fn barred(&self, path: &Path, bits: u32) -> Option<String> {
        const ENTER: u32 = 1;
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        let is_named = |directory: &&Path| !directory.as_os_str().is_empty();
        for directory in above.into_iter().filter(is_named) {
            match fs::metadata(directory) {
                Ok(metadata) if !self.may(&metadata, ENTER) => {
                    return Some(format!(
                        "{} may not enter {}",
                        self.user,
                        directory.display()
                    ));
                }
                Ok(_) => {}
                Err(error) => return Some(format!("{}: {error}", directory.display())),
            }
        }
        match fs::metadata(path) {
            Ok(metadata) if !self.may(&metadata, bits) => {
                let what = if bits & 2 == 0 { "read" } else { "write in" };
                Some(format!("{} may not {what} {}", self.user, path.display()))
            }
            Ok(_) => None,
            Err(error) => Some(format!("{}: {error}", path.display())),
        }
    }
}

/// A machine made of files, for tests of the checks.
#[cfg(test)]
pub(super) mod made {
    use super::*;

    pub(in super::super) struct Machine {
        pub(in super::super) directory: tempfile::TempDir,
        pub(in super::super) view: View,
    }

    impl Machine {
        pub(in super::super) fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = directory.path().join(path.trim_start_matches('/'));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let root = directory.path().to_owned();
            let view = View {
                service: Service::of(&root, None),
                root,
                running: None,
                ring: Ok(()),
                architecture: "x86_64",
                shards: 2,
            };
            Self { directory, view }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::made::Machine;
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nsallyport:x:990:991::/:/usr/sbin/nologin\n";
    const GROUP: &str = "sallyport:x:991:\nring:x:77:other,sallyport\n";

    #[test]
    fn the_service_is_the_packages_user_or_whoever_runs_it() {
        let machine = Machine::new(&[("/etc/passwd", PASSWD), ("/etc/group", GROUP)]);
        let expected = Service {
            user: "sallyport".to_owned(),
            uid: 990,
            groups: vec![991, 77],
        };
        assert_eq!(machine.view.service, expected);
        let root = Service::of(&machine.view.root, Some(0));
        assert_eq!((root.user.as_str(), root.uid), ("root", 0));
        let unnamed = Service::of(&machine.view.root, Some(4711));
        assert_eq!((unnamed.user.as_str(), unnamed.uid), ("4711", 4711));
    }

    #[test]
    fn a_file_is_out_of_reach_by_its_mode_or_by_a_directory_above() {
        let machine = Machine::new(&[
            ("/etc/passwd", PASSWD),
            ("/etc/group", GROUP),
            ("/a/secret", "x"),
        ]);
        let set = |path: &str, mode: u32| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(machine.view.path(path), mode).unwrap();
        };
        let secret = machine.view.path("/a/secret");
        set("/", 0o755);
        let barred = || machine.view.service.barred_from(&secret);
        set("/a/secret", 0o600);
        assert_eq!(
            barred(),
            Some(format!("sallyport may not read {}", secret.display()))
        );
        set("/a/secret", 0o604);
        assert_eq!(barred(), None);
        set("/a", 0o700);
        let above = machine.view.path("/a");
        assert_eq!(
            barred(),
            Some(format!("sallyport may not enter {}", above.display()))
        );
        let in_directory = machine.view.service.barred_from_writing_in(&above);
        assert!(in_directory.unwrap().contains("may not write in"));
    }
}
