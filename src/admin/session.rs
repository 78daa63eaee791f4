//! What would CONNECT of MQTT get with this token, and why?

use http::{Method, request};
use serde::Serialize;

use super::inspect::{Answer, Question, judge};
use crate::credential::{self, Credential, Location};
use crate::mqtt::forecast::{Forecast, codes, foresee};
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::route::path::CanonicalPath;
use crate::route::policy;
use crate::snapshot::{Shared, Snapshot};

/// What is told of a session. Lists that are not there allow anything.
#[derive(Default, Serialize)]
pub(super) struct SessionTold {
    /// What the client identifier is to be.
    client_id: Option<Vec<String>>,
    /// Whether the user name must be the token's subject.
    username_is_subject: bool,
    /// The filters within which it may publish.
    publish: Option<Vec<String>>,
    /// The filters within which it may subscribe.
    subscribe: Option<Vec<String>>,
    connack: Codes,
}

/// The code in CONNACK; the broker has its own say after a 0.
#[derive(Default, Serialize)]
struct Codes {
    /// In 3.1 and 3.1.1.
    before_5: u8,
    /// In 5.0.
    since_5: u8,
}

impl SessionTold {
    /// It would not begin.
    pub(super) fn refused(&mut self, reason: Reason) {
        let [before_5, since_5] = codes(Some(reason));
        self.connack = Codes { before_5, since_5 };
    }
}

/// As a session begins: the token stands in CONNECT, unless the WebSocket's request has one in its
/// query.
pub(super) fn walk(
    shared: &Shared,
    snapshot: &Snapshot,
    route: &Route,
    (question, head, path): (&Question, &request::Parts, &CanonicalPath<'_>),
    answer: &mut Answer,
) -> Result<&'static str, Refusal> {
    if head.method != Method::GET {
        return Err(Reason::MalformedRequest.into());
    }
    answer.mqtt = Some(SessionTold::default());
    let mut bare = head.clone();
    bare.headers.clear();
    let mut presented = credential::find(&bare, &route.token);
    let token = question.token.expose().trim();
    if matches!(presented.credential, Err(Reason::MissingCredential)) && !token.is_empty() {
        presented.credential = Ok(Credential::Token(token.into()));
        presented.location = Location::Connect;
    }
    answer.credential = Some(presented.location.label());
    let principal = judge(shared, snapshot, presented.credential)?;
    let permit = policy::authorize(&route.policy, Some(principal.into()), path)?;
    let principal = permit.principal().ok_or(Reason::MissingCredential)?;
    let most = snapshot.limits.mqtt.sessions_per_subject;
    let has_room = shared.subjects.has_room(principal.subject(), most);
    let sealer = snapshot.tokens.sealer.as_ref();
    let client_id = question.client_id.as_deref();
    let Forecast { allowed, .. } = foresee(route, principal, client_id, (has_room, sealer))?;
    answer.mqtt = Some(SessionTold {
        client_id: allowed.client_id,
        username_is_subject: allowed.is_name_subject,
        publish: allowed.publish,
        subscribe: allowed.subscribe,
        connack: Codes::default(),
    });
    match route.upstream {
        Some(_) => Ok("passes"),
        None => Err(Reason::Internal.into()),
    }
}
