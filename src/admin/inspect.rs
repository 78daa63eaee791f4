//! What would the gate do with this request and this token, and why? For people who wonder.
//!
//! The engine that serves is asked, with what this gate knows: its keys, its rules, what was taken
//! back. The token is in this request's body alone: it is not kept, logged or counted.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Uri, request};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::Admin;
use super::reply::{Reply, json, text};
use super::session::{self, SessionTold};
use super::told::{TokenTold, Wants, told, wants};
use crate::authority::{authority, host};
use crate::clock;
use crate::config::secret::Secret;
use crate::credential::{self, Credential};
use crate::dialect::Endpoint;
use crate::refusal::{Reason, Refusal};
use crate::route::path::CanonicalPath;
use crate::route::policy::{self, Policy};
use crate::route::{Route, TokenPlaces};
use crate::server::listener::Listener;
use crate::snapshot::{Shared, Snapshot};
use crate::token::verify::{VerifiedToken, verify_bearer};

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// Nothing, or empty: a request without one.
    #[serde(default, deserialize_with = "secret")]
    pub(super) token: Secret<String>,
    #[serde(default = "get")]
    method: String,
    /// Default: `localhost`.
    #[serde(default)]
    host: String,
    /// With a query, if there is one.
    path: String,
    /// The listener's name. Default: the first.
    #[serde(default)]
    listener: Option<String>,
    /// What CONNECT of MQTT calls its client. Default: whatever would do.
    #[serde(default)]
    pub(super) client_id: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

fn get() -> String {
    "GET".to_owned()
}

/// What would be done.
#[derive(Default, Serialize)]
pub(super) struct Answer {
    /// `passes`, `refused`, or `answered` by the gate itself.
    verdict: &'static str,
    /// The gate's own answer; nothing if the request passes.
    status: Option<u16>,
    /// Why it is refused, as in logs and metrics.
    reason: Option<&'static str>,
    /// The same in words.
    text: Option<&'static str>,
    /// Which endpoint of which dialect answers.
    endpoint: Option<String>,
    route: Option<RouteTold>,
    /// Where the request presents its credential.
    pub(super) credential: Option<&'static str>,
    token: Option<TokenTold>,
    /// Of a route of MQTT.
    pub(super) mqtt: Option<SessionTold>,
}

/// The route that the request takes.
#[derive(Serialize)]
struct RouteTold {
    name: String,
    upstream: String,
    is_public: bool,
    wants: Wants,
}

/// `POST /inspect`.
pub(super) async fn inspect(admin: &Admin, body: &Bytes) -> Reply {
    let Ok(question) = serde_json::from_slice::<Question>(body) else {
        let why =
            "expected a JSON object with path, and token, method, host, listener if need be\n";
        return text(StatusCode::BAD_REQUEST, why);
    };
    let wanted = question.listener.as_deref();
    let wanted = wanted.filter(|wanted| !wanted.is_empty());
    let mut listeners = admin.listeners.iter();
    let Some(listener) =
        listeners.find(|listener| wanted.is_none_or(|wanted| wanted == listener.name))
    else {
        let why = "there is no listener of this name\n";
        return text(StatusCode::BAD_REQUEST, why);
    };
    let head = match head(&question, listener) {
        Ok(head) => head,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let shared = &admin.shared;
    let snapshot = shared.current();
    // As a request with this token would.
    let bare = question.token.expose().trim();
    if let Err(Reason::KeysUnavailable | Reason::UnknownKey) =
        verify_bearer(bare, &snapshot.tokens, clock::unix_now())
    {
        snapshot.tokens.issuers.refreshed(bare).await;
    }
    let mut answer = Answer::default();
    let outcome = walk(shared, &snapshot, listener, (&question, &head), &mut answer);
    if !bare.is_empty() {
        answer.token = Some(told(shared, &snapshot, bare));
    }
    match outcome {
        Ok(verdict) => answer.verdict = verdict,
        Err(Refusal { reason, .. }) => {
            answer.verdict = "refused";
            answer.status = Some(reason.status().as_u16());
            answer.reason = Some(reason.label());
            answer.text = Some(reason.text());
            if let Some(session) = &mut answer.mqtt {
                session.refused(reason);
            }
        }
    }
    json(&answer)
}

/// The request as a client would send it.
fn head(question: &Question, listener: &Listener) -> Result<request::Parts, &'static str> {
    if let Some(path) = &listener.mqtt {
        let is_its = question.path.trim() == path.path() && question.method == get();
        if !is_its {
            return Err(
                "connections of MQTT name neither method nor path: ask with the listener's\n",
            );
        }
    }
    let method = question.method.trim().to_ascii_uppercase();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "this is no method\n")?;
    let target = question.path.trim().parse::<PathAndQuery>();
    let target = target.map_err(|_| "this is no path: it begins with a slash\n")?;
    let place = match question.host.trim() {
        "" => "localhost",
        place => place,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(Uri::from(target))
        .header(HOST, place);
    let token = question.token.expose().trim();
    if !token.is_empty() {
        let bearer = Zeroizing::new(format!("Bearer {token}"));
        let bearer = HeaderValue::from_str(&bearer);
        let mut bearer = bearer.map_err(|_| "this is no token: it cannot be sent\n")?;
        bearer.set_sensitive(true);
        request = request.header(AUTHORIZATION, bearer);
    }
    let request = request.body(()).map_err(|_| "this is no host\n")?;
    Ok(request.into_parts().0)
}

