//! The gate's own endpoints: a grant becomes an identity, the identity becomes tokens.

mod application;
mod attempt;
pub(crate) mod basic;
mod body;
mod browser;
mod client;
mod held;
pub(crate) mod session;
pub(crate) mod ticket;

use bytes::Bytes;
use http::{Response, request};
use serde_json::{Map, Value};

use crate::clock;
use crate::config::secret::Secret;
use crate::dialect::{
    Asked, AskedLifetimes, Client, Endpoint, ExternalIssuer, Facts, Grant, Mount, RefreshMode,
};
use crate::identity::{Attempt, Means, Principal, SecretKind};
use crate::refusal::{Detail, Reason, Refusal};
use crate::snapshot::{Shared, Snapshot};
use crate::store::StoreError;
use crate::store::family::{Family, Presented, Rotation};
use crate::telemetry::metrics::Metrics;
use crate::token::TokenType;
use crate::token::issue::{Grantee, Holder, Lineage, Order, TokenPair, issue_pair};
use crate::token::issuer::Issuer;
use crate::token::keys::Key;
use crate::token::revocation::Revoked;
use crate::token::verify::{VerifiedToken, verify_refresh};
use crate::upstream::body::RequestBody;

/// What the endpoints work with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The rules.
    pub snapshot: &'a Snapshot,
    /// What all workers share.
    pub shared: &'a Shared,
    /// What identity providers work with.
    pub means: Means<'a>,
    /// Where logins are counted.
    pub metrics: &'a Metrics,
    /// Where people log in whose browsers come from there.
    pub sessions: Option<&'a Mount>,
    /// The scheme and host that were asked for, such as `https://gate.example`.
    pub origin: String,
}

/// Answers a request for an endpoint of a dialect.
///
/// # Errors
/// The refusal, which the dialect then puts into its own form.
pub async fn answer(
    around: &Surroundings<'_>,
    mount: &Mount,
    endpoint: Endpoint,
    head: &request::Parts,
    body: RequestBody,
) -> Result<Response<Bytes>, Refusal> {
    let dialect = mount.dialect;
    match endpoint {
        Endpoint::About | Endpoint::Keys | Endpoint::Metadata => {
            return Ok(dialect.about(endpoint, &facts(around, mount)));
        }
        Endpoint::Browser(step) => return browser::answer(around, mount, step, head, body).await,
        Endpoint::WrongMethod(methods) => {
            let allow = Detail::Allow(methods.to_owned());
            return Err(Refusal::with_detail(Reason::MethodNotAllowed, allow));
        }
        Endpoint::Application(_)
        | Endpoint::Applications
        | Endpoint::Introspect
        | Endpoint::Login
        | Endpoint::Refresh
        | Endpoint::Revoke
        | Endpoint::Ticket => {}
    }
    let grant = body::read(around, mount, endpoint, head, body).await;
    // What could not be read counts as what the path is for.
    let is_refresh = match &grant {
        Ok(grant) => matches!(grant, Grant::Refresh(..)),
        Err(_) => endpoint == Endpoint::Refresh,
    };
    let outcome = match grant {
        Ok(Grant::Login(attempt, asked)) => login(around, mount, attempt, asked).await,
        Ok(Grant::Refresh(token, asked)) => refresh(around, mount, &token, asked).await,
        Ok(Grant::Revoke(token)) => {
            held::revoke(around, &token).await?;
            return Ok(dialect.revoked());
        }
        Ok(Grant::Introspect(token, asker)) => {
            let found = held::introspect(around, &token, asker).await?;
            return Ok(dialect.introspected(found.as_ref(), &facts(around, mount)));
        }
        Ok(Grant::Applications(token, command)) => {
            let answer = application::manage(around, &token, command).await?;
            return Ok(dialect.applications(&answer));
        }
        Ok(Grant::Ticket(token)) => {
            let ticket = ticket::give(around, mount, &token).await?;
            return Ok(dialect.ticket(&ticket, mount.lifetimes.access(None)));
        }
        Err(refusal) => Err(refusal),
    };
    let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
    match endpoint {
        _ if is_refresh => around.metrics.refresh(dialect.name(), refused),
        Endpoint::Application(_)
        | Endpoint::Applications
        | Endpoint::Introspect
        | Endpoint::Revoke
        | Endpoint::Ticket => {}
        _ => around.metrics.login(dialect.name(), refused),
    }
    let pair = outcome?;
    around.metrics.issued(pair.refresh.is_some());
    Ok(dialect.granted(endpoint, &pair))
}

