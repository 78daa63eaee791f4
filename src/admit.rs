//! Who asks, and may they? One credential is found, judged and measured against the route's policy.

use std::rc::Rc;
use std::time::Duration;

use http::request;

use crate::clock::{self, UnixTime};
use crate::credential::{self, Credential, Location};
use crate::endpoint;
use crate::gate::Gate;
use crate::refusal::{Reason, Refusal};
use crate::route::path::CanonicalPath;
use crate::route::policy::{self, Permit, Policy};
use crate::route::{Route, TokenPlaces};
use crate::rules::Rules;
use crate::same_site;
use crate::server::peer::Peer;
use crate::telemetry::trace::Stage;
use crate::token::cache::Circumstances;
use crate::token::hash::TokenHash;
use crate::token::verify::{VerifiedToken, verify_bearer};
use crate::upstream::translate::is_websocket;
use crate::walk::Walk;

/// What is asked for, by whom.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) route: &'a Route,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a CanonicalPath<'a>,
    pub(crate) head: &'a request::Parts,
}

impl Gate {
    /// Finds exactly one credential, judges it and then the route's policy. Gives back the query
    /// without it, too, if it stood there.
    pub(crate) async fn admit(
        &self,
        rules: &Rules,
        walk: &mut Walk,
        asked: Asked<'_>,
    ) -> Result<(Permit, Option<String>), Refusal> {
        let route = asked.route;
        let presented = credential::find(asked.head, &route.token);
        walk.is_token_in_query = presented.remaining_query.is_some();
        if let Policy::Public = route.policy {
            let permit = policy::authorize(&route.policy, None, asked.path)?;
            return Ok((permit, presented.remaining_query));
        }
        walk.is_session = presented.location == Location::Cookie;
        let now = clock::unix_at(walk.exchange.started());
        let principal = match presented.credential {
            Ok(Credential::Token(token)) => match self.authenticate(rules, &token, now) {
                Err(reason) if is_for_want_of_keys(reason) => {
                    Box::pin(self.authenticate_once_known(rules, &token)).await
                }
                outcome => outcome.map_err(Into::into),
            },
            // What has to wait for somebody is kept out of the usual path's way.
            Ok(other) => Box::pin(self.authenticate_elsewhere(rules, asked, other)).await,
            Err(reason) => Err(reason.into()),
        };
        walk.exchange.passed(Stage::Authenticate);
        if let Some(metrics) = walk.exchange.route_metrics() {
            let refused = principal.as_ref().err().map(|refusal| refusal.reason);
            metrics.authenticated(presented.location, refused);
        }
        let principal = principal?;
        walk.exchange.authenticated(Rc::clone(&principal));
        let permit = policy::authorize(&route.policy, Some(principal), asked.path);
        walk.exchange.passed(Stage::Authorize);
        if let Some(metrics) = walk.exchange.route_metrics() {
            metrics.authorized(permit.as_ref().err().map(|refusal| refusal.reason));
        }
        Ok((permit?, presented.remaining_query))
    }

    /// Whether a request presents no good token. With several credentials it is no stranger: the
    /// route refuses it.
    pub(crate) fn is_stranger(&self, rules: &Rules, head: &request::Parts) -> bool {
        match credential::find(head, &TokenPlaces::default()).credential {
            Ok(Credential::Token(token)) => {
                self.authenticate(rules, &token, clock::unix_now()).is_err()
            }
            Ok(Credential::Basic(_) | Credential::Session(_) | Credential::Ticket(_)) => false,
            Err(reason) => reason != Reason::SeveralCredentials,
        }
    }

    /// Judges a token that stood in no request.
    pub(crate) async fn authenticate_token(
        &self,
        rules: &Rules,
        token: &str,
    ) -> Result<Rc<VerifiedToken>, Refusal> {
        match self.authenticate(rules, token, clock::unix_now()) {
            Err(reason) if is_for_want_of_keys(reason) => {
                Box::pin(self.authenticate_once_known(rules, token)).await
            }
            outcome => outcome.map_err(Into::into),
        }
    }

    /// Asks the cache, else verifies and remembers.
    fn authenticate(
        &self,
        rules: &Rules,
        token: &str,
        now: UnixTime,
    ) -> Result<Rc<VerifiedToken>, Reason> {
        self.knows_revocations(now)?;
        let hash = self.front.borrow().hash([token.as_bytes()]);
        if let Some(known) = self.recall(rules, hash, now) {
            return Ok(known);
        }
        let verified = verify_bearer(token, &rules.snapshot.tokens, now)?;
        if self.shared.revocations.hit(&verified) {
            return Err(Reason::Revoked);
        }
        Ok(self.remember(rules, hash, verified))
    }

