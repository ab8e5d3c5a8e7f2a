//! The state directory: what the appliance makes for itself on first start and keeps.
//!
//! It knows names, modes and atomic creation, not what the files mean.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::secret::{Secret, SecretError, SecretReference, SecretSources};

/// The directory, and whether this process may add to it.
///
/// Shape: mode 0700 when we make it; private files in it have mode 0600.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    path: PathBuf,
    writing: Writing,
}

/// Whether files that are missing are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// The daemon: makes what is missing.
    Create,
    /// `check` and `explain`: what is missing is made in memory and forgotten.
    Never,
}

/// Who may read a file besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Mode 0600.
    Owner,
    /// Mode 0644; certificates.
    Everyone,
}

/// Why a state file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot read it from the state directory")]
    Read(#[from] SecretError),
    #[error("cannot create {}", path.display())]
    Create { path: PathBuf, source: io::Error },
}

impl StateDirectory {
    /// Names the directory; nothing is touched yet.
    pub fn new(path: PathBuf, writing: Writing) -> Self {
        Self { path, writing }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of that name stands.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Contents of a private file, or nothing when there is none.
    ///
    /// # Errors
    /// The file is there and cannot be read, or every user can.
    pub fn private(&self, name: &str) -> Result<Option<Secret>, StateError> {
        let path = self.file(name);
        if matches!(fs::symlink_metadata(&path), Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let sources = SecretSources {
            credentials_directory: None,
            base_directory: PathBuf::new(),
            environment: |_| None,
        };
        Ok(Some(SecretReference::File(path).read(&sources)?))
    }

    /// Puts a file there unless one of that name exists; the first one stays.
    ///
    /// The file appears whole or not at all, also after a power failure. With `Writing::Never` it
    /// does nothing.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn create(&self, name: &str, audience: Audience, bytes: &[u8]) -> Result<(), StateError> {
        match self.writing {
            Writing::Never => Ok(()),
            Writing::Create => create_once(&self.path, name, audience, bytes).map_err(|source| {
                StateError::Create {
                    path: self.file(name),
                    source,
                }
            }),
        }
    }

    /// Puts a file there, in place of one with other contents. With `Writing::Never` it does
    /// nothing.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn replace(&self, name: &str, audience: Audience, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.file(name);
        if self.writing == Writing::Never || fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        let unfinished = unfinished(&self.path, name);
        write_synced(&unfinished, audience, bytes)
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|source| StateError::Create { path, source })
    }
}

fn unfinished(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!(".{name}.{}", std::process::id()))
}

fn create_once(directory: &Path, name: &str, audience: Audience, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let unfinished = unfinished(directory, name);
    let written = write_synced(&unfinished, audience, bytes)
        // A link, not a rename: of two processes that start at once, one loses and keeps the
        // other's file.
        .and_then(
            |()| match fs::hard_link(&unfinished, directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        );
    fs::remove_file(&unfinished)?;
    written?;
    File::open(directory)?.sync_all()
}

fn write_synced(path: &Path, audience: Audience, bytes: &[u8]) -> io::Result<()> {
    let mode = match audience {
        Audience::Owner => 0o600,
        Audience::Everyone => 0o644,
    };
    // Left over by a process of the same id that died in between.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_file_of_a_name_stays_and_has_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().join("a/state"), Writing::Create);
        assert!(state.private("key").unwrap().is_none());
        state.create("key", Audience::Owner, b"first").unwrap();
        state.create("key", Audience::Owner, b"second").unwrap();
        assert_eq!(state.private("key").unwrap().unwrap().expose(), b"first");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.file("key")), 0o600);
        assert_eq!(mode(state.path()), 0o700);
        assert_eq!(
            fs::read_dir(state.path()).unwrap().count(),
            1,
            "nothing unfinished is left"
        );
    }

    #[test]
    fn a_check_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().join("state"), Writing::Never);
        state.create("key", Audience::Owner, b"x").unwrap();
        assert!(!state.path().exists());
    }

    #[test]
    fn a_private_file_that_every_user_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned(), Writing::Create);
        state.create("key", Audience::Everyone, b"x").unwrap();
        assert!(matches!(
            state.private("key").err(),
            Some(StateError::Read(SecretError::OpenToAll { .. }))
        ));
    }
}
