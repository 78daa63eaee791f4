//! How many hostile cases of a family have held?

use std::io::Write as _;

/// Notes that these cases held, in the file that `TOLLGATE_THREATS` names, if any.
pub(crate) fn count(family: &str, cases: usize) {
    let Some(path) = std::env::var_os("TOLLGATE_THREATS") else {
        return;
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path).unwrap();
    // One write, so that tests that run side by side do not mix their lines.
    let line = format!("{family}\t{cases}\n");
    file.write_all(line.as_bytes()).unwrap();
}
