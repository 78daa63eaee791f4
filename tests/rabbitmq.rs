//! Does the gate do its whole job in front of a real RabbitMQ, whose passwords it does not know?

#![expect(clippy::expect_used, clippy::panic, reason = "a test stops here")]

#[path = "support/rabbitmq.rs"]
mod rabbitmq;
#[path = "support/services.rs"]
mod services;

use std::process::Command;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use rabbitmq::{RabbitMq, Tap, header};
use services::{Answer, Folder, Gate, JSON, Mqtt, Over, Process, curl, succeeded};

/// With all that login forms, Basic credentials and JSON could stumble over.
const PASSWORD: &str = " pa:ss: wörd \"✓\\ %2F&+ ";

#[test]
fn a_login_is_judged_by_rabbitmq_and_calls_go_out_under_the_users_own_name() {
    let broker = Broker::with_user("alice");
    let login = broker.login();
    assert_eq!(login.status, 200, "{login:?}");
    let token = login.field("jwt");

    let me = broker.call(&token, "/api/whoami", &[]);
    assert_eq!((me.status, &*me.field("name")), (200, "alice"));
    let overview = broker.call(&token, "/api/overview", &[]);
    assert_eq!(
        (overview.status, &*overview.field("product_name")),
        (200, "RabbitMQ")
    );
    let own = BASE64_STANDARD.encode(format!("alice:{PASSWORD}"));
    let [sent] = &broker.tap.requests_for("/api/overview")[..] else {
        panic!("one request")
    };
    let authorizations = header(sent, "authorization");
    assert_eq!(authorizations, [format!("Basic {own}")]);
}

