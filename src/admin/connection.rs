//! How do operators and probes connect? Within bounds, so that one who holds connections keeps no
//! other address out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Admin;
use crate::server::shed::Admission;

/// The most connections at a time; further ones are closed.
const MOST: usize = 2048;
/// The most of one address, of IPv6 of one /64.
const MOST_OF_ONE: usize = 256;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Admin {
    /// Serves until the task is dropped.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub async fn serve(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let admission = Admission::new(MOST, Arc::default());
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let address = peer.ip().to_canonical();
            match admission.admit(address, Some(MOST_OF_ONE)) {
                Ok(held) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        admin.connected(stream, peer).await;
                        drop(held);
                    });
                }
                Err(cut) if self.door.load().tls.is_none() => {
                    tokio::spawn(admission.clone().say_farewell(stream, cut));
                }
                Err(_) => {}
            }
        }
    }

    async fn connected(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let tls = self.door.load().tls.clone();
        match tls {
            None => self.converse(stream, peer).await,
            Some(config) => {
                let accepting = TlsAcceptor::from(config).accept(stream);
                if let Ok(Ok(stream)) = timeout(HANDSHAKE, accepting).await {
                    self.converse(stream, peer).await;
                }
            }
        }
    }

    async fn converse<S>(self: Arc<Self>, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(peer, request).await) }
        });
        // Its own bound on heads, and so on idle time: half a minute.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}
