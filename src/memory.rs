//! How much memory does the gate take, and may it take on more work?
//!
//! An allocation that fails ends a process, and so does the kernel where a cgroup's limit is
//! passed. So the gate looks at what it takes every [`LOOK_INTERVAL`], and beyond its limit takes
//! on nothing more until it takes less again.
//!
//! Weakness: what comes between two looks is bounded by the other limits alone, and what the
//! kernel buffers for sockets is not seen. The tenth that the default leaves is for both.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::value::Size;

/// How often the gate looks at what it takes.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Whether the gate takes as much memory as it may.
#[derive(Debug)]
pub struct Watermark {
    is_reached: AtomicBool,
    /// What the system grants, in bytes.
    granted: Option<u64>,
}

/// What a look has shown, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What is the gate's own; what is mapped from files is left out.
    pub taken: u64,
    /// The most that it may be.
    pub most: Option<u64>,
}

impl Watermark {
    /// With what the cgroup grants to this process, if it is in one that has a limit.
    #[must_use]
    pub fn new() -> Self {
        let table = read("/proc/self/cgroup").unwrap_or_default();
        Self {
            is_reached: AtomicBool::new(false),
            granted: granted(Path::new("/sys/fs/cgroup"), &table),
        }
    }

    /// Whether it does; cheap enough to ask for every request.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Relaxed)
    }

    /// Looks again, by `limits.memory`. Nothing where the system does not tell.
    pub fn look(&self, configured: Option<Size>) -> Option<Look> {
        let most = match configured {
            Some(Size(0)) => None,
            Some(Size(most)) => Some(most),
            None => self.granted.map(|granted| granted / 10 * 9),
        };
        let taken = own(&read("/proc/self/status").ok()?)?;
        let is_reached = most.is_some_and(|most| taken >= most);
        if self.is_reached.swap(is_reached, Ordering::Relaxed) != is_reached {
            tell(is_reached, taken, most);
        }
        Some(Look { taken, most })
    }
}

impl Default for Watermark {
    fn default() -> Self {
        Self::new()
    }
}

fn tell(is_reached: bool, taken: u64, most: Option<u64>) {
    if is_reached {
        tracing::error!(
            taken,
            most,
            "memory is at its limit: nothing more is taken on"
        );
    } else {
        tracing::info!(taken, most, "memory is below its limit again");
    }
}

/// `RssAnon` of proc_pid_status(5), in bytes.
fn own(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the cgroup in this table (cgroups(7)) and of those above it, in bytes. In a
/// container the table's path may be the host's: then the root is its own.
fn granted(root: &Path, table: &str) -> Option<u64> {
    let limits = table.lines().filter_map(|line| {
        let mut columns = line.splitn(3, ':').skip(1);
        let (controllers, path) = (columns.next()?, columns.next()?);
        let (root, name) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let folder = root.join(path.trim_start_matches('/'));
        let folders = folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&root));
        let limits = folders.filter_map(|folder| read(folder.join(name)).ok()?.trim().parse().ok());
        limits.min()
    });
    limits.min().filter(|limit| *limit < NO_LIMIT)
}

/// Version 1 has a number for none: the largest one, whole pages.
const NO_LIMIT: u64 = 1 << 60;

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{granted, own};

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("tollgate-cgroup-{}", std::process::id()));
        for (folder, name, limit) in [
            ("pod/app", "memory.max", "max\n"),
            ("pod", "memory.max", "2000\n"),
            ("", "memory.max", "9000\n"),
            ("memory/one", "memory.limit_in_bytes", "700\n"),
            ("memory", "memory.limit_in_bytes", "9223372036854771712\n"),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join(name), limit).unwrap();
        }
        for (table, limit) in [
            ("0::/pod/app\n", Some(2000)),
            ("0::/\n", Some(9000)),
            ("0::/elsewhere/on/the/host\n", Some(9000)),
            ("5:cpu:/pod\n4:memory:/one\n0::/none\n", Some(700)),
            ("4:memory:/\n", None),
            ("5:cpu:/\n", None),
            ("", None),
        ] {
            assert_eq!(granted(&root, table), limit, "{table}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_the_gates_own_is_told_in_bytes() {
        let status = "Name:\ttollgate\nVmRSS:\t  100 kB\nRssAnon:\t   12 kB\n";
        assert_eq!(own(status), Some(12 * 1024));
        assert_eq!(own("Name:\ttollgate\n"), None);
    }
}
