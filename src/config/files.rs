//! Where do the bytes of a configured file come from, and what is said when they do not come? Are
//! they still the same?

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::{Zeroize as _, Zeroizing};

use crate::config::secret::Secret;

/// The largest file that a config may name: 16 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The files that a config names: a folder on disk, or (demo, tests) a map in memory.
#[derive(Debug, Default)]
pub struct Files {
    base: PathBuf,
    memory: Option<BTreeMap<PathBuf, Vec<u8>>>,
    /// One for each path that was read from disk.
    looks: RefCell<BTreeMap<PathBuf, Look>>,
}

impl Files {
    /// Files on disk; relative paths start at the config file's folder.
    #[must_use]
    pub fn beside(config: &Path) -> Self {
        Self {
            base: config.parent().map_or_else(PathBuf::new, Path::to_path_buf),
            ..Self::default()
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
            memory: Some(memory),
            ..Self::default()
        }
    }

    /// Where a file is.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
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
            None => {
                let outcome = read_bounded(&full);
                self.note(path, Look::at(&outcome));
                outcome
            }
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

    /// What was found on disk so far.
    #[must_use]
    pub fn looks(&self) -> Looks {
        Looks {
            base: self.base.clone(),
            looks: self.looks.borrow().clone(),
        }
    }

    fn note(&self, path: &Path, found: Look) {
        let mut looks = self.looks.borrow_mut();
        let look = match looks.get(path) {
            Some(before) if *before != found => Look::Torn,
            _ => found,
        };
        looks.insert(path.to_owned(), look);
    }
}

/// What was found at each path at some time, by hashes: nothing of the content is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks {
    base: PathBuf,
    looks: BTreeMap<PathBuf, Look>,
}

impl Looks {
    /// What is found at the same paths now.
    #[must_use]
    pub fn again(&self) -> Self {
        let look = |path: &PathBuf| {
            let outcome = read_bounded(&self.base.join(path)).map(Zeroizing::new);
            (path.clone(), Look::at(&outcome))
        };
        Self {
            base: self.base.clone(),
            looks: self.looks.keys().map(look).collect(),
        }
    }

    /// Whether the same was found at this path.
    #[must_use]
    pub fn agree_on(&self, path: &Path, other: &Self) -> bool {
        self.looks.get(path) == other.looks.get(path)
    }
}

/// What was found at one path.
#[derive(Clone, PartialEq, Eq)]
enum Look {
    /// Content with this SHA-256.
    Content(Vec<u8>),
    /// It could not be read.
    Nothing(io::ErrorKind),
    /// Not the same twice while one config was read: it has to be read again.
    Torn,
}

impl Look {
    fn at<T: AsRef<[u8]>>(outcome: &io::Result<T>) -> Self {
        match outcome {
            Ok(bytes) => Self::Content(digest(&SHA256, bytes.as_ref()).as_ref().to_vec()),
            Err(error) => Self::Nothing(error.kind()),
        }
    }
}

impl fmt::Debug for Look {
    /// A short secret could be found from its hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[look]")
    }
}

/// A configured file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// The one place that reads files.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A pipe or a growing file has no length to ask for.
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        bytes.zeroize();
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 16 MiB",
        ));
    }
    Ok(bytes)
}
