//! Whoever is refused while still sending sees the answer, not a reset.

use std::io::{Read, Write};

use crate::support::client::{connect, connect_tls, read_response};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::raw::{accepting, read_rest};
use crate::support::threat;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app, body_size: 10kB }
  - { path: /large/**, upstream: app }
  - { path: /admin/**, upstream: app, require: { scopes: [ nobody ] } }
";
const MEGABYTE: usize = 1_000_000;

/// Writes a head and a body of so many megabytes, all before it reads a byte.
fn write_all(stream: &mut impl Write, head: &str, size: usize) {
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'x'; MEGABYTE];
    for _ in 0..size {
        stream.write_all(&piece).unwrap();
    }
}

/// What a client writes, and the status that it has to see.
fn refusals() -> Vec<(u16, String)> {
    let token = sign(&claims());
    let with_token = format!("authorization: Bearer {token}\r\n");
    let head = |path: &str, lines: &str| {
        let length = 100 * MEGABYTE;
        format!(
            "POST {path} HTTP/1.1\r\nhost: gate.example\r\ncontent-length: {length}\r\n{lines}\r\n"
        )
    };
    let many = "x-a: 1\r\n".repeat(200);
    // A chunk of which the route does not take a thousandth.
    let chunked = format!(
        "POST /api/a HTTP/1.1\r\nhost: gate.example\r\ntransfer-encoding: chunked\r\n{with_token}\r\n5f5e100\r\n"
    );
    vec![
        (413, head("/api/a", &with_token)),
        (413, chunked),
        (401, head("/large/a", "")),
        (403, head("/admin/a", &with_token)),
        (404, head("/elsewhere", &with_token)),
        (400, head("/api/a#b", &with_token)),
        (
            400,
            head("/api/a", &with_token).replace("\r\nhost", "\nhost"),
        ),
        (431, head("/api/a", &many)),
    ]
}

#[test]
fn a_client_that_writes_all_before_it_reads_sees_why_it_was_refused() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    for (index, (status, head)) in refusals().into_iter().enumerate() {
        // The first as large as it says; of the others as much as no buffer on the way takes.
        let size = if index == 0 { 100 } else { 24 };
        let mut stream = connect(gate.address());
        write_all(&mut stream, &head, size);
        assert_eq!(read_response(&mut stream, false).status, status, "{head}");
    }
    threat::count("answers to clients that are still sending", 8);
}

#[test]
fn over_tls_it_does_so_too() {
    let upstream = Upstream::start();
    let (certificate, key) = self_signed(&["gate.example"]);
    let listener = "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key } } ]";
    let gate = Builder::standard(upstream.address, ROUTES)
        .line("listeners:", listener)
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    for (status, head) in refusals() {
        let versions = rustls::ALL_VERSIONS;
        let alpn = ["http/1.1"];
        let mut stream = connect_tls(
            gate.address(),
            "gate.example",
            &certificate,
            &alpn,
            versions,
        );
        write_all(&mut stream, &head, 16);
        assert_eq!(read_response(&mut stream, false).status, status, "{head}");
    }
    threat::count("answers to clients that are still sending", 8);
}

fn lingering(limits: &str) -> Gate {
    let upstream = accepting(|mut stream| {
        read_rest(&mut stream);
    });
    Builder::with_extra(upstream, ROUTES, &format!("limits: {{ {limits} }}"))
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\", name: plain } ]",
        )
        .start()
}

#[test]
fn a_client_that_never_stops_sending_is_left_in_the_end() {
    let gate = lingering("linger_time: 300ms");
    let mut stream = connect(gate.address());
    let (_, head) = refusals().swap_remove(2);
    stream.write_all(head.as_bytes()).unwrap();
    wait_for("that it is left", || {
        stream.write_all(&[b'x'; 1000]).is_err().then_some(())
    });
    let cut = "tollgate_connections_cut_total{cause=\"linger_time\",listener=\"plain\"}";
    gate.wait_for_metric(cut, 1.0);
    gate.wait_for_metric("tollgate_connections_open{listener=\"plain\"}", 0.0);
    threat::count("answers to clients that are still sending", 1);
}

#[test]
fn a_connection_that_reads_on_counts_and_one_that_need_not_does_not_stay() {
    let gate = lingering("connections_per_address: 1");
    let (_, head) = refusals().swap_remove(2);
    let mut stream = connect(gate.address());
    // More than is read for the sake of the connection, and then the end.
    write_all(&mut stream, &head, 1);
    assert_eq!(read_response(&mut stream, false).status, 401);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let open = "tollgate_connections_open{listener=\"plain\"}";
    assert_eq!(gate.metric(open), 1.0);
    assert_eq!(gate.request("GET", "/api/a", "").status, 429);
    drop(stream);
    gate.wait_for_metric(open, 0.0);
    // Nothing is on its way from this one.
    let mut stream = connect(gate.address());
    let head = "GET /api/a HTTP/1.1\r\nhost: gate.example\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).status, 401);
    gate.wait_for_metric(open, 0.0);
    threat::count("answers to clients that are still sending", 1);
}
