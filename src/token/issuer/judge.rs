//! Is this token a genuine one of an external issuer, and meant for this gate? RFC 8725 is the
//! checklist, as for the gate's own.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Issuer;
use crate::clock::UnixTime;
use crate::refusal::Reason;
use crate::token::claimed::{find, texts};
use crate::token::compact::{Compact, decode_part, is_typ};
use crate::token::verify::{External, VerifiedToken};
use crate::token::{Audience, Tokens};

/// A genuine token of an external issuer.
#[derive(Debug)]
pub struct Judged {
    /// What it proves here.
    pub token: VerifiedToken,
    /// Its further claims, without those that only the gate may make.
    pub claims: Map<String, Value>,
}

/// The claims that decide. A repeated one does not parse.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: u64,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "crate::token::present")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "crate::token::present")]
    iat: Option<u64>,
    #[serde(default)]
    jti: Option<String>,
}

impl Issuer {
    /// Judges a token that says it is from this issuer.
    ///
    /// # Errors
    /// The first [`Reason`] that makes it unfit, the signature before any claim;
    /// [`Reason::KeysUnavailable`] if it cannot be judged.
    pub fn judge(&self, token: &str, tokens: &Tokens, now: UnixTime) -> Result<Judged, Reason> {
        self.judge_as(token, (&TYPES, self.audiences.as_deref()), tokens, now)
    }

    /// Judges an ID token that was given to this client for this login (`OpenID` Connect Core 1.0
    /// section 3.1.3.7). Waits for keys where that may help.
    ///
    /// # Errors
    /// As [`Issuer::judge`]; [`Reason::WrongAudience`] if it was issued to another client;
    /// [`Reason::WrongClaim`] if it is another login's.
    pub(super) async fn judge_id_token(
        &self,
        token: &str,
        (client_id, nonce): (&str, &str),
        tokens: &Tokens,
        now: UnixTime,
    ) -> Result<Judged, Reason> {
        let client = [client_id.to_owned()];
        let judge = || self.judge_as(token, (&ID_TYPES, Some(&client)), tokens, now);
        let judged = match judge() {
            Err(Reason::KeysUnavailable | Reason::UnknownKey) => {
                tokens.issuers.refreshed(token).await;
                judge()?
            }
            judged => judged?,
        };
        let text = |name| judged.claims.get(name).and_then(Value::as_str);
        let audience = judged.claims.get("aud");
        let has_several = audience
            .and_then(Value::as_array)
            .is_some_and(|all| all.len() > 1);
        match judged.claims.get("azp") {
            None if has_several => return Err(Reason::WrongAudience),
            Some(_) if text("azp") != Some(client_id) => return Err(Reason::WrongAudience),
            None | Some(_) => {}
        }
        match text("nonce") == Some(nonce) {
            true => Ok(judged),
            false => Err(Reason::WrongClaim),
        }
    }

    fn judge_as(
        &self,
        token: &str,
        (types, audiences): (&[&str], Option<&[String]>),
        tokens: &Tokens,
        now: UnixTime,
    ) -> Result<Judged, Reason> {
        let compact = Compact::parse(token)?;
        let id = compact.header.kid.as_deref();
        let verifies = |key: &_| compact.verifies(key);
        let ((), stand) = self.source.with_key(id, verifies)?;
        let typ = compact.header.typ.as_deref();
        if !typ.is_none_or(|typ| types.iter().any(|known| is_typ(typ, known))) {
            return Err(Reason::WrongType);
        }
        let claims: Claims = decode_part(compact.payload)?;
        if claims.iss != self.name {
            return Err(Reason::WrongIssuer);
        }
        if let Some(names) = audiences {
            let aud = claims.aud.as_ref();
            if !aud.is_some_and(|aud| names.iter().any(|name| aud.names(name))) {
                return Err(Reason::WrongAudience);
            }
        }
        if claims.sub.is_empty() {
            return Err(Reason::MalformedToken);
        }
        let mut all: Map<String, Value> = decode_part(compact.payload)?;
        for name in PRIVATE {
            all.remove(name);
        }
        let groups = find(&all, &self.groups_claim).map(texts);
        let external = External {
            subject: format!("{}{}", self.prefix, claims.sub),
            scope: self.scopes.of(&all),
            groups: groups.unwrap_or_default(),
            // Never one of the gate's own.
            id: claims.jti.map(|jti| format!("{}#{jti}", self.name)),
            issued: claims.iat.map(UnixTime),
            expires: UnixTime(claims.exp),
            not_before: claims.nbf.map(UnixTime),
        };
        let token = VerifiedToken::of_issuer(external, &all, &tokens.wanted, stand);
        token.judge_time(now, tokens.leeway)?;
        if !self.allows_external(&claims.sub) {
            return Err(Reason::SubjectNotAllowed);
        }
        Ok(Judged { token, claims: all })
    }

    /// As [`Issuer::judge`], for a token that is to open routes.
    ///
    /// # Errors
    /// [`Reason::WrongIssuer`] if its tokens do not; else as [`Issuer::judge`].
    pub fn judge_bearer(
        &self,
        token: &str,
        tokens: &Tokens,
        now: UnixTime,
    ) -> Result<VerifiedToken, Reason> {
        if !self.is_bearer {
            return Err(Reason::WrongIssuer);
        }
        self.judge(token, tokens, now).map(|judged| judged.token)
    }

    /// As [`Issuer::judge`]; waits for keys where that may help.
    ///
    /// # Errors
    /// As [`Issuer::judge`].
    pub async fn judge_patiently(
        &self,
        token: &str,
        tokens: &Tokens,
        now: UnixTime,
    ) -> Result<Judged, Reason> {
        match self.judge(token, tokens, now) {
            Err(Reason::KeysUnavailable | Reason::UnknownKey) => {
                tokens.issuers.refreshed(token).await;
                self.judge(token, tokens, now)
            }
            judged => judged,
        }
    }
}

/// What an access token's `typ` may be, if it has one (RFC 9068 section 2.1).
const TYPES: [&str; 2] = ["at+jwt", "JWT"];
/// What an ID token's may be.
const ID_TYPES: [&str; 1] = ["JWT"];

/// Claims that mean something only where the gate itself made them, and `sub`, which counts with
/// its prefix alone.
const PRIVATE: [&str; 9] = [
    "acct",
    "client_proved",
    "exi",
    "fam",
    "gen",
    "resource",
    "sealed",
    "sub",
    "usefor",
];
