//! May another site's page call? Preflights are answered here and never need a token.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::problem::Problems;
use crate::config::value::Span;

/// Which other sites' pages may call, and how (Fetch standard, CORS protocol). It keeps pages from
/// reading answers; what a token may do, it does not decide.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Whose pages may call: `https://ui.example` with its port unless it is the scheme's own,
    /// compared byte by byte; `https://*.ui.example`, where `*` is exactly one label; or `*`,
    /// anybody's.
    pub origins: Vec<String>,
    /// The methods that they may use. Default: those of the route, or for any method GET, HEAD,
    /// POST, PUT, PATCH, DELETE.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The headers that they may set; `*`: any.
    #[serde(default = "usual_headers")]
    pub headers: Vec<String>,
    /// The headers of an answer that they may read besides the usual ones. Default: none.
    #[serde(default)]
    pub expose: Vec<String>,
    /// Whether a page's request may carry the browser's own cookies and certificates. Not with the
    /// origin `*`. Tokens that a page holds itself do not need it.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember what it was told.
    #[serde(default = "usual_age")]
    pub max_age: Span,
    /// Danger: pages of no origin may call, too (`Origin: null`): whatever anybody puts into a
    /// sandboxed frame or a local file.
    #[serde(default)]
    pub danger_null_origin: bool,
}

fn usual_headers() -> Vec<String> {
    vec!["authorization".to_owned(), "content-type".to_owned()]
}

const fn usual_age() -> Span {
    Span::seconds(600)
}

/// The same, ready for use.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Vec<Allowed>,
    methods: HeaderValue,
    headers: Vec<HeaderName>,
    has_any_header: bool,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

/// Whose pages may call.
#[derive(Clone, Debug)]
enum Allowed {
    Any,
    Exact(String),
    /// One label between these.
    Below(String, String),
}

impl CorsConfig {
    /// Reads it, for a route of these methods; notes every problem.
    pub(crate) fn build(&self, at: &str, own: &[Method], problems: &mut Problems) -> Arc<Cors> {
        let mut origins = Vec::with_capacity(self.origins.len());
        for (index, text) in self.origins.iter().enumerate() {
            let at = format!("{at}.origins[{index}]");
            origins.extend(problems.take(&at, Allowed::parse(text)));
        }
        if origins.is_empty() && self.origins.is_empty() && !self.danger_null_origin {
            problems.add(format_args!("{at}.origins"), "is empty: no page could call");
        }
        if self.danger_null_origin {
            origins.push(Allowed::Exact("null".to_owned()));
        }
        if self.credentials && self.origins.iter().any(|text| text == "*") {
            let text = "with the origin `*` would let every site act as whoever is logged in: name the origins";
            problems.add(format_args!("{at}.credentials"), text);
        }
        let mut methods = Vec::new();
        for text in &self.methods {
            let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes());
            let method = method.map_err(|_| format!("`{text}` is not a method"));
            let Some(method) = problems.take(format_args!("{at}.methods"), method) else {
                continue;
            };
            if !own.is_empty() && !own.contains(&method) {
                let text = format_args!("the route does not take {method}");
                problems.add(format_args!("{at}.methods"), text);
            }
            methods.push(method);
        }
        let methods = match (methods.is_empty(), own.is_empty()) {
            (false, _) => list(methods.iter().map(Method::as_str)),
            (true, false) => list(own.iter().map(Method::as_str)),
            (true, true) => HeaderValue::from_static("GET,HEAD,POST,PUT,PATCH,DELETE"),
        };
        let named = self.headers.iter().filter(|text| *text != "*");
        let headers = names(named, &format!("{at}.headers"), problems);
        let expose = names(self.expose.iter(), &format!("{at}.expose"), problems);
        Arc::new(Cors {
            origins,
            methods,
            has_any_header: self.headers.iter().any(|text| text == "*"),
            headers,
            expose: (!expose.is_empty()).then(|| list(expose.iter().map(HeaderName::as_str))),
            credentials: self.credentials,
            max_age: HeaderValue::from(self.max_age.0.as_secs()),
        })
    }
}

