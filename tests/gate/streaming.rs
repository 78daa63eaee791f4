//! Do bodies flow both ways as they come, whatever their size, without being kept?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use http::Request;

use crate::support::client::{connect, read_response};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::http2::{Http2, empty};
use crate::support::raw::{accepting, read_head};

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
";

const GIBIBYTE: usize = 1 << 30;
/// How much more memory than before a gate may have taken at its worst.
const SLACK_KIB: u64 = 64 * 1024;

#[test]
fn an_upload_of_a_gibibyte_passes_and_is_not_kept() {
    for framing in [Framing::Length, Framing::Chunked] {
        let upstream = accepting(move |mut stream| {
            let mut reader = BufReader::with_capacity(PIECE, stream.try_clone().unwrap());
            while !read_head(&mut reader).is_empty() {
                let count = framing.receive(&mut reader);
                answer(&mut stream, &format!("{count}"));
            }
        });
        let gate = Builder::standard(upstream, ROUTES).start();
        let before = peak_memory(&gate);
        let mut stream = connect(gate.address());
        let head = head("POST", "/api/upload", framing.header());
        stream.write_all(head.as_bytes()).unwrap();
        framing.send(&mut stream);
        let response = read_response(&mut stream, false);
        assert_eq!(response.text(), GIBIBYTE.to_string(), "{framing:?}");
        assert_flat(&gate, before);
    }
}

#[test]
fn a_download_of_a_gibibyte_passes_and_is_not_kept() {
    for framing in [Framing::Length, Framing::Chunked] {
        let gate = Builder::standard(downloads(framing), ROUTES).start();
        let before = peak_memory(&gate);
        let mut stream = connect(gate.address());
        stream
            .write_all(head("GET", "/api/download", "x-a: b").as_bytes())
            .unwrap();
        let mut reader = BufReader::with_capacity(PIECE, stream);
        let head = read_head(&mut reader);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains(framing.header()), "{head}");
        assert_eq!(framing.receive(&mut reader), GIBIBYTE, "{framing:?}");
        assert_flat(&gate, before);
    }
}

#[test]
fn a_download_of_a_gibibyte_passes_over_http2_and_is_not_kept() {
    let (certificate, key) = self_signed(&["gate.example"]);
    let gate = Builder::standard(downloads(Framing::Length), ROUTES)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key } } ]")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let before = peak_memory(&gate);
    let mut client = Http2::connect(gate.address(), &certificate);
    let request = Request::get("https://gate.example/api/download")
        .header("authorization", format!("Bearer {}", sign(&claims())))
        .body(empty())
        .unwrap();
    let mut tally = Tally::default();
    assert_eq!(client.receive(request, |bytes| tally.add(bytes)), 200);
    assert_eq!(tally.count, GIBIBYTE);
    assert_flat(&gate, before);
}

