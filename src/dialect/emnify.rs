//! EMnify's login: a username with the SHA-1 of the password, or a refresh token, at one path.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode, request};
use serde_json::{Map, Value, json};

use super::wire::{Fields, json_answer, post_only};
use super::{Asked, CrossOrigin, Dialect, Endpoint, Grant, UsualLifetimes};
use crate::config::secret::Secret;
use crate::identity::{Attempt, SecretKind};
use crate::refusal::{Reason, Refusal};
use crate::token::issue::TokenPair;

/// The dialect of EMnify.
#[derive(Debug)]
pub struct Emnify;

impl Dialect for Emnify {
    fn name(&self) -> &'static str {
        "emnify"
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        (path == "/api/v1/authenticate").then(|| post_only(head))
    }

    fn parse(&self, _: Endpoint, head: &request::Parts, body: &[u8]) -> Result<Grant, Refusal> {
        let fields = Fields::parse(head, body).ok_or(Reason::MalformedRequest)?;
        let text = |name| -> Result<Option<String>, Refusal> {
            Ok(fields
                .text(name)?
                .filter(|text| !text.is_empty())
                .map(str::to_owned))
        };
        if let Some(token) = text("refresh_token")? {
            return Ok(Grant::Refresh(Secret::new(token), Asked::default()));
        }
        let (Some(identifier), Some(password)) = (text("username")?, text("password")?) else {
            return Err(Reason::MalformedRequest.into());
        };
        let attempt = Attempt {
            identifier,
            secret: Secret::new(password),
            kind: SecretKind::Sha1Password,
            resource: None,
        };
        Ok(Grant::Login(attempt, Asked::default()))
    }

    fn granted(&self, _: Endpoint, tokens: &TokenPair) -> Response<Bytes> {
        let mut body = Map::new();
        body.insert(
            "auth_token".to_owned(),
            tokens.access.expose().as_str().into(),
        );
        if let Some(refresh) = &tokens.refresh {
            body.insert("refresh_token".to_owned(), refresh.expose().as_str().into());
        }
        let mut response = json_answer(StatusCode::OK, &Value::Object(body));
        let kind = HeaderValue::from_static("application/json; charset=UTF-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let status = reason.status();
        match (endpoint, status) {
            (Some(_), StatusCode::UNAUTHORIZED) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = status;
                response
            }
            (Some(_), _) => {
                let token = match status {
                    StatusCode::BAD_REQUEST => "BadRequest".to_owned(),
                    _ => status
                        .canonical_reason()
                        .unwrap_or_default()
                        .replace(' ', ""),
                };
                let (code, message) = (1000, reason.text());
                let body = json!({"error_code": code, "error_token": token, "message": message});
                json_answer(status, &body)
            }
            (None, StatusCode::UNAUTHORIZED)
                if matches!(reason, Reason::MissingCredential | Reason::MalformedToken) =>
            {
                let message = "token contains an invalid number of segments";
                json_answer(status, &json!({"message": message}))
            }
            (None, _) => json_answer(status, &json!({"message": reason.text()})),
        }
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::None
    }

    fn usual_lifetimes(&self) -> UsualLifetimes {
        UsualLifetimes {
            access: Some(Duration::from_secs(240 * 60)),
            refresh: None,
        }
    }
}
