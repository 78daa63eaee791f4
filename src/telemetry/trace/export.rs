//! How do spans reach the collector? Workers put them into a bounded queue and never wait; a task on
//! the main thread sends them in batches over OTLP/HTTP
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>). A collector that cannot be reached costs
//! spans, which are counted, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prometheus::IntCounter;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as Deadline, sleep, timeout, timeout_at};

use super::spans::text;
use crate::clock;
use crate::https::{Client, causes};
use crate::telemetry::metrics::Metrics;

/// The most exchanges whose spans wait for the collector; those of further ones are dropped.
const WAITING: usize = 2048;
/// The most exchanges whose spans are sent together.
const BATCH: usize = 256;
/// How long spans wait for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// How often spans are sent again that the collector could not take.
const TRIES: u32 = 4;
/// How long until the next try, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// How often failures are told at most.
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Where workers put spans.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: mpsc::Sender<Vec<Span>>,
    dropped: IntCounter,
}

impl Spans {
    /// A queue, and who empties it.
    #[must_use]
    pub fn new(metrics: &Metrics) -> (Self, Exporter) {
        let (sender, queue) = mpsc::channel(WAITING);
        // There from the first scrape on, so that an alert can tell zero from nothing.
        for result in ["failed", "ok", "rejected"] {
            metrics.spans_exported(result, 0);
        }
        let spans = Self {
            queue: sender,
            dropped: metrics.spans_dropped(),
        };
        let exporter = Exporter {
            queue,
            told: None,
            is_down: false,
        };
        (spans, exporter)
    }

    /// The spans of one exchange. Never waits.
    pub(super) fn hand_over(&self, spans: Vec<Span>) {
        let count = spans.len();
        if self.queue.try_send(spans).is_err() {
            self.dropped.inc_by(count.try_into().unwrap_or(u64::MAX));
        }
    }
}

/// Where spans go.
#[derive(Debug)]
pub struct Collector {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    resource: Resource,
}

/// Why spans were not taken.
struct Failure {
    text: String,
    /// Whether they may be taken later.
    may_pass: bool,
}

impl Collector {
    pub(super) fn new(
        client: Client,
        uri: Uri,
        mut headers: HeaderMap,
        timeout: Duration,
        service_name: String,
    ) -> Self {
        let kind = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, kind);
        let attributes = vec![
            text("service.name", service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Self {
            client,
            uri,
            headers,
            timeout,
            resource: Resource {
                attributes,
                ..Resource::default()
            },
        }
    }

    /// How long handing over some spans may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    fn encode(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans,
            schema_url: String::new(),
        };
        let spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![spans],
            schema_url: String::new(),
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![spans],
        };
        request.encode_to_vec().into()
    }

    /// Hands spans over; gives back how many of them the collector rejected.
    async fn post(&self, spans: Bytes) -> Result<u64, Failure> {
        let mut request = Request::new(Full::new(spans));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = self.client.send(request).await.map_err(|error| Failure {
            text: causes(&error),
            may_pass: true,
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(Failure {
                text: format!("it answered {status}"),
                may_pass: PASSING.contains(&status),
            });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        // They were taken, whatever became of the answer.
        let answer = body.ok().map(http_body_util::Collected::to_bytes);
        let answer = answer.and_then(|body| ExportTraceServiceResponse::decode(body).ok());
        let rejected = answer.and_then(|answer| answer.partial_success);
        let rejected = rejected.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or_default())
    }
}

/// Answers after which the same may be sent again.
const PASSING: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Empties the queue.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<Vec<Span>>,
    /// When a failure was last told.
    told: Option<std::time::Instant>,
    is_down: bool,
}

impl Exporter {
    /// Sends spans to whoever is the collector at the time, until `ending` says so, or its sender is
    /// gone, and the last are sent.
    pub async fn run(
        mut self,
        collector: impl Fn() -> Option<Arc<Collector>>,
        metrics: &Metrics,
        mut ending: watch::Receiver<bool>,
    ) {
        loop {
            let spans = self.next(&mut ending).await;
            if spans.is_empty() {
                return;
            }
            let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            let Some(collector) = collector() else {
                // Tracing was turned off in the meantime.
                metrics.spans_exported("failed", count);
                continue;
            };
            let spans = collector.encode(spans);
            match self.deliver(&collector, spans, &mut ending).await {
                Some(rejected) => {
                    let rejected = rejected.min(count);
                    metrics.spans_exported("rejected", rejected);
                    metrics.spans_exported("ok", count - rejected);
                }
                None => metrics.spans_exported("failed", count),
            }
        }
    }

    /// What is to be sent next; nothing at the end.
    async fn next(&mut self, ending: &mut watch::Receiver<bool>) -> Vec<Span> {
        let mut batch = Vec::new();
        tokio::select! {
            _ = self.queue.recv_many(&mut batch, BATCH) => {}
            () = begun(ending), if !self.queue.is_closed() => {}
        }
        if batch.is_empty() {
            self.queue.close();
            self.queue.recv_many(&mut batch, BATCH).await;
            return batch.into_iter().flatten().collect();
        }
        let due = Deadline::now() + DELAY;
        while batch.len() < BATCH && !*ending.borrow() {
            let room = BATCH - batch.len();
            let more = timeout_at(due, self.queue.recv_many(&mut batch, room));
            tokio::select! {
                more = more => match more {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => break,
                },
                () = begun(ending) => break,
            }
        }
        batch.into_iter().flatten().collect()
    }

    /// Tries until the collector takes the spans or it is in vain. How many it rejected of them.
    async fn deliver(
        &mut self,
        collector: &Collector,
        spans: Bytes,
        ending: &mut watch::Receiver<bool>,
    ) -> Option<u64> {
        for count in 0..TRIES {
            let outcome = timeout(collector.timeout, collector.post(spans.clone())).await;
            let failure = match outcome {
                Ok(Ok(rejected)) => {
                    self.tell_success(rejected);
                    return Some(rejected);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure {
                    text: "it took longer than tracing.otlp.timeout".to_owned(),
                    may_pass: true,
                },
            };
            self.tell_failure(&failure.text);
            if !failure.may_pass || *ending.borrow() {
                return None;
            }
            tokio::select! {
                () = sleep(PAUSE * 2_u32.saturating_pow(count)) => {}
                () = begun(ending) => {}
            }
        }
        None
    }

    fn tell_success(&mut self, rejected: u64) {
        if std::mem::take(&mut self.is_down) {
            tracing::info!("spans reach the collector again");
        }
        if rejected > 0 && self.may_tell() {
            tracing::warn!(rejected, "the collector rejected spans");
        }
    }

    fn tell_failure(&mut self, error: &str) {
        self.is_down = true;
        if self.may_tell() {
            tracing::warn!(error, "spans could not be handed to the collector");
        }
    }

    fn may_tell(&mut self) -> bool {
        let now = clock::now();
        let may = self
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= TELL_INTERVAL);
        if may {
            self.told = Some(now);
        }
        may
    }
}

/// Ends when the end begins.
async fn begun(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|has_begun| *has_begun).await;
}
