//! Does `/metrics` tell the truth, completely, and in bounded space?

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::client::{connect, connect_tls, read_response, send};
use crate::support::frames::{END_STREAM, Frames};
use crate::support::gate::{Builder, Gate, claims, sign, sign_as};
use crate::support::issuer::{Issuer, IssuerKey};
use crate::support::mqtt::{Broker, Client, Connect as MqttConnect, V5, publish};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app, require: { scopes: [ admin ] } }
  - { path: /open/**, name: open, upstream: app, public: true }
  - { path: /down/**, name: down, upstream: down, public: true }
";

/// Where nothing may be published.
const MQTT_ROUTE: &str =
    "  - { path: /mqtt, name: mqtt, upstream: broker, protocol: mqtt, mqtt: { publish: [] } }\n";

/// Every metric of the table in the source, with its type.
fn table() -> Vec<(String, String)> {
    let source = std::fs::read_to_string("src/telemetry/metrics.rs").unwrap();
    let lines = source.lines().filter_map(|line| {
        let (kind, rest) = line.trim().split_once(' ')?;
        let name = rest.split('"').nth(1)?;
        let is_metric = ["counter", "gauge", "histogram"].contains(&kind);
        (is_metric && name.starts_with("tollgate_")).then(|| (name.to_owned(), kind.to_owned()))
    });
    lines.collect()
}

/// A gate that has seen everything that is counted.
pub(crate) fn busy_gate() -> Gate {
    let upstream = Upstream::scripted(|seen, stream| {
        let status = if seen.target() == "/open/401" {
            401
        } else {
            200
        };
        write!(stream, "HTTP/1.1 {status} A\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let app = format!(
        "  app: {{ endpoints: [ \"http://{}\" ], health_check: {{}} }}\n  down: {{ endpoints: [ \"http://127.0.0.1:1\" ] }}\n  broker: {{ endpoints: [ \"mqtt://{}\" ], protocol: mqtt }}",
        upstream.address,
        Broker::start().address
    );
    let issuer = Issuer::with(&[&IssuerKey::new("e1", "ES256")]);
    let entry = issuer.entry(", subject_prefix: \"x:\"");
    let identity = format!("identity: [ {{ users_file: users.yaml }}, {entry} ]");
    let gate = Builder::standard(upstream.address, &format!("{ROUTES}{MQTT_ROUTE}"))
        .line("identity:", &identity)
        .line("  app:", &app)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", name: plain }, { address: \"127.0.0.1:0\", name: secure, tls: { certificate: a.crt, private_key: a.key } }, { address: \"127.0.0.1:0\", name: mqtt, protocol: mqtt, path: /mqtt } ]")
        .certificate("a", &["gate.example"])
        .start();
    let checks = "tollgate_upstream_health_checks_total{result=\"ok\",upstream=\"app\"}";
    gate.wait_for_metric(checks, 1.0);
    make_busy(&gate);
    gate.signal("HUP");
    gate.wait_for_metric("tollgate_config_reloads_total{result=\"ok\"}", 1.0);
    gate
}

/// Everything but the reload, once more.
pub(crate) fn make_busy(gate: &Gate) {
    let login = gate.login("root", "memphis");
    let (token, refresh) = (
        login["jwt"].as_str().unwrap(),
        login["jwt_refresh_token"].as_str().unwrap(),
    );
    let refresh = format!("{{\"jwt_refresh_token\":\"{refresh}\"}}");
    assert_eq!(gate.post_json("/auth/refreshToken", &refresh).status, 200);
    let wrong = "{\"username\":\"root\",\"password\":\"x\"}";
    assert_eq!(gate.post_json("/auth/authenticate", wrong).status, 401);
    let refresh = "{\"jwt_refresh_token\":\"a.b.c\"}";
    assert_eq!(gate.post_json("/auth/refreshToken", refresh).status, 401);
    for (target, token, status) in [
        ("/api/a", token, 200),
        ("/api/b", token, 200),
        ("/api/c", "", 401),
        ("/open/401", token, 502),
        ("/down/a", token, 502),
        ("/nowhere", token, 404),
    ] {
        assert_eq!(gate.get(target, token).status, status, "{target}");
    }
    assert_eq!(gate.send("GET / HTTP/1.1\n\n").status, 400);
    let certificate = std::fs::read_to_string(gate.folder().path().join("a.crt")).unwrap();
    let tls = rustls::ALL_VERSIONS;
    let mut stream = connect_tls(gate.listeners[1], "gate.example", &certificate, &[], tls);
    stream
        .write_all(b"GET /open/a HTTP/1.1\r\nhost: gate.example\r\n\r\n")
        .unwrap();
    assert_eq!(read_response(&mut stream, false).status, 200);
    let mut connection = Frames::connect(gate.listeners[1], &certificate, &[]);
    connection.request(1, END_STREAM, &[("connection", "close")]);
    assert_eq!(connection.answer(1), None);
    let session = MqttConnect::with_token(V5, token);
    let mut client = Client(connect(gate.listeners[2]));
    client.send(session.bytes());
    assert_eq!(client.read().unwrap()[3], 0);
    client.send(publish(V5, (1, 7), "a", b""));
    assert_eq!(client.read().unwrap()[4], 0x87);
}

#[test]
fn promtool_accepts_the_metrics() {
    let metrics = busy_gate().metrics();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool; tests/install.sh installs it");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn every_metric_is_there_with_its_type_and_its_help() {
    let metrics = busy_gate().metrics();
    let table = table();
    assert!(table.len() > 20, "the table was not read: {table:?}");
    for (name, kind) in &table {
        assert!(
            metrics.contains(&format!("# TYPE {name} {kind}\n")),
            "{name}"
        );
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}");
        let is_sample = |line: &str| {
            let line = line.strip_prefix(name.as_str());
            line.is_some_and(|line| line.starts_with(['{', ' ', '_']))
        };
        assert!(metrics.lines().any(is_sample), "{name} has no sample");
    }
    let names: BTreeSet<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert_eq!(names.len(), table.len(), "more than the table: {names:?}");
}

#[test]
fn every_event_is_counted_once_under_its_labels() {
    let gate = busy_gate();
    for row in BUSY.lines().filter(|row| !row.is_empty()) {
        let (sample, expected) = row.rsplit_once(' ').unwrap();
        gate.wait_for_metric(&format!("tollgate_{sample}"), expected.parse().unwrap());
    }
    let metrics = gate.metrics();
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("tollgate_build_info{{revision=\"unknown\",version=\"{version}\"}} 1\n");
    assert!(metrics.contains(&build), "{metrics}");
}

/// What [`busy_gate`] has counted.
const BUSY: &str = r#"
requests_total{code="2xx",method="GET",route="api"} 2
requests_total{code="4xx",method="GET",route="api"} 1
requests_total{code="2xx",method="GET",route="open"} 1
requests_total{code="5xx",method="GET",route="open"} 1
requests_total{code="5xx",method="GET",route="down"} 1
requests_total{code="4xx",method="GET",route="(none)"} 1
requests_total{code="2xx",method="POST",route="(endpoint)"} 2
requests_total{code="4xx",method="POST",route="(endpoint)"} 2
request_duration_seconds_count{route="api"} 3
gate_duration_seconds_count{route="api"} 3
authentication_total{location="header",reason="none",result="ok",route="api"} 2
authorization_total{reason="none",result="ok",route="api"} 2
logins_total{dialect="memphis",reason="none",result="ok"} 1
logins_total{dialect="memphis",reason="bad_credentials",result="refused"} 1
refreshes_total{dialect="memphis",reason="none",result="ok"} 1
refreshes_total{dialect="memphis",reason="malformed_token",result="refused"} 1
tokens_issued_total{type="access"} 2
tokens_issued_total{type="refresh"} 2
upstream_requests_total{code_class="2xx",upstream="app"} 3
upstream_requests_total{code_class="4xx",upstream="app"} 1
upstream_request_duration_seconds_count{upstream="app"} 4
upstream_refusals_total{upstream="app"} 1
upstream_errors_total{kind="connect",upstream="down"} 1
tls_handshakes_total{listener="secure",result="ok",version="1.3"} 2
connections_total{listener="secure"} 2
http2_streams_cut_total{cause="malformed",listener="secure"} 1
mqtt_connects_total{reason="none",result="ok",route="mqtt",version="5.0"} 1
mqtt_denied_total{action="publish",route="mqtt"} 1
authentication_total{location="connect",reason="none",result="ok",route="mqtt"} 1
upstream_requests_total{code_class="1xx",upstream="broker"} 1
config_last_reload_successful 1
requests_in_flight{route="api"} 0
"#;

#[test]
fn what_clients_send_makes_no_new_series() {
    let upstream = Upstream::start();
    let gate = Builder::standard(
        upstream.address,
        ROUTES.split_once("  - { path: /down").unwrap().0,
    )
    .start();
    let storm = |count: usize| {
        for index in 0..count {
            let method = ["GET", "BREW", "PROPFIND", "get", "X-Y"][index % 5];
            let target = match index % 4 {
                0 => format!("/open/{:x}", fastrand::u64(..)),
                1 => format!(
                    "/api/{:x}?authorization={:x}",
                    fastrand::u64(..),
                    fastrand::u64(..)
                ),
                2 => format!("/{:x}", fastrand::u64(..)),
                _ => format!("/auth/authenticate?{:x}", fastrand::u64(..)),
            };
            let host = fastrand::u64(..);
            send(
                gate.address(),
                format!(
                    "{method} {target} HTTP/1.1\r\nhost: h{host:x}.example\r\nuser-agent: u{host:x}\r\ncontent-length: 0\r\n\r\n"
                ),
            );
        }
    };
    storm(100);
    let before = series(&gate.metrics());
    storm(1000);
    let after = series(&gate.metrics());
    let new: Vec<_> = after
        .keys()
        .filter(|key| !before.contains_key(*key))
        .collect();
    assert!(new.is_empty(), "{new:?}");
    let other = "tollgate_requests_total{code=\"2xx\",method=\"other\",route=\"open\"}";
    assert!(after[other] > before[other], "{other}");
}

#[test]
fn the_workers_counts_are_summed() {
    let upstream = Upstream::start();
    let gate = Builder::standard(
        upstream.address,
        ROUTES.split_once("  - { path: /down").unwrap().0,
    )
    .start();
    let token = sign(&claims());
    // Each connection is the system's choice of a worker.
    for _ in 0..64 {
        assert_eq!(gate.get("/api/a", &token).status, 200);
    }
    gate.wait_for_metric(
        "tollgate_requests_total{code=\"2xx\",method=\"GET\",route=\"api\"}",
        64.0,
    );
    let (hits, misses) = (
        "tollgate_token_cache_lookups_total{result=\"hit\"}",
        "tollgate_token_cache_lookups_total{result=\"miss\"}",
    );
    assert_eq!((gate.metric(hits), gate.metric(misses)), (63.0, 1.0));
    assert_eq!(gate.metric("tollgate_token_cache_entries"), 1.0);
    let expired = {
        let mut claims = claims();
        claims["exp"] = 1.into();
        sign(&claims)
    };
    for wrong in [&*expired, &sign_as("rt+jwt", &claims()), "a.b.c"] {
        assert_eq!(gate.get("/api/a", wrong).status, 401);
        assert_eq!(gate.get("/api/a", wrong).status, 401);
    }
    assert_eq!((gate.metric(hits), gate.metric(misses)), (63.0, 7.0));
    assert_eq!(gate.metric("tollgate_token_cache_entries"), 1.0);
    let mut streams: Vec<_> = (0..16).map(|_| connect(gate.address())).collect();
    let sample = "tollgate_connections_open{listener=\"127.0.0.1:0\"}";
    gate.wait_for_metric(sample, 16.0);
    streams.truncate(5);
    gate.wait_for_metric(sample, 5.0);
}

#[test]
fn histograms_are_cumulative_and_agree_with_their_counts() {
    let metrics = busy_gate().metrics();
    let mut histograms = BTreeMap::<String, Vec<(f64, f64)>>::new();
    let series = series(&metrics);
    for line in metrics.lines().filter(|line| line.contains("_bucket{")) {
        let (sample, count) = line.rsplit_once(' ').unwrap();
        let (rest, limit) = sample.split_once("le=\"").unwrap();
        let limit = limit
            .trim_end_matches("\"}")
            .replace("+Inf", "inf")
            .parse()
            .unwrap();
        let name = rest.trim_end_matches(',').replace("_bucket{", "_count{") + "}";
        histograms
            .entry(name)
            .or_default()
            .push((limit, count.parse().unwrap()));
    }
    assert!(histograms.len() > 5, "{histograms:?}");
    for (name, buckets) in &histograms {
        assert!(buckets.is_sorted(), "{name}: {buckets:?}");
        assert!(
            buckets.is_sorted_by_key(|(_, count)| *count),
            "{name}: {buckets:?}"
        );
        let (limit, count) = buckets.last().unwrap();
        assert!(limit.is_infinite(), "{name}");
        assert_eq!(*count, series[name], "{name}");
        let sum = series[&name.replace("_count{", "_sum{")];
        assert_eq!(sum > 0.0, *count > 0.0, "{name}: {sum}");
    }
}

/// All samples by name and labels.
fn series(metrics: &str) -> BTreeMap<String, f64> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| line.rsplit_once(' ').unwrap());
    samples
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}
