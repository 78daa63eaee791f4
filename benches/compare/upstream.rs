//! The upstream: a minimal HTTP/1.1 server that counts the requests with the right credential.

use std::borrow::Cow;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::options::UPSTREAM_FLAG;
use crate::process::Process;
use crate::wire::{self, Head, Target};

/// The running upstream, seen from the bench.
pub(crate) struct Upstream {
    pub(crate) target: Target,
    pub(crate) process: Process,
}

/// What has arrived at the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrivals {
    pub(crate) requests: u64,
    /// With exactly one Authorization field, and that the gate's own Basic credential.
    pub(crate) translated: u64,
    /// Bytes of their bodies.
    pub(crate) uploaded: u64,
}

impl Upstream {
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this binary")?;
        let process = Process::start("upstream", Command::new(program).arg(UPSTREAM_FLAG), folder)?;
        let address: SocketAddr = process
            .line()?
            .parse()
            .with_context(|| process.complaint("has no address"))?;
        Ok(Self {
            target: Target::plain(address),
            process,
        })
    }

    pub(crate) fn arrivals(&self) -> anyhow::Result<Arrivals> {
        let request = format!("GET {COUNTS} HTTP/1.1\r\nHost: upstream\r\n\r\n");
        let mut connection = self.target.connect()?;
        let response = connection.exchange(request.as_bytes())?;
        let counts: [u64; 3] =
            serde_json::from_slice(response.body).context("no counts from the upstream")?;
        let [requests, translated, uploaded] = counts;
        Ok(Arrivals {
            requests,
            translated,
            uploaded,
        })
    }
}

/// The child's side: serves until its stdin ends.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::abort();
    });
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let right: &'static [u8] = basic_credential().into_bytes().leak();
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream, right));
        }
    })
}

async fn answer(mut stream: TcpStream, right: &'static [u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; wire::BUFFER];
    let mut filled = 0;
    loop {
        let read = stream
            .read(buffer.get_mut(filled..).unwrap_or_default())
            .await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let bytes = buffer.get(..filled).unwrap_or_default();
        let Some(head) = Head::parse(bytes) else {
            continue;
        };
        if head.values("transfer-encoding").next().is_some() {
            return stream.write_all(LENGTH_REQUIRED).await;
        }
        let response = respond(&head, right);
        let body = head.content_length().unwrap_or(0);
        let mut missing = (head.length() + body).saturating_sub(filled);
        while missing > 0 {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            missing = missing.saturating_sub(read);
        }
        filled = 0;
        UPLOADED.fetch_add(u64::try_from(body).unwrap_or(0), Ordering::Relaxed);
        stream.write_all(&response).await?;
    }
}

fn respond(head: &Head<'_>, right: &[u8]) -> Cow<'static, [u8]> {
    if head.second_word() == COUNTS.as_bytes() {
        return response(&counts()).into();
    }
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    if head.values("authorization").eq([right]) {
        TRANSLATED.fetch_add(1, Ordering::Relaxed);
    }
    if head.second_word() == BULK.as_bytes() {
        BULK_RESPONSE.as_slice().into()
    } else {
        OK.into()
    }
}

fn counts() -> String {
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    format!(
        "[{},{},{}]",
        count(&REQUESTS),
        count(&TRANSLATED),
        count(&UPLOADED)
    )
}

fn response(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(crate) fn basic_credential() -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"))
    )
}

/// What the gate is told to present.
pub(crate) const USERNAME: &str = "gate";
pub(crate) const PASSWORD: &str = "the bench's upstream password";

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static TRANSLATED: AtomicU64 = AtomicU64::new(0);
static UPLOADED: AtomicU64 = AtomicU64::new(0);
static BULK_RESPONSE: LazyLock<Vec<u8>> = LazyLock::new(|| response(&"x".repeat(BULK_SIZE)));

/// What is answered with a body of 1 MiB.
pub(crate) const BULK: &str = "/api/bulk";
pub(crate) const BULK_SIZE: usize = 1024 * 1024;

const COUNTS: &str = "/counts";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
const LENGTH_REQUIRED: &[u8] = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\n\r\n";
