//! How long may a client not take what it is sent? Not longer than `limits.send_timeout`, and not
//! more slowly than `limits.min_download_rate`. Only time in which something waits for the client
//! counts.
//!
//! What the client took is seen by what the system's buffers took, which is in steps of some
//! kilobytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::clock;
use crate::pace::{Pace, Rate};

/// A stream whose writes fail, and say so to [`Stall`], if none of them gets on for too long, or
/// if they get on too slowly.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    limit: Duration,
    pace: Pace,
    stall: Stall,
    /// Since a write first had to wait; made only then.
    waiting: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    alarm: Pin<Box<Sleep>>,
    /// What the alarm means.
    cause: Stalled,
}

/// What a client did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// It took nothing for too long.
    Silent = 1,
    /// It took too little.
    Slow = 2,
}

/// Tells whoever asks later whether a stream ended since too little was taken: h2 hands no error
/// on.
#[derive(Clone, Debug, Default)]
pub struct Stall(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cause: AtomicU8,
    is_waiting: AtomicBool,
}

impl Stall {
    /// How it did, if it did.
    #[must_use]
    pub fn come(&self) -> Option<Stalled> {
        let cause = self.0.cause.load(Ordering::Relaxed);
        [Stalled::Silent, Stalled::Slow]
            .into_iter()
            .find(|known| *known as u8 == cause)
    }

    /// Whether a write waits for the client right now.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.0.is_waiting.load(Ordering::Relaxed)
    }
}

impl<S> Patient<S> {
    /// Waits for each write so long at most; for ever if that is no time. All together have to
    /// keep the rate.
    #[must_use]
    pub const fn new(stream: S, limit: Duration, rate: Rate, stall: Stall) -> Self {
        Self {
            stream,
            limit,
            pace: Pace::new(rate),
            stall,
            waiting: None,
        }
    }

    /// Where it is told that it ended.
    #[must_use]
    pub const fn stall(&self) -> &Stall {
        &self.stall
    }

    fn judge<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if let Some(wait) = self.waiting.take() {
                let waited = clock::now().saturating_duration_since(wait.since);
                // Its alarm is the judge: now the client has got on after all.
                let _ = self.pace.waited(waited);
                self.stall.0.is_waiting.store(false, Ordering::Relaxed);
            }
            return polled;
        }
        if self.waiting.is_none() {
            self.waiting = self.wait();
        }
        let Some(wait) = &mut self.waiting else {
            return polled;
        };
        wait.alarm.as_mut().poll(context).map(|()| {
            let cause = wait.cause as u8;
            self.stall.0.cause.store(cause, Ordering::Relaxed);
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// A wait begins, if there is an end to it.
    fn wait(&self) -> Option<Wait> {
        let whole = Some(self.limit).filter(|limit| !limit.is_zero());
        let (cause, within) = match (whole, self.pace.slack()) {
            (None, None) => return None,
            (Some(limit), Some(slack)) if slack < limit => (Stalled::Slow, slack),
            (None, Some(slack)) => (Stalled::Slow, slack),
            (Some(limit), _) => (Stalled::Silent, limit),
        };
        self.stall.0.is_waiting.store(true, Ordering::Relaxed);
        Some(Wait {
            since: clock::now(),
            alarm: Box::pin(sleep(within)),
            cause,
        })
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.pace.got_on(bytes as u64);
        }
        polled
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
        let polled = this.judge(polled, context);
        this.wrote(polled)
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
        let polled = this.judge(polled, context);
        this.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
