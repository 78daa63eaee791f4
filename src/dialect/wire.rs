//! What do the dialects' wires have in common? JSON answers, and bodies with named fields.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode, request};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::Endpoint;
use crate::refusal::{Reason, Refusal};

/// The login endpoint, for POST alone.
pub(super) fn post_only(head: &request::Parts) -> Endpoint {
    if head.method == Method::POST {
        Endpoint::Login
    } else {
        Endpoint::WrongMethod("POST")
    }
}

/// The token of the only `Authorization`, which must be a Bearer's; nothing if there is none. The
/// scheme compares without case and may carry a colon.
pub(super) fn only_bearer(head: &request::Parts) -> Result<Option<&str>, Refusal> {
    let mut values = head.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Reason::SeveralCredentials.into());
    }
    let value = value.to_str().map_err(|_| Reason::MalformedToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Reason::MalformedToken)?;
    let scheme = scheme.strip_suffix(':').unwrap_or(scheme);
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(Some(token.trim())),
        false => Err(Reason::MissingCredential.into()),
    }
}

/// A JSON answer.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The type of a form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a JSON object or a form, read leniently: unknown ones ignored, names without case.
pub(crate) struct Fields {
    fields: Map<String, Value>,
    is_form: bool,
}

impl Fields {
    pub(super) fn parse(head: &request::Parts, body: &[u8]) -> Option<Self> {
        let kind = media_type(head)?;
        if kind.ends_with("json") {
            let fields = serde_json::from_slice(body).ok()?;
            return Some(Self {
                fields,
                is_form: false,
            });
        }
        if kind == FORM {
            return Some(Self {
                fields: parse_form(str::from_utf8(body).ok()?)?,
                is_form: true,
            });
        }
        None
    }

    /// Those of a form alone, as a page sends it.
    pub(crate) fn parse_form(head: &request::Parts, body: &[u8]) -> Option<Self> {
        Self::parse(head, body).filter(|fields| fields.is_form)
    }

    fn find(&self, name: &str) -> Option<&Value> {
        let exact = self.fields.get(name);
        let found = exact.or_else(|| {
            let mut fields = self.fields.iter();
            fields
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        });
        found.filter(|value| !value.is_null())
    }

    /// A text; ill-typed ones are refused.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Reason::MalformedRequest.into()),
        }
    }

    /// An integer; ill-typed ones are refused.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let malformed = || Refusal::from(Reason::MalformedRequest);
        match self.find(name) {
            None => Ok(None),
            Some(Value::Number(number)) => {
                // What does not fit 64 bits asks for the most there is.
                let large = number.as_u64().map(|_| i64::MAX);
                number.as_i64().or(large).map(Some).ok_or_else(malformed)
            }
            Some(Value::String(text)) if self.is_form => {
                text.parse().map(Some).map_err(|_| malformed())
            }
            Some(_) => Err(malformed()),
        }
    }

    /// A lifetime; zero, negative and absent ones mean the default.
    pub(super) fn minutes(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        let minutes = self
            .integer(name)?
            .and_then(|minutes| u64::try_from(minutes).ok());
        Ok(minutes
            .filter(|minutes| *minutes > 0)
            .map(|minutes| Duration::from_secs(minutes.saturating_mul(60))))
    }
}

fn parse_form(body: &str) -> Option<Map<String, Value>> {
    form_pairs(body)
        .map(|pair| pair.map(|(name, value)| (name, Value::String(value))))
        .collect()
}

/// The pairs of a form; nothing in place of one that is not UTF-8.
pub(crate) fn form_pairs(body: &str) -> impl Iterator<Item = Option<(String, String)>> {
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form_decode(key)?, form_decode(value)?))
    })
}

/// A name or value of a form; nothing if it is not UTF-8.
pub(super) fn form_decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// The type of a body without its parameters, in lower case.
pub(super) fn media_type(head: &request::Parts) -> Option<String> {
    let kind = head.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default();
    Some(kind.trim().to_ascii_lowercase())
}
