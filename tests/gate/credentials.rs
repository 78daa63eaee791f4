//! Which one credential a client presents, and what the upstream gets instead.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::gate::{Builder, Gate, claims, sign, users};
use crate::support::reload::{Verdict, reload};
use crate::support::rows;
use crate::support::tokens::{claims_of, with_claim, with_claims};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /basic/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /empty/**
    upstream: app
    credential: { basic: { username: api-key } }
  - path: /per-user/**
    upstream: app
    credential: { per_user: { file: per-user.yaml } }
  - path: /file/**
    upstream: app
    credential: users_file
  - path: /login/**
    upstream: app
    credential: login
  - path: /key/**
    upstream: app
    credential: { header: { name: X-Api-Key, value_file: api-key } }
  - path: /none/**
    upstream: app
  - path: /header-only/**
    upstream: app
    token: { header: true, query: [] }
  - path: /query-only/**
    upstream: app
    token: { header: false, query: [ticket] }
";

const PASSWORD: &str = "p\u{e4}:ss w\u{20ac}rd";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .file(
            "per-user.yaml",
            "root: { username: r, password: 'p:q' }\nkey: { username: k }\n",
        )
        .file("api-key", "k3y-value\n")
        .file(
            "users.yaml",
            users(&[(
                "root",
                PASSWORD,
                "[ admin ], upstream: { username: f, password: 'x:y' }",
            )]),
        )
        .start();
    (upstream, gate)
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

#[test]
fn a_token_is_found_where_real_clients_put_it() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    for (target, value) in [
        ("/basic/a", "Bearer TOKEN"),
        ("/basic/a", "bearer TOKEN"),
        ("/basic/a", "BEARER TOKEN"),
        ("/basic/a", "Bearer: TOKEN"),
        ("/basic/a", "bearer:  TOKEN"),
        ("/basic/a", "Bearer   TOKEN  "),
        ("/basic/a?authorization=TOKEN", ""),
        ("/basic/a?access_token=TOKEN", ""),
        ("/basic/a?%61uthorization=TOKEN", ""),
        ("/basic/a?access%5Ftoken=TOKEN", ""),
        ("/header-only/a?authorization=x", "Bearer TOKEN"),
        ("/query-only/a?ticket=TOKEN", ""),
        ("/query-only/a?ticket=TOKEN", "Bearer something else"),
    ] {
        let headers = match value {
            "" => String::new(),
            value => format!("Authorization: {value}\r\n").replace("TOKEN", &token),
        };
        let response = gate.request("GET", &target.replace("TOKEN", &token), &headers);
        assert_eq!(response.status, 200, "{target} {value}");
        let seen = upstream.last();
        assert!(!seen.head.contains(&token), "{target} {value}");
        assert!(!seen.head.contains("something else"), "{target} {value}");
    }
}

#[test]
fn more_than_one_credential_is_a_malformed_request() {
    let (upstream, gate) = start();
    let good = sign(&claims());
    let header = format!("authorization: Bearer {good}\r\n");
    for (case, target, headers) in [
        (
            "in both places",
            "/basic/a?authorization=TOKEN",
            header.clone(),
        ),
        (
            "in both places, encoded",
            "/basic/a?%61uthorization=TOKEN",
            header.clone(),
        ),
        (
            "junk in the query",
            "/basic/a?access_token=x",
            header.clone(),
        ),
        ("twice in the header", "/basic/a", header.repeat(2)),
        (
            "Basic next to Bearer",
            "/basic/a",
            format!("{header}authorization: Basic YTpi\r\n"),
        ),
        (
            "Basic before Bearer",
            "/basic/a",
            format!("authorization: Basic YTpi\r\n{header}"),
        ),
        (
            "twice in the query",
            "/basic/a?authorization=TOKEN&authorization=TOKEN",
            String::new(),
        ),
        (
            "under both names",
            "/basic/a?authorization=TOKEN&access_token=TOKEN",
            String::new(),
        ),
        (
            "twice, once encoded",
            "/basic/a?authorization=TOKEN&%61uthorization=TOKEN",
            String::new(),
        ),
        (
            "twice, once empty",
            "/basic/a?authorization=&authorization=TOKEN",
            String::new(),
        ),
    ] {
        let response = gate.request("GET", &target.replace("TOKEN", &good), &headers);
        assert_eq!(response.status, 400, "{case}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn several_credentials_are_challenged_as_an_invalid_request() {
    let (_upstream, gate) = start();
    let header = format!("authorization: Bearer {}\r\n", sign(&claims()));
    let response = gate.request("GET", "/basic/a", &header.repeat(2));
    // RFC 6750 section 3.1.
    let challenge = response.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer "), "{challenge:?}");
    assert!(
        challenge.contains(r#"error="invalid_request""#),
        "{challenge:?}"
    );
}

/// Case, target, `Authorization`, the challenge's error code.
const CHALLENGES: &str = "
nothing                    | /basic/a                           | -              | -
Basic                      | /basic/a                           | Basic YTpi     | -
Digest                     | /basic/a                           | Digest a=b     | -
no scheme                  | /basic/a                           | x              | -
not this route's header    | /query-only/a                      | Bearer TOKEN   | -
not this route's parameter | /header-only/a?authorization=TOKEN | -              | -
no token                   | /basic/a                           | Bearer         | invalid_token
junk                       | /basic/a                           | Bearer x       | invalid_token
two words                  | /basic/a                           | Bearer x TOKEN | invalid_token
nothing in the query       | /basic/a?authorization=            | -              | invalid_token
a name in the query        | /basic/a?authorization             | -              | invalid_token
junk in the query          | /basic/a?access_token=x            | -              | invalid_token
";

#[test]
fn a_challenge_has_an_error_code_only_where_a_token_was_presented() {
    let (upstream, gate) = start();
    let table = CHALLENGES.replace("TOKEN", &sign(&claims()));
    for row in rows(&table) {
        let (case, target, value, error) = (row[0], row[1], row[2], row[3]);
        let headers = match value {
            "-" => String::new(),
            value => format!("authorization: {value}\r\n"),
        };
        let response = gate.request("GET", target, &headers);
        assert_eq!(response.status, 401, "{case}");
        let challenge = response.header("www-authenticate").unwrap();
        let is_bearer = challenge.starts_with("Bearer realm=");
        assert!(is_bearer, "{case}: {challenge}");
        let code = challenge.split_once("error=\"").map(|(_, rest)| rest);
        let code = code.map_or("-", |rest| rest.split('"').next().unwrap());
        assert_eq!(code, error, "{case}: {challenge}");
        assert_eq!(response.text(), r#"{"message":"Unauthorized"}"#, "{case}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn each_credential_source_gives_the_upstream_what_it_says() {
    let (upstream, gate) = start();
    let root = gate.token("root", PASSWORD);
    for (path, token, authorization, key) in [
        ("/basic/a", &root, Some(basic("gate", "s3cret")), None),
        ("/empty/a", &root, Some(basic("api-key", "")), None),
        ("/per-user/a", &root, Some(basic("r", "p:q")), None),
        ("/file/a", &root, Some(basic("f", "x:y")), None),
        (
            "/per-user/a",
            &with_claim("sub", "key".into()),
            Some(basic("k", "")),
            None,
        ),
        ("/login/a", &root, Some(basic("root", PASSWORD)), None),
        ("/key/a", &root, None, Some("k3y-value")),
        ("/none/a", &root, None, None),
    ] {
        let headers = format!("authorization: Bearer {token}\r\nX-API-Key: theirs\r\n");
        let response = gate.request("GET", path, &headers);
        assert_eq!(response.status, 200, "{path}");
        let seen = upstream.last();
        assert_eq!(
            seen.header("authorization"),
            authorization.as_deref(),
            "{path}"
        );
        assert_eq!(seen.header("x-api-key"), key, "{path}");
    }
}

#[test]
fn a_principal_without_an_upstream_credential_is_forbidden_before_the_upstream_is_asked() {
    let (upstream, gate) = start();
    let sealed = claims_of(&gate.token("root", PASSWORD))["sealed"].clone();
    for (case, path, token) in [
        (
            "not listed",
            "/per-user/a",
            with_claim("sub", "stranger".into()),
        ),
        (
            "listed in another case",
            "/per-user/a",
            with_claim("sub", "Root".into()),
        ),
        ("nothing sealed", "/login/a", sign(&claims())),
        (
            "not a seal",
            "/login/a",
            with_claim("sealed", "AAAA".into()),
        ),
        ("an empty seal", "/login/a", with_claim("sealed", "".into())),
        (
            "another's seal",
            "/login/a",
            with_claims(|claims| {
                claims["sub"] = "stranger".into();
                claims["sealed"] = sealed;
            }),
        ),
    ] {
        let response = gate.get(path, &token);
        assert_eq!(response.status, 403, "{case}");
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(!challenge.contains("error="), "{case}: {challenge}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn no_token_shows_the_password_that_it_carries() {
    let (_upstream, gate) = start();
    let pair = gate.login("root", PASSWORD);
    for kind in ["jwt", "jwt_refresh_token"] {
        let token = pair[kind].as_str().unwrap();
        assert!(claims_of(token)["sealed"].is_string(), "{kind}");
        for part in token.split('.').chain(claims_of(token)["sealed"].as_str()) {
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                !text.contains("ss w") && !text.contains(PASSWORD),
                "{kind}: {text}"
            );
        }
    }
    assert!(!gate.log().contains("ss w"));
}

#[test]
fn sealed_lengths_tell_little_about_a_password() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .file("per-user.yaml", "{}")
        .file("api-key", "k")
        .file(
            "users.yaml",
            users(&[("a", "x", "[]"), ("b", "a much longer password", "[]")]),
        )
        .start();
    let length = |user: &str, password: &str| {
        let claims = claims_of(&gate.token(user, password));
        claims["sealed"].as_str().unwrap().len()
    };
    assert_eq!(length("a", "x"), length("b", "a much longer password"));
}

#[test]
fn a_seal_of_another_key_opens_nothing() {
    let (upstream, gate) = start();
    let token = gate.token("root", PASSWORD);
    assert_eq!(gate.get("/login/a", &token).status, 200);
    gate.folder()
        .write("seal", "another seal key, 32 bytes or so");
    assert_eq!(reload(&gate), Verdict::Taken);
    let count = upstream.seen().len();
    assert_eq!(gate.get("/login/a", &token).status, 403);
    assert_eq!(upstream.seen().len(), count);
    assert_eq!(
        gate.get("/none/a", &token).status,
        200,
        "the token itself is good"
    );
}
