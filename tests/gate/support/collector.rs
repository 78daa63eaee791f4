//! An OpenTelemetry collector that keeps every span.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::upstream::{Seen, Upstream};
use super::wait_for;

/// Takes spans over OTLP/HTTP.
#[derive(Debug)]
pub(crate) struct Collector(Upstream);

impl Collector {
    pub(crate) fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    }

    /// Answers every batch with these bytes.
    pub(crate) fn answering(response: &str) -> Self {
        Self(Upstream::answering(response))
    }

    /// The section of a config that names it.
    pub(crate) fn config(&self, more: &str) -> String {
        let address = self.0.address;
        format!("tracing: {{ otlp: {{ endpoint: \"http://{address}/v1/traces\", {more} }} }}")
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.0.seen()
    }

    /// Every batch so far.
    pub(crate) fn batches(&self) -> Vec<ExportTraceServiceRequest> {
        let decode = |seen: &Seen| ExportTraceServiceRequest::decode(&*seen.body).unwrap();
        self.requests().iter().map(decode).collect()
    }

    /// Every span so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let resources = self.batches().into_iter();
        let scopes = resources
            .flat_map(|batch| batch.resource_spans)
            .flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// Waits for the exchange with this path: its span, and those below it.
    pub(crate) fn exchange(&self, path: &str) -> (Span, Vec<Span>) {
        wait_for(path, || {
            let spans = self.spans();
            let is_it = |span: &&Span| text(&span.attributes, "url.path") == path;
            let whole = spans.iter().find(is_it)?.clone();
            let is_below = |span: &Span| span.parent_span_id == whole.span_id;
            let below = spans.iter().filter(|span| is_below(span)).cloned();
            Some((whole.clone(), below.collect()))
        })
    }
}

/// An attribute as text; nothing if there is none.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|attribute| attribute.value.as_ref()?.value.clone());
    match value {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{key}: {other:?}"),
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
