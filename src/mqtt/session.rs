//! How does a session begin, and how does it end? CONNECT is read and judged before an upstream
//! hears of it.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Uri};

use super::answer;
use super::connect::Connect;
use super::reach::{Opened, Reached};
use super::receive::{Missing, Received, Wire, part, receive};
use super::rules::{Denied, Topics};
use super::run::Session;
use super::subjects::Place;
use super::upgrade::Handshake;
use crate::answer::request_id;
use crate::clock;
use crate::credential::Location;
use crate::gate::Gate;
use crate::patient::Patient;
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::route::path::CanonicalPath;
use crate::route::policy::{self, Permit};
use crate::rules::Rules;
use crate::server::guard::ExchangeGuard;
use crate::server::peer::Peer;
use crate::stream::Stream;
use crate::telemetry::exchange::Exchange;
use crate::token::revocation;
use crate::token::verify::VerifiedToken;
use crate::upstream::credential::pair;
use crate::upstream::tunnel::{End, Rights};

/// Where a plain connection came in.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The host that was asked for by SNI; empty without one.
    pub(crate) host: String,
    /// The path that the listener stands for.
    pub(crate) path: Uri,
}

/// Who came, and where to.
pub(super) struct Guest {
    pub(super) gate: Rc<Gate>,
    pub(super) rules: Rc<Rules>,
    pub(super) route: Arc<Route>,
    pub(super) exchange: Exchange,
    /// What the upgrade request was permitted by, where it had a token.
    pub(super) permit: Option<Permit>,
    /// The path by which the route was found.
    pub(super) path: Uri,
    /// How the upstream's WebSocket is asked for, where it speaks one.
    pub(super) handshake: Option<Box<Handshake>>,
}

/// Who was let in, with what.
struct Admitted {
    principal: Rc<VerifiedToken>,
    permit: Permit,
    topics: Option<Topics>,
    place: Place,
}

impl Gate {
    /// Serves MQTT on a connection of its own. Why there was no CONNECT, if there was none.
    pub(crate) async fn serve_mqtt(
        self: Rc<Self>,
        peer: Rc<Peer>,
        entry: Entry,
        mut stream: Patient<Stream>,
        connection: ExchangeGuard,
    ) -> Option<Missing> {
        let rules = self.rules();
        let limits = &rules.snapshot.limits.mqtt;
        let received = match receive(&mut stream, limits, connection.drained()).await {
            Ok(received) => received,
            Err(missing) => {
                missing.tell(&mut stream).await;
                return Some(missing);
            }
        };
        let mut exchange = Exchange::start(
            Method::CONNECT,
            entry.path.clone(),
            peer.address,
            request_id(&HeaderMap::new()),
            rules.snapshot.access_sample,
        );
        if let Some(tracing) = &rules.snapshot.tracing {
            let trace = tracing.begin(&HeaderMap::new(), false, &self.shared.spans);
            exchange.traced(trace);
        }
        let path = CanonicalPath::parse(entry.path.path()).ok();
        let find = |path| {
            let found = rules.snapshot.routes.find(&entry.host, &path, &Method::GET);
            found.ok().filter(|route| route.mqtt.is_some())
        };
        let Some(route) = path.and_then(find).map(Arc::clone) else {
            let nowhere = &rules.nowhere;
            exchange.routed(&nowhere.metrics, &nowhere.name);
            let refusal = Refusal::from(Reason::RouteNotFound);
            exchange.refused(&refusal);
            exchange.answered(refusal.reason.status());
            let connect = &received.connect;
            let answer = answer::refuse(connect.version(), refusal.reason, connect.wish());
            part(&mut stream, &answer).await;
            return None;
        };
        let label = rules.label(&route);
        exchange.routed(&label.metrics, &label.name);
        let guest = Guest {
            gate: self,
            rules,
            route,
            exchange,
            permit: None,
            path: entry.path,
            handshake: None,
        };
        let stall = stream.stall().clone();
        let is_stalled = move || stall.come().is_some();
        guest.attend(stream, received, connection, is_stalled).await;
        None
    }
}

