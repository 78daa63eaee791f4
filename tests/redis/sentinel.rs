//! A real Sentinel, which names another server when the first one dies.

use std::process::Command;

use crate::server::{Redis, access, builder, free_port, refresh, status, wait_for_step};
use crate::services::{Folder, Process};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

/// One Sentinel that decides alone.
fn sentinel(primary: &Redis) -> (Process, Folder, u16) {
    let (folder, port) = (Folder::create(), free_port());
    let config = format!(
        "port {port}\nbind 127.0.0.1\n\
         sentinel monitor gate 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds gate 500\n\
         sentinel failover-timeout gate 2000\n",
        primary.port
    );
    let config = folder.write("sentinel.conf", &config);
    let mut command = Command::new("redis-server");
    let process = Process::start(command.arg(config).arg("--sentinel"), &folder);
    let is_ready = |line: &str| line.contains("+monitor");
    assert!(process.stdout.wait_for(is_ready), "{}", process.said());
    (process, folder, port)
}

#[test]
fn a_gate_follows_a_sentinel_to_another_server() {
    let mut primary = Redis::start();
    let port = primary.port.to_string();
    let replica = Redis::with(|_| {
        let arguments = ["--replicaof", "127.0.0.1", &port];
        (arguments.map(str::to_owned).to_vec(), Vec::new())
    });
    wait_for("a replica in step", || {
        let info = primary.ask(&["INFO", "replication"]);
        info.contains("state=online").then_some(())
    });
    let (_sentinel, folder, sentinel_port) = sentinel(&primary);
    wait_for("a Sentinel that knows both", || {
        let config = std::fs::read_to_string(folder.file("sentinel.conf")).unwrap();
        config.contains("known-replica gate").then_some(())
    });
    let upstream = Upstream::start();
    let url = format!("redis://127.0.0.1:{sentinel_port}");
    let gate = builder(&url, &upstream, ", mode: sentinel, master_name: gate").start();
    let pair = gate.login("root", "memphis");
    wait_for("the session at the replica", || {
        let keys = replica.ask(&["KEYS", "tollgate:family:*"]);
        (!keys.is_empty()).then_some(())
    });
    primary.kill();
    wait_for_step(&gate, false);
    assert_eq!(status(&gate, &access(&pair)), 200);
    wait_for_step(&gate, true);
    let next = wait_for("a refresh", || {
        let (status, next) = refresh(&gate, &pair);
        (status == 200).then_some(next)
    });
    assert_eq!(status(&gate, &access(&next)), 200);
    gate.login("root", "memphis");
}
