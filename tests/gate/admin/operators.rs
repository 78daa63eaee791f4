//! Where other machines reach the admin listener, who may ask?

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use super::{JSON, ask, ask_as};
use crate::support::client::{Response, connect_tls, read_response};
use crate::support::gate::{Builder, Gate, run, self_signed, users};
use crate::support::upstream::Upstream;
use crate::support::{rows, wait_for};

const ROUTES: &str = "  - { path: /api/**, upstream: app }";
/// Only this machine reaches it, but the gate does not count it as loopback.
const ELSEWHERE: &str = "[::ffff:127.0.0.1]:0";

fn builder(upstream: &Upstream, admin: &str) -> Builder {
    let line = format!("admin: {{ {admin} }}").replace("ELSEWHERE", &format!("\"{ELSEWHERE}\""));
    Builder::standard(upstream.address, ROUTES)
        .line("admin:", &line)
        .certificate("a", &["admin.example"])
        .file(
            "operators.yaml",
            users(&[("olga", "operators-password", "[]")]),
        )
}

fn basic(name: &str, password: &str) -> String {
    let pair = STANDARD.encode(format!("{name}:{password}"));
    format!("authorization: Basic {pair}\r\n")
}

/// Config; then what `/livez`, `/metrics`, `/status` get without credentials, and `/status` with.
const KINDS: &str = r#"
address: "127.0.0.1:0"                                                   | 200 | 200 | 200 | 200
address: "127.0.0.1:0", users_file: operators.yaml                       | 200 | 200 | 401 | 200
address: ELSEWHERE, danger_public: true                                  | 200 | 200 | 403 | 403
address: ELSEWHERE, users_file: operators.yaml, danger_plaintext: true   | 200 | 401 | 401 | 200
address: ELSEWHERE, users_file: operators.yaml, danger_plaintext: true, danger_public: true | 200 | 200 | 401 | 200
"#;

#[test]
fn off_loopback_only_probes_are_told_without_credentials() {
    let upstream = Upstream::start();
    for row in rows(KINDS) {
        let gate = builder(&upstream, row[0]).start();
        let host = format!("localhost:{}", gate.admin.port());
        let get = |path, headers: &str| ask_as(&gate, &host, "GET", path, headers, "").status;
        let good = basic("olga", "operators-password");
        let found = [
            get("/livez", ""),
            get("/metrics", ""),
            get("/status", ""),
            get("/status", &good),
        ];
        let found = found.map(|status| status.to_string());
        assert_eq!(found, [row[1], row[2], row[3], row[4]], "{}", row[0]);
        for path in ["/", "/keys", "/config", "/sessions", "/admin.js"] {
            assert_eq!(get(path, "").to_string(), row[3], "{} {path}", row[0]);
            assert_eq!(get(path, &good).to_string(), row[4], "{} {path}", row[0]);
        }
        let revoke = |headers: &str| {
            let headers = format!("{JSON}{headers}");
            ask_as(
                &gate,
                &host,
                "POST",
                "/revoke",
                &headers,
                r#"{"family":"x"}"#,
            )
            .status
        };
        assert_eq!(revoke("").to_string(), row[3], "{}", row[0]);
        assert_eq!(revoke(&good).to_string(), row[4], "{}", row[0]);
    }
}

/// Config, and what is said of it; nothing: it can be served.
const CONFIGS: &str = r#"
address: "0.0.0.0:0"                                                | admin.address: other machines could ask whatever they like
address: "[::]:0"                                                   | admin.address: other machines
address: "192.0.2.1:9901"                                           | admin.address: other machines
address: ELSEWHERE                                                  | admin.address: other machines
address: "0.0.0.0:0", danger_public: true                           |
address: "0.0.0.0:0", users_file: operators.yaml                    | admin.users_file: operators' passwords would come over plain HTTP
address: "0.0.0.0:0", users_file: operators.yaml, danger_public: true | admin.users_file: operators' passwords
address: "0.0.0.0:0", users_file: operators.yaml, danger_plaintext: true |
address: "0.0.0.0:0", users_file: operators.yaml, tls: { certificate: a.crt, private_key: a.key } |
address: "0.0.0.0:0", tls: { certificate: a.crt, private_key: a.key } | admin.address: other machines
address: "127.0.0.1:0", users_file: operators.yaml                  |
address: "127.0.0.1:0", users_file: nobody.yaml                     | admin.users_file: has no user with a `password_hash`
address: "127.0.0.1:0", users_file: missing.yaml                    | admin.users_file
address: "127.0.0.1:0", tls: { certificate: a.crt, private_key: missing } | admin.tls.private_key
"#;

