//! What is asked of the gate? One request after another on one connection, in several ways.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::gate::{Gate, HOST};
use crate::quiet::Quiet;
use crate::upstream::BODY;

/// A way to ask.
#[derive(Clone, Copy)]
pub(crate) enum Scenario {
    Hs256,
    Http2,
    Post,
    Query,
    Rs256,
    Tls,
}

pub(crate) const SCENARIOS: [Scenario; 6] = [
    Scenario::Hs256,
    Scenario::Rs256,
    Scenario::Query,
    Scenario::Post,
    Scenario::Tls,
    Scenario::Http2,
];

impl Scenario {
    /// Its name in the record.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "hs256",
            Self::Http2 => "http2",
            Self::Post => "post-1k",
            Self::Query => "query",
            Self::Rs256 => "rs256",
            Self::Tls => "tls",
        }
    }

    /// A connection on which this can be asked again and again.
    pub(crate) fn connect(self, gate: &Gate) -> anyhow::Result<Client> {
        let plain = || connect(gate.plain);
        let wire: Wire = match self {
            Self::Http2 => return Client::http2(gate),
            Self::Hs256 | Self::Post | Self::Query | Self::Rs256 => Box::new(plain()?),
            Self::Tls => {
                let name = ServerName::try_from(HOST)?;
                let config = Arc::new(trusting(gate)?);
                let session = ClientConnection::new(config, name)?;
                Box::new(StreamOwned::new(session, connect(gate.tls)?))
            }
        };
        Ok(Client {
            quiet: gate.quiet.clone(),
            kind: Kind::Http1(wire, self.request(gate).into_bytes()),
        })
    }

    /// In HTTP/1.1.
    fn request(self, gate: &Gate) -> String {
        let (token, body) = match self {
            Self::Rs256 => (&gate.tokens.rs256, None),
            Self::Post => (&gate.tokens.hs256, Some("x".repeat(1024))),
            Self::Hs256 | Self::Http2 | Self::Query | Self::Tls => (&gate.tokens.hs256, None),
        };
        let (start, authorization) = match self {
            Self::Query => (format!("GET {PATH}&access_token={token}"), String::new()),
            _ => {
                let method = if body.is_some() { "POST" } else { "GET" };
                let authorization = format!("Authorization: Bearer {token}\r\n");
                (format!("{method} {PATH}"), authorization)
            }
        };
        let length = body.as_ref().map(|body| {
            let length = body.len();
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
        });
        format!(
            "{start} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n\
             Accept-Encoding: gzip\r\n{authorization}{}\r\n{}",
            length.unwrap_or_default(),
            body.unwrap_or_default()
        )
    }
}

/// One connection.
pub(crate) struct Client {
    quiet: Quiet,
    kind: Kind,
}

enum Kind {
    Http1(Wire, Vec<u8>),
    Http2(Runtime, http2::SendRequest<Empty<Bytes>>, Box<Request<()>>),
}

type Wire = Box<dyn Stream>;

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Client {
    fn http2(gate: &Gate) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut config = trusting(gate)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = connect(gate.tls)?;
        stream.set_nonblocking(true)?;
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(HOST.try_into()?, stream).await?;
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(sender)
        })?;
        let request = Request::get(format!("https://{HOST}{PATH}"))
            .header("user-agent", AGENT)
            .header("accept", "*/*")
            .header("accept-encoding", "gzip")
            .header("authorization", format!("Bearer {}", gate.tokens.hs256))
            .body(())?;
        Ok(Self {
            quiet: gate.quiet.clone(),
            kind: Kind::Http2(runtime, sender, Box::new(request)),
        })
    }

    /// Asks once, and waits for the answer.
    pub(crate) fn exchange(&mut self) -> anyhow::Result<()> {
        self.quiet.wait()?;
        match &mut self.kind {
            Kind::Http1(wire, request) => exchange(wire, request),
            Kind::Http2(runtime, sender, request) => {
                let request = Request::clone(request).map(|()| Empty::new());
                let (status, body) = runtime.block_on(async {
                    let answer = sender.send_request(request).await?;
                    let status = answer.status();
                    anyhow::Ok((status, answer.collect().await?.to_bytes()))
                })?;
                let is_well = status == StatusCode::OK && body == BODY;
                anyhow::ensure!(is_well, "not served, but answered {status}");
                Ok(())
            }
        }
    }
}

fn exchange(wire: &mut Wire, request: &[u8]) -> anyhow::Result<()> {
    wire.write_all(request)?;
    wire.flush()?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(b"}") {
        let read = wire.read(&mut piece).context("no answer")?;
        anyhow::ensure!(read > 0, "the gate closed the connection");
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    let is_well = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(BODY.as_bytes());
    let text = String::from_utf8_lossy(&answer);
    anyhow::ensure!(is_well, "not served, but answered {text}");
    Ok(())
}

fn connect(address: std::net::SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// TLS 1.3 alone.
fn trusting(gate: &Gate) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(gate.certificate.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

const PATH: &str = "/api/queues/main/orders?page=1";
const AGENT: &str = "curl/7.88.1";
const PATIENCE: Duration = Duration::from_secs(60);
