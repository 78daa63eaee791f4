//! What does the client get as a body? The gate's own bytes, or the upstream's as they come; with
//! it travels the exchange, which ends when the body does.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::refusal::Reason;
use crate::server::guard::ConnectionGuard;
use crate::telemetry::exchange::Exchange;
use crate::upstream::body::{BodyError, ResponseBody, Upload, drain};

/// The body of a response to a client.
#[derive(Debug)]
pub struct GateBody {
    source: Source,
    exchange: Option<Exchange>,
    kept: Option<Kept>,
    /// Whether the client has to take what it was given last.
    is_given: bool,
    /// When the exchange has to have ended.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What must not end before the response does.
#[derive(Debug)]
pub struct Kept {
    /// The request's body.
    pub upload: Rc<Upload>,
    /// The client's connection.
    pub connection: ConnectionGuard,
    /// When the exchange has to have ended.
    pub deadline: Option<Instant>,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Upstream(ResponseBody),
    /// The upstream's, which broke off.
    Broken(Option<BodyError>),
}

impl GateBody {
    /// The gate's own bytes.
    #[must_use]
    pub fn own(bytes: Bytes) -> Self {
        Self {
            source: Source::Own(Full::new(bytes)),
            exchange: None,
            kept: None,
            is_given: false,
            deadline: None,
        }
    }

    /// The upstream's, as they come.
    #[must_use]
    pub const fn upstream(body: ResponseBody) -> Self {
        Self {
            source: Source::Upstream(body),
            exchange: None,
            kept: None,
            is_given: false,
            deadline: None,
        }
    }

    fn break_off<T>(
        &mut self,
        reason: Reason,
        error: BodyError,
        context: &Context<'_>,
    ) -> Poll<Option<T>> {
        if let Some(exchange) = &mut self.exchange {
            exchange.broke_off(reason, error.to_string());
        }
        // What came before the break has to be sent before it is told.
        self.source = Source::Broken(Some(error));
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn was_taken(&mut self) {
        if let Some(kept) = self.kept.as_ref().filter(|_| self.is_given) {
            kept.connection.was_taken();
            self.is_given = false;
        }
    }

    /// From now on the exchange ends with this body.
    pub fn carry(&mut self, exchange: Exchange, kept: Kept) {
        let is_upstreams = matches!(self.source, Source::Upstream(_));
        let deadline = kept.deadline.filter(|_| is_upstreams);
        self.deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        self.exchange = Some(exchange);
        self.kept = Some(kept);
    }
}

impl Body for GateBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.was_taken();
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.deadline = None;
            return self.break_off(Reason::UpstreamTimeout, BodyError::Overtime, context);
        }
        let polled = match &mut self.source {
            // Polling the gate's own bytes cannot fail.
            Source::Own(body) => {
                return Pin::new(body)
                    .poll_frame(context)
                    .map_err(|never| match never {});
            }
            Source::Upstream(body) => Pin::new(body).poll_frame(context),
            Source::Broken(error) => return Poll::Ready(error.take().map(Err)),
        };
        match polled {
            Poll::Ready(Some(Err(error))) => {
                let reason = match error {
                    BodyError::Silent => Reason::UpstreamTimeout,
                    _ => Reason::UpstreamBroken,
                };
                return self.break_off(reason, error, context);
            }
            Poll::Ready(Some(Ok(_))) => {
                if let Some(kept) = &self.kept {
                    kept.connection.gave();
                    self.is_given = true;
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(body) => body.is_end_stream(),
            Source::Broken(error) => error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(body) => body.size_hint(),
            Source::Upstream(body) => body.size_hint(),
            Source::Broken(_) => SizeHint::default(),
        }
    }
}

impl Drop for GateBody {
    fn drop(&mut self) {
        self.was_taken();
        if let Some(kept) = self.kept.take() {
            drain(kept.upload);
        }
    }
}
