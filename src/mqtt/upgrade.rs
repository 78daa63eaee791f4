//! How does a session begin over a WebSocket? The gate agrees to it, and asks the upstream for one
//! only once CONNECT was judged.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::reach::{Kept as Held, Opened};
use super::receive::{Missing, receive};
use super::session::Guest;
use super::websocket::InFrames;
use crate::admit::Asked;
use crate::authority::authority;
use crate::body::Kept;
use crate::clock;
use crate::credential;
use crate::gate::Gate;
use crate::refusal::{Detail, Reason, Refusal};
use crate::route::Route;
use crate::route::policy::Permit;
use crate::rules::Rules;
use crate::server::peer::Peer;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::handles::UpstreamFault;
use crate::token::seal::Sealer;
use crate::upstream::Protocol;
use crate::upstream::body::{RequestBody, Upload};
use crate::upstream::connect::Upstream;
use crate::upstream::translate::{Facts, is_websocket, translate};
use crate::upstream::tunnel::{End, without_early_bytes};
use crate::walk::{Answer, Walk};

/// A WebSocket that was agreed to, in which CONNECT is to come.
pub(crate) struct Pending {
    gate: Rc<Gate>,
    rules: Rc<Rules>,
    route: Arc<Route>,
    peer: Rc<Peer>,
    head: request::Parts,
    permit: Option<Permit>,
    remaining_query: Option<String>,
    downstream: OnUpgrade,
}

/// What an upstream's WebSocket is asked for with.
pub(super) struct Handshake {
    peer: Rc<Peer>,
    head: request::Parts,
    remaining_query: Option<String>,
    /// Whether the upgrade request had the token.
    pub(super) had_token: bool,
    is_websocket: bool,
}

impl Gate {
    /// Agrees to a WebSocket in which MQTT is spoken. A token that the request has is judged at
    /// once; without one, CONNECT has to have it.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for a request that asks for something else; whatever keeps the
    /// token's holder out.
    pub(crate) async fn agree_to_mqtt(
        self: &Rc<Self>,
        rules: &Rc<Rules>,
        walk: &mut Walk,
        (peer, route): (&Rc<Peer>, &Arc<Route>),
        (asked, mut head): (Asked<'_>, request::Parts),
    ) -> Result<Answer, Refusal> {
        let (protocol, key) = wanted(&head).ok_or_else(|| {
            let text = "Only WebSockets with the subprotocol mqtt are served here.";
            Refusal::with_detail(Reason::MalformedRequest, Detail::Text(text))
        })?;
        let found = credential::find(&head, &route.token);
        let (permit, remaining_query) = match found.credential {
            Err(Reason::MissingCredential) => (None, found.remaining_query),
            _ => {
                let (permit, remaining) = self.admit(rules, walk, asked).await?;
                (Some(permit), remaining)
            }
        };
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| Reason::Internal)?);
        // What the client agreed upon with the gate is no affair of the upstream's.
        head.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        let offered = HeaderValue::from_static(protocol);
        head.headers.insert(SEC_WEBSOCKET_PROTOCOL, offered);
        let mut request = Request::from_parts(head, ());
        let downstream = hyper::upgrade::on(&mut request);
        let (head, ()) = request.into_parts();
        let pending = Pending {
            gate: Rc::clone(self),
            rules: Rc::clone(rules),
            route: Arc::clone(route),
            peer: Rc::clone(peer),
            head,
            permit,
            remaining_query,
            downstream,
        };
        Ok(Answer::Mqtt(response, Box::new(pending)))
    }
}

/// The subprotocol that is chosen and the key, if a request asks for a WebSocket of MQTT.
fn wanted(head: &request::Parts) -> Option<(&'static str, HeaderValue)> {
    let headers = &head.headers;
    let is_version = headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|value| value == "13");
    if !is_websocket(head) || !is_version {
        return None;
    }
    let offers = |protocol: &&&str| {
        let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut offered = texts.flat_map(|text| text.split(',')).map(str::trim);
        offered.any(|offered| offered == **protocol)
    };
    let protocol = SUBPROTOCOLS.iter().find(offers)?;
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    Some((protocol, key.clone()))
}

/// The subprotocol of 3.1.1 and 5.0 (MQTT 5.0 section 6), and that of 3.1, as brokers know it.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

impl Pending {
    /// Waits for CONNECT and holds the session, as a task of its own.
    pub(crate) fn begin(self: Box<Self>, exchange: Exchange, kept: Kept) {
        spawn_local(self.hold(exchange, kept));
    }

