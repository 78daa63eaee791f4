//! Who may log in, and for how long their refreshes go on.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate, hash_password, run, users};
use crate::support::reload::{Verdict, reload};
use crate::support::tokens::claims_of;
use crate::support::upstream::{Seen, Upstream};

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: login
";
const USERS: &str = "identity: [ { users_file: users.yaml } ]";
const PROBE: &str =
    "identity: [ { upstream_probe: { upstream: app, path: /whoami, scopes: [ probed ] } } ]";
const REFUSED: (u16, &str) = (401, r#"{"message":"Unauthorized"}"#);

fn login(gate: &Gate, username: &str, password: &str) -> Response {
    let body = json!({"username": username, "password": password}).to_string();
    gate.post_json("/auth/authenticate", &body)
}

fn refresh(gate: &Gate, pair: &Value) -> Response {
    let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    gate.post_json("/auth/refreshToken", &body)
}

fn verdict(response: &Response) -> (u16, String) {
    (response.status, response.text())
}

fn refused() -> (u16, String) {
    (REFUSED.0, REFUSED.1.to_owned())
}

#[test]
fn hashes_of_both_algorithms_log_in() {
    let upstream = Upstream::start();
    for (algorithm, prefix) in [("argon2id", "$argon2id$"), ("bcrypt", "$2")] {
        let hash = hash_password("pa\u{df}word: 1", algorithm);
        assert!(hash.starts_with(prefix), "{hash}");
        let file = format!("users: [ {{ name: anna, password_hash: '{hash}' }} ]");
        let gate = Builder::standard(upstream.address, ROUTES)
            .file("users.yaml", file)
            .start();
        assert_eq!(
            login(&gate, "anna", "pa\u{df}word: 1").status,
            200,
            "{algorithm}"
        );
        for wrong in ["pa\u{df}word: 2", "", "pa\u{df}word: 1 "] {
            assert_eq!(
                verdict(&login(&gate, "anna", wrong)),
                refused(),
                "{algorithm}"
            );
        }
        let other = format!(
            "users: [ {{ name: anna, password_hash: '{}' }} ]",
            hash_password("pa\u{df}word: 1", algorithm)
        );
        assert!(!other.contains(&hash), "{algorithm} has no salt");
    }
}

#[test]
fn hash_password_refuses_what_it_cannot_hash_whole() {
    let long = format!("{}\n", "x".repeat(73));
    for (case, algorithm, input) in [
        ("73 bytes for bcrypt", "bcrypt", &*long),
        ("no input", "argon2id", ""),
    ] {
        let output = run(&["hash-password", "--algorithm", algorithm], input);
        assert_eq!(output.status.code(), Some(1), "{case}");
        assert!(output.stdout.is_empty(), "{case}");
        assert!(!output.stderr.is_empty(), "{case}");
    }
}

#[test]
fn each_of_a_users_secrets_opens_only_its_own_door() {
    let upstream = Upstream::start();
    let hash = |text: &str| hash_password(text, "argon2id");
    let file = format!(
        "users:\n  - {{ name: a, password_hash: '{}', connection_token_hash: '{}' }}\n  \
         - {{ name: b, connection_token_hash: '{}' }}\n  - {{ name: c }}\n",
        hash("pass"),
        hash("token"),
        hash("token")
    );
    let gate = Builder::standard(upstream.address, ROUTES)
        .file("users.yaml", file)
        .start();
    for (body, status) in [
        (json!({"username": "a", "password": "pass"}), 200),
        (json!({"username": "a", "connection_token": "token"}), 200),
        (json!({"username": "a", "password": "token"}), 401),
        (json!({"username": "a", "connection_token": "pass"}), 401),
        (json!({"username": "b", "connection_token": "token"}), 200),
        (json!({"username": "b", "password": "token"}), 401),
        (json!({"username": "b", "password": ""}), 401),
        (json!({"username": "c", "password": ""}), 401),
        (json!({"username": "c", "connection_token": ""}), 401),
    ] {
        let response = gate.post_json("/auth/authenticate", &body.to_string());
        assert_eq!(response.status, status, "{body}");
    }
}

#[test]
fn an_empty_users_file_denies_everyone() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .file("users.yaml", "users: []\n")
        .start();
    for (name, password) in [("root", "memphis"), ("", ""), ("root", "")] {
        let status = login(&gate, name, password).status;
        assert!(
            status == 401 || (name.is_empty() && status == 400),
            "{name}: {status}"
        );
    }
}

