//! Does a real MQTT client reach a real Mosquitto with a token, and only while the token lives?

#![expect(clippy::expect_used, clippy::panic, reason = "a test stops here")]

#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/services.rs"]
mod services;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use mosquitto::Mosquitto;
use services::{Folder, GATE, Gate, Mqtt, Over, curl, succeeded};

/// What Mosquitto knows, and the gate does not.
const CLIENT: Mqtt<'_> = Mqtt {
    path: "/mqtt",
    username: "sensor",
    password: "only: mosquitto knows ✓",
    topic: "plant/1/temperature",
};
/// What the gate knows, and Mosquitto does not.
const LOGIN: (&str, &str) = ("operator", "open the gate");

#[test]
fn an_mqtt_client_logs_in_and_gets_its_message_back_through_the_gate() {
    let (mosquitto, gate) = start();
    let came_back = [json!({ "event": "message", "payload": CLIENT.topic })];
    let directly = CLIENT.run(&["--port", &mosquitto.plain.to_string()]);
    assert_eq!(directly, came_back, "without the gate");

    let login = gate.login(LOGIN.0, LOGIN.1);
    assert_eq!(login.status, 200, "{login:?}");
    assert_eq!(
        gate.mqtt(&CLIENT, Some(&login.field("jwt")), &[]),
        came_back
    );
}

#[test]
fn a_token_among_the_subprotocols_opens_the_broker_which_still_chooses_mqtt() {
    let (_mosquitto, gate) = start();
    let token = gate.mint("operator", "1m");
    let came_back = [json!({ "event": "message", "payload": CLIENT.topic })];
    assert_eq!(gate.mqtt(&CLIENT, None, &["--token", &token]), came_back);
    let location = r#"location="subprotocol",reason="none",result="ok",route="/mqtt""#;
    let sample = format!("tollgate_authentication_total{{{location}}}");
    assert_eq!(gate.metric(&sample), Some(1.0));
}

#[test]
fn an_mqtt_password_is_judged_by_mosquitto_and_no_token_stands_in_for_it() {
    let (_mosquitto, gate) = start();
    let token = gate.mint("operator", "1m");
    let stranger = Mqtt {
        password: "wrong",
        ..CLIENT
    };
    let refused = json!({ "event": "refused", "by": "broker" });
    assert_eq!(gate.mqtt(&stranger, Some(&token), &[]), [refused]);
}

#[test]
fn without_a_token_or_with_a_forged_one_the_handshake_is_refused_with_401() {
    let (_mosquitto, gate) = start();
    let handshake = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let handshake = handshake.map(|header| ["-H", header]).concat();
    let url = format!("{}/mqtt", gate.http);
    let answer = curl(&url, &[&handshake[..], &["--http1.1"]].concat());
    assert_eq!(answer.status, 401, "{answer:?}");

    let forged = format!("{}x", gate.mint("operator", "1m"));
    for (token, reason) in [
        (None, "missing_credential"),
        (Some(&*forged), "invalid_signature"),
    ] {
        assert_eq!(gate.mqtt(&CLIENT, token, &[]), refused_at_handshake());
        assert!(
            gate.logged(|event| is_refusal(event, reason)),
            "{}",
            gate.process.said()
        );
    }
}

