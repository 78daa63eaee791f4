//! `tollgate explain` says what the gate would do, and why.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::support::gate::{BINARY, Builder, Gate};
use crate::support::tokens::{with_claim, with_claims};
use crate::support::upstream::Upstream;

const ROUTES: &str = r#"  - path: "/stations/{claim:station}/**"
    methods: [ POST ]
    upstream: app
    require: { scopes: [ produce ], groups: [ ops, devices ], claims: { tenant: { prefix: ac } } }
    credential: { basic: { username: gate, password_file: upstream-password } }
    set_headers: { X-Shown: plain }
  - { path: /own/**, upstream: app, credential: login }
  - { path: /open/**, upstream: app, public: true }
"#;

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

fn explain(gate: &Gate, method: &str, target: &str, token: Option<&str>) -> Output {
    let url = format!("https://gate.example{target}");
    let mut command = Command::new(BINARY);
    command
        .arg("explain")
        .arg("--config")
        .arg(gate.folder().path().join("tollgate.yaml"));
    command.args([method, &url]);
    if token.is_some() {
        command.args(["--token", "-"]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = format!("{}\n", token.unwrap_or_default());
    // Without a token it does not read.
    let _ = child.stdin.take().unwrap().write_all(line.as_bytes());
    child.wait_with_output().unwrap()
}

fn device() -> String {
    with_claims(|claims| {
        claims["scope"] = "produce read".into();
        claims["groups"] = serde_json::json!(["devices"]);
        claims["tenant"] = "acme".into();
        claims["station"] = serde_json::json!(["north", "south"]);
    })
}

#[test]
fn it_tells_the_route_its_demands_what_the_token_has_and_what_the_upstream_gets() {
    let (_upstream, gate) = start();
    let token = device();
    let target = "/stations/north/produce/single?a=%2F";
    let output = explain(&gate, "post", target, Some(&token));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "request    POST https://gate.example/stations/north/produce/single",
        "route      POST /stations/{claim:station}/**",
        "requires   a good token; the scopes produce; one of the groups ops, devices; the claim \
         tenant beginning with ac; segment 2 of the path a value of station",
        "credential header",
        "has        scopes: produce read; groups: devices; tenant: acme; station: north, south",
        "upstream   app",
        "gets       POST /stations/north/produce/single?a=%2F",
        "           host: gate.example",
        "           x-shown: plain",
        "           authorization: ***",
        "passes",
    ] {
        assert!(
            text.lines().any(|held| held == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.contains("token      good, of root, for "), "{text}");
    let secrets = [&*token, "s3cret", "Z2F0ZTpzM2NyZXQ="];
    assert!(
        secrets.iter().all(|secret| !text.contains(secret)),
        "{text}"
    );
}

#[test]
fn its_verdict_is_the_gates() {
    let (_upstream, gate) = start();
    let good = device();
    let other_station = "/stations/west/x";
    let stranger = with_claim("scope", "produce".into());
    let login = gate.token("root", "memphis");
    for (method, target, token, reason) in [
        ("POST", "/stations/south/x", Some(&good), None),
        ("POST", other_station, Some(&good), Some("403 not_own_path")),
        (
            "POST",
            "/stations/south/x",
            Some(&stranger),
            Some("403 wrong_group"),
        ),
        (
            "GET",
            "/stations/south/x",
            Some(&good),
            Some("405 method_not_allowed"),
        ),
        ("GET", "/nowhere", Some(&good), Some("404 route_not_found")),
        (
            "POST",
            "/stations/../x",
            Some(&good),
            Some("400 ambiguous_path"),
        ),
        ("GET", "/own/x", None, Some("401 missing_credential")),
        (
            "GET",
            "/own/x?access_token=a.b.c",
            None,
            Some("401 malformed_token"),
        ),
        (
            "GET",
            "/own/x",
            Some(&good),
            Some("403 no_upstream_credential"),
        ),
        ("GET", "/own/x", Some(&login), None),
        ("GET", "/open/x", None, None),
    ] {
        let output = explain(&gate, method, target, token.map(String::as_str));
        let errors = String::from_utf8(output.stderr).unwrap();
        let headers = token.map_or_else(String::new, |token| {
            format!("authorization: Bearer {token}\r\n")
        });
        let status = gate.request(method, target, &headers).status;
        match reason {
            None => assert_eq!(
                (output.status.code(), status),
                (Some(0), 200),
                "{target}: {errors}"
            ),
            Some(reason) => {
                assert_eq!(output.status.code(), Some(1), "{target}");
                assert!(
                    errors.contains(&format!("refused: {reason}: ")),
                    "{target}: {errors}"
                );
                assert!(
                    reason.starts_with(&status.to_string()),
                    "{target}: {status}"
                );
            }
        }
    }
    let output = explain(&gate, "POST", "/auth/authenticate", None);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("by the gate itself: Login of the dialect memphis"),
        "{text}"
    );
}
