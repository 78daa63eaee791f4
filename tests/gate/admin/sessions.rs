//! Are sessions and application tokens found by operators, and ended?

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{get, post};
use crate::support::gate::{Builder, Gate, users};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

fn start(store: &str) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let list =
        ["root", "alice", "alina", "b&=+%", "müller"].map(|name| (name, "memphis", "[ admin ]"));
    let gate = Builder::with_extra(upstream.address, ROUTES, store)
        .edit(
            "{ dialect: memphis }",
            "{ dialect: memphis }, { dialect: emnify }",
        )
        .file("users.yaml", users(&list))
        .start();
    (upstream, gate)
}

fn search(gate: &Gate, path: &str, text: &str, limit: usize) -> Value {
    let text = utf8_percent_encode(text, NON_ALPHANUMERIC);
    get(gate, &format!("{path}?limit={limit}&search={text}"))
}

fn subjects(found: &Value) -> Vec<&str> {
    let rows = found["rows"].as_array().unwrap();
    let mut names = Vec::from_iter(rows.iter().map(|row| row["subject"].as_str().unwrap()));
    names.sort_unstable();
    names
}

#[test]
fn a_session_is_found_by_its_account_and_ended_by_its_family() {
    for store in ["", "store: memory"] {
        let (_upstream, gate) = start(store);
        let tokens = ["root", "alice", "alice", "alina", "b&=+%", "müller"]
            .map(|name| gate.token(name, "memphis"));
        for (text, expected) in [
            (
                "",
                &["alice", "alice", "alina", "b&=+%", "müller", "root"][..],
            ),
            ("ALI", &["alice", "alice", "alina"]),
            ("b&=+%", &["b&=+%"]),
            ("üLL", &["müller"]),
            ("nobody", &[]),
            (&"x".repeat(500), &[]),
        ] {
            let found = search(&gate, "/sessions", text, 100);
            assert_eq!(subjects(&found), expected, "{text}");
            assert_eq!(found["is_whole"], true);
        }
        let some = search(&gate, "/sessions", "ali", 2);
        assert_eq!(
            (subjects(&some).len(), &some["is_whole"]),
            (2, &json!(false))
        );
        for (limit, count) in [("0", 1), ("x", 6), ("-1", 6), ("99999999", 6)] {
            let found = get(&gate, &format!("/sessions?limit={limit}"));
            assert_eq!(found["rows"].as_array().unwrap().len(), count, "{limit}");
        }

        let family = claims_of(&tokens[1])["fam"].clone();
        let found = search(&gate, "/sessions", family.as_str().unwrap(), 10);
        let row = &found["rows"][0];
        assert_eq!(
            (&row["family"], &row["subject"]),
            (&family, &json!("alice"))
        );
        assert!(row["renewed"].as_u64().unwrap() <= row["expires"].as_u64().unwrap());
        assert_eq!(row["renewals"], 0);
        let response = post(&gate, "/revoke", &json!({"family": family}));
        assert_eq!(response.status, 200);
        let answers = tokens.map(|token| gate.get("/api/x", &token).status);
        assert_eq!(answers, [200, 401, 200, 200, 200, 200]);
        assert_eq!(
            subjects(&search(&gate, "/sessions", "ali", 9)),
            ["alice", "alina"]
        );
    }
}

#[test]
fn an_application_token_is_found_and_ended_and_its_hash_is_not_told() {
    let (_upstream, gate) = start("");
    let make = |name: &str| {
        let token = gate.token(name, "memphis");
        let body = json!({"description": format!("of {name}")}).to_string();
        let response = gate.send(format!(
            "POST /api/v1/application_token HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\n\
             authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["application_token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let buy = |token: &str| {
        let body = json!({"application_token": token}).to_string();
        gate.post_json("/api/v1/authenticate", &body)
    };
    let (first, second) = (make("alice"), make("alina"));
    let bought = buy(&first).json()["auth_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(gate.get("/api/x", &bought).status, 200);
    let found = search(&gate, "/application-tokens", "alice", 10);
    let row = &found["rows"][0];
    assert_eq!(found["rows"].as_array().unwrap().len(), 1);
    for (name, value) in [
        ("creator", json!("alice")),
        ("description", json!("of alice")),
        ("is_revoked", json!(false)),
        ("is_good", json!(true)),
        ("scope", json!("admin")),
    ] {
        assert_eq!(row[name], value, "{row}");
    }
    assert_eq!(
        (row.get("hash"), row.get("sealed"), row.get("family")),
        (None, None, None)
    );
    let all = search(&gate, "/application-tokens", "", 10).to_string();
    assert!(!all.contains(&first) && !all.contains(&second), "{all}");

    let body = json!({"application_token": row["number"]});
    assert_eq!(post(&gate, "/revoke", &body).status, 200);
    assert_eq!(gate.get("/api/x", &bought).status, 401);
    assert_eq!(buy(&first).status, 401);
    assert_eq!(buy(&second).status, 200);
    let number = row["number"].to_string();
    let found = search(&gate, "/application-tokens", &number, 10);
    let row = &found["rows"][0];
    assert_eq!(
        (&row["is_revoked"], &row["is_good"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn the_status_counts_what_happens() {
    let (_upstream, gate) = start("");
    let token = gate.token("root", "memphis");
    for _ in 0..5 {
        assert_eq!(gate.get("/api/x", &token).status, 200);
    }
    assert_eq!(gate.get("/api/x", "x.y.z").status, 401);
    let status = crate::support::wait_for("the counts", || {
        let status = get(&gate, "/status");
        (status["totals"]["requests"]["4xx"] == 1.0).then_some(status)
    });
    let totals = &status["totals"];
    // The login is one of them.
    assert_eq!(totals["requests"]["2xx"], 6.0, "{status}");
    assert_eq!(totals["refusals"], json!({"malformed_token": 1.0}));
    let (hits, misses) = (&totals["cache_hits"], &totals["cache_misses"]);
    assert_eq!(hits.as_f64().unwrap() + misses.as_f64().unwrap(), 6.0);
    assert_eq!(totals["upstream_seconds"]["count"], 5);
    assert!(totals["gate_seconds"]["count"].as_u64().unwrap() >= 6);
    let upstream = &status["upstreams"][0];
    assert_eq!(
        (&upstream["name"], &upstream["answers"]["2xx"]),
        (&json!("app"), &json!(5.0))
    );
    assert_eq!(upstream["endpoints"][0]["state"], "up");
    assert_eq!(status["keys"]["own"][0]["id"], "k1");
    assert_eq!(
        status["store"],
        json!({"kind": "file", "state": "in_step", "staleness_seconds": 0})
    );
    assert_eq!(
        (&status["is_ready"], &status["readiness"]),
        (&json!(true), &json!("ok"))
    );
    assert_eq!(
        status["config"],
        json!({"is_last_reload_good": true, "needs_restart": false})
    );
}
