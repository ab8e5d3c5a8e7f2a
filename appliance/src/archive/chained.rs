//! Files of JSON lines that each name the one before by its hash.
//!
//! A line that is changed, removed, inserted or moved shows at the line behind it. The hash of the
//! last line stands for the whole file; heads sign it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use thiserror::Error;

/// Longest line that is read back, in bytes. Lines are made of bounded fields and stay far below.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What a file of lines failed at.
#[derive(Debug, Error)]
#[error("cannot {operation} {}", path.display())]
pub struct ChainedError {
    pub operation: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl ChainedError {
    pub(super) fn at(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self {
            operation,
            path,
            source,
        }
    }
}

/// SHA-256, as chains have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Hash(pub(super) [u8; 32]);

impl Hash {
    /// The hash of the parts, one behind the other.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        let digest = context.finish();
        // SHA-256 has 32 bytes.
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }

    pub(super) fn to_hex(self) -> String {
        hex(&self.0)
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        from_hex(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| {
                pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit())
            })?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

/// How many lines there are, and the hash of the last: zeroes when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) count: u64,
    pub(super) hash: Hash,
}

impl Tip {
    /// The tip once `line` (without its end) stands behind.
    pub(super) fn after(self, line: &[u8]) -> Self {
        Self {
            count: self.count.saturating_add(1),
            hash: Hash::of(&[line]),
        }
    }
}

/// A file of chained lines that is appended to. One per process.
pub(super) struct ChainedFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines; what a failed write left behind them is overwritten by the next.
    length: u64,
    tip: Tip,
    last_line: Option<Vec<u8>>,
}

impl ChainedFile {
    /// Opens the file, or makes it. A last line without an end was never acknowledged: it goes.
    pub(super) fn open(path: &Path) -> Result<Self, ChainedError> {
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(ChainedError::at("make", directory))?;
        }
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(ChainedError::at("open", path))?;
        if let (true, Some(directory)) = (is_new, path.parent()) {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(ChainedError::at("sync", directory))?;
        }
        let mut lines = Lines::open(path)?;
        let mut tip = Tip::default();
        let mut length = 0;
        let mut last = Vec::new();
        while let Some(line) = lines.next_line()? {
            tip = tip.after(line);
            last = line.to_vec();
            length = lines.offset();
        }
        file.set_len(length)
            .and_then(|()| file.sync_all())
            .map_err(ChainedError::at("tidy", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            tip,
            last_line: (tip.count > 0).then_some(last),
        })
    }

    pub(super) fn tip(&self) -> Tip {
        self.tip
    }

    /// The last line that was there when it was opened.
    pub(super) fn last_line(&self) -> Option<&[u8]> {
        self.last_line.as_deref()
    }

    /// Appends a line, and returns when it is durable.
    ///
    /// Nothing counts as appended unless this succeeds.
    pub(super) fn append(&mut self, line: &str) -> Result<Tip, ChainedError> {
        let whole = format!("{line}\n");
        self.file
            .write_all_at(whole.as_bytes(), self.length)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.check_in_place())
            .map_err(ChainedError::at("append to", &self.path))?;
        let bytes = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        self.length = self.length.saturating_add(bytes);
        self.tip = self.tip.after(line.as_bytes());
        Ok(self.tip)
    }

    /// Fails unless the file is still the one that its name leads to.
    fn check_in_place(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let (open, named) = (self.file.metadata()?, fs::metadata(&self.path)?);
        if (open.dev(), open.ino()) == (named.dev(), named.ino()) {
            Ok(())
        } else {
            Err(rustix::io::Errno::NOENT.into())
        }
    }
}

/// Reads the whole lines of a file, one at a time.
pub(super) struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    line: Vec<u8>,
    offset: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, ChainedError> {
        let file = File::open(path).map_err(ChainedError::at("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            input: BufReader::new(file),
            line: Vec::new(),
            offset: 0,
        })
    }

    /// Whether something stands behind the last whole line.
    pub(super) fn is_cut_off(&self) -> Result<bool, ChainedError> {
        let metadata = fs::metadata(&self.path).map_err(ChainedError::at("measure", &self.path))?;
        Ok(metadata.len() > self.offset)
    }

    /// Behind the line that was read last.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line without its end. `None` at the end, and for a line that has none.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, ChainedError> {
        self.line.clear();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.input)
            .take(most)
            .read_until(b'\n', &mut self.line)
            .map_err(ChainedError::at("read", &self.path))?;
        if self.line.pop() != Some(b'\n') {
            return Ok(None);
        }
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(read);
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_chained_over_a_restart_and_a_torn_one_was_never_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/lines");
        let mut file = ChainedFile::open(&path).unwrap();
        assert_eq!(file.tip(), Tip::default());
        file.append("one").unwrap();
        let tip = file.append("two").unwrap();
        assert_eq!((tip.count, tip.hash), (2, Hash::of(&[b"two"])));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [whole.as_slice(), b"thr"].concat()).unwrap();
        let mut file = ChainedFile::open(&path).unwrap();
        assert_eq!(file.tip(), tip);
        assert_eq!(fs::read(&path).unwrap(), whole);
        file.append("three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_file_that_is_no_longer_where_its_name_leads_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let mut file = ChainedFile::open(&path).unwrap();
        let tip = file.append("one").unwrap();
        fs::rename(&path, directory.path().join("aside")).unwrap();
        assert!(file.append("two").is_err());
        assert_eq!(file.tip(), tip);
        fs::rename(directory.path().join("aside"), &path).unwrap();
        file.append("two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_hash_is_read_as_it_is_printed() {
        let hash = Hash::of(&[b"a", b"bc"]);
        assert_eq!(hash, Hash::of(&[b"abc"]));
        assert_eq!(Hash::from_hex(&hash.to_hex()), Some(hash));
        for text in ["", "0", "zz", &hash.to_hex()[1..], "+1"] {
            assert_eq!(Hash::from_hex(text), None, "{text}");
        }
    }
}
