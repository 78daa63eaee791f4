//! What is dangerous is refused by name, until the config says that it is meant.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::support::gate::{Builder, claims, sign};
use crate::support::rows;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /open/**
    upstream: app
    public: true
";
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// Case, what stands in the good config, what is dangerous there, the override, parts of the
/// answer. `OVERRIDE` marks where the override goes.
const DANGERS: &str = r#"
a short secret        | secret_file: k1      | secret_file: short OVERRIDE     | , danger_short_secret: true | tokens.keys[0].secret_file: | 5 bytes | at least 32
all paths public      | path: /open/**       | path: /** OVERRIDE              | \n    danger_unanchored: true | routes[1].path: | `/**`
all names public      | path: /open/**       | path: /* OVERRIDE               | \n    danger_unanchored: true | routes[1].path: | `/*`
a star first, public  | path: /open/**       | path: /*/x OVERRIDE             | \n    danger_unanchored: true | routes[1].path: | `/*/x`
Basic to a name       | "http://127.0.0.1:9" ] | "http://broker.example:80" ] OVERRIDE | , danger_plaintext: true | routes[0].credential: | http://broker.example:80 | `app`
Basic to an address   | "http://127.0.0.1:9" ] | "http://192.0.2.1:80" ] OVERRIDE | , danger_plaintext: true | routes[0].credential: | http://192.0.2.1:80
Basic to every address | "http://127.0.0.1:9" ] | "http://0.0.0.0:80" ] OVERRIDE | , danger_plaintext: true | routes[0].credential: | http://0.0.0.0:80
Basic over IPv6       | "http://127.0.0.1:9" ] | "http://[2001:db8::1]:80" ] OVERRIDE | , danger_plaintext: true | routes[0].credential: | http://[2001:db8::1]:80
Basic to the second   | "http://127.0.0.1:9" ] | "http://127.0.0.1:9", "http://b.example" ] OVERRIDE | , danger_plaintext: true | routes[0].credential: | http://b.example
everyone's headers     | LISTENER } | LISTENER, trusted_proxies: [ 10.0.0.0/8, 0.0.0.0/0 ] OVERRIDE } | , danger_trust_everyone: true | listeners[0].trusted_proxies[1]: | `0.0.0.0/0`
everyone's in halves   | LISTENER } | LISTENER, trusted_proxies: [ 0.0.0.0/1, 128.0.0.0/1 ] OVERRIDE } | , danger_trust_everyone: true | listeners[0].trusted_proxies[0]: | listeners[0].trusted_proxies[1]:
everyone's in quarters | LISTENER } | LISTENER, trusted_proxies: [ 64.0.0.0/7 ] OVERRIDE } | , danger_trust_everyone: true | listeners[0].trusted_proxies[0]:
everyone's over IPv6   | LISTENER } | LISTENER, trusted_proxies: [ "::/0" ] OVERRIDE } | , danger_trust_everyone: true | listeners[0].trusted_proxies[0]: | `::/0`
half of IPv6           | LISTENER } | LISTENER, trusted_proxies: [ "2000::/15" ] OVERRIDE } | , danger_trust_everyone: true | listeners[0].trusted_proxies[0]:
everyone's, mapped     | LISTENER } | LISTENER, trusted_proxies: [ "::ffff:0:0/96" ] OVERRIDE } | , danger_trust_everyone: true | listeners[0].trusted_proxies[0]:
"#;

const LISTENER: &str = "listeners: [ { address: \"127.0.0.1:0\"";
const BASIC: &str = "credential: { basic: { username: gate, password_file: upstream-password } }";

fn standard() -> Builder {
    Builder::standard(NOWHERE, ROUTES)
        .file("short", "short")
        .file("empty", "\n")
        .file("per-user", "root: { username: a, password: b }\n")
}

