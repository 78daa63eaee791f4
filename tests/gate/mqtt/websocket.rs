//! Does MQTT pass in WebSockets, with the token in the request or in CONNECT?

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use http::HeaderValue;
use serde_json::json;
use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

use crate::support::client::connect;
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::mqtt::{
    Broker, Connect, PINGREQ, PINGRESP, V5, V31, V311, before, field, publish, route, variable,
};
use crate::support::raw::accepting;
use crate::support::tokens::with_claim;
use crate::support::{unix_now, wait_for};

/// A broker that takes MQTT in WebSockets: the heads and the messages that it got.
#[derive(Clone, Debug, Default)]
struct Seen {
    heads: Arc<Mutex<Vec<String>>>,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn web_broker() -> (SocketAddr, Seen) {
    web_broker_that(&[])
}

/// One that answers the upgrade request with these headers besides.
#[expect(clippy::result_large_err, reason = "the library asks for this type")]
fn web_broker_that(answers: &'static [(&'static str, &'static str)]) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let record = seen.clone();
    let address = accepting(move |stream| {
        let callback = |request: &Request, mut response: Response| {
            let line =
                |(name, value): (_, &HeaderValue)| format!("{name}: {}\n", value.to_str().unwrap());
            let lines: String = request.headers().iter().map(line).collect();
            let head = format!("{}\n{lines}", request.uri());
            record.heads.lock().unwrap().push(head);
            let chosen = request.headers()["sec-websocket-protocol"].clone();
            response
                .headers_mut()
                .insert("sec-websocket-protocol", chosen);
            for (name, value) in answers {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(*name, value);
            }
            Ok(response)
        };
        let Ok(mut socket) = accept_hdr(stream, callback) else {
            return;
        };
        while let Ok(message) = socket.read() {
            if !message.is_binary() {
                continue;
            }
            let bytes = message.into_data().to_vec();
            let answer = match bytes[0] {
                0x10 if bytes.windows(5).any(|window| window == b"MQTT\x05") => {
                    vec![0x20, 3, 0, 0, 0]
                }
                0x10 => vec![0x20, 2, 0, 0],
                0xc0 => PINGRESP.to_vec(),
                _ => Vec::new(),
            };
            record.messages.lock().unwrap().push(bytes);
            if !answer.is_empty() && socket.send(Message::binary(answer)).is_err() {
                return;
            }
        }
    });
    (address, seen)
}

pub(super) type Socket = WebSocket<TcpStream>;

/// Opens a WebSocket through the gate; what it agreed to, or the status that it refused with.
pub(super) fn open(
    gate: &Gate,
    target: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, String), u16> {
    let mut request = format!("ws://gate.example{target}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match client(request, connect(gate.address())) {
        Ok((socket, response)) => {
            let agreed = response.headers()["sec-websocket-protocol"]
                .to_str()
                .unwrap();
            Ok((socket, agreed.to_owned()))
        }
        Err(tokio_tungstenite::tungstenite::HandshakeError::Failure(
            tokio_tungstenite::tungstenite::Error::Http(response),
        )) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

pub(super) const OFFER: (&str, &str) = ("sec-websocket-protocol", "mqtt");

pub(super) fn say(socket: &mut Socket, bytes: impl Into<Vec<u8>>) {
    socket.send(Message::binary(bytes.into())).unwrap();
}

/// What comes in the next message.
pub(super) fn hear(socket: &mut Socket) -> Vec<u8> {
    loop {
        let message = socket.read().unwrap();
        if message.is_binary() {
            return message.into_data().to_vec();
        }
    }
}

fn assert_alive(socket: &mut Socket) {
    say(socket, PINGREQ);
    assert_eq!(hear(socket), PINGRESP);
}

/// A close frame, and then nothing.
fn assert_closed(socket: &mut Socket) {
    let told = socket.read().unwrap();
    assert!(told.is_close(), "{told:?}");
    assert!(socket.read().is_err());
}

/// Nothing of MQTT comes any more, and then nothing at all.
fn assert_closed_by_force(socket: &mut Socket) {
    while let Ok(message) = socket.read() {
        assert!(message.is_close(), "{message:?}");
    }
}

pub(super) fn web_gate(upstream: SocketAddr, extra: &str) -> Gate {
    Builder::with_extra(upstream, &route(""), extra).start()
}

#[test]
fn the_token_stands_in_the_request_or_in_connect() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let token = sign(&claims());
    let (bearer, offer) = (format!("Bearer {token}"), format!("bearer.{token}, mqtt"));
    for (row, target, headers, password) in [
        ("CONNECT", "/mqtt?x=%2F".to_owned(), &[OFFER][..], &*token),
        (
            "header",
            "/mqtt?x=%2F".to_owned(),
            &[OFFER, ("authorization", &bearer)],
            "any",
        ),
        (
            "query",
            format!("/mqtt?access_token={token}&x=%2F"),
            &[OFFER],
            "any",
        ),
        (
            "subprotocol",
            "/mqtt?x=%2F".to_owned(),
            &[("sec-websocket-protocol", &offer)],
            "any",
        ),
    ] {
        let (mut socket, agreed) = open(&gate, &target, headers).unwrap();
        assert_eq!(agreed, "mqtt", "{row}");
        say(
            &mut socket,
            Connect::new(V5).pair("anybody", password).bytes(),
        );
        assert_eq!(hear(&mut socket), [0x20, 3, 0, 0, 0], "{row}");
        assert_alive(&mut socket);
        let connect = seen.messages.lock().unwrap()[0].clone();
        assert_eq!(
            connect,
            Connect::new(V5).pair("gate", "s3cret").bytes(),
            "{row}"
        );
        seen.messages.lock().unwrap().clear();
        let head = seen.heads.lock().unwrap().pop().unwrap();
        assert!(!head.contains(&token), "{row}: {head}");
        assert!(head.starts_with("/mqtt?x=%2F\n"), "{row}: {head}");
        assert!(
            head.contains("\nsec-websocket-protocol: mqtt\n"),
            "{row}: {head}"
        );
        assert!(
            head.contains("\nauthorization: Basic Z2F0ZTpzM2NyZXQ=\n"),
            "{row}: {head}"
        );
        assert!(
            head.contains("\nx-forwarded-for: 127.0.0.1\n"),
            "{row}: {head}"
        );
    }
    let location = |location: &str| {
        format!(
            "tollgate_authentication_total{{location=\"{location}\",reason=\"none\",result=\"ok\",route=\"mqtt\"}}"
        )
    };
    for name in ["connect", "header", "query", "subprotocol"] {
        assert_eq!(gate.metric(&location(name)), 1.0, "{name}");
    }
}

#[test]
fn a_bad_token_in_the_request_is_refused_as_http_and_one_in_connect_as_mqtt() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let expired = with_claim("exp", json!(unix_now() - 100));
    let bearer = format!("Bearer {expired}");
    let refused = open(&gate, "/mqtt", &[OFFER, ("authorization", &bearer)]);
    assert_eq!(refused.err(), Some(401));
    for (version, code) in [(V31, 4), (V311, 4), (V5, 0x86)] {
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
        say(&mut socket, Connect::with_token(version, &expired).bytes());
        assert_eq!(hear(&mut socket)[3], code, "{version:?}");
        assert_closed(&mut socket);
    }
    assert_eq!(seen.heads.lock().unwrap().len(), 0, "the broker was asked");
}

#[test]
fn a_token_in_the_request_is_judged_again_when_connect_comes() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let expires = unix_now() + 2;
    let bearer = format!("Bearer {}", with_claim("exp", json!(expires)));
    let headers = [OFFER, ("authorization", &*bearer)];
    let (mut socket, _) = open(&gate, "/mqtt", &headers).unwrap();
    wait_for("its end", || (unix_now() > expires).then_some(()));
    say(&mut socket, Connect::new(V5).bytes());
    assert_eq!(hear(&mut socket)[3], 0x86);
    assert_closed(&mut socket);
    assert!(seen.heads.lock().unwrap().is_empty());
}

