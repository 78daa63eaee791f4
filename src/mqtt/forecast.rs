//! What would CONNECT get on a route? For people who wonder, without a broker that hears of it.

use super::answer::{reason_code, return_code};
use super::rules::Allowed;
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::token::seal::Sealer;
use crate::token::verify::VerifiedToken;
use crate::upstream::credential::pair;

/// A session that would begin.
#[derive(Clone, Debug)]
pub(crate) struct Forecast {
    /// What it might do.
    pub(crate) allowed: Allowed,
    /// The user name that the upstream would get, if it gets one.
    pub(crate) username: Option<String>,
}

/// Judges what is left once token and policy were found good, in the order in which a session does.
/// Of the client identifier only if one is named; a user name is taken to be as it must be.
///
/// # Errors
/// What CONNECT would be refused with.
pub(crate) fn foresee(
    route: &Route,
    principal: &VerifiedToken,
    client_id: Option<&str>,
    (has_room, sealer): (bool, Option<&Sealer>),
) -> Result<Forecast, Refusal> {
    if principal.time_left().is_zero() {
        return Err(Reason::Expired.into());
    }
    let rules = route.mqtt.as_ref().ok_or(Reason::RouteNotFound)?;
    let allowed = rules.foresee(principal, client_id)?;
    if !has_room {
        return Err(Reason::TooManySessions.into());
    }
    let header = route.credential.header(Some(principal), sealer)?;
    let username = match header {
        None => None,
        Some((_, value)) => Some(pair(&value).ok_or(Reason::NoUpstreamCredential)?.0),
    };
    Ok(Forecast { allowed, username })
}

/// The codes in CONNACK: before 5.0, and in 5.0.
pub(crate) fn codes(refused: Option<Reason>) -> [u8; 2] {
    refused.map_or([0, 0], |reason| [return_code(reason), reason_code(reason)])
}
