//! Can the memory of this process, secrets and all, become a file or be read by a debugger? Not
//! unless the config says so.

use std::io;

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Forbids both for now, before any secret is read. The hard limit stays, since the config may
/// have another wish.
///
/// # Errors
/// If the system does not let us.
pub(super) fn forbid() -> io::Result<()> {
    let limit = getrlimit(Resource::Core);
    set(false, Some(0), limit.maximum)
}

/// Does what the config says, from now on. Not to be undone without privileges if dumps are not
/// allowed.
///
/// # Errors
/// If the system does not let us.
pub(crate) fn settle(are_allowed: bool) -> io::Result<()> {
    if are_allowed {
        let most = getrlimit(Resource::Core).maximum;
        return set(true, most, most);
    }
    set(false, Some(0), Some(0))
}

/// A handler of core dumps that is a program heeds no limit; it gets none of a process that is not
/// dumpable (core(5), `PR_SET_DUMPABLE` in prctl(2)).
fn set(is_dumpable: bool, current: Option<u64>, maximum: Option<u64>) -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current, maximum })?;
    #[cfg(target_os = "linux")]
    set_dumpable_behavior(match is_dumpable {
        true => DumpableBehavior::Dumpable,
        false => DumpableBehavior::NotDumpable,
    })?;
    #[cfg(not(target_os = "linux"))]
    let _ = is_dumpable;
    Ok(())
}
