//! OAuth 2 as standard libraries speak it: tokens (RFC 6749), their end (RFC 7009), what is in
//! them (RFC 7662), what clients have to know (RFC 8414) and the keys (RFC 7517).
//!
//! Grants: `client_credentials`, where the client is an account of the identity providers;
//! `refresh_token`, rotating; the legacy `password`; and an external issuer's token for the gate's
//! own (RFC 7523). A client that gives credentials, by Basic
//! or in the form, is authenticated at every grant; one that gives only its `client_id` is not.
//!
//! A client that checks RFC 8414's `issuer` wants `tokens.issuer` to be the gate's https URL.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Response, StatusCode, request};
use serde_json::{Map, Value, json};

use super::wire::{FORM, form_decode, form_pairs, json_answer, media_type};
use super::{Asked, AskedLifetimes, Asker, Client, CrossOrigin, Dialect, Endpoint, Facts, Grant};
use crate::config::secret::Secret;
use crate::identity::{Attempt, SecretKind};
use crate::refusal::{Detail, Reason, Refusal};
use crate::token::issue::TokenPair;
use crate::token::verify::VerifiedToken;

/// The dialect of OAuth 2.
#[derive(Debug)]
pub struct Oauth2;

impl Dialect for Oauth2 {
    fn name(&self) -> &'static str {
        "oauth2"
    }

    fn paths(&self) -> &'static [&'static str] {
        &[TOKEN, REVOKE, INTROSPECT, METADATA, KEYS]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        let endpoint = match path {
            TOKEN => Endpoint::Login,
            REVOKE => Endpoint::Revoke,
            INTROSPECT => Endpoint::Introspect,
            METADATA => Endpoint::Metadata,
            KEYS => Endpoint::Keys,
            _ => return None,
        };
        let is_told = matches!(endpoint, Endpoint::Metadata | Endpoint::Keys);
        Some(match (is_told, &head.method) {
            (true, &Method::GET | &Method::HEAD) | (false, &Method::POST) => endpoint,
            (true, _) => Endpoint::WrongMethod("GET, HEAD"),
            (false, _) => Endpoint::WrongMethod("POST"),
        })
    }

    fn parse(
        &self,
        endpoint: Endpoint,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<Grant, Refusal> {
        match endpoint {
            // Whoever has the token may end it: clients need not be authenticated, and are not.
            Endpoint::Revoke => Ok(Grant::Revoke(Form::parse(head, body)?.secret("token")?)),
            Endpoint::Introspect => {
                let form = Form::parse(head, body)?;
                let asker = asker(head, &form)?;
                Ok(Grant::Introspect(form.secret("token")?, asker))
            }
            _ => token_grant(head, &Form::parse(head, body)?),
        }
    }

    fn granted(&self, _: Endpoint, tokens: &TokenPair) -> Response<Bytes> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("access_token", tokens.access.expose().as_str().into());
        put("token_type", "Bearer".into());
        put("expires_in", tokens.access_ttl.as_secs().into());
        if let Some(refresh) = &tokens.refresh {
            put("refresh_token", refresh.expose().as_str().into());
        }
        if !tokens.scope.is_empty() {
            put("scope", tokens.scope.as_str().into());
        }
        unkept(StatusCode::OK, &Value::Object(body))
    }

    fn about(&self, endpoint: Endpoint, facts: &Facts<'_>) -> Response<Bytes> {
        let base = &facts.base;
        let body = match endpoint {
            Endpoint::Keys => json!({"keys": facts.keys}),
            _ => json!({
                "issuer": facts.issuer,
                "token_endpoint": format!("{base}{TOKEN}"),
                "token_endpoint_auth_methods_supported":
                    ["client_secret_basic", "client_secret_post", "none"],
                "revocation_endpoint": format!("{base}{REVOKE}"),
                "revocation_endpoint_auth_methods_supported": ["none"],
                "introspection_endpoint": format!("{base}{INTROSPECT}"),
                "introspection_endpoint_auth_methods_supported":
                    ["client_secret_basic", "client_secret_post", "Bearer"],
                "jwks_uri": format!("{base}{KEYS}"),
                "grant_types_supported": grant_types(facts),
                "response_types_supported": [],
            }),
        };
        json_answer(StatusCode::OK, &body)
    }

    fn introspected(&self, token: Option<&VerifiedToken>, facts: &Facts<'_>) -> Response<Bytes> {
        let Some(token) = token else {
            return unkept(StatusCode::OK, &json!({"active": false}));
        };
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("active", true.into());
        put("token_type", "Bearer".into());
        put("iss", facts.issuer.into());
        put("aud", facts.audience.into());
        put("sub", token.subject().into());
        put("exp", token.expires().0.into());
        if !token.scope().is_empty() {
            put("scope", token.scope().into());
        }
        if let Some(issued) = token.issued() {
            put("iat", issued.0.into());
        }
        for (name, value) in [("jti", token.id()), ("client_id", token.client())] {
            if let Some(value) = value {
                put(name, value.into());
            }
        }
        unkept(StatusCode::OK, &Value::Object(body))
    }

    fn refused(&self, endpoint: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let (status, error) = match endpoint {
            // On a route, as for a route without a dialect.
            None => {
                let error = reason.bearer_error().unwrap_or_else(|| reason.label());
                (reason.status(), error)
            }
            Some(endpoint) => error(endpoint, reason),
        };
        let description = match refusal.detail {
            Some(Detail::MissingField(name)) => format!("The parameter {name} is required."),
            Some(Detail::Text(text)) => text.to_owned(),
            _ => reason.text().to_owned(),
        };
        let body = json!({"error": error, "error_description": description});
        let mut response = unkept(status, &body);
        if status == StatusCode::UNAUTHORIZED && endpoint.is_some() {
            let headers = response.headers_mut();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(BASIC_CHALLENGE));
            if endpoint == Some(Endpoint::Introspect) {
                let challenge = match reason.bearer_error() {
                    Some(_) => r#"Bearer realm="tollgate", error="invalid_token""#,
                    None => r#"Bearer realm="tollgate""#,
                };
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        response
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::None
    }
}

