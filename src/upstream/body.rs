//! How do bodies flow through? Frame by frame; nothing is collected.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::{Instant as Deadline, timeout};

use super::connect::Upstream;
use super::lane::{Link, Turn};
use crate::clock;
use crate::refusal::Reason;
use crate::telemetry::handles::UpstreamFault;

/// What a client sends as a body, and how far it has come; tells a slow client from a slow
/// upstream.
///
/// It lives until the response has ended: an HTTP/2 stream whose request is given up earlier is
/// reset, and the client would never see the response.
#[derive(Debug)]
pub struct Upload {
    body: RefCell<Option<Incoming>>,
    /// How many bytes may still come.
    left: Cell<u64>,
    last: Cell<Instant>,
    flow: Cell<Flow>,
}

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The client failed while it sent.
    Broken,
    /// The client has to send.
    Downstream,
    /// The client sent more than it may.
    Excessive,
    /// The upstream has to take, or to answer.
    Upstream,
}

impl Upload {
    /// Starts now; without a body, it is complete.
    #[must_use]
    pub fn new(body: Option<Incoming>, now: Instant) -> Rc<Self> {
        let (last, flow) = (Cell::new(now), Cell::new(Flow::Upstream));
        Rc::new(Self {
            body: RefCell::new(body),
            left: Cell::new(u64::MAX),
            last,
            flow,
        })
    }

    /// From now on no more than these bytes may come.
    ///
    /// # Errors
    /// [`Reason::BodyTooLarge`] if it is known already that more will.
    pub fn bound(&self, most: u64) -> Result<(), Reason> {
        self.left.set(most);
        let body = self.body.borrow();
        let is_larger = body
            .as_ref()
            .is_some_and(|body| body.size_hint().lower() > most);
        if is_larger {
            Err(Reason::BodyTooLarge)
        } else {
            Ok(())
        }
    }

    /// Whose fault it is that the exchange took too long.
    #[must_use]
    pub const fn overtime(&self) -> Reason {
        match self.flow.get() {
            Flow::Downstream => Reason::RequestTimeout,
            _ => Reason::UpstreamTimeout,
        }
    }

    /// When a byte last went through.
    #[must_use]
    pub const fn last(&self) -> Instant {
        self.last.get()
    }

    fn judge(&self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Frame<Bytes>, BodyError> {
        let frame = frame?;
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let left = self.left.get().checked_sub(length);
        self.left.set(left.ok_or(BodyError::Excessive)?);
        Ok(without_forgeable_trailers(frame))
    }

    /// Who is waited for.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.flow.get()
    }
}

/// Why a body ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It broke off on its way in.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// More came than the route takes.
    #[error("the body is larger than the route's body_size")]
    Excessive,
    /// The exchange took longer than it may.
    #[error("the exchange took longer than limits.request_time")]
    Overtime,
    /// The upstream kept silent for too long within it.
    #[error("no byte of the answer's body came within body_timeout")]
    Silent,
}

/// Reads what is left of a request's body when its response has ended, so that the connection can
/// go on: a client that is still sending would otherwise see a reset instead of the response.
/// Stops after 256 KiB or two seconds.
///
/// An upload that the upstream is still taking is left to it.
pub fn drain(upload: Rc<Upload>) {
    if Rc::strong_count(&upload) > 1 {
        return;
    }
    let body = RequestBody(upload);
    if body.is_end_stream() {
        return;
    }
    spawn_local(timeout(DRAIN_TIME, async move {
        let mut body = body;
        let mut left = MAX_DRAIN;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }));
}

const MAX_DRAIN: usize = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The body of a request, taken frame by frame from its [`Upload`].
#[derive(Debug)]
pub struct RequestBody(pub Rc<Upload>);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let upload = &self.0;
        let mut body = upload.body.borrow_mut();
        let Some(body) = body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        let polled = polled.map(|frame| Some(upload.judge(frame?)));
        upload.flow.set(match &polled {
            Poll::Pending => Flow::Downstream,
            Poll::Ready(Some(Err(BodyError::Excessive))) => Flow::Excessive,
            Poll::Ready(Some(Err(_))) => Flow::Broken,
            Poll::Ready(_) => Flow::Upstream,
        });
        if polled.is_ready() {
            upload.last.set(clock::now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .body
            .borrow()
            .as_ref()
            .is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .body
            .borrow()
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Trailers are headers to some back ends: what must not come as the one must not as the other.
fn without_forgeable_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            super::translate::remove_forgeable(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The body of an upstream's answer. Read to its end, it gives its connection back.
#[derive(Debug)]
pub struct ResponseBody {
    body: Incoming,
    lease: Option<Lease>,
    /// When a byte last came.
    last: Instant,
}

/// The connection of an answer, and its place at the upstream.
type Lease = (Link, Turn, Rc<Upstream>);

impl ResponseBody {
    pub(super) fn new(body: Incoming, status: StatusCode, lease: Lease) -> Self {
        let mut body = Self {
            body,
            lease: Some(lease),
            last: clock::recently(),
        };
        // What switched protocols goes on without a body, and keeps its place for as long.
        if body.body.is_end_stream() && status != StatusCode::SWITCHING_PROTOCOLS {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some((link, turn, upstream)) = self.lease.take() {
            turn.lane.keep(link, &upstream.spec);
        }
    }

    /// Whether the upstream has kept silent for too long; wakes whoever waits when it has.
    fn is_silent(&mut self, context: &mut Context<'_>) -> bool {
        let Some((link, _, upstream)) = &mut self.lease else {
            return false;
        };
        let limit = upstream.spec.config.body_timeout.0;
        if limit.is_zero() {
            return false;
        }
        let due = Deadline::from_std(self.last + limit);
        if link.alarm.deadline() > due {
            link.alarm.as_mut().reset(due);
        }
        while link.alarm.as_mut().poll(context).is_ready() {
            if due <= Deadline::now() {
                upstream.metrics.fault(UpstreamFault::BodyTimeout);
                return true;
            }
            link.alarm.as_mut().reset(due);
        }
        false
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending if self.is_silent(context) => {
                self.lease = None;
                return Poll::Ready(Some(Err(BodyError::Silent)));
            }
            Poll::Pending => {}
            Poll::Ready(Some(Err(_))) => {
                if let Some((_, turn, upstream)) = self.lease.take() {
                    upstream.metrics.fault(UpstreamFault::BrokenResponse);
                    upstream.failed(&turn.lane.member, clock::recently());
                }
            }
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) => {
                self.last = clock::recently();
                if self.body.is_end_stream() {
                    self.give_back();
                }
            }
        }
        polled.map_err(BodyError::Broken)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
