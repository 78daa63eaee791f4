//! Which exchanges are traced, and what does a trace know? Off unless the config names a
//! collector; an exchange then carries nothing, and asks nothing but whether it is so.

mod context;
pub mod export;
mod spans;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::context::TraceId;
use self::context::{Parent, TRACEPARENT, TRACESTATE};
use self::export::{Collector, Spans};
pub(super) use self::spans::Ended;
use crate::clock;
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::config::value::{Expanded, Span};
use crate::https::{Client, is_loopback};

/// Traces of exchanges. Without this section there are none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracingConfig {
    /// They go to an OpenTelemetry collector.
    pub otlp: OtlpConfig,
}

/// An OpenTelemetry collector that takes spans over OTLP/HTTP, in protobuf.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// The whole URL, such as `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: Expanded,
    /// A file with headers for the collector, such as a key for it: a line `Name: value` each.
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
    /// The certificates (PEM) that the collector's is checked against. Default: those that Mozilla
    /// trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The share of exchanges that are traced, from 0 to 1. Where a trusted proxy began the trace,
    /// its word counts instead (`trusted_proxies`).
    #[serde(default = "default_sample")]
    pub sample: f64,
    /// How long handing over some spans may take, and how long the gate's end waits for the last.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// What this gate is called in traces.
    #[serde(default = "default_name")]
    pub service_name: String,
}

const fn default_sample() -> f64 {
    0.01
}

const fn default_timeout() -> Span {
    Span::seconds(5)
}

fn default_name() -> String {
    "tollgate".to_owned()
}

impl TracingConfig {
    /// Reads what it names; notes every problem.
    pub fn build(&self, files: &Files, problems: &mut Problems) -> Option<Tracing> {
        const AT: &str = "tracing.otlp";
        let otlp = &self.otlp;
        if !(0.0..=1.0).contains(&otlp.sample) {
            problems.add(format_args!("{AT}.sample"), "must be between 0 and 1");
        }
        if otlp.timeout.0.is_zero() {
            problems.add(format_args!("{AT}.timeout"), "must be more than nothing");
        }
        let has_headers = otlp.headers_file.is_some();
        let uri = parse_endpoint(&otlp.endpoint.0, has_headers);
        let uri = problems.take(format_args!("{AT}.endpoint"), uri);
        let headers = otlp.headers_file.as_ref().map(|path| {
            let at = format!("{AT}.headers_file");
            let text = problems.take(&at, files.read_secret_text(path))?;
            problems.take(at, parse_headers(text.expose()))
        });
        let at = format!("{AT}.ca_file");
        let pem = otlp.ca_file.as_ref().map(|path| {
            let pem = files.read(path);
            problems.take(&at, pem)
        });
        let pem = pem.map_or(Some(None), |pem| pem.map(Some))?;
        let client = problems.take(at, Client::new(pem.as_deref(), 1));
        let headers = headers.unwrap_or_else(|| Some(HeaderMap::new()));
        let (uri, headers, client) = (uri?, headers?, client?);
        let (timeout, name) = (otlp.timeout.0, otlp.service_name.clone());
        let collector = Collector::new(client, uri, headers, timeout, name);
        Some(Tracing {
            sample: otlp.sample,
            collector: Arc::new(collector),
        })
    }
}

/// Takes a URL that spans may be sent to.
fn parse_endpoint(text: &str, has_headers: bool) -> Result<Uri, String> {
    // Never repeats what may be a key.
    let is_plain = !text.contains(['@', '?', '#']);
    if !is_plain {
        return Err(
            "has credentials, a query or a fragment in it: what the collector asks for stands in `headers_file`"
                .to_owned(),
        );
    }
    let wrong = |what: &str| {
        format!("`{text}` {what}; write the whole URL, such as http://127.0.0.1:4318/v1/traces")
    };
    let uri = text.parse::<Uri>().map_err(|_| wrong("is not a URL"))?;
    match uri.scheme_str() {
        None => Err(wrong("has no scheme and host")),
        Some("http") if has_headers && !is_loopback(&uri) => Err(format!(
            "`{text}` is not https: everyone on the way could read what stands in `headers_file`"
        )),
        Some("http" | "https") if uri.path() == "/" => Err(wrong("has no path")),
        Some("http" | "https") => Ok(uri),
        Some(_) => Err(wrong("is neither http nor https")),
    }
}

