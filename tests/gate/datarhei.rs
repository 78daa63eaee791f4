//! datarhei Core's login, as its clients meet it.

use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate};
use crate::support::rows;
use crate::support::tokens::{claims_of, header_of, with_claim};
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";
const GOOD: &str = r#"{"username":"root","password":"memphis"}"#;
const MISSING: &str = "Missing authorization credentials";
const WRONG: &str = "Invalid authorization credentials: invalid username or password";
const NO_TOKEN: &str = "Missing or invalid JWT token";
/// What the service tells of itself to who has logged in.
const ABOUT: &str = r#"{"app":"datarhei-core","auths":[],"name":"n","id":"i","version":{}}"#;

/// Case, target, content type, body.
const LOGINS: &str = r#"
as documented                  | /api/login | application/json | {"username":"root","password":"memphis"}
with a charset                 | /api/login | application/json; charset=utf-8 | {"username":"root","password":"memphis"}
with a charset and no space    | /api/login | application/json;charset=UTF-8 | {"username":"root","password":"memphis"}
unknown fields                 | /api/login | application/json | {"username":"root","password":"memphis","totp":null,"x":[{}]}
a domain, as newer clients add | /api/login?domain=example.com | application/json | {"username":"root","password":"memphis"}
a domain without a value       | /api/login?domain= | application/json | {"username":"root","password":"memphis"}
an e-mail address              | /api/login | application/json | {"username":"root@example.com","password":"memphis"}
"#;

/// Case, content type (`-` for none), body, status; details follow from the status.
const FAILURES: &str = r#"
a wrong password       | application/json | {"username":"root","password":"no"} | 401
an unknown user        | application/json | {"username":"nobody","password":"memphis"} | 401
the two swapped        | application/json | {"username":"memphis","password":"root"} | 401
no password            | application/json | {"username":"root"} | 400
no username            | application/json | {"password":"memphis"} | 400
nothing named          | application/json | {} | 400
an empty username      | application/json | {"username":"","password":"memphis"} | 400
an empty password      | application/json | {"username":"root","password":""} | 400
a null password        | application/json | {"username":"root","password":null} | 400
a number for a name    | application/json | {"username":1,"password":"memphis"} | 400
a list                 | application/json | ["root","memphis"] | 400
broken JSON            | application/json | {"username":"root" | 400
an empty body          | application/json | | 400
a form                 | application/x-www-form-urlencoded | username=root&password=memphis | 400
JSON called text       | text/plain | {"username":"root","password":"memphis"} | 400
JSON without a type    | - | {"username":"root","password":"memphis"} | 400
a body with no content | - | | 400
"#;

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, ROUTES);
    let gate = builder
        .edit("dialect: memphis", "dialect: datarhei")
        .start();
    (upstream, gate)
}

fn post(gate: &Gate, target: &str, kind: &str, body: &str) -> Response {
    let length = body.len();
    let kind = match kind {
        "-" => String::new(),
        kind => format!("content-type: {kind}\r\n"),
    };
    gate.send(format!(
        "POST {target} HTTP/1.1\r\nhost: gate.example\r\n{kind}content-length: {length}\r\n\r\n{body}"
    ))
}

/// JSON that ends its line, and nothing that makes a browser ask for a password.
fn assert_line(case: &str, response: &Response) {
    let kind = response.header("content-type");
    assert_eq!(kind, Some("application/json"), "{case}");
    assert!(response.text().ends_with("}\n"), "{case}");
    assert_eq!(response.header("www-authenticate"), None, "{case}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{case}");
}

/// A refusal in the one form of the real service.
fn assert_refused(case: &str, response: &Response, code: u16, details: &str) {
    let message = match code {
        400 => "Bad Request",
        401 => "Unauthorized",
        _ => "",
    };
    let expected = json!({"code": code, "message": message, "details": [details]});
    assert_eq!(
        (response.status, response.json()),
        (code, expected),
        "{case}"
    );
    assert!(response.text().ends_with("}\n"), "{case}");
}

fn log_in(gate: &Gate) -> [String; 2] {
    let response = gate.post_json("/api/login", GOOD);
    assert_eq!(response.status, 200, "{}", response.text());
    ["access_token", "refresh_token"].map(|name| response.json()[name].as_str().unwrap().to_owned())
}

