//! The commands besides serving, and what a running gate makes of a new config.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::gate::{Builder, Folder, claims, run, sign, sign_as, spawn_piped};
use crate::support::reload::{Verdict, reload_with};
use crate::support::tokens::{claims_of, header_of, with_claim};
use crate::support::unix_now;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    require: { scopes: [ admin ] }
";

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn inspect(config: &Path, token: &str) -> Output {
    let config = config.to_str().unwrap();
    run(
        &["token", "inspect", "--config", config],
        &format!("{token}\n"),
    )
}

#[test]
fn a_minted_token_opens_the_gate_and_passes_inspection() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let file = gate.folder().path().join("tollgate.yaml");
    let path = file.to_str().unwrap();
    let mint = ["token", "mint", "--config", path, "--subject", "ci"];
    for (more, scope, lifetime, status) in [
        (
            &["--scope", "admin other", "--ttl", "5m"][..],
            "admin other",
            300,
            200,
        ),
        (&["--scope", "admin"], "admin", 900, 200),
        (
            &["--scope", "admin", "--ttl", "9days"],
            "admin",
            86_400,
            200,
        ),
        (&[], "", 900, 403),
    ] {
        let output = run(&[&mint, more].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{more:?}");
        let token = stdout(&output);
        let token = token.trim();
        let claims = claims_of(token);
        let span = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!((&claims["sub"], span), (&"ci".into(), lifetime), "{more:?}");
        assert_eq!(header_of(token)["typ"], "at+jwt", "{more:?}");
        assert_eq!(gate.get("/api/a", token).status, status, "{more:?}");
        let inspected = inspect(&file, token);
        assert_eq!(inspected.status.code(), Some(0), "{more:?}");
        let told = stdout(&inspected);
        for part in ["accepted", "ci", scope] {
            assert!(told.contains(part), "{more:?}: {told}");
        }
        assert!(!told.contains(token), "{more:?}");
    }
}

