//! Who gets a request, and who does not any more?

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use super::{asked, builder, endpoints, errors, get, in_state, is_check, with_status};
use crate::support::client::read_response;
use crate::support::held::Held;
use crate::support::reload::{Verdict, reload_with};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

#[test]
fn of_two_endpoints_the_one_with_fewer_requests_under_way_is_asked() {
    let (slow, quick) = (Held::start(), Upstream::start());
    let gate = builder(&endpoints(&[slow.address, quick.address])).start();
    // Which of them the first few reach is chance, until one is held.
    let mut held = Vec::new();
    while held.is_empty() {
        let before = asked(&quick);
        let stream = super::ask(&gate);
        wait_for("somebody to be asked", || {
            let is_held = slow.try_wait();
            (is_held || asked(&quick) > before).then(|| {
                if is_held {
                    held.push(stream.try_clone().unwrap());
                }
            })
        });
        drop(stream);
    }
    let before = asked(&quick);
    for _ in 0..50 {
        assert_eq!(get(&gate).status, 200);
    }
    assert_eq!(asked(&quick) - before, 50);
    slow.answer();
    assert_eq!(read_response(&mut held[0], false).status, 200);
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_passed_over_then_ejected_and_comes_back() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let well = Upstream::start();
    let settings = format!(
        "{}, ejection: {{ failures: 3, time: 300ms }}",
        endpoints(&[address, well.address])
    );
    let gate = builder(&settings).start();
    wait_for("the ejection", || {
        assert_eq!(get(&gate).status, 200);
        (in_state(&gate, "ejected") > 0.0).then_some(())
    });
    assert_eq!(errors(&gate, "connect"), 3.0);
    let ejections = "tollgate_upstream_ejections_total{upstream=\"app\"}";
    assert_eq!(gate.metric(ejections), 1.0);
    gate.wait_for_log("the ejection", |line| {
        line["upstream"] == "app" && line["endpoint"] == format!("http://{address}")
    });
    // Its time over, it is asked again, and found to be well.
    let back = TcpListener::bind(address).unwrap();
    let was_asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&was_asked);
    std::thread::spawn(move || {
        for mut stream in back.incoming().flatten() {
            seen.store(true, Ordering::Relaxed);
            crate::support::raw::read_head(&mut stream);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer).unwrap();
        }
    });
    wait_for("it to be asked again", || {
        assert_eq!(get(&gate).status, 200);
        was_asked.load(Ordering::Relaxed).then_some(())
    });
    assert_eq!(in_state(&gate, "up"), 2.0);
}

#[test]
fn an_endpoint_that_answers_for_a_dead_service_is_ejected() {
    for status in [502, 503, 504] {
        let (ill, well) = (with_status(status), Upstream::start());
        let gate = builder(&endpoints(&[ill.address, well.address])).start();
        let answers: Vec<_> = (0..60).map(|_| get(&gate).status).collect();
        let bad = answers.iter().filter(|answer| **answer == status).count();
        assert_eq!(bad, 5, "{status}: {answers:?}");
        assert_eq!(in_state(&gate, "ejected"), 1.0, "{status}");
    }
}

#[test]
fn what_an_upstream_says_of_a_request_ejects_nobody() {
    for status in [400, 401, 404, 429, 500, 501] {
        let (one, other) = (with_status(status), with_status(status));
        let gate = builder(&endpoints(&[one.address, other.address])).start();
        for _ in 0..20 {
            get(&gate);
        }
        assert_eq!(in_state(&gate, "up"), 2.0, "{status}");
    }
}

#[test]
fn the_last_endpoint_is_never_ejected() {
    let (one, other) = (with_status(503), with_status(503));
    let gate = builder(&endpoints(&[one.address, other.address])).start();
    for _ in 0..40 {
        assert_eq!(get(&gate).status, 503);
    }
    assert_eq!(in_state(&gate, "ejected"), 1.0);
    assert_eq!(asked(&one) + asked(&other), 40);
}

