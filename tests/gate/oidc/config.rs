//! Which configs of issuers are refused, and what the commands make and tell of keys.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{ROUTES, good, start};
use crate::support::gate::{BINARY, Builder, run};
use crate::support::upstream::Upstream;

fn complaint(identity: &str) -> String {
    let builder = Builder::standard("127.0.0.1:1".parse().unwrap(), ROUTES)
        .line("identity:", &format!("identity: [ {identity} ]"));
    let output = builder.run_to_end(&["check"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{identity}: {text}");
    text
}

const ISSUER: &str = "issuer: \"https://tenant.example/\"";

#[test]
fn an_issuer_that_could_do_harm_is_a_config_error() {
    for (section, expected) in [
        (ISSUER.to_owned(), "identity[0].oidc.audience: is missing"),
        (
            format!("{ISSUER}, audience: \"\""),
            "oidc.audience: must not be empty",
        ),
        (
            format!("{ISSUER}, audience: a, danger_any_audience: true"),
            "is of no use",
        ),
        (
            format!("{ISSUER}, audience: a, algorithms: [ HS256 ]"),
            "HS256 is for shared secrets",
        ),
        (
            format!("{ISSUER}, audience: a, algorithms: []"),
            "at least one is needed",
        ),
        (
            format!("{ISSUER}, audience: a, allowed_subjects: []"),
            "allows nobody",
        ),
        (
            format!("{ISSUER}, audience: a, ca_file: gone"),
            "oidc.ca_file: cannot read",
        ),
        (
            format!("{ISSUER}, audience: a, ca_file: k1"),
            "holds no certificate",
        ),
        (
            format!("{ISSUER}, audience: a, jwks_uri: \"http://x.example/\""),
            "danger_plaintext",
        ),
        (
            format!("{ISSUER}, audience: a, keys: {{ soft_ttl: 1h, hard_ttl: 1h }}"),
            "keys.hard_ttl",
        ),
        (
            format!("{ISSUER}, audience: a, keys: {{ timeout: 2m }}"),
            "keys.timeout",
        ),
        (
            format!("{ISSUER}, audience: a, keys: {{ unknown_key_interval: 0s }}"),
            "unknown_key_interval",
        ),
        (
            format!("{ISSUER}, audience: a, scopes: {{ grant: [ \"a b\" ] }}"),
            "`a b` is no scope",
        ),
        (
            format!("{ISSUER}, audience: a, scopes: {{ map: {{ x: [ \"\" ] }} }}"),
            "is no scope",
        ),
        (
            format!("{ISSUER}, audience: a, audiences: b"),
            "did you mean `audience`",
        ),
        (
            "issuer: tollgate, audience: a".to_owned(),
            "is the gate's own issuer",
        ),
        (
            "issuer: \"http://tenant.example/\", audience: a".to_owned(),
            "is not https",
        ),
        (
            "issuer: \"https://u:hunter2@tenant.example/\", audience: a".to_owned(),
            "has credentials",
        ),
    ] {
        let text = complaint(&format!("{{ oidc: {{ {section} }} }}"));
        assert!(text.contains(expected), "{section}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn next_to_another_provider_subjects_have_to_be_kept_apart() {
    let users = "{ users_file: users.yaml }";
    let oidc = |host: &str, more: &str| {
        format!("{{ oidc: {{ issuer: \"https://{host}.example/\", audience: a{more} }} }}")
    };
    let prefixed =
        |host: &str, prefix: &str| oidc(host, &format!(", subject_prefix: \"{prefix}\""));
    let probe = "{ upstream_probe: { upstream: app, path: /x } }";
    for (identity, expected) in [
        (
            format!("{users}, {}", oidc("a", "")),
            "identity[1].oidc.subject_prefix: is needed next to another identity provider",
        ),
        (
            format!("{}, {}", oidc("a", ""), prefixed("b", "b:")),
            "another provider's account",
        ),
        (
            format!("{}, {}", prefixed("a", "x:"), prefixed("b", "x:")),
            "begins with it too",
        ),
        (
            format!("{}, {}", prefixed("a", "x"), prefixed("b", "xy:")),
            "begins with it too",
        ),
        (
            format!("{}, {}", prefixed("a", "x:"), prefixed("a", "y:")),
            "more than once",
        ),
        (
            format!("{probe}, {}", prefixed("a", "x")),
            "must hold a `:`",
        ),
    ] {
        let text = complaint(&identity);
        assert!(text.contains(expected), "{identity}: {text}");
    }
    let loose = complaint(&format!("{users}, {}", prefixed("a", "x")));
    assert!(loose.contains("must hold a `:`"), "{loose}");
    for identity in [
        oidc("a", ""),
        format!("{users}, {}", prefixed("a", "x:")),
        format!("{users}, {}", oidc("a", ", allowed_subjects: [ alice ]")),
        format!("{probe}, {}, {}", prefixed("a", "x:"), prefixed("b", "y:")),
    ] {
        let builder = Builder::standard("127.0.0.1:1".parse().unwrap(), ROUTES)
            .line("identity:", &format!("identity: [ {identity} ]"));
        let output = builder.run_to_end(&["check"]);
        assert!(output.status.success(), "{identity}: {output:?}");
    }
}

#[test]
fn a_danger_that_is_named_is_taken() {
    let upstream = Upstream::start();
    let (_, issuer, key, _) = start("");
    let gate = issuer
        .gate(&upstream, ROUTES, "")
        .edit(
            "audience: gate }",
            "danger_any_audience: true, danger_plaintext: true }",
        )
        .start();
    for aud in [serde_json::json!("other"), serde_json::Value::Null] {
        assert_eq!(
            gate.judge(&key.sign(&issuer.claims_with("aud", aud))),
            good()
        );
    }
}

#[test]
fn generated_keys_sign_logins() {
    let upstream = Upstream::start();
    for (name, more, kind) in [
        ("HS256", "", "secret_file"),
        ("HS384", "", "secret_file"),
        ("HS512", "", "secret_file"),
        ("RS256", "", "private_key_file"),
        ("PS256", "--bits=3072", "private_key_file"),
        ("ES256", "", "private_key_file"),
        ("ES384", "", "private_key_file"),
        ("EdDSA", "", "private_key_file"),
    ] {
        let builder = Builder::standard(upstream.address, ROUTES);
        let folder = crate::support::gate::Folder::new();
        let path = folder.path().join("new.key");
        let generate = || {
            let mut command = Command::new(BINARY);
            command
                .args(["keys", "generate", "--algorithm", name, "--out"])
                .arg(&path);
            command.args(Some(more).filter(|more| !more.is_empty()));
            command.output().unwrap()
        };
        let output = generate();
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(output.stdout.is_empty());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        let key = std::fs::read_to_string(&path).unwrap();
        let again = generate();
        assert_eq!(again.status.code(), Some(1), "an existing file was taken");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), key);

        // The line that it says is one to paste.
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(key.trim()), "{name}: {said}");
        let entry = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("- "))
            .unwrap();
        assert!(entry.contains(kind), "{entry}");
        let gate = builder
            .edit("{ id: k1, algorithm: HS256, secret_file: k1 }", entry)
            .start();
        let token = gate.token("root", "memphis");
        assert_eq!(gate.get("/api/x", &token).status, 200, "{name}");
    }
}