impl Guest {
    /// Judges CONNECT and holds the session to its end.
    pub(super) async fn attend(
        mut self,
        mut stream: impl Wire,
        received: Received,
        connection: ExchangeGuard,
        is_stalled: impl Fn() -> bool,
    ) {
        let Received { connect, rest } = received;
        let (version, wish) = (connect.version(), connect.wish());
        self.exchange
            .connected(version.label(), connect.client_id());
        let outcome = match self.admit(&connect).await {
            Err(refusal) => Err(refusal),
            Ok(admitted) => {
                let opened = Box::pin(self.open(&connect, &admitted)).await;
                let opened = opened.and_then(|upstream| {
                    self.is_still_good(&admitted.principal)?;
                    Ok(upstream)
                });
                opened.map(|upstream| (admitted, upstream))
            }
        };
        // What lasts as long as the session holds neither its token nor the rules of its beginning.
        drop(connect);
        let Self {
            gate,
            rules,
            route,
            mut exchange,
            ..
        } = self;
        let name = Arc::clone(&route.name);
        let limits = &rules.snapshot.limits.mqtt;
        let most = usize::try_from(limits.packet_size.0).unwrap_or(usize::MAX);
        drop((rules, route));
        let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
        gate.metrics().mqtt_connect(&name, version.label(), refused);
        let (admitted, upstream) = match outcome {
            Ok(ready) => ready,
            Err(refusal) => {
                exchange.refused(&refusal);
                exchange.answered(refusal.reason.status());
                let answer = answer::refuse(version, refusal.reason, wish);
                return part(&mut stream, &answer).await;
            }
        };
        exchange.answered(StatusCode::SWITCHING_PROTOCOLS);
        let open = exchange.tunnelled();
        let (principal, place) = (admitted.principal, admitted.place);
        let session = Session {
            version,
            wish,
            rest,
            connack: upstream.connack,
            most,
            topics: admitted.topics,
            rights: Rights {
                lifetime: Some(principal.time_left()),
                revoked: revocation::watch(Arc::clone(&gate.shared.revocations), Some(principal)),
            },
        };
        let tell = |denied: Denied| gate.metrics().mqtt_denied(&name, denied.label());
        let running = session.run(stream, upstream.stream, connection.drained(), tell);
        let (end, [up, down]) = Box::pin(running).await;
        let is_closed = end == End::Closed;
        let end = if is_closed && is_stalled() {
            End::Stalled
        } else {
            end
        };
        exchange.carried(up, down);
        exchange.tunnel_ended(end);
        drop((open, upstream.kept, place));
    }

    /// Who it is, whether it may, and as which client.
    async fn admit(&mut self, connect: &Connect) -> Result<Admitted, Refusal> {
        if self.gate.is_out_of_memory() {
            return Err(Reason::Overloaded.into());
        }
        let permit = match self.permit.take() {
            Some(permit) => permit,
            None => self.authenticate(connect).await?,
        };
        let principal = permit.principal().map(Rc::clone);
        let principal = principal.ok_or(Reason::MissingCredential)?;
        self.is_still_good(&principal)?;
        let rules = self.route.mqtt.as_ref().ok_or(Reason::RouteNotFound)?;
        let topics = rules.judge(connect, &principal)?;
        let most = self.rules.snapshot.limits.mqtt.sessions_per_subject;
        let place = self.gate.shared.subjects.take(principal.subject(), most);
        Ok(Admitted {
            place: place.ok_or(Reason::TooManySessions)?,
            principal,
            permit,
            topics,
        })
    }

    /// A token was judged some time ago, be it that CONNECT or its answer was waited for. One that
    /// counts only by its leeway begins no session.
    fn is_still_good(&self, principal: &VerifiedToken) -> Result<(), Refusal> {
        if principal.time_left().is_zero() {
            return Err(Reason::Expired.into());
        }
        match self.gate.shared.revocations.hit(principal) {
            true => Err(Reason::Revoked.into()),
            false => Ok(()),
        }
    }

