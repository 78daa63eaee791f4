//! The token endpoint: grants, refusals, scopes, whose refresh token it is.

use serde_json::{Value, json};

use super::{BATCH, PASSWORD, basic, builder, granted, opens, post, refresh, start, text};
use crate::support::rows;
use crate::support::tokens::{claims_of, header_of};
use crate::support::upstream::Upstream;

/// What stands for longer texts in the tables.
pub(super) fn spelled(form: &str) -> String {
    form.replace("PASSWORD", PASSWORD)
        .replace("CLIENT", "grant_type=client_credentials")
        .replace("LONG", &"x".repeat(257))
        .replace("SECRET", "client_secret=p%2Bss+%25%3A+w%C3%B6rd")
}

/// The header that a table names.
fn presented(name: &str) -> String {
    match name {
        "-" => String::new(),
        "batch" => basic(BATCH),
        "wrong" => basic("batch:no"),
        "nameless" => basic(":"),
        "public" => basic("console:"),
        "unencoded" => basic("batch:p+ss %: w\u{f6}rd"),
        "broken" => basic("batch"),
        "twice" => basic(BATCH).repeat(2),
        other => format!("{other}\r\n"),
    }
}

#[test]
fn each_grant_gives_what_rfc_6749_says() {
    let (_upstream, gate) = start();
    for row in rows(
        "
        -     | PASSWORD                           | pair  | root  | root    | admin read
        -     | PASSWORD&scope=read                | pair  | root  | root    | read
        -     | PASSWORD&scope=read+admin          | pair  | root  | root    | admin read
        -     | PASSWORD&client_id=console&x=1     | pair  | root  | console | admin read
        -     | PASSWORD&client_id=batch&SECRET    | pair  | root  | batch   | admin read
        batch | PASSWORD&scope=                    | pair  | root  | batch   | admin read
        public | PASSWORD                          | pair  | root  | console | admin read
        public | PASSWORD&client_id=console        | pair  | root  | console | admin read
        batch | CLIENT                             | alone | batch | batch   | read
        batch | CLIENT&client_id=batch&scope=read  | alone | batch | batch   | read
        -     | CLIENT&client_id=batch&SECRET      | alone | batch | batch   | read
        ",
    ) {
        let answer = granted(&gate, &presented(row[0]), &spelled(row[1]));
        let fields = ["token_type", "expires_in", "scope"].map(|name| answer[name].clone());
        assert_eq!(
            fields,
            [json!("Bearer"), json!(900), json!(row[5])],
            "{row:?}"
        );
        let has_refresh = answer.get("refresh_token").is_some();
        assert_eq!(has_refresh, row[2] == "pair", "{row:?}");
        let count = 4 + usize::from(has_refresh);
        assert_eq!(answer.as_object().unwrap().len(), count, "{row:?}");
        let token = text(&answer, "access_token");
        assert_eq!(header_of(token)["typ"], "at+jwt");
        let claims = claims_of(token);
        let found = ["sub", "client_id", "scope"].map(|name| claims[name].as_str().unwrap());
        assert_eq!(found, row[3..], "{row:?}");
        assert!(opens(&gate, &answer), "{row:?}");
    }
    let bare = granted(
        &gate,
        "",
        "grant_type=password&username=bare&password=memphis",
    );
    assert_eq!(bare.get("scope"), None);
}

