//! Do the frames of a client's WebSocket go on as they are, and is what they hold judged all the
//! same?

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use http::HeaderValue;
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, accept_hdr};

use super::websocket::{OFFER, hear, open, say, web_gate};
use crate::support::gate::{Gate, claims, sign};
use crate::support::mqtt::{Connect, PINGREQ, PINGRESP, V5, field, packet, publish, variable};
use crate::support::raw::{accepting, read_rest};
use crate::support::tokens::with_claim;
use crate::support::unix_now;

/// A broker that answers CONNECT in a WebSocket and then hands its end out.
fn broker() -> (SocketAddr, Receiver<TcpStream>) {
    let (give, given) = channel();
    let give = Mutex::new(give);
    #[expect(clippy::result_large_err, reason = "the library asks for this type")]
    let agree = |_: &Request, mut response: Response| {
        let chosen = HeaderValue::from_static("mqtt");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", chosen);
        Ok(response)
    };
    let address = accepting(move |stream| {
        let kept = stream.try_clone().unwrap();
        let mut socket = accept_hdr(stream, agree).unwrap();
        assert_eq!(socket.read().unwrap().into_data()[0], 0x10);
        socket
            .send(Message::binary(vec![0x20, 3, 0, 0, 0]))
            .unwrap();
        give.lock().unwrap().send(kept).unwrap();
    });
    (address, given)
}

/// Both ends of a session that stands.
fn joined(gate: &Gate, broker: &Receiver<TcpStream>, token: &str) -> (TcpStream, TcpStream) {
    let (mut socket, _) = open(gate, "/mqtt", &[OFFER]).unwrap();
    say(&mut socket, Connect::with_token(V5, token).bytes());
    assert_eq!(hear(&mut socket), [0x20, 3, 0, 0, 0]);
    (socket.into_inner(), broker.recv().unwrap())
}

const KEY: [u8; 4] = [1, 2, 3, 4];
const BINARY: OpCode = OpCode::Data(Data::Binary);
const CONTINUED: OpCode = OpCode::Data(Data::Continue);

/// A frame, masked with this key.
fn frame(opcode: OpCode, is_last: bool, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::message(payload.to_vec(), BINARY, is_last);
    (frame.header_mut().opcode, frame.header_mut().mask) = (opcode, key);
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}

fn from_client(payload: &[u8]) -> Vec<u8> {
    frame(BINARY, true, Some(KEY), payload)
}

/// Frames of many kinds that hold many packets.
fn frames(key: Option<[u8; 4]>) -> Vec<u8> {
    let small = publish(V5, (0, 0), "a/b", b"");
    let body = [&field("a")[..], &[0], &vec![0x10; 70_000]].concat();
    let large = packet(0x30, &body);
    let other = key.map(|_| [0xff, 0, 0x80, 7]);
    [
        frame(BINARY, true, key, &[&small[..], &PINGREQ, &small].concat()),
        frame(BINARY, true, key.map(|_| [0; 4]), &small),
        frame(BINARY, true, other, b""),
        frame(BINARY, false, key, &small[..1]),
        frame(OpCode::Control(Control::Ping), true, other, b"there?"),
        frame(CONTINUED, false, other, &small[1..2]),
        frame(CONTINUED, true, key, &small[2..]),
        frame(BINARY, true, other, &large[..3]),
        frame(BINARY, true, key, &large[3..]),
        frame(OpCode::Control(Control::Pong), true, key, b""),
        frame(BINARY, true, other, &small),
    ]
    .concat()
}

/// These bytes come, however many reads they take.
fn assert_comes(stream: &mut TcpStream, expected: &[u8], row: &str) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes == expected, "{row}");
}