fn facts<'a>(around: &'a Surroundings<'_>, mount: &Mount) -> Facts<'a> {
    let tokens = &around.snapshot.tokens;
    Facts {
        issuer: &tokens.issuer,
        audience: &tokens.audience,
        base: format!("{}{}", around.origin, mount.prefix),
        keys: tokens.keys.all().iter().filter_map(Key::jwk).collect(),
        knows_passwords: around.snapshot.providers.know_passwords(),
        issuers: tokens.issuers.iter().map(external).collect(),
    }
}

fn external(issuer: &Issuer) -> ExternalIssuer<'_> {
    ExternalIssuer {
        host: issuer.host(),
        audience: issuer.audience().unwrap_or_default(),
        client_id: issuer.client_id().unwrap_or_default(),
    }
}

async fn login(
    around: &Surroundings<'_>,
    mount: &Mount,
    attempt: Attempt,
    asked: Asked,
) -> Result<TokenPair, Refusal> {
    let is_client = matches!(asked.client, Some(Client::Account));
    // Its holder can get another assertion as it got this one (RFC 7521 section 4.1).
    let is_assertion = attempt.kind == SecretKind::ExternalToken && asked.client.is_some();
    let client = client::judge(around, asked.client).await?;
    let principal = authenticate(around, &attempt).await;
    let mut principal = match is_client {
        true => principal.map_err(client::blame)?,
        false => principal?,
    };
    let scope = narrow(&principal.scopes, asked.scope.as_deref())?;
    let now = clock::unix_now();
    let at = around
        .shared
        .revocations
        .first_free_second(&principal.subject, now);
    let mut lineage = Lineage::begin(at)?;
    let has_family = principal.family.is_some();
    lineage.family = principal.family.take().unwrap_or(lineage.family);
    let can_refresh = mount.dialect.refresh_mode() != RefreshMode::Absent;
    let has_refresh = can_refresh && !is_client && !is_assertion && !has_family;
    let terms = Terms {
        login_scope: scope.clone(),
        scope,
        client: client.holder(&principal.subject),
        lifetimes: asked.lifetimes,
        has_refresh,
    };
    let pair = issue(around.snapshot, mount, &principal, &lineage, terms)?;
    if has_refresh {
        let subject = principal.subject;
        let family = Family {
            id: lineage.family,
            subject,
            expires: at.plus(pair.refresh_ttl),
        };
        around
            .shared
            .store
            .begin(family, now)
            .await
            .map_err(unavailable)?;
    }
    Ok(pair)
}

async fn refresh(
    around: &Surroundings<'_>,
    mount: &Mount,
    token: &Secret<String>,
    asked: Asked,
) -> Result<TokenPair, Refusal> {
    let (snapshot, shared) = (around.snapshot, around.shared);
    let now = clock::unix_now();
    let (verified, claims) = verify_refresh(token.expose(), &snapshot.tokens, now)?;
    if shared.revocations.hit(&verified) {
        return Err(Reason::Revoked.into());
    }
    let client = client::judge(around, asked.client).await?;
    let client = client.for_refresh(&verified)?;
    let (family, place) = verified
        .family()
        .zip(verified.place())
        .ok_or(Reason::Revoked)?;
    // Asked before the token is taken: a provider that fails must not cost the client its token.
    let mut principal = renew(around, &verified, claims).await?;
    principal.resource = verified.resource().map(str::to_owned);
    // What a client was given once, a refresh does not widen (RFC 6749 section 6).
    let login_scope = match verified.client() {
        Some(_) => verified.scope().to_owned(),
        None => principal.scopes.join(" "),
    };
    let is_granted = |scope: &String| login_scope.split(' ').any(|granted| granted == scope);
    principal.scopes.retain(is_granted);
    let mut terms = Terms {
        scope: narrow(&principal.scopes, asked.scope.as_deref())?,
        login_scope,
        client,
        lifetimes: asked.lifetimes,
        has_refresh: true,
    };
    let next_expires = now.plus(mount.lifetimes.refresh(asked.lifetimes.refresh));
    let presented = Presented {
        family,
        generation: place,
        next_expires,
    };
    if mount.dialect.refresh_mode() == RefreshMode::Keep {
        let is_newest = shared
            .store
            .is_newest(presented, now)
            .await
            .map_err(unavailable)?;
        let lineage = Lineage {
            family: family.to_owned(),
            place,
            at: now,
        };
        terms.has_refresh = false;
        return match is_newest {
            true => issue(snapshot, mount, &principal, &lineage, terms),
            false => Err(Reason::Revoked.into()),
        };
    }
    let taken = shared
        .store
        .take(presented, now, snapshot.tokens.refresh_grace)
        .await;
    let at = match taken.map_err(unavailable)? {
        Rotation::Next => now,
        Rotation::Again(at) => at,
        Rotation::Unknown => return Err(Reason::Revoked.into()),
        Rotation::Reused => return Err(end_reused(around, &verified, family).await),
    };
    let lineage = Lineage {
        family: family.to_owned(),
        place: place.saturating_add(1),
        at,
    };
    issue(snapshot, mount, &principal, &lineage, terms)
}