#[test]
fn a_changed_password_ends_the_chain_of_refreshes() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let first = gate.login("root", "memphis");
    let second = refresh(&gate, &first);
    assert_eq!(second.status, 200);
    let second = second.json();

    gate.folder()
        .write("users.yaml", users(&[("root", "changed", "[ admin ]")]));
    assert_eq!(reload(&gate), Verdict::Taken);
    for pair in [&first, &second] {
        assert_eq!(verdict(&refresh(&gate, pair)), refused());
    }
    assert_eq!(verdict(&login(&gate, "root", "memphis")), refused());
    let third = gate.login("root", "changed");
    assert_eq!(refresh(&gate, &third).status, 200);
}

#[test]
fn a_removed_user_can_neither_refresh_nor_log_in() {
    let upstream = Upstream::start();
    let both = users(&[("root", "memphis", "[ admin ]"), ("anna", "x", "[]")]);
    let gate = Builder::standard(upstream.address, ROUTES)
        .file("users.yaml", &both)
        .start();
    let pair = gate.login("anna", "x");
    let kept = gate.login("root", "memphis");
    let without: Vec<_> = both.lines().filter(|line| !line.contains("anna")).collect();
    gate.folder().write("users.yaml", without.join("\n"));
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_eq!(verdict(&refresh(&gate, &pair)), refused());
    assert_eq!(verdict(&login(&gate, "anna", "x")), refused());
    assert_eq!(refresh(&gate, &kept).status, 200, "the other user goes on");
}

#[test]
fn a_refresh_takes_the_users_new_scopes() {
    let upstream = Upstream::start();
    let hash = hash_password("x", "argon2id");
    let file = |scopes: &str| {
        format!("users: [ {{ name: a, password_hash: '{hash}', scopes: [ {scopes} ] }} ]")
    };
    let gate = Builder::standard(upstream.address, ROUTES)
        .file("users.yaml", file("admin, x"))
        .start();
    let pair = gate.login("a", "x");
    assert_eq!(claims_of(pair["jwt"].as_str().unwrap())["scope"], "admin x");
    gate.folder().write("users.yaml", file("x"));
    assert_eq!(reload(&gate), Verdict::Taken);
    let pair = refresh(&gate, &pair).json();
    assert_eq!(claims_of(pair["jwt"].as_str().unwrap())["scope"], "x");
}

#[test]
fn users_of_every_users_file_log_in_and_refresh() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(
            USERS,
            "identity: [ { users_file: users.yaml }, { users_file: more.yaml } ]",
        )
        .file("more.yaml", users(&[("anna", "x", "[]")]))
        .start();
    for (name, password) in [("root", "memphis"), ("anna", "x")] {
        let pair = gate.login(name, password);
        assert_eq!(refresh(&gate, &pair).status, 200, "{name}");
    }
}

/// Answers `/whoami` with the status that the user's name names, all else with 200.
fn answer_by_name(seen: &Seen) -> String {
    let given = seen
        .header("authorization")
        .and_then(|value| value.strip_prefix("Basic "));
    let given = given.map(|text| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap());
    let name = given
        .as_deref()
        .and_then(|given| given.split(':').next())
        .unwrap_or_default();
    match name {
        "302" => "HTTP/1.1 302 Found\r\nlocation: /login?return=x\r\ncontent-length: 0\r\n\r\n"
            .to_owned(),
        "204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "401" | "403" | "404" | "429" | "500" | "503" => format!(
            "HTTP/1.1 {name} X\r\nwww-authenticate: Basic\r\ncontent-length: 7\r\n\r\nsecrets"
        ),
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
    }
}