#[test]
fn a_tunnel_ends_with_its_token_which_then_opens_no_other() {
    let (_mosquitto, gate) = start();
    let token = gate.mint("operator", "4s");
    let events = gate.mqtt(&CLIENT, Some(&token), &["--stay"]);
    let [message, end] = &events[..] else {
        panic!("not a message and an end: {events:?}")
    };
    assert_eq!(message["event"], "message");
    assert_eq!(end["event"], "disconnected");
    let late = end["at"].as_f64().expect("a time") - expiry(&token);
    assert!(
        (0.0..10.0).contains(&late),
        "it ended {late} s after its token"
    );
    assert!(gate.logged(|event| event["tunnel_end"] == "expired"));
    let open = gate.metric(r#"tollgate_tunnels_open{route="/mqtt"}"#);
    assert_eq!(open, Some(0.0));

    assert_eq!(
        gate.mqtt(&CLIENT, Some(&token), &[]),
        refused_at_handshake()
    );
    assert!(
        gate.logged(|event| is_refusal(event, "expired")),
        "{}",
        gate.process.said()
    );
}

#[test]
fn a_token_in_connect_opens_the_broker_in_every_version_over_every_way() {
    let (_mosquitto, gate) = start_for_sessions("");
    let token = gate.mint("operator", "1m");
    for over in WAYS {
        for level in [3, 4, 5] {
            let events = gate.paho((over, level), CLIENT.topic, &token, &[]);
            let came_back = json!({ "event": "message", "payload": CLIENT.topic });
            assert_eq!(events, [came_back], "{over:?}, {level}");
        }
    }
    let sample = r#"tollgate_authentication_total{location="connect",reason="none",result="ok",route="/ws"}"#;
    assert_eq!(gate.metric(sample), Some(3.0));
}

#[test]
fn a_refused_client_learns_why_in_its_version() {
    let rules =
        "client_id: \"{sub}-*\", publish: [ \"plant/{sub}/#\" ], subscribe: [ \"plant/{sub}/#\" ]";
    let (_mosquitto, gate) = start_for_sessions(rules);
    let token = gate.mint("operator", "1m");
    let forged = format!("{token}x");
    let (own, other) = ("plant/operator/1", "plant/other/1");
    for over in WAYS {
        for level in [4, 5] {
            let run = |topic, token: &str, id| {
                gate.paho((over, level), topic, token, &["--client-id", id])
            };
            let refused = |by, code| [json!({ "event": "refused", "by": by, "code": code })];
            // Paho has 5.0's codes for those of 3.1.1, too.
            assert_eq!(run(own, &forged, "operator-1"), refused("broker", 0x86));
            assert_eq!(run(own, &token, "other-1"), refused("broker", 0x85));
            let code = if level == 5 { 0x87 } else { 0x80 };
            assert_eq!(
                run(other, &token, "operator-1"),
                refused("subscription", code)
            );
            let came_back = json!({ "event": "message", "payload": own });
            assert_eq!(run(own, &token, "operator-1"), [came_back]);
        }
    }
}

#[test]
fn a_session_ends_with_its_token_and_5_0_says_so() {
    let (_mosquitto, gate) = start_for_sessions("");
    let token = gate.mint("operator", "4s");
    for (over, level) in [(Over::Tls, 5), (Over::WebSocket("/ws"), 4)] {
        let token = if level == 5 {
            &token
        } else {
            &gate.mint("operator", "4s")
        };
        let events = gate.paho((over, level), CLIENT.topic, token, &["--stay"]);
        let [message, end] = &events[..] else {
            panic!("not a message and an end: {events:?}")
        };
        assert_eq!(message["event"], "message");
        assert_eq!(end["event"], "disconnected");
        if level == 5 {
            assert_eq!(end["code"], 0xa0, "{end}");
        }
        let late = end["at"].as_f64().expect("a time") - expiry(token);
        assert!(
            (0.0..10.0).contains(&late),
            "it ended {late} s after its token"
        );
    }
}

#[test]
fn mosquittos_own_clients_pass_in_every_version() {
    let (_mosquitto, gate) = start_for_sessions("");
    let token = gate.mint("operator", "1m");
    let port = gate.mqtts.as_deref().expect("a listener of MQTT");
    let ca = gate.folder.file("tls.crt");
    let run = |program: &str, version: &str, password: &str, more: &[&str]| {
        Command::new(program)
            .args(["-h", "127.0.0.1", "-p", port, "-V", version, "--cafile"])
            .arg(&ca)
            .args(["-u", "anybody", "-P", password, "-q", "1", "-t", version])
            .args(more)
            .output()
            .expect("mosquitto-clients; run tests/install.sh")
    };
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        succeeded(&run(
            "mosquitto_pub",
            version,
            &token,
            &["-r", "-m", "21.5"],
        ));
        let heard = run("mosquitto_sub", version, &token, &["-C", "1", "-W", "20"]);
        assert_eq!(succeeded(&heard).trim(), "21.5", "{version}");
        let refused = run("mosquitto_pub", version, "x", &["-m", "21.5"]);
        assert!(!refused.status.success(), "{version}");
    }
}

