//! A wrong config is refused with all that is wrong in it, and shows no secret.

use std::net::SocketAddr;
use std::process::Output;

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

use crate::support::gate::{Builder, SECRET, self_signed};

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /own/**
    name: own
    upstream: app
    credential: login
";
const KEY: &str = "{ id: k1, algorithm: HS256, secret_file: k1 }";
const KEYS: &str = "keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ]";
const LISTENER: &str = "{ address: \"127.0.0.1:0\" } ]\nadmin";
const USERS: &str = "identity: [ { users_file: users.yaml } ]";
const LOGIN: &str = "{ dialect: memphis }";
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
/// What no output may show: parts of every secret in the files.
const SECRETS: [&str; 5] = [
    "0123456789abcdef0123",
    "fedcba9876",
    "s3cret",
    "hunter2",
    "$argon2id$v",
];

/// 1024 bits: too few by RFC 7518 section 3.3.
const SMALL_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQClivMx6lEz8aUfQQ4zZeGsClzb
GdoN59jceSYyQM/hevsIXPTTWdNbdZoVy1uA7GQYajCh48R6I8XF0g+W9A5hAHcP
4T2F8C4Ef9m+ukVlb1tY3l+cJL1B0u6dwo5XLmlkEZOs8Bm5RxREIaK9lMqDv3cS
grLHlGMPRtSvldsWVQIDAQAB
-----END PUBLIC KEY-----
";

fn standard() -> Builder {
    let (certificate, _) = self_signed(&["a.example"]);
    let (_, key) = self_signed(&["b.example"]);
    Builder::standard(NOWHERE, ROUTES)
        .file("other.crt", certificate)
        .file("other.key", key)
        .file("small-rsa.pem", SMALL_RSA)
        .file(
            "p384.pem",
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)
                .unwrap()
                .serialize_pem(),
        )
        .file("weak", "hunter2 and no more")
        .file("text.yaml", "hunter2hunter2")
        .file(
            "users-typo.yaml",
            "users:\n  - { name: a, pasword_hash: x }\n",
        )
        .file(
            "users-plain.yaml",
            "users:\n  - { name: a, password_hash: hunter2 }\n",
        )
        .file(
            "users-twice.yaml",
            "users:\n  - { name: a }\n  - { name: a }\n",
        )
        .file("per-user.yaml", "root: hunter2\n")
        .file(
            "per-user-colon.yaml",
            "root: { username: 'a:b', password: hunter2 }\n",
        )
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// `check` and `run` refuse the edited config with exit code 2, name all of `expected`, and show
/// neither a panic nor a secret.
fn assert_refused(case: &str, from: &str, to: &str, expected: &[&str]) {
    let builder = standard().edit(from, to);
    for command in ["check", "run"] {
        let output = builder.run_to_end(&[command]);
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{case}: {stdout}{stderr}");
        for part in expected {
            assert!(stderr.contains(part), "{case}: no `{part}` in: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{case}: {stderr}");
        assert_eq!(stdout, "", "{case}");
        for secret in SECRETS {
            assert!(!stderr.contains(secret), "{case} shows a secret: {stderr}");
        }
    }
}

#[test]
fn a_config_that_does_not_fit_is_refused_with_line_column_and_the_nearest_key() {
    for (case, from, to, expected) in [
        (
            "a misspelt section",
            "routes:",
            "rotues:",
            &["tollgate.yaml:", "`rotues`", "did you mean `routes`?"][..],
        ),
        (
            "a misspelt key",
            "issuer:",
            "isuer:",
            &[":6:", "`isuer`", "`issuer`"],
        ),
        (
            "a misspelt key of a route",
            "name: own",
            "nmae: own",
            &["`nmae`", "did you mean `name`?"],
        ),
        (
            "an unknown key",
            "name: own",
            "zzzzz: own",
            &["`zzzzz`", "known here"],
        ),
        (
            "an unknown dialect",
            LOGIN,
            "{ dialect: memfis }",
            &["`memfis`", "did you mean `memphis`?"],
        ),
        (
            "an unknown algorithm",
            KEY,
            "{ id: k1, algorithm: HS257, secret_file: k1 }",
            &["`HS257`", "did you mean `HS256`?"],
        ),
        (
            "algorithm none",
            KEY,
            "{ id: k1, algorithm: none, secret_file: k1 }",
            &["`none`"],
        ),
        (
            "an unknown path form",
            "name: own",
            "allow_in_path: [encoded_slsh]",
            &["`encoded_slsh`", "`encoded_slash`"],
        ),
        (
            "an unknown credential",
            "credential: login",
            "credential: logn",
            &["`logn`", "`login`"],
        ),
        (
            "no upstreams",
            "upstreams:\n  app: { endpoints: [ \"http://127.0.0.1:9\" ], response_timeout: 5s }",
            "workers2: 1",
            &["tollgate.yaml:"],
        ),
        (
            "a missing key",
            "issuer: tollgate",
            "",
            &["`issuer`", "missing"],
        ),
        (
            "a missing path",
            "path: /api/**\n    upstream",
            "upstream",
            &["`path`", "missing"],
        ),
        (
            "a bad duration",
            "audience: gate",
            "access_ttl: soon",
            &["`soon`", "duration"],
        ),
        (
            "a duration without unit",
            "audience: gate",
            "access_ttl: 15",
            &["15", "duration"],
        ),
        (
            "a negative duration",
            "audience: gate",
            "access_ttl: -15m",
            &["-15m", "duration"],
        ),
        (
            "a bad size",
            "audience: gate",
            "cache: { bytes: lots }",
            &["`lots`", "size"],
        ),
        (
            "a negative number",
            "workers: 2",
            "workers: -2",
            &["tollgate.yaml:4:"],
        ),
        (
            "text for a number",
            "workers: 2",
            "workers: two",
            &["tollgate.yaml:4:"],
        ),
        (
            "a key twice",
            "workers: 2",
            "workers: 2\nworkers: 2",
            &["tollgate.yaml:5:", "workers"],
        ),
        (
            "broken YAML",
            "workers: 2",
            "workers: [2",
            &["tollgate.yaml:"],
        ),
        (
            "a variable that is not set",
            "issuer: tollgate",
            "issuer: \"${TOLLGATE_TEST_NOT_SET}\"",
            &["TOLLGATE_TEST_NOT_SET", "not set"],
        ),
        (
            "a variable that does not end",
            "issuer: tollgate",
            "issuer: \"${HOME\"",
            &["}"],
        ),
    ] {
        assert_refused(case, from, to, expected);
    }
}

#[test]
fn a_route_that_cannot_be_meant_is_refused_with_its_key() {
    for (case, from, to, expected) in [
        (
            "an unknown upstream",
            "name: own\n    upstream: app",
            "upstream: ap",
            &["routes[1].upstream", "did you mean `app`?"][..],
        ),
        (
            "the same route twice",
            "/own/**",
            "/api/**",
            &["routes[1]", "/api/**"],
        ),
        (
            "the same name twice",
            "name: own",
            "name: /api/**",
            &["routes[1].name"],
        ),
        (
            "a path without slash",
            "/own/**",
            "own/**",
            &["routes[1]", "own/**"],
        ),
        (
            "two stars in the middle",
            "/own/**",
            "/own/**/x",
            &["routes[1]", "**"],
        ),
        (
            "a star in a segment",
            "/own/**",
            "/own/x*",
            &["routes[1]", "*"],
        ),
        (
            "a path that cannot match",
            "/own/**",
            "/own/../x",
            &["routes[1]"],
        ),
        (
            "a method that is none",
            "name: own",
            "methods: [ 'G T' ]",
            &["routes[1].methods", "G T"],
        ),
        (
            "a host with a port",
            "name: own",
            "host: 'a.example:80'",
            &["routes[1].host"],
        ),
        (
            "a star inside a host",
            "name: own",
            "host: 'a.*.example'",
            &["routes[1].host"],
        ),
        (
            "a header that is the gate's",
            "name: own",
            "set_headers: { Authorization: x }",
            &["routes[1].set_headers", "Authorization"],
        ),
        (
            "a header's name that is none",
            "name: own",
            "remove_headers: [ 'a b' ]",
            &["routes[1].remove_headers", "a b"],
        ),
        (
            "no place for a token",
            "name: own",
            "token: { header: false, query: [] }",
            &["routes[1].token"],
        ),
        (
            "scopes on a public route",
            "name: own",
            "public: true\n    require: { scopes: [x] }",
            &["routes[1].require"],
        ),
        (
            "a user's credential on a public route",
            "name: own",
            "public: true",
            &["routes[1].credential"],
        ),
        (
            "a Basic name with a colon",
            "username: gate",
            "username: 'ga:te'",
            &["routes[0].credential", ":"],
        ),
        (
            "a missing password file",
            "upstream-password",
            "nowhere",
            &["routes[0].credential.basic.password_file", "nowhere"],
        ),
        (
            "a missing key for seals",
            "seal_key_file: seal",
            "leeway: 0s",
            &["routes[1].credential", "seal_key_file"],
        ),
        (
            "per-user credentials of the wrong form",
            "credential: login",
            "credential: { per_user: { file: per-user.yaml } }",
            &["routes[1].credential.per_user.file", "per-user.yaml:1:"],
        ),
        (
            "a per-user name with a colon",
            "credential: login",
            "credential: { per_user: { file: per-user-colon.yaml } }",
            &["routes[1].credential", "root"],
        ),
    ] {
        assert_refused(case, from, to, expected);
    }
}

