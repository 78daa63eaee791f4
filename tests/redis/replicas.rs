//! Three gates on one Redis: what one does, all know.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client};
use tokio_tungstenite::tungstenite::{Message, accept};

use crate::server::{Redis, access, refresh, revoke, status};
use crate::support::client::connect;
use crate::support::gate::Gate;
use crate::support::raw::accepting;
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

fn three(redis: &Redis, upstream: &Upstream) -> [Gate; 3] {
    [(); 3].map(|()| redis.gate(upstream, ""))
}

/// Waits until a gate refuses a token that was good.
fn wait_for_refusal(gate: &Gate, token: &str) {
    wait_for("the refusal", || (status(gate, token) == 401).then_some(()));
}

#[test]
fn a_login_at_one_refreshes_at_another() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = three(&redis, &upstream);
    let mut pair = gates[0].login("root", "memphis");
    for (place, gate) in gates.iter().cycle().take(6).enumerate() {
        assert_eq!(status(gate, &access(&pair)), 200);
        let (status, next) = refresh(gate, &pair);
        assert_eq!(status, 200);
        let claims = claims_of(next["jwt_refresh_token"].as_str().unwrap());
        assert_eq!(claims["gen"], place + 1);
        pair = next;
    }
    for key in redis.ask(&["KEYS", "*"]).lines() {
        assert!(key.starts_with("tollgate:"), "{key}");
        let ttl: i64 = redis.ask(&["TTL", key]).parse().unwrap();
        assert!(ttl > 0 || key == "tollgate:layout", "{key} {ttl}");
        assert!(!key.contains("root"), "{key}");
    }
}

#[test]
fn a_refresh_race_across_replicas_rotates_once_and_serves_all() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = three(&redis, &upstream);
    let pair = gates[0].login("root", "memphis");
    let barrier = Barrier::new(100);
    let next: Vec<Value> = thread::scope(|scope| {
        let race = |index: usize| {
            let (gate, pair, barrier) = (&gates[index % 3], &pair, &barrier);
            scope.spawn(move || {
                barrier.wait();
                refresh(gate, pair)
            })
        };
        let racers: Vec<_> = (0..100).map(race).collect();
        let ended = racers.into_iter().map(|racer| racer.join().unwrap());
        ended
            .map(|(status, next)| {
                assert_eq!(status, 200);
                next
            })
            .collect()
    });
    for other in &next {
        assert_eq!(other, &next[0], "one rotation, one pair");
    }
    let claims = claims_of(next[0]["jwt_refresh_token"].as_str().unwrap());
    assert_eq!(claims["gen"], 1);
    assert_eq!(status(&gates[2], &access(&next[0])), 200);
    assert_eq!(refresh(&gates[1], &next[0]).0, 200);
}

#[test]
fn a_refresh_token_that_is_used_again_ends_its_login_everywhere() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = [(); 2].map(|()| {
        let builder = redis.builder(&upstream, "");
        builder
            .edit("tokens:", "tokens:\n  refresh_grace: 0s")
            .start()
    });
    let first = gates[0].login("root", "memphis");
    let second = refresh(&gates[1], &first).1;
    let third = refresh(&gates[0], &second).1;
    assert_eq!(status(&gates[1], &access(&third)), 200);
    assert_eq!(refresh(&gates[1], &first).0, 401);
    assert_eq!(refresh(&gates[0], &third).0, 401);
    for gate in &gates {
        wait_for_refusal(gate, &access(&third));
    }
}

#[test]
fn a_revocation_at_one_refuses_cached_tokens_and_closes_websockets_at_all() {
    let redis = Redis::start();
    let upstream = accepting(|stream| {
        let mut socket = accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
    let plain = Upstream::start();
    let gates = [(); 3].map(|()| {
        let builder = redis.builder(&plain, "");
        let app = format!("http://{}", plain.address);
        let ws = format!("app: {{ endpoints: [ \"{app}\" ], response_timeout: 5s }}");
        builder
            .edit(
                &ws,
                &format!("{ws}\n  ws: {{ endpoints: [ \"http://{upstream}\" ] }}"),
            )
            .edit("path: /ws/**, upstream: app", "path: /ws/**, upstream: ws")
            .start()
    });
    let token = access(&gates[0].login("root", "memphis"));
    let bystander = access(&gates[0].login("eve", "memphis"));
    let mut sockets: Vec<_> = gates
        .iter()
        .map(|gate| {
            for _ in 0..8 {
                assert_eq!(status(gate, &token), 200);
            }
            let mut request = "ws://gate.example/ws/x".into_client_request().unwrap();
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", bearer);
            let mut socket = client(request, connect(gate.address())).unwrap().0;
            socket.send(Message::text("hello")).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text("hello"));
            socket
        })
        .collect();
    assert_eq!(revoke(&gates[1], &json!({ "subject": "root" })), 200);
    assert_eq!(
        status(&gates[1], &token),
        401,
        "here from the next request on"
    );
    for (gate, socket) in gates.iter().zip(&mut sockets) {
        wait_for_refusal(gate, &token);
        assert_eq!(status(gate, &bystander), 200);
        // The gate ends both sides: the read fails or says that the other end has gone.
        assert!(!socket.read().is_ok_and(|message| !message.is_close()));
    }
    let again = access(&gates[2].login("root", "memphis"));
    for gate in &gates {
        assert_eq!(
            status(gate, &again),
            200,
            "a login after the revocation works everywhere"
        );
    }
}

#[test]
fn a_message_needs_no_look_into_the_log() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = [(); 2].map(|()| redis.gate(&upstream, ", catch_up_interval: 30s"));
    let listeners = || redis.ask(&["PUBSUB", "NUMSUB", "tollgate:revoked"]);
    wait_for("two listeners", || {
        (listeners() == "tollgate:revoked\n2").then_some(())
    });
    let token = access(&gates[0].login("root", "memphis"));
    assert_eq!(status(&gates[1], &token), 200);
    assert_eq!(revoke(&gates[0], &json!({ "subject": "root" })), 200);
    // Its patience ends before the log would be read again.
    wait_for_refusal(&gates[1], &token);
}