/// The path of a request, as the gate walks it.
fn walk(
    shared: &Shared,
    snapshot: &Snapshot,
    listener: &Listener,
    (question, head): (&Question, &request::Parts),
    answer: &mut Answer,
) -> Result<&'static str, Refusal> {
    let authority = authority(head)?;
    let is_mqtt = listener.mqtt.is_some();
    let host = match is_mqtt && question.host.trim().is_empty() {
        // Without SNI no host is asked for.
        true => Default::default(),
        false => host(authority.as_str()),
    };
    let path = CanonicalPath::parse(head.uri.path())?;
    let asker = listener.asker();
    if asker.is_none()
        && !is_mqtt
        && let Some((mount, endpoint)) = snapshot.mounts.find(&listener.name, &host, head)
        && (endpoint != Endpoint::About || is_stranger(shared, snapshot, head))
    {
        let name = mount.dialect.name();
        answer.endpoint = Some(format!("{endpoint:?} of the dialect {name}"));
        return Ok("answered");
    }
    let route = snapshot.routes.find(&host, &path, &head.method)?;
    if route.mqtt.is_none() && is_mqtt {
        return Err(Reason::RouteNotFound.into());
    }
    answer.route = Some(route_told(snapshot, route));
    if let Some(asker) = asker {
        asker.prepare(head, route)?;
        if route.mqtt.is_some() {
            return Err(Reason::RouteNotFound.into());
        }
    }
    if route.mqtt.is_some() {
        return session::walk(shared, snapshot, route, (question, head, &path), answer);
    }
    let presented = credential::find(head, &route.token);
    answer.credential = Some(presented.location.label());
    let principal = match &route.policy {
        Policy::Public => None,
        Policy::Token(_) => Some(judge(shared, snapshot, presented.credential)?),
    };
    let permit = policy::authorize(&route.policy, principal.map(Into::into), &path)?;
    let sealer = snapshot.tokens.sealer.as_ref();
    let principal = permit.principal().map(AsRef::as_ref);
    route.credential.header(principal, sealer)?;
    if asker.is_none() && route.upstream.is_none() {
        return Err(Reason::Internal.into());
    }
    Ok("passes")
}

fn route_told(snapshot: &Snapshot, route: &Route) -> RouteTold {
    let place = route.upstream;
    let upstream = place.and_then(|place| snapshot.upstreams.get(place));
    RouteTold {
        name: route.name.to_string(),
        upstream: upstream.map_or_else(String::new, |upstream| upstream.name.to_string()),
        is_public: route.policy == Policy::Public,
        wants: wants(&route.policy),
    }
}

/// Judges the token, as `Gate::authenticate` does.
pub(super) fn judge(
    shared: &Shared,
    snapshot: &Snapshot,
    credential: Result<Credential<'_>, Reason>,
) -> Result<VerifiedToken, Reason> {
    let now = clock::unix_now();
    match credential? {
        Credential::Token(token) => {
            if shared.health.is_too_stale(now) {
                return Err(Reason::StoreUnavailable);
            }
            let verified = verify_bearer(&token, &snapshot.tokens, now)?;
            match shared.revocations.hit(&verified) {
                true => Err(Reason::Revoked),
                false => Ok(verified),
            }
        }
        // They are in no header that is made here, and a ticket would be used up.
        Credential::Basic(_) | Credential::Session(_) => Err(Reason::BadCredentials),
        Credential::Ticket(_) => Err(Reason::BadTicket),
    }
}

/// Whether the gate would tell who asks what it tells to strangers.
fn is_stranger(shared: &Shared, snapshot: &Snapshot, head: &request::Parts) -> bool {
    let presented = credential::find(head, &TokenPlaces::default());
    match presented.credential {
        Ok(Credential::Token(_)) => judge(shared, snapshot, presented.credential).is_err(),
        Ok(Credential::Basic(_) | Credential::Session(_) | Credential::Ticket(_)) => false,
        Err(reason) => reason != Reason::SeveralCredentials,
    }
}
