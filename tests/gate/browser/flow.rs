//! Logins at an external issuer, by code and PKCE, in front of an issuer that does as a test says.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{Algorithm, EncodingKey};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::gate::Gate;
use crate::support::issuer::{Issuer, IssuerKey, SILENCE, ok, raw};
use crate::support::jar::{Jar, hidden, set_cookies};
use crate::support::threat;
use crate::support::tokens::{encode, forge_with};
use crate::support::unix_now;
use crate::support::upstream::Upstream;

const SESSION: &str = "__Host-tollgate";
const SECRET: &str = "a secret/of the+client";
const ROUTES: &str = "
  - { path: /ui/**, upstream: app, login_page: /login }
  - { path: /api/**, upstream: app }
";

struct World {
    upstream: Upstream,
    issuer: Issuer,
    key: IssuerKey,
    gate: Gate,
}

/// Where a browser was sent, and what it was told to bring.
pub(super) struct Away {
    pub(super) jar: Jar,
    pub(super) asked: BTreeMap<String, String>,
}

pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let decode = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    pairs
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

impl World {
    fn start(more: &str) -> Self {
        let upstream = Upstream::start();
        let key = IssuerKey::new("e1", "ES256");
        let issuer = Issuer::with(&[&key]);
        issuer.answer_discovery(&ok(&Self::discovery(&issuer)));
        let more = format!(
            ", client_id: \"the gate\", subject_prefix: \"ext:\", keys: {{ timeout: 2s }}, browser: {{ name: Example ID, client_secret_file: client-secret, scopes: [ openid, profile ] }}{more}"
        );
        let gate = issuer
            .gate(&upstream, ROUTES, &more)
            .line("login:", "login: [ { dialect: browser } ]")
            .file("client-secret", SECRET)
            .start();
        Self {
            upstream,
            issuer,
            key,
            gate,
        }
    }

    fn discovery(issuer: &Issuer) -> Value {
        let mut document = issuer.discovery();
        document["authorization_endpoint"] = json!(format!("{}authorize?tenant=1", issuer.url));
        document["token_endpoint"] = json!(format!("{}token", issuer.url));
        document["authorization_response_iss_parameter_supported"] = json!(true);
        document
    }

    /// Sends a browser to the issuer by the link on the login page.
    fn leave(&self) -> Away {
        let mut jar = Jar::default();
        let page = jar.open(&self.gate, "/login?return=/ui/x").text();
        assert!(page.contains("Log in with Example ID"), "{page}");
        assert!(!page.contains("password"), "nobody has one: {page}");
        let link = page
            .split("href=\"")
            .find(|part| part.starts_with("/login/begin"));
        let link = link.unwrap().split('"').next().unwrap();
        let link = link.replace("&amp;", "&");
        let sent = jar.open(&self.gate, &link);
        assert_eq!(sent.status, 303, "{}", sent.text());
        let there = sent.header("location").unwrap();
        let start = format!("{}authorize?tenant=1&", self.issuer.url);
        let asked = query(there.strip_prefix(&start).unwrap());
        Away { jar, asked }
    }

    /// The claims of the ID token that this browser waits for.
    fn claims(&self, away: &Away) -> Value {
        let now = unix_now();
        json!({
            "iss": self.issuer.url, "sub": "alice", "aud": "the gate", "iat": now,
            "exp": now + 300, "nonce": away.asked["nonce"], "scope": "read",
        })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "e1", "typ": "JWT"});
        self.key.sign_under(&header, claims)
    }

    /// The issuer gives this ID token for any code.
    fn gives(&self, id_token: &str) {
        let answer =
            json!({"access_token": "opaque", "token_type": "Bearer", "id_token": id_token});
        self.issuer.answer("/token", &ok(&answer));
    }

    /// The browser comes back with what the issuer gives it.
    fn back(&self, away: &mut Away, query: &str) -> Response {
        away.jar.ask(
            &self.gate,
            "GET",
            &format!("/login/callback?{query}"),
            "accept: text/html\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n",
        )
    }

    fn usual(&self, away: &Away) -> String {
        format!(
            "code=c0de&state={}&iss={}",
            away.asked["state"], self.issuer.url
        )
    }

    /// Comes back, is refused with this status, and is nobody.
    fn is_refused(&self, away: &mut Away, query: &str, status: u16, case: &str) {
        let answer = self.back(away, query);
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
        let is_session = |set: &str| set.starts_with("__Host-tollgate=");
        assert!(!set_cookies(&answer).any(is_session), "{case}");
        assert!(answer.text().contains("href=\"/login\""), "{case}");
        assert_eq!(away.jar.open(&self.gate, "/ui/x").status, 302, "{case}");
        assert!(self.upstream.seen().is_empty(), "{case}");
        threat::count("browser", 1);
    }
}

#[test]
fn somebody_logs_in_at_an_issuer_and_comes_back_to_what_was_asked_for() {
    let world = World::start("");
    let mut away = world.leave();
    let asked = &away.asked;
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "the gate"),
        ("scope", "openid profile"),
        ("redirect_uri", "http://gate.example/login/callback"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    world.gives(&world.sign(&world.claims(&away)));
    let query = world.usual(&away);
    let answer = world.back(&mut away, &query);
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some("/ui/x"));
    check_redeemed(&world, &away);

    assert_eq!(away.jar.open(&world.gate, "/ui/x").status, 200);
    world.gate.wait_for_log("the session's exchange", |line| {
        line["url.path"] == "/ui/x" && line["subject"] == "ext:alice"
    });
    assert_eq!(world.upstream.last().header("cookie"), None);
    assert!(!away.jar.0.contains_key("__Host-tollgate-flow"));
    let log = world.gate.log();
    for secret in [&away.jar.0[SESSION], &away.asked["nonce"]] {
        assert!(!log.contains(secret.as_str()), "{log}");
    }
    let page = away.jar.open(&world.gate, "/logout").text();
    let proof = hidden(&page, "form");
    let answer = away.jar.send(&world.gate, "/logout", &[("form", &proof)]);
    assert_eq!(answer.status, 200);
    assert_eq!(away.jar.open(&world.gate, "/ui/x").status, 302);
}

#[test]
fn who_logs_out_may_do_so_at_the_issuer_too() {
    for (said, offered) in [
        (None, None),
        (Some("javascript:alert(1)"), None),
        (Some("logout"), None),
        (
            Some("https://id.example/end?tenant=1"),
            Some("https://id.example/end?tenant=1&amp;client_id=the%20gate"),
        ),
        (
            Some("https://id.example/end"),
            Some("https://id.example/end?client_id=the%20gate"),
        ),
    ] {
        let world = World::start("");
        let mut document = World::discovery(&world.issuer);
        if let Some(said) = said {
            document["end_session_endpoint"] = json!(said);
        }
        world.issuer.answer_discovery(&ok(&document));
        let mut away = world.leave();
        world.gives(&world.sign(&world.claims(&away)));
        let query = world.usual(&away);
        assert_eq!(world.back(&mut away, &query).status, 303);
        let proof = hidden(&away.jar.open(&world.gate, "/logout").text(), "form");
        let answer = away.jar.send(&world.gate, "/logout", &[("form", &proof)]);
        let page = answer.text();
        assert_eq!(page.contains("Log out at Example ID"), offered.is_some());
        let link = format!("href=\"{}\"", offered.unwrap_or("https://id"));
        assert_eq!(page.contains(&link), offered.is_some(), "{said:?}: {page}");
    }
}

/// What the issuer was asked with for the tokens, and that nothing of it is in the log.
fn check_redeemed(world: &World, away: &Away) {
    let seen = world.issuer.seen();
    let redeemed = seen.iter().find(|seen| seen.target() == "/token").unwrap();
    // Both percent-encoded first (RFC 6749 section 2.3.1).
    let pair = "the%20gate:a%20secret%2Fof%20the%2Bclient";
    let basic = format!(
        "Basic {}",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair)
    );
    assert_eq!(redeemed.header("authorization"), Some(&*basic));
    let form = query(std::str::from_utf8(&redeemed.body).unwrap());
    assert_eq!(form["grant_type"], "authorization_code");
    assert_eq!(form["code"], "c0de");
    assert_eq!(form["redirect_uri"], "http://gate.example/login/callback");
    let challenge = encode(digest(&SHA256, form["code_verifier"].as_bytes()));
    assert_eq!(away.asked["code_challenge"], challenge);
    let log = world.gate.log();
    for secret in [form["code_verifier"].as_str(), "c0de"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn nobody_comes_back_but_the_browser_that_left_and_from_where_it_was_sent() {
    let world = World::start("");
    let good = |away: &Away| world.gives(&world.sign(&world.claims(away)));
    let mut away = world.leave();
    good(&away);
    let (state, url) = (away.asked["state"].clone(), world.issuer.url.clone());
    let usual = world.usual(&away);
    for (status, query, case) in [
        (403, format!("code=c0de&iss={url}"), "no state"),
        (403, format!("code=c0de&state=&iss={url}"), "an empty state"),
        (
            403,
            format!("code=c0de&state={state}x&iss={url}"),
            "another state",
        ),
        (400, format!("state={state}&iss={url}"), "no code"),
        (400, format!("{usual}&code=d"), "two codes"),
        (400, format!("{usual}&state={state}"), "two states"),
        (
            401,
            format!("code=c0de&state={state}"),
            "no issuer, which names itself",
        ),
        (
            401,
            format!("code=c0de&state={state}&iss=https://evil.example/"),
            "another issuer",
        ),
        (
            401,
            format!("error=access_denied&state={state}&iss={url}"),
            "not granted",
        ),
        (
            401,
            format!("error=%3Cscript%3E&state={state}&iss={url}"),
            "an odd error",
        ),
    ] {
        world.is_refused(&mut away, &query, status, case);
    }
    assert_eq!(
        world.issuer.asked("/token"),
        0,
        "no code was shown to anybody"
    );
    let mut other = world.leave();
    world.is_refused(&mut other, &usual, 403, "what another browser began");
    let mut stranger = Away {
        jar: Jar::default(),
        asked: away.asked.clone(),
    };
    world.is_refused(&mut stranger, &usual, 403, "no cookie");
    // Once it has come back, it is there.
    let answer = world.back(&mut away, &usual);
    assert_eq!(answer.status, 303, "{}", answer.text());
}

#[test]
fn no_link_of_another_sites_page_begins_a_login() {
    let world = World::start("");
    let navigate = "accept: text/html\r\nsec-fetch-mode: navigate\r\nsec-fetch-site: ";
    for site in [
        "cross-site",
        "same-site",
        "same-origin\r\nsec-fetch-site: cross-site",
    ] {
        let mut jar = Jar::default();
        let line = format!("{navigate}{site}\r\n");
        let begin = "/login/begin?issuer=0&return=/ui/x";
        let answer = jar.ask(&world.gate, "GET", begin, &line);
        assert_eq!(answer.status, 200, "{site}: {}", answer.text());
        let set = Vec::from_iter(set_cookies(&answer));
        assert!(set.iter().all(|set| !set.contains("-flow=")), "{set:?}");
        // Whoever followed it says that it is meant.
        let page = answer.text();
        assert!(
            page.contains("/login/begin?issuer=0&amp;return=%2Fui%2Fx"),
            "{page}"
        );
        threat::count("browser", 1);
    }
    for site in ["same-origin", "none"] {
        let line = format!("{navigate}{site}\r\n");
        let begin = "/login/begin?issuer=0";
        let answer = Jar::default().ask(&world.gate, "GET", begin, &line);
        assert_eq!(answer.status, 303, "{site}");
    }
}

#[test]
fn an_id_token_must_be_the_issuers_for_this_client_and_this_login() {
    let world = World::start(", allowed_subjects: [ alice ]");
    let now = unix_now();
    let cases: [(u16, &str, Value); 14] = [
        (403, "nonce", json!("other")),
        (403, "nonce", Value::Null),
        (401, "aud", json!("gate")),
        (401, "aud", json!([])),
        (401, "aud", json!(["the gate", "other"])),
        (401, "azp", json!("other")),
        (401, "azp", json!(7)),
        (401, "iss", json!("https://evil.example/")),
        (401, "exp", json!(now - 1)),
        (401, "nbf", json!(now + 600)),
        (401, "sub", json!("")),
        (403, "sub", json!("mallory")),
        (401, "exp", Value::Null),
        (401, "exp", json!("soon")),
    ];
    let mut away = world.leave();
    let usual = world.usual(&away);
    let good = world.claims(&away);
    for (status, name, value) in cases {
        let mut claims = good.clone();
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        world.gives(&world.sign(&claims));
        world.is_refused(&mut away, &usual, status, &format!("{name} {value}"));
    }
    let header = |alg: &str, typ: &str| json!({"alg": alg, "kid": "e1", "typ": typ});
    let access = world.key.sign_under(&header("ES256", "at+jwt"), &good);
    let unsigned = format!(
        "{}.{}.",
        encode(r#"{"alg":"none"}"#),
        encode(good.to_string())
    );
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let hmac = header("HS256", "JWT").to_string();
    let hmac = forge_with(&hmac, &good.to_string(), Algorithm::HS256, &secret);
    let other = IssuerKey::new("e1", "ES256").sign_under(&header("ES256", "JWT"), &good);
    for (case, token) in [
        ("an access token", access),
        ("unsigned", unsigned),
        ("the client's secret as a key", hmac),
        ("another key", other),
        ("no token", "x".to_owned()),
    ] {
        world.gives(&token);
        world.is_refused(&mut away, &usual, 401, case);
    }
    let mut several = good;
    several["aud"] = json!(["other", "the gate"]);
    several["azp"] = json!("the gate");
    world.gives(&world.sign(&several));
    assert_eq!(world.back(&mut away, &usual).status, 303);
}

#[test]
fn an_issuer_that_fails_is_told_on_a_page_and_not_asked_without_end() {
    let world = World::start("");
    let mut away = world.leave();
    let usual = world.usual(&away);
    for (status, answer) in [
        (401, raw("400 Bad Request", r#"{"error":"invalid_grant"}"#)),
        (503, raw("500 Internal Server Error", "")),
        (503, raw("302 Found", "")),
        (503, raw("200 OK", "{}")),
        (503, raw("200 OK", "no json")),
        (503, String::new()),
        (503, SILENCE.to_owned()),
    ] {
        world.issuer.answer("/token", &answer);
        world.is_refused(&mut away, &usual, status, &answer);
    }
    let fresh = World::start("");
    fresh
        .issuer
        .answer_discovery(&raw("500 Internal Server Error", ""));
    let before = fresh.issuer.asked("/.well-known/openid-configuration");
    for _ in 0..5 {
        let answer = Jar::default().open(&fresh.gate, "/login/begin?issuer=0");
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("Try again shortly"),
            "{}",
            answer.text()
        );
    }
    let asked = fresh.issuer.asked("/.well-known/openid-configuration") - before;
    assert_eq!(asked, 1);
    for query in ["", "issuer=1", "issuer=-1", "issuer=x", "issuer="] {
        let answer = Jar::default().open(&fresh.gate, &format!("/login/begin?{query}"));
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[test]
fn a_login_page_where_nobody_could_log_in_is_a_mistake() {
    let upstream = Upstream::start();
    let issuer = Issuer::with(&[]);
    let output = issuer
        .gate(&upstream, ROUTES, "")
        .line("login:", "login: [ { dialect: browser } ]")
        .run_to_end(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("nobody could log in with a browser"),
        "{told}"
    );
}