#[test]
fn a_generated_key_goes_to_standard_output_by_itself() {
    let output = run(&["keys", "generate", "--algorithm", "HS512"], "");
    let key = String::from_utf8(output.stdout).unwrap();
    assert_eq!(key.len(), 129, "{key}");
    assert!(key.trim().bytes().all(|digit| digit.is_ascii_hexdigit()));
    let again = run(&["keys", "generate", "--algorithm", "HS512"], "");
    assert_ne!(again.stdout, key.as_bytes());
    let unknown = run(&["keys", "generate", "--algorithm", "none"], "");
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn keys_list_tells_what_a_running_gate_has() {
    let (_upstream, issuer, _, gate) = start("");
    let list = || {
        let output = run(&["keys", "list", "--admin", &gate.admin.to_string()], "");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = list();
    assert!(told.contains("own  k1  HS256  signs, verifies\n"), "{told}");
    let line = format!("issuer  {}  fresh, ", issuer.url);
    assert!(
        told.contains(&line) && told.contains("(soft 600s, hard 86400s)\n"),
        "{told}"
    );
    assert!(told.contains("  e1  ES256\n"), "{told}");
    let nobody = run(&["keys", "list", "--admin", "127.0.0.1:1"], "");
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn inspect_judges_an_external_token_with_the_issuers_keys() {
    let (_upstream, issuer, key, gate) = start(", subject_prefix: \"x:\"");
    let config = gate.folder().path().join("tollgate.yaml");
    let config = config.to_str().unwrap();
    let inspect = |token: &str| {
        let arguments = ["token", "inspect", "--config", config];
        let output = run(&arguments, &format!("{token}\n"));
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let told = inspect(&key.sign(&issuer.claims()));
    assert!(
        told.starts_with("accepted\nsubject: x:alice\nscope: read write\n"),
        "{told}"
    );
    let other = key.sign(&issuer.claims_with("aud", serde_json::json!("x")));
    assert!(inspect(&other).contains("wrong_audience"));
    let token = key.sign(&issuer.claims());
    let arguments = [
        "explain", "GET", "/api/x", "--token", &token, "--config", config,
    ];
    let explained = String::from_utf8(run(&arguments, "").stdout).unwrap();
    assert!(explained.contains("good, of x:alice"), "{explained}");
}
