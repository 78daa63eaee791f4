//! Who moves a connection to an upstream on? Whoever waits for it: an exchange costs no task of
//! its own, nor one task's waking another.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::{Sleep, sleep};

use super::body::RequestBody;
use crate::stream::{BUFFER, Stream};

/// A connection on which one request may be sent.
pub(crate) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    /// Goes off when the upstream has to have answered, or before: it stays set from one exchange
    /// to the next, so that an exchange has no timer to make.
    pub(super) alarm: Pin<Box<Sleep>>,
    /// Nothing once it has ended or goes alone.
    connection: Option<Connection>,
    relay: Arc<Relay>,
    /// The relay again, as who polls the connection shows it.
    waker: Waker,
}

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>>>>;

impl Link {
    /// Speaks HTTP/1.1 over a stream.
    ///
    /// # Errors
    /// hyper's.
    pub(super) async fn open(stream: Stream, patience: Duration) -> Result<Self, hyper::Error> {
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        let relay = Arc::<Relay>::default();
        Ok(Self {
            sender,
            alarm: Box::pin(sleep(patience)),
            connection: Some(Box::pin(connection.with_upgrades())),
            waker: Waker::from(Arc::clone(&relay)),
            relay,
        })
    }

    /// Polls what waits for the connection, and moves the connection on, until that is ready or a
    /// socket has to be waited for.
    pub(super) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        mut waiting: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.connection.is_none() {
            return waiting(context);
        }
        self.relay.waker.register(context.waker());
        self.relay.is_heard.store(false, Ordering::Relaxed);
        // Only the connection wakes what waits for it, and that is polled after it anyway.
        let mut unheard = Context::from_waker(Waker::noop());
        let mut polled = waiting(&mut unheard);
        let mut gives_way = false;
        while polled.is_pending() {
            self.relay.take();
            self.move_on();
            gives_way |= self.relay.take();
            polled = waiting(&mut unheard);
            if !self.relay.take() {
                break;
            }
        }
        self.relay.is_heard.store(true, Ordering::Relaxed);
        if gives_way {
            context.waker().wake_by_ref();
        }
        polled
    }

    /// From now on the connection has a task of its own, and goes on though nobody waits for it.
    pub(super) fn go_alone(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Its errors reach whoever waits for the answer.
            spawn_local(connection);
        }
    }

    /// Sends a request, to be moved on by [`Self::poll`].
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<>
    {
        // Nobody has to be told of what the caller is about to poll.
        self.relay.is_heard.store(false, Ordering::Relaxed);
        self.sender.try_send_request(request)
    }

    /// Drops the answer that was read to its end, of which nobody has to be told either.
    pub(super) fn end<T>(&self, answer: T) {
        self.relay.is_heard.store(false, Ordering::Relaxed);
        drop(answer);
    }

    /// Whether another request may be sent, now that the answer to the last was read. `watcher` is
    /// woken instead of who has waited so far.
    pub(super) fn is_free(&mut self, watcher: &Waker) -> bool {
        self.relay.waker.register(watcher);
        if !self.sender.is_ready() {
            self.move_on();
        }
        self.relay.take();
        self.relay.is_heard.store(true, Ordering::Relaxed);
        self.sender.is_ready() || self.connection.is_none() && !self.sender.is_closed()
    }

    /// Whether it is closed, be it just now; else `watcher` is woken when that may have changed.
    pub(super) fn is_gone(&mut self, watcher: &Waker) -> bool {
        self.relay.waker.register(watcher);
        if self.relay.take() {
            self.move_on();
        }
        self.sender.is_closed()
    }

    fn move_on(&mut self) {
        if let Some(connection) = &mut self.connection {
            let mut context = Context::from_waker(&self.waker);
            if connection.as_mut().poll(&mut context).is_ready() {
                self.connection = None;
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").finish_non_exhaustive()
    }
}

/// What a connection wakes: whoever waits for it, unless they are polling it at this moment.
///
/// A worker's connections are polled and woken on its one thread.
#[derive(Debug, Default)]
struct Relay {
    waker: AtomicWaker,
    is_heard: AtomicBool,
    was_woken: AtomicBool,
}

impl Relay {
    /// Whether it was woken since it was last asked.
    fn take(&self) -> bool {
        let was_woken = self.was_woken.load(Ordering::Relaxed);
        self.was_woken.store(false, Ordering::Relaxed);
        was_woken
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.was_woken.store(true, Ordering::Relaxed);
        if self.is_heard.load(Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}