    async fn hold(self: Box<Self>, mut exchange: Exchange, kept: Kept) {
        let Ok(upgraded) = self.downstream.await else {
            return exchange.tunnel_ended(End::Closed);
        };
        let Some(stream) = without_early_bytes(upgraded) else {
            return exchange.tunnel_ended(End::Early);
        };
        let stall = stream.stall().clone();
        let limits = &self.rules.snapshot.limits.mqtt;
        let mut stream = InFrames::with_client(stream);
        let received = match receive(&mut stream, limits, kept.connection.drained()).await {
            Ok(received) => received,
            Err(missing) => {
                missing.tell(&mut stream).await;
                return match missing {
                    Missing::Gone => exchange.tunnel_ended(End::Closed),
                    Missing::Drained => exchange.tunnel_ended(End::Drained),
                    Missing::Late => exchange.refused(&Reason::RequestTimeout.into()),
                    Missing::TooLarge(_) => exchange.refused(&Reason::BodyTooLarge.into()),
                    Missing::Unfit(_) => exchange.refused(&Reason::MalformedRequest.into()),
                };
            }
        };
        let spoken = self.rules.upstream(&self.route).ok();
        let spoken = spoken.map(|upstream| upstream.spec.config.protocol);
        let path = self.head.uri.clone();
        let handshake = Handshake {
            had_token: self.permit.is_some(),
            peer: self.peer,
            head: self.head,
            remaining_query: self.remaining_query,
            is_websocket: spoken != Some(Protocol::Mqtt),
        };
        let guest = Guest {
            gate: self.gate,
            rules: self.rules,
            route: self.route,
            exchange,
            permit: self.permit,
            path,
            handshake: Some(Box::new(handshake)),
        };
        let is_stalled = move || stall.come().is_some();
        guest
            .attend(stream, received, kept.connection, is_stalled)
            .await;
    }
}

impl Handshake {
    /// Asks the upstream for a WebSocket, or for a plain connection if that is what it speaks.
    pub(super) async fn ask(
        self,
        upstream: &Rc<Upstream>,
        (route, permit, sealer): (&Route, &Permit, Option<&Sealer>),
        exchange: &Exchange,
    ) -> Result<Opened, Refusal> {
        let now = clock::now();
        if !self.is_websocket {
            return upstream.line(now).await.map(Opened::plain);
        }
        let (mut head, key) = (self.head, new_key()?);
        let place = head.clone();
        let authority = authority(&place)?;
        head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        let facts = Facts {
            client: (self.peer.address, &self.peer.text),
            scheme: self.peer.scheme,
            authority: authority.value(),
            is_in_host: authority.is_header(),
            request_id: exchange.request_id(),
            trace: exchange.trace(),
            remaining_query: self.remaining_query,
        };
        let upload = Upload::none(now);
        let body = RequestBody(Rc::clone(&upload));
        let outgoing = translate(permit, route, sealer, facts, head, body)?;
        let sending = upstream.send(outgoing.into_inner(), &upload, now, None);
        let mut response = sending.await?;
        let status = response.status();
        if route.refusal_signs.are_in(status, response.headers()) {
            upstream.metrics.refused();
            let cause = format!("the upstream answered {status} to the gate's credentials");
            return Err(Refusal::with_cause(
                Reason::UpstreamRefusedCredential,
                cause,
            ));
        }
        if status != StatusCode::SWITCHING_PROTOCOLS || !is_agreed(response.headers(), &key) {
            upstream.metrics.fault(UpstreamFault::Broken);
            let cause =
                format!("the upstream answered {status} and no WebSocket as it was asked for");
            return Err(Refusal::with_cause(Reason::UpstreamBroken, cause));
        }
        let upgraded = hyper::upgrade::on(&mut response).await;
        let upgraded =
            upgraded.map_err(|error| Refusal::with_cause(Reason::UpstreamBroken, error))?;
        let stream = InFrames::with_upstream(TokioIo::new(upgraded));
        Ok(Opened {
            stream: Box::new(stream),
            kept: Held::Other(Box::new(response)),
        })
    }
}

/// Whether the upstream agrees to just what it was asked (RFC 6455 section 4.1).
fn is_agreed(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let accept = derive_accept_key(key.as_bytes());
    headers
        .get(SEC_WEBSOCKET_ACCEPT)
        .is_some_and(|value| value.as_bytes() == accept.as_bytes())
        && !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS)
}

fn new_key() -> Result<HeaderValue, Refusal> {
    let mut bytes = [0; 16];
    let filled = aws_lc_rs::rand::fill(&mut bytes);
    filled.map_err(|_| Refusal::with_cause(Reason::Internal, "no random bytes"))?;
    let key = HeaderValue::try_from(STANDARD.encode(bytes));
    key.map_err(|_| Reason::Internal.into())
}