#[test]
fn a_login_is_granted_in_each_form_that_clients_send() {
    let (upstream, gate) = start();
    for row in rows(LOGINS) {
        let response = post(&gate, row[1], row[2], row[3]);
        assert_eq!(response.status, 200, "{}: {}", row[0], response.text());
        assert_line(row[0], &response);
        let pair = response.json();
        let names = Vec::from_iter(pair.as_object().unwrap().keys());
        assert_eq!(names, ["access_token", "refresh_token"], "{}", row[0]);
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn tokens_have_the_claims_that_clients_read() {
    let (_upstream, gate) = start();
    let pair = log_in(&gate);
    for (token, typ, usefor, lifetime) in [
        (&pair[0], "at+jwt", "access", 600),
        (&pair[1], "rt+jwt", "refresh", 86_400),
    ] {
        assert_eq!(header_of(token)["typ"], typ);
        let claims = claims_of(token);
        assert_eq!(
            [&claims["usefor"], &claims["exi"], &claims["sub"]],
            [&json!(usefor), &json!(lifetime), &json!("root")]
        );
        // Clients decode `exp` themselves: seconds since the epoch, as `iat`.
        let span = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(span, lifetime);
        assert!(claims["jti"].is_string() && claims["iss"].is_string());
        assert!(!claims.to_string().contains("memphis"), "{claims}");
    }
    assert_ne!(claims_of(&pair[0])["jti"], claims_of(&pair[1])["jti"]);
}

#[test]
fn failed_logins_take_the_one_form_of_the_real_service() {
    let (upstream, gate) = start();
    for row in rows(FAILURES) {
        let response = post(&gate, "/api/login", row[1], row[2]);
        let (code, details) = match row[3] {
            "401" => (401, WRONG),
            _ => (400, MISSING),
        };
        assert_refused(row[0], &response, code, details);
        assert_line(row[0], &response);
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn whoever_has_no_good_token_is_told_shortly_what_the_service_is() {
    let (upstream, gate) = start();
    let [access, refresh] = log_in(&gate);
    let about = json!({
        "app": "datarhei-core", "auths": ["localjwt"], "version": {"number": "16.0.0"},
    });
    let expired = with_claim("exp", json!(1));
    for (case, authorization) in [
        ("no token", None),
        ("an empty header", Some(String::new())),
        ("no token in it", Some("Bearer ".to_owned())),
        ("garbage", Some("Bearer garbage".to_owned())),
        ("an expired token", Some(format!("Bearer {expired}"))),
        ("a changed token", Some(format!("Bearer {access}A"))),
        ("a refresh token", Some(format!("Bearer {refresh}"))),
        ("another scheme", Some("Basic cm9vdDptZW1waGlz".to_owned())),
    ] {
        let header = authorization.map(|value| format!("authorization: {value}\r\n"));
        let response = gate.request("GET", "/api", &header.unwrap_or_default());
        let answer = (response.status, response.json());
        assert_eq!(answer, (200, about.clone()), "{case}");
        assert_line(case, &response);
    }
    let two = format!("authorization: Bearer {access}\r\nauthorization: Bearer x\r\n");
    assert_eq!(gate.request("GET", "/api", &two).status, 400);
    // Only this path, and only GET.
    for (case, method, target) in [
        ("a slash", "GET", "/api/"),
        ("another case", "GET", "/API"),
        ("below", "GET", "/api/v3"),
        ("POST", "POST", "/api"),
        ("HEAD", "HEAD", "/api"),
    ] {
        let status = gate.request(method, target, "").status;
        let expected = if target == "/API" { 404 } else { 401 };
        assert_eq!(status, expected, "{case}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_client_looks_logs_in_looks_again_works_and_refreshes() {
    let upstream = Upstream::answering(&format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ABOUT}",
        ABOUT.len()
    ));
    let builder = Builder::standard(upstream.address, ROUTES);
    let edited = builder.edit("dialect: memphis", "dialect: datarhei");
    let gate = edited.start();
    let stranger = gate.request("GET", "/api", "").json();
    assert_eq!(stranger["auths"], json!(["localjwt"]));
    let [access, refresh] = log_in(&gate);
    // Who has logged in hears from the service itself.
    assert_eq!(gate.get("/api", &access).text(), ABOUT);
    let authorization = format!("authorization: bearer {access}\r\n");
    let response = gate.request("GET", "/api/v3/process?filter=a", &authorization);
    assert_eq!(response.status, 200);
    assert_eq!(upstream.last().target(), "/api/v3/process?filter=a");
    let again = gate.get("/api/login/refresh", &refresh).json();
    let access = again["access_token"].as_str().unwrap();
    assert_eq!(gate.get("/api", access).text(), ABOUT);
    assert_eq!(upstream.seen().len(), 3);
    for seen in upstream.seen() {
        assert_eq!(seen.header("authorization"), None);
    }
}

#[test]
fn a_refresh_gives_an_access_token_and_the_refresh_token_stays_good() {
    let (_upstream, gate) = start();
    let [access, refresh] = log_in(&gate);
    let mut ids = vec![claims_of(&access)["jti"].clone()];
    for (case, value) in [
        ("as documented", format!("Bearer {refresh}")),
        ("a scheme in another case", format!("BEARER {refresh}")),
        ("bare, as Swagger's page sends it", refresh.clone()),
        ("again", format!("Bearer {refresh}")),
    ] {
        let header = format!("authorization: {value}\r\n");
        let response = gate.request("GET", "/api/login/refresh", &header);
        assert_eq!(response.status, 200, "{case}: {}", response.text());
        assert_line(case, &response);
        let answer = response.json();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{case}");
        let access = answer["access_token"].as_str().unwrap();
        assert_eq!(gate.get("/api/v3/process", access).status, 200, "{case}");
        let claims = claims_of(access);
        assert_eq!(
            (&claims["usefor"], &claims["exi"]),
            (&json!("access"), &json!(600)),
            "{case}"
        );
        let id = claims["jti"].clone();
        assert!(!ids.contains(&id), "each access token can be revoked alone");
        ids.push(id);
    }
}

#[test]
fn the_wrong_token_or_none_is_refused_alike_on_routes_and_at_the_refresh() {
    let (upstream, gate) = start();
    let [access, refresh] = log_in(&gate);
    let expired = with_claim("exp", json!(1));
    for (case, target, authorization) in [
        ("nothing", "/api/login/refresh", String::new()),
        ("no bearer", "/api/login/refresh", "Basic YTpi".to_owned()),
        ("garbage", "/api/login/refresh", "Bearer x".to_owned()),
        ("access", "/api/login/refresh", format!("Bearer {access}")),
        (
            "changed",
            "/api/login/refresh",
            format!("Bearer {refresh}A"),
        ),
        ("nothing", "/api/v3/process", String::new()),
        ("garbage", "/api/v3/process", "Bearer x".to_owned()),
        ("refresh", "/api/v3/process", format!("Bearer {refresh}")),
        ("expired", "/api/v3/process", format!("Bearer {expired}")),
        (
            "not in the query",
            "/api/login/refresh?access_token=x",
            String::new(),
        ),
        ("nothing there", "/api/unknown", String::new()),
        ("a login by GET", "/api/login", String::new()),
    ] {
        let header = match &*authorization {
            "" => String::new(),
            value => format!("authorization: {value}\r\n"),
        };
        let response = gate.request("GET", target, &header);
        assert_refused(&format!("{case} at {target}"), &response, 401, NO_TOKEN);
        if target.starts_with("/api/login/") {
            assert_line(case, &response);
        }
    }
    let post = gate.request("POST", "/api/login/refresh", "content-length: 0\r\n");
    assert_refused("a refresh by POST", &post, 401, NO_TOKEN);
    let head = gate.request("HEAD", "/api/v3/process", "");
    assert_eq!((head.status, head.body.len()), (401, 0));
    assert!(upstream.seen().is_empty());
}

#[test]
fn its_pages_may_call_from_elsewhere() {
    let (upstream, gate) = start();
    let origin = "origin: https://ui.example\r\n";
    let asked = format!("{origin}access-control-request-method: GET\r\n");
    for target in [
        "/api",
        "/api/login",
        "/api/login/refresh",
        "/api/v3/process",
    ] {
        let response = gate.request("OPTIONS", target, &asked);
        let allowed = response.header("access-control-allow-origin");
        assert_eq!((response.status, allowed), (204, Some("*")), "{target}");
    }
    let response = gate.request("GET", "/api", origin);
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert_eq!(response.json()["app"], Value::from("datarhei-core"));
    assert!(upstream.seen().is_empty());
}
