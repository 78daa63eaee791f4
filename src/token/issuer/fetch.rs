//! How is an issuer asked? For its keys by Discovery (`OpenID` Connect Discovery 1.0 section 4) and
//! the JWK set, and for tokens. Nothing but an answer with 200 counts: no redirect is followed.

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
    /// The discovery document does not say where people log in.
    #[error("an endpoint in the document at {uri} cannot be used: {why}")]
    Endpoint {
        /// What was asked.
        uri: Uri,
        /// Which, and what is wrong with it.
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

    /// Where the issuer says that its keys are.
    async fn discover(&self, spec: &SourceSpec) -> Result<Uri, FetchError> {
        let (uri, document) = self.document(spec).await?;
        let jwks = usable(spec, &document.jwks_uri);
        jwks.map_err(|why| FetchError::JwksUri { uri, why })
    }

    /// Where people log in at the issuer, and where a code is redeemed.
    pub(super) async fn endpoints(&self, spec: &SourceSpec) -> Result<Endpoints, FetchError> {
        let (uri, document) = self.document(spec).await?;
        let find = |name, found: Option<String>| {
            let found = found.ok_or_else(|| "is missing".to_owned());
            let endpoint = found.and_then(|text| usable(spec, &text));
            endpoint.map_err(|why| format!("{name}: {why}"))
        };
        let unfit = |why| FetchError::Endpoint {
            uri: uri.clone(),
            why,
        };
        let authorization = find("authorization_endpoint", document.authorization_endpoint);
        let token = find("token_endpoint", document.token_endpoint);
        Ok(Endpoints {
            authorization: authorization.map_err(unfit)?,
            token: token.map_err(unfit)?,
            // Nobody is kept from logging in by one that cannot be used.
            end_session: document
                .end_session_endpoint
                .and_then(|text| usable(spec, &text).ok()),
            takes_basic: document
                .token_endpoint_auth_methods_supported
                .is_none_or(|methods| methods.iter().any(|it| it == "client_secret_basic")),
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }

    /// The discovery document. It must be the issuer's own (Discovery section 4.3), or another's
    /// keys would pass for its.
    async fn document(&self, spec: &SourceSpec) -> Result<(Uri, Document), FetchError> {
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
        Ok((uri, document))
    }

    async fn get(&self, uri: &Uri) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri.clone();
        self.ask(uri, request).await
    }

    /// Sends a request; the body of an answer with 200.
    pub(super) async fn ask(
        &self,
        uri: &Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Bytes, FetchError> {
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
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where and how people log in at an issuer.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    pub(super) authorization: Uri,
    pub(super) token: Uri,
    /// Where people log out (RP-Initiated Logout 1.0 section 2.1).
    pub(super) end_session: Option<Uri>,
    /// Whether a client may prove who it is by Basic, which is the default (Discovery section 3).
    pub(super) takes_basic: bool,
    /// Whether it says who it is when it sends a browser back (RFC 9207 section 2.3).
    pub(super) names_itself: bool,
}

/// A URL of a discovery document, if it may be asked.
fn usable(spec: &SourceSpec, text: &str) -> Result<Uri, String> {
    let uri = url::parse(text, spec.is_plaintext_fine).map_err(shorten)?;
    // A service on this machine stands in for none that is found over TLS.
    let is_downgrade =
        spec.is_tls() && !spec.is_plaintext_fine && uri.scheme_str() != Some("https");
    match is_downgrade {
        true => Err(shorten(format!("`{uri}` is not https, but the issuer is"))),
        false => Ok(uri),
    }
}

pub(super) fn unexpected(uri: Uri, error: &serde_json::Error) -> FetchError {
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
