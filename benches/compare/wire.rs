//! One exchange on a raw HTTP/1.1 connection, as cheaply as it can be had.
//!
//! Knows as much of HTTP as the bench's own processes speak: a head, and a body with a
//! Content-Length.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use memchr::memmem;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// A message's head.
pub(crate) struct Head<'a> {
    bytes: &'a [u8],
}

/// A blocking connection.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

impl Target {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(crate) fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address)
            .with_context(|| format!("cannot connect to {}", self.address))?;
        let Some(config) = &self.tls else {
            return Connection::over(stream);
        };
        prepare(&stream)?;
        let name = ServerName::from(self.address.ip());
        let client = ClientConnection::new(config.clone(), name)?;
        Ok(Connection::new(StreamOwned::new(client, stream)))
    }
}

fn prepare(stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(())
}

impl Connection {
    /// In plaintext over an open connection.
    pub(crate) fn over(stream: TcpStream) -> anyhow::Result<Self> {
        prepare(&stream)?;
        Ok(Self::new(stream))
    }

    fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: vec![0; BUFFER],
        }
    }

    /// Sends a request and waits for the whole response.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Response<'_>> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(free).context("no response")?;
            anyhow::ensure!(read > 0, "connection closed before the end of a response");
            filled += read;
            match missing(self.buffer.get(..filled).unwrap_or_default())? {
                Some(0) => break,
                Some(rest) => anyhow::ensure!(filled + rest <= BUFFER, "a long response"),
                None => {}
            }
        }
        let bytes = self.buffer.get(..filled).unwrap_or_default();
        let head = Head::parse(bytes).context("no head")?;
        Ok(Response {
            status: head.status().to_owned(),
            body: bytes.get(head.length()..).unwrap_or_default(),
        })
    }
}

/// A response that came whole.
pub(crate) struct Response<'a> {
    pub(crate) status: String,
    pub(crate) body: &'a [u8],
}

impl<'a> Head<'a> {
    /// The head at the start of `bytes`, once it is complete.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = memmem::find(bytes, b"\r\n\r\n")?;
        Some(Self {
            bytes: bytes.get(..end + 4)?,
        })
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The request's target or the response's status: what stands between the first two spaces.
    pub(crate) fn second_word(&self) -> &'a [u8] {
        self.bytes
            .split(|&byte| byte == b' ' || byte == b'\r')
            .nth(1)
            .unwrap_or_default()
    }

    pub(crate) fn status(&self) -> &'a str {
        std::str::from_utf8(self.second_word()).unwrap_or_default()
    }

    /// All values of a field.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        memchr::memchr_iter(b'\n', bytes).filter_map(move |end| {
            let (found, value) = bytes.get(end + 1..)?.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            if !found.eq_ignore_ascii_case(name.as_bytes()) {
                return None;
            }
            let end = memchr::memchr(b'\r', value)?;
            Some(value.get(..end)?.trim_ascii())
        })
    }

    pub(crate) fn content_length(&self) -> Option<usize> {
        std::str::from_utf8(self.values("content-length").next()?)
            .ok()?
            .parse()
            .ok()
    }
}

/// How many bytes of a response are still to come after `bytes`, once that is known.
pub(crate) fn missing(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = Head::parse(bytes) else {
        anyhow::ensure!(
            bytes.len() < BUFFER,
            "a head of {BUFFER} bytes without an end"
        );
        return Ok(None);
    };
    let body = head
        .content_length()
        .context("a response without Content-Length")?;
    (head.length() + body)
        .checked_sub(bytes.len())
        .map(Some)
        .context("more bytes than one response")
}

/// Room for any head, and for a long body's next piece.
pub(crate) const BUFFER: usize = 64 * 1024;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
