//! How does a connection to one address of an upstream come about?

use std::io;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::cluster::Member;
use super::{Protocol, UpstreamSpec};
use crate::stream::{Stream, notice_death};
use crate::telemetry::handles::UpstreamFault;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("connecting to {member} failed")]
    Connect { member: String, source: io::Error },
    #[error("the TLS handshake with {member} failed")]
    Tls { member: String, source: io::Error },
    #[error("{member} does not agree on HTTP/2 (ALPN); its `protocol` must be http1")]
    NoHttp2 { member: String },
    #[error("the HTTP connection to {member} failed")]
    Http {
        member: String,
        source: hyper::Error,
    },
    #[error("connecting to {member} took longer than connect_timeout")]
    Timeout { member: String },
    #[error("the connection to {member} that this waited for did not come about")]
    Shared {
        member: String,
        fault: UpstreamFault,
    },
}

impl OpenError {
    /// HTTP could not be spoken with this member.
    pub(super) fn http(member: &Member) -> impl FnOnce(hyper::Error) -> Self {
        move |source| Self::Http {
            member: member.to_string(),
            source,
        }
    }

    pub(super) const fn fault(&self) -> UpstreamFault {
        match self {
            Self::Connect { .. } | Self::Http { .. } => UpstreamFault::Connect,
            Self::Tls { .. } | Self::NoHttp2 { .. } => UpstreamFault::Tls,
            Self::Timeout { .. } => UpstreamFault::ConnectTimeout,
            Self::Shared { fault, .. } => *fault,
        }
    }
}

/// A stream of bytes to a member, over TLS where that is asked for.
pub(super) async fn stream(spec: &UpstreamSpec, member: &Member) -> Result<Stream, OpenError> {
    let failed = |source| OpenError::Connect {
        member: member.to_string(),
        source,
    };
    let tcp = match (member.address, member.socket()) {
        (Some(address), _) => TcpStream::connect(address).await.map_err(failed)?,
        (None, Some(path)) => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            return Ok(Stream::Unix(stream));
        }
        (None, None) => return Err(failed(io::ErrorKind::AddrNotAvailable.into())),
    };
    tcp.set_nodelay(true).map_err(failed)?;
    notice_death(&SockRef::from(&tcp)).map_err(failed)?;
    let (Some(name), Some(config)) = (&member.endpoint.tls_name, &spec.tls) else {
        return Ok(Stream::Plain(tcp));
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let tls = connector.connect(name.clone(), tcp).await;
    let tls = tls.map_err(|source| OpenError::Tls {
        member: member.to_string(),
        source,
    })?;
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    if spec.config.protocol == Protocol::Http2 && !is_http2 {
        return Err(OpenError::NoHttp2 {
            member: member.to_string(),
        });
    }
    Ok(Stream::Tls(Box::new(tls.into())))
}

/// How HTTP/1.1 is spoken with upstreams.
pub(super) fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(crate::stream::BUFFER);
    builder
}

/// How HTTP/2 is spoken with upstreams.
pub(super) fn http2_builder<E: Clone>(spec: &UpstreamSpec, executor: E) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        // An upstream that has gone without a word must not get the next request.
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(spec.config.connect_timeout.0);
    builder
}

/// What an upstream may send on one stream ahead of the client, in bytes.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a whole connection.
const HTTP2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What may wait for the upstream on each stream, in bytes.
const HTTP2_SEND_BUFFER: usize = 128 * 1024;
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(20);
