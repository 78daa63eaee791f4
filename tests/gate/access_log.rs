//! Does every exchange leave one true line, and no secret anywhere?

use std::io::Write;

use serde_json::{Value, json};

use crate::support::client::{Response, send};
use crate::support::gate::{Builder, Gate, claims, sign, sign_as};
use crate::support::reload::{Verdict, reload};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - path: /api/**
    name: api
    upstream: app
    require: { scopes: [ admin ] }
    credential: { basic: { username: gate, password_file: upstream-password } }
  - { path: /own/**, name: own, upstream: app, credential: login }
  - { path: /open/**, name: open, upstream: app, public: true }
  - { path: /down/**, name: down, upstream: down, public: true }
";

fn start(upstream: &Upstream, log: &str) -> Gate {
    let app = format!(
        "  app: {{ endpoints: [ \"http://{}\" ] }}\n  down: {{ endpoints: [ \"http://127.0.0.1:1\" ] }}",
        upstream.address
    );
    Builder::with_extra(upstream.address, ROUTES, &format!("log: {{ {log} }}"))
        .line("  app:", &app)
        .start()
}

/// Method, target, `root`'s token or another; what the line says; why.
const EXCHANGES: &str = r#"
GET /api/a%2Cb?x=1 root     | INFO 200 api        | "upstream":"app","subject":"root"                             | passed
PUT /open/a root            | INFO 200 open       | "upstream":"app"                                              | a public route knows no subject
GET /api/b a.b.c            | INFO 401 api        | "reason":"malformed_token","side":"downstream"                | refused
GET /c root                 | INFO 404 (none)     | "reason":"route_not_found","side":"downstream"                | no route
DELETE /down/d root         | WARN 502 down       | "reason":"upstream_unreachable","side":"upstream","upstream":"down" | the upstream is down
POST /auth/authenticate x   | INFO 400 (endpoint) | "reason":"malformed_request","side":"downstream","dialect":"memphis" | an endpoint
"#;

#[test]
fn an_exchange_leaves_one_line_with_its_facts() {
    let upstream = Upstream::start();
    let gate = start(&upstream, "");
    let good = sign(&claims());
    for row in EXCHANGES.lines().filter(|row| !row.is_empty()) {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let request: Vec<_> = columns[0].split(' ').collect();
        let [method, target, token] = request[..] else {
            panic!("{row}")
        };
        let token = if token == "root" { &good } else { token };
        let response = gate.request(
            method,
            target,
            &format!("authorization: Bearer {token}\r\n"),
        );
        let path = target.split('?').next().unwrap();
        let line = gate.exchange(path);
        let status = line["http.response.status_code"].as_u64().unwrap();
        let (level, route) = (line["level"].as_str(), line["http.route"].as_str());
        let told = format!("{} {status} {}", level.unwrap(), route.unwrap());
        assert_eq!(told, columns[1], "{row}");
        assert_eq!(status, u64::from(response.status), "{row}");
        assert_eq!(line["http.request.method"], method, "{row}");
        assert_eq!(line["client.address"], "127.0.0.1", "{row}");
        let id = line["request_id"].as_str();
        assert_eq!(response.header("x-request-id"), id, "{row}");
        let duration = |field: &str| line[field].as_f64().unwrap();
        assert!(
            (0.001..20_000.0).contains(&duration("duration_ms")),
            "{row}: {line}"
        );
        let waited = duration("upstream_duration_ms");
        assert!(waited <= duration("duration_ms"), "{row}: {line}");
        let expected: Value = serde_json::from_str(&format!("{{{}}}", columns[2])).unwrap();
        for field in [
            "reason",
            "side",
            "subject",
            "upstream",
            "dialect",
            "tunnel_end",
        ] {
            assert_eq!(line.get(field), expected.get(field), "{row}: {line}");
        }
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z'), "{row}: {timestamp}");
    }
    assert_eq!(gate.exchanges().len(), 6, "{}", gate.log());
}

#[test]
fn a_clients_well_formed_request_id_is_kept_and_any_other_replaced() {
    let upstream = Upstream::start();
    let gate = start(&upstream, "");
    let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
    for (given, is_kept) in [
        ("abc-123_X.y", true),
        (&*longest, true),
        (&*too_long, false),
        ("", false),
        ("a b", false),
        ("a\"b", false),
        ("a/b", false),
        ("\u{e9}", false),
    ] {
        let response = gate.request("GET", "/open/a", &format!("x-request-id: {given}\r\n"));
        let id = response.header("x-request-id").unwrap();
        assert_eq!(id == given, is_kept, "{given}: {id}");
        assert_eq!(upstream.last().header("x-request-id"), Some(id), "{given}");
        gate.wait_for_log(id, |line| line["request_id"] == id);
        if !is_kept {
            assert_eq!(id.len(), 32, "{given}: {id}");
        }
    }
}

/// What must never be seen, besides every token that is used.
const SECRETS: [&str; 10] = [
    "hunter2-wrong-password",
    "c2VjcmV0LWNvb2tpZQ",
    "secret-in-the-query",
    "bm90LWEtYmFzaWM",
    "s3cret",
    "Z2F0ZTpzM2NyZXQ",
    "memphis\"}",
    "0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210",
    "$argon2id$",
];

/// Ways to present a token `T`: what follows the path, and header lines.
const PRESENTED: [(&str, &str); 7] = [
    ("", "authorization: Bearer T\r\n"),
    ("?authorization=T&q=secret-in-the-query", ""),
    ("?access_token=T", "authorization: Bearer T\r\n"),
    ("", "authorization: Basic T\r\n"),
    ("", "authorization: Bearer T T\r\n"),
    (
        "",
        "cookie: a=c2VjcmV0LWNvb2tpZQ; jwt=T\r\nx-api-key: T\r\n",
    ),
    (
        "",
        "x-request-id: T/T\r\nreferer: http://a/?authorization=T\r\n",
    ),
];

const PLACES: [&str; 7] = [
    "/api/a",
    "/own/a",
    "/open/refuse",
    "/api/refuse",
    "/down/a",
    "/a/../b",
    "/nowhere",
];

#[test]
fn no_secret_is_ever_told() {
    let upstream = Upstream::scripted(|seen, stream| {
        let is_refused = seen.target().contains("refuse");
        let status = if is_refused { 401 } else { 200 };
        write!(stream, "HTTP/1.1 {status} A\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let gate = start(&upstream, "level: debug");
    let login = gate.login("root", "memphis");
    let text = |name: &str| login[name].as_str().unwrap().to_owned();
    let (access, refresh) = (text("jwt"), text("jwt_refresh_token"));
    let mut expired = claims();
    expired["exp"] = 1.into();
    let expired = sign(&expired);
    let wrong_type = sign_as("rt+jwt", &claims());
    let tokens = [&*access, &refresh, &expired, &wrong_type, "bm90LWEtYmFzaWM"];
    let mut answers = Vec::new();
    for token in tokens {
        for place in PLACES {
            for (after, headers) in PRESENTED {
                let target = format!("{place}{after}").replace('T', token);
                answers.push(gate.request("GET", &target, &headers.replace('T', token)));
            }
        }
    }
    for body in [
        json!({"username": "root", "password": "hunter2-wrong-password"}),
        json!({"username": "nobody", "password": "hunter2-wrong-password"}),
        json!({"username": 1, "password": "hunter2-wrong-password"}),
        json!({"password": "hunter2-wrong-password"}),
        json!({"jwt_refresh_token": access}),
        json!({"jwt_refresh_token": expired}),
        json!({"jwt_refresh_token": 1, "password": "hunter2-wrong-password"}),
    ] {
        for path in ["/auth/authenticate", "/auth/refreshToken"] {
            answers.push(gate.post_json(path, &body.to_string()));
            let with_query = format!("{path}?q=secret-in-the-query");
            answers.push(gate.post_json(&with_query, &(body.to_string() + "}")));
        }
    }
    assert_eq!(reload(&gate), Verdict::Taken);
    wait_for("all lines", || {
        (gate.exchanges().len() == answers.len() + 1).then_some(())
    });
    let shown = |answer: &Response| format!("{:?} {}", answer.headers, answer.text());
    let answers: String = answers.iter().map(shown).collect();
    let signature = access.rsplit('.').next().unwrap();
    for (place, text) in [
        ("log", gate.log()),
        ("metrics", gate.metrics()),
        ("answers", answers),
    ] {
        for secret in tokens.iter().chain(&SECRETS).chain(&[signature]) {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "{secret} is in the {place}: {found:?}");
        }
    }
}

#[test]
fn forged_lines_stay_inside_their_field() {
    let upstream = Upstream::start();
    let gate = start(&upstream, "");
    let forged = "%0A%7B%22message%22%3A%22exchange%22%7D";
    for (index, (row, target, headers)) in [
        (
            "encoded line feed",
            format!("/open/x{forged}"),
            String::new(),
        ),
        (
            "encoded CR LF",
            format!("/open/x%0D{forged}"),
            String::new(),
        ),
        (
            "encoded quotes",
            "/open/%22,%22level%22:%22ERROR%22".to_owned(),
            String::new(),
        ),
        (
            "raw quotes",
            "/open/\",\"level\":\"ERROR\"".to_owned(),
            String::new(),
        ),
        (
            "terminal escape",
            "/open/%1B%5B2J".to_owned(),
            String::new(),
        ),
        (
            "a quoted id",
            "/open/a".to_owned(),
            "x-request-id: \",\"level\":\"ERROR\r\n".to_owned(),
        ),
        (
            "odd headers",
            "/open/b".to_owned(),
            "x-a: {\"message\":\"exchange\"}\r\nx-forwarded-for: \",\"a\":\"b\r\n".to_owned(),
        ),
        (
            "an escape in a header",
            "/open/c".to_owned(),
            "user-agent: \u{1b}[2J\r\n".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("GET {target} HTTP/1.1\r\nhost: gate.example\r\n{headers}\r\n");
        send(gate.address(), request);
        let last = format!("/open/last/{index}");
        gate.request("GET", &last, "");
        gate.exchange(&last);
        let count = gate.exchanges().len();
        assert!(count <= 2 * (index + 1), "{row}: {}", gate.log());
        for line in gate.log().lines() {
            let parsed: Result<Value, _> = serde_json::from_str(line);
            let parsed = parsed.unwrap_or_else(|error| panic!("{row}: {error}: {line}"));
            assert_ne!(parsed["level"], "ERROR", "{row}: {line}");
            assert!(!line.contains('\u{1b}'), "{row}: {line}");
        }
    }
}

#[test]
fn a_sample_of_nothing_still_logs_refusals_and_failures() {
    let upstream = Upstream::start();
    let mut gate = start(&upstream, "access_sample: 0");
    for target in [
        "/open/a",
        "/nowhere",
        "/open/b",
        "/down/c",
        "/open/d",
        "/open/last/../x",
    ] {
        gate.request("GET", target, "");
    }
    assert_eq!(
        logged_paths(&mut gate),
        ["/down/c", "/nowhere", "/open/last/../x"]
    );
}

#[test]
fn a_sample_of_half_logs_about_half() {
    let upstream = Upstream::start();
    let mut gate = start(&upstream, "access_sample: 0.5");
    for _ in 0..200 {
        gate.request("GET", "/open/a", "");
    }
    gate.end();
    let count = gate.exchanges().len();
    assert!((50..150).contains(&count), "{count} of 200");
}

#[test]
fn the_level_decides_what_is_logged() {
    for (level, expected) in [
        ("debug", &["/b", "/down/c", "/open/a"][..]),
        ("info", &["/b", "/down/c", "/open/a"]),
        ("warn", &["/down/c"]),
    ] {
        let upstream = Upstream::start();
        let mut gate = start(&upstream, &format!("level: {level}"));
        for target in ["/open/a", "/b", "/down/c"] {
            gate.request("GET", target, "");
        }
        assert_eq!(logged_paths(&mut gate), expected, "{level}");
    }
}

/// The paths of all exchanges that were logged, in alphabetical order: each worker writes its
/// lines in batches.
fn logged_paths(gate: &mut Gate) -> Vec<String> {
    gate.end();
    let lines = gate.exchanges();
    let paths = lines
        .iter()
        .map(|line| line["url.path"].as_str().unwrap().to_owned());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    paths
}

#[test]
fn level_and_sample_of_a_new_config_hold_at_once() {
    let upstream = Upstream::start();
    let mut gate = start(&upstream, "level: warn, access_sample: 1");
    let first = "level: warn, access_sample: 1";
    let config = std::fs::read_to_string(gate.folder().path().join("tollgate.yaml")).unwrap();
    let steps = [
        ("/open/warn", first),
        ("/open/info", "level: info, access_sample: 1"),
        ("/open/none", "level: info, access_sample: 0"),
        ("/open/all", "level: debug, access_sample: 1"),
        ("/open/error", "level: error, access_sample: 1"),
        ("/open/again", "level: info"),
    ];
    for (count, (path, log)) in steps.into_iter().enumerate() {
        if count > 0 {
            let config = config.replace(first, log);
            gate.folder().write("tollgate.yaml", config);
            gate.signal("HUP");
            gate.wait_for_metric(
                "tollgate_config_reloads_total{result=\"ok\"}",
                f64::from(u32::try_from(count).unwrap()),
            );
        }
        assert_eq!(gate.request("GET", path, "").status, 200);
        gate.wait_for_metric("tollgate_requests_in_flight{route=\"open\"}", 0.0);
    }
    assert_eq!(
        logged_paths(&mut gate),
        ["/open/again", "/open/all", "/open/info"]
    );
    let log = gate.log();
    assert!(!log.contains("wait for a restart"), "{log}");
}
