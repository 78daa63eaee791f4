//! The closed loop over HTTP/2 (RFC 9113): so many connections with so many requests under way on
//! each.
//!
//! Knows as much of it as this load needs: a header block is made once per request, frames are
//! told by their nine bytes, and of a response only its status and its end matter. The token is
//! never indexed, as curl and nghttp2 send it. h2load and hyper's client do the same work, but each
//! takes more of the core that it shares with the upstream (`benches/README.md`).

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::closed::{self, Load, Stream, Until};
use crate::requests::Requests;
use crate::run::Sample;
use crate::wire::{BUFFER, Target};

/// Open connections on a runtime of their own.
pub(crate) struct H2Loop {
    runtime: Runtime,
    connections: Vec<Connection>,
    streams: usize,
}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    filled: usize,
    talk: Talk,
}

/// What was said on a connection, and what is to be said.
struct Talk {
    next_stream: u32,
    under_way: Vec<(u32, Instant)>,
    out: Vec<u8>,
    /// Bytes of bodies that the peer was not yet told may be replaced.
    unacknowledged: u32,
}

impl H2Loop {
    /// The target's TLS has to agree on `h2`; `streams` requests are under way on each connection.
    pub(crate) fn connect(
        target: &Target,
        connections: usize,
        streams: usize,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let connections = runtime.block_on(async {
            let mut open = Vec::with_capacity(connections);
            for _ in 0..connections {
                open.push(Connection::open(target).await?);
            }
            anyhow::Ok(open)
        })?;
        Ok(Self {
            runtime,
            connections,
            streams,
        })
    }

    /// Sends header blocks in rotation.
    pub(crate) fn run(&mut self, blocks: &Arc<Requests>, until: Until) -> anyhow::Result<Sample> {
        let load = Load::begin(blocks, until);
        self.runtime.block_on(async {
            let tasks: Vec<_> = self
                .connections
                .drain(..)
                .map(|connection| tokio::spawn(connection.drive(load.clone(), self.streams)))
                .collect();
            for task in tasks {
                self.connections.push(task.await??);
            }
            anyhow::Ok(())
        })?;
        Ok(load.end())
    }
}

/// The status of the answer to one GET, on a connection of its own; `token` is the bearer's.
pub(crate) fn ask(target: &Target, token: Option<&str>) -> anyhow::Result<String> {
    let mut one = H2Loop::connect(target, 1, 1)?;
    let mut connection = one.connections.pop().context("no connection")?;
    one.runtime.block_on(connection.ask(&get(token)))
}

impl Connection {
    async fn open(target: &Target) -> anyhow::Result<Self> {
        Ok(Self {
            stream: closed::open(target).await?,
            buffer: vec![0; BUFFER],
            filled: 0,
            talk: Talk::begin(),
        })
    }

    async fn ask(&mut self, block: &[u8]) -> anyhow::Result<String> {
        self.talk.ask(block, Instant::now())?;
        loop {
            self.send().await?;
            self.receive().await?;
            let mut bytes = self.buffer.get(..self.filled).unwrap_or_default();
            while let Some((frame, rest)) = Frame::parse(bytes) {
                if frame.kind == HEADERS {
                    return status(frame.payload).context("a status that was not understood");
                }
                self.talk.hear(&frame)?;
                bytes = rest;
            }
            let left = bytes.len();
            self.buffer.copy_within(self.filled - left..self.filled, 0);
            self.filled = left;
        }
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        if !self.talk.out.is_empty() {
            self.stream.write_all(&self.talk.out).await?;
            self.stream.flush().await?;
            self.talk.out.clear();
        }
        Ok(())
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let free = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let read = self.stream.read(free).await?;
        anyhow::ensure!(read > 0, "connection closed before the end of a response");
        self.filled += read;
        Ok(())
    }

    async fn drive(mut self, load: Arc<Load>, streams: usize) -> anyhow::Result<Self> {
        loop {
            let now = Instant::now();
            while self.talk.under_way.len() < streams
                && let Some(block) = load.next(now)
            {
                self.talk.ask(block, now)?;
            }
            self.send().await?;
            if self.talk.under_way.is_empty() {
                return Ok(self);
            }
            self.receive().await?;
            let mut bytes = self.buffer.get(..self.filled).unwrap_or_default();
            let received = Instant::now();
            while let Some((frame, rest)) = Frame::parse(bytes) {
                if let Some(sent) = self.talk.hear(&frame)? {
                    load.answered(received - sent);
                }
                bytes = rest;
            }
            let left = bytes.len();
            self.buffer.copy_within(self.filled - left..self.filled, 0);
            self.filled = left;
        }
    }
}