#[test]
fn without_a_connect_no_broker_hears_of_a_websocket() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "limits: { mqtt: { connect_timeout: 300ms } }");
    let (mut silent, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
    assert!(silent.read().is_err());
    for first in [Message::binary(PINGREQ.to_vec()), Message::text("CONNECT")] {
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
        socket.send(first).unwrap();
        assert!(!socket.read().is_ok_and(|message| message.is_binary()));
    }
    assert_eq!(seen.heads.lock().unwrap().len(), 0);
    gate.wait_for_log("the silent one's line", |line| {
        line["reason"] == "request_timeout"
    });
}

#[test]
fn packets_need_not_be_aligned_with_frames() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let token = sign(&claims());
    let connect = Connect::with_token(V311, &token).bytes();
    let all = [&connect[..], &PINGREQ].concat();
    for piece in [1, 40, all.len()] {
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
        for piece in all.chunks(piece) {
            say(&mut socket, piece);
        }
        assert_eq!(hear(&mut socket), [0x20, 2, 0, 0], "pieces of {piece}");
        assert_eq!(hear(&mut socket), PINGRESP, "pieces of {piece}");
        let large = publish(V311, (0, 0), &"a".repeat(60_000), b"");
        say(&mut socket, &*large);
        assert_alive(&mut socket);
        let mut messages = seen.messages.lock().unwrap();
        assert_eq!(
            messages[0],
            Connect::new(V311).pair("gate", "s3cret").bytes()
        );
        let rest = messages[1..].concat();
        let expected = [&PINGREQ[..], &large, &PINGREQ].concat();
        assert_eq!(rest, expected, "pieces of {piece}");
        messages.clear();
    }
}

