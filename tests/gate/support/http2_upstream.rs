//! An upstream that speaks HTTP/2, as gRPC services do, with or without TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

/// What it counts.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
}

/// An upstream over HTTP/2 that sends a request's body back, its head as headers that begin with
/// `seen-`, and `grpc-status: 0` with the request's own trailers as trailers.
#[derive(Debug)]
pub(crate) struct Http2Upstream {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

impl Http2Upstream {
    /// Without TLS. Requests to `/together` are answered once so many are there.
    pub(crate) fn start(together: usize) -> Self {
        Self::serve(None, together)
    }

    /// Over TLS with this certificate and key (PEM).
    pub(crate) fn over_tls(certificate: &str, key: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::serve(Some(TlsAcceptor::from(Arc::new(config))), 1)
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    fn serve(tls: Option<TlsAcceptor>, together: usize) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let barrier = Arc::new(Barrier::new(together));
                while let Ok((stream, _)) = listener.accept().await {
                    counted.connections.fetch_add(1, Ordering::Relaxed);
                    let barrier = Arc::clone(&barrier);
                    match tls.clone() {
                        None => drop(tokio::spawn(speak(stream, barrier))),
                        Some(tls) => drop(tokio::spawn(async move {
                            if let Ok(stream) = tls.accept(stream).await {
                                speak(stream, barrier).await;
                            }
                        })),
                    }
                }
            });
        });
        Self { address, counts }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, barrier: Arc<Barrier>) {
    let service = service_fn(move |request| {
        let barrier = Arc::clone(&barrier);
        async move { Ok::<_, Infallible>(answer(request, &barrier).await) }
    });
    let _ = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

async fn answer(
    request: Request<Incoming>,
    barrier: &Barrier,
) -> Response<StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Frames0>>>> {
    if request.uri().path() == "/api/together" {
        barrier.wait().await;
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap();
    let mut trailers = body.trailers().cloned().unwrap_or_default();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames: Frames = vec![
        Ok(Frame::data(body.to_bytes())),
        Ok(Frame::trailers(trailers)),
    ];
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    tell(&head, response.headers_mut());
    response
}

type Frames0 = Result<Frame<Bytes>, Infallible>;

fn tell(head: &http::request::Parts, headers: &mut HeaderMap) {
    let mut set = |name: &'static str, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    };
    set("seen-version", &format!("{:?}", head.version));
    set("seen-scheme", head.uri.scheme_str().unwrap_or_default());
    let authority = head
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    set("seen-authority", authority);
    let target = head
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    set("seen-target", target);
    for name in ["authorization", "te", "connection", "upgrade", "host"] {
        if let Some(value) = head.headers.get(name) {
            let name: &'static str = match name {
                "authorization" => "seen-authorization",
                "te" => "seen-te",
                "connection" => "seen-connection",
                "upgrade" => "seen-upgrade",
                _ => "seen-host",
            };
            headers.insert(name, value.clone());
        }
    }
}