const REFUSALS: &str = "
    -         |                                                  | 400 | invalid_request
    -         | username=root&password=memphis                   | 400 | invalid_request
    -         | grant_type=&username=root&password=memphis       | 400 | invalid_request
    -         | grant_type=password&username=root                | 400 | invalid_request
    -         | grant_type=password&username=&password=memphis   | 400 | invalid_request
    -         | PASSWORD&username=root                           | 400 | invalid_request
    -         | PASSWORD&x=1&x=1                                 | 400 | invalid_request
    -         | PASSWORD&client_secret=x                         | 400 | invalid_request
    -         | PASSWORD&client_id=%00                           | 400 | invalid_request
    -         | PASSWORD&client_id=LONG                          | 400 | invalid_request
    -         | grant_type=password&username=%ff&password=x      | 400 | invalid_request
    -         | grant_type=refresh_token                         | 400 | invalid_request
    -         | grant_type=authorization_code&code=x             | 400 | unsupported_grant_type
    -         | grant_type=Password&username=root&password=x     | 400 | unsupported_grant_type
    -         | grant_type=password&username=root&password=no    | 400 | invalid_grant
    -         | grant_type=password&username=nobody&password=no  | 400 | invalid_grant
    -         | grant_type=refresh_token&refresh_token=x         | 400 | invalid_grant
    -         | PASSWORD&scope=root                              | 400 | invalid_scope
    -         | PASSWORD&scope=read+root                         | 400 | invalid_scope
    -         | PASSWORD&scope=+                                 | 400 | invalid_scope
    -         | CLIENT                                           | 401 | invalid_client
    -         | CLIENT&client_id=batch                           | 401 | invalid_client
    -         | CLIENT&client_id=batch&client_secret=no          | 401 | invalid_client
    wrong     | CLIENT                                           | 401 | invalid_client
    wrong     | PASSWORD                                         | 401 | invalid_client
    unencoded | CLIENT                                           | 401 | invalid_client
    broken    | CLIENT                                           | 401 | invalid_client
    public    | CLIENT                                           | 401 | invalid_client
    public    | PASSWORD&client_id=batch                         | 400 | invalid_request
    public    | PASSWORD&SECRET                                  | 400 | invalid_request
    nameless  | PASSWORD                                         | 401 | invalid_client
    batch     | CLIENT&client_secret=x                           | 400 | invalid_request
    batch     | CLIENT&client_id=root                            | 400 | invalid_request
    batch     | CLIENT&scope=admin                               | 400 | invalid_scope
    twice     | CLIENT                                           | 400 | invalid_request
    authorization: Bearer x  | CLIENT                            | 401 | invalid_client
    authorization: Basic !   | CLIENT                            | 401 | invalid_client
    content-type: text/plain | PASSWORD                          | 400 | invalid_request
";

