//! Does every store behave the same? One table of cases, run against each.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops here"
)]

mod cases;
mod kept;
mod search;
#[expect(dead_code, reason = "the other services' tests need more of it")]
#[path = "../support/services.rs"]
mod services;

use std::process::Command;

use tollgate::config::files::Files;
use tollgate::config::problem::Problems;
use tollgate::store::{AnyStore, StoreConfig};

use services::{Folder, Process, start_on_free_ports};

/// Opens a store as a config names it, and waits until it can be asked.
fn open(config: &str) -> AnyStore {
    let config: StoreConfig = serde_json::from_str(config).unwrap();
    let mut problems = Problems::default();
    let files = Files::default();
    let spec = config.build(&files, 64 << 20, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    AnyStore::open(spec.unwrap()).unwrap()
}

/// Runs all cases, each in a store of its own that `open` gives by the case's name.
fn run_all(mut open: impl FnMut(&str) -> AnyStore) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (name, case) in cases::ALL {
        let store = open(name);
        runtime.block_on(async {
            store.health().begun().await.unwrap();
            case(&store).await;
        });
    }
}

#[test]
fn memory() {
    run_all(|_| open("\"memory\""));
}

#[test]
fn file() {
    let folder = Folder::create();
    run_all(|name| open(&format!("{{\"file\":{:?}}}", folder.file(name))));
}

#[test]
fn redis() {
    let folder = Folder::create();
    let started = start_on_free_ports(|[port]: [u16; 1]| {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port.to_string(),
        ]);
        let process = Process::start(&mut command, &folder);
        let is_ready = |line: &str| line.contains("Ready to accept connections");
        match process.stdout.wait_for(is_ready) {
            true => Ok((process, port)),
            false => Err(process.said().to_lowercase()),
        }
    });
    let (_process, port) = started.unwrap_or_else(|log| panic!("no Redis\n{log}"));
    run_all(|name| {
        open(&format!(
            "{{\"redis\":{{\"urls\":[\"redis://127.0.0.1:{port}\"],\"prefix\":\"{name}:\"}}}}"
        ))
    });
}
