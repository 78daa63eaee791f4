//! Browsers' WebSockets can set no header but `Sec-WebSocket-Protocol`: a token may stand there.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::client::connect;
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::read_head;
use crate::support::upstream::{Seen, Upstream};

const ROUTES: &str = "
  - path: /ws
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - { path: /off, upstream: app, token: { subprotocol: false } }
  - { path: /open, upstream: app, public: true }
";

/// An upstream that agrees to every WebSocket and to the first subprotocol that is offered.
fn agreeing() -> Upstream {
    Upstream::scripted(|seen: &Seen, stream| {
        let offered = seen.all("sec-websocket-protocol").join(", ");
        let first = offered.split(',').next().unwrap().trim();
        let chosen = match first {
            "" => String::new(),
            first => format!("sec-websocket-protocol: {first}\r\n"),
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{chosen}\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        false
    })
}

fn start() -> (Upstream, Gate) {
    let upstream = agreeing();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

/// Asks for a WebSocket; the head of the answer.
fn open(gate: &Gate, target: &str, offers: &[&str]) -> String {
    let offers: String = offers
        .iter()
        .map(|offer| format!("Sec-WebSocket-Protocol: {offer}\r\n"))
        .collect();
    let mut stream = connect(gate.address());
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nhost: gate.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offers}\r\n"
    )
    .unwrap();
    read_head(&mut stream)
}

fn kubernetes(token: &str) -> String {
    format!(
        "base64url.bearer.authorization.k8s.io.{}",
        URL_SAFE_NO_PAD.encode(token)
    )
}

#[test]
fn a_token_among_the_subprotocols_opens_the_socket_and_goes_no_further() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    let (plain, encoded) = (format!("bearer.{token}"), kubernetes(&token));
    for (offers, left) in [
        (vec![format!("{plain}, mqtt")], Some("mqtt")),
        (vec![format!("mqtt, {plain}")], Some("mqtt")),
        (
            vec![format!("v5.mqtt,{encoded} ,mqtt")],
            Some("v5.mqtt, mqtt"),
        ),
        (vec![encoded.clone(), "mqtt".to_owned()], Some("mqtt")),
        (vec![plain], None),
    ] {
        let offers: Vec<_> = offers.iter().map(String::as_str).collect();
        let head = open(&gate, "/ws", &offers);
        assert!(head.starts_with("HTTP/1.1 101 "), "{offers:?}: {head}");
        let seen = upstream.last();
        assert_eq!(seen.header("sec-websocket-protocol"), left, "{offers:?}");
        assert_eq!(seen.header("authorization"), Some("Basic Z2F0ZTpzM2NyZXQ="));
        let chosen = left.map(|left| left.split(',').next().unwrap());
        let answered = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-protocol")
                .then_some(value)
        });
        assert_eq!(answered, chosen, "{offers:?}");
        for text in [&head, &seen.head] {
            assert!(
                !text.contains(&token) && !text.contains(&encoded),
                "{offers:?}"
            );
        }
    }
    let location = r#"location="subprotocol",reason="none",result="ok",route="/ws""#;
    assert_eq!(
        gate.metric(&format!("tollgate_authentication_total{{{location}}}")),
        5.0
    );
}

#[test]
fn what_is_no_good_there_is_refused() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    let (plain, encoded) = (format!("bearer.{token}"), kubernetes(&token));
    for (target, offers, status) in [
        ("/ws", vec!["mqtt".to_owned()], 401),
        ("/ws", vec![format!("{plain}x, mqtt")], 401),
        ("/ws", vec!["bearer., mqtt".to_owned()], 401),
        ("/ws", vec![format!("{encoded}=, mqtt")], 401),
        ("/ws", vec![format!("{plain}, {encoded}")], 400),
        ("/ws", vec![plain.clone(), plain.clone()], 400),
        ("/off", vec![format!("{plain}, mqtt")], 401),
    ] {
        let offers: Vec<_> = offers.iter().map(String::as_str).collect();
        let head = open(&gate, target, &offers);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{offers:?}: {head}"
        );
        assert!(!head.contains(&token));
    }
    let head = open(
        &gate,
        &format!("/ws?access_token={token}"),
        &[&plain, "mqtt"],
    );
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(upstream.seen().is_empty());
    assert!(!gate.log().contains(&token));
}

#[test]
fn a_token_there_never_reaches_an_upstream_even_where_nobody_asked_for_it() {
    let (upstream, gate) = start();
    let token = sign(&claims());
    let offer = format!("bearer.{token}, mqtt");
    assert!(open(&gate, "/open", &[&offer]).starts_with("HTTP/1.1 101 "));
    assert_eq!(
        upstream.last().header("sec-websocket-protocol"),
        Some("mqtt")
    );
    let target = format!("/off?access_token={token}");
    assert!(open(&gate, &target, &[&offer]).starts_with("HTTP/1.1 101 "));
    assert_eq!(
        upstream.last().header("sec-websocket-protocol"),
        Some("mqtt")
    );
}