/// The grants that somebody could be given something for.
fn grant_types(facts: &Facts<'_>) -> Vec<&'static str> {
    let mut types = vec!["client_credentials", "password", "refresh_token"];
    if !facts.issuers.is_empty() {
        types.push(JWT_BEARER);
    }
    types
}

/// The status and RFC 6749 section 5.2's code of a refusal at an endpoint.
fn error(endpoint: Endpoint, reason: Reason) -> (StatusCode, &'static str) {
    let status = reason.status();
    let error = match (endpoint, reason) {
        (_, Reason::UnsupportedGrant) => "unsupported_grant_type",
        (_, Reason::ScopeNotGranted) => "invalid_scope",
        (_, Reason::BadClientCredentials | Reason::MissingCredential)
        | (Endpoint::Introspect, Reason::BadCredentials) => "invalid_client",
        (Endpoint::Introspect, _) if status == StatusCode::UNAUTHORIZED => "invalid_token",
        (Endpoint::Revoke, Reason::WrongType) => {
            return (StatusCode::BAD_REQUEST, "unsupported_token_type");
        }
        _ if status == StatusCode::UNAUTHORIZED => {
            return (StatusCode::BAD_REQUEST, "invalid_grant");
        }
        (_, Reason::Internal) => "server_error",
        _ if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            "temporarily_unavailable"
        }
        _ => "invalid_request",
    };
    (status, error)
}

/// What is asked for at the token endpoint.
fn token_grant(head: &request::Parts, form: &Form) -> Result<Grant, Refusal> {
    let client = client(head, form)?;
    let asked = |client| Asked {
        lifetimes: AskedLifetimes::default(),
        scope: form.text("scope").map(str::to_owned),
        client: Some(client),
    };
    match form.required("grant_type")? {
        "password" => {
            let username = form.required("username")?;
            let attempt = attempt(username.to_owned(), form.secret("password")?);
            Ok(Grant::Login(attempt, asked(client)))
        }
        "refresh_token" => Ok(Grant::Refresh(form.secret("refresh_token")?, asked(client))),
        "client_credentials" => match client {
            Client::Confidential(attempt) => Ok(Grant::Login(attempt, asked(Client::Account))),
            _ => Err(Reason::MissingCredential.into()),
        },
        JWT_BEARER => {
            let attempt = Attempt {
                identifier: String::new(),
                secret: form.secret("assertion")?,
                kind: SecretKind::ExternalToken,
                resource: None,
            };
            Ok(Grant::Login(attempt, asked(client)))
        }
        _ => Err(Reason::UnsupportedGrant.into()),
    }
}