    /// Judges the token in CONNECT's password as any other.
    async fn authenticate(&mut self, connect: &Connect) -> Result<Permit, Refusal> {
        let token = match connect.password() {
            None | Some([]) => Err(Reason::MissingCredential),
            Some(password) => str::from_utf8(password).map_err(|_| Reason::MalformedToken),
        };
        let location = match token {
            Err(Reason::MissingCredential) => Location::Nowhere,
            _ => Location::Connect,
        };
        let principal = match token {
            Ok(token) => self.gate.authenticate_token(&self.rules, token).await,
            Err(reason) => Err(reason.into()),
        };
        if let Some(metrics) = self.exchange.route_metrics() {
            let refused = principal.as_ref().err().map(|refusal| refusal.reason);
            metrics.authenticated(location, refused);
        }
        let principal = principal?;
        self.exchange.authenticated(Rc::clone(&principal));
        let path = CanonicalPath::parse(self.path.path())?;
        let permit = policy::authorize(&self.route.policy, Some(principal), &path);
        if let Some(metrics) = self.exchange.route_metrics() {
            metrics.authorized(permit.as_ref().err().map(|refusal| refusal.reason));
        }
        permit
    }

    /// A CONNECT that goes on as it came, since the token stood in the upgrade request, may have a
    /// password of the upstream's, but no token besides: that would reach the upstream.
    async fn refuse_token(&self, connect: &Connect) -> Result<(), Reason> {
        let password = connect.password().unwrap_or_default();
        let Ok(password) = str::from_utf8(password) else {
            return Ok(());
        };
        match self.gate.authenticate_token(&self.rules, password).await {
            Ok(_) => Err(Reason::SeveralCredentials),
            Err(_) => Ok(()),
        }
    }

    /// Asks the upstream, with its own credentials, and waits for its CONNACK.
    async fn open(&mut self, connect: &Connect, admitted: &Admitted) -> Result<Reached, Refusal> {
        let rules = Rc::clone(&self.rules);
        let sealer = rules.snapshot.tokens.sealer.as_ref();
        let credential = &self.route.credential;
        let header = credential.header(Some(&admitted.principal), sealer)?;
        let is_in_connect = self
            .handshake
            .as_ref()
            .is_none_or(|handshake| !handshake.had_token);
        let too_long = || Refusal::from(Reason::NoUpstreamCredential);
        let replaced = match &header {
            Some((_, value)) => {
                let (username, password) = pair(value).ok_or_else(too_long)?;
                let packet = connect.with_credentials(Some((&username, password.as_bytes())));
                Some(packet.ok_or_else(too_long)?)
            }
            None if is_in_connect => Some(connect.with_credentials(None).ok_or_else(too_long)?),
            None => {
                self.refuse_token(connect).await?;
                None
            }
        };
        let packet = replaced
            .as_ref()
            .map_or(connect.as_bytes(), |packet| packet);
        let upstream = rules.upstream(&self.route)?;
        self.exchange.forwarded(upstream.label());
        let sent = clock::now();
        let opened = match self.handshake.take() {
            None => upstream.line(sent).await.map(Opened::plain),
            Some(handshake) => {
                let asked = (&*self.route, &admitted.permit, sealer);
                handshake.ask(upstream, asked, &self.exchange).await
            }
        };
        let reached = match opened {
            Ok(opened) => {
                let is_gates = header.is_some();
                opened
                    .begin(upstream, packet, (connect.version(), is_gates))
                    .await
            }
            Err(refusal) => Err(refusal),
        };
        let answered = clock::now();
        let waited = answered.saturating_duration_since(sent);
        self.exchange.waited(waited, answered);
        if reached.is_ok() {
            upstream
                .metrics
                .answered(StatusCode::SWITCHING_PROTOCOLS, waited);
        }
        reached
    }
}