#[test]
fn only_websockets_of_mqtt_are_served_on_its_routes() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let token = sign(&claims());
    assert_eq!(gate.get("/mqtt", &token).status, 400);
    for offer in ["chat", "MQTT", "mqtt2"] {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("sec-websocket-protocol", offer),
            ("authorization", &*bearer),
        ];
        assert_eq!(open(&gate, "/mqtt", &headers).err(), Some(400), "{offer}");
    }
    let (_, agreed) = open(&gate, "/mqtt", &[("sec-websocket-protocol", "x, mqttv3.1")]).unwrap();
    assert_eq!(agreed, "mqttv3.1");
    assert_eq!(seen.heads.lock().unwrap().len(), 0);
}

#[test]
fn what_is_no_upgrade_to_a_websocket_is_refused() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let whole = [
        ("connection", "connection: upgrade\r\n"),
        ("upgrade", "upgrade: websocket\r\n"),
        ("sec-websocket-version", "sec-websocket-version: 13\r\n"),
        (
            "sec-websocket-key",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        ("sec-websocket-protocol", "sec-websocket-protocol: mqtt\r\n"),
    ];
    let without = |left_out: &str| {
        let lines = whole.iter().filter(|(name, _)| *name != left_out);
        let lines: String = lines.map(|(_, line)| *line).collect();
        gate.request("GET", "/mqtt", &lines).status
    };
    for (name, _) in whole {
        assert_eq!(without(name), 400, "{name}");
    }
    let lines: String = whole.iter().map(|(_, line)| *line).collect();
    let old = lines.replace("version: 13", "version: 8");
    assert_eq!(gate.request("GET", "/mqtt", &old).status, 400);
    assert_eq!(gate.request("POST", "/mqtt", &lines).status, 400);
    assert_eq!(seen.heads.lock().unwrap().len(), 0);
}

