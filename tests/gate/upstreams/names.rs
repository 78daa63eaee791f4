//! Does an upstream follow its name?

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{builder, errors, get, in_state};
use crate::support::dns::{Dns, twin_listeners};
use crate::support::gate::Builder;
use crate::support::raw::read_head;
use crate::support::wait_for;

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Answers every request on its own connection, and counts them.
fn serve(listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            read_head(&mut stream);
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = stream.write_all(answer);
        }
    });
    count
}

/// A gate whose upstream is a name that this server knows.
fn named(dns: &Dns, port: u16) -> Builder {
    let settings = format!("endpoints: [ \"http://app.example:{port}\" ], danger_plaintext: true");
    let servers = format!("dns: {{ servers: [ \"{}\" ] }}", dns.address);
    builder(&settings).edit("reload:", &format!("{servers}\nreload:"))
}

#[test]
fn all_addresses_of_a_name_are_asked_and_changes_are_followed() {
    let [first, second] = twin_listeners();
    let port = first.local_addr().unwrap().port();
    let (first, second) = (serve(first), serve(second));
    let dns = Dns::start(&[FIRST, SECOND], 1);
    let gate = named(&dns, port).start();
    assert_eq!(in_state(&gate, "up"), 2.0);
    wait_for("both to be asked", || {
        assert_eq!(get(&gate).status, 200);
        let counts = [&first, &second].map(|count| count.load(Ordering::Relaxed));
        counts.iter().all(|count| *count > 0).then_some(())
    });
    dns.tell(Some((vec![SECOND], 1)));
    wait_for("the change", || {
        (in_state(&gate, "up") == 1.0).then_some(())
    });
    let before = first.load(Ordering::Relaxed);
    for _ in 0..20 {
        assert_eq!(get(&gate).status, 200);
    }
    assert_eq!(first.load(Ordering::Relaxed), before);
    // Without an answer, or with none that helps, the last one holds.
    for zone in [None, Some((Vec::new(), 1))] {
        let asked = dns.asked();
        dns.tell(zone);
        wait_for("another question", || {
            (dns.asked() > asked + 1).then_some(())
        });
        assert_eq!(get(&gate).status, 200);
    }
}

#[test]
fn a_name_that_nobody_knows_is_told_and_asked_for_again() {
    let [first, _second] = twin_listeners();
    let port = first.local_addr().unwrap().port();
    let _count = serve(first);
    let dns = Dns::start(&[], 1);
    let gate = named(&dns, port).start();
    let answer = get(&gate);
    assert_eq!(answer.status, 502, "{}", answer.text());
    let line = gate.exchange("/api/x");
    assert_eq!(line["reason"], "upstream_unreachable");
    assert!(line["cause"].as_str().unwrap().contains("DNS"), "{line}");
    assert_eq!(errors(&gate, "unresolved"), 1.0);
    gate.wait_for_log("a warning", |line| line["host"] == "app.example");
    dns.tell(Some((vec![FIRST], 60)));
    wait_for("the name to be known", || {
        (get(&gate).status == 200).then_some(())
    });
}

#[test]
fn an_answer_is_not_asked_for_again_while_it_holds() {
    let [first, _second] = twin_listeners();
    let port = first.local_addr().unwrap().port();
    let _count = serve(first);
    let dns = Dns::start(&[FIRST], 3600);
    let gate = named(&dns, port).start();
    let asked = dns.asked();
    for _ in 0..50 {
        assert_eq!(get(&gate).status, 200);
    }
    assert_eq!(dns.asked(), asked);
}
