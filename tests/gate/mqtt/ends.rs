//! How does a session end, and what is each side told?

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use serde_json::json;

use tokio_tungstenite::tungstenite::Message;

use super::websocket::{OFFER, open};
use crate::support::client::{connect, send};
use crate::support::gate::{Gate, claims, sign};
use crate::support::mqtt::{
    Broker, Client, Connect, PINGRESP, V5, V31, V311, VERSIONS, Version, before, publish,
    read_packet, route,
};
use crate::support::raw::{accepting, read_rest};
use crate::support::tokens::with_claim;
use crate::support::{unix_now, wait_for};

/// The gate says this in 5.0, and in each version closes.
fn assert_told(client: &mut Client, version: Version, code: u8) {
    if version == V5 {
        let goodbye = client.read().expect("a DISCONNECT");
        assert_eq!((goodbye[0], goodbye[2]), (0xe0, code), "{goodbye:?}");
        assert_eq!(goodbye[4], 0x1f, "no reason string: {goodbye:?}");
    }
    client.assert_end();
}

/// A session ended so, as the log has it.
fn assert_ended(gate: &Gate, end: &str) {
    gate.wait_for_log(end, |line| line["tunnel_end"] == end);
}

fn revoke(gate: &Gate, subject: &str) {
    let body = json!({ "subject": subject }).to_string();
    let request = format!(
        "POST /revoke HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gate.admin,
        body.len()
    );
    assert_eq!(send(gate.admin, request).status, 200);
}

#[test]
fn a_session_ends_with_its_token() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let expires = unix_now() + 2;
    let token = with_claim("exp", json!(expires));
    let clients = VERSIONS.map(|version| {
        let connect = Connect::with_token(version, &token);
        (version, Client::connected(&gate, &connect))
    });
    for (version, mut client) in clients {
        assert_told(&mut client, version, 0xa0);
        assert!(unix_now() >= expires);
    }
    assert_ended(&gate, "expired");
}

#[test]
fn a_session_ends_when_its_token_is_revoked() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    for version in VERSIONS {
        let token = with_claim("sub", json!(format!("user {}", version.1)));
        let connect = Connect::with_token(version, &token);
        let mut client = Client::connected(&gate, &connect);
        revoke(&gate, &format!("user {}", version.1));
        assert_told(&mut client, version, 0x98);
        let mut again = Client::open(&gate, connect.bytes());
        assert_ne!(again.read().unwrap()[3], 0, "{version:?}");
    }
    assert_ended(&gate, "revoked");
}

#[test]
fn a_token_that_ended_while_connack_was_waited_for_begins_no_session() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let expires = unix_now() + 2;
    let upstream = accepting(move |mut stream| {
        read_packet(&mut stream);
        wait_for("the token's end", || (unix_now() > expires).then_some(()));
        stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
        tell.lock().unwrap().send(read_rest(&mut stream)).unwrap();
    });
    let gate = before(upstream, &route(""), "").start();
    let connect = Connect::with_token(V5, &with_claim("exp", json!(expires)));
    let behind = publish(V5, (0, 0), "a/b", b"");
    let mut client = Client::open(&gate, [connect.bytes(), behind].concat());
    assert_eq!(client.read().unwrap()[3], 0x86);
    client.assert_end();
    assert_eq!(told.recv().unwrap(), b"");
}

#[test]
fn a_drain_does_not_wait_for_connect() {
    let broker = Broker::start();
    let limits = "limits: { mqtt: { connect_timeout: 1h } }";
    let mut gate = before(broker.address, &route(""), limits).start();
    let _silent = connect(gate.listeners[1]);
    let (mut socket, _) = open(&gate, "/mqtt", &[OFFER]).unwrap();
    gate.wait_for_metric("tollgate_connections_open{listener=\"mqtt\"}", 1.0);
    gate.signal("TERM");
    let told = socket.read().unwrap();
    let Message::Close(Some(close)) = told else {
        panic!("{told:?}");
    };
    assert_eq!(u16::from(close.code), 1001);
    assert_eq!(gate.wait(), Some(0));
    assert!(!gate.log().contains("still open"), "{}", gate.log());
}