/// Asks the identity providers, unless too many logins failed of late.
async fn authenticate(around: &Surroundings<'_>, attempt: &Attempt) -> Result<Principal, Refusal> {
    // Some credentials name their account themselves.
    let account = Some(attempt.identifier.as_str()).filter(|name| !name.is_empty());
    let (throttle, config) = (&around.shared.throttle, &around.snapshot.throttle);
    let attempted = throttle.admit(config, account, around.means.client, clock::now())?;
    let everywhere = attempt::Shared::admit(around, account).await?;
    let providers = &around.snapshot.providers;
    let outcome = match attempt.kind {
        SecretKind::ApplicationToken => application::authenticate(around, &attempt.secret).await,
        _ => providers.authenticate(attempt, &around.means).await,
    };
    match &outcome {
        Ok(_) => {
            attempted.succeeded();
            everywhere.succeeded().await;
        }
        Err(refusal) if refusal.reason == Reason::BadCredentials => {
            attempted.failed(clock::now());
            everywhere.failed().await;
        }
        // What could not be judged was no guess.
        Err(_) => {}
    }
    outcome
}

/// All scopes, or those of them that were asked for.
fn narrow(scopes: &[String], asked: Option<&str>) -> Result<String, Reason> {
    let Some(asked) = asked else {
        return Ok(scopes.join(" "));
    };
    let asked: Vec<_> = asked.split_ascii_whitespace().collect();
    let is_held = |asked: &&str| scopes.iter().any(|scope| scope == asked);
    if asked.is_empty() || !asked.iter().all(is_held) {
        return Err(Reason::ScopeNotGranted);
    }
    let scopes = scopes.iter().map(String::as_str);
    let scopes: Vec<_> = scopes.filter(|scope| asked.contains(scope)).collect();
    Ok(scopes.join(" "))
}

/// Asks the identity provider whether the account is still as it was.
async fn renew(
    around: &Surroundings<'_>,
    verified: &VerifiedToken,
    claims: Map<String, Value>,
) -> Result<Principal, Refusal> {
    let login = application::open_sealed(around, verified)?;
    let providers = &around.snapshot.providers;
    providers
        .renew(verified, claims, login, &around.means)
        .await
}

/// A refresh token was used twice: one of the two who have it stole it, so all that came from its
/// login ends (RFC 9700 section 4.14.2).
async fn end_reused(around: &Surroundings<'_>, verified: &VerifiedToken, family: &str) -> Refusal {
    around.metrics.refresh_reused();
    tracing::warn!(
        subject = verified.subject(),
        family,
        "security: a refresh token was used again; all tokens of its login are revoked"
    );
    match around
        .shared
        .revoke(Revoked::Family(family.to_owned()))
        .await
    {
        Ok(()) => Reason::RefreshTokenReused.into(),
        Err(error) => unavailable(error),
    }
}

/// What tokens are to be, beyond whose they are.
struct Terms {
    scope: String,
    login_scope: String,
    client: Option<Holder>,
    lifetimes: AskedLifetimes,
    has_refresh: bool,
}

fn issue(
    snapshot: &Snapshot,
    mount: &Mount,
    principal: &Principal,
    lineage: &Lineage,
    terms: Terms,
) -> Result<TokenPair, Refusal> {
    let grantee = Grantee {
        login_scope: terms.login_scope,
        client: terms.client,
        ..grantee(snapshot, principal, terms.scope)?
    };
    let access_ttl = mount.lifetimes.access(terms.lifetimes.access);
    let refresh_ttl = mount.lifetimes.refresh(terms.lifetimes.refresh);
    let order = Order {
        access_ttl,
        refresh_ttl,
        has_refresh: terms.has_refresh,
        access_claims: mount.dialect.claims(TokenType::Access, access_ttl),
        refresh_claims: mount.dialect.claims(TokenType::Refresh, refresh_ttl),
    };
    issue_pair(&snapshot.tokens, &grantee, lineage, order)
}

/// Whom tokens for a login are about.
fn grantee(snapshot: &Snapshot, principal: &Principal, scope: String) -> Result<Grantee, Refusal> {
    Ok(Grantee {
        subject: principal.subject.clone(),
        login_scope: scope.clone(),
        scope,
        groups: principal.groups.clone(),
        claims: principal.claims.clone(),
        client: None,
        sealed: snapshot.seal(principal)?,
        resource: principal.resource.clone(),
        account: Some(principal.account.clone()),
    })
}

fn unavailable(error: StoreError) -> Refusal {
    Refusal::with_cause(Reason::StoreUnavailable, error)
}
