//! What clients do with their tokens, one call after another.

use serde_json::{Value, json};

use super::{LOGIN, REFRESH, ROUTES, start};
use crate::support::gate::{Builder, Gate};
use crate::support::rows;
use crate::support::tokens::{claims_of, with_claim};
use crate::support::upstream::Upstream;

const PRODUCE: &str = "/stations/s/produce/single";
const UNAUTHORIZED: &str = r#"{"message":"Unauthorized"}"#;
const PRODUCED: &str = r#"{"error":null,"success":true}"#;

/// Case, header line, target, status. `TOKEN` is a good access token, `REFRESH` a good refresh
/// token, `EXPIRED` one that was good.
const PLACES: &str = r#"
a header                          | authorization: Bearer TOKEN | /stations/s | 200
another case                      | authorization: bearer TOKEN | /stations/s | 200
a colon, as Debezium              | authorization: Bearer: TOKEN | /stations/s | 200
a query, as webhooks              | x: y | /stations/s?authorization=TOKEN | 200
nothing                           | x: y | /stations/s | 401
an empty header                   | authorization: | /stations/s | 401
no token in the header            | authorization: Bearer | /stations/s | 401
three parts                       | authorization: Bearer TOKEN x | /stations/s | 401
another scheme                    | authorization: Basic TOKEN | /stations/s | 401
an unknown scheme                 | authorization: JWT TOKEN | /stations/s | 401
garbage                           | authorization: Bearer garbage | /stations/s | 401
a refresh token                   | authorization: Bearer REFRESH | /stations/s | 401
a refresh token in the query      | x: y | /stations/s?authorization=REFRESH | 401
an expired token                  | authorization: Bearer EXPIRED | /stations/s | 401
a query name in another case      | x: y | /stations/s?Authorization=TOKEN | 401
a scheme in the query             | x: y | /stations/s?authorization=Bearer%20TOKEN | 401
an empty query value              | x: y | /stations/s?authorization= | 401
no second try in the query        | authorization: | /stations/s?authorization=TOKEN | 400
nor after another scheme          | authorization: Basic YTpi | /stations/s?authorization=TOKEN | 400
nor after a broken one            | authorization: Bearer | /stations/s?authorization=TOKEN | 400
nor beside a good one             | authorization: Bearer TOKEN | /stations/s?authorization=TOKEN | 400
"#;

fn text<'a>(pair: &'a Value, name: &str) -> &'a str {
    pair[name].as_str().unwrap()
}

fn produce(gate: &Gate, target: &str, headers: &str) -> (u16, String) {
    let body = "message";
    let response = gate.send(format!(
        "POST {target} HTTP/1.1\r\nhost: gate.example\r\ncontent-type: text/plain\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    (response.status, response.text())
}

/// A gateway that takes every message.
fn station() -> (Upstream, Gate) {
    let length = PRODUCED.len();
    let upstream = Upstream::answering(&format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n\
         {PRODUCED}"
    ));
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

#[test]
fn a_token_counts_where_the_gateway_looks_for_it_and_nowhere_else() {
    let (upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    let expired = with_claim("exp", json!(1));
    let mut passed = 0;
    for row in rows(PLACES) {
        let fill = |cell: &str| {
            cell.replace("TOKEN", text(&pair, "jwt"))
                .replace("REFRESH", text(&pair, "jwt_refresh_token"))
                .replace("EXPIRED", &expired)
        };
        let header = format!("{}\r\n", fill(row[1]));
        let response = gate.request("GET", &fill(row[2]), &header);
        assert_eq!(response.status.to_string(), row[3], "{}", row[0]);
        match response.status {
            200 => passed += 1,
            401 => assert_eq!(response.text(), UNAUTHORIZED, "{}", row[0]),
            _ => assert!(response.json()["message"].is_string(), "{}", row[0]),
        }
    }
    assert_eq!(upstream.seen().len(), passed);
}

#[test]
fn debezium_logs_in_produces_with_its_colon_and_refreshes() {
    let (upstream, gate) = station();
    let pair = gate.login("root", "memphis");
    // Java's client offers h2c with every request.
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
    let headers = |pair: &Value| format!("{offer}authorization: Bearer: {}\r\n", text(pair, "jwt"));
    let good = (200, PRODUCED.to_owned());
    assert_eq!(produce(&gate, PRODUCE, &headers(&pair)), good);
    let body = json!({
        "jwt_refresh_token": pair["jwt_refresh_token"],
        "token_expiry_in_minutes": 1, "refresh_token_expiry_in_minutes": 10_000_092,
    });
    let next = gate.post_json(REFRESH, &body.to_string()).json();
    assert_eq!(next["expires_in"], json!(60_000));
    assert_eq!(produce(&gate, PRODUCE, &headers(&next)), good);
    for seen in upstream.seen() {
        assert_eq!((seen.target(), &*seen.body), (PRODUCE, &b"message"[..]));
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.header("upgrade"), None);
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn a_webhooks_token_is_cut_out_of_its_url() {
    let (upstream, gate) = station();
    let token = gate.token("root", "memphis");
    for (query, remaining) in [
        (format!("authorization={token}"), ""),
        (format!("a=%2F&authorization={token}&--b"), "?a=%2F&--b"),
        (format!("%61uthorization={token}&a"), "?a"),
    ] {
        let target = format!("{PRODUCE}?{query}");
        assert_eq!(produce(&gate, &target, "").0, 200, "{remaining}");
        let seen = upstream.last();
        assert_eq!(seen.target(), format!("{PRODUCE}{remaining}"));
        assert!(!seen.head.contains(&token));
    }
    assert!(!gate.log().contains(&token));
}

#[test]
fn tokens_carry_neither_the_password_nor_its_account() {
    let (_upstream, gate) = start();
    let pair = gate.login("root", "memphis");
    for name in ["jwt", "jwt_refresh_token"] {
        let claims = claims_of(text(&pair, name));
        let claims = claims.as_object().unwrap();
        for absent in ["password", "connection_token", "username", "account_id"] {
            assert!(!claims.contains_key(absent), "{name}: {absent}");
        }
        assert!(!json!(claims).to_string().contains("memphis"), "{name}");
    }
}

#[test]
fn a_preflight_needs_neither_token_nor_origin_at_the_endpoints() {
    let (upstream, gate) = start();
    for target in [LOGIN, REFRESH, "/AUTH/authenticate"] {
        let response = gate.request("OPTIONS", target, "");
        assert_eq!((response.status, response.body.len()), (204, 0), "{target}");
        let allowed = response.header("access-control-allow-origin");
        assert_eq!(allowed, Some("*"), "{target}");
    }
    assert!(upstream.seen().is_empty());
}