/// An upstream whose health is told by the test.
fn with_health(health: &Arc<AtomicU16>) -> Upstream {
    let health = Arc::clone(health);
    Upstream::scripted(move |seen, stream| {
        let status = match is_check(seen) {
            true => health.load(Ordering::Relaxed),
            false => 200,
        };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

const CHECK: &str =
    "health_check: { path: /healthz, interval: 50ms, unhealthy_after: 2, healthy_after: 2 }";

#[test]
fn an_endpoint_that_is_not_well_is_not_asked_until_it_is() {
    let healths = [200, 200].map(|status| Arc::new(AtomicU16::new(status)));
    let [one, other] = [0, 1].map(|at: usize| with_health(&healths[at]));
    let settings = format!("{}, {CHECK}", endpoints(&[one.address, other.address]));
    let gate = builder(&settings).start();
    healths[0].store(503, Ordering::Relaxed);
    wait_for("the first to be down", || {
        (in_state(&gate, "down") == 1.0).then_some(())
    });
    let before = asked(&one);
    for _ in 0..20 {
        assert_eq!(get(&gate).status, 200);
    }
    assert_eq!(asked(&one), before);
    // All down: told at once, and what to do.
    healths[1].store(500, Ordering::Relaxed);
    wait_for("both to be down", || {
        (in_state(&gate, "down") == 2.0).then_some(())
    });
    let answer = get(&gate);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    gate.wait_for_log("the refusal", |line| {
        line["reason"] == "upstream_unavailable"
    });
    assert_eq!(errors(&gate, "unhealthy"), 1.0);
    healths[0].store(204, Ordering::Relaxed);
    wait_for("the first to be up", || {
        (in_state(&gate, "up") == 1.0).then_some(())
    });
    assert_eq!(get(&gate).status, 200);
    assert_eq!(asked(&one), before + 1);
    let check = one.seen().into_iter().find(is_check).unwrap();
    assert_eq!(check.header("authorization"), None);
    assert_eq!(check.header("host"), Some(&*one.address.to_string()));
}

#[test]
fn a_health_check_without_a_path_asks_for_a_connection_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = format!(
        "{}, health_check: {{ interval: 50ms, unhealthy_after: 1, healthy_after: 1 }}",
        endpoints(&[address])
    );
    let gate = builder(&settings).start();
    let checks = "tollgate_upstream_health_checks_total{result=\"ok\",upstream=\"app\"}";
    wait_for("a good check", || (gate.metric(checks) > 0.0).then_some(()));
    assert_eq!(in_state(&gate, "up"), 1.0);
    drop(listener);
    wait_for("it to be down", || {
        (in_state(&gate, "down") == 1.0).then_some(())
    });
}

#[test]
fn an_upstream_that_a_reload_leaves_alone_keeps_its_connections_and_its_state() {
    let (ill, well) = (with_status(503), Upstream::start());
    let settings = format!(
        "{}, ejection: {{ failures: 2, time: 1h }}",
        endpoints(&[ill.address, well.address])
    );
    let builder = builder(&settings);
    let config = builder.config().to_owned();
    let gate = builder.start();
    wait_for("the ejection", || {
        get(&gate);
        (in_state(&gate, "ejected") == 1.0).then_some(())
    });
    let open = "tollgate_upstream_connections_open{upstream=\"app\"}";
    // The one that is left may not have been asked yet.
    assert_eq!(get(&gate).status, 200);
    let before = gate.metric(open);
    let next = config.replace("name: api", "name: renamed");
    assert_eq!(reload_with(&gate, &next), Verdict::Taken);
    for _ in 0..10 {
        assert_eq!(get(&gate).status, 200);
    }
    assert_eq!(gate.metric(open), before);
    assert_eq!(in_state(&gate, "ejected"), 1.0);
    // Changed settings begin anew.
    let next = next.replace("failures: 2", "failures: 3");
    assert_eq!(reload_with(&gate, &next), Verdict::Taken);
    assert_eq!(in_state(&gate, "ejected"), 0.0);
}
