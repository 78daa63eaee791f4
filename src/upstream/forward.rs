//! How does a request reach the upstream, and its answer come back?

use std::rc::Rc;
use std::time::Instant;

use http::{Request, Response};
use tokio::time::Instant as Deadline;

use super::body::{Flow, RequestBody, ResponseBody, Upload};
use super::connect::{Link, Upstream};
use crate::refusal::{Reason, Refusal};
use crate::telemetry::handles::UpstreamFault;

impl Upstream {
    /// Sends a request and waits for the head of the answer.
    ///
    /// A kept connection that died before a byte of the request was sent is replaced by another;
    /// nothing else is ever tried again, since some admin APIs run destructive commands as GET.
    ///
    /// # Errors
    /// [`Reason::UpstreamUnreachable`], [`Reason::UpstreamTimeout`], [`Reason::UpstreamBroken`];
    /// [`Reason::RequestTimeout`] or [`Reason::MalformedRequest`] if it was the client that
    /// stalled or broke off.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<RequestBody>,
        upload: &Upload,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Refusal> {
        loop {
            let kept = self.take_idle(now);
            let is_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => self.connect().await?,
            };
            match self.exchange(&mut link, request, upload).await {
                Ok(response) => {
                    let upstream = Rc::clone(self);
                    return Ok(response.map(|body| ResponseBody::new(body, link, upstream)));
                }
                Err((_, Some(unsent))) if is_kept => request = *unsent,
                Err((refusal, _)) => return Err(refusal),
            }
        }
    }

    /// One try on one connection; gives the request back if no byte of it was sent.
    async fn exchange(
        &self,
        link: &mut Link,
        request: Request<RequestBody>,
        upload: &Upload,
    ) -> Result<Response<hyper::body::Incoming>, (Refusal, Option<Box<Request<RequestBody>>>)> {
        let mut answer = std::pin::pin!(link.sender.try_send_request(request));
        let limit = self.spec.response_timeout;
        loop {
            tokio::select! {
                biased;
                outcome = &mut answer => {
                    return outcome.map_err(|mut error| {
                        let unsent = error.take_message().map(Box::new);
                        (self.broken(error.into_error(), upload), unsent)
                    });
                }
                () = link.alarm.as_mut() => {
                    let due = Deadline::from_std(upload.last() + limit);
                    if due <= Deadline::now() {
                        return Err((self.timed_out(upload), None));
                    }
                    link.alarm.as_mut().reset(due);
                }
            }
        }
    }

    fn broken(&self, error: hyper::Error, upload: &Upload) -> Refusal {
        if upload.flow() == Flow::Broken {
            return Refusal::with_cause(Reason::MalformedRequest, error);
        }
        self.metrics.fault(UpstreamFault::Broken);
        Refusal::with_cause(Reason::UpstreamBroken, error)
    }

    fn timed_out(&self, upload: &Upload) -> Refusal {
        if upload.flow() == Flow::Downstream {
            return Reason::RequestTimeout.into();
        }
        self.metrics.fault(UpstreamFault::ResponseTimeout);
        let limit = humantime::format_duration(self.spec.response_timeout);
        let cause = format!("no answer within response_timeout, {limit}");
        Refusal::with_cause(Reason::UpstreamTimeout, cause)
    }
}
