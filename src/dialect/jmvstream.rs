//! Jmvstream's login: e-mail, password and the application that is to be worked with. There is no
//! refresh; its clients keep a token for four hours and never try again.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, request};
use serde_json::{Value, json};

use super::wire::{Fields, json_answer, post_only};
use super::{Asked, CrossOrigin, Dialect, Endpoint, Grant, RefreshMode, UsualLifetimes};
use crate::config::secret::Secret;
use crate::identity::{Attempt, SecretKind};
use crate::refusal::{Detail, Reason, Refusal};
use crate::token::issue::TokenPair;

/// The dialect of Jmvstream.
#[derive(Debug)]
pub struct Jmvstream;

impl Dialect for Jmvstream {
    fn name(&self) -> &'static str {
        "jmvstream"
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/v1/authenticate"]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        (path == "/v1/authenticate").then(|| post_only(head))
    }

    fn parse(&self, _: Endpoint, head: &request::Parts, body: &[u8]) -> Result<Grant, Refusal> {
        let fields = Fields::parse(head, body).ok_or(Reason::MalformedRequest)?;
        let required = |name| -> Result<String, Refusal> {
            let text = fields.text(name)?.filter(|text| !text.is_empty());
            let missing = Detail::MissingField(name);
            let refusal = || Refusal::with_detail(Reason::MalformedRequest, missing);
            Ok(text.ok_or_else(refusal)?.to_owned())
        };
        let identifier = required("email")?;
        let secret = Secret::new(required("password")?);
        let resource = required("resource")?;
        if !is_uuid(&resource) {
            let detail = Detail::Text("\"resource\" must be a valid GUID");
            return Err(Refusal::with_detail(Reason::MalformedRequest, detail));
        }
        let (kind, resource) = (SecretKind::Password, Some(resource));
        let attempt = Attempt {
            identifier,
            secret,
            kind,
            resource,
        };
        Ok(Grant::Login(attempt, Asked::default()))
    }

    fn granted(&self, _: Endpoint, tokens: &TokenPair) -> Response<Bytes> {
        json_answer(StatusCode::OK, &json!({"token": tokens.access.expose()}))
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let status = reason.status();
        match (endpoint, status) {
            (_, StatusCode::UNAUTHORIZED) => {
                json_answer(status, &json!({"message": "not allowed"}))
            }
            (Some(Endpoint::Login), StatusCode::BAD_REQUEST) => {
                json_answer(status, &json!({"message": invalid(refusal)}))
            }
            (Some(Endpoint::Login), _) if status.is_server_error() => json_answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"error": "Internal Server Error"}),
            ),
            _ => json_answer(status, &json!({"message": reason.text()})),
        }
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::None
    }

    fn refresh_mode(&self) -> RefreshMode {
        RefreshMode::Absent
    }

    fn usual_lifetimes(&self) -> UsualLifetimes {
        // Longer than the four hours that its clients count on.
        UsualLifetimes {
            access: Some(Duration::from_secs(6 * 3600)),
            refresh: None,
        }
    }
}

fn invalid(refusal: &Refusal) -> Value {
    match refusal.detail {
        Some(Detail::MissingField(name)) => format!("\"{name}\" is required").into(),
        Some(Detail::Text(text)) => text.into(),
        _ => "the body must be a JSON object with email, password and resource".into(),
    }
}

/// Whether a text is a UUID in its usual form (RFC 9562 section 4).
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}