#[test]
fn an_admin_listener_that_anybody_could_ask_is_refused() {
    let upstream = Upstream::start();
    for row in rows(CONFIGS) {
        let builder = builder(&upstream, row[0]).file("nobody.yaml", "users: [ { name: a } ]\n");
        let output = builder.run_to_end(&["check"]);
        let said = String::from_utf8(output.stderr).unwrap();
        match row[1] {
            "" => {
                assert_eq!(output.status.code(), Some(0), "{}: {said}", row[0]);
                let told = String::from_utf8(output.stdout).unwrap();
                let admin = told.lines().find(|line| line.starts_with("admin"));
                let has = |part| admin.unwrap().contains(part);
                assert_eq!(
                    has("for its users"),
                    row[0].contains("users_file"),
                    "{told}"
                );
                assert_eq!(has("https://"), row[0].contains("tls"), "{told}");
            }
            wrong => {
                assert_eq!(output.status.code(), Some(2), "{}", row[0]);
                assert!(said.contains(wrong), "{}: {said}", row[0]);
            }
        }
    }
}

#[test]
fn who_guesses_an_operators_password_has_to_wait_and_is_in_no_log() {
    let upstream = Upstream::start();
    let gate = builder(
        &upstream,
        "address: \"127.0.0.1:0\", users_file: operators.yaml",
    )
    .line(
        "reload:",
        "reload: { interval: 0s }\nthrottle: { free_failures: 2, base_delay: 5m, max_delay: 5m }",
    )
    .start();
    let ask = |headers: &str| ask(&gate, "GET", "/status", headers, "");
    let wrong = |response: &Response| {
        let challenge = response.header("www-authenticate").unwrap().to_owned();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    };
    for headers in [
        "",
        "authorization: Bearer x.y.z\r\n",
        "authorization: Basic ***\r\n",
        &format!(
            "{}{}",
            basic("olga", "operators-password"),
            basic("olga", "x")
        ),
        // The gate's users are not its operators.
        &basic("root", "memphis"),
        &basic("olga", ""),
        &basic("olga", "guessed-password-1"),
        &basic("nobody", "guessed-password-2"),
    ] {
        let response = ask(headers);
        assert_eq!(response.status, 401, "{headers}");
        wrong(&response);
    }
    // She has failed twice up to now; the third is the first that delays.
    assert_eq!(ask(&basic("olga", "guessed-password-3")).status, 401);
    let response = ask(&basic("olga", "operators-password"));
    assert_eq!(response.status, 429);
    assert!(response.header("retry-after").is_some());
    // Clients' logins count apart.
    gate.token("root", "memphis");
    for text in [gate.log(), gate.metrics()] {
        for secret in ["guessed-password", "operators-password"] {
            assert!(!text.contains(secret));
        }
    }
}

#[test]
fn operators_come_over_tls_and_change_with_their_file() {
    let upstream = Upstream::start();
    let admin = "address: ELSEWHERE, users_file: operators.yaml, tls: { certificate: a.crt, private_key: a.key }";
    let builder = builder(&upstream, admin);
    let trusted = std::fs::read_to_string(builder.folder().path().join("a.crt")).unwrap();
    let gate = builder.start();
    let get = |gate: &Gate, path: &str, headers: &str, alpn: &str| {
        let versions = [&TLS12, &TLS13];
        let address = gate.admin;
        let mut stream = connect_tls(address, "admin.example", &trusted, &[alpn], &versions);
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: admin.example\r\n{headers}connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        read_response(&mut stream, false).status
    };
    let olga = basic("olga", "operators-password");
    assert_eq!(get(&gate, "/readyz", "", "http/1.1"), 200);
    assert_eq!(get(&gate, "/status", "", "http/1.1"), 401);
    assert_eq!(get(&gate, "/status", &olga, "http/1.1"), 200);
    assert_eq!(get(&gate, "/sessions", &olga, "http/1.1"), 200);
    let others = users(&[("oleg", "another-password", "[]")]);
    gate.folder().write("operators.yaml", others);
    gate.signal("HUP");
    let oleg = basic("oleg", "another-password");
    wait_for("the new operator", || {
        (get(&gate, "/status", &oleg, "http/1.1") == 200).then_some(())
    });
    assert_eq!(get(&gate, "/status", &olga, "http/1.1"), 401);
}

