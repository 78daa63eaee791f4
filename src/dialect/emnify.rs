//! EMnify's login: a username with the SHA-1 of the password, an application token or a refresh
//! token, at one path; and its application tokens.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode, request};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

use super::wire::{Fields, json_answer, media_type, only_bearer, post_only};
use super::{
    ApplicationAnswer, ApplicationCommand, Asked, CrossOrigin, Dialect, Endpoint, Grant,
    UsualLifetimes,
};
use crate::clock::UnixTime;
use crate::config::secret::Secret;
use crate::identity::{Attempt, SecretKind};
use crate::refusal::{Detail, Reason, Refusal};
use crate::store::application::{ApplicationChange, ApplicationToken};
use crate::token::issue::TokenPair;

/// The dialect of EMnify.
#[derive(Debug)]
pub struct Emnify;

impl Dialect for Emnify {
    fn name(&self) -> &'static str {
        "emnify"
    }

    fn paths(&self) -> &'static [&'static str] {
        &[
            "/api/v1/authenticate",
            APPLICATIONS,
            "/api/v1/application_token/*",
        ]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        let id = path.strip_prefix("/api/v1/application_token/");
        match (path, &head.method) {
            ("/api/v1/authenticate", _) => Some(post_only(head)),
            (APPLICATIONS, &Method::GET | &Method::POST) => Some(Endpoint::Applications),
            (APPLICATIONS, _) => Some(Endpoint::WrongMethod("GET, POST")),
            // No application token has the number 0.
            (_, &Method::PATCH) => id.map(|id| Endpoint::Application(id.parse().unwrap_or(0))),
            (_, _) => id.map(|_| Endpoint::WrongMethod("PATCH")),
        }
    }

    fn parse(
        &self,
        endpoint: Endpoint,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<Grant, Refusal> {
        match endpoint {
            Endpoint::Application(id) => {
                let change = change(&fields(head, body)?)?;
                let command = ApplicationCommand::Change(id, change);
                Ok(Grant::Applications(bearer(head)?, command))
            }
            Endpoint::Applications if head.method == Method::GET => {
                let command = ApplicationCommand::List;
                Ok(Grant::Applications(bearer(head)?, command))
            }
            Endpoint::Applications => {
                let token = bearer(head)?;
                let command = match body.is_empty() {
                    true => create(&Map::new())?,
                    false => create(&fields(head, body)?)?,
                };
                Ok(Grant::Applications(token, command))
            }
            _ => login(head, body),
        }
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

    fn applications(&self, answer: &ApplicationAnswer) -> Response<Bytes> {
        let body = match answer {
            ApplicationAnswer::Changed => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = StatusCode::NO_CONTENT;
                return response;
            }
            ApplicationAnswer::Created(token) => json!({"application_token": token.expose()}),
            ApplicationAnswer::Listed(tokens) => tokens.iter().map(listed).collect(),
        };
        json_answer(StatusCode::OK, &body)
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let status = reason.status();
        // Without a good token, these answer as any other path does.
        let endpoint = endpoint.filter(|endpoint| {
            let is_login = !matches!(endpoint, Endpoint::Application(_) | Endpoint::Applications);
            is_login || status != StatusCode::UNAUTHORIZED
        });
        match (endpoint, status) {
            (Some(_), StatusCode::UNAUTHORIZED) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = status;
                response
            }
            (Some(_), _) => {
                let token = status
                    .canonical_reason()
                    .unwrap_or_default()
                    .replace(' ', "");
                let message = match refusal.detail {
                    Some(Detail::Text(text)) => text,
                    _ => reason.text(),
                };
                let code = 1000;
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

fn login(head: &request::Parts, body: &[u8]) -> Result<Grant, Refusal> {
    let fields = Fields::parse(head, body).ok_or(Reason::MalformedRequest)?;
    let text = |name| -> Result<Option<String>, Refusal> {
        let text = fields.text(name)?.filter(|text| !text.is_empty());
        Ok(text.map(str::to_owned))
    };
    if let Some(token) = text("refresh_token")? {
        return Ok(Grant::Refresh(Secret::new(token), Asked::default()));
    }
    let (identifier, secret, kind) = match (text("application_token")?, text("username")?) {
        (Some(token), None) => (String::new(), token, SecretKind::ApplicationToken),
        (None, Some(username)) => {
            let password = text("password")?.ok_or(Reason::MalformedRequest)?;
            (username, password, SecretKind::Sha1Password)
        }
        _ => return Err(Reason::MalformedRequest.into()),
    };
    let attempt = Attempt {
        identifier,
        secret: Secret::new(secret),
        kind,
        resource: None,
    };
    Ok(Grant::Login(attempt, Asked::default()))
}

/// The access token of who manages application tokens.
fn bearer(head: &request::Parts) -> Result<Secret<String>, Refusal> {
    let token = only_bearer(head)?.ok_or(Reason::MissingCredential)?;
    Ok(Secret::new(token.to_owned()))
}

/// A JSON object.
fn fields(head: &request::Parts, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let is_json = media_type(head).is_some_and(|kind| kind.ends_with("json"));
    let fields = serde_json::from_slice(body).ok().filter(|_| is_json);
    Ok(fields.ok_or(Reason::MalformedRequest)?)
}

/// What a new application token is to be.
fn create(fields: &Map<String, Value>) -> Result<ApplicationCommand, Refusal> {
    let expires = text(fields, "expiry_date")?.map(|date| {
        parse_date(date).ok_or_else(|| unprocessable("expiry_date is not a date that is known"))
    });
    let network = text(fields, "ip")?.map(|network| {
        let address = || network.parse::<IpAddr>().ok().map(IpNet::from);
        let network = network.parse().ok().or_else(address);
        network.ok_or_else(|| unprocessable("ip is not an address in CIDR notation"))
    });
    Ok(ApplicationCommand::Create {
        description: description(fields)?,
        expires: expires.transpose()?,
        network: network.transpose()?,
    })
}

/// What is to change about an application token: its description, or its status to revoked (1).
fn change(fields: &Map<String, Value>) -> Result<ApplicationChange, Refusal> {
    let status = fields.get("status").filter(|status| !status.is_null());
    let id = status.map(|status| status.get("id").and_then(Value::as_u64));
    let revoke = match id {
        None => false,
        Some(Some(REVOKED)) => true,
        Some(Some(ACTIVATED)) => {
            return Err(unprocessable("an application token is not activated again"));
        }
        Some(_) => return Err(unprocessable("status.id must be 1")),
    };
    Ok(ApplicationChange {
        description: description(fields)?,
        revoke,
    })
}

fn description(fields: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let description = text(fields, "description")?;
    if description.is_some_and(|text| text.len() > MAX_DESCRIPTION) {
        return Err(unprocessable("description is too long"));
    }
    Ok(description.map(str::to_owned))
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)
            .filter(|text| !text.is_empty())
            .map(String::as_str)),
        Some(_) => Err(Reason::MalformedRequest.into()),
    }
}

