//! An upstream that serves files.

use std::process::Command;

use crate::services::{Folder, Process};

/// A file server on a port of its own.
pub(crate) fn file_server(folder: &Folder) -> (Process, u16) {
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]);
    let process = Process::start(&mut command, folder);
    let port = |line: &str| line.split("port ").nth(1)?.split(' ').next()?.parse().ok();
    assert!(process.stdout.wait_for(|line| port(line).is_some()));
    let said = process.stdout.text();
    let port = said.lines().find_map(port);
    (process, port.expect("a port"))
}