#[test]
fn what_a_client_offers_is_agreed_upon_with_the_gate_alone() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let offers = [
        ("sec-websocket-protocol", "chat, mqtt, mqttv3.1"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    // The library refuses an extension that it did not offer itself.
    let (mut socket, agreed) = open(&gate, "/mqtt", &offers).unwrap();
    assert_eq!(agreed, "mqtt");
    let connect = Connect::with_token(V311, &sign(&claims()));
    say(&mut socket, connect.bytes());
    assert_eq!(hear(&mut socket), [0x20, 2, 0, 0]);
    let head = seen.heads.lock().unwrap().pop().unwrap();
    assert!(head.contains("\nsec-websocket-protocol: mqtt\n"), "{head}");
    assert!(!head.contains("extensions"), "{head}");
    // What is packed nobody has agreed to.
    std::io::Write::write_all(socket.get_mut(), &[0xc2, 0x81, 0, 0, 0, 0, 0xc0]).unwrap();
    assert_closed_by_force(&mut socket);
}

#[test]
fn a_broker_that_packs_what_nobody_asked_for_is_broken() {
    let (upstream, seen) = web_broker_that(&[("sec-websocket-extensions", "permessage-deflate")]);
    let gate = web_gate(upstream, "");
    let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
    let connect = Connect::with_token(V5, &sign(&claims()));
    say(&mut socket, connect.bytes());
    assert_eq!(hear(&mut socket)[3], 0x88);
    assert_eq!(gate.exchange("/mqtt")["reason"], "upstream_broken");
    assert_eq!(seen.messages.lock().unwrap().len(), 0);
}

#[test]
fn a_broker_that_refuses_a_clients_own_password_says_so_itself() {
    let broker = Broker::answering(|_| vec![0x20, 2, 0, 5]);
    let routes = "  - { path: /mqtt, name: mqtt, upstream: app, protocol: mqtt }";
    let gate = before(broker.address, routes, "").start();
    let bearer = format!("Bearer {}", sign(&claims()));
    let (mut socket, _) = open(&gate, "/mqtt", &[OFFER, ("authorization", &bearer)]).unwrap();
    let connect = Connect::new(V311).pair("ann", "a password of the broker's");
    say(&mut socket, connect.bytes());
    assert_eq!(hear(&mut socket), [0x20, 2, 0, 5]);
    assert_eq!(broker.connect(), connect.bytes());
    let refusals = "tollgate_upstream_refusals_total{upstream=\"app\"}";
    assert_eq!(gate.metric(refusals), 0.0);
}

#[test]
fn a_token_in_the_request_and_in_connect_reaches_no_broker() {
    let broker = Broker::start();
    let routes = "  - { path: /mqtt, name: mqtt, upstream: app, protocol: mqtt }";
    let gate = before(broker.address, routes, "").start();
    let token = sign(&claims());
    let bearer = format!("Bearer {token}");
    // The broker would get CONNECT as it came.
    for (version, code) in [(V311, 5), (V5, 0x87)] {
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER, ("authorization", &bearer)]).unwrap();
        say(&mut socket, Connect::with_token(version, &token).bytes());
        assert_eq!(hear(&mut socket)[3], code, "{version:?}");
    }
    assert_eq!(broker.seen(), Vec::<Vec<u8>>::new());
    assert_eq!(gate.exchange("/mqtt")["reason"], "several_credentials");
}

#[test]
fn one_route_serves_websockets_and_plain_connections_before_one_broker() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let token = sign(&claims());
    let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
    say(&mut socket, Connect::with_token(V311, &token).bytes());
    assert_eq!(hear(&mut socket), [0x20, 2, 0, 0]);
    assert_alive(&mut socket);
    let expected = Connect::new(V311).pair("gate", "s3cret").bytes();
    assert_eq!(broker.connect(), expected);
}

#[test]
fn a_session_in_a_websocket_ends_with_its_token_and_a_close_frame() {
    let (upstream, _) = web_broker();
    let gate = web_gate(upstream, "");
    let token = with_claim("exp", json!(unix_now() + 2));
    let mut sockets = [V311, V5].map(|version| {
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
        say(&mut socket, Connect::with_token(version, &token).bytes());
        assert_eq!(hear(&mut socket)[0], 0x20);
        socket
    });
    let goodbye = hear(&mut sockets[1]);
    assert_eq!((goodbye[0], goodbye[2]), (0xe0, 0xa0));
    sockets.iter_mut().for_each(assert_closed);
    let line = gate.exchange("/mqtt");
    assert_eq!(line["tunnel_end"], "expired", "{line}");
    assert_eq!(line["subject"], "root", "{line}");
}

