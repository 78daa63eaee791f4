//! TLS handshakes: connect, agree, and close without a request, on some connections at a time.
//!
//! The client's share of a handshake is no smaller than the server's, so handshakes a second tell
//! little about a server; its CPU time for each does. A handshake is over when the server has
//! closed, so that all of its work is counted: accepting, the tickets that it sends, closing.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use rustls_pki_types::ServerName;

use crate::histogram::Histogram;
use crate::run::Sample;
use crate::wire::{PATIENCE, Target};

/// Clients, each with a ticket.
pub(crate) struct Handshakes<'a> {
    clients: Vec<Client<'a>>,
}

impl<'a> Handshakes<'a> {
    /// `resumed` handshakes go without certificate, by the ticket that the connection before got
    /// (RFC 8446 section 2.2).
    pub(crate) fn prepare(target: &'a Target, resumed: bool) -> anyhow::Result<Self> {
        let clients = (0..AT_A_TIME)
            .map(|_| Client::new(target, resumed))
            .collect::<Result<_, _>>()?;
        Ok(Self { clients })
    }

    /// Makes connections for `length`.
    pub(crate) fn run(&self, length: Duration) -> anyhow::Result<Sample> {
        let latency = Histogram::new();
        let start = Instant::now();
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(self.clients.len());
            for client in &self.clients {
                threads.push(scope.spawn(|| client.drive(start + length, &latency)));
            }
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
        })?;
        Ok(Sample::new(start.elapsed(), latency))
    }
}

/// Somebody with tickets of its own.
struct Client<'a> {
    target: &'a Target,
    config: Arc<ClientConfig>,
    kind: HandshakeKind,
}

impl<'a> Client<'a> {
    fn new(target: &'a Target, resumed: bool) -> anyhow::Result<Self> {
        let mut config = ClientConfig::clone(target.tls.as_ref().context("no TLS")?);
        config.resumption = if resumed {
            Resumption::in_memory_sessions(1)
        } else {
            Resumption::disabled()
        };
        let client = Self {
            target,
            config: Arc::new(config),
            kind: if resumed {
                HandshakeKind::Resumed
            } else {
                HandshakeKind::Full
            },
        };
        // The first one gets the first ticket.
        client.connect()?;
        Ok(client)
    }

    fn drive(&self, deadline: Instant, latency: &Histogram) -> anyhow::Result<()> {
        loop {
            let begun = Instant::now();
            if begun >= deadline {
                return Ok(());
            }
            let kind = self.connect()?;
            anyhow::ensure!(kind == Some(self.kind), "a handshake was {kind:?}");
            latency.record(begun.elapsed());
        }
    }

    /// One connection, from its beginning to its end.
    fn connect(&self) -> anyhow::Result<Option<HandshakeKind>> {
        let mut tcp = TcpStream::connect(self.target.address)
            .with_context(|| format!("cannot connect to {}", self.target.address))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(self.target.address.ip());
        let mut tls = ClientConnection::new(self.config.clone(), name)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        let kind = tls.handshake_kind();
        let mut stream = StreamOwned::new(tls, tcp);
        stream.conn.send_close_notify();
        stream.flush()?;
        stream.sock.shutdown(Shutdown::Write)?;
        match io::copy(&mut stream, &mut io::sink()) {
            // Not every server says goodbye before it closes.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error)?,
            _ => Ok(kind),
        }
    }
}

/// Enough that the server never waits for a client.
const AT_A_TIME: usize = 8;
