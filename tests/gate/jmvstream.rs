//! Jmvstream's login, as its clients meet it.

use std::sync::Mutex;

use serde_json::json;

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate, hash_password};
use crate::support::rows;
use crate::support::tokens::{claims_of, header_of, with_claim};
use crate::support::upstream::Upstream;

const RESOURCE: &str = "7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11";
const LOGIN: &str = "/v1/authenticate";

/// Case, body, status, message. `RESOURCE` is the one that the user has.
const FAILURES: &str = r#"
nothing, the first is named  | {} | 400 | "email" is required
the last alone               | {"resource":"RESOURCE"} | 400 | "email" is required
no e-mail                    | {"password":"memphis","resource":"RESOURCE"} | 400 | "email" is required
no password                  | {"email":"root@example.com","resource":"RESOURCE"} | 400 | "password" is required
no resource                  | {"email":"root@example.com","password":"memphis"} | 400 | "resource" is required
an empty e-mail              | {"email":"","password":"","resource":""} | 400 | "email" is required
an empty password            | {"email":"root@example.com","password":"","resource":""} | 400 | "password" is required
a null resource              | {"email":"root@example.com","password":"memphis","resource":null} | 400 | "resource" is required
a name for the resource      | {"email":"root@example.com","password":"memphis","resource":"x"} | 400 | "resource" must be a valid GUID
a UUID cut short             | {"email":"root@example.com","password":"memphis","resource":"7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a1"} | 400 | "resource" must be a valid GUID
a UUID without hyphens       | {"email":"root@example.com","password":"memphis","resource":"7f9c24e52c314f0a9d0b5b0f6f1f6a11"} | 400 | "resource" must be a valid GUID
a UUID in braces             | {"email":"root@example.com","password":"memphis","resource":"{7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11}"} | 400 | "resource" must be a valid GUID
a UUID of other letters      | {"email":"root@example.com","password":"memphis","resource":"7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a1g"} | 400 | "resource" must be a valid GUID
a UUID with a tail           | {"email":"root@example.com","password":"memphis","resource":"7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11 "} | 400 | "resource" must be a valid GUID
a wrong password             | {"email":"root@example.com","password":"no","resource":"RESOURCE"} | 401 | not allowed
an unknown user              | {"email":"no@example.com","password":"memphis","resource":"RESOURCE"} | 401 | not allowed
another's resource           | {"email":"root@example.com","password":"memphis","resource":"00000000-0000-4000-8000-000000000000"} | 401 | not allowed
a user without any resource  | {"email":"bare@example.com","password":"memphis","resource":"RESOURCE"} | 401 | not allowed
"#;

/// Case, content type (`-` for none), body: what no field can be read from.
const UNREADABLE: &str = r#"
broken JSON       | application/json | {
a list            | application/json | []
an empty body     | application/json |
a wrong type      | application/json | {"email":1,"password":"memphis","resource":"RESOURCE"}
JSON called text  | text/plain | {"email":"root@example.com","password":"memphis","resource":"RESOURCE"}
no type           | - | {"email":"root@example.com","password":"memphis","resource":"RESOURCE"}
"#;

/// Case, content type, body.
const LOGINS: &str = r#"
as documented             | application/json | {"email":"root@example.com","password":"memphis","resource":"RESOURCE"}
with a charset            | application/json; charset=utf-8 | {"email":"root@example.com","password":"memphis","resource":"RESOURCE"}
unknown fields            | application/json | {"email":"root@example.com","password":"memphis","resource":"RESOURCE","x":1}
an e-mail in capitals     | application/json | {"email":"Root@Example.COM","password":"memphis","resource":"RESOURCE"}
a name in the e-mail      | application/json | {"email":"root","password":"memphis","resource":"RESOURCE"}
a resource in capitals    | application/json | {"email":"root","password":"memphis","resource":"7F9C24E5-2C31-4F0A-9D0B-5B0F6F1F6A11"}
"#;

fn builder(upstream: &Upstream) -> Builder {
    let hash = hash_password("memphis", "argon2id");
    let users = format!(
        "users:\n  - {{ name: root, email: root@example.com, password_hash: \"{hash}\", \
         resources: [ {RESOURCE} ] }}\n  - {{ name: bare, email: bare@example.com, \
         password_hash: \"{hash}\" }}\n"
    );
    Builder::standard(upstream.address, "  - { path: /v1/**, upstream: app }")
        .edit("dialect: memphis", "dialect: jmvstream")
        .file("users.yaml", users)
}

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = builder(&upstream).start();
    (upstream, gate)
}

