//! How does somebody log in at an external issuer? By authorization code (`OpenID` Connect Core 1.0
//! section 3.1) with PKCE (RFC 7636): the browser is sent there, comes back with a code, and the
//! gate redeems it for an ID token.

use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Issuer;
use super::config::BrowserConfig;
use super::fetch::{Client, Endpoints, FetchError, unexpected};
use super::judge::Judged;
use crate::clock::{self, UnixTime};
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};
use crate::token::Tokens;

/// How people log in at one issuer.
#[derive(Debug)]
pub(super) struct CodeFlow {
    name: Option<String>,
    client_id: String,
    secret: Option<Secret<String>>,
    scopes: String,
    client: Client,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: Option<(Instant, Endpoints)>,
    /// When the issuer last could not be asked.
    failed: Option<Instant>,
}

/// One log-in, as it is begun and as it must end.
#[derive(Debug)]
pub struct Begun<'a> {
    /// Where the issuer sends the browser back to.
    pub redirect_uri: &'a str,
    /// What it must bring back.
    pub state: &'a str,
    /// What the ID token must say.
    pub nonce: &'a str,
    /// What proves that who redeems the code is who began (RFC 7636 section 4.1).
    pub verifier: &'a str,
}

impl CodeFlow {
    pub(super) fn new(
        config: &BrowserConfig,
        client_id: String,
        secret: Option<Secret<String>>,
        client: Client,
    ) -> Self {
        Self {
            name: config.name.clone(),
            client_id,
            secret,
            scopes: config.scopes.join(" "),
            client,
            known: Mutex::default(),
        }
    }

    /// Where the issuer's endpoints are; asked for again once that is old. While the issuer cannot
    /// be asked, it is asked once in a while, however many want to log in.
    async fn endpoints(&self, issuer: &Issuer) -> Result<Endpoints, Refusal> {
        let keys = &issuer.source.spec().keys;
        let is_within = |at: Instant, span| clock::now().saturating_duration_since(at) < span;
        let mut known = self.known.lock().await;
        if let Some((at, endpoints)) = &known.endpoints
            && is_within(*at, keys.soft_ttl.0)
        {
            return Ok(endpoints.clone());
        }
        let has_just_failed = known
            .failed
            .is_some_and(|at| is_within(at, keys.unknown_key_interval.0));
        if !has_just_failed {
            let asked = self.client.endpoints(issuer.source.spec());
            match timeout(keys.timeout.0, asked).await {
                Ok(Ok(endpoints)) => {
                    known.failed = None;
                    known.endpoints = Some((clock::now(), endpoints.clone()));
                    return Ok(endpoints);
                }
                Ok(Err(error)) => {
                    known.failed = Some(clock::now());
                    tracing::warn!(issuer = issuer.name(), %error, "nobody can log in there now");
                }
                Err(_) => {
                    known.failed = Some(clock::now());
                    tracing::warn!(issuer = issuer.name(), error = %FetchError::Timeout, "nobody can log in there now");
                }
            }
        }
        // Old ones are better than none.
        let old = known.endpoints.as_ref();
        let old = old.map(|(_, endpoints)| endpoints.clone());
        old.ok_or_else(|| unavailable("the issuer could not be asked where to log in"))
    }

    /// The request that redeems a code (Core section 3.1.3.1).
    fn redeem(&self, endpoints: &Endpoints, code: &str, begun: &Begun<'_>) -> Request<Full<Bytes>> {
        let mut form = Zeroizing::new(format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            encode(code),
            encode(begun.redirect_uri),
            encode(begun.verifier),
        ));
        let id = encode(&self.client_id);
        let mut authorization = None;
        match &self.secret {
            None => form.push_str(&format!("&client_id={id}")),
            Some(secret) if endpoints.takes_basic => {
                let pair = Zeroizing::new(format!("{id}:{}", encode(secret.expose())));
                let basic = format!("Basic {}", STANDARD.encode(pair.as_bytes()));
                authorization = HeaderValue::from_str(&basic).ok();
            }
            Some(secret) => {
                let secret = encode(secret.expose());
                form.push_str(&format!("&client_id={id}&client_secret={secret}"));
            }
        }
        let mut request = Request::new(Full::from(Bytes::from(form.as_bytes().to_vec())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoints.token.clone();
        let headers = request.headers_mut();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        if let Some(mut authorization) = authorization {
            authorization.set_sensitive(true);
            headers.insert(AUTHORIZATION, authorization);
        }
        request
    }
}

impl Issuer {
    /// What it is called where people choose it to log in; nothing if they cannot.
    #[must_use]
    pub fn login_name(&self) -> Option<&str> {
        let login = self.login.as_ref()?;
        Some(login.name.as_deref().unwrap_or(&self.host))
    }

