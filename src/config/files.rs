//! Where do the bytes of a configured file come from, and what is said when they do not come?

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::secret::Secret;

/// The largest file that a config may name: 16 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The files that a config names: a folder on disk, or (demo, tests) a map in memory.
#[derive(Debug, Default)]
pub struct Files {
    base: PathBuf,
    memory: Option<BTreeMap<PathBuf, Vec<u8>>>,
}

impl Files {
    /// Files on disk; relative paths start at `base`, the config file's folder.
    #[must_use]
    pub fn below(base: impl Into<PathBuf>) -> Self {
        Self {
            base: base.into(),
            memory: None,
        }
    }

    /// Files in memory only; nothing on disk is read.
    #[must_use]
    pub fn in_memory<P: Into<PathBuf>>(files: impl IntoIterator<Item = (P, Vec<u8>)>) -> Self {
        let memory = files
            .into_iter()
            .map(|(path, bytes)| (path.into(), bytes))
            .collect();
        Self {
            base: PathBuf::new(),
            memory: Some(memory),
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// The operating system's error, with the path that was tried.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let full = self.base.join(path);
        let outcome = match &self.memory {
            Some(files) => files
                .get(path)
                .cloned()
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
            None => read_bounded(&full),
        };
        outcome.map_err(|source| FileError { path: full, source })
    }

    /// The file's text.
    ///
    /// # Errors
    /// As [`Files::read`], or if it is not UTF-8.
    pub fn read_text(&self, path: &Path) -> Result<String, FileError> {
        String::from_utf8(self.read(path)?).map_err(|_| FileError {
            path: self.base.join(path),
            source: io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"),
        })
    }

    /// The file's bytes as a secret, one line ending at its end removed.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read_secret(&self, path: &Path) -> Result<Secret<Vec<u8>>, FileError> {
        let bytes = Zeroizing::new(self.read(path)?);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Secret::new(line.to_vec()))
    }
}

/// A configured file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads files"
)]
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 16 MiB",
        ));
    }
    std::fs::read(path)
}