fn post(gate: &Gate, kind: &str, body: &str) -> Response {
    let body = body.replace("RESOURCE", RESOURCE);
    let length = body.len();
    let kind = match kind {
        "-" => String::new(),
        kind => format!("content-type: {kind}\r\n"),
    };
    gate.send(format!(
        "POST {LOGIN} HTTP/1.1\r\nhost: gate.example\r\naccept: application/json\r\n{kind}\
         content-length: {length}\r\n\r\n{body}"
    ))
}

fn good(gate: &Gate) -> Response {
    let body = json!({"email": "root@example.com", "password": "memphis", "resource": RESOURCE});
    post(gate, "application/json", &body.to_string())
}

fn assert_json(case: &str, response: &Response) {
    let kind = response.header("content-type");
    assert_eq!(kind, Some("application/json"), "{case}");
    assert_eq!(response.header("www-authenticate"), None, "{case}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{case}");
}

#[test]
fn a_login_is_granted_in_each_form_that_clients_send() {
    let (upstream, gate) = start();
    for row in rows(LOGINS) {
        let (case, response) = (row[0], post(&gate, row[1], row[2]));
        assert_eq!(response.status, 200, "{case}: {}", response.text());
        assert_json(case, &response);
        let answer = response.json();
        let names = Vec::from_iter(answer.as_object().unwrap().keys());
        assert_eq!(names, ["token"], "{case}");
        let resource = claims_of(answer["token"].as_str().unwrap())["resource"].clone();
        let resource = resource.as_str().unwrap().to_lowercase();
        assert_eq!(resource, RESOURCE, "{case}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_token_names_the_resource_and_lives_longer_than_its_clients_keep_it() {
    let (upstream, gate) = start();
    let answer = good(&gate).json();
    let token = answer["token"].as_str().unwrap();
    let claims = claims_of(token);
    assert_eq!(header_of(token)["typ"], "at+jwt");
    assert_eq!(
        (&claims["resource"], &claims["sub"]),
        (&json!(RESOURCE), &json!("root"))
    );
    let span = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(span >= 4 * 3600, "{span}");
    // Its clients write a slash before the query.
    for target in [
        "/v1/videos/application/?name=a%20b&page=1",
        "/v1/videos/folder/7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11/?page=1",
        "/v1/folders/",
    ] {
        assert_eq!(gate.get(target, token).status, 200, "{target}");
        assert_eq!(upstream.last().target(), target);
    }
}

#[test]
fn failures_are_told_as_documented() {
    let (upstream, gate) = start();
    for row in rows(FAILURES) {
        let (case, response) = (row[0], post(&gate, "application/json", row[1]));
        assert_eq!(response.status.to_string(), row[2], "{case}");
        assert_eq!(response.json(), json!({"message": row[3]}), "{case}");
        assert_json(case, &response);
    }
    for row in rows(UNREADABLE) {
        let (case, response) = (row[0], post(&gate, row[1], row[2]));
        assert_eq!(response.status, 400, "{case}");
        assert!(response.json()["message"].is_string(), "{case}");
        assert_json(case, &response);
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let response = gate.request(method, LOGIN, "");
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.header("allow"), Some("POST"), "{method}");
        assert!(response.json()["message"].is_string(), "{method}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_login_that_cannot_be_judged_is_the_documented_server_error() {
    let upstream = Upstream::start();
    let routes = "  - { path: /v1/**, upstream: app }";
    let limits = format!("{routes}\nlimits: {{ hashing_threads: 1, hashing_queue: 1 }}");
    let gate = builder(&upstream).edit(routes, &limits).start();
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let answer = good(&gate);
                answers.lock().unwrap().push(answer);
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    let (granted, failed): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|response| response.status == 200);
    assert!(!granted.is_empty());
    assert!(!failed.is_empty());
    for response in failed {
        let answer = (response.status, response.text());
        let expected = r#"{"error":"Internal Server Error"}"#;
        assert_eq!(answer, (500, expected.to_owned()));
        assert_json("busy", &response);
    }
}

#[test]
fn a_call_without_a_good_token_is_not_allowed() {
    let (upstream, gate) = start();
    let expired = with_claim("exp", json!(1));
    for (case, header) in [
        ("nothing", String::new()),
        (
            "what the plugin makes of a failed login",
            "authorization: Bearer Array\r\n".to_owned(),
        ),
        ("expired", format!("authorization: Bearer {expired}\r\n")),
        ("Basic", "authorization: Basic YTpi\r\n".to_owned()),
    ] {
        let response = gate.request("GET", "/v1/folders/", &header);
        let answer = (response.status, response.text());
        let expected = r#"{"message":"not allowed"}"#.to_owned();
        assert_eq!(answer, (401, expected), "{case}");
        let kind = response.header("content-type");
        assert_eq!(kind, Some("application/json"), "{case}");
    }
    let near = gate.post_json("/v1/authenticate/", "{}");
    assert_eq!(near.status, 401, "a slash makes it another path");
    assert!(upstream.seen().is_empty());
}
