//! How does a principal become a pair of tokens?

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::compact::MAX_TOKEN;
use super::{Audience, Claims, TokenType, Tokens};
use crate::clock::UnixTime;
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};

/// Whom and what a token is about.
#[derive(Clone, Debug)]
pub struct Grantee {
    /// `sub`.
    pub subject: String,
    /// Scopes of the access token, space-separated.
    pub scope: String,
    /// The groups of the subject.
    pub groups: Vec<String>,
    /// Further claims of the subject.
    pub claims: Map<String, Value>,
    /// Scopes of the login, which its refresh tokens go on carrying.
    pub login_scope: String,
    /// The client that the tokens go to, where clients have names.
    pub client: Option<Holder>,
    /// The user's own upstream credential, sealed.
    pub sealed: Option<String>,
    /// What the subject asked to work with.
    pub resource: Option<String>,
    /// Which kind of provider knows the account, `:` and its state. The state goes into refresh
    /// tokens only.
    pub account: Option<String>,
}

/// The client that holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `client_id`.
    pub id: String,
    /// Whether it proved that it is this client.
    pub is_proved: bool,
}

/// An access token with its refresh token, and how long they live.
#[derive(Debug)]
pub struct TokenPair {
    /// Opens routes.
    pub access: Secret<String>,
    /// Buys the next pair, if there is one.
    pub refresh: Option<Secret<String>>,
    /// The access token's lifetime.
    pub access_ttl: Duration,
    /// The refresh token's lifetime.
    pub refresh_ttl: Duration,
    /// Scopes of the access token, space-separated.
    pub scope: String,
}

/// Where a pair stands in the life of a login.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The family's id.
    pub family: String,
    /// The place in the family, from 0.
    pub place: u64,
    /// When the pair was issued. The same place is always issued with the same time, so that a
    /// client that asks twice gets the same pair.
    pub at: UnixTime,
}

impl Lineage {
    /// A new family.
    ///
    /// # Errors
    /// [`Reason::Internal`] if the system's random generator fails.
    pub fn begin(at: UnixTime) -> Result<Self, Refusal> {
        Ok(Self {
            family: random_id()?,
            place: 0,
            at,
        })
    }
}

/// What a pair is to be, beyond whom it is about.
#[derive(Clone, Debug)]
pub struct Order {
    /// How long the access token lives.
    pub access_ttl: Duration,
    /// How long the refresh token lives.
    pub refresh_ttl: Duration,
    /// Whether a refresh token comes with it.
    pub has_refresh: bool,
    /// Further claims of the access token.
    pub access_claims: Map<String, Value>,
    /// Further claims of the refresh token.
    pub refresh_claims: Map<String, Value>,
}

/// Issues an access token, and a refresh token if one is ordered.
///
/// # Errors
/// [`Reason::Internal`] if the key cannot sign.
pub fn issue_pair(
    tokens: &Tokens,
    grantee: &Grantee,
    lineage: &Lineage,
    order: Order,
) -> Result<TokenPair, Refusal> {
    let Lineage { family, place, at } = lineage;
    let Order {
        access_ttl,
        refresh_ttl,
        ..
    } = order;
    let claims = |ttl, kind| Claims {
        jti: Some(format!("{family}.{place}.{kind}")),
        fam: Some(family.clone()),
        ..claims(tokens, grantee, *at, ttl)
    };
    let mut access = claims(access_ttl, "a");
    if !order.has_refresh {
        // Only a place is issued twice; a token that takes none has an id of its own.
        access.jti = Some(random_id()?);
    }
    access.further.extend(order.access_claims);
    let mut refresh = Claims {
        r#gen: Some(*place),
        acct: grantee.account.clone(),
        scope: grantee.login_scope.clone(),
        client_proved: grantee
            .client
            .as_ref()
            .is_some_and(|client| client.is_proved),
        ..claims(refresh_ttl, "r")
    };
    refresh.further.extend(order.refresh_claims);
    let refresh = order
        .has_refresh
        .then(|| sign(tokens, TokenType::Refresh, &refresh));
    Ok(TokenPair {
        access: sign(tokens, TokenType::Access, &access)?,
        refresh: refresh.transpose()?,
        access_ttl,
        refresh_ttl,
        scope: grantee.scope.clone(),
    })
}

