//! How long may a client not take what it is sent? Not longer than `limits.send_timeout`.
//!
//! A client that takes a byte now and then is slow, not stalled, and is not ended here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose writes fail, and say so to [`Stall`], if none of them gets on for too long.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    limit: Duration,
    stall: Stall,
    /// Since a write first had to wait; made only then.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Tells whoever asks later whether a stream ended since nothing was taken: h2 hands no error on.
#[derive(Clone, Debug, Default)]
pub struct Stall(Arc<AtomicBool>);

impl Stall {
    /// Whether it did.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Patient<S> {
    /// Waits for each write so long at most; for ever if that is no time.
    #[must_use]
    pub const fn new(stream: S, limit: Duration, stall: Stall) -> Self {
        Self {
            stream,
            limit,
            stall,
            waiting: None,
        }
    }

    fn judge<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() || self.limit.is_zero() {
            self.waiting = None;
            return polled;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        let is_over = waiting.as_mut().poll(context);
        is_over.map(|()| {
            self.stall.0.store(true, Ordering::Relaxed);
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.judge(polled, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        this.judge(polled, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        this.judge(polled, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        this.judge(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