    /// Where a browser is sent to log in (Core section 3.1.2.1).
    ///
    /// # Errors
    /// [`Reason::IssuerUnavailable`]; [`Reason::MalformedRequest`] if nobody can log in there.
    pub async fn authorization(&self, begun: &Begun<'_>) -> Result<String, Refusal> {
        let login = self.login.as_ref().ok_or(Reason::MalformedRequest)?;
        let endpoint = login.endpoints(self).await?.authorization;
        let sign = sign(&endpoint);
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, begun.verifier.as_bytes()));
        Ok(format!(
            "{endpoint}{sign}response_type=code&client_id={}&redirect_uri={}&scope={}&state={}&nonce={}&code_challenge={challenge}&code_challenge_method=S256",
            encode(&login.client_id),
            encode(begun.redirect_uri),
            encode(&login.scopes),
            encode(begun.state),
            encode(begun.nonce),
        ))
    }

    /// Where a browser can log out at the issuer itself (RP-Initiated Logout 1.0 section 2);
    /// nothing if it has no such place, or cannot be asked for it.
    pub async fn end_session(&self) -> Option<String> {
        let login = self.login.as_ref()?;
        let endpoint = login.endpoints(self).await.ok()?.end_session?;
        Some(format!(
            "{endpoint}{}client_id={}",
            sign(&endpoint),
            encode(&login.client_id)
        ))
    }

    /// Redeems the code that a browser came back with, and judges the ID token that it buys.
    /// `said` is the issuer's name as the browser brought it.
    ///
    /// # Errors
    /// [`Reason::IssuerUnavailable`]; [`Reason::BadCredentials`] if the code is not good, or not
    /// this issuer's; what makes the ID token unfit.
    pub async fn redeem(
        &self,
        code: &str,
        said: Option<&str>,
        begun: &Begun<'_>,
        tokens: &Tokens,
        now: UnixTime,
    ) -> Result<Judged, Refusal> {
        let login = self.login.as_ref().ok_or(Reason::MalformedRequest)?;
        let endpoints = login.endpoints(self).await?;
        // Another issuer's code must not be shown to this one (RFC 9207 section 2.4).
        let is_its_own = said.map_or(!endpoints.names_itself, |said| said == self.name);
        if !is_its_own {
            let cause = "the browser came back from another issuer";
            return Err(Refusal::with_cause(Reason::BadCredentials, cause));
        }
        let request = login.redeem(&endpoints, code, begun);
        let within = self.source.timeout();
        let answer = timeout(within, login.client.ask(&endpoints.token, request)).await;
        let json = match answer {
            Err(_) => return Err(unavailable(FetchError::Timeout)),
            Ok(Err(error @ FetchError::Status { status, .. })) if status.is_client_error() => {
                return Err(Refusal::with_cause(Reason::BadCredentials, error));
            }
            Ok(Err(error)) => return Err(unavailable(error)),
            Ok(Ok(json)) => Zeroizing::new(json.to_vec()),
        };
        let redeemed: Redeemed = serde_json::from_slice(&json)
            .map_err(|error| unavailable(unexpected(endpoints.token.clone(), &error)))?;
        let client = (login.client_id.as_str(), begun.nonce);
        let judged = self.judge_id_token(redeemed.id_token.expose(), client, tokens, now);
        Ok(judged.await?)
    }
}

/// What matters of a token endpoint's answer (Core section 3.1.3.3).
#[derive(Deserialize)]
struct Redeemed {
    #[serde(deserialize_with = "secret")]
    id_token: Secret<String>,
}

fn secret<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(text).map(Secret::new)
}

/// What comes between an endpoint and the first of further parameters: it may have a query of its
/// own (RFC 6749 section 3.1).
fn sign(endpoint: &Uri) -> char {
    if endpoint.query().is_some() { '&' } else { '?' }
}

/// As a value in a form or query.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
    Refusal::with_cause(Reason::IssuerUnavailable, cause)
}