/// Issues what a browser's cookie holds for a login.
///
/// # Errors
/// [`Reason::Internal`] if the key cannot sign.
pub fn issue_session(
    tokens: &Tokens,
    grantee: &Grantee,
    lineage: &Lineage,
    ttl: Duration,
) -> Result<Secret<String>, Refusal> {
    let Lineage { family, place, at } = lineage;
    let claims = Claims {
        jti: Some(format!("{family}.{place}.s")),
        fam: Some(family.clone()),
        r#gen: Some(*place),
        acct: grantee.account.clone(),
        ..claims(tokens, grantee, *at, ttl)
    };
    sign(tokens, TokenType::Session, &claims)
}

/// Issues one access token that belongs to no login.
///
/// # Errors
/// [`Reason::Internal`] if the key cannot sign.
pub fn issue_alone(
    tokens: &Tokens,
    grantee: &Grantee,
    ttl: Duration,
    now: UnixTime,
) -> Result<Secret<String>, Refusal> {
    let claims = Claims {
        jti: Some(random_id()?),
        ..claims(tokens, grantee, now, ttl)
    };
    sign(tokens, TokenType::Access, &claims)
}

/// The kind of provider that knows an account.
fn kind(account: &str) -> &str {
    account.split(':').next().unwrap_or_default()
}

fn claims(tokens: &Tokens, grantee: &Grantee, at: UnixTime, ttl: Duration) -> Claims {
    Claims {
        iss: tokens.issuer.clone(),
        aud: Audience::One(tokens.audience.clone()),
        sub: grantee.subject.clone(),
        iat: Some(at.0),
        nbf: None,
        exp: at.plus(ttl).0,
        jti: None,
        scope: grantee.scope.clone(),
        groups: grantee.groups.clone(),
        sealed: grantee.sealed.clone(),
        resource: grantee.resource.clone(),
        fam: None,
        r#gen: None,
        acct: grantee
            .account
            .as_ref()
            .map(|account| kind(account).to_owned()),
        client_id: grantee.client.as_ref().map(|client| client.id.clone()),
        client_proved: false,
        further: grantee.claims.clone(),
    }
}

fn sign(
    tokens: &Tokens,
    kind: TokenType,
    claims: &impl Serialize,
) -> Result<Secret<String>, Refusal> {
    sign_as(tokens, kind.typ(), claims)
}

/// Signs something of the gate's own that is no token of anybody's, under a `typ` of its own.
///
/// # Errors
/// [`Reason::Internal`] if the key cannot sign.
pub fn sign_as(
    tokens: &Tokens,
    typ: &'static str,
    claims: &impl Serialize,
) -> Result<Secret<String>, Refusal> {
    let key = tokens
        .keys
        .signing()
        .ok_or_else(|| internal("no key that signs"))?;
    let header = Header {
        alg: key.algorithm.name(),
        kid: &key.id,
        typ,
    };
    let mut token = encode_part(&header)?;
    token.push('.');
    token.push_str(&encode_part(claims)?);
    let signature = key
        .sign(token.as_bytes())
        .ok_or_else(|| internal("the first key cannot sign"))?;
    token.push('.');
    token.push_str(&signature);
    if token.len() > MAX_TOKEN {
        return Err(internal("the token is longer than any that is taken"));
    }
    Ok(Secret::new(token))
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

fn encode_part(part: &impl Serialize) -> Result<String, Refusal> {
    let json = serde_json::to_vec(part).map_err(internal)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// 128 random bits.
///
/// # Errors
/// [`Reason::Internal`] if the system's random generator fails.
pub fn random_id() -> Result<String, Refusal> {
    let mut bits = [0; 16];
    rand::fill(&mut bits).map_err(|_| internal("the system's random generator failed"))?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
    Refusal::with_cause(Reason::Internal, cause)
}