#[test]
fn mqtt_js_passes_over_websockets_and_tls() {
    let (_mosquitto, gate) = start_for_sessions("");
    let token = gate.mint("operator", "1m");
    for over in WAYS {
        for level in [4, 5] {
            let event = gate.mqtt_js((over, level), CLIENT.topic, &token);
            let came_back = json!({ "event": "message", "payload": CLIENT.topic });
            assert_eq!(event, came_back, "{over:?}, {level}");
            let code = if level == 5 { 0x86 } else { 4 };
            let event = gate.mqtt_js((over, level), CLIENT.topic, "x");
            assert_eq!(
                event,
                json!({ "event": "refused", "code": code }),
                "{over:?}, {level}"
            );
        }
    }
}

#[test]
fn a_bridge_of_mosquittos_passes() {
    let (mosquitto, gate) = start_for_sessions("");
    let token = gate.mint("operator", "1m");
    let port = gate.mqtts.as_deref().expect("a listener of MQTT");
    let ca = gate.folder.file("tls.crt");
    let bridge = Mosquitto::with_config(|_, [plain, _]| {
        format!(
            "listener {plain} 127.0.0.1
allow_anonymous true
connection gate
address 127.0.0.1:{port}
bridge_cafile {}
remote_username anybody
remote_password {token}
notifications false
restart_timeout 1
topic plant/# out 1
",
            ca.display()
        )
    });
    let run = |program: &str, port: u16, more: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1"]);
        command.args(["-t", "plant/1"]).args(more);
        command
            .output()
            .expect("mosquitto-clients; run tests/install.sh")
    };
    succeeded(&run("mosquitto_pub", bridge.plain, &["-m", "21.5", "-r"]));
    let pair = ["-u", CLIENT.username, "-P", CLIENT.password];
    let heard = run(
        "mosquitto_sub",
        mosquitto.plain,
        &[&pair[..], &["-C", "1", "-W", "30"]].concat(),
    );
    assert_eq!(succeeded(&heard).trim(), "21.5");
}

/// The lines of the README behind those that start broker and gate, with what they print.
#[test]
fn the_example_of_deploy_does_what_the_readme_says() {
    let (_mosquitto, gate) = start_example();
    let port = |place: &str| place.rsplit_once(':').expect("a port").1.to_owned();
    let mqtts = gate.mqtts.clone().expect("a listener of MQTT");
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once("**Mosquitto.**").expect("a section");
    let lines = section.lines().skip_while(|line| !line.starts_with("    "));
    let lines = lines.take_while(|line| line.starts_with("    "));
    let lines = lines.skip_while(|line| !line.contains("token mint"));
    let script = Vec::from_iter(lines.map(str::trim)).join("\n");
    let script = swapped(&script, &[("8883", &mqtts), ("8443", &port(&gate.https))]);
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python/bin");
    let program = Path::new(GATE).parent().expect("its folder");
    let system = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{system}", program.display(), python.display());
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(gate.folder.file("."))
        .output()
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let heard = Vec::from_iter(said.lines().map(str::trim));
    assert_eq!(heard, ["21.5", "22"], "{said}{errors}");
    for told in ["Not authorized", "Client Identifier not valid"] {
        assert!(errors.contains(told), "{told}: {said}{errors}");
    }
    assert!(gate.logged(|event| event["reason"] == "client_id_not_allowed"));
}

