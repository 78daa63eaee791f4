//! Does every sampled exchange become a true trace, handed to the collector, at nobody's cost?

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use crate::support::client::{connect, read_response};
use crate::support::collector::{Collector, hex, text};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::reload::{Verdict, reload_with};
use crate::support::secrets::Secrets;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - path: /api/**
    name: api
    upstream: app
    require: { scopes: [ admin ] }
    credential: { basic: { username: gate, password_file: upstream-password } }
  - { path: /open/**, name: open, upstream: app, public: true }
  - { path: /down/**, name: down, upstream: down, public: true }
";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn builder(upstream: &Upstream, tracing: &str) -> Builder {
    let app = format!(
        "  app: {{ endpoints: [ \"http://{}\" ] }}\n  down: {{ endpoints: [ \"http://127.0.0.1:1\" ] }}",
        upstream.address
    );
    Builder::with_extra(upstream.address, ROUTES, tracing).line("  app:", &app)
}

fn start(more: &str) -> (Upstream, Collector, Gate) {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let gate = builder(&upstream, &collector.config(more)).start();
    (upstream, collector, gate)
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Whether a span tells of an error.
fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn an_exchange_is_a_trace_of_its_stages() {
    let (_upstream, collector, gate) = start("sample: 1");
    let token = sign(&claims());
    assert_eq!(gate.get("/api/a?x=1", &token).status, 200);
    let (whole, below) = collector.exchange("/api/a");
    assert_eq!(whole.name, "GET api");
    assert_eq!((whole.kind, hex(&whole.parent_span_id)), (2, String::new()));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "api"),
        ("client.address", "127.0.0.1"),
        ("error.type", ""),
    ] {
        assert_eq!(text(&whole.attributes, key), value, "{key}");
    }
    let stages = ["route", "authenticate", "authorize", "translate", "GET app"];
    assert_eq!(names(&below), stages);
    assert_in_order(&whole, &below);
    let client = &below[4];
    assert_eq!(client.kind, 3);
    assert_eq!(text(&client.attributes, "tollgate.upstream"), "app");
    assert_eq!(text(&client.attributes, "http.response.status_code"), "200");
}

/// One after the other within the whole, and none failed.
fn assert_in_order(whole: &Span, below: &[Span]) {
    let mut from = whole.start_time_unix_nano;
    for span in below {
        assert_eq!(span.trace_id, whole.trace_id);
        let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(from <= start && start <= end, "{span:?}");
        assert!(!is_error(span), "{span:?}");
        from = end;
    }
    assert!(from <= whole.end_time_unix_nano && !is_error(whole));
}

#[test]
fn upstream_log_and_collector_are_told_the_same() {
    let (upstream, collector, gate) = start("sample: 1, service_name: my-gate");
    gate.request("GET", "/open/a", "");
    let (whole, below) = collector.exchange("/open/a");
    let (trace, span) = (hex(&whole.trace_id), hex(&below[2].span_id));
    assert_eq!(below[2].kind, 3);
    // The upstream goes on below the span of the request to it.
    let expected = format!("00-{trace}-{span}-01");
    assert_eq!(upstream.last().header("traceparent"), Some(&*expected));
    assert_eq!(gate.exchange("/open/a")["trace_id"], trace);
    let resource = collector.batches()[0].resource_spans[0].resource.clone();
    let resource = resource.unwrap().attributes;
    assert_eq!(text(&resource, "service.name"), "my-gate");
    let request = &collector.requests()[0];
    assert!(request.head.starts_with("POST /v1/traces "));
    let kind = request.header("content-type");
    assert_eq!(kind, Some("application/x-protobuf"));
    gate.wait_for_metric("tollgate_spans_exported_total{result=\"ok\"}", 4.0);
}

/// Method, target, whose token; the span's name, its error, the stages, whether the gate or what is
/// behind it failed.
const REFUSALS: &str = "
GET /api/b none   | GET api         | missing_credential   | route authenticate          | no
GET /api/c nobody | GET api         | insufficient_scope   | route authenticate authorize | no
GET /nowhere none | GET (none)      | route_not_found      | route                       | no
BREW /open/d none | HTTP open       |                      | route translate HTTP app    | no
GET /down/e none  | GET down        | upstream_unreachable | route translate GET down    | yes
POST /auth/authenticate none | POST (endpoint) | malformed_request | endpoint             | no
GET /open/../f none | GET (none)    | ambiguous_path |                             | no
";

#[test]
fn a_refusal_is_told_where_it_came_about() {
    let (_upstream, collector, gate) = start("sample: 1");
    let mut nobody = claims();
    nobody["scope"] = "other".into();
    let nobody = format!("authorization: Bearer {}\r\n", sign(&nobody));
    for row in REFUSALS.lines().filter(|row| !row.is_empty()) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let request: Vec<_> = cells[0].split(' ').collect();
        let headers = if request[2] == "nobody" { &*nobody } else { "" };
        let status = gate.request(request[0], request[1], headers).status;
        let (whole, below) = collector.exchange(request[1]);
        assert_eq!(whole.name, cells[1], "{row}");
        assert_eq!(text(&whole.attributes, "error.type"), cells[2], "{row}");
        let code = text(&whole.attributes, "http.response.status_code");
        assert_eq!(code, status.to_string(), "{row}");
        assert_eq!(names(&below).join(" "), cells[3], "{row}");
        assert_eq!(is_error(&whole), cells[4] == "yes", "{row}");
        let last = below
            .last()
            .map(|span| text(&span.attributes, "error.type"));
        assert_eq!(
            last.unwrap_or_else(|| cells[2].to_owned()),
            cells[2],
            "{row}"
        );
        assert_eq!(
            below.last().is_some_and(is_error),
            cells[4] == "yes",
            "{row}"
        );
    }
}

#[test]
fn a_clients_trace_goes_on_and_one_that_is_none_does_not() {
    let (upstream, collector, gate) = start("sample: 1");
    let headers = format!("traceparent: {PARENT}\r\ntracestate: a=1,b=2\r\n");
    gate.request("GET", "/open/good", &headers);
    let (whole, below) = collector.exchange("/open/good");
    assert_eq!(hex(&whole.trace_id), TRACE);
    assert_eq!(hex(&whole.parent_span_id), "00f067aa0ba902b7");
    let expected = format!("00-{TRACE}-{}-01", hex(&below[2].span_id));
    let seen = upstream.last();
    assert_eq!(seen.header("traceparent"), Some(&*expected));
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    // Whose state cannot be read keeps the trace alone.
    let headers = format!("traceparent: {PARENT}\r\ntracestate: a=1,a=2\r\n");
    gate.request("GET", "/open/state", &headers);
    assert_eq!(hex(&collector.exchange("/open/state").0.trace_id), TRACE);
    assert_eq!(upstream.last().header("tracestate"), None);
    let zero = "00000000000000000000000000000000";
    for (index, parents) in [
        "traceparent: nonsense\r\n".to_owned(),
        format!("traceparent: {}\r\n", PARENT.to_uppercase()),
        format!("traceparent: {}\r\n", PARENT.replace(TRACE, zero)),
        format!("traceparent: {PARENT}-x\r\n"),
        format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n"),
        format!("traceparent: {PARENT}, {PARENT}\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/open/bad/{index}");
        gate.request("GET", &path, &format!("{parents}tracestate: a=1\r\n"));
        let (whole, below) = collector.exchange(&path);
        let trace = hex(&whole.trace_id);
        assert!(trace != TRACE && trace != zero, "{parents}");
        assert_eq!(hex(&whole.parent_span_id), "", "{parents}");
        let expected = format!("00-{trace}-{}-01", hex(&below[2].span_id));
        let seen = upstream.last();
        assert_eq!(seen.header("traceparent"), Some(&*expected), "{parents}");
        assert_eq!(seen.header("tracestate"), None, "{parents}");
    }
}

/// Whom the gate trusts, its own share, what the request says; whether it is traced.
const SAMPLES: [(&str, &str, &str, bool); 8] = [
    ("", "0", "", false),
    ("", "1", "", true),
    ("", "0", PARENT, false),
    ("", "1", UNSAMPLED, true),
    ("127.0.0.1", "0", "", false),
    ("127.0.0.1", "0", PARENT, true),
    ("127.0.0.1", "1", UNSAMPLED, false),
    ("127.0.0.1", "1", "nonsense", true),
];

#[test]
fn only_a_trusted_proxy_decides_what_is_recorded() {
    for (trusted, sample, parent, is_traced) in SAMPLES {
        let (upstream, collector) = (Upstream::start(), Collector::start());
        let gate = builder(&upstream, &collector.config(&format!("sample: {sample}")));
        let mut gate = gate.trusting(trusted).start();
        let header = match parent {
            "" => String::new(),
            parent => format!("traceparent: {parent}\r\n"),
        };
        // Behind a proxy the client's own address does not matter.
        let headers = format!("{header}x-forwarded-for: 203.0.113.9\r\n");
        gate.request("GET", "/open/a", &headers);
        // The upstream learns of the same decision.
        let seen = upstream.last();
        let end = if is_traced { "-01" } else { "-00" };
        let told = seen.header("traceparent").unwrap();
        let row = format!("{trusted} {sample} {parent}");
        assert!(told.ends_with(end), "{row}: {told}");
        assert_eq!(told.contains(TRACE), parent.contains(TRACE), "{row}");
        assert_ne!(told, parent, "{row}");
        gate.end();
        assert_eq!(collector.spans().is_empty(), !is_traced, "{row}");
        let logged = gate.exchange("/open/a")["trace_id"].clone();
        assert_eq!(logged, told.split('-').nth(1).unwrap(), "{row}");
    }
}

#[test]
fn without_the_section_headers_pass_as_they_came() {
    let upstream = Upstream::start();
    let gate = builder(&upstream, "").start();
    let headers = "traceparent: anything\r\ntracestate: of, the client\r\n";
    gate.request("GET", "/open/a", headers);
    let seen = upstream.last();
    assert_eq!(seen.header("traceparent"), Some("anything"));
    assert_eq!(seen.header("tracestate"), Some("of, the client"));
    assert!(gate.exchange("/open/a").get("trace_id").is_none());
}

#[test]
fn no_secret_is_in_a_span() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let tracing = collector.config("sample: 1, headers_file: headers");
    let mut gate = builder(&upstream, &tracing)
        .file("headers", "x-key: key-of-the-collector")
        .start();
    let mut secrets = Secrets::default();
    let token = sign(&claims());
    secrets.add_token("token", &token);
    secrets.add("query", "secret-in-the-query");
    secrets.add("header", "secret-in-a-header");
    secrets.add_pair("login", "root", "hunter2-wrong-password");
    for target in [
        format!("/api/a?token={token}&q=secret-in-the-query"),
        format!("/api/b?token={token}x&q=secret-in-the-query"),
        "/open/c?secret-in-the-query".to_owned(),
    ] {
        gate.request("GET", &target, "x-request-id: secret-in-a-header\r\n");
    }
    let bearer = format!("authorization: Bearer {token}\r\nx-a: secret-in-a-header\r\n");
    gate.request("GET", "/api/d", &bearer);
    let state = "tracestate: a=secret-in-a-header\r\n";
    gate.request(
        "GET",
        "/open/e",
        &format!("traceparent: {PARENT}\r\n{state}"),
    );
    let login = json!({"username": "root", "password": "hunter2-wrong-password"});
    gate.post_json(
        "/auth/authenticate?q=secret-in-the-query",
        &login.to_string(),
    );
    gate.end();
    let requests = collector.requests();
    let spans = collector.spans();
    let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((count("GET api"), count("GET open")), (3, 2));
    assert_eq!(count("POST (endpoint)"), 1);
    for request in &requests {
        assert_eq!(secrets.found_in(&request.body), Vec::<&str>::new());
    }
    assert!(!gate.log().contains("key-of-the-collector"));
}

#[test]
fn the_collector_gets_the_headers_of_the_file() {
    let (upstream, collector) = (Upstream::start(), Collector::start());
    let tracing = collector.config("sample: 1, headers_file: headers");
    let lines = "# for the collector\n\nx-api-key: key-of-the-collector\nX-Tenant: a\n";
    let gate = builder(&upstream, &tracing).file("headers", lines).start();
    gate.request("GET", "/open/a", "");
    collector.exchange("/open/a");
    let request = &collector.requests()[0];
    assert_eq!(request.header("x-api-key"), Some("key-of-the-collector"));
    assert_eq!(request.header("x-tenant"), Some("a"));
}

#[test]
fn the_last_spans_are_handed_over_at_the_end() {
    let (_upstream, collector, mut gate) = start("sample: 1");
    for index in 0..20 {
        gate.request("GET", &format!("/open/{index}"), "");
    }
    gate.end();
    let paths = collector.spans();
    let paths = paths.iter().filter(|span| span.kind == 2);
    assert_eq!(paths.count(), 20);
}

#[test]
fn a_collector_that_is_not_there_hurts_nobody() {
    let upstream = Upstream::start();
    let tracing = "tracing: { otlp: { endpoint: \"http://127.0.0.1:1/v1/traces\", sample: 1 } }";
    let mut gate = builder(&upstream, tracing).start();
    for _ in 0..50 {
        assert_eq!(gate.request("GET", "/open/a", "").status, 200);
    }
    let message = "spans could not be handed to the collector";
    gate.wait_for_log(message, |line| line["message"] == message);
    // At the end what waits is tried once more, and given up.
    let log = gate.end();
    assert_eq!(log.matches(message).count(), 1, "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn an_answer_that_says_no_is_counted() {
    for (answer, result) in [
        (
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            "failed",
        ),
        // An ExportTraceServiceResponse: `partial_success` with one of `rejected_spans`.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x03",
            "rejected",
        ),
    ] {
        let (upstream, collector) = (Upstream::start(), Collector::answering(answer));
        let gate = builder(&upstream, &collector.config("sample: 1")).start();
        gate.request("GET", "/open/a", "");
        let sample = format!("tollgate_spans_exported_total{{result=\"{result}\"}}");
        let count = if result == "failed" { 4.0 } else { 3.0 };
        gate.wait_for_metric(&sample, count);
        assert_eq!(collector.requests().len(), 1, "{result}");
    }
}

#[test]
fn a_collector_that_was_busy_gets_the_same_again() {
    let upstream = Upstream::start();
    let busy = std::sync::atomic::AtomicBool::new(true);
    let collector = Upstream::scripted(move |_, stream| {
        let answer = match busy.swap(false, std::sync::atomic::Ordering::SeqCst) {
            true => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            false => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let address = collector.address;
    let tracing =
        format!("tracing: {{ otlp: {{ endpoint: \"http://{address}/v1/traces\", sample: 1 }} }}");
    let gate = builder(&upstream, &tracing).start();
    gate.request("GET", "/open/a", "");
    gate.wait_for_metric("tollgate_spans_exported_total{result=\"ok\"}", 4.0);
    let seen = collector.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, seen[1].body);
    let message = "spans reach the collector again";
    gate.wait_for_log(message, |line| line["message"] == message);
}

#[test]
fn spans_that_nobody_takes_are_dropped_and_counted() {
    let upstream = Upstream::start();
    // It accepts by its backlog, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let more = "sample: 1, timeout: 60s";
    let tracing =
        format!("tracing: {{ otlp: {{ endpoint: \"http://{address}/v1/traces\", {more} }} }}");
    let gate = builder(&upstream, &tracing).start();
    let mut stream = connect(gate.address());
    // More than wait and are on their way together: 2048 and 256.
    let request = "GET /nowhere HTTP/1.1\r\nhost: gate.example\r\n\r\n";
    for _ in 0..30 {
        stream.write_all(request.repeat(100).as_bytes()).unwrap();
        for _ in 0..100 {
            assert_eq!(read_response(&mut stream, false).status, 404);
        }
    }
    let dropped = wait_for("dropped spans", || {
        let dropped = gate.metric("tollgate_spans_dropped_total");
        (dropped > 0.0).then_some(dropped)
    });
    // Two spans for each exchange.
    assert!(dropped <= 2.0 * (3000.0 - 2048.0), "{dropped}");
    assert_eq!(gate.request("GET", "/open/a", "").status, 200);
    let (mut taken, _) = silent.accept().unwrap();
    let mut byte = [0];
    taken.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"P");
}

#[test]
fn a_reload_turns_traces_on_elsewhere_and_off() {
    let (upstream, first, second) = (Upstream::start(), Collector::start(), Collector::start());
    let gate = builder(&upstream, "").start();
    let path = gate.folder().path().join("tollgate.yaml");
    let bare = std::fs::read_to_string(path).unwrap();
    let put = |section: &str| {
        let config = format!("{bare}\n{section}\n");
        assert_eq!(reload_with(&gate, &config), Verdict::Taken);
    };
    gate.request("GET", "/open/before", "");
    put(&first.config("sample: 1"));
    gate.request("GET", "/open/first", "");
    first.exchange("/open/first");
    put(&second.config("sample: 1"));
    gate.request("GET", "/open/second", "");
    second.exchange("/open/second");
    put("");
    gate.request("GET", "/open/after", "");
    assert_eq!(upstream.last().header("traceparent"), None);
    assert_eq!((first.spans().len(), second.spans().len()), (4, 4));
    assert!(!gate.log().contains("wait for a restart"));
}
