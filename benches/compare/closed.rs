//! The closed loop: each connection sends its next request when it has the last response.
//!
//! Tells what a proxy can carry. Its latencies are those of a saturated proxy: with N connections
//! the median is close to N divided by the throughput.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::histogram::Histogram;
use crate::requests::Requests;
use crate::run::Sample;
use crate::wire::{self, Head, Target};

/// Open connections on a runtime of their own.
pub(crate) struct ClosedLoop {
    runtime: Runtime,
    connections: Vec<Connection>,
}

/// When to stop.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    Exchanges(usize),
}

impl ClosedLoop {
    pub(crate) fn connect(target: &Target, connections: usize) -> anyhow::Result<Self> {
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
        })
    }

    /// Sends `requests` in rotation.
    pub(crate) fn run(&mut self, requests: &Arc<Requests>, until: Until) -> anyhow::Result<Sample> {
        let load = Load::begin(requests, until);
        self.runtime.block_on(async {
            let tasks: Vec<_> = self
                .connections
                .drain(..)
                .map(|connection| tokio::spawn(connection.drive(load.clone())))
                .collect();
            for task in tasks {
                self.connections.push(task.await??);
            }
            anyhow::Ok(())
        })?;
        Ok(load.end())
    }
}

/// What the connections share during one run.
pub(crate) struct Load {
    requests: Arc<Requests>,
    start: Instant,
    deadline: Option<Instant>,
    left: AtomicUsize,
    latency: Histogram,
}

impl Load {
    pub(crate) fn begin(requests: &Arc<Requests>, until: Until) -> Arc<Self> {
        let start = Instant::now();
        let (deadline, total) = match until {
            Until::Elapsed(length) => (Some(start + length), usize::MAX),
            Until::Exchanges(total) => (None, total),
        };
        Arc::new(Self {
            requests: Arc::clone(requests),
            start,
            deadline,
            left: AtomicUsize::new(total),
            latency: Histogram::new(),
        })
    }

    /// The next request, unless the run is over.
    pub(crate) fn next(&self, now: Instant) -> Option<&[u8]> {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return None;
        }
        let take = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        Some(self.requests.next())
    }

    pub(crate) fn answered(&self, latency: Duration) {
        self.latency.record(latency);
    }

    pub(crate) fn end(&self) -> Sample {
        Sample::new(self.start.elapsed(), Histogram::pooled([&self.latency]))
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects, over TLS if the target says so.
pub(crate) async fn open(target: &Target) -> anyhow::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(target.address)
        .await
        .with_context(|| format!("cannot connect to {}", target.address))?;
    stream.set_nodelay(true)?;
    Ok(match &target.tls {
        Some(config) => {
            let name = ServerName::from(target.address.ip());
            let connector = TlsConnector::from(config.clone());
            Box::new(connector.connect(name, stream).await?)
        }
        None => Box::new(stream),
    })
}

impl Connection {
    async fn open(target: &Target) -> anyhow::Result<Self> {
        Ok(Self {
            stream: open(target).await?,
            buffer: vec![0; wire::BUFFER],
        })
    }

    async fn drive(mut self, load: Arc<Load>) -> anyhow::Result<Self> {
        let mut sent = Instant::now();
        while let Some(request) = load.next(sent) {
            self.exchange(request, load.requests.status()).await?;
            let received = Instant::now();
            load.answered(received - sent);
            sent = received;
        }
        Ok(self)
    }

    async fn exchange(&mut self, request: &[u8], status: &str) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        // A TLS stream may keep bytes back.
        self.stream.flush().await?;
        let mut filled = 0;
        let mut missing = loop {
            filled += self.read(filled).await?;
            let bytes = self.buffer.get(..filled).unwrap_or_default();
            if let Some(missing) = wire::missing(bytes)? {
                let found = Head::parse(bytes).map_or("no status", |head| head.status());
                anyhow::ensure!(found == status, "answered {found} under load, not {status}");
                break missing;
            }
        };
        while missing > 0 {
            missing = missing
                .checked_sub(self.read(0).await?)
                .context("more bytes than one response")?;
        }
        Ok(())
    }

    /// Reads into the buffer behind the first `filled` bytes.
    async fn read(&mut self, filled: usize) -> anyhow::Result<usize> {
        let free = self.buffer.get_mut(filled..).unwrap_or_default();
        let read = self.stream.read(free).await?;
        anyhow::ensure!(read > 0, "connection closed before the end of a response");
        Ok(read)
    }
}
