//! What would CONNECT of MQTT get with this token, and why?

use http::header::AUTHORIZATION;
use http::{Method, request};

use super::explain::{Entrance, judge, line, possessions};
use super::say;
use crate::credential::{self, Credential, Location};
use crate::mqtt::forecast::{Forecast, codes, foresee};
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::route::path::CanonicalPath;
use crate::route::policy::{self, Policy};
use crate::snapshot::Snapshot;

/// As a session begins: the token stands in CONNECT, unless the WebSocket's request has one in its
/// query.
pub(super) fn walk(
    snapshot: &Snapshot,
    route: &Route,
    entrance: Entrance<'_>,
    (head, path): (&request::Parts, &CanonicalPath<'_>),
) -> Result<(), Refusal> {
    if head.method != Method::GET {
        return Err(Reason::MalformedRequest.into());
    }
    let judged = judge_connect(snapshot, route, entrance.client_id, (head, path));
    let [before_5, since_5] = codes(judged.as_ref().err().map(|refusal| refusal.reason));
    line("CONNACK", format_args!("{before_5}, in 5.0 {since_5:#04x}"));
    let Forecast { allowed, username } = judged?;
    line(
        "client id",
        list(allowed.client_id.as_deref(), "any", "none"),
    );
    if allowed.is_name_subject {
        line("user name", "the token's subject");
    }
    let everywhere = |filters| list(filters, "everywhere", "nowhere");
    line("publishes", everywhere(allowed.publish.as_deref()));
    line("subscribes", everywhere(allowed.subscribe.as_deref()));
    let upstream = route
        .upstream
        .and_then(|place| snapshot.upstreams.get(place));
    let upstream = upstream.ok_or(Reason::Internal)?;
    line("upstream", &upstream.name);
    match username {
        Some(name) => line("gets", format_args!("CONNECT of {name} with password ***")),
        None => line("gets", "CONNECT without the token"),
    }
    say("passes, if the broker takes it");
    Ok(())
}

fn judge_connect(
    snapshot: &Snapshot,
    route: &Route,
    client_id: Option<&str>,
    (head, path): (&request::Parts, &CanonicalPath<'_>),
) -> Result<Forecast, Refusal> {
    let mut request = head.clone();
    let held = request.headers.remove(AUTHORIZATION);
    let held = held.as_ref().and_then(|value| value.to_str().ok());
    let token = held.and_then(|value| value.strip_prefix("Bearer "));
    let presented = credential::find(&request, &route.token);
    let (credential, location) = match (presented.credential, token) {
        (Err(Reason::MissingCredential), Some(token)) => {
            (Ok(Credential::Token(token.into())), Location::Connect)
        }
        (credential, _) => (credential, presented.location),
    };
    line("credential", location.label());
    let principal = judge(snapshot, credential?)?;
    if let Policy::Token(demands) = &route.policy {
        line("has", possessions(&principal, demands));
    }
    let permit = policy::authorize(&route.policy, Some(principal.into()), path)?;
    let principal = permit.principal().ok_or(Reason::MissingCredential)?;
    // How many sessions there are is known to the running gate alone.
    let circumstances = (true, snapshot.tokens.sealer.as_ref());
    foresee(route, principal, client_id, circumstances)
}

fn list(texts: Option<&[String]>, any: &str, none: &str) -> String {
    match texts {
        None => any.to_owned(),
        Some([]) => none.to_owned(),
        Some(texts) => texts.join(", "),
    }
}