fn names<'a>(
    texts: impl Iterator<Item = &'a String>,
    at: &str,
    problems: &mut Problems,
) -> Vec<HeaderName> {
    let parse = |text: &String| {
        let name = text.parse::<HeaderName>();
        problems.take(
            at,
            name.map_err(|_| format!("`{text}` is not a header's name")),
        )
    };
    texts.filter_map(parse).collect()
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> HeaderValue {
    // Methods and names of headers are always a valid value.
    let text = Vec::from_iter(texts).join(",");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl Allowed {
    /// Takes only what browsers write (Fetch standard, serialising an origin): anything else would
    /// never fit.
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || {
            format!(
                "`{text}` is not an origin as browsers write it: `https://`, a name in lower case, and a port unless it is the scheme's own"
            )
        };
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let usual = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return Err(wrong()),
        };
        let is_port =
            |port: &str| port != usual && !port.starts_with('0') && port.parse::<u16>().is_ok();
        let below = host.strip_prefix("*.");
        let name = below.unwrap_or(host);
        if !port.is_none_or(is_port) || !name.split('.').all(is_label) {
            return Err(wrong());
        }
        let Some(below) = below else {
            return Ok(Self::Exact(text.to_owned()));
        };
        if !below.contains('.') {
            return Err(format!(
                "`{text}` would be anybody's below a whole top-level domain"
            ));
        }
        let end = authority.strip_prefix('*').unwrap_or_default();
        Ok(Self::Below(format!("{scheme}://"), end.to_owned()))
    }

    fn fits(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => text == origin,
            Self::Below(start, end) => {
                let label = origin.strip_prefix(start.as_str());
                let label = label.and_then(|rest| rest.strip_suffix(end.as_str()));
                label.is_some_and(is_label)
            }
        }
    }
}

/// Whether it is one label of a host's name in lower case.
fn is_label(label: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && label.bytes().all(is_fine)
}

impl Cors {
    /// The answer to a preflight; what it does not allow is not in it.
    pub(crate) fn preflight(&self, head: &request::Parts) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(VARY, ASKED);
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let takes = |asked: &HeaderValue| {
            let mut methods = self.methods.as_bytes().split(|byte| *byte == b',');
            methods.any(|method| method == asked.as_bytes())
        };
        let origin = origin(&head.headers);
        if !origin.as_ref().is_some_and(|origin| self.knows(origin)) || !asked.is_some_and(takes) {
            return response;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let asked = head.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let asked = asked.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let asked = asked.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        let may = |name: &HeaderName| self.has_any_header || self.headers.contains(name);
        let allowed = Vec::from_iter(asked.filter(may));
        if !allowed.is_empty() {
            let names = list(allowed.iter().map(HeaderName::as_str));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        response
    }

    /// Lets the pages that may read an answer, also one that refuses; and tells caches that others
    /// may not. What is anybody's says so to everybody: a cache may have it from who named no origin
    /// (Fetch standard, "CORS protocol and HTTP caches").
    pub(crate) fn allow(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        let is_anybodys = self.is_anybodys();
        let mut varies = headers.get_all(VARY).iter();
        if !is_anybodys && !varies.any(|value| names_origin(value.as_bytes())) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let told = match origin.filter(|origin| self.knows(origin)) {
            _ if is_anybodys => HeaderValue::from_static("*"),
            Some(origin) => origin.clone(),
            None => return,
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, told);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(names) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }

    fn is_anybodys(&self) -> bool {
        !self.credentials
            && self
                .origins
                .iter()
                .any(|allowed| matches!(allowed, Allowed::Any))
    }

    fn knows(&self, origin: &HeaderValue) -> bool {
        let text = origin.to_str().unwrap_or_default();
        self.origins.iter().any(|allowed| allowed.fits(text))
    }
}

fn names_origin(vary: &[u8]) -> bool {
    let mut names = vary.split(|byte| *byte == b',');
    names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin"))
}

/// Whose page calls, if one does. Of two, nobody's.
pub(crate) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next()?, origins.next()) {
        (origin, None) => Some(origin.clone()),
        _ => Some(HeaderValue::from_static("")),
    }
}

/// Drops what an upstream says of it, so that there is one word.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let is_one = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let found = Vec::from_iter(headers.keys().filter(is_one).cloned());
    for name in found {
        headers.remove(name);
    }
}
/// fetch).
#[must_use]
pub fn asked_method(head: &request::Parts) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

/// The answer to a preflight where a dialect alone decides: any origin, the headers that were asked for, no cookies.
#[must_use]
pub fn preflight(head: &request::Parts) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow(headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(VARY, ASKED);
    response
}

/// Lets any site's page read an answer. Without cookies, a page can only use tokens that it holds
/// itself.
pub fn allow(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,HEAD,PUT,DELETE,PATCH");
const ASKED: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);
/// Ten minutes, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
