//! The Memphis REST gateway's login, as its release 1.2.8 speaks it and Debezium's HTTP sink
//! reads it: exactly four fields, lifetimes in milliseconds.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode, request};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

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

    fn endpoint(&self, method: &Method, path: &str) -> Option<Endpoint> {
        // Its router compares without case.
        let endpoint = if path.eq_ignore_ascii_case("/auth/authenticate") {
            Endpoint::Login
        } else if path.eq_ignore_ascii_case("/auth/refreshToken") {
            Endpoint::Refresh
        } else {
            return None;
        };
        Some(if method == Method::POST {
            endpoint
        } else {
            Endpoint::WrongMethod
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
            return Ok(Grant::Refresh(Secret::new(token.to_owned()), asked));
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
        };
        Ok(Grant::Login(attempt, asked))
    }

    fn granted(&self, _: Endpoint, tokens: &TokenPair) -> Response<Bytes> {
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        // A fifth field makes Debezium's parser fail.
        let body = json!({
            "expires_in": milliseconds(tokens.access_ttl),
            "jwt": tokens.access.expose(),
            "jwt_refresh_token": tokens.refresh.expose(),
            "refresh_token_expires_in": milliseconds(tokens.refresh_ttl),
        });
        answer(StatusCode::OK, &body)
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        match (endpoint, reason) {
            (Some(Endpoint::WrongMethod), _) => {
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
            ) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"message": "Server error"}),
            ),
            (Some(_), Reason::MalformedRequest) => answer(
                StatusCode::BAD_REQUEST,
                &json!({"message": invalid(refusal)}),
            ),
            _ if reason.status() == StatusCode::UNAUTHORIZED => answer(
                StatusCode::UNAUTHORIZED,
                &json!({"message": "Unauthorized"}),
            ),
            _ => answer(reason.status(), &json!({"message": reason.text()})),
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

fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
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

/// The fields of a body, as Go's decoder reads them: unknown ones ignored, names without case.
struct Fields {
    fields: Map<String, Value>,
    is_form: bool,
}

impl Fields {
    fn parse(head: &request::Parts, body: &[u8]) -> Option<Self> {
        let kind = head
            .headers
            .get(CONTENT_TYPE)?
            .to_str()
            .ok()?
            .to_ascii_lowercase();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.ends_with("json") {
            let fields = serde_json::from_slice(body).ok()?;
            return Some(Self {
                fields,
                is_form: false,
            });
        }
        if kind == "application/x-www-form-urlencoded" {
            return Some(Self {
                fields: parse_form(str::from_utf8(body).ok()?)?,
                is_form: true,
            });
        }
        None
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

    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Reason::MalformedRequest.into()),
        }
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
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
    fn minutes(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        let minutes = self
            .integer(name)?
            .and_then(|minutes| u64::try_from(minutes).ok());
        Ok(minutes
            .filter(|minutes| *minutes > 0)
            .map(|minutes| Duration::from_secs(minutes.saturating_mul(60))))
    }
}

fn parse_form(body: &str) -> Option<Map<String, Value>> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced)
            .decode_utf8()
            .ok()
            .map(|text| text.into_owned())
    };
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, Value::String(decode(value)?)))
        })
        .collect()
}
