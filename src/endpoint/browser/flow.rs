//! On to an external issuer, and back. What was begun stands signed in a cookie of that browser, so
//! that nobody can be made to end what another began (RFC 9700 section 4.7).

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::{Visit, Way, add_cookie, is_same, see_other};
use crate::clock;
use crate::config::secret::Secret;
use crate::cookie;
use crate::dialect::browser::CALLBACK;
use crate::dialect::wire::form_pairs;
use crate::identity::Principal;
use crate::page::{self, field};
use crate::refusal::{Reason, Refusal};
use crate::token::issue::{random_id, sign_as};
use crate::token::issuer::Issuer;
use crate::token::issuer::flow::Begun;
use crate::token::issuer::judge::Judged;
use crate::token::verify::verify_as;

/// What a browser was sent away with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flow {
    exp: u64,
    issuer: String,
    redirect_uri: String,
    state: String,
    nonce: String,
    verifier: String,
    then: String,
}

impl Flow {
    fn begun(&self) -> Begun<'_> {
        Begun {
            redirect_uri: &self.redirect_uri,
            state: &self.state,
            nonce: &self.nonce,
            verifier: &self.verifier,
        }
    }
}

/// Sends a browser to an external issuer.
pub(super) async fn begin(visit: &Visit<'_>) -> Result<Response<Bytes>, Refusal> {
    let query = visit.head.uri.query().unwrap_or_default();
    let mut pairs = form_pairs(query).flatten();
    let place = pairs.find(|(name, _)| name == field::ISSUER);
    let place = place.and_then(|(_, place)| place.parse().ok());
    let tokens = &visit.around.snapshot.tokens;
    let issuer = place.and_then(|place: usize| tokens.issuers.iter().nth(place));
    let issuer = issuer.ok_or(Reason::MalformedRequest)?;
    let flow = Flow {
        exp: clock::unix_now().plus(LIFETIME).0,
        issuer: issuer.name().to_owned(),
        redirect_uri: format!(
            "{}{}{CALLBACK}{}",
            visit.around.origin,
            visit.mount.prefix,
            issuer.callback()
        ),
        state: random_id()?,
        nonce: random_id()?,
        verifier: random_id()? + &random_id()?,
        then: Way::asked_for(Some(query)).as_str().to_owned(),
    };
    let there = issuer.authorization(&flow.begun()).await;
    let there = there.map_err(|refusal| explain(visit, refusal))?;
    let signed = sign_as(tokens, TYP, &flow)?;
    let mut response = see_other(&there);
    let cookie = cookie::set(cookie::FLOW, signed.expose(), LIFETIME);
    add_cookie(&mut response, cookie);
    Ok(response)
}

/// Lets in who comes back from an external issuer.
pub(super) async fn finish(visit: &Visit<'_>) -> Result<Response<Bytes>, Refusal> {
    let outcome = let_in(visit).await;
    let mut response = outcome.map_err(|refusal| explain(visit, refusal))?;
    add_cookie(&mut response, cookie::forget(cookie::FLOW));
    Ok(response)
}

async fn let_in(visit: &Visit<'_>) -> Result<Response<Bytes>, Refusal> {
    let around = visit.around;
    let tokens = &around.snapshot.tokens;
    let now = clock::unix_now();
    let lost = || Refusal::with_cause(Reason::CrossSite, "no login was begun in this browser");
    let cookie = cookie::only(&visit.head.headers, cookie::FLOW).ok_or_else(lost)?;
    let flow: Flow = verify_as(cookie, TYP, tokens).map_err(|_| lost())?;
    let query = visit.head.uri.query().unwrap_or_default();
    let state = only(query, "state")?.unwrap_or_default();
    if flow.exp <= now.0 || !is_same(&flow.state, &state) {
        return Err(lost());
    }
    let issuer = tokens.issuers.find(&flow.issuer).ok_or_else(lost)?;
    // Another issuer's code must not be shown to this one, and not every issuer says who it is: each
    // sends browsers back elsewhere (RFC 9700 section 4.4.2.2).
    let expected = flow.redirect_uri.parse::<Uri>();
    if !expected.is_ok_and(|expected| expected.path() == visit.head.uri.path()) {
        let cause = "the browser came back by another issuer's way";
        return Err(Refusal::with_cause(Reason::BadCredentials, cause));
    }
    if let Some(error) = only(query, "error")? {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_code = error.len() <= 64 && error.bytes().all(is_plain);
        let error = if is_code {
            &error
        } else {
            "an unreadable error"
        };
        let cause = format!("the issuer answered {error}");
        return Err(Refusal::with_cause(Reason::BadCredentials, cause));
    }
    let code = only(query, "code")?.ok_or(Reason::MalformedRequest)?;
    let code = Secret::new(code);
    let said = only(query, "iss")?;
    let begun = flow.begun();
    let redeemed = issuer.redeem(code.expose(), said.as_deref(), &begun, tokens, now);
    let principal = identify(visit, issuer, &redeemed.await?)?;
    visit.let_in(principal, &Way::parse(&flow.then)).await
}

fn identify(visit: &Visit<'_>, issuer: &Issuer, judged: &Judged) -> Result<Principal, Refusal> {
    if visit.around.shared.revocations.hit(&judged.token) {
        return Err(Reason::Revoked.into());
    }
    let wanted = &visit.around.snapshot.tokens.wanted;
    Ok(Principal::of_issuer(issuer, judged, wanted))
}

/// The only parameter of this name, if there is one.
fn only(query: &str, name: &str) -> Result<Option<String>, Reason> {
    let mut found = form_pairs(query).flatten().filter(|(held, _)| held == name);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Reason::MalformedRequest),
        (found, None) => Ok(found.map(|(_, value)| value)),
    }
}

/// With a page that leads back to the login.
fn explain(visit: &Visit<'_>, mut refusal: Refusal) -> Refusal {
    let text = match refusal.reason {
        Reason::BadCredentials => "The log-in was not granted.",
        Reason::SubjectNotAllowed => "This account may not log in here.",
        Reason::CrossSite => {
            "This log-in was begun in another browser or tab, or too long ago. Start again."
        }
        Reason::IssuerUnavailable => "The log-in service cannot be reached. Try again shortly.",
        reason => reason.text(),
    };
    let login = format!("{}/login", visit.mount.prefix);
    let status: StatusCode = refusal.reason.status();
    let page = page::refused(status, text, Some((&login, "Back to the log-in")));
    refusal.page = Some(Box::new(page));
    refusal
}

/// `typ` of what stands in the cookie.
const TYP: &str = "login-flow+jwt";
/// How long a log-in at an issuer may take.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