    /// Waits for the keys of an external token's issuer, where that may help, and judges again.
    async fn authenticate_once_known(
        &self,
        rules: &Rules,
        token: &str,
    ) -> Result<Rc<VerifiedToken>, Refusal> {
        rules.snapshot.tokens.issuers.refreshed(token).await;
        Ok(self.authenticate(rules, token, clock::unix_now())?)
    }

    /// Judges a credential that is no token itself.
    async fn authenticate_elsewhere(
        &self,
        rules: &Rules,
        asked: Asked<'_>,
        credential: Credential<'_>,
    ) -> Result<Rc<VerifiedToken>, Refusal> {
        let around = self.surroundings(rules, asked.peer, asked.authority);
        match credential {
            Credential::Token(token) => Ok(self.authenticate(rules, &token, clock::unix_now())?),
            Credential::Ticket(ticket) => {
                let token = endpoint::ticket::redeem(&around, &ticket).await?;
                match self.authenticate(rules, token.expose(), clock::unix_now()) {
                    Err(reason) if is_for_want_of_keys(reason) => {
                        self.authenticate_once_known(rules, token.expose()).await
                    }
                    outcome => Ok(outcome?),
                }
            }
            Credential::Session(cookie) => {
                if !same_site::is_own(asked.head, &around.origin) {
                    return Err(Reason::CrossSite.into());
                }
                let now = clock::unix_now();
                self.knows_revocations(now)?;
                let parts = [&b"session"[..], cookie.as_bytes()];
                let hash = self.front.borrow().hash(parts);
                // A WebSocket lasts as long as what is found out here: it gets the whole of that.
                if !same_site::is_upgrade(asked.head)
                    && let Some(known) = self.recall(rules, hash, now)
                {
                    return Ok(known);
                }
                let verified = endpoint::session::verify(&around, cookie).await?;
                Ok(self.remember(rules, hash, verified))
            }
            Credential::Basic(pair) => {
                let now = clock::unix_now();
                self.knows_revocations(now)?;
                let remember = asked.route.basic.unwrap_or(Duration::ZERO);
                if is_websocket(asked.head) {
                    // It lives as long as with a token, and nobody is remembered for so long.
                    let lifetime = rules.snapshot.tokens.lifetimes.access(None).max(remember);
                    let verified = endpoint::basic::verify(&around, pair, lifetime).await?;
                    return Ok(Rc::new(verified));
                }
                let span = remember.as_secs().to_be_bytes();
                let parts = [&b"basic"[..], &span, pair.as_bytes()];
                let hash = self.front.borrow().hash(parts);
                if let Some(known) = self.recall(rules, hash, now) {
                    return Ok(known);
                }
                let verified = endpoint::basic::verify(&around, pair, remember).await?;
                Ok(self.remember(rules, hash, verified))
            }
        }
    }

    /// Whether what was revoked is known well enough to accept anybody.
    fn knows_revocations(&self, now: UnixTime) -> Result<(), Reason> {
        match self.shared.health.is_too_stale(now) {
            true => Err(Reason::StoreUnavailable),
            false => Ok(()),
        }
    }

    /// What was verified before, if it still holds.
    fn recall(&self, rules: &Rules, hash: TokenHash, now: UnixTime) -> Option<Rc<VerifiedToken>> {
        let around = Circumstances {
            generation: rules.snapshot.generation(),
            now,
            leeway: rules.snapshot.tokens.leeway,
            revocations: &self.shared.revocations,
        };
        let known = self.front.borrow_mut().find(hash, &around);
        match known {
            Some(_) => self.cache_metrics.hit(),
            None => self.cache_metrics.miss(),
        }
        known
    }

    fn remember(&self, rules: &Rules, hash: TokenHash, token: VerifiedToken) -> Rc<VerifiedToken> {
        let generation = rules.snapshot.generation();
        let (token, evicted) = self.front.borrow_mut().remember(hash, token, generation);
        self.cache_metrics.evicted(evicted.0);
        token
    }
}

/// Whether a token could not be judged because its external issuer's keys are not known here yet.
const fn is_for_want_of_keys(reason: Reason) -> bool {
    matches!(reason, Reason::KeysUnavailable | Reason::UnknownKey)
}
