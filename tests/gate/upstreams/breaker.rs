//! What happens when an upstream has all that it can take?

use std::io::Write;

use super::{ask, builder, endpoints, errors, get};
use crate::support::client::read_response;
use crate::support::held::Held;
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::wait_for;

#[test]
fn beyond_its_connections_requests_wait_and_beyond_those_they_get_503() {
    let held = Held::start();
    let settings = format!(
        "{}, connections: 1, pending: 1, connect_timeout: 20s",
        endpoints(&[held.address])
    );
    let gate = builder(&settings).start();
    let mut first = ask(&gate);
    held.wait();
    let mut second = ask(&gate);
    // The second waits for its turn once the third is turned away.
    let third = wait_for("the queue to be full", || {
        let in_flight = gate.metric("tollgate_requests_in_flight{route=\"api\"}");
        (in_flight == 2.0).then(|| get(&gate))
    });
    assert_eq!(third.status, 503);
    assert_eq!(third.header("retry-after"), Some("1"));
    assert_eq!(gate.exchange("/api/x")["reason"], "upstream_unavailable");
    assert_eq!(errors(&gate, "busy"), 1.0);
    held.answer();
    assert_eq!(read_response(&mut first, false).status, 200);
    held.wait();
    held.answer();
    assert_eq!(read_response(&mut second, false).status, 200);
    let open = "tollgate_upstream_connections_open{upstream=\"app\"}";
    assert_eq!(gate.metric(open), 1.0);
}

#[test]
fn who_waits_for_too_long_gets_503() {
    let held = Held::start();
    let settings = format!(
        "{}, connections: 1, connect_timeout: 200ms",
        endpoints(&[held.address])
    );
    let gate = builder(&settings).start();
    let mut first = ask(&gate);
    held.wait();
    assert_eq!(get(&gate).status, 503);
    assert_eq!(errors(&gate, "busy"), 1.0);
    held.answer();
    assert_eq!(read_response(&mut first, false).status, 200);
    // Whoever left the queue holds nothing up.
    let mut last = ask(&gate);
    held.wait();
    held.answer();
    assert_eq!(read_response(&mut last, false).status, 200);
}

#[test]
fn unused_connections_make_room_for_those_to_other_endpoints() {
    let upstreams = [0, 1, 2].map(|_| crate::support::upstream::Upstream::start());
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let settings = format!("{}, connections: 2", endpoints(&addresses));
    let gate = builder(&settings).start();
    let open = "tollgate_upstream_connections_open{upstream=\"app\"}";
    for _ in 0..60 {
        assert_eq!(get(&gate).status, 200);
        wait_for("no more than the bound", || {
            (gate.metric(open) <= 2.0).then_some(())
        });
    }
    assert!(upstreams.iter().all(|upstream| !upstream.seen().is_empty()));
}

#[test]
fn an_answer_that_stops_in_its_body_breaks_off() {
    let upstream = accepting(|mut stream| {
        while !read_head(&mut stream).is_empty() {
            let part = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
            stream.write_all(part).unwrap();
        }
    });
    // Shorter and longer than what the alarm of a new connection is set to.
    for limits in [
        "body_timeout: 300ms, response_timeout: 20s",
        "body_timeout: 600ms, response_timeout: 300ms",
    ] {
        let gate = builder(&format!("{}, {limits}", endpoints(&[upstream]))).start();
        let mut stream = ask(&gate);
        let rest = String::from_utf8(read_rest(&mut stream)).unwrap();
        assert!(rest.ends_with("\r\n\r\nhello"), "{limits}: {rest}");
        let line = gate.exchange("/api/x");
        assert_eq!(line["reason"], "upstream_timeout", "{limits}: {line}");
        assert_eq!(errors(&gate, "body_timeout"), 1.0, "{limits}");
    }
}
