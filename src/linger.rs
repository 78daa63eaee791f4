//! How does a connection end whose client is still sending? It reads on for a while: bytes that
//! arrive at a closed socket reset the connection, and the answer with it (RFC 9112 section 9.6).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant as Deadline, Sleep, sleep};

use crate::clock;

/// Reads on and forgets what comes, until the client has ended, is quiet, or takes too long.
#[derive(Debug)]
pub struct Linger {
    limit: Duration,
    reading: Option<Box<Reading>>,
    outlasted: Outlasted,
}

/// Tells whoever asks later whether a client was still sending when its time was over.
#[derive(Clone, Debug, Default)]
pub struct Outlasted(Arc<AtomicBool>);

impl Outlasted {
    /// Whether it was.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Reading {
    until: Instant,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

/// After so long without a byte the answer has been seen, or never will be.
const QUIET: Duration = Duration::from_secs(5);

impl Linger {
    /// Reads on for so long at most; not at all if that is no time.
    #[must_use]
    pub const fn new(limit: Duration, outlasted: Outlasted) -> Self {
        Self {
            limit,
            reading: None,
            outlasted,
        }
    }

    /// Ends when the stream may be closed, whose writing half is shut already.
    pub fn poll<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.limit.is_zero() {
            return Poll::Ready(());
        }
        let limit = self.limit;
        let reading = self.reading.get_or_insert_with(|| {
            let now = clock::now();
            Box::new(Reading {
                until: now + limit,
                last: now,
                alarm: Box::pin(sleep(limit.min(QUIET))),
            })
        });
        let mut bytes = [0; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *stream).poll_read(context, &mut buffer);
            let is_sending = !buffer.filled().is_empty();
            match polled {
                Poll::Ready(Ok(())) if is_sending => reading.last = clock::now(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => ready!(reading.alarm.as_mut().poll(context)),
            }
            let now = clock::now();
            if reading.until <= now {
                self.outlasted.0.store(true, Ordering::Relaxed);
                return Poll::Ready(());
            }
            if !is_sending {
                let due = reading.until.min(reading.last + QUIET);
                if due <= now {
                    return Poll::Ready(());
                }
                reading.alarm.as_mut().reset(Deadline::from_std(due));
            }
        }
    }
}