impl Talk {
    fn begin() -> Self {
        let mut out = PREFACE.to_vec();
        // ENABLE_PUSH off (RFC 9113 section 6.5.2).
        frame(&mut out, SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]);
        Self {
            next_stream: 1,
            under_way: Vec::new(),
            out,
            unacknowledged: 0,
        }
    }

    fn ask(&mut self, block: &[u8], now: Instant) -> anyhow::Result<()> {
        let flags = END_STREAM | END_HEADERS;
        frame(&mut self.out, HEADERS, flags, self.next_stream, block);
        self.under_way.push((self.next_stream, now));
        self.next_stream = self
            .next_stream
            .checked_add(2)
            .context("too many streams")?;
        Ok(())
    }

    /// When that request was sent to which this frame ends the response.
    fn hear(&mut self, heard: &Frame<'_>) -> anyhow::Result<Option<Instant>> {
        match heard.kind {
            HEADERS => {
                anyhow::ensure!(heard.flags & END_HEADERS != 0, "a head in several frames");
                anyhow::ensure!(heard.flags & (PADDED | PRIORITY) == 0, "a padded head");
                let status = without_sizes(heard.payload).first();
                anyhow::ensure!(status == Some(&STATUS_200), "not answered 200 under load");
            }
            DATA => {
                self.unacknowledged += u32::try_from(heard.payload.len())?;
                if self.unacknowledged > WINDOW / 2 {
                    let grant = self.unacknowledged.to_be_bytes();
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &grant);
                    self.unacknowledged = 0;
                }
            }
            SETTINGS if heard.flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if heard.flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, heard.payload),
            RST_STREAM | GOAWAY => anyhow::bail!("a stream or the connection was given up"),
            _ => {}
        }
        if !matches!(heard.kind, HEADERS | DATA) || heard.flags & END_STREAM == 0 {
            return Ok(None);
        }
        let place = self
            .under_way
            .iter()
            .position(|(stream, _)| *stream == heard.stream)
            .context("an answer to nothing")?;
        Ok(Some(self.under_way.swap_remove(place).1))
    }
}

/// RFC 9113 section 4.1.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, once it is complete, and what follows.
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[a, b, c, kind, flags, s, t, u, v], rest) = bytes.split_first_chunk()?;
        let length = u32::from_be_bytes([0, a, b, c]);
        let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let frame = Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]),
            payload,
        };
        Some((frame, rest))
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // No payload of ours is longer than 16 KiB.
    let [.., a, b, c] = payload.len().to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The status that a header block begins with, where it is 200 or 401: indexed, or a literal under
/// the name `:status`, as text or in the Huffman code of RFC 7541 appendix B.
fn status(block: &[u8]) -> Option<String> {
    let found = match without_sizes(block) {
        [STATUS_200, ..] => "200",
        [0x48 | 0x08 | 0x18, 3, b'4', b'0', b'1', ..]
        | [0x48 | 0x08 | 0x18, 0x82, 0x68, 0x01, ..] => "401",
        _ => return None,
    };
    Some(found.to_owned())
}

/// What comes behind changes of the table's size (RFC 7541 section 6.3).
fn without_sizes(block: &[u8]) -> &[u8] {
    let change = |byte: &u8| byte & 0xe0 == 0x20;
    let first = block.iter().position(|byte| !change(byte));
    block.get(first.unwrap_or_default()..).unwrap_or_default()
}

/// The header block (RFC 7541) of a GET as a small client sends it.
pub(crate) fn get(token: Option<&str>) -> Vec<u8> {
    // `:method: GET` and `:scheme: https`.
    let mut block = vec![0x82, 0x87];
    literal(&mut block, &[PLAIN | 1], "localhost");
    literal(&mut block, &[PLAIN | 4], "/api/status");
    literal(&mut block, &[PLAIN | 0x0f, 19 - 15], "*/*");
    if let Some(token) = token {
        let value = format!("Bearer {token}");
        literal(&mut block, &[NEVER | 0x0f, 23 - 15], &value);
    }
    block
}

/// `name` is an index into the static table: `:authority`, `:path`, `accept`, `authorization`.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    // An integer with a prefix of seven bits (section 5.1); the first bit says no Huffman code.
    let mut length = value.len();
    if length < 0x7f {
        block.extend(u8::try_from(length));
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.extend(u8::try_from(length % 0x80 + 0x80));
            length /= 0x80;
        }
        block.extend(u8::try_from(length));
    }
    block.extend_from_slice(value.as_bytes());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Literals that do not enter the table, and those that no hop may let enter one.
const PLAIN: u8 = 0x00;
const NEVER: u8 = 0x10;
/// `:status: 200` in the static table.
const STATUS_200: u8 = 0x88;
/// What may be under way on a connection.
const WINDOW: u32 = 65_535;
