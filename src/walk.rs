//! How does a walk through the gate end? The answer gets its last headers and the exchange goes
//! with its body.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, request};
use hyper::upgrade::OnUpgrade;
use tokio::task::spawn_local;

use crate::answer::{self, Voice};
use crate::body::{GateBody, Kept};
use crate::cors::{self, Cors};
use crate::dialect::CrossOrigin;
use crate::forward_auth::Question;
use crate::mqtt::Pending;
use crate::refusal::Refusal;
use crate::route::Route;
use crate::rules::{Label, Rules};
use crate::snapshot::Shared;
use crate::telemetry::exchange::Exchange;
use crate::token::revocation;
use crate::token::verify::VerifiedToken;
use crate::upstream::body::ResponseBody;
use crate::upstream::translate::X_REQUEST_ID;
use crate::upstream::{respond, tunnel};

/// What the walk has found out so far; a refusal needs it to find its form.
pub(crate) struct Walk {
    pub(crate) exchange: Exchange,
    pub(crate) voice: Voice,
    /// Whether the URL held a token.
    pub(crate) is_token_in_query: bool,
    /// Whether a browser's session asks.
    pub(crate) is_session: bool,
    /// Whose page asks, if one does.
    pub(crate) origin: Option<HeaderValue>,
    /// Which other sites' pages may call, where the dialect does not decide.
    pub(crate) cors: Option<Arc<Cors>>,
    /// Where a browser is sent that asks for a page without a good credential, and whether that is
    /// the gate's own page.
    pub(crate) login_page: Option<(HeaderValue, bool)>,
    /// What another proxy asks; the walk is then that of the request which it asks about.
    pub(crate) question: Option<Question>,
}

/// An answer, before it is given to the client.
pub(crate) enum Answer {
    /// The gate's own.
    Own(Response<Bytes>),
    /// The upstream's.
    Upstream(Response<ResponseBody>),
    /// The upstream agreed to a WebSocket; the exchange goes on in its tunnel.
    Tunnel(Response<ResponseBody>, OnUpgrade, Option<Rc<VerifiedToken>>),
    /// The gate agreed to a WebSocket, in which MQTT is to be spoken.
    Mqtt(Response<Bytes>, Box<Pending>),
}

impl Walk {
    /// It takes a route or an endpoint.
    pub(crate) fn takes(&mut self, label: &Label, voice: Voice) {
        self.exchange.routed(&label.metrics, &label.name);
        self.cors.clone_from(&label.cors);
        if let Voice::Endpoint(dialect, _) = voice {
            self.exchange.spoken(dialect.name());
        }
        self.voice = voice;
    }

    /// The answer to a preflight, where pages may call.
    pub(crate) fn allow(&self, head: &request::Parts) -> Option<Answer> {
        let is_anybodys = || self.voice.cross_origin() == CrossOrigin::Any;
        let own = match &self.cors {
            Some(cors) => Some(cors.preflight(head)),
            None => is_anybodys().then(|| cors::preflight(head)),
        };
        own.map(Answer::Own)
    }

    /// The answer to a preflight on a route that takes the method it asks about.
    pub(crate) fn preflight(
        &mut self,
        head: &request::Parts,
        label: &Label,
        route: &Route,
    ) -> Option<Answer> {
        let voice = Voice::Route(route.dialect);
        if route.cors.is_none() && voice.cross_origin() == CrossOrigin::None {
            return None;
        }
        self.takes(label, voice);
        self.allow(head)
    }

    /// Gives the answer its last headers and the client its response.
    pub(crate) fn end(
        mut self,
        outcome: Result<Answer, Refusal>,
        rules: &Rules,
        kept: Kept,
        shared: &Arc<Shared>,
    ) -> Response<GateBody> {
        let answer = outcome.unwrap_or_else(|mut refusal| {
            if self.exchange.route_metrics().is_none() {
                let Label { metrics, name, .. } = &rules.nowhere;
                self.exchange.routed(metrics, name);
            }
            self.exchange.refused(&refusal);
            let is_unknown = refusal.reason.status() == StatusCode::UNAUTHORIZED;
            match self.login_page.take() {
                Some((page, _)) if is_unknown => Answer::Own(answer::redirect(page)),
                Some((page, true)) => {
                    refusal.page = page.to_str().ok().map(|page| answer::page(&refusal, page));
                    Answer::Own(self.voice.refuse(&refusal))
                }
                _ => Answer::Own(self.voice.refuse(&refusal)),
            }
        });
        let mut response = match answer {
            Answer::Own(mut response) => {
                if let Some(question) = &self.question {
                    question.adapt(&mut response);
                }
                respond::hush_own(response.headers_mut());
                response.map(GateBody::own)
            }
            Answer::Upstream(mut response) => {
                if self.is_session {
                    respond::keep_private(response.headers_mut());
                }
                if self.cors.is_some() {
                    cors::strip(response.headers_mut());
                }
                response.map(GateBody::upstream)
            }
            Answer::Tunnel(response, downstream, principal) => {
                return self.end_in_tunnel(response, (downstream, principal), kept, shared);
            }
            Answer::Mqtt(response, pending) => {
                let mut response = response.map(GateBody::own);
                self.finish_headers(response.headers_mut());
                self.exchange.answered(response.status());
                pending.begin(self.exchange, kept);
                return response;
            }
        };
        self.finish_headers(response.headers_mut());
        self.exchange.answered(response.status());
        response.body_mut().carry(self.exchange, kept);
        response
    }

    fn finish_headers(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, self.exchange.request_id().clone());
        if self.is_token_in_query {
            respond::hush(headers);
        }
        match &self.cors {
            Some(cors) => cors.allow(headers, self.origin.as_ref()),
            None if self.origin.is_some() && self.voice.cross_origin() == CrossOrigin::Any => {
                cors::allow(headers);
            }
            None => {}
        }
    }

    fn end_in_tunnel(
        mut self,
        mut response: Response<ResponseBody>,
        (downstream, principal): (OnUpgrade, Option<Rc<VerifiedToken>>),
        kept: Kept,
        shared: &Arc<Shared>,
    ) -> Response<GateBody> {
        let upstream = hyper::upgrade::on(&mut response);
        let (mut head, place) = response.into_parts();
        if self.cors.is_some() {
            cors::strip(&mut head.headers);
        }
        let mut response = Response::from_parts(head, GateBody::own(Bytes::new()));
        self.finish_headers(response.headers_mut());
        self.exchange.answered(response.status());
        let mut exchange = self.exchange;
        let shared = Arc::clone(shared);
        spawn_local(async move {
            let drained = kept.connection.drained();
            let _open = (exchange.tunnelled(), kept, place);
            let rights = tunnel::Rights {
                lifetime: principal.as_ref().map(|principal| principal.time_left()),
                revoked: revocation::watch(Arc::clone(&shared.revocations), principal),
            };
            let end = tunnel::join(downstream, upstream, rights, drained).await;
            exchange.tunnel_ended(end);
        });
        response
    }
}
