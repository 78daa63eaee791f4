//! Logins and refreshes that are granted.

use serde_json::{Value, json};

use super::{LOGIN, REFRESH, ROUTES, post, start};
use crate::support::client::Response;
use crate::support::gate::{Builder, Gate};
use crate::support::rows;
use crate::support::tokens::{claims_of, header_of};
use crate::support::upstream::Upstream;

/// Case, path, content type, body.
const LOGINS: &str = r#"
as documented              | /auth/authenticate | json | {"username":"root","password":"memphis"}
with a charset             | /auth/authenticate | application/json; charset=utf-8 | {"username":"root","password":"memphis"}
a charset in capitals      | /auth/authenticate | Application/JSON;charset=UTF-8 | {"username":"root","password":"memphis"}
another JSON type          | /auth/authenticate | application/vnd.api+json | {"username":"root","password":"memphis"}
a path in another case     | /AUTH/Authenticate | json | {"username":"root","password":"memphis"}
a query with the account   | /auth/authenticate?accountId=1 | json | {"username":"root","password":"memphis"}
keys in another case       | /auth/authenticate | json | {"UserName":"root","PASSWORD":"memphis"}
unknown fields             | /auth/authenticate | json | {"username":"root","password":"memphis","x":{"y":[1]},"z":null}
all fields                 | /auth/authenticate | json | {"username":"root","password":"memphis","account_id":1,"connection_token":"","token_expiry_in_minutes":15,"refresh_token_expiry_in_minutes":300}
account 0                  | /auth/authenticate | json | {"username":"root","password":"memphis","account_id":0}
another account            | /auth/authenticate?accountId=7 | json | {"username":"root","password":"memphis","account_id":7}
no account                 | /auth/authenticate | json | {"username":"root","password":"memphis","account_id":null}
an account suffix          | /auth/authenticate | json | {"username":"root$1","password":"memphis"}
another account's suffix   | /auth/authenticate | json | {"username":"root$123","password":"memphis"}
a field twice, last counts | /auth/authenticate | json | {"username":"nobody","password":"x","username":"root","password":"memphis"}
an e-mail address          | /auth/authenticate | json | {"username":"root@example.com","password":"memphis"}
an e-mail in capitals      | /auth/authenticate | json | {"username":"Root@Example.COM","password":"memphis"}
a connection token         | /auth/authenticate | json | {"username":"root","connection_token":"memphis"}
next to an empty password  | /auth/authenticate | json | {"username":"root","password":"","connection_token":"memphis"}
escapes                    | /auth/authenticate | json | {"username":"r\u006fot","password":"memphis"}
a form                     | /auth/authenticate | form | username=root&password=memphis
a form with a charset      | /auth/authenticate | Application/X-WWW-Form-Urlencoded; charset=UTF-8 | username=root&password=memphis
a form with escapes        | /auth/authenticate | form | username=r%6Fot&password=%6demphis&x=
a form with numbers        | /auth/authenticate | form | username=root&password=memphis&token_expiry_in_minutes=15&account_id=1
"#;

/// What is asked, the access token's milliseconds, the refresh token's.
const LIFETIMES: &str = r#"
 | 900000 | 18000000
,"token_expiry_in_minutes":1 | 60000 | 18000000
,"refresh_token_expiry_in_minutes":2 | 900000 | 120000
,"token_expiry_in_minutes":60,"refresh_token_expiry_in_minutes":600 | 3600000 | 36000000
,"token_expiry_in_minutes":0,"refresh_token_expiry_in_minutes":0 | 900000 | 18000000
,"token_expiry_in_minutes":-1,"refresh_token_expiry_in_minutes":-9223372036854775808 | 900000 | 18000000
,"token_expiry_in_minutes":null | 900000 | 18000000
,"TOKEN_EXPIRY_in_minutes":3 | 180000 | 18000000
,"token_expiry_in_minutes":1440 | 86400000 | 18000000
,"token_expiry_in_minutes":1441 | 86400000 | 18000000
,"token_expiry_in_minutes":10000092,"refresh_token_expiry_in_minutes":10000092 | 86400000 | 2592000000
,"token_expiry_in_minutes":6000000000,"refresh_token_expiry_in_minutes":6000000000 | 86400000 | 2592000000
,"token_expiry_in_minutes":9223372036854775807,"refresh_token_expiry_in_minutes":9223372036854775807 | 86400000 | 2592000000
"#;

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
    for row in rows(LOGINS) {
        let case = row[0];
        let pair = assert_granted(&gate, case, &post(&gate, row[1], row[2], row[3]));
        let claims = claims_of(pair["jwt"].as_str().unwrap());
        let (subject, scope) = (&claims["sub"], &claims["scope"]);
        assert_eq!(
            (subject, scope),
            (&json!("root"), &json!("admin")),
            "{case}"
        );
    }
}

#[test]
fn lifetimes_are_asked_in_minutes_clamped_and_told_in_milliseconds() {
    let (_upstream, gate) = start();
    for row in rows(LIFETIMES) {
        let asked = row[0];
        let body = format!(r#"{{"username":"root","password":"memphis"{asked}}}"#);
        let pair = assert_granted(&gate, asked, &gate.post_json(LOGIN, &body));
        assert_eq!(pair["expires_in"].to_string(), row[1], "{asked}");
        assert_eq!(
            pair["refresh_token_expires_in"].to_string(),
            row[2],
            "{asked}"
        );
        // A refresh asks in the same way.
        let token = &pair["jwt_refresh_token"];
        let body = format!(r#"{{"jwt_refresh_token":{token}{asked}}}"#);
        let pair = assert_granted(&gate, asked, &gate.post_json(REFRESH, &body));
        assert_eq!(pair["expires_in"].to_string(), row[1], "refresh {asked}");
        assert_eq!(
            pair["refresh_token_expires_in"].to_string(),
            row[2],
            "refresh {asked}"
        );
    }
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
    let response = post(&gate, REFRESH, "form", &form);
    assert_granted(&gate, "a form", &response);
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
        "  - { path: '/**', upstream: app, public: true, danger_unanchored: true }",
    )
    .edit("login: [ { dialect: memphis } ]", "login: []")
    .start();
    assert_eq!(gate.post_json(LOGIN, "{}").status, 200);
    assert_eq!(upstream.last().target(), LOGIN);
}