#[test]
fn a_client_that_takes_no_reason_strings_is_told_none_at_the_end() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let mut connect = Connect::with_token(V5, &sign(&claims()));
    // Request Problem Information (MQTT 5.0 section 3.1.2.11.7).
    connect.properties = b"\x17\x00".to_vec();
    let mut client = Client::connected(&gate, &connect);
    revoke(&gate, "root");
    assert_eq!(client.read().unwrap(), [0xe0, 2, 0x98, 0]);
    client.assert_end();
}

#[test]
fn a_gate_that_goes_down_says_so() {
    let broker = Broker::start();
    let mut gate = before(broker.address, &route(""), "").start();
    let token = sign(&claims());
    let clients = VERSIONS.map(|version| {
        let connect = Connect::with_token(version, &token);
        (version, Client::connected(&gate, &connect))
    });
    gate.signal("TERM");
    for (version, mut client) in clients {
        assert_told(&mut client, version, 0x8b);
    }
    assert_eq!(gate.wait(), Some(0));
    assert!(gate.log().contains("\"tunnel_end\":\"drained\""));
}

#[test]
fn nothing_is_put_into_the_middle_of_a_packet() {
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = accepting(move |mut stream| {
        read_packet(&mut stream);
        // The beginning of a message of five bytes.
        stream
            .write_all(&[0x20, 3, 0, 0, 0, 0x30, 5, 0, 1])
            .unwrap();
        let _ = wait.lock().unwrap().recv();
        read_rest(&mut stream);
    });
    let gate = before(upstream, &route(""), "").start();
    let connect = Connect::with_token(V5, &sign(&claims()));
    let mut client = Client::connected(&gate, &connect);
    let mut start = [0; 4];
    std::io::Read::read_exact(&mut client.0, &mut start).unwrap();
    revoke(&gate, "root");
    client.assert_end();
    drop(go_on);
    assert_ended(&gate, "revoked");
}

#[test]
fn a_drain_waits_for_the_end_of_a_packet() {
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = accepting(move |mut stream| {
        read_packet(&mut stream);
        stream
            .write_all(&[0x20, 3, 0, 0, 0, 0x30, 5, 0, 1])
            .unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"a\0x").unwrap();
        read_rest(&mut stream);
    });
    let gate = before(upstream, &route(""), "").start();
    let connect = Connect::with_token(V5, &sign(&claims()));
    let mut client = Client::connected(&gate, &connect);
    gate.signal("TERM");
    go_on.send(()).unwrap();
    assert_eq!(client.read().unwrap(), [0x30, 5, 0, 1, b'a', 0, b'x']);
    assert_told(&mut client, V5, 0x8b);
}

#[test]
fn a_broker_that_closes_ends_the_session_and_a_client_that_closes_too() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let upstream = accepting(move |mut stream| {
        let connect = read_packet(&mut stream).unwrap();
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        // Clients that are called so stay.
        if connect.windows(6).any(|window| window == b"stayer") {
            let rest = read_rest(&mut stream);
            tell.lock().unwrap().send(rest).unwrap();
        }
    });
    let gate = before(upstream, &route(""), "").start();
    let token = sign(&claims());
    Client::connected(&gate, &Connect::with_token(V311, &token)).assert_end();
    let stayer = Connect::with_token(V311, &token).client_id("stayer");
    let mut client = Client::connected(&gate, &stayer);
    client.send([0xe0, 0]);
    drop(client);
    assert_eq!(told.recv().unwrap(), [0xe0, 0]);
}

#[test]
fn a_client_that_has_said_all_hears_what_the_broker_still_says() {
    let upstream = accepting(|mut stream| {
        read_packet(&mut stream);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        read_rest(&mut stream);
        stream.write_all(&PINGRESP).unwrap();
    });
    let gate = before(upstream, &route(""), "").start();
    let connect = Connect::with_token(V311, &sign(&claims()));
    let mut client = Client::connected(&gate, &connect);
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read().unwrap(), PINGRESP);
    client.assert_end();
}