#[test]
fn a_queue_whose_name_has_a_slash_and_a_space_is_declared_filled_and_read() {
    let broker = Broker::with_user("queue-keeper");
    let token = broker.login().field("jwt");
    let queue = "/api/queues/%2F/a%2Fb%20c";

    let declared = broker.call(&token, queue, &["-X", "PUT", "-H", JSON, "-d", "{}"]);
    assert_eq!(declared.status, 201, "{declared:?}");
    assert_eq!(
        broker.tap.requests_for(queue).len(),
        1,
        "the path's bytes went up as they came"
    );
    assert_eq!(broker.call(&token, queue, &[]).field("name"), "a/b c");

    let message = json!({
        "routing_key": "a/b c", "payload": "grüße", "payload_encoding": "string", "properties": {},
    });
    let publish = "/api/exchanges/%2F/amq.default/publish";
    let published = broker.call(&token, publish, &["-H", JSON, "-d", &message.to_string()]);
    assert_eq!(
        (published.status, &*published.body),
        (200, r#"{"routed":true}"#)
    );

    let how = json!({ "count": 1, "ackmode": "ack_requeue_false", "encoding": "auto" });
    let get = format!("{queue}/get");
    let got = broker.call(&token, &get, &["-H", JSON, "-d", &how.to_string()]);
    let messages: Value = serde_json::from_str(&got.body).expect("messages");
    assert_eq!(messages.pointer("/0/payload"), Some(&json!("grüße")));

    let deleted = broker.call(&token, queue, &["-X", "DELETE"]);
    assert_eq!((deleted.status, &*deleted.body), (204, ""));
}

#[test]
fn a_wrong_password_is_401_at_login_and_so_is_a_user_who_may_not_manage() {
    let broker = Broker::with_user("bob");
    RabbitMq::shared().add_user("only-mqtt", PASSWORD, "");
    for (name, password) in [
        ("bob", "wrong"),
        ("nobody", PASSWORD),
        ("only-mqtt", PASSWORD),
    ] {
        let answer = broker.gate.login(name, password);
        assert_eq!(
            (answer.status, &*answer.body),
            (401, r#"{"message":"Unauthorized"}"#)
        );
    }
    assert_eq!(
        broker.gate.metric(REFUSALS),
        Some(0.0),
        "these were the clients' faults"
    );
}

#[test]
fn a_user_deleted_in_rabbitmq_gets_502_which_is_counted_and_logged_as_a_warning() {
    let broker = Broker::with_user("carol");
    let token = broker.login().field("jwt");
    assert_eq!(broker.call(&token, "/api/whoami", &[]).status, 200);

    RabbitMq::shared().remove_user("carol");
    let refused = broker.call(&token, "/api/whoami", &["--include"]);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(
        !refused.body.to_lowercase().contains("www-authenticate"),
        "{refused:?}"
    );
    assert_eq!(broker.gate.metric(REFUSALS), Some(1.0));
    assert!(broker.gate.logged(|event| {
        event["level"] == "WARN"
            && event["message"] == "exchange"
            && event["http.response.status_code"] == 502
            && event["reason"] == "upstream_refused_credential"
            && event["side"] == "upstream"
            && event["subject"] == "carol"
    }));
    assert_eq!(broker.login().status, 401);
}

#[test]
fn a_password_changed_in_rabbitmq_ends_calls_with_502_and_refreshes_with_401() {
    let broker = Broker::with_user("dave");
    let pair = broker.login();
    let refreshed = broker.refresh(&pair);
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    assert_eq!(
        broker
            .call(&refreshed.field("jwt"), "/api/whoami", &[])
            .field("name"),
        "dave"
    );

    RabbitMq::shared().add_user("dave", "another", "management");
    assert_eq!(
        broker
            .call(&refreshed.field("jwt"), "/api/whoami", &[])
            .status,
        502
    );
    assert_eq!(broker.refresh(&refreshed).status, 401);
    assert_eq!(broker.login().status, 401);
    let again = broker.gate.login("dave", "another");
    assert_eq!(
        broker
            .call(&again.field("jwt"), "/api/whoami", &[])
            .field("name"),
        "dave"
    );
}

#[test]
fn a_token_in_the_query_works_and_rabbitmq_gets_the_rest_of_the_query_byte_for_byte() {
    let broker = Broker::with_user("erin");
    let token = broker.login().field("jwt");
    let path = format!("/api/overview?x=%61%2Fb&authorization={token}&&--flag&y=+");
    let answer = broker.gate.curl(&path, &["--include"]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .body
            .to_lowercase()
            .contains("cache-control: no-store"),
        "{answer:?}"
    );

    let cut = "/api/overview?x=%61%2Fb&&--flag&y=+";
    assert_eq!(
        broker.tap.requests_for(cut).len(),
        1,
        "{}",
        broker.tap.seen()
    );
    assert!(!broker.tap.seen().contains(&token));
}

#[test]
fn neither_password_nor_token_is_in_any_line_of_the_log() {
    let broker = Broker::with_user("frank");
    let pair = broker.login();
    let token = pair.field("jwt");
    let refresh_token = broker.refresh(&pair).field("jwt_refresh_token");
    broker.gate.login("frank", &format!("{PASSWORD}wrong"));
    broker.call(&token, "/api/whoami", &[]);
    for path in ["/api/overview", "/nowhere", "/api/../x"] {
        let url = format!("{path}?authorization={token}");
        broker.gate.curl(&url, &[]);
    }
    broker.call(&format!("{token}x"), "/api/whoami", &[]);
    broker.gate.curl(
        "/auth/authenticate",
        &["-H", JSON, "-d", &format!("{{\"{PASSWORD}")],
    );
    RabbitMq::shared().remove_user("frank");
    broker.call(&token, "/api/last", &[]);
    assert!(broker.gate.logged(|event| event["url.path"] == "/api/last"));

    let json = json!(PASSWORD).to_string();
    let basic = format!("frank:{PASSWORD}");
    let mut secrets = vec![
        PASSWORD.trim().to_owned(),
        json.trim_matches(['"', ' ']).to_owned(),
        "wörd".to_owned(),
        BASE64_STANDARD.encode(&basic),
        BASE64_URL_SAFE_NO_PAD.encode(&basic),
    ];
    for token in [token, pair.field("jwt_refresh_token"), refresh_token] {
        // The rest of a token can be guessed.
        secrets.push(token.rsplit('.').next().expect("a signature").to_owned());
    }
    let said = broker.gate.process.said();
    for secret in secrets {
        assert!(
            !secret.is_empty() && !said.contains(&secret),
            "{secret} is in\n{said}"
        );
    }
}

#[test]
fn two_authorization_headers_are_400_from_the_gate_and_rabbitmq_sees_neither() {
    let broker = Broker::with_user("grace");
    let token = broker.login().field("jwt");
    let before = broker.tap.seen();
    let second = format!("Authorization: Bearer {token}");
    for second in [
        &*second,
        "Authorization: Basic Z3JhY2U6eA==",
        "authorization:Bearer x",
    ] {
        for version in ["--http1.1", "--http2"] {
            let answer = broker.call(&token, "/api/whoami", &["-H", second, version]);
            assert_eq!(answer.status, 400, "{second} {version}: {answer:?}");
        }
    }
    assert_eq!(broker.tap.seen(), before);
    assert!(
        broker
            .gate
            .logged(|event| event["reason"] == "several_credentials")
    );
}

#[test]
fn an_offer_of_h2c_is_answered_as_if_it_was_not_made_though_rabbitmq_would_take_it() {
    let broker = Broker::with_user("heidi");
    let token = broker.login().field("jwt");
    let offer = [
        "-H",
        "Connection: Upgrade, HTTP2-Settings",
        "-H",
        "Upgrade: h2c",
        "-H",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "--http1.1",
    ];
    let bearer = format!("Authorization: Bearer {token}");
    let answer = curl(
        &format!("{}/api/whoami", broker.gate.http),
        &[&offer[..], &["-H", &bearer]].concat(),
    );
    assert_eq!((answer.status, &*answer.field("name")), (200, "heidi"));
    let [sent] = &broker.tap.requests_for("/api/whoami")[1..] else {
        panic!("probe and call")
    };
    assert!(!sent.to_lowercase().contains("upgrade"), "{sent}");
    assert!(!sent.to_lowercase().contains("http2-settings"), "{sent}");

    assert!(RabbitMq::shared().takes_h2c(), "the danger is real");
}

#[test]
fn a_token_without_sealed_credentials_is_403_and_rabbitmq_is_not_asked() {
    let broker = Broker::with_user("ivan");
    let answer = broker.call(&broker.gate.mint("ivan", "1m"), "/api/whoami", &[]);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(broker.tap.seen(), "");
}

#[test]
fn a_real_mqtt_client_gets_its_message_back_from_rabbitmq_through_the_gate() {
    let broker = Broker::with_user("judy");
    let token = broker.login().field("jwt");
    let client = mqtt_client("judy");
    let back = json!({ "event": "message", "payload": "judy" });
    assert_eq!(broker.gate.mqtt(&client, Some(&token), &[]), [back]);

    let wrong = Mqtt {
        password: "wrong",
        ..client
    };
    let refused = json!({ "event": "refused", "by": "broker" });
    assert_eq!(broker.gate.mqtt(&wrong, Some(&token), &[]), [refused]);
}

#[test]
fn an_mqtt_client_without_a_token_does_not_get_through_to_rabbitmq() {
    let broker = Broker::with_user("mallory");
    let refused = json!({ "event": "refused", "by": "handshake" });
    assert_eq!(
        broker.gate.mqtt(&mqtt_client("mallory"), None, &[]),
        [refused]
    );
    assert!(broker.gate.logged(|event| {
        event["url.path"] == "/ws"
            && event["http.response.status_code"] == 401
            && event["reason"] == "missing_credential"
    }));
}

#[test]
fn an_mqtt_tunnel_to_rabbitmq_ends_with_its_token() {
    let broker = Broker::with_user("niaj");
    let token = broker.gate.mint("niaj", "4s");
    let events = broker
        .gate
        .mqtt(&mqtt_client("niaj"), Some(&token), &["--stay"]);
    let told: Vec<_> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(told, ["message", "disconnected"]);

    let refused = json!({ "event": "refused", "by": "handshake" });
    assert_eq!(
        broker.gate.mqtt(&mqtt_client("niaj"), Some(&token), &[]),
        [refused]
    );
    assert!(
        broker
            .gate
            .logged(|event| event["url.path"] == "/ws" && event["reason"] == "expired")
    );
}

#[test]
fn a_session_of_mqtt_is_opened_with_a_token_under_the_users_own_name() {
    let rabbitmq = RabbitMq::shared();
    rabbitmq.add_user("olivia", PASSWORD, "management");
    let config = format!(
        r#"
identity:
  - upstream_probe: {{ upstream: broker, path: /api/whoami }}
upstreams:
  broker: {{ endpoints: [ "http://127.0.0.1:{}" ] }}
  web: {{ endpoints: [ "http://127.0.0.1:{}" ] }}
  mqtt: {{ endpoints: [ "mqtt://127.0.0.1:{}" ], protocol: mqtt }}
routes:
  - {{ path: /mqtt, upstream: mqtt, protocol: mqtt, credential: login }}
  - {{ path: /ws, upstream: web, protocol: mqtt, credential: login }}
"#,
        rabbitmq.management, rabbitmq.web_mqtt, rabbitmq.mqtt
    );
    let gate = Gate::start(&config, &[]);
    let token = gate.login("olivia", PASSWORD).field("jwt");
    for over in [Over::Tls, Over::WebSocket("/mqtt"), Over::WebSocket("/ws")] {
        for level in [3, 4] {
            let events = gate.paho((over, level), "olivia", &token, &[]);
            let back = json!({ "event": "message", "payload": "olivia" });
            assert_eq!(events, [back], "{over:?}, {level}");
        }
    }
    let event = gate.mqtt_js((Over::WebSocket("/ws"), 4), "olivia", &token);
    assert_eq!(event, json!({ "event": "message", "payload": "olivia" }));
    // A token that brings no password of RabbitMQ's is no passage.
    let bare = gate.mint("olivia", "1m");
    let refused = |code| [json!({ "event": "refused", "by": "broker", "code": code })];
    assert_eq!(
        gate.paho((Over::Tls, 4), "olivia", &bare, &[]),
        refused(0x87)
    );
    // A password that RabbitMQ takes no more is the gate's affair, not the client's.
    rabbitmq.add_user("olivia", "another", "management");
    assert_eq!(
        gate.paho((Over::Tls, 4), "olivia", &token, &[]),
        refused(0x88)
    );
    assert!(gate.logged(|event| event["reason"] == "upstream_refused_credential"));
}

#[test]
fn a_dot_is_a_slash_to_rabbitmq_and_so_to_the_gate() {
    let rabbitmq = RabbitMq::shared();
    rabbitmq.add_user("quentin", PASSWORD, "management");
    let port = rabbitmq.mqtt.to_string();
    let mqtt = |program: &str, more: &[&str]| {
        // So that each line comes at once.
        let mut command = Command::new("stdbuf");
        command.args([
            "-oL",
            program,
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "mqttv311",
        ]);
        command.args(["-u", "quentin", "-P", PASSWORD, "-q", "1"]);
        command.args(more);
        command
    };
    let folder = Folder::create();
    let listen = ["-d", "-t", "news/quentin.x", "-C", "1", "-W", "30"];
    let listener = Process::start(&mut mqtt("mosquitto_sub", &listen), &folder);
    let is_subscribed = |line: &str| line.starts_with("Subscribed");
    assert!(
        listener.stdout.wait_for(is_subscribed),
        "{}",
        listener.said()
    );
    let told = mqtt("mosquitto_pub", &["-t", "news/quentin/x", "-m", "21.5"]).output();
    succeeded(&told.expect("mosquitto-clients; run tests/install.sh"));
    let is_heard = listener.stdout.wait_for(|line| line == "21.5");
    assert!(is_heard, "{}", listener.said());

    let config = format!(
        r#"
identity:
  - upstream_probe: {{ upstream: broker, path: /api/whoami }}
upstreams:
  broker: {{ endpoints: [ "http://127.0.0.1:{}" ] }}
  mqtt: {{ endpoints: [ "mqtt://127.0.0.1:{}" ], protocol: mqtt }}
routes:
  - path: /mqtt
    upstream: mqtt
    protocol: mqtt
    credential: login
    mqtt: {{ amqp_topics: true, subscribe: [ news/+ ] }}
"#,
        rabbitmq.management, rabbitmq.mqtt
    );
    let gate = Gate::start(&config, &[]);
    let token = gate.login("quentin", PASSWORD).field("jwt");
    let back = json!({ "event": "message", "payload": "news/quentin" });
    let refused = json!({ "event": "refused", "by": "subscription", "code": 0x80 });
    for (topic, expected) in [("news/quentin", back), ("news/quentin.x", refused)] {
        let events = gate.paho((Over::Tls, 4), topic, &token, &[]);
        assert_eq!(events, [expected], "{topic}");
    }
}

/// The gate before RabbitMQ, a tap between them, and a user who logs in.
struct Broker {
    gate: Gate,
    tap: Tap,
    user: &'static str,
}

impl Broker {
    fn with_user(user: &'static str) -> Self {
        let rabbitmq = RabbitMq::shared();
        rabbitmq.add_user(user, PASSWORD, "management");
        let tap = Tap::before(rabbitmq.management);
        let config = format!(
            r#"
identity:
  - upstream_probe: {{ upstream: broker, path: /api/whoami }}
upstreams:
  broker: {{ endpoints: [ "http://127.0.0.1:{}" ] }}
  web_mqtt: {{ endpoints: [ "http://127.0.0.1:{}" ] }}
routes:
  - path: /api/**
    upstream: broker
    credential: login
    allow_in_path: [encoded_slash]
  - path: /ws
    upstream: web_mqtt
"#,
            tap.port, rabbitmq.web_mqtt
        );
        Self {
            gate: Gate::start(&config, &[]),
            tap,
            user,
        }
    }

    fn login(&self) -> Answer {
        self.gate.login(self.user, PASSWORD)
    }

    fn refresh(&self, pair: &Answer) -> Answer {
        let body = json!({ "jwt_refresh_token": pair.field("jwt_refresh_token") }).to_string();
        self.gate
            .curl("/auth/refreshToken", &["-H", JSON, "-d", &body])
    }

    fn call(&self, token: &str, path: &str, arguments: &[&str]) -> Answer {
        let bearer = format!("Authorization: Bearer {token}");
        self.gate
            .curl(path, &[&["-H", &bearer], arguments].concat())
    }
}

const REFUSALS: &str = r#"tollgate_upstream_refusals_total{upstream="broker"}"#;

fn mqtt_client(user: &str) -> Mqtt<'_> {
    Mqtt {
        path: "/ws",
        username: user,
        password: PASSWORD,
        topic: user,
    }
}
