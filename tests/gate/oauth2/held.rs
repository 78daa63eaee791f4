//! What may be done with a token that somebody holds: end it, or ask what is in it.

use serde_json::json;

use super::token::spelled;
use super::{BATCH, PASSWORD, basic, granted, opens, post, refresh, start, text};
use crate::support::tokens::{claims, claims_of, sign, with_claims, without_claim};

#[test]
fn a_holder_may_end_a_refresh_tokens_family_or_one_access_token() {
    let (_upstream, gate) = start();
    let revoke = |form: &str| post(&gate, "/oauth2/revoke", "", form);
    let (first, other) = (granted(&gate, "", PASSWORD), granted(&gate, "", PASSWORD));
    assert!(opens(&gate, &first));
    let access = text(&first, "access_token");
    let ended = revoke(&format!("token={access}&token_type_hint=refresh_token"));
    assert_eq!((ended.status, ended.body.len()), (200, 0));
    assert!(!opens(&gate, &first), "although it was cached");
    let next = refresh(&gate, "", &first, "").json();
    assert!(opens(&gate, &next), "the login goes on");

    let token = text(&next, "refresh_token");
    assert_eq!(revoke(&format!("token={token}")).status, 200);
    assert!(!opens(&gate, &next));
    assert_eq!(refresh(&gate, "", &next, "").status, 400);
    assert!(opens(&gate, &other), "another login goes on");

    // What is not good needs no end.
    for token in [
        "x",
        access,
        token,
        &with_claims(|claims| claims["exp"] = 1.into()),
    ] {
        assert_eq!(revoke(&format!("token={token}")).status, 200, "{token}");
    }
    for (form, error) in [
        ("", "invalid_request"),
        ("token=", "invalid_request"),
        ("token=x&token=x", "invalid_request"),
        (
            &format!("token={}", without_claim("jti")),
            "unsupported_token_type",
        ),
    ] {
        let response = revoke(form);
        assert_eq!(
            (response.status, &response.json()["error"]),
            (400, &json!(error)),
            "{form}"
        );
    }
    let line = gate.wait_for_log("a line about the end", |line| {
        line["message"] == "a token was revoked by its holder"
    });
    assert_eq!(
        (&line["level"], &line["subject"]),
        (&json!("INFO"), &json!("root"))
    );
    assert!(!gate.log().contains(access) && !gate.log().contains(token));
}

#[test]
fn introspection_tells_who_proves_to_be_somebody_what_is_in_a_good_token() {
    let (_upstream, gate) = start();
    let ask = |headers: &str, form: &str| post(&gate, "/oauth2/introspect", headers, form);
    let pair = granted(&gate, "", &format!("{PASSWORD}&client_id=console"));
    let access = text(&pair, "access_token");
    let form = format!("token={access}");
    let inside = claims_of(access);
    let mut wanted = json!({"active": true, "token_type": "Bearer", "client_id": "console"});
    for name in ["scope", "sub", "iss", "aud", "exp", "iat", "jti"] {
        wanted[name] = inside[name].clone();
    }
    let bearer = format!("authorization: Bearer {}\r\n", sign(&claims()));
    // As openid-client has it, unless told otherwise.
    let posted = format!("{form}&client_id=batch&{}", spelled("SECRET"));
    for (headers, form) in [(&*basic(BATCH), &form), (&bearer, &form), ("", &posted)] {
        let response = ask(headers, form);
        assert_eq!(
            (response.status, response.json()),
            (200, wanted.clone()),
            "{headers}"
        );
        assert_eq!(response.header("pragma"), Some("no-cache"));
    }
    for token in ["x", text(&pair, "refresh_token"), &without_claim("exp")] {
        let response = ask(&bearer, &format!("token={token}"));
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"active": false})),
            "{token}"
        );
    }
    for (headers, status, error) in [
        ("", 401, "invalid_client"),
        (&*basic("batch:no"), 401, "invalid_client"),
        (&*basic("nobody:no"), 401, "invalid_client"),
        ("authorization: Bearer x\r\n", 401, "invalid_token"),
        ("authorization: Digest x\r\n", 401, "invalid_client"),
    ] {
        let response = ask(headers, &form);
        let found = (response.status, &response.json()["error"]);
        assert_eq!(found, (status, &json!(error)), "{headers}");
        let challenges = response
            .headers
            .iter()
            .filter(|(name, _)| name == "www-authenticate");
        let schemes = challenges.filter_map(|(_, value)| value.split(' ').next());
        assert_eq!(Vec::from_iter(schemes), ["Basic", "Bearer"], "{headers}");
    }
    assert_eq!(ask(&bearer, "").status, 400);
    assert_eq!(post(&gate, "/oauth2/revoke", "", &form).status, 200);
    assert_eq!(ask(&bearer, &form).json(), json!({"active": false}));
    let revoked = format!("authorization: Bearer {access}\r\n");
    assert_eq!(ask(&revoked, &form).status, 401);
}

#[test]
fn who_asks_what_is_in_a_token_proves_it_once() {
    let (_upstream, gate) = start();
    let form = format!("token={}", sign(&claims()));
    let bearer = format!("authorization: Bearer {}\r\n", sign(&claims()));
    let ask = |headers: &str, form: &str| post(&gate, "/oauth2/introspect", headers, form);
    for (headers, more, status) in [
        ("", "&client_id=batch&client_secret=no", 401),
        ("", "&client_id=batch", 401),
        (&*basic("batch:"), "", 401),
        (&*basic(BATCH), "&client_secret=x", 400),
        (&bearer, "&client_id=batch&client_secret=x", 400),
    ] {
        let response = ask(headers, &format!("{form}{more}"));
        assert_eq!(response.status, status, "{headers} {more}");
        assert_eq!(response.json().get("active"), None, "{headers} {more}");
    }
}
