//! An HTTP/2 client over TLS, for one connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::client::tls_config;

/// A body to be sent.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A response, read whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Body>,
}

impl Http2 {
    /// Connects, trusting this certificate (PEM) for `gate.example`.
    pub(crate) fn connect(address: SocketAddr, certificate: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = tls_config(certificate, &["h2"], rustls::ALL_VERSIONS);
        let sender = runtime.block_on(async {
            let name = ServerName::try_from("gate.example").unwrap();
            let tcp = TcpStream::connect(address).await.unwrap();
            let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
            let tls = connecting.await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(1 << 20)
                .handshake(TokioIo::new(tls))
                .await
                .unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// Sends a request and reads its response whole.
    pub(crate) fn send(&mut self, request: Request<Body>) -> Response {
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            let response = timeout(LIMIT, sender.send_request(request)).await;
            let (head, body) = response.expect("no response in time").unwrap().into_parts();
            let body = timeout(LIMIT, body.collect()).await;
            let body = body.expect("the body took too long").unwrap();
            Response {
                status: head.status.as_u16(),
                headers: head.headers,
                trailers: body.trailers().cloned(),
                body: body.to_bytes(),
            }
        })
    }

    /// Sends a request to a gate that may go away: its status, or nothing if it was not sent, and
    /// another connection is to be made.
    ///
    /// # Errors
    /// If it was sent and there is no answer.
    pub(crate) fn try_send(&mut self, request: Request<Body>) -> Result<Option<u16>, String> {
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            if sender.ready().await.is_err() {
                return Ok(None);
            }
            let response = timeout(LIMIT, sender.try_send_request(request)).await;
            match response.expect("no response in time") {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = timeout(LIMIT, response.into_body().collect()).await;
                    let body = body.expect("the body took too long");
                    body.map(|_| Some(status))
                        .map_err(|error| error.to_string())
                }
                Err(error) if error.message().is_some() => Ok(None),
                Err(error) => Err(error.into_error().to_string()),
            }
        })
    }

    /// Sends requests at once. Of each, the response's head, and its body if that came whole.
    pub(crate) fn send_together(
        &mut self,
        requests: Vec<Request<Body>>,
    ) -> Vec<Option<(http::response::Parts, Option<Bytes>)>> {
        let Self { runtime, sender } = self;
        let exchange = |request| {
            let response = sender.send_request(request);
            async {
                let response = timeout(LIMIT, response).await.expect("no response in time");
                let (head, body) = response.ok()?.into_parts();
                let body = timeout(LIMIT, body.collect()).await;
                let body = body.expect("the body took too long").ok();
                Some((head, body.map(http_body_util::Collected::to_bytes)))
            }
        };
        let exchanges: Vec<_> = requests.into_iter().map(exchange).collect();
        runtime.block_on(futures_util::future::join_all(exchanges))
    }

    /// Sends a request and hands each part of the response's body on as it comes.
    pub(crate) fn receive(&mut self, request: Request<Body>, mut take: impl FnMut(&[u8])) -> u16 {
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            let mut response = sender.send_request(request).await.unwrap();
            while let Some(frame) = timeout(LIMIT, response.frame()).await.unwrap() {
                take(frame.unwrap().data_ref().unwrap());
            }
            response.status().as_u16()
        })
    }
}

/// No body.
pub(crate) fn empty() -> Body {
    Full::default().boxed()
}

/// A body of this many pieces of zeros, 64 KiB each, sent as fast as they are taken.
pub(crate) fn pieces(count: usize) -> Body {
    let piece = Bytes::from_static(&[0; 64 * 1024]);
    let frames = (0..count).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

const LIMIT: Duration = Duration::from_secs(30);