#[test]
fn a_missed_message_is_repaired_by_the_log() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    // Nobody hears anything: the user may not listen.
    redis.ask(&["ACL", "SETUSER", "default", "resetchannels"]);
    redis.ask(&[
        "ACL",
        "SETUSER",
        "deaf",
        "on",
        "nopass",
        "~*",
        "+@all",
        "-subscribe",
    ]);
    redis.ask(&["ACL", "SETUSER", "deaf", "&*"]);
    let gates = [(); 2].map(|()| {
        let builder = redis.builder(&upstream, ", username: deaf, password_file: deaf");
        builder.file("deaf", "any").start()
    });
    let token = access(&gates[0].login("root", "memphis"));
    assert_eq!(status(&gates[1], &token), 200);
    assert_eq!(
        redis.ask(&["PUBSUB", "NUMSUB", "tollgate:revoked"]),
        "tollgate:revoked\n0"
    );
    assert_eq!(revoke(&gates[0], &json!({ "subject": "root" })), 200);
    wait_for_refusal(&gates[1], &token);
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = [(); 2].map(|()| redis.gate(&upstream, ""));
    let listeners = || redis.ask(&["PUBSUB", "NUMSUB", "tollgate:revoked"]);
    wait_for("two listeners", || {
        (listeners() == "tollgate:revoked\n2").then_some(())
    });
    let body = json!({"username": "root", "password": "memphis"}).to_string();
    for round in 0..3 {
        let pair = wait_for("a login", || {
            let answer = gates[0].post_json("/auth/authenticate", &body);
            (answer.status == 200).then(|| answer.json())
        });
        assert_eq!(status(&gates[1], &access(&pair)), 200);
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let family = &claims_of(&access(&pair))["fam"];
        assert_eq!(
            revoke(&gates[0], &json!({ "family": family })),
            200,
            "{round}"
        );
        wait_for_refusal(&gates[1], &access(&pair));
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    wait_for("two listeners", || {
        (listeners() == "tollgate:revoked\n2").then_some(())
    });
}

#[test]
fn failed_logins_count_across_replicas() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = [(); 3].map(|()| {
        let builder = redis.builder(&upstream, "");
        builder
            .edit(
                "\nstore:",
                "\nthrottle: { free_failures: 2, base_delay: 60s }\nstore:",
            )
            .start()
    });
    let log_in = |gate: &Gate, name: &str, password: &str| {
        let body = json!({ "username": name, "password": password }).to_string();
        gate.post_json("/auth/authenticate", &body)
    };
    for name in ["root", "nobody"] {
        for gate in &gates {
            assert_eq!(log_in(gate, name, "wrong").status, 401, "{name}");
        }
        for gate in &gates {
            let refused = log_in(gate, &name.to_uppercase(), "memphis");
            assert_eq!(refused.status, 429, "{name}");
            let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds}");
        }
    }
    let keys = redis.ask(&["KEYS", "*"]);
    assert!(
        !keys.contains("nobody") && !keys.contains("127.0.0"),
        "{keys}"
    );
    // A success forgets the failures before it, everywhere.
    assert_eq!(log_in(&gates[0], "eve", "wrong").status, 401);
    assert_eq!(log_in(&gates[1], "eve", "wrong").status, 401);
    assert_eq!(log_in(&gates[2], "eve", "memphis").status, 200);
    assert_eq!(log_in(&gates[0], "eve", "wrong").status, 401);
    assert_eq!(log_in(&gates[2], "eve", "memphis").status, 200);
}

#[test]
fn an_application_token_that_is_revoked_at_one_buys_nothing_at_another() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gates = [(); 2].map(|()| {
        let builder = redis.builder(&upstream, "");
        builder.edit("dialect: memphis", "dialect: emnify").start()
    });
    let log_in = |gate: &Gate, body: Value| {
        let answer = gate.post_json("/api/v1/authenticate", &body.to_string());
        (answer.status == 200).then(|| answer.json()["auth_token"].as_str().unwrap().to_owned())
    };
    let own = log_in(
        &gates[0],
        json!({"username": "root", "password": "memphis"}),
    )
    .unwrap();
    let ask = |gate: &Gate, method: &str, path: &str, body: Value| {
        let (body, length) = (body.to_string(), body.to_string().len());
        gate.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {own}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    };
    let path = "/api/v1/application_token";
    let made = ask(&gates[0], "POST", path, json!({ "description": "a robot" }));
    assert_eq!(made.status, 200, "{}", made.text());
    let token = made.json()["application_token"].clone();
    let bought = log_in(&gates[1], json!({ "application_token": token })).unwrap();
    assert_eq!(status(&gates[1], &bought), 200);
    let listed = gates[1].get(path, &own).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let id = listed[0]["id"].as_u64().unwrap();
    assert_eq!(revoke(&gates[0], &json!({ "application_token": id })), 200);
    wait_for_refusal(&gates[1], &bought);
    assert_eq!(
        log_in(&gates[1], json!({ "application_token": token })),
        None
    );
    let values = redis.ask(&["HVALS", "tollgate:{application}:tokens"]);
    assert!(
        !values.contains(token.as_str().unwrap()),
        "only its hash is kept"
    );
}
