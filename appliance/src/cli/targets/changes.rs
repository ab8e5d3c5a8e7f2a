//! Files of the configuration, put in place whole and taken back when they are not to be.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use zeroize::Zeroizing;

use super::TargetsError;
use crate::config::{self, Environment};

/// The group that packages make for the appliance.
const SERVICE_GROUP: &str = "sallyport";

/// Who reads a file besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// The appliance, and nobody else.
    Service,
    /// Whoever may look into the directory, where the group of the appliance is not known.
    Anybody,
}

/// What was changed so far, and what was there before.
pub(super) struct Changes {
    /// The group of the appliance's process.
    group: Option<u32>,
    before: Vec<Before>,
}

/// A file as it was.
struct Before {
    path: PathBuf,
    /// `None`: it was not there.
    contents: Option<Zeroizing<Vec<u8>>>,
    readers: Readers,
}

impl Changes {
    pub(super) fn new(environment: &Environment) -> Self {
        Self {
            group: service_group(environment),
            before: Vec::new(),
        }
    }

    /// Puts a file in place. It appears whole or not at all.
    pub(super) fn put(
        &mut self,
        path: &Path,
        contents: &[u8],
        readers: Readers,
    ) -> Result<(), TargetsError> {
        let written = self.keep(path, readers).and_then(|()| {
            let directory = path.parent().unwrap_or_else(|| Path::new("/"));
            self.make(directory)?;
            self.write(path, contents, readers)
        });
        written.map_err(|source| TargetsError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Takes a file away.
    pub(super) fn remove(&mut self, path: &Path, readers: Readers) -> Result<(), TargetsError> {
        let removed = self.keep(path, readers);
        let removed = removed.and_then(|()| fs::remove_file(path));
        removed.map_err(|source| TargetsError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Puts everything back, the latest first.
    pub(super) fn roll_back(mut self) -> Result<(), TargetsError> {
        while let Some(before) = self.before.pop() {
            let Before {
                path,
                contents,
                readers,
            } = before;
            let restored = match contents {
                Some(contents) => self.write(&path, &contents, readers),
                None => fs::remove_file(&path),
            };
            restored.map_err(|source| TargetsError::Write { path, source })?;
        }
        Ok(())
    }

    /// In words, who may read it.
    pub(super) fn mode_of(path: &Path) -> String {
        let Ok(metadata) = fs::metadata(path) else {
            return "gone".to_owned();
        };
        let gid = nix::unistd::Gid::from_raw(metadata.gid());
        let group = Group::from_gid(gid).ok().flatten();
        let group = group.map_or_else(|| gid.to_string(), |group| group.name);
        format!("{:04o}, group {group}", metadata.mode() & 0o777)
    }

    fn keep(&mut self, path: &Path, readers: Readers) -> io::Result<()> {
        let contents = match fs::read(path) {
            Ok(contents) => Some(Zeroizing::new(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.before.push(Before {
            path: path.to_owned(),
            contents,
            readers,
        });
        Ok(())
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.make(parent)?;
        }
        let mode = if self.group.is_some() { 0o750 } else { 0o755 };
        DirBuilder::new().mode(mode).create(directory)?;
        self.give(directory)
    }

    fn write(&self, path: &Path, contents: &[u8], readers: Readers) -> io::Result<()> {
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Hidden, so that nobody reads it as configuration.
        let unfinished = directory.join(format!(".{name}.{}", std::process::id()));
        let mode = match (self.group, readers) {
            (Some(_), _) => 0o640,
            (None, Readers::Service) => 0o600,
            (None, Readers::Anybody) => 0o644,
        };
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(contents)?;
            self.give(&unfinished)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            File::open(directory)?.sync_all()
        };
        written().inspect_err(|_| {
            // What matters is why it could not be written.
            let _ = fs::remove_file(&unfinished);
        })
    }

    /// To the group of the appliance.
    fn give(&self, path: &Path) -> io::Result<()> {
        match self.group {
            Some(group) if fs::metadata(path)?.gid() != group => chown(path, None, Some(group)),
            Some(_) | None => Ok(()),
        }
    }
}

/// The group of the process that answers at the admin socket, else that of the packages.
fn service_group(environment: &Environment) -> Option<u32> {
    let socket = config::admin_socket(environment).ok();
    if let Some(running) = socket.and_then(|socket| fs::metadata(socket).ok()) {
        // What is ours the process can read then.
        let is_ours = running.uid() == rustix::process::geteuid().as_raw();
        return (!is_ours).then(|| running.gid());
    }
    let installed = Group::from_name(SERVICE_GROUP).ok().flatten();
    installed.map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        Changes {
            group: None,
            before: Vec::new(),
        }
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let place = tempfile::tempdir().unwrap();
        let (old, new) = (place.path().join("old"), place.path().join("d/e/new"));
        let gone = place.path().join("gone");
        fs::write(&old, "before").unwrap();
        fs::write(&gone, "was here").unwrap();
        let mut changes = changes();
        changes.put(&old, b"after", Readers::Service).unwrap();
        changes.put(&new, b"after", Readers::Anybody).unwrap();
        changes.put(&old, b"once more", Readers::Service).unwrap();
        changes.remove(&gone, Readers::Anybody).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"once more");
        assert!(!gone.exists());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&old), mode(&new)), (0o600, 0o644));
        changes.roll_back().unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"before");
        assert_eq!(fs::read(&gone).unwrap(), b"was here");
        assert!(!new.exists());
        assert_eq!(fs::read_dir(new.parent().unwrap()).unwrap().count(), 0);
    }
}
