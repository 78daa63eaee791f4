//! How do bodies flow through? Frame by frame; nothing is collected.

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant as Deadline;

use super::connect::Upstream;
use super::lane::{Link, Turn};
use super::translate::guard_trailers;
use crate::clock;
use crate::pace::{Pace, Rate};
use crate::refusal::Reason;
use crate::route::OwnHeaders;
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
    pace: Cell<Pace>,
    /// Since when the client is waited for; not without a least rate.
    since: Cell<Option<Instant>>,
    /// Who waits.
    waiter: RefCell<Option<Waker>>,
    /// What must not come as a trailer, besides what never may.
    reserved: OnceCell<Arc<OwnHeaders>>,
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
    /// The client sent more slowly than it may.
    TooSlow,
    /// The upstream has to take, or to answer.
    Upstream,
}

impl Upload {
    /// Starts now. The client has to keep the rate.
    #[must_use]
    pub fn new(body: Incoming, now: Instant, rate: Rate) -> Rc<Self> {
        Self::start(Some(body), now, rate)
    }

    /// Of a request without a body.
    #[must_use]
    pub fn none(now: Instant) -> Rc<Self> {
        Self::start(None, now, Rate::NONE)
    }

    fn start(body: Option<Incoming>, now: Instant, rate: Rate) -> Rc<Self> {
        let (last, flow) = (Cell::new(now), Cell::new(Flow::Upstream));
        Rc::new(Self {
            body: RefCell::new(body),
            left: Cell::new(u64::MAX),
            last,
            flow,
            pace: Cell::new(Pace::new(rate)),
            since: Cell::new(None),
            waiter: RefCell::new(None),
            reserved: OnceCell::new(),
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

    /// From now on no trailer may come that could pass for one of these headers.
    pub(crate) fn reserve(&self, own: &Arc<OwnHeaders>) {
        let body = self.body.borrow();
        let may_come = body.as_ref().is_some_and(|body| !body.is_end_stream());
        if may_come && !own.is_empty() {
            let _ = self.reserved.set(Arc::clone(own));
        }
    }

    /// From now on the client has to keep another rate, in bytes per second.
    pub fn ask_rate(&self, bytes: u64) {
        let rate = self.pace.get().rate();
        self.pace.set(Pace::new(Rate { bytes, ..rate }));
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

    /// By when the client, which is waited for, has to have sent more to keep its rate.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        Some(self.since.get()? + self.pace.get().slack()?)
    }

    pub(super) fn has_pace(&self) -> bool {
        self.pace.get().slack().is_some()
    }

    /// The client is too slow: whoever takes the body gets an error instead of more.
    pub fn give_up(&self) {
        self.flow.set(Flow::TooSlow);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    fn judge(&self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Frame<Bytes>, BodyError> {
        let frame = frame?;
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let left = self.left.get().checked_sub(length);
        self.left.set(left.ok_or(BodyError::Excessive)?);
        self.keep_pace(length)?;
        Ok(guard_trailers(frame, self.reserved.get()))
    }

    /// Silence is told by an alarm, trickling here.
    fn keep_pace(&self, length: u64) -> Result<(), BodyError> {
        let Some(since) = self.since.take() else {
            return Ok(());
        };
        let mut pace = self.pace.get();
        let is_in_time = pace.waited(clock::now().saturating_duration_since(since));
        pace.got_on(length);
        self.pace.set(pace);
        if is_in_time {
            Ok(())
        } else {
            Err(BodyError::TooSlow)
        }
    }

    fn wait(&self, context: &Context<'_>) {
        if !self.has_pace() {
            return;
        }
        if self.since.get().is_none() {
            self.since.set(Some(clock::now()));
        }
        let mut waiter = self.waiter.borrow_mut();
        match waiter.as_mut() {
            Some(waiter) => waiter.clone_from(context.waker()),
            None => *waiter = Some(context.waker().clone()),
        }
    }

    /// What the client did, if it broke the upload.
    #[must_use]
    pub const fn fault(&self) -> Option<Reason> {
        match self.flow.get() {
            Flow::Broken => Some(Reason::MalformedRequest),
            Flow::Excessive => Some(Reason::BodyTooLarge),
            Flow::TooSlow => Some(Reason::UploadTooSlow),
            Flow::Downstream | Flow::Upstream => None,
        }
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
    /// It came more slowly than it may.
    #[error("the body came more slowly than limits.min_upload_rate")]
    TooSlow,
}

/// The body of a request, taken frame by frame from its [`Upload`].
#[derive(Debug)]
pub struct RequestBody(pub Rc<Upload>);

impl Drop for RequestBody {
    fn drop(&mut self) {
        // Nobody takes it any more.
        self.0.since.set(None);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let upload = &self.0;
        if upload.flow.get() == Flow::TooSlow {
            return Poll::Ready(Some(Err(BodyError::TooSlow)));
        }
        let mut body = upload.body.borrow_mut();
        let Some(body) = body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        let polled = polled.map(|frame| Some(upload.judge(frame?)));
        upload.flow.set(match &polled {
            Poll::Pending => Flow::Downstream,
            Poll::Ready(Some(Err(BodyError::Excessive))) => Flow::Excessive,
            Poll::Ready(Some(Err(BodyError::TooSlow))) => Flow::TooSlow,
            Poll::Ready(Some(Err(_))) => Flow::Broken,
            Poll::Ready(_) => Flow::Upstream,
        });
        if polled.is_ready() {
            upload.last.set(clock::now());
            upload.since.set(None);
        } else {
            upload.wait(context);
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

    /// It breaks off, which is not the upstream's fault.
    pub fn excuse(&mut self) {
        self.lease = None;
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
