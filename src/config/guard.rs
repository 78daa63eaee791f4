//! Who else could read or change a file that the gate relies on?

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf, absolute};

#[cfg(target_os = "linux")]
use rustix::fs::{StatVfsMountFlags, statvfs};

/// What nobody else may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Change it: the config, certificates, public keys.
    Public,
    /// Read or change it: keys, passwords, users. Its group may read it, as PostgreSQL and
    /// Kubernetes' `fsGroup` have it.
    Secret,
    /// As a secret, but that its group may change it, too: Kubernetes gives the files of a volume to
    /// the `fsGroup` so. Its folder is not judged: an `emptyDir` is open to the whole pod.
    State,
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} {what}: {remedy}, or say `danger_loose_files: true`",
    path.display()
)]
pub struct Loose {
    path: PathBuf,
    what: String,
    remedy: String,
}

impl Guard {
    /// Judges a file by what was asked of the open file itself, and the folders on the way to it.
    ///
    /// # Errors
    /// What is loose, and how to mend it.
    pub(super) fn judge(self, path: &Path, found: &Metadata) -> Result<(), Loose> {
        let loose = |(what, remedy): (String, String)| Loose {
            path: path.to_owned(),
            what,
            remedy,
        };
        self.judge_mode(found.uid(), found.mode(), me())
            .map_or(Ok(()), |(what, remedy)| {
                let remedy = remedy.replace("FILE", &path.display().to_string());
                Err(loose((what, remedy)))
            })?;
        match open_folder(path) {
            Some(folder) if self != Self::State => {
                let folder = folder.display();
                Err(loose((
                    format!("can be replaced by everybody, who may write to its folder {folder}"),
                    format!("`chmod o-w {folder}`"),
                )))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with an owner and a mode for a process of user `me`, and how to mend it.
    fn judge_mode(self, owner: u32, mode: u32, me: u32) -> Option<(String, String)> {
        if owner != 0 && owner != me {
            let what = format!("belongs to user {owner}, neither root nor the gate's own ({me})");
            return Some((what, "`chown` it".to_owned()));
        }
        let (forbidden, chmod, kubernetes) = match self {
            Self::Public => (0o022, "go-w", ""),
            Self::Secret => (
                0o026,
                "600",
                " (for a volume in Kubernetes `defaultMode: 0400` and an `fsGroup`)",
            ),
            Self::State => (0o006, "o-rw", ""),
        };
        let open = mode & forbidden;
        let who = if open & 0o006 == 0 {
            "its group"
        } else {
            "everybody"
        };
        let can = match (open & 0o004, open & 0o022) {
            (0, 0) => return None,
            (0, _) => "changed",
            (_, 0) => "read",
            (_, _) => "read and changed",
        };
        let what = format!("can be {can} by {who} (mode {:04o})", mode & 0o7777);
        Some((what, format!("`chmod {chmod} FILE`{kubernetes}")))
    }
}

/// A folder on the way to a file in which everybody may put another in its place: as it is named,
/// or where its links lead. In a folder with the sticky bit nobody can, and on a file system that is
/// mounted for reading alone, as Kubernetes mounts a ConfigMap, neither.
fn open_folder(path: &Path) -> Option<PathBuf> {
    let named = absolute(path).ok();
    let real = path.canonicalize().ok();
    let folders = named
        .iter()
        .chain(&real)
        .flat_map(|path| path.ancestors().skip(1));
    let mut open = folders.filter(|folder| {
        let mode = folder.metadata().map_or(0, |found| found.mode());
        mode & 0o1002 == 0o002 && !is_read_only(folder)
    });
    open.next().map(Path::to_owned)
}

#[cfg(target_os = "linux")]
fn is_read_only(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(not(target_os = "linux"))]
const fn is_read_only(_: &Path) -> bool {
    false
}

/// The user that this process acts as.
fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A file that is not there has no mode to be judged.
pub(super) fn metadata_if_there(path: &Path) -> io::Result<Option<Metadata>> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::Guard;

    /// Owner and mode, for a gate of user 7: what is said of a public file, a secret, the state.
    const MODES: &str = "
        7    0600 |                                 |                                      |
        7    0400 |                                 |                                      |
        0    0400 |                                 |                                      |
        0    0440 |                                 |                                      |
        7    0640 |                                 |                                      |
        7    0644 |                                 | can be read by everybody             | can be read by everybody
        0    0444 |                                 | can be read by everybody             | can be read by everybody
        7    0660 | can be changed by its group     | can be changed by its group          |
        7    0664 | can be changed by its group     | can be read and changed by everybody | can be read by everybody
        7    0666 | can be changed by everybody     | can be read and changed by everybody | can be read and changed by everybody
        7    0602 | can be changed by everybody     | can be changed by everybody          | can be changed by everybody
        8    0600 | belongs to user 8               | belongs to user 8                    | belongs to user 8
    ";

    #[test]
    fn a_file_is_judged_by_its_owner_and_its_mode() {
        for row in MODES.lines().filter(|row| row.contains('|')) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let mut file = cells[0].split_whitespace();
            let owner = file.next().unwrap().parse().unwrap();
            let mode = u32::from_str_radix(file.next().unwrap(), 8).unwrap() | 0o100_000;
            for (guard, expected) in [Guard::Public, Guard::Secret, Guard::State]
                .into_iter()
                .zip(&cells[1..])
            {
                let found = guard.judge_mode(owner, mode, 7);
                let what = found.map_or_else(String::new, |(what, _)| what);
                assert_eq!(
                    what.is_empty(),
                    expected.is_empty(),
                    "{guard:?} {row}: {what}"
                );
                assert!(what.starts_with(expected), "{guard:?} {row}: {what}");
            }
        }
    }
}