/// What `deploy/mosquitto` has, on other ports.
fn start_example() -> (Mosquitto, Gate) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/mosquitto/secrets.sh");
    let mosquitto = Mosquitto::with_config(|folder, [plain, _]| {
        let mut secrets = Command::new("bash");
        secrets.arg(script).arg(folder.file("."));
        succeeded(&secrets.output().expect("bash"));
        let config = include_str!("../deploy/mosquitto/mosquitto.conf");
        swapped(config, &[("1883", &plain.to_string())])
    });
    let folder = Folder::create();
    for name in ["tls.crt", "tls.key", "k1", "broker-password"] {
        fs::copy(mosquitto.folder.file(name), folder.file(name)).expect("a secret");
    }
    let config = swapped(
        include_str!("../deploy/mosquitto/tollgate.yaml"),
        &[
            ("0.0.0.0:8883", "127.0.0.1:0"),
            ("0.0.0.0:8443", "127.0.0.1:0"),
            ("127.0.0.1:9901", "127.0.0.1:0"),
            ("127.0.0.1:1883", &format!("127.0.0.1:{}", mosquitto.plain)),
        ],
    );
    folder.write("tollgate.yaml", &config);
    (mosquitto, Gate::start_in(folder))
}

fn swapped(text: &str, swaps: &[(&str, &str)]) -> String {
    swaps.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replace(from, to)
    })
}

/// A Mosquitto whose one password only the gate knows, and the gate before both of its listeners.
fn start_for_sessions(rules: &str) -> (Mosquitto, Gate) {
    let mosquitto = Mosquitto::with_user(CLIENT.username, CLIENT.password);
    let shared = format!(
        "protocol: mqtt, credential: {{ basic: {{ username: {}, password_file: password }} }}, \
         mqtt: {{ {rules} }}",
        CLIENT.username
    );
    let config = format!(
        "
identity: [ {{ users_file: users.yaml }} ]
upstreams:
  broker: {{ endpoints: [ \"mqtt://127.0.0.1:{}\" ], protocol: mqtt }}
  web: {{ endpoints: [ \"http://127.0.0.1:{}\" ] }}
routes:
  - {{ path: /mqtt, upstream: broker, {shared} }}
  - {{ path: /ws, upstream: web, {shared} }}
",
        mosquitto.plain, mosquitto.websockets
    );
    let files = [("users.yaml", "users: []"), ("password", CLIENT.password)];
    let gate = Gate::start(&config, &files);
    (mosquitto, gate)
}

/// MQTT itself, WebSockets before a broker of MQTT itself, and WebSockets before WebSockets.
const WAYS: [Over<'_>; 3] = [Over::Tls, Over::WebSocket("/mqtt"), Over::WebSocket("/ws")];

fn start() -> (Mosquitto, Gate) {
    let mosquitto = Mosquitto::with_user(CLIENT.username, CLIENT.password);
    let config = format!(
        r#"
identity: [ {{ users_file: users.yaml }} ]
upstreams:
  broker: {{ endpoints: [ "http://127.0.0.1:{}" ] }}
routes:
  - path: /mqtt
    upstream: broker
"#,
        mosquitto.websockets
    );
    let users = json!({ "users": [ { "name": LOGIN.0, "password_hash": hash(LOGIN.1) } ] });
    let gate = Gate::start(&config, &[("users.yaml", &users.to_string())]);
    (mosquitto, gate)
}

fn hash(password: &str) -> String {
    let mut hashing = Command::new(GATE)
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tollgate hash-password");
    let mut input = hashing.stdin.take().expect("its stdin");
    writeln!(input, "{password}").expect("a password");
    drop(input);
    succeeded(&hashing.wait_with_output().expect("its output"))
        .trim()
        .to_owned()
}

fn refused_at_handshake() -> [Value; 1] {
    [json!({ "event": "refused", "by": "handshake" })]
}

fn is_refusal(event: &Value, reason: &str) -> bool {
    event["url.path"] == "/mqtt"
        && event["http.response.status_code"] == 401
        && event["reason"] == reason
}

/// When a token expires, in Unix time.
fn expiry(token: &str) -> f64 {
    let claims = token.split('.').nth(1).expect("claims");
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(claims)
        .expect("claims in base64");
    let claims: Value = serde_json::from_slice(&claims).expect("claims in JSON");
    claims.get("exp").and_then(Value::as_f64).expect("a time")
}
