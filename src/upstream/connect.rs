//! How is a connection to an upstream made, kept and used again? Each worker has its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::body::RequestBody;
use super::{Endpoint, UpstreamSpec};
use crate::clock;
use crate::refusal::{Reason, Refusal};
use crate::stream::{BUFFER, Stream};
use crate::telemetry::handles::{UpstreamFault, UpstreamMetrics};

/// A connection on which one request may be sent.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    /// Goes off when the upstream has to have answered, or before: it stays set from one exchange
    /// to the next, so that an exchange has no timer to make.
    pub(super) alarm: Pin<Box<Sleep>>,
}

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Upstream {
    pub(crate) spec: Arc<UpstreamSpec>,
    label: Rc<str>,
    pub(crate) metrics: UpstreamMetrics,
    idle: RefCell<Vec<Idle>>,
    next: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("connecting to {url} failed")]
    Tcp { url: String, source: io::Error },
    #[error("the TLS handshake with {url} failed")]
    Tls { url: String, source: io::Error },
    #[error("the HTTP connection to {url} failed")]
    Http { url: String, source: hyper::Error },
    #[error("connecting to {url} took longer than connect_timeout")]
    Timeout { url: String },
    #[error("the upstream has no endpoint")]
    None,
}

impl Upstream {
    /// No connection yet.
    #[must_use]
    pub fn new(spec: Arc<UpstreamSpec>, metrics: UpstreamMetrics) -> Rc<Self> {
        Rc::new(Self {
            label: Rc::from(&*spec.name),
            spec,
            metrics,
            idle: RefCell::default(),
            next: Cell::new(0),
        })
    }

    /// The name in config, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.label
    }

    /// The name, to be kept by whoever logs it: counted on this worker alone.
    #[must_use]
    pub const fn label(&self) -> &Rc<str> {
        &self.label
    }

    /// The host and port of its first endpoint, for requests of the gate's own.
    #[must_use]
    pub fn authority(&self) -> String {
        self.spec
            .endpoints
            .first()
            .map_or_else(String::new, Endpoint::authority)
    }

    /// A kept connection that can be used at once.
    pub(crate) fn take_idle(&self, now: Instant) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let candidate = idle.get(at)?;
            let is_stale = now.saturating_duration_since(candidate.since) > self.spec.idle_timeout;
            if candidate.link.sender.is_closed() || is_stale {
                idle.swap_remove(at);
            } else if candidate.link.sender.is_ready() {
                return Some(idle.swap_remove(at).link);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn keep(&self, link: Link) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.spec.max_idle && !link.sender.is_closed() {
            idle.push(Idle {
                link,
                since: clock::recently(),
            });
        }
    }

    /// Drops connections that were unused for too long.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|idle| {
            let unused = now.saturating_duration_since(idle.since);
            unused <= self.spec.idle_timeout && !idle.link.sender.is_closed()
        });
    }

    /// A new connection to the next endpoint that can be reached.
    pub(crate) async fn connect(&self) -> Result<Link, Refusal> {
        let count = self.spec.endpoints.len();
        let start = self.next.get();
        self.next.set(start.wrapping_add(1));
        let mut last = ConnectError::None;
        for offset in 0..count {
            let at = start.wrapping_add(offset) % count;
            let Some(endpoint) = self.spec.endpoints.get(at) else {
                break;
            };
            match timeout(self.spec.connect_timeout, self.open(endpoint)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = ConnectError::Timeout {
                        url: endpoint.url.clone(),
                    }
                }
            }
            self.metrics.fault(last.fault());
        }
        let reason = match last {
            ConnectError::Timeout { .. } => Reason::UpstreamTimeout,
            _ => Reason::UpstreamUnreachable,
        };
        Err(Refusal::with_cause(reason, last))
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<Link, ConnectError> {
        let url = || endpoint.url.clone();
        let tcp = match endpoint.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await,
        };
        let tcp = tcp
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|source| ConnectError::Tcp { url: url(), source })?;
        let stream = match (&endpoint.tls_name, &self.spec.tls) {
            (Some(name), Some(config)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let tls = connector.connect(name.clone(), tcp).await;
                let tls = tls.map_err(|source| ConnectError::Tls { url: url(), source })?;
                Stream::Tls(Box::new(tls.into()))
            }
            _ => Stream::Plain(tcp),
        };
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ConnectError::Http { url: url(), source })?;
        spawn_local(async move {
            // Its errors reach whoever waits for the answer.
            let _ = connection.with_upgrades().await;
        });
        let alarm = Box::pin(sleep(self.spec.response_timeout));
        Ok(Link { sender, alarm })
    }
}

impl ConnectError {
    const fn fault(&self) -> UpstreamFault {
        match self {
            Self::Tcp { .. } | Self::Http { .. } | Self::None => UpstreamFault::Connect,
            Self::Tls { .. } => UpstreamFault::Tls,
            Self::Timeout { .. } => UpstreamFault::ConnectTimeout,
        }
    }
}