#[test]
fn the_admin_listeners_certificate_is_told_and_changes_with_its_file() {
    let upstream = Upstream::start();
    let admin = "address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key }";
    let gate = builder(&upstream, admin).start();
    let folder = gate.folder();
    let certificates = |trusted: &str, name: &str| {
        let mut stream = connect_tls(gate.admin, name, trusted, &[], &[&TLS13]);
        let head = "GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        // A certificate that is not trusted yet ends the handshake.
        stream.write_all(head.as_bytes()).ok()?;
        let status = read_response(&mut stream, false).json();
        Some(status["certificates"].clone())
    };
    let is_of = |told: &Value, name: &str| {
        let told = told.as_array().unwrap();
        told.len() == 1
            && (&told[0]["listener"], &told[0]["name"]) == (&json!("(admin)"), &json!(name))
    };
    let trusted = std::fs::read_to_string(folder.path().join("a.crt")).unwrap();
    assert!(is_of(
        &certificates(&trusted, "admin.example").unwrap(),
        "admin.example"
    ));
    let (next, key) = self_signed(&["other.example"]);
    folder.write("a.crt", &next);
    folder.write("a.key", key);
    gate.signal("HUP");
    let told = wait_for("the new certificate", || {
        certificates(&next, "other.example")
    });
    assert!(is_of(&told, "other.example"), "{told}");
}

/// The exit code and what was said.
fn tollgate(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let output = run(arguments, input);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn commands_ask_as_an_operator_and_trust_one_certificate() {
    let upstream = Upstream::start();
    let admin = "address: ELSEWHERE, users_file: operators.yaml, tls: { certificate: a.crt, private_key: a.key }";
    let gate = builder(&upstream, admin)
        .certificate("b", &["admin.example"])
        .start();
    let token = gate.token("root", "memphis");
    let place = gate.admin.to_string();
    let file = |name: &str| gate.folder().path().join(name).to_str().unwrap().to_owned();
    let (ca, other) = (file("a.crt"), file("b.crt"));
    let there = ["--admin", &place, "--ca", &ca, "--ca-name", "admin.example"];
    let ask = |command: &[&str], input| tollgate(&[command, &there].concat(), input);
    assert_eq!(ask(&["healthcheck"], ""), (Some(0), "ok\n".to_owned()));
    let revoke = ["token", "revoke", "--subject", "root"];
    let (code, said) = ask(&revoke, "");
    assert!(code == Some(1) && said.contains("401"), "{said}");
    let revoke = [&revoke[..], &["--operator", "olga"]].concat();
    let (code, said) = ask(&revoke, "wrong-password\n");
    assert!(
        code == Some(1) && said.contains("401") && !said.contains("wrong-password"),
        "{said}"
    );
    assert_eq!(gate.get("/api/x", &token).status, 200);
    assert_eq!(
        ask(&revoke, "operators-password\n"),
        (Some(0), "revoked\n".to_owned())
    );
    assert_eq!(gate.get("/api/x", &token).status, 401);
    let (code, said) = ask(
        &["keys", "list", "--operator", "olga"],
        "operators-password\n",
    );
    assert!(code == Some(0) && said.contains("k1"), "{said}");
    for wrong in [
        &[
            "--admin",
            &place,
            "--ca",
            &other,
            "--ca-name",
            "admin.example",
        ][..],
        &["--admin", &place, "--ca", &ca, "--ca-name", "other.example"],
        &["--admin", &place, "--ca", &ca],
        &["--admin", &place],
    ] {
        let (code, said) = tollgate(&[&["healthcheck"], wrong].concat(), "");
        assert_eq!(code, Some(1), "{wrong:?}: {said}");
    }
}

#[test]
fn a_revocation_names_its_operator_in_the_log() {
    let upstream = Upstream::start();
    let admin = "address: \"127.0.0.1:0\", users_file: operators.yaml";
    let gate = builder(&upstream, admin).start();
    let token = gate.token("root", "memphis");
    let headers = format!("{JSON}{}", basic("olga", "operators-password"));
    let body = json!({"subject": "root"}).to_string();
    assert_eq!(ask(&gate, "POST", "/revoke", &headers, &body).status, 200);
    assert_eq!(gate.get("/api/x", &token).status, 401);
    let line = gate.wait_for_log("the revocation", |line| {
        line["message"] == "tokens were taken back by the admin listener"
    });
    assert_eq!(
        (&line["operator"], &line["what"]),
        (&json!("olga"), &json!("subject"))
    );
}
