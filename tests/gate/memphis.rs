//! The Memphis REST gateway's login, byte for byte as its clients know it.

use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate, claims, sign_as};
use crate::support::tokens::{claims_of, header_of, with_claim};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /stations/**
    upstream: app
";
const LOGIN: &str = "/auth/authenticate";
const REFRESH: &str = "/auth/refreshToken";
const UNAUTHORIZED: &str = r#"{"message":"Unauthorized"}"#;

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

fn post(gate: &Gate, target: &str, kind: &str, body: &str) -> Response {
    let length = body.len();
    let kind = match kind {
        "" => String::new(),
        kind => format!("content-type: {kind}\r\n"),
    };
    gate.send(format!(
        "POST {target} HTTP/1.1\r\nhost: gate.example\r\n{kind}content-length: {length}\r\n\r\n{body}"
    ))
}

/// The answer has exactly the four known fields, in alphabetical order, and is fit to be used.
fn assert_granted(gate: &Gate, case: &str, response: &Response) -> Value {
    assert_eq!(response.status, 200, "{case}: {}", response.text());
    assert_eq!(
        response.header("content-type"),
        Some("application/json"),
        "{case}"
    );
    assert_eq!(response.header("cache-control"), Some("no-store"), "{case}");
    let pair = response.json();
    let field = |name: &str| pair[name].to_string();
    let exact = format!(
        r#"{{"expires_in":{},"jwt":{},"jwt_refresh_token":{},"refresh_token_expires_in":{}}}"#,
        field("expires_in"),
        field("jwt"),
        field("jwt_refresh_token"),
        field("refresh_token_expires_in"),
    );
    assert_eq!(response.text(), exact, "{case}");
    for (token, span, typ) in [
        ("jwt", "expires_in", "at+jwt"),
        ("jwt_refresh_token", "refresh_token_expires_in", "rt+jwt"),
    ] {
        let token = pair[token].as_str().unwrap();
        let claims = claims_of(token);
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(pair[span], json!(lifetime * 1000), "{case}: {span}");
        assert_eq!(header_of(token)["typ"], typ, "{case}");
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!("tollgate"), &json!("gate"))
        );
        assert!(claims["jti"].is_string(), "{case}");
    }
    let access = pair["jwt"].as_str().unwrap();
    assert_eq!(gate.get("/stations/s", access).status, 200, "{case}");
    pair
}

#[test]
fn a_login_is_granted_in_each_form_that_clients_send() {
    let (_upstream, gate) = start();
    let form = "application/x-www-form-urlencoded";
    let json = "application/json";
    let plain = r#"{"username":"root","password":"memphis"}"#;
    for (case, target, kind, body) in [
        ("as documented", LOGIN, json, plain),
        (
            "with a charset",
            LOGIN,
            "application/json; charset=utf-8",
            plain,
        ),
        (
            "a charset in capitals",
            LOGIN,
            "Application/JSON;charset=UTF-8",
            plain,
        ),
        (
            "another JSON type",
            LOGIN,
            "application/vnd.api+json",
            plain,
        ),
        ("a path in another case", "/AUTH/Authenticate", json, plain),
        (
            "with a query",
            "/auth/authenticate?accountId=1",
            json,
            plain,
        ),
        (
            "keys in another case",
            LOGIN,
            json,
            r#"{"UserName":"root","PASSWORD":"memphis"}"#,
        ),
        (
            "unknown fields",
            LOGIN,
            json,
            r#"{"username":"root","password":"memphis","x":{"y":[1]},"z":null}"#,
        ),
        (
            "all fields",
            LOGIN,
            json,
            r#"{"username":"root","password":"memphis","account_id":1,"connection_token":"","token_expiry_in_minutes":15,"refresh_token_expiry_in_minutes":300}"#,
        ),
        (
            "account 0",
            LOGIN,
            json,
            r#"{"username":"root","password":"memphis","account_id":0}"#,
        ),
        (
            "an account suffix",
            LOGIN,
            json,
            r#"{"username":"root$1","password":"memphis"}"#,
        ),
        (
            "an e-mail address",
            LOGIN,
            json,
            r#"{"username":"root@example.com","password":"memphis"}"#,
        ),
        (
            "an e-mail address in capitals",
            LOGIN,
            json,
            r#"{"username":"Root@Example.COM","password":"memphis"}"#,
        ),
        (
            "a connection token",
            LOGIN,
            json,
            r#"{"username":"root","connection_token":"memphis"}"#,
        ),
        (
            "an empty password next to a connection token",
            LOGIN,
            json,
            r#"{"username":"root","password":"","connection_token":"memphis"}"#,
        ),
        ("a form", LOGIN, form, "username=root&password=memphis"),
        (
            "a form with escapes and numbers",
            LOGIN,
            form,
            "username=r%6Fot&password=%6demphis&token_expiry_in_minutes=15&account_id=1&x=",
        ),
        (
            "escapes in JSON",
            LOGIN,
            json,
            r#"{"username":"r\u006fot","password":"memphis"}"#,
        ),
    ] {
        let pair = assert_granted(&gate, case, &post(&gate, target, kind, body));
        let claims = claims_of(pair["jwt"].as_str().unwrap());
        assert_eq!(
            (&claims["sub"], &claims["scope"]),
            (&json!("root"), &json!("admin")),
            "{case}"
        );
    }
}

#[test]
fn lifetimes_are_asked_in_minutes_clamped_and_told_in_milliseconds() {
    let (_upstream, gate) = start();
    let (access, refresh) = (900_000_u64, 18_000_000_u64);
    let (max_access, max_refresh) = (86_400_000_u64, 2_592_000_000_u64);
    for (asked, access, refresh) in [
        ("", access, refresh),
        (r#","token_expiry_in_minutes":1"#, 60_000, refresh),
        (r#","refresh_token_expiry_in_minutes":2"#, access, 120_000),
        (
            r#","token_expiry_in_minutes":60,"refresh_token_expiry_in_minutes":600"#,
            3_600_000,
            36_000_000,
        ),
        (
            r#","token_expiry_in_minutes":0,"refresh_token_expiry_in_minutes":0"#,
            access,
            refresh,
        ),
        (
            r#","token_expiry_in_minutes":-1,"refresh_token_expiry_in_minutes":-9223372036854775808"#,
            access,
            refresh,
        ),
        (r#","token_expiry_in_minutes":null"#, access, refresh),
        (r#","token_expiry_in_minutes":1440"#, max_access, refresh),
        (r#","token_expiry_in_minutes":1441"#, max_access, refresh),
        (
            r#","token_expiry_in_minutes":10000092,"refresh_token_expiry_in_minutes":10000092"#,
            max_access,
            max_refresh,
        ),
        (
            r#","token_expiry_in_minutes":6000000000,"refresh_token_expiry_in_minutes":6000000000"#,
            max_access,
            max_refresh,
        ),
        (
            r#","token_expiry_in_minutes":9223372036854775807,"refresh_token_expiry_in_minutes":9223372036854775807"#,
            max_access,
            max_refresh,
        ),
        (r#","TOKEN_EXPIRY_in_minutes":3"#, 180_000, refresh),
    ] {
        let body = format!(r#"{{"username":"root","password":"memphis"{asked}}}"#);
        let pair = assert_granted(&gate, asked, &gate.post_json(LOGIN, &body));
        assert_eq!(pair["expires_in"], json!(access), "{asked}");
        assert_eq!(pair["refresh_token_expires_in"], json!(refresh), "{asked}");
        // A refresh asks in the same way.
        let token = &pair["jwt_refresh_token"];
        let body = format!(r#"{{"jwt_refresh_token":{token}{asked}}}"#);
        let pair = assert_granted(&gate, asked, &gate.post_json(REFRESH, &body));
        assert_eq!(pair["expires_in"], json!(access), "refresh {asked}");
        assert_eq!(
            pair["refresh_token_expires_in"],
            json!(refresh),
            "refresh {asked}"
        );
    }
}

#[test]
fn a_malformed_login_is_told_so_in_the_gateways_words() {
    let (_upstream, gate) = start();
    let json = "application/json";
    let good = r#"{"username":"root","password":"memphis"}"#;
    for (case, kind, body) in [
        ("not JSON", json, "username"),
        (
            "broken JSON",
            json,
            r#"{"username":"root","password":"memphis""#,
        ),
        (
            "a tail",
            json,
            r#"{"username":"root","password":"memphis"}x"#,
        ),
        ("a list", json, "[]"),
        ("text", json, r#""root""#),
        ("nothing", json, ""),
        ("no content type", "", good),
        ("plain text", "text/plain", good),
        (
            "a user that is a number",
            json,
            r#"{"username":1,"password":"memphis"}"#,
        ),
        (
            "a password that is a number",
            json,
            r#"{"username":"root","password":1}"#,
        ),
        (
            "an account that is text",
            json,
            r#"{"username":"root","password":"memphis","account_id":"1"}"#,
        ),
        (
            "an account that is a fraction",
            json,
            r#"{"username":"root","password":"memphis","account_id":1.5}"#,
        ),
        (
            "minutes that are text",
            json,
            r#"{"username":"root","password":"memphis","token_expiry_in_minutes":"15"}"#,
        ),
        (
            "minutes that are a fraction",
            json,
            r#"{"username":"root","password":"memphis","token_expiry_in_minutes":1.5}"#,
        ),
        (
            "minutes that are true",
            json,
            r#"{"username":"root","password":"memphis","refresh_token_expiry_in_minutes":true}"#,
        ),
        (
            "a form that is not UTF-8",
            "application/x-www-form-urlencoded",
            "username=%ff&password=memphis",
        ),
        (
            "a form with minutes that are no number",
            "application/x-www-form-urlencoded",
            "username=root&password=memphis&token_expiry_in_minutes=x",
        ),
    ] {
        let response = post(&gate, LOGIN, kind, body);
        assert_eq!(response.status, 400, "{case}");
        assert_eq!(
            response.header("content-type"),
            Some("application/json"),
            "{case}"
        );
        let answer = response.json();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{case}");
        let message = answer["message"].as_str().unwrap();
        assert!(
            message.starts_with("Some of your fields are not valid"),
            "{case}: {message}"
        );
        assert_eq!(response.header("www-authenticate"), None, "{case}");
    }
}

#[test]
fn a_login_without_a_username_is_told_which_field_is_missing() {
    let (_upstream, gate) = start();
    for (case, kind, body) in [
        ("missing", "application/json", r#"{"password":"memphis"}"#),
        (
            "empty",
            "application/json",
            r#"{"username":"","password":"memphis"}"#,
        ),
        (
            "null",
            "application/json",
            r#"{"username":null,"password":"memphis"}"#,
        ),
        ("an empty object", "application/json", "{}"),
        (
            "missing in a form",
            "application/x-www-form-urlencoded",
            "password=memphis",
        ),
    ] {
        let response = post(&gate, LOGIN, kind, body);
        assert_eq!(response.status, 400, "{case}");
        let exact = r#"{"message":[{"field":"Username","reason":"required"}]}"#;
        assert_eq!(response.text(), exact, "{case}");
    }
}

#[test]
fn a_failed_login_does_not_tell_whether_the_account_exists() {
    let (_upstream, gate) = start();
    let mut answers = Vec::new();
    for (case, body) in [
        (
            "a wrong password",
            r#"{"username":"root","password":"wrong"}"#,
        ),
        ("no password", r#"{"username":"root"}"#),
        (
            "a password in another case",
            r#"{"username":"root","password":"Memphis"}"#,
        ),
        (
            "a password with a tail",
            r#"{"username":"root","password":"memphis\u0000"}"#,
        ),
        (
            "an unknown user",
            r#"{"username":"nobody","password":"memphis"}"#,
        ),
        (
            "an unknown user without password",
            r#"{"username":"nobody"}"#,
        ),
        (
            "a wrong connection token",
            r#"{"username":"root","connection_token":"wrong"}"#,
        ),
        (
            "an unknown user with a connection token",
            r#"{"username":"nobody","connection_token":"memphis"}"#,
        ),
        (
            "nothing but an account",
            r#"{"username":"$1","password":"memphis"}"#,
        ),
        (
            "a suffix that is no account",
            r#"{"username":"root$x","password":"memphis"}"#,
        ),
        (
            "a very long password",
            &format!(r#"{{"username":"root","password":"{}"}}"#, "x".repeat(5000)),
        ),
    ] {
        let response = gate.post_json(LOGIN, body);
        assert_eq!(
            (response.status, response.text().as_str()),
            (401, UNAUTHORIZED),
            "{case}"
        );
        assert_eq!(response.header("www-authenticate"), None, "{case}");
        let mut names: Vec<_> = response
            .headers
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        answers.push((case, names));
    }
    for (case, names) in &answers {
        assert_eq!(names, &answers[0].1, "{case}");
    }
    assert!(!gate.log().contains("wrong\""));
}

#[test]
fn a_refresh_gives_a_new_pair() {
    let (_upstream, gate) = start();
    let mut pair = gate.login("root", "memphis");
    for kind in ["application/json", "application/json; charset=utf-8"] {
        let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"], "x": 1}).to_string();
        let response = post(&gate, "/AUTH/refreshtoken", kind, &body);
        let next = assert_granted(&gate, kind, &response);
        assert_ne!(next["jwt"], pair["jwt"]);
        assert_ne!(next["jwt_refresh_token"], pair["jwt_refresh_token"]);
        let access = claims_of(next["jwt"].as_str().unwrap());
        assert_eq!(
            (&access["sub"], &access["scope"]),
            (&json!("root"), &json!("admin"))
        );
        pair = next;
    }
    let form = format!(
        "jwt_refresh_token={}",
        pair["jwt_refresh_token"].as_str().unwrap()
    );
    let response = post(&gate, REFRESH, "application/x-www-form-urlencoded", &form);
    assert_granted(&gate, "a form", &response);
}

#[test]
fn a_refresh_without_a_good_refresh_token_is_unauthorized() {
    let (_upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    let refresh = pair["jwt_refresh_token"].as_str().unwrap();
    let state = &claims_of(refresh)["acct"];
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        claims["acct"] = state.clone();
        change(&mut claims);
        sign_as("rt+jwt", &claims)
    };
    for (case, token) in [
        ("an access token", pair["jwt"].clone()),
        (
            "an expired token",
            with(&|claims| claims["exp"] = json!(1)).into(),
        ),
        (
            "another's audience",
            with(&|claims| claims["aud"] = json!("other")).into(),
        ),
        (
            "no account",
            with(&|claims| claims["acct"] = Value::Null).into(),
        ),
        (
            "an unknown account",
            with(&|claims| claims["sub"] = json!("nobody")).into(),
        ),
        (
            "an account without its kind",
            with(&|claims| claims["acct"] = json!("x")).into(),
        ),
        ("typ at+jwt", with_claim("acct", state.clone()).into()),
        ("garbage", "garbage".into()),
        ("a changed signature", format!("{refresh}A").into()),
        ("nothing", "".into()),
        ("null", Value::Null),
    ] {
        let body = json!({"jwt_refresh_token": token}).to_string();
        let response = gate.post_json(REFRESH, &body);
        assert_eq!(
            (response.status, response.text().as_str()),
            (401, UNAUTHORIZED),
            "{case}"
        );
        assert_eq!(response.header("www-authenticate"), None, "{case}");
    }
    let response = gate.post_json(REFRESH, "{}");
    assert_eq!(
        (response.status, response.text().as_str()),
        (401, UNAUTHORIZED),
        "missing"
    );
    let good = with(&|_| ());
    let body = json!({"jwt_refresh_token": good}).to_string();
    assert_eq!(
        gate.post_json(REFRESH, &body).status,
        200,
        "the rows differ in one thing each"
    );
}

#[test]
fn a_malformed_refresh_is_the_gateways_server_error() {
    let (_upstream, gate) = start();
    for (case, kind, body) in [
        ("not JSON", "application/json", "x"),
        ("nothing", "application/json", ""),
        (
            "a token that is a number",
            "application/json",
            r#"{"jwt_refresh_token":1}"#,
        ),
        ("plain text", "text/plain", r#"{"jwt_refresh_token":"x"}"#),
        ("no content type", "", r#"{"jwt_refresh_token":"x"}"#),
    ] {
        let response = post(&gate, REFRESH, kind, body);
        assert_eq!(response.status, 500, "{case}");
        assert_eq!(response.text(), r#"{"message":"Server error"}"#, "{case}");
    }
}

#[test]
fn the_endpoints_take_post_alone() {
    let (upstream, gate) = start();
    for target in [LOGIN, REFRESH, "/Auth/AUTHENTICATE"] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let response = gate.request(method, target, "");
            assert_eq!(response.status, 405, "{method} {target}");
            assert_eq!(response.text(), "Method Not Allowed");
            let kind = response.header("content-type").unwrap();
            assert!(kind.starts_with("text/plain"), "{kind}");
            assert!(response.header("allow").unwrap().contains("POST"));
        }
        let head = gate.request("HEAD", target, "");
        assert_eq!((head.status, head.body.len()), (405, 0));
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_path_next_to_the_endpoints_is_none() {
    let (upstream, gate) = start();
    let body = r#"{"username":"root","password":"memphis"}"#;
    for path in [
        "/auth/authenticate/",
        "/auth/authenticate/x",
        "/auth",
        "/auth/refresh",
        "/auth/%61uthenticate",
        "/x/auth/authenticate",
    ] {
        assert_eq!(gate.post_json(path, body).status, 404, "{path}");
    }
    let gate = Builder::standard(upstream.address, "  - { path: '/**', upstream: app }").start();
    let response = gate.post_json("/auth/authenticate/", body);
    assert_eq!(
        (response.status, response.text().as_str()),
        (401, UNAUTHORIZED)
    );
    assert!(upstream.seen().is_empty());
}

#[test]
fn what_a_login_carries_in_authorization_is_ignored() {
    let (_upstream, gate) = start();
    let body = r#"{"username":"root","password":"memphis"}"#;
    let length = body.len();
    for (target, headers) in [
        (LOGIN, "authorization: Bearer None\r\n"),
        (LOGIN, "authorization: Basic YTpi\r\n"),
        (
            LOGIN,
            "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
        ),
        ("/auth/authenticate?authorization=x&access_token=y", ""),
    ] {
        let response = gate.send(format!(
            "POST {target} HTTP/1.1\r\nhost: gate.example\r\n{headers}\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        assert_granted(&gate, headers, &response);
    }
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let (_upstream, gate) = start();
    let padding = "x".repeat(70 * 1024);
    let body = format!(r#"{{"username":"root","password":"memphis","x":"{padding}"}}"#);
    for target in [LOGIN, REFRESH] {
        assert_eq!(gate.post_json(target, &body).status, 413, "{target}");
        let response = gate.send(format!(
            "POST {target} HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ));
        assert_eq!(response.status, 413, "{target}, chunked");
    }
}

#[test]
fn a_route_refuses_in_the_gateways_words() {
    let (upstream, gate) = start();
    for headers in [
        "",
        "authorization: Bearer x\r\n",
        "authorization: Basic YTpi\r\n",
    ] {
        let response = gate.request("POST", "/stations/s/produce/single", headers);
        assert_eq!(
            (response.status, response.text().as_str()),
            (401, UNAUTHORIZED)
        );
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_login_entry_has_its_own_place_and_lifetimes() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(
            "login: [ { dialect: memphis } ]",
            "login:\n  - { dialect: memphis, host: Login.Example, prefix: /broker, access_ttl: 5m, \
             refresh_ttl: 1h, max_access_ttl: 10m, max_refresh_ttl: 2h }",
        )
        .start();
    let body = r#"{"username":"root","password":"memphis","refresh_token_expiry_in_minutes":999}"#;
    let ask = |host: &str, path: &str| {
        let length = body.len();
        gate.send(format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    };
    let response = ask("LOGIN.example:443", "/broker/auth/authenticate");
    let pair = assert_granted(&gate, "in its place", &response);
    assert_eq!(pair["expires_in"], json!(300_000));
    assert_eq!(pair["refresh_token_expires_in"], json!(7_200_000));
    for (host, path) in [
        ("login.example", "/auth/authenticate"),
        ("gate.example", "/broker/auth/authenticate"),
        ("gate.example", "/auth/authenticate"),
    ] {
        assert_eq!(ask(host, path).status, 404, "{host}{path}");
    }
}

#[test]
fn a_dialect_that_is_off_leaves_its_paths_to_the_routes() {
    let upstream = Upstream::start();
    let gate = Builder::standard(
        upstream.address,
        "  - { path: '/**', upstream: app, public: true }",
    )
    .edit("login: [ { dialect: memphis } ]", "login: []")
    .start();
    assert_eq!(gate.post_json(LOGIN, "{}").status, 200);
    assert_eq!(upstream.last().target(), LOGIN);
}
