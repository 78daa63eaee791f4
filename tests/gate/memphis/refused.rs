//! Logins, refreshes and routes that are refused.

use serde_json::{Value, json};

use super::{LOGIN, REFRESH, post, start};
use crate::support::gate::{Builder, claims, sign_as};
use crate::support::rows;
use crate::support::tokens::{claims_of, with_claim};

const UNAUTHORIZED: &str = r#"{"message":"Unauthorized"}"#;

/// Case, content type, body.
const MALFORMED: &str = r#"
not JSON                    | json       | username
broken JSON                 | json       | {"username":"root","password":"memphis"
a tail                      | json       | {"username":"root","password":"memphis"}x
a list                      | json       | []
text                        | json       | "root"
nothing                     | json       |
no content type             | -          | {"username":"root","password":"memphis"}
plain text                  | text/plain | {"username":"root","password":"memphis"}
null                        | json       | null
a part of a form, not taken | multipart/form-data; boundary=x | --x--
XML, not taken              | application/xml | <a><username>root</username></a>
a user that is a number     | json       | {"username":1,"password":"memphis"}
a password that is a number | json       | {"username":"root","password":1}
an account that is text     | json       | {"username":"root","password":"memphis","account_id":"1"}
an account with a fraction  | json       | {"username":"root","password":"memphis","account_id":1.5}
an account out of range     | json       | {"username":"root","password":"memphis","account_id":99999999999999999999}
an account that is true     | json       | {"username":"root","password":"memphis","account_id":true}
minutes with an exponent    | json       | {"username":"root","password":"memphis","token_expiry_in_minutes":1e1}
minutes that are text       | json       | {"username":"root","password":"memphis","token_expiry_in_minutes":"15"}
minutes with a fraction     | json       | {"username":"root","password":"memphis","token_expiry_in_minutes":1.5}
minutes that are true       | json       | {"username":"root","password":"memphis","refresh_token_expiry_in_minutes":true}
a form that is not UTF-8    | form       | username=%ff&password=memphis
a form without a number     | form       | username=root&password=memphis&token_expiry_in_minutes=x
"#;

/// Case, body.
const WRONG: &str = r#"
a wrong password                    | {"username":"root","password":"wrong"}
no password                         | {"username":"root"}
a password in another case          | {"username":"root","password":"Memphis"}
a password with a tail              | {"username":"root","password":"memphis\u0000"}
an unknown user                     | {"username":"nobody","password":"memphis"}
an unknown user, no password        | {"username":"nobody"}
a wrong connection token            | {"username":"root","connection_token":"wrong"}
an unknown user, a connection token | {"username":"nobody","connection_token":"memphis"}
a wrong password, a right token     | {"username":"root","password":"wrong","connection_token":"memphis"}
nothing but an account              | {"username":"$1","password":"memphis"}
a suffix that is no account         | {"username":"root$x","password":"memphis"}
"#;

#[test]
fn a_malformed_login_is_told_so_in_the_gateways_words() {
    let (_upstream, gate) = start();
    for row in rows(MALFORMED) {
        let (case, response) = (row[0], post(&gate, LOGIN, row[1], row[2]));
        assert_eq!(response.status, 400, "{case}");
        let kind = response.header("content-type");
        assert_eq!(kind, Some("application/json"), "{case}");
        let answer = response.json();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{case}");
        let message = answer["message"].as_str().unwrap();
        let is_known = message.starts_with("Some of your fields are not valid");
        assert!(is_known, "{case}: {message}");
        assert_eq!(response.header("www-authenticate"), None, "{case}");
    }
}

#[test]
fn a_login_without_a_username_is_told_which_field_is_missing() {
    let (_upstream, gate) = start();
    for (case, kind, body) in [
        ("missing", "json", r#"{"password":"memphis"}"#),
        ("empty", "json", r#"{"username":"","password":"memphis"}"#),
        ("null", "json", r#"{"username":null,"password":"memphis"}"#),
        ("an empty object", "json", "{}"),
        ("missing in a form", "form", "password=memphis"),
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
    let mut names = Vec::new();
    for row in rows(WRONG) {
        let (case, response) = (row[0], gate.post_json(LOGIN, row[1]));
        let answer = (response.status, response.text());
        assert_eq!(answer, (401, UNAUTHORIZED.to_owned()), "{case}");
        assert_eq!(response.header("www-authenticate"), None, "{case}");
        let own = Vec::from_iter(response.headers.into_iter().map(|(name, _)| name));
        if names.is_empty() {
            names.clone_from(&own);
        }
        assert_eq!(own, names, "{case}: the same headers");
    }
    assert!(!gate.log().contains("wrong\""));
}

#[test]
fn a_refresh_without_a_good_refresh_token_is_unauthorized() {
    let (_upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    let refresh = pair["jwt_refresh_token"].as_str().unwrap();
    let state = &claims_of(refresh)["acct"];
    let lineage = ["fam", "gen"].map(|name| (name, claims_of(refresh)[name].clone()));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        claims["acct"] = state.clone();
        for (name, value) in &lineage {
            claims[*name] = value.clone();
        }
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
        (
            "no family",
            with(&|claims| claims["fam"] = Value::Null).into(),
        ),
        (
            "another family",
            with(&|claims| claims["fam"] = json!("other")).into(),
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
        ("not JSON", "json", "x"),
        ("nothing", "json", ""),
        (
            "a token that is a number",
            "json",
            r#"{"jwt_refresh_token":1}"#,
        ),
        ("plain text", "text/plain", r#"{"jwt_refresh_token":"x"}"#),
        ("no content type", "-", r#"{"jwt_refresh_token":"x"}"#),
    ] {
        let response = post(&gate, REFRESH, kind, body);
        assert_eq!(response.status, 500, "{case}");
        assert_eq!(response.text(), r#"{"message":"Server error"}"#, "{case}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("www-authenticate"), None, "{case}");
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
fn a_body_over_the_limit_is_refused() {
    let (_upstream, gate) = start();
    let padding = "x".repeat(70 * 1024);
    let body = format!(r#"{{"username":"root","password":"memphis","x":"{padding}"}}"#);
    for target in [LOGIN, REFRESH] {
        let response = gate.post_json(target, &body);
        assert_eq!(response.status, 413, "{target}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert!(response.json()["message"].is_string(), "{target}");
        let response = gate.send(format!(
            "POST {target} HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ));
        assert_eq!(response.status, 413, "{target}, chunked");
    }
}
