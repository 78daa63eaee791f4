//! What does the client get as a body? The gate's own bytes, or the upstream's as they come; with
//! it travels the exchange, which ends when the body does.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;
use crate::refusal::Reason;
use crate::server::guard::ExchangeGuard;
use crate::telemetry::exchange::Exchange;
use crate::upstream::body::{BodyError, ResponseBody, Upload};
use crate::upstream::leftover::drain;

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
    /// When a client that is still sending has to have sent more; made only once the upstream
    /// waits, too.
    hurry: Option<Pin<Box<Sleep>>>,
}

/// What must not end before the response does.
#[derive(Debug)]
pub struct Kept {
    /// The request's body.
    pub upload: Rc<Upload>,
    /// The client's connection.
    pub connection: ExchangeGuard,
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
            hurry: None,
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
            hurry: None,
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

    /// The upstream waits, and perhaps for what the client does not send.
    fn hurry_upload(&mut self, context: &mut Context<'_>) {
        let Some(kept) = &self.kept else {
            return;
        };
        while let Some(due) = kept.upload.due() {
            if due <= clock::now() {
                kept.upload.give_up();
                return;
            }
            let due = Instant::from_std(due);
            let hurry = self.hurry.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if hurry.deadline() != due {
                hurry.as_mut().reset(due);
            }
            if hurry.as_mut().poll(context).is_pending() {
                return;
            }
        }
    }

    /// What the client did, if it broke its upload: the upstream's answer breaks with it.
    fn clients_fault(&self) -> Option<Reason> {
        self.kept.as_ref()?.upload.fault()
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
        let clients_fault = self.clients_fault();
        let polled = match &mut self.source {
            // Polling the gate's own bytes cannot fail.
            Source::Own(body) => {
                return Pin::new(body)
                    .poll_frame(context)
                    .map_err(|never| match never {});
            }
            Source::Upstream(body) => {
                if clients_fault.is_some() {
                    body.excuse();
                }
                Pin::new(body).poll_frame(context)
            }
            Source::Broken(error) => return Poll::Ready(error.take().map(Err)),
        };
        match polled {
            Poll::Ready(Some(Err(error))) => {
                let reason = match (clients_fault, &error) {
                    (Some(reason), _) => reason,
                    (None, BodyError::Silent) => Reason::UpstreamTimeout,
                    (None, _) => Reason::UpstreamBroken,
                };
                return self.break_off(reason, error, context);
            }
            Poll::Ready(Some(Ok(ref frame))) => {
                if let Some(kept) = &self.kept {
                    kept.connection.gave(frame.data_ref().map_or(0, Bytes::len));
                    self.is_given = true;
                }
            }
            Poll::Pending => self.hurry_upload(context),
            Poll::Ready(None) => {}
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