#[test]
fn frames_go_on_as_they_are_with_their_keys() {
    let (upstream, given) = broker();
    let gate = web_gate(upstream, "");
    let (mut client, mut broker) = joined(&gate, &given, &sign(&claims()));
    for piece in [1, 5, 1_000_000] {
        let up = frames(Some(KEY));
        let down = frames(None);
        std::thread::scope(|scope| {
            let (mut to_gate, mut from_broker) =
                (client.try_clone().unwrap(), broker.try_clone().unwrap());
            let (up, down) = (&up, &down);
            scope.spawn(move || {
                let pieces = up[..1000].chunks(piece).chain([&up[1000..]]);
                pieces.for_each(|piece| to_gate.write_all(piece).unwrap());
            });
            scope.spawn(move || {
                let pieces = down[..1000].chunks(piece).chain([&down[1000..]]);
                pieces.for_each(|piece| from_broker.write_all(piece).unwrap());
            });
            assert_comes(&mut broker, up, "up");
            assert_comes(&mut client, down, "down");
        });
    }
}

/// What a client's WebSocket ends with: a packet, if there is one, and the code of a close frame,
/// which the client answers.
fn last_words(client: &mut TcpStream) -> (Vec<u8>, u16) {
    let mut packets = Vec::new();
    loop {
        let mut head = [0; 2];
        client.read_exact(&mut head).unwrap();
        let mut payload = vec![0; head[1].into()];
        client.read_exact(&mut payload).unwrap();
        match (head[0], &payload[..]) {
            (0x82, packet) => packets.extend_from_slice(packet),
            (0x88, [high, low]) => {
                let close = OpCode::Control(Control::Close);
                // Unless it was the client that said so first.
                let _ = client.write_all(&frame(close, true, Some(KEY), &payload));
                assert_eq!(read_rest(client), b"");
                return (packets, u16::from_be_bytes([*high, *low]));
            }
            _ => panic!("{head:?} {payload:?}"),
        }
    }
}

#[test]
fn what_may_not_pass_is_found_behind_its_mask() {
    let (upstream, given) = broker();
    let gate = web_gate(upstream, "limits: { mqtt: { packet_size: 1KiB } }");
    let token = sign(&claims());
    let connect = Connect::new(V5).pair("admin", "guessed").bytes();
    let good = publish(V5, (0, 0), "a/b", b"");
    let broken = |frame: Vec<u8>| (frame, 0x82, 1002);
    let auth = packet(0xf0, [0x18, 0]);
    let rows = [
        ("CONNECT", broken(from_client(&connect))),
        (
            "CONNECT behind another packet",
            broken(from_client(&[&good[..], &connect].concat())),
        ),
        (
            "CONNECT in parts",
            broken(
                [
                    frame(BINARY, false, Some(KEY), &good[..3]),
                    frame(CONTINUED, false, Some([9; 4]), &good[3..]),
                    frame(CONTINUED, false, Some(KEY), &[]),
                    frame(CONTINUED, true, Some([8; 4]), &connect),
                ]
                .concat(),
            ),
        ),
        ("AUTH", broken(from_client(&auth))),
        (
            "a length without an end",
            broken(from_client(&[0x30, 0xff, 0xff, 0xff, 0xff, 1])),
        ),
        (
            "a large packet",
            (
                from_client(&[&[0x30][..], &variable(1025)].concat()),
                0x95,
                1009,
            ),
        ),
        ("not masked", broken(frame(BINARY, true, None, &good))),
        (
            "text",
            broken(frame(OpCode::Data(Data::Text), true, Some(KEY), &good)),
        ),
        (
            "a part of nothing",
            broken(frame(CONTINUED, true, Some(KEY), &good)),
        ),
        (
            "a message within another",
            broken(
                [
                    frame(BINARY, false, Some(KEY), &good),
                    frame(BINARY, true, Some(KEY), &good),
                ]
                .concat(),
            ),
        ),
        (
            "a compressed one",
            broken({
                let mut frame = from_client(&good);
                frame[0] |= 0x40;
                frame
            }),
        ),
    ];
    for (row, (bytes, code, close)) in rows {
        let (mut client, mut broker) = joined(&gate, &given, &token);
        client.write_all(&bytes).unwrap();
        let (goodbye, told) = last_words(&mut client);
        assert_eq!((goodbye[0], goodbye[2]), (0xe0, code), "{row}: {goodbye:?}");
        assert_eq!(told, close, "{row}");
        assert_eq!(
            read_rest(&mut broker),
            b"",
            "{row}: the broker got some of it"
        );
    }
}

