//! What is sent again, and what never?

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{asked, builder, endpoints, get, with_status};
use crate::support::gate::{Builder, claims, sign};
use crate::support::raw::{accepting, read_head};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

/// A gate whose route has this `retry`.
fn retrying(addresses: &[SocketAddr], settings: &str, retry: &str) -> Builder {
    let settings = format!(
        "{}, ejection: {{ failures: 0 }}{settings}",
        endpoints(addresses)
    );
    builder(&settings).edit(
        "    name: api\n",
        &format!("    name: api\n    retry: {retry}\n"),
    )
}

/// An upstream that breaks each connection once the head is there, and counts them.
fn breaking() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = accepting(move |mut stream| {
        if !read_head(&mut stream).is_empty() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, count)
}

fn retried(result: &str) -> String {
    format!("tollgate_upstream_retries_total{{result=\"{result}\",upstream=\"app\"}}")
}

#[test]
fn a_request_that_may_be_is_sent_again_to_another_endpoint() {
    let well = Upstream::start();
    let (broken, count) = breaking();
    let gate = retrying(&[broken, well.address], "", "{}").start();
    // Which one is asked is up to chance.
    wait_for("the broken one to be asked", || {
        assert_eq!(get(&gate).status, 200);
        (count.load(Ordering::Relaxed) > 0).then_some(())
    });
    let broken = count.load(Ordering::Relaxed);
    assert_eq!(
        gate.metric(&retried("retried")),
        f64::from(u32::try_from(broken).unwrap())
    );
    let seen = well.last();
    assert_eq!(seen.header("authorization"), Some("Basic Z2F0ZTpzM2NyZXQ="));
}

#[test]
fn an_answer_that_means_failure_is_asked_for_again_where_the_route_says_so() {
    let (ill, well) = (with_status(503), Upstream::start());
    let gate = retrying(&[ill.address, well.address], "", "{ statuses: [ 503 ] }").start();
    let answers: Vec<_> = (0..8).map(|_| get(&gate).status).collect();
    assert_eq!(answers, [200; 8]);
    // With no other to turn to, the last answer stands.
    let gate = retrying(&[ill.address], "", "{ tries: 2, statuses: [ 503 ] }").start();
    let before = asked(&ill);
    assert_eq!(get(&gate).status, 503);
    assert_eq!(asked(&ill) - before, 3);
}

#[test]
fn nothing_else_is_ever_sent_again() {
    for (row, retry, request) in [
        ("without retry", None, "GET /api/x"),
        ("another method", Some("{}"), "DELETE /api/x"),
        ("a body", Some("{}"), "GET /api/body"),
        ("a POST", Some("{ methods: [ GET, PUT ] }"), "POST /api/x"),
    ] {
        let (broken, count) = breaking();
        let gate = match retry {
            Some(retry) => retrying(&[broken], "", retry).start(),
            None => builder(&endpoints(&[broken])).start(),
        };
        let (method, target) = request.split_once(' ').unwrap();
        let mut headers = format!("authorization: Bearer {}\r\n", sign(&claims()));
        if target.ends_with("body") {
            headers += "content-length: 2\r\n";
        }
        let mut stream = crate::support::client::connect(gate.address());
        let head = format!("{method} {target} HTTP/1.1\r\nhost: gate.example\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        if target.ends_with("body") {
            stream.write_all(b"ok").unwrap();
        }
        let response = crate::support::client::read_response(&mut stream, false);
        assert_eq!(response.status, 502, "{row}");
        assert_eq!(count.load(Ordering::Relaxed), 1, "{row}");
    }
}

#[test]
fn an_upstream_that_is_down_gets_no_more_than_the_budget_on_top() {
    let ill = with_status(503);
    let gate = retrying(&[ill.address], ", retry_budget: 0.1", "{ tries: 3 }").start();
    let count = 100;
    for _ in 0..count {
        assert_eq!(get(&gate).status, 503);
    }
    // Ten in reserve, and a tenth of those that could be sent again.
    let retries = asked(&ill) - count;
    assert!((15..=20).contains(&retries), "{retries}");
    assert!(gate.metric(&retried("denied")) > 0.0);
}

#[test]
fn methods_that_do_harm_twice_are_refused_by_check() {
    let ill = with_status(503);
    let builder = retrying(&[ill.address], "", "{ methods: [ GET, POST ], tries: 0 }");
    let output = builder.run_to_end(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("routes[0].retry.methods[1]"), "{text}");
    assert!(text.contains("routes[0].retry.tries"), "{text}");
}
