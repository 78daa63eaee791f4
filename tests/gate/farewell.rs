//! Are both ends of a WebSocket told why the gate ends it, and nothing put in where it would be read
//! as something else?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

use crate::support::client::{connect, read_response, send};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::unix_now;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /ws/**, name: ws, upstream: app }
  - { path: /open/**, name: open, upstream: app, public: true }
";
const LIMIT: Duration = Duration::from_secs(20);
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Close frames as the gate sends them to clients.
const DRAINED: &[u8] = b"\x88\x09\x03\xe9drained";
const EXPIRED: &[u8] = b"\x88\x09\x03\xf0expired";

/// An upstream that echoes messages, and tells of all that it hears.
fn echo() -> (SocketAddr, Receiver<Message>) {
    let (tell, told) = channel();
    let address = accepting(move |stream| {
        let mut socket = accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            tell.send(message.clone()).unwrap();
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// The code of a close frame that a library gave.
fn code(message: &Message) -> Option<CloseCode> {
    match message {
        Message::Close(Some(frame)) => Some(frame.code),
        _ => None,
    }
}

/// Opens a WebSocket through the gate.
fn open(gate: &Gate, target: &str, token: &str) -> WebSocket<TcpStream> {
    let url = format!("ws://gate.example{target}");
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    client(request, connect(gate.address())).unwrap().0
}

fn assert_echo(socket: &mut WebSocket<TcpStream>) {
    let message = Message::text("hello");
    socket.send(message.clone()).unwrap();
    assert_eq!(socket.read().unwrap(), message);
}

/// Opens a WebSocket through the gate, whose frames the test writes itself.
fn open_raw(gate: &Gate, target: &str, token: &str) -> TcpStream {
    let mut stream = connect(gate.address());
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).status, 101);
    stream
}

/// An upstream that sends what it is given, hangs up when it is given nothing more, and tells of
/// every byte that it got once the gate hung up.
fn raw_upstream() -> (SocketAddr, Sender<Vec<u8>>, Receiver<Vec<u8>>) {
    let (give, given) = channel::<Vec<u8>>();
    let (tell, told) = channel();
    let given = std::sync::Mutex::new(Some(given));
    let address = accepting(move |mut stream| {
        let given = given.lock().unwrap().take().unwrap();
        read_head(&mut stream);
        stream.write_all(SWITCH).unwrap();
        let mut writer = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            for bytes in given {
                let _ = writer.write_all(&bytes);
            }
        });
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = tell.send(bytes);
    });
    (address, give, told)
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn revoke(gate: &Gate) {
    let body = json!({"subject": "root"}).to_string();
    let request = format!(
        "POST /revoke HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gate.admin,
        body.len()
    );
    assert_eq!(send(gate.admin, request).status, 200);
}

/// A token that is good for a second or two.
fn short() -> String {
    let mut claims = claims();
    claims["exp"] = (unix_now() + 2).into();
    sign(&claims)
}

/// A frame as clients send them, with a key of zeros, and with this first byte.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// The payload of the masked close frame that is all of these bytes.
fn unmasked_close(frame: &[u8]) -> Vec<u8> {
    assert_eq!(frame[0], 0x88, "{frame:?}");
    assert_eq!(usize::from(frame[1]), 0x80 + frame.len() - 6, "{frame:?}");
    let keys = frame[2..6].iter().cycle();
    frame[6..]
        .iter()
        .zip(keys)
        .map(|(byte, key)| byte ^ key)
        .collect()
}

#[test]
fn a_gate_that_drains_says_goodbye_and_both_ends_close_in_order() {
    let (upstream, heard) = echo();
    let mut gate = Builder::standard(upstream, ROUTES).start();
    let mut sockets: Vec<_> = (0..4).map(|_| open(&gate, "/open/a", "")).collect();
    sockets.iter_mut().for_each(assert_echo);
    gate.signal("TERM");
    for socket in &mut sockets {
        assert_eq!(code(&socket.read().unwrap()), Some(CloseCode::Away));
        // Its answer goes out, and the connection ends.
        let end = socket.read();
        assert!(end.is_err(), "{end:?}");
    }
    let closes = (0..8).map(|_| heard.recv_timeout(LIMIT).unwrap());
    let closes = closes.filter(|message| code(message) == Some(CloseCode::Away));
    assert_eq!(closes.count(), 4);
    assert_eq!(gate.wait(), Some(0));
    let ends = gate.exchanges();
    assert!(
        ends.iter().all(|line| line["tunnel_end"] == "drained"),
        "{ends:?}"
    );
}

#[test]
fn what_a_client_sends_before_it_answers_the_goodbye_still_arrives() {
    let (upstream, _give, told) = raw_upstream();
    let mut gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = open_raw(&gate, "/open/a", "");
    gate.signal("TERM");
    assert_eq!(read(&mut stream, DRAINED.len()), DRAINED);
    let last = [masked(0x81, b"last words"), masked(0x88, &[3, 0xe9])].concat();
    stream.write_all(&last).unwrap();
    drop(_give);
    // Nothing of the gate's own follows the client's close frame.
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), last);
    assert_eq!(read_rest(&mut stream), b"");
    assert_eq!(gate.wait(), Some(0));
}

#[test]
fn the_goodbye_waits_for_the_end_of_a_frame_and_is_the_last() {
    let (upstream, give, _told) = raw_upstream();
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = open_raw(&gate, "/open/a", "");
    let frame = [&[0x82, 126, 1, 0][..], &[b'x'; 256]].concat();
    give.send([&frame[..], &frame[..100]].concat()).unwrap();
    assert_eq!(read(&mut stream, 360), [&frame[..], &frame[..100]].concat());
    gate.signal("TERM");
    wait_for("the listeners to close", || {
        TcpStream::connect(gate.address()).err()
    });
    give.send(frame[100..150].to_vec()).unwrap();
    assert_eq!(read(&mut stream, 50), &frame[100..150]);
    give.send([&frame[150..], &frame[..]].concat()).unwrap();
    assert_eq!(read(&mut stream, 110), &frame[150..]);
    assert_eq!(read(&mut stream, DRAINED.len()), DRAINED);
    stream.write_all(&masked(0x88, &[3, 0xe9])).unwrap();
    drop(give);
    assert_eq!(read_rest(&mut stream), b"");
}

#[test]
fn an_upstream_is_told_by_the_gate_if_the_client_just_leaves() {
    for (row, sent, is_told) in [
        ("between frames", masked(0x81, b"hello"), true),
        (
            "within a frame",
            masked(0x81, b"hello")[..8].to_vec(),
            false,
        ),
        ("after its close frame", masked(0x88, &[3, 0xe8]), false),
    ] {
        let (upstream, give, told) = raw_upstream();
        let gate = Builder::standard(upstream, ROUTES).start();
        let mut stream = open_raw(&gate, "/open/a", "");
        gate.signal("TERM");
        assert_eq!(read(&mut stream, DRAINED.len()), DRAINED, "{row}");
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drop(give);
        let heard = told.recv_timeout(LIMIT).unwrap();
        let (before, added) = heard.split_at(sent.len());
        assert_eq!(before, sent, "{row}");
        if is_told {
            assert_eq!(unmasked_close(added), b"\x03\xe9drained", "{row}");
        } else {
            assert_eq!(added, b"", "{row}");
        }
    }
}

#[test]
fn both_ends_are_told_that_a_token_is_good_no_more() {
    for (row, reason) in [("expiry", "expired"), ("revocation", "revoked")] {
        let (upstream, heard) = echo();
        let gate = Builder::standard(upstream, ROUTES).start();
        let token = if row == "expiry" {
            short()
        } else {
            sign(&claims())
        };
        let mut socket = open(&gate, "/ws/a", &token);
        assert_echo(&mut socket);
        if row == "revocation" {
            revoke(&gate);
        }
        let told = socket.read().unwrap();
        assert_eq!(code(&told), Some(CloseCode::Policy), "{row}: {told:?}");
        assert!(told.to_text().unwrap().contains(reason), "{row}: {told:?}");
        assert_eq!(heard.recv_timeout(LIMIT).unwrap(), Message::text("hello"));
        let told = heard.recv_timeout(LIMIT).unwrap();
        assert_eq!(code(&told), Some(CloseCode::Policy), "{row}: {told:?}");
        let end = socket.read();
        assert!(end.is_err(), "{row}: {end:?}");
        assert_eq!(gate.exchange("/ws/a")["tunnel_end"], reason, "{row}");
    }
}

#[test]
fn not_a_byte_passes_once_the_token_is_good_no_more() {
    for is_whole in [true, false] {
        let (upstream, give, told) = raw_upstream();
        let gate = Builder::standard(upstream, ROUTES).start();
        let mut stream = open_raw(&gate, "/ws/a", &short());
        let sent = masked(0x81, b"hello");
        let length = if is_whole { sent.len() } else { 8 };
        let frame = b"\x81\x05howdy";
        let sight = if is_whole { frame.len() } else { 4 };
        stream.write_all(&sent[..length]).unwrap();
        give.send(frame[..sight].to_vec()).unwrap();
        assert_eq!(read(&mut stream, sight), &frame[..sight]);
        // In the middle of a frame there is no place for a close frame: it just ends.
        let farewell = if is_whole { EXPIRED } else { b"" };
        assert_eq!(read(&mut stream, farewell.len()), farewell);
        if !is_whole {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        let _ = stream.write_all(b"rest");
        let _ = give.send(b"rest".to_vec());
        assert_eq!(read_rest(&mut stream), b"");
        drop((stream, give));
        let heard = told.recv_timeout(LIMIT).unwrap();
        let (before, added) = heard.split_at(length);
        assert_eq!(before, &sent[..length]);
        match is_whole {
            true => assert_eq!(unmasked_close(added), b"\x03\xf0expired"),
            false => assert_eq!(added, b""),
        }
    }
}