#[test]
fn tokens_and_keys_that_are_not_safe_are_refused_with_their_key() {
    let key = |text: &str| format!("keys: [ {text} ]");
    let second = |text: &str| format!("keys: [ {KEY}, {text} ]");
    for (case, to, expected) in [
        ("no key", key(""), &["tokens.keys"][..]),
        (
            "a weak secret",
            key("{ id: k1, algorithm: HS256, secret_file: weak }"),
            &["tokens.keys[0].secret_file", "32"],
        ),
        (
            "a missing secret",
            key("{ id: k1, algorithm: HS256, secret_file: nowhere }"),
            &["tokens.keys[0].secret_file", "nowhere"],
        ),
        (
            "no secret",
            key("{ id: k1, algorithm: HS256 }"),
            &["tokens.keys[0]", "secret_file"],
        ),
        (
            "a secret for RS256",
            key("{ id: k1, algorithm: RS256, secret_file: k1 }"),
            &["tokens.keys[0]", "private_key_file"],
        ),
        ("an id twice", second(KEY), &["tokens.keys[1].id", "k1"]),
        (
            "a public key first",
            key("{ id: k1, algorithm: RS256, public_key_file: small-rsa.pem }"),
            &["tokens.keys[0]"],
        ),
        (
            "an RSA key of 1024 bits",
            second("{ id: r, algorithm: RS256, public_key_file: small-rsa.pem }"),
            &["tokens.keys[1].public_key_file", "1024", "2048"],
        ),
        (
            "the same for PS256",
            second("{ id: r, algorithm: PS256, public_key_file: small-rsa.pem }"),
            &["tokens.keys[1].public_key_file", "1024"],
        ),
        (
            "a key of another curve",
            key("{ id: e, algorithm: ES256, private_key_file: p384.pem }"),
            &["tokens.keys[0].private_key_file"],
        ),
        (
            "a key of another kind",
            key("{ id: e, algorithm: EdDSA, private_key_file: p384.pem }"),
            &["tokens.keys[0].private_key_file"],
        ),
        (
            "a secret for a private key",
            key("{ id: e, algorithm: ES256, private_key_file: k1 }"),
            &["tokens.keys[0].private_key_file", "PEM"],
        ),
    ] {
        assert_refused(case, KEYS, &to, expected);
    }
    for (case, to, expected) in [
        (
            "a life over the longest",
            "access_ttl: 25h",
            &["tokens.access_ttl", "max_access_ttl"][..],
        ),
        (
            "a refresh life over the longest",
            "refresh_ttl: 31days",
            &["tokens.refresh_ttl", "max_refresh_ttl"],
        ),
        ("no life", "access_ttl: 0s", &["tokens.access_ttl"]),
        ("a leeway that undoes exp", "leeway: 1h", &["tokens.leeway"]),
    ] {
        assert_refused(case, "audience: gate", to, expected);
    }
    assert_refused(
        "an empty issuer",
        "issuer: tollgate",
        "issuer: ''",
        &["tokens.issuer"],
    );
    let weak = "seal_key_file: weak";
    assert_refused(
        "a weak seal",
        "seal_key_file: seal",
        weak,
        &["tokens.seal_key_file", "32"],
    );
}