/// An external issuer's token for the gate's own (RFC 7523 section 2.1).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What a client says of itself: its credentials by Basic or in the form, not both (RFC 6749
/// section 2.3), or its name alone. An empty secret is none, and may be left out (section 2.3.1):
/// requests-oauthlib sends the name of a public client by Basic.
fn client(head: &request::Parts, form: &Form) -> Result<Client, Refusal> {
    let in_form = (form.text("client_id"), form.text("client_secret"));
    let (id, secret) = match (authorization(head)?, in_form) {
        (Some(presented), (id, in_form)) => {
            let attempt = by_basic(presented)?;
            if in_form.is_some() || id.is_some_and(|id| id != attempt.identifier) {
                return Err(Reason::SeveralCredentials.into());
            }
            (attempt.identifier, attempt.secret)
        }
        (None, (Some(id), Some(_))) => (id.to_owned(), form.secret("client_secret")?),
        (None, (Some(id), None)) => (id.to_owned(), Secret::default()),
        (None, (None, Some(_))) => return Err(missing("client_id")),
        (None, (None, None)) => return Ok(Client::Unnamed),
    };
    if !secret.expose().is_empty() {
        return Ok(Client::Confidential(attempt(id, secret)));
    }
    if id.is_empty() {
        return Err(Reason::BadClientCredentials.into());
    }
    if id.len() > MAX_CLIENT_ID {
        return Err(malformed("The client_id is too long."));
    }
    match id.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        true => Ok(Client::Public(id)),
        false => Err(malformed("The client_id has letters that it may not have.")),
    }
}

/// The longest name of a client that proves nothing, in bytes: its tokens carry it.
const MAX_CLIENT_ID: usize = 256;

/// Who asks what is in a token: an account, as a client, or the holder of an access token.
fn asker(head: &request::Parts, form: &Form) -> Result<Asker, Refusal> {
    match authorization(head)? {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            match form.text("client_secret") {
                Some(_) => Err(Reason::SeveralCredentials.into()),
                None => Ok(Asker::Bearer(Secret::new(token.to_owned()))),
            }
        }
        _ => match client(head, form)? {
            Client::Confidential(attempt) => Ok(Asker::Account(attempt)),
            _ => Err(Reason::MissingCredential.into()),
        },
    }
}

/// The scheme and the rest of the one `Authorization`, if any.
fn authorization(head: &request::Parts) -> Result<Option<(&str, &str)>, Refusal> {
    let mut values = head.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Reason::SeveralCredentials.into());
    }
    let value = value.to_str().map_err(|_| Reason::BadClientCredentials)?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    Ok(Some((scheme, rest.trim_matches(' '))))
}

/// A name and secret by Basic, each encoded as in a form (RFC 6749 section 2.3.1).
fn by_basic((scheme, encoded): (&str, &str)) -> Result<Attempt, Refusal> {
    let read = || {
        let encoded = Some(encoded).filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let pair = Secret::new(STANDARD.decode(encoded).ok()?);
        let (name, secret) = str::from_utf8(pair.expose()).ok()?.split_once(':')?;
        Some(attempt(
            form_decode(name)?,
            Secret::new(form_decode(secret)?),
        ))
    };
    read().ok_or_else(|| Reason::BadClientCredentials.into())
}

fn attempt(identifier: String, secret: Secret<String>) -> Attempt {
    Attempt {
        identifier,
        secret,
        kind: SecretKind::Password,
        resource: None,
    }
}

/// The parameters of a request: a form, each at most once; one without a value counts as absent
/// (RFC 6749 section 3.2).
struct Form(BTreeMap<String, Secret<String>>);

impl Form {
    fn parse(head: &request::Parts, body: &[u8]) -> Result<Self, Refusal> {
        let is_once = head.headers.get_all(CONTENT_TYPE).iter().count() == 1;
        if !is_once || media_type(head).is_none_or(|kind| kind != FORM) {
            return Err(malformed("The body must be a form, and say so."));
        }
        let body = str::from_utf8(body).map_err(|_| malformed("The form is not UTF-8."))?;
        let mut fields = BTreeMap::new();
        for pair in form_pairs(body) {
            let (name, value) = pair.ok_or_else(|| malformed("The form is not UTF-8."))?;
            if fields.insert(name, Secret::new(value)).is_some() {
                return Err(malformed("A parameter is repeated."));
            }
        }
        Ok(Self(fields))
    }

    fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?.expose().as_str();
        Some(value).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| missing(name))
    }

    fn secret(&self, name: &'static str) -> Result<Secret<String>, Refusal> {
        Ok(Secret::new(self.required(name)?.to_owned()))
    }
}

fn malformed(text: &'static str) -> Refusal {
    Refusal::with_detail(Reason::MalformedRequest, Detail::Text(text))
}

fn missing(name: &'static str) -> Refusal {
    Refusal::with_detail(Reason::MalformedRequest, Detail::MissingField(name))
}

/// An answer that no cache keeps (RFC 6749 section 5.1).
fn unkept(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = json_answer(status, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

const TOKEN: &str = "/oauth2/token";
const REVOKE: &str = "/oauth2/revoke";
const INTROSPECT: &str = "/oauth2/introspect";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const KEYS: &str = "/.well-known/jwks.json";
const BASIC_CHALLENGE: &str = r#"Basic realm="tollgate""#;
