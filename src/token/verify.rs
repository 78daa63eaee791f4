//! Is this token genuine and meant for us? RFC 8725 is the checklist.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::claimed::{Claimed, Wanted, weight};
use super::compact::{Compact, decode_part, is_typ};
use super::issuer::source::KeyStand;
use super::{Claims, TokenType, Tokens};
use crate::clock::{self, UnixTime};
use crate::refusal::Reason;

/// Proof that a token's signature, type, issuer, audience and times were judged and held, or that
/// a login was. Made by [`verify`], [`Issuer::judge`](super::issuer::Issuer::judge) and
/// [`VerifiedToken::of_login`] alone.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    subject: Box<str>,
    scope: Box<str>,
    groups: Box<[Box<str>]>,
    claimed: Claimed,
    sealed: Option<Box<str>>,
    account: Option<Box<str>>,
    resource: Option<Box<str>>,
    id: Option<Box<str>>,
    family: Option<Box<str>>,
    client: Option<Box<str>>,
    is_client_proved: bool,
    place: Option<u64>,
    issued: Option<UnixTime>,
    expires: UnixTime,
    not_before: Option<UnixTime>,
    /// For an external token: what it stands and falls with.
    stand: Option<KeyStand>,
}

/// What an external issuer's genuine token says.
#[derive(Debug)]
pub(super) struct External {
    pub(super) subject: String,
    pub(super) scope: String,
    pub(super) groups: Box<[Box<str>]>,
    pub(super) id: Option<String>,
    pub(super) issued: Option<UnixTime>,
    pub(super) expires: UnixTime,
    pub(super) not_before: Option<UnixTime>,
}

/// Who logged in without getting tokens.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// The subject.
    pub subject: String,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Further claims.
    pub claims: Map<String, Value>,
}

impl VerifiedToken {
    /// What stands for a login that was just judged, from `at` until `expires`.
    #[must_use]
    pub fn of_login(
        login: LoggedIn,
        sealed: Option<String>,
        wanted: &Wanted,
        at: UnixTime,
        expires: UnixTime,
    ) -> Self {
        Self {
            subject: login.subject.into(),
            scope: login.scopes.join(" ").into(),
            groups: login.groups.into_iter().map(Into::into).collect(),
            claimed: Claimed::take(wanted, &login.claims),
            sealed: sealed.map(Into::into),
            account: None,
            resource: None,
            id: None,
            family: None,
            client: None,
            is_client_proved: false,
            place: None,
            issued: Some(at),
            expires,
            not_before: None,
            stand: None,
        }
    }

    /// What stands for a login in a browser, with the rights that its account has now, until
    /// `expires`. It ends with the session.
    #[must_use]
    pub fn of_session(session: &Self, login: LoggedIn, wanted: &Wanted, expires: UnixTime) -> Self {
        Self {
            family: session.family.clone(),
            id: session.id.clone(),
            ..Self::of_login(
                login,
                session.sealed().map(str::to_owned),
                wanted,
                session.issued.unwrap_or(UnixTime(0)),
                expires.min(session.expires),
            )
        }
    }

    /// What stands for an external issuer's token, as long as its key does.
    pub(super) fn of_issuer(
        external: External,
        claims: &Map<String, Value>,
        wanted: &Wanted,
        stand: KeyStand,
    ) -> Self {
        Self {
            subject: external.subject.into(),
            scope: external.scope.into(),
            groups: external.groups,
            claimed: Claimed::take(wanted, claims),
            sealed: None,
            account: None,
            resource: None,
            id: external.id.map(Into::into),
            family: None,
            client: None,
            is_client_proved: false,
            place: None,
            issued: external.issued,
            expires: external.expires,
            not_before: external.not_before,
            stand: Some(stand),
        }
    }

    /// Whether the key that it was verified with still counts. Always so for the gate's own keys,
    /// which change only with the rules.
    #[must_use]
    pub fn has_its_key(&self) -> bool {
        self.stand.as_ref().is_none_or(KeyStand::holds)
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.split_ascii_whitespace()
    }

