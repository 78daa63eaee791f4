//! What does a trace tell of an exchange? A span for the whole, one for each stage, and one for the
//! request to the upstream; names are closed sets or from the config, and nothing in them is a
//! header, a query or a credential. Attributes are those of OpenTelemetry's semantic conventions
//! for HTTP where there is one: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use super::{Recorded, Trace};
use crate::clock;
use crate::refusal::{Reason, Side};

/// How an exchange went, once it has ended.
#[derive(Debug)]
pub(in crate::telemetry) struct Ended<'a> {
    pub(in crate::telemetry) start: Instant,
    pub(in crate::telemetry) end: Instant,
    pub(in crate::telemetry) method: &'a Method,
    pub(in crate::telemetry) path: &'a str,
    pub(in crate::telemetry) route: Option<&'a str>,
    pub(in crate::telemetry) client: IpAddr,
    pub(in crate::telemetry) status: Option<StatusCode>,
    pub(in crate::telemetry) dialect: Option<&'static str>,
    pub(in crate::telemetry) reason: Option<Reason>,
    /// The upstream's name.
    pub(in crate::telemetry) upstream: Option<&'a str>,
    /// How long the upstream took, and until when.
    pub(in crate::telemetry) waited: Option<(Duration, Instant)>,
}

impl Trace {
    /// Hands the spans on if the exchange is recorded.
    pub(in crate::telemetry) fn end(self, ended: &Ended<'_>) {
        let Some(recorded) = &self.recorded else {
            return;
        };
        let maker = Maker {
            trace: &self,
            now: ended.end,
            wall: clock::unix_nanos(),
        };
        let mut spans = Vec::with_capacity(recorded.stages.len() + 2);
        spans.push(maker.whole(ended));
        maker.stages(recorded, ended, &mut spans);
        spans.extend(maker.upstream(recorded, ended));
        recorded.spans.hand_over(spans);
    }
}

/// Makes the spans of one trace.
struct Maker<'a> {
    trace: &'a Trace,
    now: Instant,
    /// The wall clock at that time.
    wall: u64,
}

impl Maker<'_> {
    fn span(&self, id: u64, parent: Option<u64>, from: Instant, to: Instant) -> Span {
        let parent = parent.map(|parent| parent.to_be_bytes().to_vec());
        Span {
            trace_id: self.trace.id.0.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: parent.unwrap_or_default(),
            start_time_unix_nano: self.time(from),
            end_time_unix_nano: self.time(to),
            kind: SpanKind::Internal.into(),
            flags: SAMPLED | flag(SpanFlags::ContextHasIsRemoteMask),
            ..Span::default()
        }
    }

    fn time(&self, then: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(then).as_nanos();
        self.wall
            .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }

    /// The whole exchange, as its client saw it.
    fn whole(&self, ended: &Ended<'_>) -> Span {
        let trace = self.trace;
        let mut span = self.span(trace.server, trace.parent, ended.start, ended.end);
        span.kind = SpanKind::Server.into();
        if trace.parent.is_some() {
            span.flags |= flag(SpanFlags::ContextIsRemoteMask);
        }
        let method = method(ended.method);
        span.name = name(method, ended.route);
        let mut attributes = vec![
            text("http.request.method", method.unwrap_or("_OTHER")),
            text("url.path", shorten(ended.path)),
            text("client.address", ended.client.to_string()),
        ];
        attributes.extend(ended.route.map(|route| text("http.route", route)));
        attributes.extend(ended.status.map(status));
        attributes.extend(ended.dialect.map(|name| text("tollgate.dialect", name)));
        let is_ours = |reason: Reason| reason.side() != Side::Downstream;
        let is_error = ended.status.is_some_and(|status| status.is_server_error())
            || ended.reason.is_some_and(is_ours);
        attributes.extend(error_type(ended, is_error));
        span.attributes = attributes;
        span.status = is_error.then(failed);
        span
    }

    /// Each stage; if it was not the upstream that failed, the last one says what did.
    fn stages(&self, recorded: &Recorded, ended: &Ended<'_>, spans: &mut Vec<Span>) {
        let mut from = ended.start;
        for (stage, to) in &recorded.stages {
            let mut span = self.span(fastrand::u64(1..), Some(self.trace.server), from, *to);
            stage.label().clone_into(&mut span.name);
            spans.push(span);
            from = *to;
        }
        if let (Some(reason), None) = (ended.reason, ended.upstream)
            && let Some(span) = spans.last_mut().filter(|_| !recorded.stages.is_empty())
        {
            span.attributes.push(text("error.type", reason.label()));
            span.status = (reason.side() != Side::Downstream).then(failed);
        }
    }

    /// The request to the upstream, up to the head of its answer, or to the end without one.
    fn upstream(&self, recorded: &Recorded, ended: &Ended<'_>) -> Option<Span> {
        let upstream = ended.upstream?;
        let trace = self.trace;
        let (from, to) = match ended.waited {
            Some((took, until)) => (until.checked_sub(took).unwrap_or(until), until),
            None => {
                let last = recorded.stages.last().map(|(_, end)| *end);
                (last.unwrap_or(ended.start), ended.end)
            }
        };
        let mut span = self.span(trace.client, Some(trace.server), from, to);
        span.kind = SpanKind::Client.into();
        let method = method(ended.method);
        span.name = name(method, Some(upstream));
        span.attributes = vec![
            text("http.request.method", method.unwrap_or("_OTHER")),
            text("tollgate.upstream", upstream),
        ];
        // After a refusal the status is the gate's own.
        let own = ended.status.filter(|_| ended.reason.is_none());
        span.attributes.extend(own.map(status));
        let is_error = ended.reason.is_some()
            || own.is_some_and(|own| own.is_client_error() || own.is_server_error());
        span.attributes.extend(error_type(ended, is_error));
        span.status = is_error.then(failed);
        Some(span)
    }
}

const SAMPLED: u32 = 1;

const fn flag(flag: SpanFlags) -> u32 {
    (flag as i32).cast_unsigned()
}

fn failed() -> Status {
    Status {
        code: SpanStatus::Error.into(),
        message: String::new(),
    }
}

/// `error.type`: the reason of a refusal, or the status of an answer that tells of an error.
fn error_type(ended: &Ended<'_>, is_error: bool) -> Option<KeyValue> {
    let status = ended.status.filter(|_| is_error);
    let code = || status.map(|status| text("error.type", status.as_str()));
    let reason = ended
        .reason
        .map(|reason| text("error.type", reason.label()));
    reason.or_else(code)
}

fn name(method: Option<&str>, what: Option<&str>) -> String {
    let method = method.unwrap_or("HTTP");
    what.map_or_else(|| method.to_owned(), |what| format!("{method} {what}"))
}

/// A method that is known; a client could make up any number of others.
const fn method(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::CONNECT => "CONNECT",
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::TRACE => "TRACE",
        _ => return None,
    })
}

fn status(status: StatusCode) -> KeyValue {
    let value = Value::IntValue(status.as_u16().into());
    attribute("http.response.status_code", value)
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The longest path that is told, in bytes: what waits for the collector is bounded by it.
const LONGEST_PATH: usize = 1024;

fn shorten(path: &str) -> &str {
    match path.char_indices().find(|(at, _)| *at >= LONGEST_PATH) {
        Some((at, _)) => path.split_at(at).0,
        None => path,
    }
}
