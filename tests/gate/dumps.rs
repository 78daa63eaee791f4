//! Does the process's memory stay in the process, also if it crashes?
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use crate::support::gate::{BINARY, Builder, Gate, NOBODY, spawn_piped};
use crate::support::reload::{Verdict, reload_with};
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

/// The soft and the hard limit of a core dump.
fn limits(process: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let mut limits = line.unwrap().split_whitespace().map(str::to_owned);
    (limits.next().unwrap(), limits.next().unwrap())
}

/// Who may read the process's memory: its own user, or root alone if it is not dumpable (proc(5)).
fn reader(gate: &Gate) -> u32 {
    fs::metadata(format!("/proc/{}/mem", gate.pid()))
        .unwrap()
        .uid()
}

/// Starts it as somebody who is not root; gives who that is.
fn start(builder: Builder) -> (Gate, u32) {
    let me = fs::metadata(builder.folder().path()).unwrap().uid();
    if me != 0 {
        return (builder.start(), me);
    }
    let gate = builder.start();
    let binary = gate.folder().path().join("tollgate");
    fs::copy(BINARY, &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o555)).unwrap();
    gate.folder().give_to(NOBODY);
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={NOBODY}"),
            "--regid=65534",
            "--clear-groups",
        ])
        .arg(&binary);
    (gate.crash_and_start_by(command), NOBODY)
}

#[test]
fn a_gate_leaves_no_core_dump_and_shows_its_memory_to_nobody() {
    let builder = Builder::standard(Upstream::start().address, ROUTES);
    let config = builder.config().to_owned();
    let (gate, user) = start(builder);
    assert_ne!(user, 0);
    assert_eq!(limits(gate.pid()), ("0".to_owned(), "0".to_owned()));
    assert_eq!(reader(&gate), 0);
    // What was forbidden at the start stays so.
    let meant = format!("{config}\ndanger_core_dumps: true\n");
    assert_eq!(reload_with(&gate, &meant), Verdict::Taken);
    let line = gate.wait_for_log("parts that wait", |line| line["parts"].is_string());
    assert_eq!(line["parts"], "danger_core_dumps");
    assert_eq!(reader(&gate), 0);
}

#[test]
fn a_gate_that_is_meant_to_leaves_one() {
    let extra = "danger_core_dumps: true";
    let (gate, user) = start(Builder::with_extra(
        Upstream::start().address,
        ROUTES,
        extra,
    ));
    let (soft, hard) = limits(gate.pid());
    assert_eq!(soft, hard);
    assert_eq!(reader(&gate), user);
}

#[test]
fn the_demo_leaves_none_either() {
    let mut demo = spawn_piped(&["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let is_ready = lines.map_while(Result::ok).any(|line| line == "ready");
    let found = limits(demo.id());
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert!(is_ready);
    assert_eq!(found, ("0".to_owned(), "0".to_owned()));
}