#[test]
fn a_probe_lets_in_whom_the_upstream_lets_in() {
    let upstream = Upstream::scripted(|seen, stream| {
        stream.write_all(answer_by_name(seen).as_bytes()).is_ok()
    });
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(USERS, PROBE)
        .start();
    let error = (500, r#"{"message":"Server error"}"#.to_owned());
    for (name, expected) in [
        ("401", refused()),
        ("403", refused()),
        ("302", refused()),
        ("404", error.clone()),
        ("429", error.clone()),
        ("500", error.clone()),
        ("503", error),
    ] {
        let before = upstream.seen().len();
        let response = login(&gate, name, "p4ss:word");
        assert_eq!(verdict(&response), expected, "{name}");
        assert_eq!(response.header("www-authenticate"), None, "{name}");
        assert_eq!(response.header("location"), None, "{name}");
        assert_eq!(upstream.seen().len(), before + 1, "{name}: asked once");
    }
    for name in ["200", "204", "anna"] {
        let response = login(&gate, name, "p4ss:word");
        assert_eq!(response.status, 200, "{name}");
        let seen = upstream.last();
        assert!(
            seen.head.starts_with("GET /whoami HTTP/1.1\r\n"),
            "{}",
            seen.head
        );
        assert_eq!(
            seen.header("host"),
            Some(upstream.address.to_string().as_str())
        );
        let token = response.json()["jwt"].as_str().unwrap().to_owned();
        let claims = claims_of(&token);
        assert_eq!(
            (&claims["sub"], &claims["scope"]),
            (&json!(name), &json!("probed"))
        );
        assert!(gate.get("/api/a", &token).status < 300, "{name}");
        let basic = format!("Basic {}", STANDARD.encode(format!("{name}:p4ss:word")));
        assert_eq!(
            upstream.last().header("authorization"),
            Some(basic.as_str()),
            "{name}"
        );
    }
    assert!(!gate.log().contains("p4ss"));
}

#[test]
fn a_probe_never_asks_for_a_name_that_basic_would_split() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(USERS, PROBE)
        .start();
    for name in ["root:x", ":", ":root", "root:"] {
        assert_eq!(verdict(&login(&gate, name, "memphis")), refused(), "{name}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_probe_asks_again_at_every_refresh() {
    let open = Arc::new(AtomicBool::new(true));
    let is_open = Arc::clone(&open);
    let upstream = Upstream::scripted(move |_, stream| {
        let answer = if is_open.load(Ordering::SeqCst) {
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        } else {
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(USERS, PROBE)
        .start();
    let pair = gate.login("anna", "s3same");
    let response = refresh(&gate, &pair);
    assert_eq!(response.status, 200);
    let asked = upstream.seen();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[0].header("authorization"),
        asked[1].header("authorization")
    );
    open.store(false, Ordering::SeqCst);
    assert_eq!(verdict(&refresh(&gate, &response.json())), refused());
}

#[test]
fn a_dead_upstream_is_a_server_error_that_leaks_nothing() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gate = Builder::standard(dead, ROUTES).edit(USERS, PROBE).start();
    let response = login(&gate, "anna", "s3same");
    assert_eq!(
        verdict(&response),
        (500, r#"{"message":"Server error"}"#.to_owned())
    );
    let port = dead.port().to_string();
    // The request's id is random and may hold any digits.
    let leaks = response
        .headers
        .iter()
        .any(|(name, value)| name != "x-request-id" && value.contains(&port));
    assert!(!leaks, "{:?}", response.headers);
    assert!(!gate.log().contains("s3same"));
}

#[test]
fn a_user_whom_no_file_knows_is_asked_of_the_probe() {
    let upstream = Upstream::start();
    let both = "identity: [ { users_file: users.yaml }, { upstream_probe: { upstream: app, path: /whoami } } ]";
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(USERS, both)
        .start();
    let pair = gate.login("anna", "x");
    assert_eq!(refresh(&gate, &pair).status, 200);
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(
        verdict(&login(&gate, "root", "wrong")),
        refused(),
        "a known name is not asked on"
    );
    let pair = gate.login("root", "memphis");
    assert_eq!(refresh(&gate, &pair).status, 200);
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn a_token_that_would_be_too_long_to_be_taken_is_not_issued() {
    let upstream = Upstream::start();
    let hash = hash_password("memphis", "argon2id");
    let user = |claim: usize| {
        let claim = "x".repeat(claim);
        format!(
            "users: [ {{ name: root, password_hash: \"{hash}\", claims: {{ note: {claim} }} }} ]\n"
        )
    };
    for (claim, status) in [(5000, 200), (7000, 500)] {
        let gate = Builder::standard(upstream.address, ROUTES)
            .file("users.yaml", user(claim))
            .start();
        let response = login(&gate, "root", "memphis");
        assert_eq!(response.status, status, "{claim}");
        if status == 200 {
            let token = response.json()["jwt"].as_str().unwrap().to_owned();
            assert_eq!(gate.get("/api/x", &token).status, 200, "{claim}");
        }
    }
}
