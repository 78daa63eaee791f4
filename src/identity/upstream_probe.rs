//! The upstream itself is asked with the given credentials: who may enter there may enter here.

use std::collections::BTreeMap;
use std::rc::Rc;

use http::header::{AUTHORIZATION, HOST, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use super::{Attempt, IdentityProvider, Means, Principal, Renewal, SecretKind};
use crate::clock;
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::refusal::{Reason, Refusal};
use crate::token::seal::UpstreamLogin;
use crate::upstream::Protocol;
use crate::upstream::body::{RequestBody, ResponseBody, Upload};
use crate::upstream::config::UpstreamConfig;
use crate::upstream::credential::basic;

/// The upstream itself is asked with the given credentials.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamProbeConfig {
    /// The upstream's name.
    pub upstream: String,
    /// A path that the upstream answers cheaply with 2xx for good credentials and with 401, 403
    /// or a redirect for bad ones, such as RabbitMQ's `/api/whoami`. Asked with GET.
    pub path: String,
    /// Scopes that everyone gets whom the upstream accepts.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// A probe, ready for use.
#[derive(Debug)]
pub(crate) struct UpstreamProbe {
    upstream: usize,
    target: Uri,
    scopes: Vec<String>,
}

impl UpstreamProbeConfig {
    pub(super) fn build(
        &self,
        at: &str,
        upstreams: &BTreeMap<String, UpstreamConfig>,
        problems: &mut Problems,
    ) -> Option<UpstreamProbe> {
        let at = format!("{at}.upstream_probe");
        let upstream = upstreams.keys().position(|name| *name == self.upstream);
        if upstream.is_none() {
            let text = format_args!("there is no upstream `{}`", self.upstream);
            problems.add(format_args!("{at}.upstream"), text);
        }
        let spoken = upstreams
            .get(&self.upstream)
            .map(|upstream| upstream.protocol);
        if spoken == Some(Protocol::Mqtt) {
            let text = "speaks MQTT, and a login is tried over HTTP";
            problems.add(format_args!("{at}.upstream"), text);
        }
        let exposed = upstreams
            .get(&self.upstream)
            .and_then(UpstreamConfig::exposed_endpoint);
        if let Some(endpoint) = exposed {
            let text = UpstreamConfig::exposure(&self.upstream, endpoint);
            let text = format_args!("users' passwords {text}");
            problems.add(format_args!("{at}.upstream"), text);
        }
        let target = PathAndQuery::try_from(self.path.as_str()).ok();
        let target = target
            .filter(|_| self.path.starts_with('/'))
            .ok_or("must be a path, such as /api/whoami");
        let target = problems.take(format_args!("{at}.path"), target)?;
        Some(UpstreamProbe {
            upstream: upstream?,
            target: target.into(),
            scopes: self.scopes.clone(),
        })
    }
}

impl UpstreamProbe {
    async fn ask(
        &self,
        login: UpstreamLogin,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        // Such a name would be read as another, with a part of it in the password.
        if login.username.is_empty() || login.username.contains(':') {
            return Ok(None);
        }
        let gone = || Refusal::with_cause(Reason::Internal, "the probe's upstream is gone");
        let upstream = means.upstreams.get(self.upstream).ok_or_else(gone)?;
        let now = clock::now();
        let upload = Upload::none(now);
        let mut request = Request::new(RequestBody(Rc::clone(&upload)));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.target.clone();
        let host = HeaderValue::from_str(upstream.authority()).map_err(|_| gone())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(
            AUTHORIZATION,
            basic(&login.username, login.password.expose()),
        );
        let response = upstream.send(request, &upload, now, None).await?;
        upstream.metrics.answered(
            response.status(),
            clock::now().saturating_duration_since(now),
        );
        if !self.accepts(&response)? {
            return Ok(None);
        }
        drain(response).await;
        Ok(Some(Principal {
            subject: login.username.clone(),
            scopes: self.scopes.clone(),
            groups: Vec::new(),
            claims: Map::new(),
            resource: None,
            account: format!("{}:{}", Self::KIND, upstream.name()),
            family: None,
            login: Some(login),
        }))
    }

    /// Whether the answer means that the credentials are good.
    fn accepts(&self, response: &Response<ResponseBody>) -> Result<bool, Refusal> {
        let status = response.status();
        let is_redirect = status.is_redirection() && response.headers().contains_key(LOCATION);
        if status.is_success() {
            Ok(true)
        } else if matches!(status.as_u16(), 401 | 403) || is_redirect {
            Ok(false)
        } else {
            let cause = format!(
                "the upstream probe at {} answered {status}",
                self.target.path()
            );
            Err(Refusal::with_cause(Reason::UpstreamBroken, cause))
        }
    }
}

/// Reads a short body to its end, so that its connection can be used again.
async fn drain(response: Response<ResponseBody>) {
    let mut body = response.into_body();
    let mut left = MAX_DRAIN;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

const MAX_DRAIN: usize = 64 * 1024;

impl IdentityProvider for UpstreamProbe {
    const KIND: &'static str = "upstream_probe";

    async fn authenticate(
        &self,
        attempt: &Attempt,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        // The upstream cannot be asked about resources, nor with a hash of the password.
        let is_plain = matches!(
            attempt.kind,
            SecretKind::Password | SecretKind::ConnectionToken
        );
        if attempt.resource.is_some() || !is_plain {
            return Ok(None);
        }
        let username = attempt.identifier.clone();
        let password = Secret::new(attempt.secret.expose().clone());
        self.ask(UpstreamLogin { username, password }, means).await
    }

    async fn renew(
        &self,
        renewal: Renewal<'_>,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        let upstream = means.upstreams.get(self.upstream);
        match renewal.login {
            Some(login) if upstream.is_some_and(|upstream| upstream.name() == renewal.state) => {
                self.ask(login, means).await
            }
            _ => Ok(None),
        }
    }

    async fn recall(
        &self,
        subject: &str,
        login: Option<UpstreamLogin>,
        means: &Means<'_>,
    ) -> Result<Option<Principal>, Refusal> {
        match login {
            Some(login) if login.username == subject => self.ask(login, means).await,
            _ => Ok(None),
        }
    }
}
