//! A real Redis Cluster of three primaries and three replicas, of which a primary dies under load.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::server::{Redis, access, builder, free_port, refresh, revoke, status, wait_for_step};
use crate::support::gate::Gate;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

/// The nodes, and the urls of some of them.
struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    fn start() -> Self {
        let mut nodes = Vec::new();
        while nodes.len() < 6 {
            // The bus has a port of its own, ten thousand above by default.
            let bus = free_port().to_string();
            nodes.push(Redis::with(|_| {
                let arguments = [
                    ["--cluster-enabled", "yes"],
                    ["--cluster-port", &bus],
                    ["--cluster-node-timeout", "1000"],
                    ["--appendfsync", "everysec"],
                ];
                let arguments = arguments.concat().into_iter().map(str::to_owned);
                (arguments.collect(), Vec::new())
            }));
        }
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let output = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli; run tests/install.sh");
        assert!(output.status.success(), "{output:?}");
        let cluster = Self { nodes };
        wait_for("a whole cluster", || {
            let is_whole = |node: &Redis| {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            };
            cluster.nodes.iter().all(is_whole).then_some(())
        });
        wait_for("replicas in step", || {
            let is_well = |node: &Redis| {
                let info = node.ask(&["INFO", "replication"]);
                info.contains("connected_slaves:1") || info.contains("master_link_status:up")
            };
            cluster.nodes.iter().all(is_well).then_some(())
        });
        cluster
    }

    fn gate(&self, upstream: &Upstream) -> Gate {
        let urls: Vec<_> = self.nodes.iter().step_by(2).collect();
        let urls: Vec<_> = urls
            .iter()
            .map(|node| format!("redis://127.0.0.1:{}", node.port))
            .collect();
        builder(&urls.join("\", \""), upstream, ", mode: cluster").start()
    }

    /// The place of the primary that has a key.
    fn primary_of(&self, key: &str) -> usize {
        let slot: u64 = self.nodes[0]
            .ask(&["CLUSTER", "KEYSLOT", key])
            .parse()
            .unwrap();
        let nodes = self.nodes[0].ask(&["CLUSTER", "NODES"]);
        let has = |range: &str| match range.split_once('-') {
            Some((first, last)) => {
                (first.parse().unwrap()..=last.parse::<u64>().unwrap()).contains(&slot)
            }
            None => range.parse() == Ok(slot),
        };
        let line = nodes.lines().find(|line| {
            let mut ranges = line.split(' ').skip(8);
            line.contains("master") && ranges.any(has)
        });
        let address = line.unwrap().split(' ').nth(1).unwrap();
        let port = address
            .split('@')
            .next()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap();
        let is_it = |node: &Redis| node.port.to_string() == port;
        self.nodes.iter().position(is_it).unwrap()
    }
}

fn log_in(gate: &Gate) -> Option<Value> {
    let body = json!({"username": "root", "password": "memphis"}).to_string();
    let answer = gate.post_json("/auth/authenticate", &body);
    assert!([200, 503].contains(&answer.status), "{}", answer.text());
    (answer.status == 200).then(|| answer.json())
}

#[test]
fn a_cluster_that_loses_a_primary_under_load_serves_again_by_itself() {
    let mut cluster = Cluster::start();
    let upstream = Upstream::start();
    let gates = [(); 3].map(|()| cluster.gate(&upstream));
    let early = log_in(&gates[0]).unwrap();
    assert_eq!(status(&gates[1], &access(&early)), 200);
    let doomed = gates[0].token("eve", "memphis");
    // The one that has the log of revocations.
    let victim = cluster.primary_of("tollgate:{revoked}:log");
    let (is_over, logins, failed) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let sessions: Vec<Value> = thread::scope(|scope| {
        let work = |gate: usize| {
            let (gates, is_over, logins, failed) = (&gates, &is_over, &logins, &failed);
            scope.spawn(move || {
                let mut sessions = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let Some(pair) = log_in(&gates[gate]) else {
                        failed.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        continue;
                    };
                    logins.fetch_add(1, Ordering::Relaxed);
                    let (status, next) = refresh(&gates[(gate + 1) % 3], &pair);
                    // A session of the very moment may be lost with the primary: then it is refused.
                    assert!([200, 401, 503].contains(&status), "{status}");
                    if status == 200 {
                        sessions.push(next);
                    }
                }
                sessions
            })
        };
        let workers: Vec<_> = (0..3).map(work).collect();
        wait_for("some logins", || {
            (logins.load(Ordering::Relaxed) > 20).then_some(())
        });
        cluster.nodes[victim].kill();
        for gate in &gates {
            wait_for_step(gate, false);
            assert_eq!(status(gate, &access(&early)), 200, "judged from memory");
        }
        for gate in &gates {
            wait_for_step(gate, true);
        }
        let before = logins.load(Ordering::Relaxed);
        wait_for("logins again", || {
            (logins.load(Ordering::Relaxed) > before + 20).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
        let ended = workers.into_iter().map(|worker| worker.join().unwrap());
        ended.collect::<Vec<_>>().concat()
    });
    let kept = sessions
        .iter()
        .filter(|pair| refresh(&gates[2], pair).0 == 200)
        .count();
    // Replication is asynchronous: what was acknowledged in the last moment may be gone.
    let lost = sessions.len() - kept;
    assert!(
        lost <= 6,
        "{lost} of {} are lost; {failed:?} logins failed",
        sessions.len()
    );
    assert_eq!(refresh(&gates[1], &early).0, 200);
    assert_eq!(revoke(&gates[0], &json!({ "subject": "eve" })), 200);
    for gate in &gates {
        wait_for("the refusal", || {
            (status(gate, &doomed) == 401).then_some(())
        });
    }
}

#[test]
fn every_operation_of_a_gate_works_on_a_cluster() {
    let cluster = Cluster::start();
    let upstream = Upstream::start();
    let gates = [(); 2].map(|()| cluster.gate(&upstream));
    let pairs: Vec<_> = (0..10).map(|_| log_in(&gates[0]).unwrap()).collect();
    for pair in &pairs {
        assert_eq!(status(&gates[1], &access(pair)), 200);
        assert_eq!(refresh(&gates[1], pair).0, 200);
    }
    let spread: Vec<usize> = cluster
        .nodes
        .iter()
        .map(|node| node.ask(&["DBSIZE"]).parse().unwrap())
        .collect();
    assert!(
        spread.iter().filter(|count| **count > 0).count() > 2,
        "{spread:?}"
    );
    for (search, count) in [("", 10), ("roo", 10), ("root", 10), ("nobody", 0)] {
        let path = format!("/sessions?limit=100&search={search}");
        let found = gates[1].on_admin(&path).json();
        let rows = found["rows"].as_array().unwrap();
        assert_eq!(
            (rows.len(), &found["is_whole"]),
            (count, &json!(true)),
            "{search}"
        );
        assert!(rows.iter().all(|row| row["renewals"] == 1), "{found}");
    }
    assert_eq!(revoke(&gates[0], &json!({ "subject": "root" })), 200);
    for pair in &pairs {
        wait_for("the refusal", || {
            (status(&gates[1], &access(pair)) == 401).then_some(())
        });
    }
    let families = cluster
        .nodes
        .iter()
        .map(|node| node.ask(&["KEYS", "tollgate:family:*"]));
    assert_eq!(
        families.collect::<String>(),
        "",
        "a subject's sessions are gone"
    );
}