#[test]
fn an_upstream_that_agrees_to_no_websocket_is_unavailable() {
    for (answer, reason) in [
        ("HTTP/1.1 401 Unauthorized", "upstream_refused_credential"),
        ("HTTP/1.1 404 Not Found", "upstream_broken"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "upstream_broken",
        ),
    ] {
        let answer = format!("{answer}\r\ncontent-length: 0\r\n\r\n");
        let upstream = crate::support::upstream::Upstream::answering(&answer);
        let gate = web_gate(upstream.address, "");
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
        say(
            &mut socket,
            Connect::with_token(V5, &sign(&claims())).bytes(),
        );
        assert_eq!(hear(&mut socket)[3], 0x88, "{answer}");
        let line = gate.exchange("/mqtt");
        assert_eq!(line["reason"], reason, "{line}");
    }
}

#[test]
fn pings_are_answered_and_messages_in_parts_and_large_ones_pass() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
    let connect = Connect::with_token(V311, &sign(&claims())).bytes();
    let part = |bytes: &[u8], kind, is_last| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), is_last))
    };
    // A ping may come between the parts of a message.
    socket
        .send(part(&connect[..5], Data::Binary, false))
        .unwrap();
    socket
        .send(Message::Ping(b"are you there?".to_vec().into()))
        .unwrap();
    socket.send(part(&[], Data::Continue, false)).unwrap();
    socket
        .send(part(&connect[5..], Data::Continue, true))
        .unwrap();
    let pong = socket.read().unwrap();
    assert!(pong.is_pong() && &*pong.into_data() == b"are you there?");
    assert_eq!(hear(&mut socket), [0x20, 2, 0, 0]);
    let mut large = publish(V311, (0, 0), "a", b"");
    large.truncate(1);
    let body = [&field("a")[..], &vec![b'x'; 900_000]].concat();
    large.extend(variable(body.len()));
    large.extend(body);
    say(&mut socket, &*large);
    assert_alive(&mut socket);
    let messages = seen.messages.lock().unwrap();
    assert_eq!(
        messages[0],
        Connect::new(V311).pair("gate", "s3cret").bytes()
    );
    assert!(messages[1..].concat() == [&large[..], &PINGREQ].concat());
}

#[test]
fn frames_that_break_the_websockets_rules_end_it() {
    let (upstream, seen) = web_broker();
    let gate = web_gate(upstream, "");
    let connect = Connect::with_token(V311, &sign(&claims())).bytes();
    let part = |kind, is_last| {
        Message::Frame(Frame::message(connect.clone(), OpCode::Data(kind), is_last))
    };
    for (row, first, second) in [
        ("text", part(Data::Text, true), None),
        ("a part of nothing", part(Data::Continue, true), None),
        (
            "a message within another",
            part(Data::Binary, false),
            Some(part(Data::Binary, true)),
        ),
    ] {
        let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
        socket.send(first).unwrap();
        let is_second = second.is_some();
        second
            .into_iter()
            .for_each(|message| socket.send(message).unwrap());
        let heard = socket.read();
        let is_connack = heard.is_ok_and(|message| message.is_binary());
        assert!(!is_connack || is_second, "{row}");
        assert!(is_second || seen.heads.lock().unwrap().is_empty(), "{row}");
    }
    // Frames of clients are masked.
    let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
    let mut bytes = Vec::new();
    Frame::message(connect, OpCode::Data(Data::Binary), true)
        .format(&mut bytes)
        .unwrap();
    std::io::Write::write_all(socket.get_mut(), &bytes).unwrap();
    assert!(!socket.read().is_ok_and(|message| message.is_binary()));
}
