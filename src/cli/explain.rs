//! What would the gate do with this request, and why? The engine that serves is asked, without
//! serving.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context as _, bail};
use http::header::{AUTHORIZATION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, request};
use zeroize::Zeroizing;

use super::run::{Prepared, prepare_file};
use super::tools::{load_keys, read_line};
use super::{say, session};
use crate::admin::wants;
use crate::authority::{authority, host};
use crate::clock;
use crate::credential::{self, Credential};
use crate::dialect::Endpoint;
use crate::refusal::{Reason, Refusal};
use crate::route::path::CanonicalPath;
use crate::route::policy::{self, Demands, Permit, Policy};
use crate::route::{Route, TokenPlaces};
use crate::server::ListenerConfig;
use crate::snapshot::Snapshot;
use crate::token::verify::{VerifiedToken, verify_bearer};
use crate::upstream::body::{RequestBody, Upload};
use crate::upstream::translate::{Facts, translate};

/// A request, and the listener that it comes to: the first one unless another is named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) listener: Option<&'a str>,
    /// What CONNECT of MQTT calls its client.
    pub(super) client_id: Option<&'a str>,
}

/// Prints which route a request takes, what it requires, what the token has, and what the upstream
/// would get.
///
/// # Errors
/// If the request would be refused, with the status and the reason.
pub(super) fn explain(file: &Path, question: Question<'_>) -> anyhow::Result<()> {
    let Prepared {
        config, snapshot, ..
    } = prepare_file(file)?;
    let mut listeners = config.listeners.iter();
    let listener = match question.listener {
        None => listeners.next(),
        Some(wanted) => listeners.find(|listener| listener.name() == wanted),
    };
    let listener = listener.context("there is no listener of this name")?;
    let entrance = Entrance {
        listener,
        client_id: question.client_id,
    };
    let method = Method::from_bytes(question.method.to_ascii_uppercase().as_bytes())
        .context("the method is not one of HTTP")?;
    let url = question
        .url
        .parse::<Uri>()
        .context("the URL cannot be parsed")?;
    let token = match question.token {
        Some("-") => Some(read_line("a token")?),
        Some(token) => Some(Zeroizing::new(token.to_owned())),
        None => None,
    };
    let scheme = match url.scheme_str() {
        Some("http") => "http",
        _ => "https",
    };
    let token = token.as_ref().map(|token| token.as_str());
    let head = match &listener.path {
        None => head(&method, &url, token)?,
        Some(path) => {
            let is_its = matches!(url.path(), "" | "/") || url.path() == path;
            if method != Method::GET || !is_its {
                bail!("connections of MQTT to this listener stand for GET {path}");
            }
            let mut parts = url.into_parts();
            parts.path_and_query = Some(path.parse().context("the listener's path")?);
            head(&method, &Uri::from_parts(parts)?, token)?
        }
    };
    match walk(&snapshot, entrance, &head, scheme) {
        Ok(()) => Ok(()),
        Err(refusal) => {
            let reason = refusal.reason;
            let cause = refusal.cause_chain();
            let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
            bail!(
                "refused: {} {}: {}{cause}",
                reason.status().as_u16(),
                reason.label(),
                reason.text()
            )
        }
    }
}

/// Where the request comes in, and as whom.
#[derive(Clone, Copy)]
pub(super) struct Entrance<'a> {
    pub(super) listener: &'a ListenerConfig,
    pub(super) client_id: Option<&'a str>,
}

/// The request as a client would send it.
fn head(method: &Method, url: &Uri, token: Option<&str>) -> anyhow::Result<request::Parts> {
    let target = url.path_and_query().cloned();
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = url.authority().map_or("localhost", |host| host.as_str());
    let mut request = Request::builder()
        .method(method.clone())
        .uri(Uri::from(target))
        .header(HOST, authority);
    if let Some(token) = token {
        let bearer = Zeroizing::new(format!("Bearer {token}"));
        let mut bearer = HeaderValue::from_str(&bearer).context("the token cannot be sent")?;
        bearer.set_sensitive(true);
        request = request.header(AUTHORIZATION, bearer);
    }
    let (head, ()) = request.body(())?.into_parts();
    Ok(head)
}

