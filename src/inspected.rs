//! Who looks at what a peer sends before it is parsed? An inspector, on the way; writes pass
//! untouched.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Looks at bytes as they are read.
pub trait Inspect {
    /// Judges fresh bytes, which it may change. Nothing if the stream may go on; else how many of
    /// them are still read, after which the stream has ended.
    ///
    /// # Errors
    /// What reading then fails with.
    fn inspect(&mut self, fresh: &mut [u8]) -> io::Result<Option<usize>>;
}

/// A stream and who looks at what comes over it.
#[derive(Debug)]
pub struct Inspected<S, I> {
    stream: S,
    inspector: I,
    has_ended: bool,
}

impl<S, I> Inspected<S, I> {
    /// Everything that is read is inspected first.
    #[must_use]
    pub const fn new(stream: S, inspector: I) -> Self {
        Self {
            stream,
            inspector,
            has_ended: false,
        }
    }

    /// The stream itself, once it speaks something that is not to be inspected.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin, I: Inspect + Unpin> AsyncRead for Inspected<S, I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let fresh = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        let length = fresh.len();
        if let Some(kept) = this.inspector.inspect(fresh)? {
            this.has_ended = true;
            buffer.set_filled(before + kept.min(length));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Inspected<S, I> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
