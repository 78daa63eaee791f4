//! A ticket for an access token: for clients that can use nothing but a URL, such as a media
//! player or an `EventSource`. It is good once and for a moment, so that it may end up in a log.
//!
//! `POST /ticket` with the access token as Bearer, or as `access_token` in a form or JSON object;
//! the answer has `ticket` and `expires_in`, in seconds.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, request};
use serde_json::json;

use super::wire::{Fields, json_answer, only_bearer};
use super::{CrossOrigin, Dialect, Endpoint, Grant, RefreshMode, UsualLifetimes};
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};
use crate::token::issue::TokenPair;

/// The dialect of tickets.
#[derive(Debug)]
pub struct Ticket;

impl Dialect for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/ticket"]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        (path == "/ticket").then_some(match head.method {
            Method::POST => Endpoint::Ticket,
            _ => Endpoint::WrongMethod("POST, OPTIONS"),
        })
    }

    fn parse(&self, _: Endpoint, head: &request::Parts, body: &[u8]) -> Result<Grant, Refusal> {
        let fields = Fields::parse(head, body);
        let in_body = match &fields {
            Some(fields) => fields.text("access_token")?,
            None => None,
        };
        let token = match (only_bearer(head)?, in_body) {
            (Some(_), Some(_)) => return Err(Reason::SeveralCredentials.into()),
            (Some(token), None) | (None, Some(token)) => token,
            (None, None) => return Err(Reason::MissingCredential.into()),
        };
        Ok(Grant::Ticket(Secret::new(token.trim().to_owned())))
    }

    fn granted(&self, _: Endpoint, _: &TokenPair) -> Response<Bytes> {
        Response::default()
    }

    fn ticket(&self, ticket: &Secret<String>, lifetime: Duration) -> Response<Bytes> {
        let body = json!({"ticket": ticket.expose(), "expires_in": lifetime.as_secs()});
        json_answer(StatusCode::OK, &body)
    }

    fn refused(&self, _: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let error = reason.bearer_error().unwrap_or_else(|| reason.label());
        let body = json!({"error": error, "error_description": reason.text()});
        json_answer(reason.status(), &body)
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::Any
    }

    fn refresh_mode(&self) -> RefreshMode {
        RefreshMode::Absent
    }

    fn usual_lifetimes(&self) -> UsualLifetimes {
        UsualLifetimes {
            access: Some(Duration::from_secs(30)),
            refresh: None,
        }
    }
}