fn check(builder: &Builder) -> (Option<i32>, String) {
    let output = builder.run_to_end(&["check"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

/// Refused, with all of `parts`, by `check` and by `run`.
fn assert_refused(case: &str, builder: &Builder, parts: &[&str]) {
    for command in ["check", "run"] {
        let output = builder.run_to_end(&[command]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{case}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{case}: no {part} in: {stderr}");
        }
    }
}

#[test]
fn a_danger_is_refused_by_the_name_of_its_override_and_passes_with_it() {
    for row in rows(DANGERS) {
        let [from, to, meant] = [row[1], row[2], row[3]]
            .map(|cell| cell.replace("\\n", "\n").replace("LISTENER", LISTENER));
        let case = row[0];
        let refused = standard().edit(&from, &to.replace(" OVERRIDE", ""));
        let name = meant.trim_matches([',', ' ', '\n']);
        let mut parts = row[4..].to_vec();
        parts.push(name);
        assert_refused(case, &refused, &parts);
        let allowed = standard().edit(&from, &to.replace(" OVERRIDE", &meant));
        assert_eq!(check(&allowed), (Some(0), String::new()), "{case}");
        let unmeant = meant.replace("true", "false");
        let unmeant = standard().edit(&from, &to.replace(" OVERRIDE", &unmeant));
        assert_eq!(check(&unmeant).0, Some(2), "{case}");
    }
}

#[test]
fn every_kind_of_credential_in_clear_is_refused_and_none_is_not() {
    for credential in [
        BASIC,
        "credential: { header: { name: X-Api-Key, value_file: upstream-password } }",
        "credential: { per_user: { file: per-user } }",
        "credential: login",
        "credential: users_file",
    ] {
        let there = "http://192.0.2.1:80";
        let builder = standard().edit(BASIC, credential);
        let exposed = builder.edit("http://127.0.0.1:9", there);
        let parts = ["routes[0].credential: ", there, "danger_plaintext: true"];
        assert_refused(credential, &exposed, &parts);
        for safe in [
            "https://broker.example",
            "http://127.9.9.9:80",
            "http://[::1]:80",
            "http://[::ffff:127.0.0.1]:80",
            "http://LocalHost:80",
        ] {
            let builder = standard().edit(BASIC, credential);
            let safe = builder.edit("http://127.0.0.1:9", safe);
            assert_eq!(check(&safe), (Some(0), String::new()), "{credential}");
        }
    }
    let bare = standard().edit(BASIC, "credential: none");
    let bare = bare.edit("http://127.0.0.1:9", "http://192.0.2.1:80");
    assert_eq!(check(&bare), (Some(0), String::new()));
}

#[test]
fn a_probe_that_sends_passwords_in_clear_is_refused() {
    let probe = |meant: &str| {
        let endpoint = format!("\"http://192.0.2.1:80\" ]{meant}");
        standard()
            .edit(BASIC, "credential: none")
            .edit("\"http://127.0.0.1:9\" ]", &endpoint)
            .edit(
                "users_file: users.yaml",
                "upstream_probe: { upstream: app, path: /a }",
            )
    };
    let parts = [
        "identity[0].upstream_probe.upstream: ",
        "http://192.0.2.1:80",
        "danger_plaintext: true",
    ];
    assert_refused("a probe", &probe(""), &parts);
    let meant = probe(", danger_plaintext: true");
    assert_eq!(check(&meant), (Some(0), String::new()));
}

#[test]
fn an_empty_secret_is_refused_always() {
    let empty = standard().edit(
        "secret_file: k1",
        "secret_file: empty, danger_short_secret: true",
    );
    assert_refused("empty", &empty, &["tokens.keys[0].secret_file: ", "empty"]);
}

#[test]
fn a_short_secret_that_is_meant_signs_and_verifies() {
    let gate = Builder::standard(Upstream::start().address, ROUTES)
        .file("short", "short")
        .edit(
            "secret_file: k1",
            "secret_file: short, danger_short_secret: true",
        )
        .start();
    let token = gate.token("root", "memphis");
    assert_eq!(gate.get("/api/x", &token).status, 200);
    assert_eq!(gate.get("/api/x", &sign(&claims())).status, 401);
}
