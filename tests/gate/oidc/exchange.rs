//! What an external token buys at a login, and for how long.

use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate};
use crate::support::issuer::{Issuer, IssuerKey, raw};
use crate::support::reload::{Verdict, reload};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /data/**, upstream: app, require: { scopes: [ read ], groups: [ staff ], claims: { tenant.name: { equals: acme } } } }
";
const PREFIX: &str = ", subject_prefix: \"auth0:\", client_id: console";

struct Setup {
    _upstream: Upstream,
    issuer: Issuer,
    key: IssuerKey,
    gate: Gate,
}

fn start(dialect: &str, more: &str, edit: impl FnOnce(Builder, &Issuer) -> Builder) -> Setup {
    let upstream = Upstream::start();
    let key = IssuerKey::new("e1", "ES256");
    let issuer = Issuer::with(&[&key]);
    let builder = issuer
        .gate(&upstream, ROUTES, more)
        .edit("dialect: memphis", &format!("dialect: {dialect}"));
    let gate = edit(builder, &issuer).start();
    Setup {
        _upstream: upstream,
        issuer,
        key,
        gate,
    }
}

fn as_it_is(builder: Builder, _: &Issuer) -> Builder {
    builder
}

impl Setup {
    fn claims(&self) -> Value {
        let mut claims = self.issuer.claims_with("groups", json!(["staff"]));
        claims["tenant"] = json!({"name": "acme"});
        claims["aud"] = "gate".into();
        claims
    }

    fn token(&self) -> String {
        self.key.sign(&self.claims())
    }

    /// A login as a program does it that got its token at the issuer.
    fn log_in(&self, token: &str) -> Response {
        let bearer = format!("authorization: Bearer {token}\r\ncontent-length: 0\r\n");
        self.gate.request("POST", "/api/login", &bearer)
    }

    fn edit_config(&self, from: &str, to: &str) {
        let path = self.gate.folder().path().join("tollgate.yaml");
        let config = std::fs::read_to_string(path).unwrap();
        assert!(config.contains(from), "{config}");
        self.gate
            .folder()
            .write("tollgate.yaml", config.replace(from, to));
        assert_eq!(reload(&self.gate), Verdict::Taken);
    }
}

fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap().to_owned()
}

#[test]
fn a_datarhei_client_exchanges_its_external_token_and_refreshes() {
    let setup = start("datarhei", PREFIX, as_it_is);
    let gate = &setup.gate;
    let about = gate.request("GET", "/api", "").json();
    let host = setup
        .issuer
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let auth0 = format!("auth0 domain={host} audience=gate clientid=console");
    assert_eq!(about["auths"], json!([auth0]));

    let pair = setup.log_in(&setup.token());
    assert_eq!(pair.status, 200, "{}", pair.text());
    let pair = pair.json();
    let access = claims_of(&text(&pair, "access_token"));
    for (name, value) in [
        ("iss", json!("tollgate")),
        ("sub", json!("auth0:alice")),
        ("scope", json!("read write")),
        ("groups", json!(["staff"])),
        ("tenant", json!({"name": "acme"})),
        ("usefor", json!("access")),
    ] {
        assert_eq!(access[name], value, "{name}");
    }
    assert_eq!(
        gate.get("/data/x", &text(&pair, "access_token")).status,
        200
    );

    // The issuer is not needed for that.
    setup.issuer.answer_keys(&raw("500 Broken", ""));
    for _ in 0..2 {
        let again = gate.get("/api/login/refresh", &text(&pair, "refresh_token"));
        assert_eq!(again.status, 200, "{}", again.text());
        let access = text(&again.json(), "access_token");
        assert_eq!(gate.get("/data/x", &access).status, 200);
        assert_eq!(claims_of(&access)["sub"], "auth0:alice");
        assert_eq!(claims_of(&access)["tenant"], json!({"name": "acme"}));
    }
    let external = gate.get("/api/login/refresh", &setup.token());
    assert_eq!(external.status, 401, "an external token refreshed");
}

#[test]
fn a_refresh_ends_with_the_subjects_or_the_issuers_welcome() {
    let more = ", subject_prefix: \"x:\", allowed_subjects: [ alice ]";
    let setup = start("datarhei", more, as_it_is);
    let pair = setup.log_in(&setup.token()).json();
    let refresh = || {
        setup
            .gate
            .get("/api/login/refresh", &text(&pair, "refresh_token"))
            .status
    };
    assert_eq!(refresh(), 200);
    setup.edit_config("[ alice ]", "[ bob ]");
    assert_eq!(refresh(), 401);
    setup.edit_config("[ bob ]", "[ alice ]");
    assert_eq!(refresh(), 200);
    setup.edit_config(&setup.issuer.url, "https://other.invalid/");
    assert_eq!(refresh(), 401);
}

#[test]
fn an_unfit_external_token_buys_nothing() {
    let setup = start("datarhei", ", allowed_subjects: [ alice, bob ]", as_it_is);
    let with = |name: &str, value: Value| setup.key.sign(&setup.issuer.claims_with(name, value));
    let stranger = IssuerKey::new("e1", "ES256").sign(&setup.issuer.claims());
    for (token, status, details) in [
        (
            with("exp", json!(1)),
            401,
            "Invalid authorization credentials: The token has expired.",
        ),
        (
            with("aud", json!("x")),
            401,
            "Invalid authorization credentials: The token is meant for another audience.",
        ),
        (
            with("iss", json!("https://x.example/")),
            401,
            "Invalid authorization credentials: The token has the wrong issuer.",
        ),
        (
            stranger,
            401,
            "Invalid authorization credentials: The token's signature could not be verified.",
        ),
        (
            with("sub", json!("mallory")),
            401,
            "Invalid authorization credentials: invalid username or password",
        ),
        (
            "x".to_owned(),
            401,
            "Invalid authorization credentials: The token has the wrong issuer.",
        ),
        (String::new(), 400, "Missing authorization credentials"),
    ] {
        let answer = setup.log_in(&token);
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["details"]),
            (status, &json!([details])),
            "{body}"
        );
    }
    // Neither does one with a body, nor without a token.
    let headers = format!(
        "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
        setup.token()
    );
    assert_eq!(
        setup.gate.request("POST", "/api/login", &headers).status,
        400
    );
    assert_eq!(
        setup
            .gate
            .request("POST", "/api/login", "content-length: 0\r\n")
            .status,
        400
    );
    let form = format!(
        "authorization: Bearer {}\r\ncontent-length: 1\r\n\r\nx",
        setup.token()
    );
    let raw = format!("POST /api/login HTTP/1.1\r\nhost: gate.example\r\n{form}");
    assert_eq!(setup.gate.send(raw).status, 400);
}

#[test]
fn what_was_revoked_or_cannot_be_judged_buys_nothing() {
    let setup = start("datarhei", "", as_it_is);
    let token = setup.token();
    assert_eq!(setup.log_in(&token).status, 200);
    let body = json!({"subject": "alice"}).to_string();
    let length = body.len();
    let request = format!(
        "POST /revoke HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    assert_eq!(
        crate::support::client::send(setup.gate.admin, request).status,
        200
    );
    let answer = setup.log_in(&token);
    assert_eq!(answer.status, 401);
    assert!(
        answer.text().contains("The token has been revoked."),
        "{}",
        answer.text()
    );

    let down = start("datarhei", "", |builder, issuer| {
        issuer.answer_keys("");
        builder
    });
    assert_eq!(down.log_in(&down.token()).status, 503);
}

#[test]
fn local_logins_are_told_of_only_where_there_are_any() {
    let with_users = |builder: Builder, issuer: &Issuer| {
        let entry = issuer.entry(PREFIX);
        builder.line(
            "identity:",
            &format!("identity: [ {{ users_file: users.yaml }}, {entry} ]"),
        )
    };
    let setup = start("datarhei", "", with_users);
    let about = setup.gate.request("GET", "/api", "").json();
    let auths: Vec<_> = about["auths"].as_array().unwrap().iter().collect();
    assert_eq!(auths.len(), 2);
    assert_eq!(auths[0], "localjwt");
}

fn post(gate: &Gate, form: &str) -> Response {
    let length = form.len();
    gate.send(format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
    ))
}

const JWT_BEARER: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

#[test]
fn an_assertion_buys_an_access_token_and_no_refresh_token() {
    let setup = start("oauth2", PREFIX, as_it_is);
    let gate = &setup.gate;
    let metadata = gate
        .request("GET", "/.well-known/oauth-authorization-server", "")
        .json();
    let types = metadata["grant_types_supported"].as_array().unwrap();
    assert!(types.contains(&json!("urn:ietf:params:oauth:grant-type:jwt-bearer")));

    let answer = post(gate, &format!("{JWT_BEARER}&assertion={}", setup.token()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["refresh_token"], Value::Null);
    let access = text(&answer, "access_token");
    assert_eq!(claims_of(&access)["sub"], "auth0:alice");
    assert_eq!(gate.get("/data/x", &access).status, 200);

    let narrow = post(
        gate,
        &format!("{JWT_BEARER}&scope=write&assertion={}", setup.token()),
    );
    assert_eq!(
        claims_of(&text(&narrow.json(), "access_token"))["scope"],
        "write"
    );
    let expired = setup.key.sign(&setup.issuer.claims_with("exp", json!(1)));
    for (form, error) in [
        (format!("{JWT_BEARER}&assertion={expired}"), "invalid_grant"),
        (format!("{JWT_BEARER}&assertion=x"), "invalid_grant"),
        (JWT_BEARER.to_owned(), "invalid_request"),
        (
            format!("{JWT_BEARER}&scope=root&assertion={}", setup.token()),
            "invalid_scope",
        ),
    ] {
        let answer = post(gate, &form);
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (400, &json!(error)),
            "{form}"
        );
    }
    // The external token itself is good as a Bearer, but not as the gate's own.
    let external = setup.token();
    assert_eq!(gate.get("/data/x", &external).status, 200);
    let form = |target: &str, headers: &str| {
        let form = format!("token={external}");
        let length = form.len();
        gate.send(format!(
            "POST {target} HTTP/1.1\r\nhost: gate.example\r\n{headers}content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
        ))
    };
    let asker = format!("authorization: Bearer {external}\r\n");
    let introspected = form("/oauth2/introspect", &asker);
    assert_eq!(
        (introspected.status, introspected.json()),
        (200, json!({"active": false}))
    );
    assert_eq!(form("/oauth2/revoke", "").status, 200);
    assert_eq!(
        gate.get("/data/x", &external).status,
        200,
        "its holder ended it"
    );
}