#[test]
fn refusals_at_the_token_endpoint_have_rfc_6749s_codes() {
    let (upstream, gate) = start();
    for row in rows(REFUSALS) {
        let (headers, form) = (presented(row[0]), spelled(row[1]));
        let response = post(&gate, "/oauth2/token", &headers, &form);
        let answer = response.json();
        let status: u16 = row[2].parse().unwrap();
        let found = (response.status, text(&answer, "error"));
        assert_eq!(found, (status, row[3]), "{row:?}");
        assert!(answer["error_description"].is_string(), "{row:?}");
        assert_eq!(response.header("pragma"), Some("no-cache"), "{row:?}");
        let challenge = (status == 401).then_some("Basic realm=\"tollgate\"");
        assert_eq!(response.header("www-authenticate"), challenge, "{row:?}");
    }
    let json = gate.post_json("/oauth2/token", r#"{"grant_type":"password"}"#);
    let found = (json.status, json.json()["error"].clone());
    assert_eq!(found, (400, json!("invalid_request")));
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_wrong_method_is_405_and_says_which_is_right() {
    let (_upstream, gate) = start();
    for row in rows(
        "
        GET    | /oauth2/token      | POST
        OPTIONS| /oauth2/token      | POST
        GET    | /oauth2/revoke     | POST
        PUT    | /oauth2/introspect | POST
        POST   | /.well-known/jwks.json | GET, HEAD
        DELETE | /.well-known/oauth-authorization-server | GET, HEAD
        ",
    ) {
        let response = gate.request(row[0], row[1], "content-length: 0\r\n");
        assert_eq!(response.status, 405, "{row:?}");
        assert_eq!(response.header("allow"), Some(row[2]), "{row:?}");
    }
    assert_eq!(gate.request("GET", "/oauth2/jwks", "").status, 404);
}

#[test]
fn a_refresh_rotates_and_never_widens_the_scope() {
    let (_upstream, gate) = start();
    let first = granted(&gate, "", &format!("{PASSWORD}&scope=read"));
    let wider = refresh(&gate, "", &first, "&scope=admin");
    assert_eq!(
        (wider.status, &wider.json()["error"]),
        (400, &json!("invalid_scope"))
    );
    // The refused try did not cost the client its token.
    let second = refresh(&gate, "", &first, "").json();
    assert_eq!(second["scope"], "read");
    assert_ne!(second["refresh_token"], first["refresh_token"]);

    let full = granted(&gate, "", PASSWORD);
    let narrow = refresh(&gate, "", &full, "&scope=admin").json();
    assert_eq!(narrow["scope"], "admin");
    // A narrower access token leaves the refresh token as it was (RFC 6749 section 6).
    assert_eq!(
        refresh(&gate, "", &narrow, "").json()["scope"],
        "admin read"
    );
    let access = text(&full, "access_token");
    let form = format!("grant_type=refresh_token&refresh_token={access}");
    let response = post(&gate, "/oauth2/token", "", &form);
    assert_eq!(
        (response.status, &response.json()["error"]),
        (400, &json!("invalid_grant"))
    );
}

#[test]
fn a_refresh_token_is_good_for_its_own_client_alone() {
    let (_upstream, gate) = start();
    let (batch, root) = (basic(BATCH), basic("root:memphis"));
    let console = "&client_id=console";
    let by_nobody = granted(&gate, "", PASSWORD);
    let by_name = granted(&gate, "", &format!("{PASSWORD}{console}"));
    let by_proof = granted(&gate, &batch, PASSWORD);
    for (case, pair, headers, more, status) in [
        ("named, by nobody", &by_name, "", "", 400),
        ("named, by another", &by_name, "", "&client_id=other", 400),
        ("named, by a proved one", &by_name, &*batch, "", 400),
        ("unnamed, by another", &by_nobody, "", console, 400),
        ("proved, by nobody", &by_proof, "", "", 401),
        (
            "proved, by its name",
            &by_proof,
            "",
            "&client_id=batch",
            401,
        ),
        ("proved, by another", &by_proof, &*root, "", 400),
        ("named, by itself", &by_name, "", console, 200),
        ("unnamed, by nobody", &by_nobody, "", "", 200),
        ("proved, by itself", &by_proof, &*batch, "", 200),
    ] {
        let response = refresh(&gate, headers, pair, more);
        assert_eq!(response.status, status, "{case}: {}", response.text());
        let answer = response.json();
        match status {
            200 => {
                let claims = claims_of(text(&answer, "access_token"));
                let old = claims_of(text(pair, "access_token"));
                assert_eq!(claims["client_id"], old["client_id"], "{case}");
            }
            401 => assert_eq!(answer["error"], "invalid_client", "{case}"),
            _ => assert_eq!(answer["error"], "invalid_grant", "{case}"),
        }
    }
}

#[test]
fn no_other_dialect_of_the_gate_widens_what_a_client_was_given() {
    let upstream = Upstream::start();
    let gate = builder(&upstream)
        .edit(
            "{ dialect: oauth2 }",
            "{ dialect: memphis }, { dialect: oauth2 }",
        )
        .start();
    let elsewhere = |pair: &Value| {
        let body = json!({"jwt_refresh_token": pair["refresh_token"]}).to_string();
        gate.post_json("/auth/refreshToken", &body)
    };
    let narrow = granted(&gate, "", &format!("{PASSWORD}&scope=read"));
    let answer = elsewhere(&narrow).json();
    assert_eq!(claims_of(text(&answer, "jwt"))["scope"], "read");
    let of_batch = granted(&gate, &basic(BATCH), PASSWORD);
    assert_eq!(elsewhere(&of_batch).status, 401);
    assert_eq!(refresh(&gate, &basic(BATCH), &of_batch, "").status, 200);
}

#[test]
fn a_provider_that_fails_is_temporary_and_not_the_clients_fault() {
    let upstream = Upstream::start();
    let probe = "identity: [ { upstream_probe: { upstream: gone, path: /whoami } } ]";
    let gate = builder(&upstream)
        .edit("identity: [ { users_file: users.yaml } ]", probe)
        .edit(
            "upstreams:",
            "upstreams:\n  gone: { endpoints: [ \"http://127.0.0.1:1\" ] }",
        )
        .start();
    for form in ["PASSWORD", "CLIENT&client_id=batch&SECRET"] {
        let response = post(&gate, "/oauth2/token", "", &spelled(form));
        let error = response.json()["error"].clone();
        assert_eq!(
            (response.status, error),
            (502, json!("temporarily_unavailable")),
            "{form}"
        );
    }
}