#[test]
fn a_broker_that_refuses_the_gate_is_unavailable_to_the_client() {
    for (version, connack, told) in [
        (V31, &[0x20, 2, 0, 4][..], 3),
        (V311, &[0x20, 2, 0, 5], 3),
        (V5, &[0x20, 3, 0, 0x87, 0], 0x88),
        (V5, &[0x20, 3, 0, 0x86, 0], 0x88),
    ] {
        let broker = Broker::answering(move |_| connack.to_vec());
        let gate = before(broker.address, &route(""), "").start();
        let connect = Connect::with_token(version, &sign(&claims()));
        let mut client = Client::open(&gate, connect.bytes());
        assert_eq!(client.read().unwrap()[3], told, "{connack:?}");
        client.assert_end();
        let line = gate.exchange("/mqtt");
        assert_eq!(line["reason"], "upstream_refused_credential", "{line}");
        gate.wait_for_metric("tollgate_upstream_refusals_total{upstream=\"app\"}", 1.0);
    }
}

#[test]
fn a_broker_that_refuses_the_client_says_so_itself() {
    for (version, connack) in [
        (V311, &[0x20, 2, 0, 2][..]),
        (V5, &[0x20, 8, 0, 0x85, 5, 0x1f, 0, 2, b'n', b'o']),
    ] {
        let broker = Broker::answering(move |_| connack.to_vec());
        let gate = before(broker.address, &route(""), "").start();
        let connect = Connect::with_token(version, &sign(&claims()));
        let mut client = Client::open(&gate, connect.bytes());
        assert_eq!(client.read().unwrap(), connack);
    }
}

#[test]
fn a_broker_that_fails_is_told_as_such() {
    let silent = accepting(|mut stream| drop(read_rest(&mut stream)));
    let gone = accepting(|_| {});
    let strange = accepting(|mut stream| {
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        read_rest(&mut stream);
    });
    let endless = accepting(|mut stream| {
        stream.write_all(&[0x20, 0xff, 0xff, 0xff, 0xff]).unwrap();
        read_rest(&mut stream);
    });
    let nobody = "127.0.0.1:1".parse().unwrap();
    for (row, upstream, reason) in [
        ("silent", silent, "upstream_timeout"),
        ("gone", gone, "upstream_broken"),
        ("strange", strange, "upstream_broken"),
        ("endless", endless, "upstream_broken"),
        ("nobody", nobody, "upstream_unreachable"),
    ] {
        let gate = before(upstream, &route(""), "")
            .edit("response_timeout: 5s", "response_timeout: 300ms")
            .start();
        let connect = Connect::with_token(V5, &sign(&claims()));
        let mut client = Client::open(&gate, connect.bytes());
        assert_eq!(client.read().unwrap()[3], 0x88, "{row}");
        client.assert_end();
        let line = gate.exchange("/mqtt");
        assert_eq!(line["reason"], reason, "{row}: {line}");
    }
}

#[test]
fn a_broker_that_takes_connections_and_never_answers_is_passed_over() {
    let silent = accepting(|mut stream| drop(read_rest(&mut stream)));
    let broker = Broker::start();
    let settings = "response_timeout: 700ms, ejection: { failures: 3, time: 1h }";
    let gate = before(broker.address, &route(""), "")
        .edit("[ \"mqtt://", &format!("[ \"mqtt://{silent}\", \"mqtt://"))
        .edit("response_timeout: 5s", settings)
        .start();
    let connect = Connect::with_token(V311, &sign(&claims())).bytes();
    let code = |_| Client::open(&gate, &connect).read().unwrap()[3];
    let codes: Vec<u8> = (0..30).map(code).collect();
    let refused = codes.iter().filter(|code| **code == 3).count();
    assert_eq!(refused, 3, "{codes:?}");
    let ejections = "tollgate_upstream_ejections_total{upstream=\"app\"}";
    assert_eq!(gate.metric(ejections), 1.0);
}