#[test]
fn inspection_says_why_a_token_is_refused() {
    let gate = Builder::standard(Upstream::start().address, ROUTES).start();
    let file = gate.folder().path().join("tollgate.yaml");
    for (token, reason) in [
        (with_claim("exp", (unix_now() - 1).into()), "expired"),
        (with_claim("aud", "other".into()), "wrong_audience"),
        (sign_as("rt+jwt", &claims()), "wrong_type"),
        (format!("{}A", sign(&claims())), "invalid_signature"),
        ("junk".to_owned(), "malformed_token"),
    ] {
        let output = inspect(&file, &token);
        assert_eq!(output.status.code(), Some(1), "{reason}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(reason), "{reason}: {stderr}");
        assert!(!stderr.contains(&token), "{reason}");
    }
}

#[test]
fn the_schema_names_every_section() {
    let output = run(&["schema"], "");
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    for key in [
        "listeners",
        "admin",
        "workers",
        "tokens",
        "identity",
        "upstreams",
        "login",
        "routes",
        "limits",
        "log",
        "drain",
    ] {
        assert!(properties[key]["description"].is_string(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_references_in_docs_are_what_the_code_says() {
    for topic in ["config", "metrics"] {
        let output = run(&["reference", topic], "");
        assert_eq!(output.status.code(), Some(0));
        let file = format!("{}/docs/{topic}.md", env!("CARGO_MANIFEST_DIR"));
        let kept = std::fs::read_to_string(&file).unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(
            kept == told,
            "make it anew: tollgate reference {topic} > docs/{topic}.md"
        );
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_help_is_0() {
    for (arguments, code) in [
        (&[][..], 2),
        (&["serve"], 2),
        (&["run"], 2),
        (&["run", "--config"], 2),
        (&["run", "--config", "/nowhere/tollgate.yaml"], 2),
        (&["check", "--config", "/nowhere/tollgate.yaml"], 2),
        (&["check", "--confg", "x"], 2),
        (&["token"], 2),
        (&["token", "mint", "--config", "x"], 2),
        (
            &[
                "token",
                "mint",
                "--config",
                "x",
                "--subject",
                "a",
                "--ttl",
                "soon",
            ],
            2,
        ),
        (&["hash-password", "--algorithm", "md5"], 2),
        (&["--help"], 0),
        (&["run", "--help"], 0),
        (&["token", "mint", "--help"], 0),
        (&["--version"], 0),
    ] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(output.stdout.is_empty(), code == 2, "{arguments:?}");
        assert_eq!(output.stderr.is_empty(), code == 0, "{arguments:?}");
    }
    let help = stdout(&run(&["--help"], ""));
    for command in ["run", "check", "demo", "hash-password", "token", "schema"] {
        assert!(help.contains(&format!("  {command}")), "{command}: {help}");
    }
}

#[test]
fn a_config_that_is_no_file_of_text_is_refused() {
    let folder = Folder::new();
    for (case, bytes) in [
        ("nothing", &b""[..]),
        ("not UTF-8", b"\xff\xfe\x00"),
        ("a list", b"- a\n- b\n"),
        ("a secret", b"hunter2hunter2hunter2hunter2hunt"),
        ("deep", "[".repeat(100_000).as_bytes()),
        ("a bomb", b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nlisteners: [*e,*e,*e,*e,*e,*e]\n"),
    ] {
        let file = folder.write("tollgate.yaml", bytes);
        let output = run(&["check", "--config", file.to_str().unwrap()], "");
        assert_eq!(output.status.code(), Some(2), "{case}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("tollgate.yaml"), "{case}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{case}: {stderr}");
        assert!(stderr.len() < 2000, "{case}: {stderr}");
    }
}

#[test]
fn an_address_that_is_taken_is_a_failure_with_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (from, to) in [
        (
            "listeners: [ { address: \"127.0.0.1:0\" } ]",
            format!("listeners: [ {{ address: \"{address}\" }} ]"),
        ),
        (
            "admin: { address: \"127.0.0.1:0\" }",
            format!("admin: {{ address: \"{address}\" }}"),
        ),
    ] {
        let builder = Builder::standard(address.parse().unwrap(), ROUTES).edit(from, &to);
        let output = builder.run_to_end(&["run"]);
        assert_eq!(output.status.code(), Some(1), "{to}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(&address), "{stderr}");
        assert!(!stdout_has_ready(&output.stdout), "{to}");
    }
}

fn stdout_has_ready(stdout: &[u8]) -> bool {
    String::from_utf8_lossy(stdout)
        .lines()
        .any(|line| line == "ready")
}

#[test]
fn a_new_config_is_taken_live_and_a_broken_one_is_refused_and_told() {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, ROUTES);
    let good = builder.config().to_owned();
    let gate = builder.start();
    let token = sign(&claims());
    for (case, config) in [
        ("not YAML", "routes: [".to_owned()),
        ("an unknown key", good.replace("issuer:", "isuer:")),
        (
            "a missing file",
            good.replace("secret_file: k1", "secret_file: nowhere"),
        ),
        (
            "no key",
            good.replace("{ id: k1, algorithm: HS256, secret_file: k1 }", ""),
        ),
        ("nothing", String::new()),
    ] {
        assert_eq!(reload_with(&gate, &config), Verdict::Refused, "{case}");
        assert_eq!(gate.get("/api/a", &token).status, 200, "{case}");
    }
    let told = gate.wait_for_log("the refused config", |line| {
        line["level"] == "ERROR" && line.to_string().contains("isuer")
    });
    assert!(told.to_string().contains("issuer"), "{told}");
    assert!(gate.metric("tollgate_config_last_reload_successful") < 0.5);

    let moved = good.replace("/api/**", "/moved/**");
    assert_eq!(reload_with(&gate, &moved), Verdict::Taken);
    assert_eq!(gate.get("/api/a", &token).status, 404);
    assert_eq!(gate.get("/moved/a", &token).status, 200);
    assert!(gate.metric("tollgate_config_last_reload_successful") > 0.5);
}

#[test]
fn a_reader_that_has_left_is_no_reason_to_panic() {
    for arguments in [&["schema"][..], &["--help"], &["hash-password"]] {
        let mut child = spawn_piped(arguments);
        drop(child.stdout.take());
        // It waits for a password until its reader is gone for sure.
        let _ = child.stdin.take().unwrap().write_all(b"a password\n");
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    }
}

#[test]
fn a_check_tells_where_logins_are_what_routes_require_and_which_dangers_are_meant() {
    let routes = "
  - path: /api/{sub}/**
    host: A.Example
    methods: [ GET, PUT ]
    name: own
    upstream: app
    require:
      scopes: [ read, write ]
      groups: [ ops, devices ]
      claims: { tenant: { equals: acme }, line: { one_of: [ a, b ] }, zone: { prefix: eu- } }
  - { path: /plain/**, upstream: app }
  - { path: /basic/**, upstream: app, basic: {} }
  - { path: '/**', upstream: danger_zone, public: true, danger_unanchored: true }
";
    let address = Upstream::start().address;
    let builder = Builder::standard(address, routes)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\" }, { address: \"0.0.0.0:0\", name: outside, danger_plaintext: true, trusted_proxies: [ 10.0.0.0/8 ], danger_trust_everyone: false } ]")
        .edit("login: [ { dialect: memphis } ]", "login: [ { dialect: memphis }, { dialect: jmvstream, listener: outside, host: b.example, prefix: /x } ]")
        .edit("upstreams:", "upstreams:\n  danger_zone: { endpoints: [ \"http://192.0.2.1:80\" ], danger_plaintext: true }")
        .edit("interval: 0s", "interval: 2s")
        .edit("secret_file: k1", "secret_file: short, danger_short_secret: true")
        .file("short", "short");
    let told = stdout(&builder.run_to_end(&["check"]));
    let lines: Vec<_> = told.lines().collect();
    let upstream = format!("upstream  app at http://{address}");
    for line in [
        "listener  http://127.0.0.1:0",
        "listener  http://0.0.0.0:0 called outside behind 10.0.0.0/8",
        "admin     http://127.0.0.1:0",
        "login     memphis at /auth/authenticate, /auth/refreshToken",
        "login     jmvstream on outside at b.example/x/v1/authenticate",
        &upstream,
        "route     own: GET,PUT A.Example/api/{sub}/** -> app: a good token; the scopes read write; one of the groups ops, devices; the claim line one of a, b; the claim tenant equal to acme; the claim zone beginning with eu-; segment 2 of the path a value of sub",
        "route     /plain/** -> app: a good token",
        "route     /basic/** -> app: a good token, or Basic",
        "route     /** -> danger_zone: PUBLIC",
        "reload    of changed files, looked at every 2s",
        "DANGER    listeners[1].danger_plaintext",
        "DANGER    tokens.keys[0].danger_short_secret",
        "DANGER    upstreams.danger_zone.danger_plaintext",
        "DANGER    routes[3].danger_unanchored",
    ] {
        assert!(lines.contains(&line), "no `{line}` in:\n{told}");
    }
    assert_eq!(told.matches("DANGER").count(), 4, "{told}");
    // However the file may write what is true.
    for way in ["yes", "on", "y", "TRUE"] {
        let builder = Builder::standard(address, routes)
            .edit(
                "danger_unanchored: true",
                &format!("danger_unanchored: {way}"),
            )
            .edit("upstream: danger_zone", "upstream: app");
        let output = builder.run_to_end(&["check"]);
        let is_told = stdout(&output).contains("routes[3].danger_unanchored");
        assert_eq!(is_told, output.status.success(), "{way}");
    }
}

#[test]
fn a_healthcheck_succeeds_only_at_a_gate_that_answers() {
    let gate = Builder::standard(Upstream::start().address, ROUTES).start();
    let check =
        |admin: &str, more: &[&str]| run(&[&["healthcheck", "--admin", admin], more].concat(), "");
    let admin = gate.admin.to_string();
    let ready = check(&admin, &[]);
    assert_eq!((ready.status.code(), &*stdout(&ready)), (Some(0), "ok\n"));
    assert_eq!(check(&admin, &["--live"]).status.code(), Some(0));

    // Its connections wait in the backlog, and nobody answers them.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().map(|it| (it.to_string(), mute)).unwrap();
    let silence = check(&mute.0, &[]);
    assert_eq!(silence.status.code(), Some(1));
    let said = String::from_utf8_lossy(&silence.stderr);
    assert!(said.contains("no answer"), "{said}");
    let (gone, listener) = mute;
    drop(listener);
    assert_eq!(check(&gone, &[]).status.code(), Some(1));
}
