//! Who may ask? Whoever is on this machine, or an operator who proves it; never another site's page.
//!
//! A browser sends what any site's page tells it to, also to an address of this machine. So on
//! loopback the name that was asked for must be a loopback one (else a name of somebody's own could
//! be rebound to it), a page of another origin is refused wherever the browser says so
//! (`Sec-Fetch-Site`, `Origin`), and what changes something is JSON, which no page may send
//! elsewhere without being allowed to. Probes are exempt, and metrics where they are open.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};
use rustls::ServerConfig;

use super::reply::{Reply, text};
use crate::authority::{authority, host};
use crate::identity::operators::{Judges, Operators};
use crate::refusal::{Detail, Reason, Refusal};
use crate::server::tls::Tls;
use crate::snapshot::Shared;

/// Whom the admin listener lets in.
#[derive(Debug)]
pub struct Door {
    is_loopback: bool,
    /// Whether metrics are open to everybody who reaches it.
    opens_metrics: bool,
    operators: Option<Operators>,
    /// What handshakes are done with, if it speaks TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// For each certificate its first name, and when it expires in seconds since the epoch.
    pub(super) expiries: Vec<(String, i64)>,
}

/// Who asks: an operator by name, or somebody on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Option<String>);

impl Door {
    pub(super) fn new(
        is_loopback: bool,
        is_public: bool,
        operators: Option<Operators>,
        tls: Option<&Tls>,
    ) -> Self {
        let expiries = tls.into_iter().flat_map(Tls::expiries);
        let expiries = expiries.map(|(name, expires)| (name.to_owned(), expires));
        let expiries = expiries.collect();
        let tls = tls.map(|tls| {
            let mut config = ServerConfig::clone(&tls.config);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        });
        Self {
            is_loopback,
            opens_metrics: is_loopback || is_public,
            operators,
            tls,
            expiries,
        }
    }

    /// Whether metrics are told to everybody.
    pub(super) const fn opens_metrics(&self) -> bool {
        self.opens_metrics
    }

    /// Lets somebody in for what is not open to all, or says why not.
    pub(super) async fn admit(
        &self,
        shared: &Shared,
        client: IpAddr,
        head: &request::Parts,
    ) -> Result<Caller, Reply> {
        if let Err(why) = self.judge_origin(head) {
            return Err(text(StatusCode::FORBIDDEN, why));
        }
        let Some(operators) = &self.operators else {
            return match self.is_loopback {
                true => Ok(Caller(None)),
                false => Err(text(StatusCode::FORBIDDEN, NO_OPERATORS)),
            };
        };
        let Some(pair) = basic(&head.headers) else {
            return Err(unauthorized());
        };
        let snapshot = shared.current();
        let judges = Judges {
            hashing: &shared.hashing,
            throttle: &shared.throttle,
            config: &snapshot.throttle,
        };
        match operators.admit(pair, client, judges).await {
            Ok(name) => Ok(Caller(Some(name))),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    /// Whether no page of another site can have made this request.
    fn judge_origin(&self, head: &request::Parts) -> Result<(), &'static str> {
        let asked = authority(head).map_err(|_| "the request names no host, or several\n")?;
        if self.is_loopback && !is_loopback_name(&host(asked.as_str())) {
            return Err("ask for this by a loopback name, such as localhost or 127.0.0.1\n");
        }
        let site = field(&head.headers, &SEC_FETCH_SITE);
        let is_own = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
        if !is_own && !is_visit(head) {
            return Err(OTHER_SITE);
        }
        let origins = head.headers.get_all(ORIGIN).iter();
        let is_own = |origin: &HeaderValue| {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
            origin.is_some_and(|(_, place)| place.eq_ignore_ascii_case(asked.as_str()))
        };
        match origins.into_iter().all(is_own) {
            true => Ok(()),
            false => Err(OTHER_SITE),
        }
    }
}

/// Whether a person follows a link to the page itself, which says nothing by being shown.
fn is_visit(head: &request::Parts) -> bool {
    let is = |name: &HeaderName, wanted: &str| field(&head.headers, name) == Some(wanted);
    head.method == http::Method::GET
        && head.uri.path() == "/"
        && is(&SEC_FETCH_MODE, "navigate")
        && is(&SEC_FETCH_DEST, "document")
}

/// Whether a body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = field(headers, &CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// What stands behind the scheme of Basic credentials.
fn basic(headers: &HeaderMap) -> Option<&str> {
    let (scheme, pair) = field(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| pair.trim())
}

/// The one value of a header.
fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    match values.next() {
        None => value.to_str().ok(),
        Some(_) => Some(""),
    }
}

fn unauthorized() -> Reply {
    let mut reply = text(StatusCode::UNAUTHORIZED, "prove by Basic who you are\n");
    let challenge = "Basic realm=\"tollgate admin\", charset=\"UTF-8\"";
    let challenge = HeaderValue::from_static(challenge);
    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    reply
}

fn refused(refusal: &Refusal) -> Reply {
    if refusal.reason == Reason::BadCredentials {
        return unauthorized();
    }
    let mut reply = text(
        refusal.reason.status(),
        format!("{}\n", refusal.reason.text()),
    );
    if let Some(Detail::RetryAfter(seconds)) = refusal.detail {
        let seconds = HeaderValue::from(seconds);
        reply.headers_mut().insert(RETRY_AFTER, seconds);
    }
    reply
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

const OTHER_SITE: &str = "not for pages of another site\n";
const NO_OPERATORS: &str = "other machines are told no more than probes and metrics: say with admin.users_file who may ask\n";
