//! Where do the bytes of a configured file come from, and what is said when they do not come? Are
//! they still the same?

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::{Zeroize as _, Zeroizing};

use super::guard::{Guard, Loose, metadata_if_there};
use super::secret::Secret;

/// The largest file that a config may name: 16 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The files that a config names: a folder on disk, or (demo, tests) a map in memory.
#[derive(Debug, Default)]
pub struct Files {
    base: PathBuf,
    memory: Option<BTreeMap<PathBuf, Vec<u8>>>,
    /// One for each path that was read from disk.
    looks: RefCell<BTreeMap<PathBuf, Look>>,
    takes_loose: Cell<bool>,
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

    /// From now on takes files however loose their permissions are, if the config says so.
    pub fn take_loose(&self, takes_loose: bool) {
        self.takes_loose.set(takes_loose);
    }

    /// The bytes of a file that everybody may know.
    ///
    /// # Errors
    /// The operating system's error, with the path that was tried; or that others can change it.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let (bytes, found) = self.read_any(path)?;
        self.judge_found(Guard::Public, path, found.as_ref())?;
        Ok(bytes)
    }

    /// The text of the config, whose permissions are to be [judged](Self::judge) once it has said
    /// whether they matter.
    ///
    /// # Errors
    /// The operating system's error, or if it is not UTF-8.
    pub fn read_config(&self, path: &Path) -> Result<String, FileError> {
        let (bytes, _) = self.read_any(path)?;
        String::from_utf8(bytes).map_err(|_| self.not_text(path))
    }

    /// The bytes of a file that others may not know, one line ending at its end removed.
    ///
    /// # Errors
    /// As [`Files::read`], and if others can read it.
    pub fn read_secret(&self, path: &Path) -> Result<Secret<Vec<u8>>, FileError> {
        let (bytes, found) = self.read_any(path)?;
        let bytes = Zeroizing::new(bytes);
        self.judge_found(Guard::Secret, path, found.as_ref())?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Secret::new(line.to_vec()))
    }

    /// The text of a file that others may not know, as [`Files::read_secret`].
    ///
    /// # Errors
    /// As [`Files::read_secret`], or if it is not UTF-8.
    pub fn read_secret_text(&self, path: &Path) -> Result<Secret<String>, FileError> {
        let bytes = self.read_secret(path)?;
        let text = str::from_utf8(bytes.expose()).map_err(|_| self.not_text(path))?;
        Ok(Secret::new(text.to_owned()))
    }

    /// Judges a file that is not read here; one that is not there is fine.
    ///
    /// # Errors
    /// The operating system's, or that its permissions are loose.
    pub fn judge(&self, guard: Guard, path: &Path) -> Result<(), FileError> {
        if self.memory.is_some() {
            return Ok(());
        }
        let full = self.base.join(path);
        let found = metadata_if_there(&full);
        let found = found.map_err(|source| FileError::Unreadable { path: full, source })?;
        self.judge_found(guard, path, found.as_ref())
    }

    fn judge_found(
        &self,
        guard: Guard,
        path: &Path,
        found: Option<&Metadata>,
    ) -> Result<(), FileError> {
        match found {
            Some(found) if !self.takes_loose.get() => {
                Ok(guard.judge(&self.base.join(path), found)?)
            }
            _ => Ok(()),
        }
    }

    /// The file's bytes, and what the disk says of it.
    fn read_any(&self, path: &Path) -> Result<(Vec<u8>, Option<Metadata>), FileError> {
        let full = self.base.join(path);
        let outcome = match &self.memory {
            Some(files) => files
                .get(path)
                .map(|bytes| (bytes.clone(), None))
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
            None => {
                let outcome = read_bounded(&full);
                self.note(path, Look::at(outcome.as_ref().map(|(bytes, _)| bytes)));
                outcome.map(|(bytes, found)| (bytes, Some(found)))
            }
        };
        outcome.map_err(|source| FileError::Unreadable { path: full, source })
    }

    fn not_text(&self, path: &Path) -> FileError {
        FileError::Unreadable {
            path: self.base.join(path),
            source: io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"),
        }
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
            let outcome = read_bounded(&self.base.join(path));
            let outcome = outcome.map(|(bytes, _)| Zeroizing::new(bytes));
            (path.clone(), Look::at(outcome.as_ref()))
        };
        Self {
            base: self.base.clone(),
            looks: self.looks.keys().map(look).collect(),
        }
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
    fn at<T: AsRef<[u8]>>(outcome: Result<T, &io::Error>) -> Self {
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

/// A configured file could not be read, or may not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system does not give it.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The path that was tried.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read or change it.
    #[error(transparent)]
    Loose(#[from] Loose),
}

/// The one place that reads files.
fn read_bounded(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    // Room for all of it, so that nothing is moved and left behind; a pipe or a growing file has
    // no length to ask for.
    let length = usize::try_from(found.len().min(MAX_FILE)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(length + 1);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        bytes.zeroize();
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 16 MiB",
        ));
    }
    Ok((bytes, found))
}
