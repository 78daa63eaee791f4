//! How do MQTT's bytes travel in a WebSocket (MQTT 5.0 section 6)? In binary messages, which need
//! not be aligned with packets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The bytes within a WebSocket's frames. Pings and close frames are answered.
#[derive(Debug)]
pub(super) struct InFrames<S> {
    socket: WebSocketStream<S>,
    /// What of a message was not read yet.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> InFrames<S> {
    /// With a client, whose frames may hold so many bytes.
    pub(super) async fn with_client(stream: S, most: usize) -> Self {
        Self::new(stream, Role::Server, most).await
    }

    /// With an upstream.
    pub(super) async fn with_upstream(stream: S) -> Self {
        Self::new(stream, Role::Client, MOST_FROM_UPSTREAM).await
    }

    async fn new(stream: S, role: Role, most: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        Self {
            socket: WebSocketStream::from_raw_socket(stream, role, Some(config)).await,
            rest: Bytes::new(),
        }
    }
}

const READ_BUFFER: usize = 1024;
/// The most that waits to be written, in bytes.
const WRITE_BUFFER: usize = 256 * 1024;
/// The largest packet that there is, in bytes.
const MOST_FROM_UPSTREAM: usize = 256 * 1024 * 1024;
/// The most that is put into one frame, in bytes.
const MOST_WRITTEN: usize = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for InFrames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            let next = ready!(Pin::new(&mut this.socket).poll_next(context));
            match next {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                // MQTT-6.0.0-1: whoever gets text closes.
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(broken())),
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(this.rest.get(..count).unwrap_or_default());
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for InFrames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.get_mut().socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(failed)?;
        let bytes = bytes.get(..MOST_WRITTEN).unwrap_or(bytes);
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        socket.start_send(message).map_err(failed)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.get_mut().socket);
        socket.poll_flush(context).map_err(failed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.get_mut().socket);
        match ready!(socket.poll_close(context)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn failed(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        _ => broken(),
    }
}
