//! An HTTP/2 client that sends exactly the frames that a test says (RFC 9113).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustls::{ClientConnection, StreamOwned};

use super::client::connect_tls;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One connection, with its preface sent.
#[derive(Debug)]
pub(crate) struct Frames(StreamOwned<ClientConnection, TcpStream>);

impl Frames {
    /// Connects, with these settings beyond the defaults.
    pub(crate) fn connect(address: SocketAddr, certificate: &str, settings: &[(u16, u32)]) -> Self {
        let versions = rustls::ALL_VERSIONS;
        let mut stream = connect_tls(address, "gate.example", certificate, &["h2"], versions);
        // As below: a gate that has left already is no failure.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut connection = Self(stream);
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        connection.send(SETTINGS, 0, 0, &payload);
        connection
    }

    /// Sends a frame; a gate that has left already is no failure.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_together(&[frame(kind, flags, stream, payload)]);
    }

    /// Sends frames with one write, so that the gate reads them at once.
    pub(crate) fn send_together(&mut self, frames: &[Vec<u8>]) {
        let _ = self.0.write_all(&frames.concat());
    }

    /// Sends a whole head of fields, as they are.
    pub(crate) fn request(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send_together(&[head(stream, flags, fields)]);
    }

    /// The next frame; nothing once the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length.try_into().unwrap()];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let kind = head[3];
        Some(Frame {
            kind,
            stream,
            payload,
        })
    }

    /// How the gate answers this stream: the status, or nothing if it is reset or the connection
    /// is ended.
    pub(crate) fn answer(&mut self, stream: u32) -> Option<u16> {
        loop {
            let frame = self.next()?;
            match frame.kind {
                GOAWAY => return None,
                RST_STREAM if frame.stream == stream => return None,
                HEADERS if frame.stream == stream => return Some(status(&frame.payload)),
                _ => {}
            }
        }
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The bytes of a whole head of fields, as they are.
pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

/// A field as HPACK's literal that is never indexed, without Huffman coding (RFC 7541 section
/// 6.2.3).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0x10];
    for text in [name, value] {
        integer(&mut bytes, text.len());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// A length with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        bytes.push(value.try_into().unwrap());
        return;
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(rest.try_into().unwrap());
}

/// The status of an answer's head: h2 takes it from the static table or writes three digits.
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let at = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
    match block[at] {
        first @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        _ => huffman_digits(&block[at + 2..]),
    }
}

/// Three digits in HPACK's Huffman code: `0`, `1`, `2` have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits = bytes
        .iter()
        .take(3)
        .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let (mut left, mut number) = (24, 0);
    for _ in 0..3 {
        let five = bits >> (left - 5) & 0x1f;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left -= 6;
            (bits >> left & 0x3f) - 0x19 + 3
        };
        number = number * 10 + u16::try_from(digit).unwrap();
    }
    number
}