/// Reads lines `Name: value`; empty ones and those that begin with `#` say nothing. What is wrong is
/// told by the line's number alone.
fn parse_headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            let mut value = HeaderValue::try_from(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let number = index + 1;
        let (name, value) = pair.ok_or_else(|| format!("line {number} is not `Name: value`"))?;
        if OWN.contains(&name) {
            return Err(format!("line {number}: `{name}` is the gate's own affair"));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

const OWN: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TRANSFER_ENCODING,
];

/// Which exchanges are traced, and where their spans go.
#[derive(Debug)]
pub struct Tracing {
    sample: f64,
    /// Where spans go.
    pub collector: Arc<Collector>,
}

impl Tracing {
    /// An exchange's part of a trace: the one that the headers name, or a new one. Only of a
    /// trusted proxy is it taken whether to record it: else a client could have everything traced.
    #[must_use]
    pub fn begin(&self, headers: &HeaderMap, is_trusted: bool, spans: &Spans) -> Box<Trace> {
        let parent = Parent::of(headers);
        let is_sampled = match parent {
            Some(parent) if is_trusted => parent.is_sampled,
            _ => self.sample >= 1.0 || fastrand::f64() < self.sample,
        };
        Box::new(Trace {
            id: parent.map_or_else(|| TraceId(fastrand::u128(1..)), |parent| parent.trace),
            parent: parent.map(|parent| parent.span),
            server: fastrand::u64(1..),
            client: fastrand::u64(1..),
            keeps_state: parent.is_some() && context::has_good_state(headers),
            recorded: is_sampled.then(|| Recorded {
                stages: Vec::with_capacity(MOST_STAGES),
                spans: spans.clone(),
            }),
        })
    }
}

/// The most stages that an exchange passes.
const MOST_STAGES: usize = 4;

/// An exchange's part of a trace.
#[derive(Debug)]
pub struct Trace {
    id: TraceId,
    /// The span of whoever asked.
    parent: Option<u64>,
    /// The span of the exchange.
    server: u64,
    /// The span of the request to the upstream.
    client: u64,
    keeps_state: bool,
    recorded: Option<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    /// Each with its end; it began where the one before it ended.
    stages: Vec<(Stage, Instant)>,
    spans: Spans,
}

/// A stage of an exchange that gets a span of its own, next to the request to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One reading of host and path, and a route for it.
    Route,
    /// A credential is found and judged.
    Authenticate,
    /// The route's policy is judged.
    Authorize,
    /// The request is turned into what the upstream gets.
    Translate,
    /// The gate answers itself: logins and what belongs to them.
    Endpoint,
}

impl Stage {
    const fn label(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Endpoint => "endpoint",
            Self::Route => "route",
            Self::Translate => "translate",
        }
    }
}

impl Trace {
    /// The id of the whole trace.
    #[must_use]
    pub const fn id(&self) -> TraceId {
        self.id
    }

    /// A stage has ended, well or not.
    pub fn passed(&mut self, stage: Stage) {
        if let Some(recorded) = &mut self.recorded {
            recorded.stages.push((stage, clock::now()));
        }
    }

    /// Tells the upstream under which span it is asked, instead of what the client said.
    pub fn write(&self, headers: &mut HeaderMap) {
        let own = Parent {
            trace: self.id,
            span: self.client,
            is_sampled: self.recorded.is_some(),
        };
        match own.value() {
            Some(value) => headers.insert(TRACEPARENT, value),
            None => headers.remove(TRACEPARENT),
        };
        if !self.keeps_state {
            headers.remove(TRACESTATE);
        }
    }
}