#[test]
fn listeners_upstreams_users_and_logins_that_are_not_safe_are_refused_with_their_key() {
    let listener = |text: &str| format!("{text} ]\nadmin");
    for (case, from, to, expected) in [
        (
            "plain text for the world",
            LISTENER,
            listener("{ address: \"0.0.0.0:0\" }"),
            &["listeners[0]", "danger_plaintext"][..],
        ),
        ("no listener", LISTENER, listener(""), &["listeners"]),
        (
            "no address",
            LISTENER,
            listener("{ address: localhost }"),
            &["listeners[0].address", "localhost"],
        ),
        (
            "a key of another certificate",
            LISTENER,
            listener(
                "{ address: \"127.0.0.1:0\", tls: { certificate: other.crt, private_key: other.key } }",
            ),
            &["listeners[0].tls.private_key"],
        ),
        (
            "a missing certificate",
            LISTENER,
            listener(
                "{ address: \"127.0.0.1:0\", tls: { certificate: nowhere.crt, private_key: other.key } }",
            ),
            &["listeners[0].tls.certificate", "nowhere.crt"],
        ),
        (
            "a certificate that is a key",
            LISTENER,
            listener(
                "{ address: \"127.0.0.1:0\", tls: { certificate: other.key, private_key: other.key } }",
            ),
            &["listeners[0].tls.certificate"],
        ),
        (
            "metrics for the world",
            "admin: { address: \"127.0.0.1:0\" }",
            "admin: { address: \"0.0.0.0:0\" }".to_owned(),
            &["admin.address"],
        ),
        (
            "no workers",
            "workers: 2",
            "workers: 0".to_owned(),
            &["workers"],
        ),
        (
            "no endpoint",
            "endpoints: [ \"http://127.0.0.1:9\" ]",
            "endpoints: []".to_owned(),
            &["upstreams.app.endpoints"],
        ),
        (
            "an endpoint with a path",
            "http://127.0.0.1:9",
            "http://127.0.0.1:9/x".to_owned(),
            &["upstreams.app.endpoints[0]"],
        ),
        (
            "an endpoint of another scheme",
            "http://127.0.0.1:9",
            "ftp://127.0.0.1:9".to_owned(),
            &["upstreams.app.endpoints[0]"],
        ),
        (
            "an endpoint with a password",
            "http://127.0.0.1:9",
            "http://u:hunter2@127.0.0.1:9".to_owned(),
            &["upstreams.app.endpoints[0]"],
        ),
        (
            "an unknown authority",
            "response_timeout: 5s",
            "ca_file: nowhere.pem".to_owned(),
            &["upstreams.app.ca_file"],
        ),
        (
            "nobody to log in",
            USERS,
            "identity: []".to_owned(),
            &["identity"],
        ),
        (
            "a missing users file",
            USERS,
            "identity: [ { users_file: nowhere.yaml } ]".to_owned(),
            &["identity[0].users_file", "nowhere.yaml"],
        ),
        (
            "a misspelt key in it",
            USERS,
            "identity: [ { users_file: users-typo.yaml } ]".to_owned(),
            &[
                "identity[0].users_file",
                "users-typo.yaml:2:",
                "`password_hash`",
            ],
        ),
        (
            "a password in clear",
            USERS,
            "identity: [ { users_file: users-plain.yaml } ]".to_owned(),
            &["identity[0].users_file", "password_hash", "hash-password"],
        ),
        (
            "a user twice",
            USERS,
            "identity: [ { users_file: users-twice.yaml } ]".to_owned(),
            &["identity[0].users_file", "`a`"],
        ),
        (
            "a secret for a users file",
            USERS,
            "identity: [ { users_file: seal } ]".to_owned(),
            &["identity[0].users_file"],
        ),
        (
            "a text for a users file",
            USERS,
            "identity: [ { users_file: text.yaml } ]".to_owned(),
            &["identity[0].users_file"],
        ),
        (
            "a probe of no upstream",
            USERS,
            "identity: [ { upstream_probe: { upstream: x, path: /a } } ]".to_owned(),
            &["identity[0].upstream_probe.upstream"],
        ),
        (
            "a probe of no path",
            USERS,
            "identity: [ { upstream_probe: { upstream: app, path: a } } ]".to_owned(),
            &["identity[0].upstream_probe.path"],
        ),
        (
            "a bad prefix",
            LOGIN,
            "{ dialect: memphis, prefix: x/ }".to_owned(),
            &["login[0].prefix"],
        ),
        (
            "the same login twice",
            LOGIN,
            format!("{LOGIN}, {LOGIN}"),
            &["login[1]"],
        ),
        (
            "a login's life over the longest",
            LOGIN,
            "{ dialect: memphis, access_ttl: 48h }".to_owned(),
            &["login[0].access_ttl"],
        ),
        (
            "a share over one",
            "routes:",
            "log: { access_sample: 2.0 }\nroutes:".to_owned(),
            &["log.access_sample"],
        ),
    ] {
        assert_refused(case, from, &to, expected);
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let builder = standard()
        .edit("secret_file: k1", "secret_file: weak")
        .edit("audience: gate", "leeway: 1h")
        .edit(USERS, "identity: [ { users_file: nowhere.yaml } ]")
        .edit(LOGIN, "{ dialect: memphis, prefix: x/ }")
        .edit("name: own\n    upstream: app", "upstream: ap")
        .edit("http://127.0.0.1:9", "ftp://127.0.0.1:9")
        .edit(
            "admin: { address: \"127.0.0.1:0\" }",
            "admin: { address: \"0.0.0.0:0\" }",
        )
        .edit(LISTENER, "{ address: \"0.0.0.0:0\" } ]\nadmin");
    let (_, stderr) = texts(&builder.run_to_end(&["check"]));
    for key in [
        "tokens.keys[0].secret_file",
        "tokens.leeway",
        "identity[0].users_file",
        "routes[1].upstream",
        "upstreams.app.endpoints[0]",
        "admin.address",
        "listeners[0]",
        "login[0].prefix",
    ] {
        assert!(
            stderr.contains(&format!("  {key}: ")),
            "no {key} in: {stderr}"
        );
    }
    assert!(!stderr.contains(str::from_utf8(SECRET).unwrap()));
}

#[test]
fn a_good_config_is_told_in_short_and_shows_no_secret() {
    let output = standard().run_to_end(&["check"]);
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    for part in [
        "listener",
        "http://127.0.0.1:0",
        "memphis",
        "app",
        "/api/**",
        "own",
    ] {
        assert!(stdout.contains(part), "no `{part}` in: {stdout}");
    }
    for secret in SECRETS {
        assert!(!stdout.contains(secret), "{stdout}");
    }
}