/// A date, which counts to its end in UTC, or a date with time and, unless it is UTC, a zone.
fn parse_date(text: &str) -> Option<UnixTime> {
    let text = text.trim().replacen(' ', "T", 1);
    let format = Iso8601::PARSING;
    let zoned = OffsetDateTime::parse(&text, &format).ok();
    let in_utc = || {
        let plain = PrimitiveDateTime::parse(&text, &format).ok();
        plain.map(PrimitiveDateTime::assume_utc)
    };
    let whole_day = || {
        Some(
            Date::parse(&text, &format)
                .ok()?
                .next_day()?
                .midnight()
                .assume_utc(),
        )
    };
    let time = zoned.or_else(in_utc).or_else(whole_day)?;
    u64::try_from(time.unix_timestamp()).ok().map(UnixTime)
}

/// A point in time as EMnify writes it: to the millisecond, the zone without a colon.
fn date(time: UnixTime) -> Option<String> {
    let time = i64::try_from(time.0).ok()?;
    let time = OffsetDateTime::from_unix_timestamp(time).ok()?;
    let time = time.format(&Iso8601::DEFAULT).ok()?;
    let (seconds, _) = time.split_once('.')?;
    Some(format!("{seconds}.000+0000"))
}

fn listed(token: &ApplicationToken) -> Value {
    let (status, name) = match token.is_revoked {
        true => (REVOKED, "Revoked"),
        false => (ACTIVATED, "Activated"),
    };
    json!({
        "id": token.id,
        "description": token.description,
        "created": date(token.created),
        "status": {"id": status, "description": name},
        "expiry_date": token.expires.and_then(date),
        "ip": token.network.map(|network| network.to_string()),
        "creator": {"username": token.creator},
    })
}

fn unprocessable(text: &'static str) -> Refusal {
    Refusal::with_detail(Reason::UnprocessableRequest, Detail::Text(text))
}

const APPLICATIONS: &str = "/api/v1/application_token";
const ACTIVATED: u64 = 0;
const REVOKED: u64 = 1;
/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1000;