    /// The groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(AsRef::as_ref)
    }

    /// The values of a claim that the rules ask for: one for a text, several for a list.
    pub fn claim(&self, name: &str) -> impl Iterator<Item = &str> {
        let known = match name {
            "sub" => Some(&self.subject),
            "client_id" => self.client.as_ref(),
            "resource" => self.resource.as_ref(),
            _ => None,
        };
        let further = self.claimed.values(name);
        known.into_iter().chain(further).map(AsRef::as_ref)
    }

    /// The user's own upstream credential, still sealed.
    #[must_use]
    pub fn sealed(&self) -> Option<&str> {
        self.sealed.as_deref()
    }

    /// Which kind of provider knows the account; of a refresh token, with the state of the account
    /// for which it was issued.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// What the subject asked to work with at its login.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// `jti`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The family: all tokens that came from one login.
    #[must_use]
    pub fn family(&self) -> Option<&str> {
        self.family.as_deref()
    }

    /// `client_id`.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Whether the client of a refresh token proved who it is.
    #[must_use]
    pub const fn is_client_proved(&self) -> bool {
        self.is_client_proved
    }

    /// The scopes as they stand in the token, space-separated.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// A refresh token's place in its family.
    #[must_use]
    pub const fn place(&self) -> Option<u64> {
        self.place
    }

    /// `iat`.
    #[must_use]
    pub const fn issued(&self) -> Option<UnixTime> {
        self.issued
    }

    /// `exp`.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// How long it still lives, to the fraction of a second.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.expires
            .since(clock::unix_now())
            .saturating_sub(clock::subsecond())
    }

    /// Judges `exp` and `nbf` at `now`; asked for every request, cached or not.
    ///
    /// # Errors
    /// [`Reason::Expired`] at or after `exp` plus leeway, [`Reason::NotYetValid`] before `nbf`
    /// minus leeway.
    pub fn judge_time(&self, now: UnixTime, leeway: Duration) -> Result<(), Reason> {
        if now >= self.expires.plus(leeway) {
            return Err(Reason::Expired);
        }
        if self
            .not_before
            .is_some_and(|not_before| now.plus(leeway) < not_before)
        {
            return Err(Reason::NotYetValid);
        }
        Ok(())
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = [
            &self.sealed,
            &self.account,
            &self.resource,
            &self.id,
            &self.family,
            &self.client,
        ];
        let texts = texts.map(|text| text.as_deref().map_or(0, str::len));
        size_of::<Self>()
            + self.subject.len()
            + self.scope.len()
            + texts.iter().sum::<usize>()
            + weight(&self.groups)
            + self.claimed.weight()
    }
}

/// Verifies a token in the compact form (RFC 7515 section 7.1) as one of type `expected`.
///
/// # Errors
/// The first [`Reason`] that makes it unfit, the signature before any claim.
pub fn verify(
    token: &str,
    expected: TokenType,
    tokens: &Tokens,
    now: UnixTime,
) -> Result<VerifiedToken, Reason> {
    let (verified, _) = judge(token, expected, tokens, now)?;
    Ok(verified)
}

/// As [`verify`], for a refresh token, with its further claims.
///
/// # Errors
/// As [`verify`].
pub fn verify_refresh(
    token: &str,
    tokens: &Tokens,
    now: UnixTime,
) -> Result<(VerifiedToken, Map<String, Value>), Reason> {
    judge(token, TokenType::Refresh, tokens, now)
}

/// As [`verify`], for what a browser's cookie holds, with its further claims.
///
/// # Errors
/// As [`verify`].
pub fn verify_session(
    token: &str,
    tokens: &Tokens,
    now: UnixTime,
) -> Result<(VerifiedToken, Map<String, Value>), Reason> {
    judge(token, TokenType::Session, tokens, now)
}

/// Verifies what [`sign_as`](super::issue::sign_as) signed under this `typ`.
///
/// # Errors
/// The first [`Reason`] that makes it unfit, the signature before anything that it says.
pub fn verify_as<T: DeserializeOwned>(
    token: &str,
    typ: &'static str,
    tokens: &Tokens,
) -> Result<T, Reason> {
    let compact = Compact::parse(token)?;
    let id = compact.header.kid.as_deref();
    let key = tokens.keys.find(id).ok_or(Reason::UnknownKey)?;
    compact.verifies(key)?;
    let found = compact.header.typ.as_deref();
    match found.is_some_and(|found| is_typ(found, typ)) {
        true => decode_part(compact.payload),
        false => Err(Reason::WrongType),
    }
}

/// Verifies an access token of the gate, or of an external issuer whose tokens open routes.
///
/// # Errors
/// As [`verify`]; [`Reason::KeysUnavailable`] if an external issuer's token cannot be judged. For
/// that and [`Reason::UnknownKey`] see [`Issuers::refreshed`](super::issuer::Issuers::refreshed).
pub fn verify_bearer(token: &str, tokens: &Tokens, now: UnixTime) -> Result<VerifiedToken, Reason> {
    match tokens.issuers.claimed_by(token) {
        Some(issuer) => issuer.judge_bearer(token, tokens, now),
        None => verify(token, TokenType::Access, tokens, now),
    }
}

fn judge(
    token: &str,
    expected: TokenType,
    tokens: &Tokens,
    now: UnixTime,
) -> Result<(VerifiedToken, Map<String, Value>), Reason> {
    let claims: Claims = verify_as(token, expected.typ(), tokens)?;
    if claims.iss != tokens.issuer {
        return Err(Reason::WrongIssuer);
    }
    if !claims.aud.names(&tokens.audience) {
        return Err(Reason::WrongAudience);
    }
    if claims.sub.is_empty() {
        return Err(Reason::MalformedToken);
    }
    let verified = VerifiedToken {
        subject: claims.sub.into(),
        scope: claims.scope.into(),
        groups: claims.groups.into_iter().map(Into::into).collect(),
        claimed: Claimed::take(&tokens.wanted, &claims.further),
        sealed: claims.sealed.map(Into::into),
        account: claims.acct.map(Into::into),
        resource: claims.resource.map(Into::into),
        id: claims.jti.map(Into::into),
        family: claims.fam.map(Into::into),
        client: claims.client_id.map(Into::into),
        is_client_proved: claims.client_proved,
        place: claims.r#gen,
        issued: claims.iat.map(UnixTime),
        expires: UnixTime(claims.exp),
        not_before: claims.nbf.map(UnixTime),
        stand: None,
    };
    verified.judge_time(now, tokens.leeway)?;
    Ok((verified, claims.further))
}