#[test]
fn a_slow_reader_slows_the_upstream_down_and_loses_nothing() {
    let (sent, progress) = channel();
    let sent = Mutex::new(sent);
    let upstream = accepting(move |mut stream| {
        read_head(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {GIBIBYTE}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        while stream.write_all(&PATTERN).is_ok() && sent.lock().unwrap().send(()).is_ok() {}
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let before = peak_memory(&gate);
    let mut stream = connect(gate.address());
    stream
        .write_all(head("GET", "/api/download", "x-a: b").as_bytes())
        .unwrap();
    // Nothing is read until the upstream can send no more: the way is full.
    let mut waiting = 0;
    while progress.recv_timeout(Duration::from_secs(1)).is_ok() {
        waiting += PIECE;
    }
    assert!(waiting < GIBIBYTE / 8, "{waiting} bytes are under way");
    assert_flat(&gate, before);
    read_head(&mut stream);
    let mut tally = Tally::default();
    let mut buffer = vec![0; PIECE];
    while tally.count < 2 * waiting {
        let count = stream.read(&mut buffer).unwrap();
        tally.add(&buffer[..count]);
    }
}

#[test]
fn an_upload_reaches_the_upstream_piece_by_piece() {
    let (arrived, arrivals) = channel();
    let arrived = Mutex::new(arrived);
    let upstream = accepting(move |mut stream| {
        read_head(&mut stream);
        for _ in 0..5 {
            let piece = read_chunk(&stream);
            arrived.lock().unwrap().send(piece).unwrap();
        }
        read_chunk(&stream);
        answer(&mut stream, "done");
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = connect(gate.address());
    let chunked = Framing::Chunked.header();
    stream
        .write_all(head("POST", "/api/upload", chunked).as_bytes())
        .unwrap();
    for piece in ["a", "bc", "def", "ghij", "klmno"] {
        write!(stream, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
        let got = arrivals.recv_timeout(Duration::from_secs(20)).expect(piece);
        assert_eq!(got, piece.as_bytes());
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).text(), "done");
}

#[test]
fn server_sent_events_arrive_one_by_one() {
    let (next, wait): (Sender<()>, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let upstream = accepting(move |mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for count in 0..5 {
            let event = format!("data: {count}\n\n");
            write!(stream, "{:x}\r\n{event}\r\n", event.len()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = connect(gate.address());
    stream
        .write_all(head("GET", "/api/events", "accept: text/event-stream").as_bytes())
        .unwrap();
    let head = read_head(&mut stream);
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    for count in 0..5 {
        let event = read_chunk(&stream);
        assert_eq!(event, format!("data: {count}\n\n").as_bytes());
        next.send(()).unwrap();
    }
    assert_eq!(read_chunk(&stream), b"");
}

/// How a body's end is told.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunked,
    Length,
}

impl Framing {
    fn header(self) -> &'static str {
        match self {
            Self::Chunked => "transfer-encoding: chunked",
            Self::Length => "content-length: 1073741824",
        }
    }

    /// Sends a body of one gibibyte.
    fn send(self, stream: &mut TcpStream) {
        for _ in 0..GIBIBYTE / PIECE {
            if matches!(self, Self::Chunked) {
                write!(stream, "{PIECE:x}\r\n").unwrap();
            }
            stream.write_all(&PATTERN).unwrap();
            if matches!(self, Self::Chunked) {
                stream.write_all(b"\r\n").unwrap();
            }
        }
        if matches!(self, Self::Chunked) {
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
    }

    /// Reads a body as [`Framing::send`] sends it; its length.
    fn receive(self, reader: &mut impl BufRead) -> usize {
        let mut tally = Tally::default();
        match self {
            Self::Length => tally.take(reader, GIBIBYTE),
            Self::Chunked => loop {
                let size = read_size(reader);
                tally.take(reader, size);
                assert_eq!(read_line(reader), "\r\n");
                if size == 0 {
                    break;
                }
            },
        }
        tally.count
    }
}

/// Counts bytes, and sees that they repeat [`PATTERN`].
#[derive(Debug, Default)]
struct Tally {
    count: usize,
}

impl Tally {
    fn add(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(PIECE / 2) {
            let at = self.count % (PIECE / 2);
            assert!(
                PATTERN[at..].starts_with(bytes),
                "wrong bytes at {}",
                self.count
            );
            self.count += bytes.len();
        }
    }

    fn take(&mut self, reader: &mut impl BufRead, mut left: usize) {
        while left > 0 {
            let bytes = reader.fill_buf().unwrap();
            let count = bytes.len().min(left);
            assert!(count > 0, "the body ends {left} bytes early");
            self.add(&bytes[..count]);
            reader.consume(count);
            left -= count;
        }
    }
}

/// Twice the same 32 KiB.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let half: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(PIECE / 2)
        .collect();
    half.repeat(2)
});
const PIECE: usize = 64 * 1024;

/// An upstream that answers everything with a gibibyte.
fn downloads(framing: Framing) -> SocketAddr {
    accepting(move |mut stream| {
        while !read_head(&mut stream).is_empty() {
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing.header());
            stream.write_all(head.as_bytes()).unwrap();
            framing.send(&mut stream);
        }
    })
}

fn head(method: &str, target: &str, header: &str) -> String {
    let token = sign(&claims());
    format!(
        "{method} {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\
         {header}\r\n\r\n"
    )
}

fn answer(stream: &mut TcpStream, text: &str) {
    let length = text.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
    stream.write_all(answer.as_bytes()).unwrap();
}

fn read_chunk(stream: &TcpStream) -> Vec<u8> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut chunk = vec![0; read_size(&mut reader)];
    reader.read_exact(&mut chunk).unwrap();
    assert_eq!(read_line(&mut reader), "\r\n");
    chunk
}

fn read_size(reader: &mut impl BufRead) -> usize {
    usize::from_str_radix(read_line(reader).trim(), 16).unwrap()
}

fn read_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// The most memory that the gate ever held, in KiB.
fn peak_memory(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

fn assert_flat(gate: &Gate, before: u64) {
    let grown = peak_memory(gate) - before;
    assert!(grown < SLACK_KIB, "the gate took {grown} KiB more");
}
