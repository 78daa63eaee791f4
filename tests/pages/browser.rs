//! How does a test show pages to a real browser? A script beside this file tells a story in it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::services::{Folder, Process};

/// Runs `tests/pages/NAME.mjs` with these facts, and fails unless all that it tells is true.
pub(crate) fn tell(name: &str, facts: &Value) {
    let folder = Folder::create();
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages");
    let mut command = Command::new("node");
    command
        .arg(scripts.join(name).with_extension("mjs"))
        .env("TOLLGATE_NODE", scratch.with_file_name("node-pages"))
        .env("TOLLGATE_SHOTS", scratch.join("pages"))
        .env("TOLLGATE_FACTS", facts.to_string())
        // The browser's profile.
        .env("TMPDIR", folder.file(""));
    let process = Process::start(&mut command, &folder);
    let is_told = process.stdout.wait_for(|line| line == "told");
    assert!(is_told, "{name}; {}", process.said());
}
