//! How are an issuer's keys fetched? Discovery (`OpenID` Connect Discovery 1.0 section 4), then the
//! JWK set. Nothing but an answer with 200 counts: no redirect is followed.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;

use super::jwks::KeySet;
use super::source::SourceSpec;
use super::url;
use crate::https::{self, causes};

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There was no answer.
    #[error("asking {uri} failed: {cause}")]
    Http {
        /// What was asked.
        uri: Uri,
        /// The causes, outermost first.
        cause: String,
    },
    /// The answer was another one.
    #[error("{uri} answered {status}, not 200")]
    Status {
        /// What was asked.
        uri: Uri,
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer's body broke off or is longer than 1 MiB.
    #[error("reading the answer of {uri} failed: {cause}")]
    Body {
        /// What was asked.
        uri: Uri,
        /// The causes, outermost first.
        cause: String,
    },
    /// The answer is not what it should be.
    #[error("the answer of {uri} is not the expected JSON: {cause}")]
    Json {
        /// What was asked.
        uri: Uri,
        /// What is wrong with it.
        cause: String,
    },
    /// The discovery document is another issuer's.
    #[error("the document at {uri} is for another issuer: it says `{found}`")]
    OtherIssuer {
        /// What was asked.
        uri: Uri,
        /// The `issuer` in it.
        found: String,
    },
    /// The discovery document's `jwks_uri` cannot be used.
    #[error("the jwks_uri in the document at {uri} cannot be used: {why}")]
    JwksUri {
        /// What was asked.
        uri: Uri,
        /// What is wrong with it.
        why: String,
    },
    /// It took too long.
    #[error("fetching took longer than keys.timeout")]
    Timeout,
}

/// The HTTP client of one issuer. It keeps no connection: keys are fetched rarely.
#[derive(Debug)]
pub(super) struct Client(https::Client);

impl Client {
    /// A client that trusts these certificates (PEM), or those that Mozilla trusts.
    pub(super) fn new(certificates: Option<&[u8]>) -> Result<Self, String> {
        https::Client::new(certificates, 0).map(Self)
    }

    /// Fetches the keys.
    pub(super) async fn fetch(&self, spec: &SourceSpec) -> Result<KeySet, FetchError> {
        let uri = match &spec.jwks {
            Some(uri) => uri.clone(),
            None => self.discover(spec).await?,
        };
        let json = self.get(&uri).await?;
        KeySet::parse(&json, &spec.algorithms).map_err(|error| unexpected(uri, &error))
    }

    /// Where the issuer says that its keys are. The document must be the issuer's own (Discovery
    /// section 4.3), or another's keys would pass for its.
    async fn discover(&self, spec: &SourceSpec) -> Result<Uri, FetchError> {
        let uri = spec.discovery();
        let json = self.get(&uri).await?;
        let document: Document = match serde_json::from_slice(&json) {
            Ok(document) => document,
            Err(error) => return Err(unexpected(uri, &error)),
        };
        if document.issuer != spec.issuer {
            let found = shorten(document.issuer);
            return Err(FetchError::OtherIssuer { uri, found });
        }
        let parsed = url::parse(&document.jwks_uri, spec.is_plaintext_fine);
        let is_downgrade = |jwks: &Uri| {
            // A service on this machine stands in for none that is found over TLS.
            spec.is_tls() && !spec.is_plaintext_fine && jwks.scheme_str() != Some("https")
        };
        match parsed {
            Ok(jwks) if is_downgrade(&jwks) => Err(FetchError::JwksUri {
                uri,
                why: shorten(format!("`{jwks}` is not https, but the issuer is")),
            }),
            Ok(jwks) => Ok(jwks),
            Err(why) => Err(FetchError::JwksUri {
                uri,
                why: shorten(why),
            }),
        }
    }

    async fn get(&self, uri: &Uri) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri.clone();
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, kind);
        let response = self.0.send(request).await;
        let response = response.map_err(|error| FetchError::Http {
            uri: uri.clone(),
            cause: causes(&error),
        })?;
        let status = response.status();
        if status != StatusCode::OK {
            let uri = uri.clone();
            return Err(FetchError::Status { uri, status });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        let body = body.collect().await.map_err(|error| FetchError::Body {
            uri: uri.clone(),
            cause: causes(&*error),
        })?;
        Ok(body.to_bytes())
    }
}

/// The members of a discovery document that matter here.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

fn unexpected(uri: Uri, error: &serde_json::Error) -> FetchError {
    let cause = shorten(error.to_string());
    FetchError::Json { uri, cause }
}

/// What a stranger wrote is told in part.
fn shorten(text: String) -> String {
    match text.char_indices().nth(MAX_TOLD) {
        Some((at, _)) => text.split_at(at).0.to_owned() + "…",
        None => text,
    }
}

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// How many letters of an answer are told.
const MAX_TOLD: usize = 200;
