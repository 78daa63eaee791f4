//! What does the client get as a body? The gate's own bytes, or the upstream's as they come; with
//! it travels the exchange, which ends when the body does.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::refusal::Reason;
use crate::server::guard::ConnectionGuard;
use crate::telemetry::exchange::Exchange;
use crate::upstream::body::{ResponseBody, Upload, drain};

/// The body of a response to a client.
#[derive(Debug)]
pub struct GateBody {
    source: Source,
    exchange: Option<Exchange>,
    kept: Option<Kept>,
}

/// What must not end before the response does.
#[derive(Debug)]
pub struct Kept {
    /// The request's body.
    pub upload: Rc<Upload>,
    /// The client's connection.
    pub connection: ConnectionGuard,
}

#[derive(Debug)]
enum Source {
    Own(Full<Bytes>),
    Upstream(ResponseBody),
    /// The upstream's, which broke off.
    Broken(Option<hyper::Error>),
}

impl GateBody {
    /// The gate's own bytes.
    #[must_use]
    pub fn own(bytes: Bytes) -> Self {
        Self {
            source: Source::Own(Full::new(bytes)),
            exchange: None,
            kept: None,
        }
    }

    /// The upstream's, as they come.
    #[must_use]
    pub const fn upstream(body: ResponseBody) -> Self {
        Self {
            source: Source::Upstream(body),
            exchange: None,
            kept: None,
        }
    }

    /// From now on the exchange ends with this body.
    pub fn carry(&mut self, exchange: Exchange, kept: Kept) {
        self.exchange = Some(exchange);
        self.kept = Some(kept);
    }
}

impl Body for GateBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = match &mut self.source {
            // Polling the gate's own bytes cannot fail.
            Source::Own(body) => {
                return Pin::new(body)
                    .poll_frame(context)
                    .map_err(|never| match never {});
            }
            Source::Upstream(body) => body,
            Source::Broken(error) => return Poll::Ready(error.take().map(Err)),
        };
        let polled = Pin::new(body).poll_frame(context);
        let Poll::Ready(Some(Err(error))) = polled else {
            return polled;
        };
        if let Some(exchange) = &mut self.exchange {
            exchange.broke_off(Reason::UpstreamBroken, error.to_string());
        }
        // What came before the break has to be sent before it is told.
        self.source = Source::Broken(Some(error));
        context.waker().wake_by_ref();
        Poll::Pending
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
        if let Some(kept) = self.kept.take() {
            drain(kept.upload);
        }
    }
}
