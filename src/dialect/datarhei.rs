//! datarhei Core's login, as its release 16 speaks it: clients look at `GET /api` first, log in
//! with JSON, and refresh with GET and the refresh token as Bearer.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Response, StatusCode, request};
use serde_json::{Map, Value, json};

use super::wire::{Fields, json_answer};
use super::{Asked, CrossOrigin, Dialect, Endpoint, Facts, Grant, RefreshMode, UsualLifetimes};
use crate::config::secret::Secret;
use crate::identity::{Attempt, SecretKind};
use crate::refusal::{Reason, Refusal};
use crate::token::TokenType;
use crate::token::issue::TokenPair;

/// The dialect of datarhei Core.
#[derive(Debug)]
pub struct Datarhei;

impl Dialect for Datarhei {
    fn name(&self) -> &'static str {
        "datarhei"
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/api", "/api/login", "/api/login/refresh"]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        // What its router does not know goes the way of any other path, to 401 or 404.
        match (&head.method, path) {
            (&Method::GET, "/api") => Some(Endpoint::About),
            (&Method::POST | &Method::OPTIONS, "/api/login") => Some(Endpoint::Login),
            (&Method::GET | &Method::OPTIONS, "/api/login/refresh") => Some(Endpoint::Refresh),
            _ => None,
        }
    }

    fn parse(
        &self,
        endpoint: Endpoint,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<Grant, Refusal> {
        if endpoint == Endpoint::Refresh {
            let token = bearer(head).ok_or(Reason::MissingCredential)?;
            let token = Secret::new(token.to_owned());
            return Ok(Grant::Refresh(token, Asked::default()));
        }
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |kind| kind.as_bytes());
        if !kind.starts_with(b"application/json") {
            let token = bearer(head).filter(|token| body.is_empty() && !token.is_empty());
            let token = token.ok_or(Reason::MalformedRequest)?;
            let attempt = Attempt {
                identifier: String::new(),
                secret: Secret::new(token.to_owned()),
                kind: SecretKind::ExternalToken,
                resource: None,
            };
            return Ok(Grant::Login(attempt, Asked::default()));
        }
        let fields = Fields::parse(head, body).ok_or(Reason::MalformedRequest)?;
        let required = |name| -> Result<String, Refusal> {
            let text = fields.text(name)?.filter(|text| !text.is_empty());
            Ok(text.ok_or(Reason::MalformedRequest)?.to_owned())
        };
        let attempt = Attempt {
            identifier: required("username")?,
            secret: Secret::new(required("password")?),
            kind: SecretKind::Password,
            resource: None,
        };
        Ok(Grant::Login(attempt, Asked::default()))
    }

    fn granted(&self, _: Endpoint, tokens: &TokenPair) -> Response<Bytes> {
        let mut body = Map::new();
        body.insert(
            "access_token".to_owned(),
            tokens.access.expose().as_str().into(),
        );
        if let Some(refresh) = &tokens.refresh {
            body.insert("refresh_token".to_owned(), refresh.expose().as_str().into());
        }
        line(StatusCode::OK, &Value::Object(body))
    }

    fn about(&self, _: Endpoint, facts: &Facts<'_>) -> Response<Bytes> {
        let local = facts.knows_passwords.then(|| "localjwt".to_owned());
        let external = facts.issuers.iter().map(|issuer| {
            format!(
                "auth0 domain={} audience={} clientid={}",
                issuer.host, issuer.audience, issuer.client_id
            )
        });
        let auths: Vec<_> = local.into_iter().chain(external).collect();
        // Its clients ask for a major version, and for a way of logging in that they know. Who has
        // not logged in is not told more of the version.
        let about = json!({
            "app": "datarhei-core",
            "auths": auths,
            "version": {"number": "16.0.0"},
        });
        line(StatusCode::OK, &about)
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let status = reason.status();
        let details = match (endpoint, status) {
            (Some(Endpoint::Login), StatusCode::UNAUTHORIZED) => {
                let what = match reason {
                    Reason::BadCredentials => "invalid username or password",
                    reason => reason.text(),
                };
                format!("Invalid authorization credentials: {what}")
            }
            (Some(Endpoint::Login), StatusCode::BAD_REQUEST) => {
                "Missing authorization credentials".to_owned()
            }
            (_, StatusCode::UNAUTHORIZED) => "Missing or invalid JWT token".to_owned(),
            (_, StatusCode::NOT_FOUND) => "Not Found".to_owned(),
            _ => reason.text().to_owned(),
        };
        let body = json!({
            "code": status.as_u16(),
            "message": status.canonical_reason().unwrap_or_default(),
            "details": [details],
        });
        line(status, &body)
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::Any
    }

    fn refresh_mode(&self) -> RefreshMode {
        RefreshMode::Keep
    }

    fn usual_lifetimes(&self) -> UsualLifetimes {
        UsualLifetimes {
            access: Some(Duration::from_secs(600)),
            refresh: Some(Duration::from_secs(86_400)),
        }
    }

    fn claims(&self, kind: TokenType, lifetime: Duration) -> Map<String, Value> {
        let usefor = match kind {
            TokenType::Access => "access",
            TokenType::Refresh => "refresh",
            TokenType::Session => "session",
        };
        Map::from_iter([
            ("exi".to_owned(), lifetime.as_secs().into()),
            ("usefor".to_owned(), usefor.into()),
        ])
    }
}

/// A JSON answer that ends its line, as the real one does.
fn line(status: StatusCode, body: &Value) -> Response<Bytes> {
    json_answer(status, body).map(|body| Bytes::from([&body[..], b"\n"].concat()))
}

/// The first bearer token; the scheme compares without case, and Swagger's page leaves it out.
fn bearer(head: &request::Parts) -> Option<&str> {
    head.headers
        .get_all(AUTHORIZATION)
        .iter()
        .find_map(|value| {
            let value = value.to_str().ok()?.trim();
            let Some((scheme, token)) = value.split_once(' ') else {
                return (value.matches('.').count() == 2).then_some(value);
            };
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        })
}