#[test]
fn nothing_passes_behind_a_close_frame() {
    let (upstream, given) = broker();
    let gate = web_gate(upstream, "");
    let (mut client, mut broker) = joined(&gate, &given, &sign(&claims()));
    let close = |key| frame(OpCode::Control(Control::Close), true, key, &[3, 0xe8]);
    let connect = Connect::new(V5).pair("admin", "guessed").bytes();
    client
        .write_all(&[close(Some(KEY)), from_client(&connect)].concat())
        .unwrap();
    assert_comes(&mut broker, &close(Some(KEY)), "the close frame");
    broker.write_all(&close(None)).unwrap();
    assert_eq!(last_words(&mut client), (Vec::new(), 1000));
    assert_eq!(read_rest(&mut broker), b"");
}

#[test]
fn an_end_without_a_close_frame_is_made_one_with() {
    let (upstream, given) = broker();
    let gate = web_gate(upstream, "");
    let token = sign(&claims());
    let (client, mut broker) = joined(&gate, &given, &token);
    drop(client);
    // Masked, as a client's are.
    let close = read_rest(&mut broker);
    assert_eq!((close.len(), &close[..2]), (8, &[0x88, 0x82][..]));
    let (mut client, broker) = joined(&gate, &given, &token);
    drop(broker);
    assert_eq!(last_words(&mut client), (Vec::new(), 1000));
}

#[test]
fn the_gates_last_words_keep_out_of_messages_and_frames() {
    let (upstream, given) = broker();
    let gate = web_gate(upstream, "");
    let token = with_claim("exp", json!(unix_now() + 2));
    let part = frame(BINARY, false, None, &PINGRESP);
    let whole = frame(BINARY, true, None, &PINGRESP);
    let half = frame(BINARY, true, None, &PINGRESP[..1]);
    let sessions = [
        ("between packets", &whole[..], Some(true)),
        ("between the parts of a message", &part, Some(false)),
        ("between the halves of a packet", &half, Some(false)),
        ("within a frame", &whole[..3], None),
        ("within a frame's head", &whole[..1], None),
    ]
    .map(|(row, begun, told)| {
        let (mut client, mut broker) = joined(&gate, &given, &token);
        broker.write_all(begun).unwrap();
        assert_comes(&mut client, begun, row);
        (row, told, client, broker)
    });
    for (row, told, mut client, _broker) in sessions {
        match told {
            None => assert_eq!(read_rest(&mut client), b"", "{row}"),
            Some(has_goodbye) => {
                let (goodbye, close) = last_words(&mut client);
                assert_eq!(goodbye.get(2) == Some(&0xa0), has_goodbye, "{row}");
                assert_eq!((goodbye.is_empty(), close), (!has_goodbye, 1008), "{row}");
            }
        }
    }
}

#[test]
fn a_drain_waits_for_the_end_of_a_message() {
    let (upstream, given) = broker();
    let gate = web_gate(upstream, "");
    let (mut client, mut broker) = joined(&gate, &given, &sign(&claims()));
    let begun = frame(BINARY, false, None, &PINGRESP);
    broker.write_all(&begun).unwrap();
    assert_comes(&mut client, &begun, "the beginning");
    gate.signal("TERM");
    let rest = frame(CONTINUED, true, None, &PINGRESP);
    broker.write_all(&rest).unwrap();
    assert_comes(&mut client, &rest, "the end");
    let (goodbye, close) = last_words(&mut client);
    assert_eq!((goodbye[2], close), (0x8b, 1001));
}
