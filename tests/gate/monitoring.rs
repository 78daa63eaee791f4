//! Do the alerts fire when they should, and does the dashboard show what a real gate counts?

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::metrics::{busy_gate, make_busy};
use crate::support::client;
use crate::support::gate::{Folder, Gate, claims, sign};
use crate::support::wait_for;

const RULES: &str = "deploy/prometheus/tollgate.rules.yaml";
const DASHBOARD: &str = "deploy/grafana/tollgate.json";

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir("deploy/prometheus")
        .output()
        .expect("promtool; tests/install.sh installs it");
    let said = [&*output.stdout, &*output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

/// What follows `key` on the lines of a file that begin with it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    lines.filter_map(|line| line.strip_prefix(key)).collect()
}

#[test]
fn each_alert_fires_in_its_own_trouble_and_is_silent_without() {
    promtool(&["check", "rules", "tollgate.rules.yaml"]);
    promtool(&["test", "rules", "tollgate.rules.test.yaml"]);
    promtool(&["check", "config", "--syntax-only", "prometheus.yaml"]);
    let rules = fs::read_to_string(RULES).unwrap();
    let tests = fs::read_to_string("deploy/prometheus/tollgate.rules.test.yaml").unwrap();
    let alerts = values(&rules, "alert: ");
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        let silent = format!("alertname: {alert} }}\n");
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tests.contains(&silent), "{alert} is never silent");
        assert!(tests.contains(&fires), "{alert} never fires");
    }
}

#[test]
fn the_rules_ask_for_reasons_and_causes_that_the_gate_has() {
    let rules = fs::read_to_string(RULES).unwrap();
    let source = ["src/refusal/reason.rs", "src/server/shed.rs"]
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    let mut found = 0;
    for part in ["reason=~\"", "reason=\"", "cause=~\"", "cause=\""] {
        for named in rules.split(part).skip(1) {
            for name in named.split('"').next().unwrap().split('|') {
                assert!(source.contains(&format!("=> \"{name}\"")), "{name}");
                found += 1;
            }
        }
    }
    assert!(found > 3, "the rules were not read");
}

/// A real Prometheus that scrapes one gate five times a second and evaluates our rules.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(gate: &Gate) -> Self {
        let folder = Folder::new();
        let rules = fs::canonicalize(RULES).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 200ms, evaluation_interval: 1s }}\n\
             rule_files: [ {} ]\n\
             scrape_configs:\n  - job_name: tollgate\n    static_configs: [ {{ targets: [ \"{}\" ] }} ]\n",
            rules.display(),
            gate.admin
        );
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        // It cannot pick a port itself; if somebody takes this one first, it ends, and so does the test.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("prometheus; tests/install.sh installs it");
        let prometheus = Self {
            child,
            address,
            _folder: folder,
        };
        wait_for("Prometheus", || prometheus.is_ready().then_some(()));
        prometheus
    }

    fn is_ready(&self) -> bool {
        let is_there = TcpStream::connect(self.address).is_ok();
        let ask = "GET /-/ready HTTP/1.1\r\nhost: prometheus\r\nconnection: close\r\n\r\n";
        is_there && client::send(self.address, ask).status == 200
    }

    fn query(&self, expression: &str) -> Vec<Value> {
        let body = format!("query={}", encode(expression));
        let length = body.len();
        let response = client::send(
            self.address,
            format!(
                "POST /api/v1/query HTTP/1.1\r\nhost: prometheus\r\nconnection: close\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        );
        assert_eq!(response.status, 200, "{expression}: {}", response.text());
        let result = response.json()["data"]["result"].clone();
        result.as_array().unwrap().clone()
    }
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Every query of the dashboard, as Grafana would send it, by its panel's title.
fn dashboard() -> Vec<(String, String)> {
    let dashboard = fs::read_to_string(DASHBOARD).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let sent = expression
                .replace("$__rate_interval", "1m")
                .replace("$job", ".+");
            assert!(!sent.contains('$'), "{title}: {sent}");
            queries.push((title.to_owned(), sent));
        }
    }
    queries
}

#[test]
fn every_query_of_the_dashboard_and_every_recording_rule_finds_data_of_a_busy_gate() {
    let gate = busy_gate();
    let prometheus = Prometheus::start(&gate);
    let mut queries = dashboard();
    assert!(queries.len() > 30, "the dashboard was not read");
    let rules = fs::read_to_string(RULES).unwrap();
    let records = values(&rules, "record: ");
    assert!(records.len() > 4, "the rules were not read");
    let records = records
        .iter()
        .map(|name| (String::from("rule"), (*name).to_owned()));
    queries.extend(records);
    wait_for("the first scrape", || {
        (!prometheus.query("tollgate_build_info").is_empty()).then_some(())
    });
    let mut outsider = claims();
    outsider["scope"] = "other".into();
    let outsider = sign(&outsider);
    // What counts is what changes between two scrapes, so the gate stays busy.
    wait_for("data for every query", || {
        make_busy(&gate);
        assert_eq!(gate.get("/api/a", &outsider).status, 403);
        let before = queries.len();
        queries.retain(|(_, query)| !has_data(&prometheus.query(query)));
        if queries.len() < before {
            eprintln!("still without data: {queries:?}");
        }
        queries.is_empty().then_some(())
    });
}

/// Whether there is a sample with a number.
fn has_data(result: &[Value]) -> bool {
    result
        .iter()
        .any(|sample| sample["value"][1].as_str().is_some_and(|it| it != "NaN"))
}

#[test]
fn the_dashboard_leaves_no_metric_out() {
    let shown: Vec<_> = dashboard().into_iter().map(|(_, query)| query).collect();
    let shown = shown.join("\n");
    let source = fs::read_to_string("src/telemetry/metrics.rs").unwrap();
    let names: BTreeSet<_> = source
        .split('"')
        .filter(|part| part.starts_with("tollgate_") && part.len() < 70)
        .collect();
    assert!(names.len() > 25, "the table was not read");
    // Shown by what it is for: the alert on old keys, and whether the last reload was good.
    let apart = [
        "tollgate_config_reloads_total",
        "tollgate_jwks_fetches_total",
        "tollgate_jwks_last_success_timestamp_seconds",
        "tollgate_token_cache_evictions_total",
    ];
    for name in names {
        assert!(shown.contains(name) || apart.contains(&name), "{name}");
    }
}
