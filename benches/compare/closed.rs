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
use crate::scenario::Sample;
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
    pub(crate) fn run(
        &mut self,
        requests: &Arc<[Vec<u8>]>,
        until: Until,
    ) -> anyhow::Result<Sample> {
        let start = Instant::now();
        let (deadline, total) = match until {
            Until::Elapsed(length) => (Some(start + length), usize::MAX),
            Until::Exchanges(total) => (None, total),
        };
        let load = Arc::new(Load {
            requests: requests.clone(),
            next: AtomicUsize::new(0),
            deadline,
            total,
            latency: Histogram::new(),
        });
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
        Ok(Sample::new(start.elapsed(), &load.latency))
    }
}

/// What the connections share during one run.
struct Load {
    requests: Arc<[Vec<u8>]>,
    next: AtomicUsize,
    deadline: Option<Instant>,
    total: usize,
    latency: Histogram,
}

impl Load {
    fn next(&self, now: Instant) -> Option<&[u8]> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.total || self.deadline.is_some_and(|deadline| now >= deadline) {
            return None;
        }
        self.requests
            .get(number % self.requests.len())
            .map(Vec::as_slice)
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connection {
    async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address)
            .await
            .with_context(|| format!("cannot connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            Some(config) => {
                let name = ServerName::from(target.address.ip());
                Box::new(
                    TlsConnector::from(config.clone())
                        .connect(name, stream)
                        .await?,
                )
            }
            None => Box::new(stream),
        };
        Ok(Self {
            stream,
            buffer: vec![0; wire::BUFFER],
        })
    }

    async fn drive(mut self, load: Arc<Load>) -> anyhow::Result<Self> {
        let mut sent = Instant::now();
        while let Some(request) = load.next(sent) {
            self.exchange(request).await?;
            let received = Instant::now();
            load.latency.record(received - sent);
            sent = received;
        }
        Ok(self)
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        // A TLS stream may keep bytes back.
        self.stream.flush().await?;
        let mut filled = 0;
        loop {
            let free = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(free).await?;
            anyhow::ensure!(read > 0, "connection closed before the end of a response");
            filled += read;
            let bytes = self.buffer.get(..filled).unwrap_or_default();
            if wire::response_is_complete(bytes)? {
                let status = Head::parse(bytes).map_or("no status", |head| head.status());
                anyhow::ensure!(status == "200", "answered {status} under load");
                return Ok(());
            }
        }
    }
}
