//! Why nothing can be recorded at the moment.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// What keeps records from reaching the disk. New work is refused while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JournalUnavailable {
    #[error("the disk of the journal is full")]
    DiskFull,
    #[error("the directory of the journal cannot be written to")]
    ReadOnly,
    #[error("the directory of the journal is gone")]
    DirectoryGone,
    #[error("the disk of the journal fails")]
    DiskFails,
    #[error("the catalogue cannot keep up")]
    CatalogueFails,
    #[error("the journal ring is damaged")]
    RingDamaged,
    #[error("the journal thread is gone")]
    ThreadGone,
}

impl JournalUnavailable {
    const ALL: [Self; 7] = [
        Self::DiskFull,
        Self::ReadOnly,
        Self::DirectoryGone,
        Self::DiskFails,
        Self::CatalogueFails,
        Self::RingDamaged,
        Self::ThreadGone,
    ];

    /// The byte that stands for this in a ring's health; zero is well.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::DiskFull => 1,
            Self::ReadOnly => 2,
            Self::DirectoryGone => 3,
            Self::DiskFails => 4,
            Self::CatalogueFails => 5,
            Self::RingDamaged => 6,
            Self::ThreadGone => 7,
        }
    }

    /// What a ring's health says; a byte that nobody writes is no reason to go on.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        if code == 0 {
            return None;
        }
        Some(
            Self::ALL
                .into_iter()
                .find(|trouble| trouble.code() == code)
                .unwrap_or(Self::DiskFails),
        )
    }

    /// What an error of the journal's files means.
    pub(super) fn from_io(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull,
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Self::ReadOnly,
            Some(Errno::NOENT | Errno::NOTDIR | Errno::STALE) => Self::DirectoryGone,
            _ => Self::DiskFails,
        }
    }
}
