//! Who looks at what a peer sends before it is parsed? An inspector, on the way; it is told what is
//! written, too, which passes untouched.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::linger::Linger;

/// Looks at bytes as they are read.
pub trait Inspect {
    /// Judges fresh bytes, which it may change. Nothing if the stream may go on; else how many of
    /// them are still read, after which the stream has ended.
    ///
    /// # Errors
    /// What reading then fails with.
    fn inspect(&mut self, fresh: &mut [u8]) -> io::Result<Option<usize>>;

    /// These bytes were written.
    fn wrote(&mut self, _bytes: &[u8]) {}

    /// Whether the peer is in the middle of something, so that more has to be on its way.
    fn is_amid(&self) -> bool {
        false
    }
}

/// A stream and who looks at what comes over it.
#[derive(Debug)]
pub struct Inspected<S, I> {
    stream: S,
    inspector: I,
    has_ended: bool,
    is_shut: bool,
    linger: Linger,
}

impl<S, I> Inspected<S, I> {
    /// Everything that is read is inspected first. When it is shut while the peer is still
    /// sending, it lingers.
    #[must_use]
    pub const fn new(stream: S, inspector: I, linger: Linger) -> Self {
        Self {
            stream,
            inspector,
            has_ended: false,
            is_shut: false,
            linger,
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

impl<S: AsyncRead + AsyncWrite + Unpin, I: Inspect + Unpin> AsyncWrite for Inspected<S, I> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.inspector
            .wrote(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.is_shut = true;
        }
        if this.has_ended || this.inspector.is_amid() {
            ready!(this.linger.poll(&mut this.stream, context));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, buffers))?;
        let mut left = written;
        for buffer in buffers {
            let part = left.min(buffer.len());
            this.inspector.wrote(buffer.get(..part).unwrap_or_default());
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
