//! The Memphis REST gateway's login, as its release 1.2.8 speaks it and Debezium's HTTP sink
//! reads it: exactly four fields, lifetimes in milliseconds.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode, request};
use serde_json::{Value, json};

use super::wire::{Fields, json_answer};
use super::{AskedLifetimes, CrossOrigin, Dialect, Endpoint, Grant};
use crate::config::secret::Secret;
use crate::identity::{Attempt, SecretKind};
use crate::refusal::{Detail, Reason, Refusal};
use crate::token::issue::TokenPair;

/// The dialect of the Memphis REST gateway.
#[derive(Debug)]
pub struct Memphis;

impl Dialect for Memphis {
    fn name(&self) -> &'static str {
        "memphis"
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/auth/authenticate", "/auth/refreshToken"]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        // Its router compares without case.
        let endpoint = if path.eq_ignore_ascii_case("/auth/authenticate") {
            Endpoint::Login
        } else if path.eq_ignore_ascii_case("/auth/refreshToken") {
            Endpoint::Refresh
        } else {
            return None;
        };
        Some(if head.method == Method::POST {
            endpoint
        } else {
            Endpoint::WrongMethod("POST, OPTIONS")
        })
    }

    fn parse(
        &self,
        endpoint: Endpoint,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<Grant, Refusal> {
        let fields = Fields::parse(head, body).ok_or(Reason::MalformedRequest)?;
        let asked = AskedLifetimes {
            access: fields.minutes("token_expiry_in_minutes")?,
            refresh: fields.minutes("refresh_token_expiry_in_minutes")?,
        };
        if endpoint == Endpoint::Refresh {
            let token = fields
                .text("jwt_refresh_token")?
                .ok_or(Reason::MissingCredential)?;
            return Ok(Grant::Refresh(Secret::new(token.to_owned()), asked.into()));
        }
        let _account = fields.integer("account_id")?;
        let username = fields.text("username")?.filter(|name| !name.is_empty());
        let username = username.ok_or_else(|| {
            Refusal::with_detail(Reason::MalformedRequest, Detail::MissingField("username"))
        })?;
        let password = fields
            .text("password")?
            .filter(|password| !password.is_empty());
        let token = fields.text("connection_token")?;
        let (secret, kind) = match (password, token) {
            (Some(password), _) => (password, SecretKind::Password),
            (None, Some(token)) => (token, SecretKind::ConnectionToken),
            (None, None) => ("", SecretKind::Password),
        };
        let attempt = Attempt {
            identifier: without_account(username).to_owned(),
            secret: Secret::new(secret.to_owned()),
            kind,
            resource: None,
        };
        Ok(Grant::Login(attempt, asked.into()))
    }

    fn granted(&self, _: Endpoint, tokens: &TokenPair) -> Response<Bytes> {
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        // A fifth field makes Debezium's parser fail.
        let refresh = tokens
            .refresh
            .as_ref()
            .map(|refresh| refresh.expose().as_str());
        let body = json!({
            "expires_in": milliseconds(tokens.access_ttl),
            "jwt": tokens.access.expose(),
            "jwt_refresh_token": refresh,
            "refresh_token_expires_in": milliseconds(tokens.refresh_ttl),
        });
        json_answer(StatusCode::OK, &body)
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        match (endpoint, reason) {
            (Some(Endpoint::WrongMethod(_)), _) => {
                let mut response = Response::new(Bytes::from_static(b"Method Not Allowed"));
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, text);
                response
            }
            (Some(Endpoint::Refresh), Reason::MalformedRequest)
            | (
                Some(_),
                Reason::UpstreamUnreachable | Reason::UpstreamTimeout | Reason::UpstreamBroken,
            ) => json_answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"message": "Server error"}),
            ),
            (Some(_), Reason::MalformedRequest) => json_answer(
                StatusCode::BAD_REQUEST,
                &json!({"message": invalid(refusal)}),
            ),
            _ if reason.status() == StatusCode::UNAUTHORIZED => json_answer(
                StatusCode::UNAUTHORIZED,
                &json!({"message": "Unauthorized"}),
            ),
            _ => json_answer(reason.status(), &json!({"message": reason.text()})),
        }
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::Any
    }
}

fn invalid(refusal: &Refusal) -> Value {
    match refusal.detail {
        Some(Detail::MissingField("username")) => {
            json!([{"field": "Username", "reason": "required"}])
        }
        _ => json!("Some of your fields are not valid; account_id must be a number"),
    }
}

/// `user$1` is the user of account 1; there is but one account behind a gate.
fn without_account(username: &str) -> &str {
    match username.rsplit_once('$') {
        Some((name, account))
            if !account.is_empty() && account.bytes().all(|digit| digit.is_ascii_digit()) =>
        {
            name
        }
        _ => username,
    }
}