/// The path of a request, as the gate walks it.
fn walk(
    snapshot: &Snapshot,
    entrance: Entrance<'_>,
    head: &request::Parts,
    scheme: &'static str,
) -> Result<(), Refusal> {
    let listener = entrance.listener;
    let is_mqtt = listener.path.is_some();
    // Where another proxy asks there are no logins, nor where MQTT is spoken.
    let asker = listener.forward_auth.as_ref();
    let has_logins = asker.is_none() && !is_mqtt;
    let authority = authority(head)?;
    let host = host(authority.as_str());
    let path = CanonicalPath::parse(head.uri.path())?;
    line(
        "request",
        format_args!(
            "{} {scheme}://{}{}",
            head.method,
            authority.as_str(),
            head.uri.path()
        ),
    );
    if has_logins
        && let Some((mount, endpoint)) = snapshot.mounts.find(listener.name(), &host, head)
        && (endpoint != Endpoint::About || is_stranger(snapshot, head))
    {
        let name = mount.dialect.name();
        line(
            "answered",
            format_args!("by the gate itself: {endpoint:?} of the dialect {name}"),
        );
        return Ok(());
    }
    let route = snapshot.routes.find(&host, &path, &head.method)?;
    if is_mqtt && route.mqtt.is_none() {
        return Err(Reason::RouteNotFound.into());
    }
    line("route", &route.name);
    line("requires", requirements(route));
    if let Some(asker) = asker {
        asker.prepare(head, route)?;
        if route.mqtt.is_some() {
            return Err(Reason::RouteNotFound.into());
        }
    }
    if route.mqtt.is_some() {
        return session::walk(snapshot, route, entrance, (head, &path));
    }
    let presented = credential::find(head, &route.token);
    line("credential", presented.location.label());
    let permit = match &route.policy {
        Policy::Public => policy::authorize(&route.policy, None, &path)?,
        Policy::Token(demands) => {
            let principal = judge(snapshot, presented.credential?)?;
            line("has", possessions(&principal, demands));
            policy::authorize(&route.policy, Some(principal.into()), &path)?
        }
    };
    let facts = Facts {
        client: (
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            &HeaderValue::from_static("127.0.0.1"),
        ),
        scheme,
        authority: authority.value(),
        is_in_host: authority.is_header(),
        request_id: &HeaderValue::from_static("0"),
        trace: None,
        remaining_query: presented.remaining_query,
    };
    tell_upstream(snapshot, route, &permit, facts, head.clone())
}

/// Whether the gate would tell who asks what it tells to strangers.
fn is_stranger(snapshot: &Snapshot, head: &request::Parts) -> bool {
    match credential::find(head, &TokenPlaces::default()).credential {
        Ok(Credential::Token(token)) => {
            let now = clock::unix_now();
            let _ = load_keys(&snapshot.tokens, &token);
            verify_bearer(&token, &snapshot.tokens, now).is_err()
        }
        Ok(Credential::Basic(_) | Credential::Session(_) | Credential::Ticket(_)) => false,
        Err(reason) => reason != Reason::SeveralCredentials,
    }
}

pub(super) fn judge(
    snapshot: &Snapshot,
    credential: Credential<'_>,
) -> Result<VerifiedToken, Refusal> {
    let token = match credential {
        Credential::Token(token) => token,
        Credential::Basic(_) | Credential::Session(_) | Credential::Ticket(_) => {
            let cause = "only a running gate can judge this kind of credential";
            return Err(Refusal::with_cause(Reason::BadCredentials, cause));
        }
    };
    let tokens = &snapshot.tokens;
    load_keys(tokens, &token)
        .map_err(|error| Refusal::with_cause(Reason::KeysUnavailable, error.to_string()))?;
    let verified = verify_bearer(&token, tokens, clock::unix_now())?;
    let left = humantime::format_duration(verified.expires().since(clock::unix_now()));
    let subject = verified.subject();
    line(
        "token",
        format_args!(
            "good, of {subject}, for {left} (revocations are known to the running gate alone)"
        ),
    );
    Ok(verified)
}

/// What a route asks for.
pub(super) fn requirements(route: &Route) -> String {
    if route.policy == Policy::Public {
        return "nothing: the route is public".to_owned();
    }
    let token = match route.basic {
        Some(_) => "a good token, or Basic",
        None => "a good token",
    };
    let wants = wants(&route.policy);
    let mut parts = vec![token.to_owned()];
    if !wants.scopes.is_empty() {
        parts.push(format!("the scopes {}", wants.scopes.join(" ")));
    }
    if !wants.groups.is_empty() {
        parts.push(format!("one of the groups {}", wants.groups.join(", ")));
    }
    parts.extend(wants.others);
    parts.join("; ")
}

pub(super) fn possessions(principal: &VerifiedToken, demands: &Demands) -> String {
    let scopes = Vec::from_iter(principal.scopes()).join(" ");
    let mut text = format!("scopes: {}", or_none(&scopes));
    let groups = Vec::from_iter(principal.groups()).join(", ");
    let _ = write!(text, "; groups: {}", or_none(&groups));
    for name in demands.claims() {
        let values = Vec::from_iter(principal.claim(name)).join(", ");
        let _ = write!(text, "; {name}: {}", or_none(&values));
    }
    text
}

fn or_none(text: &str) -> &str {
    match text {
        "" => "none",
        text => text,
    }
}

/// What the upstream would get; whatever is marked as sensitive stays hidden.
fn tell_upstream(
    snapshot: &Snapshot,
    route: &Route,
    permit: &Permit,
    facts: Facts<'_>,
    head: request::Parts,
) -> Result<(), Refusal> {
    let body = RequestBody(Upload::none(clock::now()));
    let sealer = snapshot.tokens.sealer.as_ref();
    let outgoing = translate(permit, route, sealer, facts, head, body)?.into_inner();
    let upstream = route
        .upstream
        .and_then(|place| snapshot.upstreams.get(place));
    let name = upstream.map_or("(none)", |upstream| &upstream.name);
    line("upstream", name);
    line(
        "gets",
        format_args!("{} {}", outgoing.method(), outgoing.uri()),
    );
    for (name, value) in outgoing.headers() {
        let shown = match value.to_str() {
            _ if value.is_sensitive() => "***",
            Ok(text) => text,
            Err(_) => "(not text)",
        };
        line("", format_args!("{name}: {shown}"));
    }
    say("passes");
    Ok(())
}

pub(super) fn line(name: &str, text: impl std::fmt::Display) {
    say(format_args!("{name:<11}{text}"));
}
