//! HTTP/2 streams are bounded one by one: what is beyond the limit is refused, and what a client
//! keeps waiting is ended, while the others go on.

use std::io::Write;
use std::net::SocketAddr;

use crate::support::frames::{DATA, END_STREAM, Frames, HEADERS, RST_STREAM, WINDOW_UPDATE};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::threat;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";
const IN_FLIGHT: &str = "tollgate_requests_in_flight{route=\"api\"}";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;
// RFC 9113 section 7.
const PROTOCOL_ERROR: u8 = 1;
const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;

fn start(upstream: SocketAddr, limits: &str) -> (Gate, String) {
    let limits = format!("limits: {{ {limits} }}");
    let (builder, certificate) = Builder::with_extra(upstream, ROUTES, &limits).secure();
    (builder.start(), certificate)
}

fn streams_cut(cause: &str) -> String {
    format!("tollgate_http2_streams_cut_total{{cause=\"{cause}\",listener=\"secure\"}}")
}

fn connections_cut(cause: &str) -> String {
    format!("tollgate_connections_cut_total{{cause=\"{cause}\",listener=\"secure\"}}")
}

fn ask(connection: &mut Frames, stream: u32, flags: u8, path: &str, more: &[(&str, &str)]) {
    let bearer = format!("Bearer {}", sign(&claims()));
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gate.example"),
        (":path", path),
        ("authorization", &bearer),
    ];
    connection.request(stream, flags, &[&fields[..], more].concat());
}

/// Opens a stream's window, and the connection's, so far.
fn open(connection: &mut Frames, stream: u32, size: u32) {
    connection.send(WINDOW_UPDATE, 0, stream, &size.to_be_bytes());
    connection.send(WINDOW_UPDATE, 0, 0, &size.to_be_bytes());
}

/// The code by which a stream is reset.
fn reset(connection: &mut Frames, stream: u32) -> u8 {
    loop {
        let frame = connection.next().expect("the connection goes on");
        if frame.kind == RST_STREAM && frame.stream == stream {
            return frame.payload[3];
        }
    }
}

#[test]
fn beyond_http2_streams_one_is_refused_and_those_inside_are_served() {
    let upstream = Upstream::start();
    let (gate, certificate) = start(upstream.address, "http2_streams: 2");
    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    for stream in [1, 3, 5] {
        ask(
            &mut connection,
            stream,
            0,
            "/api/a",
            &[("content-length", "2")],
        );
    }
    assert_eq!(reset(&mut connection, 5), REFUSED_STREAM);
    gate.wait_for_metric(&streams_cut("http2_streams"), 1.0);
    for stream in [1, 3] {
        connection.send(DATA, END_STREAM, stream, b"ok");
        assert_eq!(connection.answer(stream), Some(200));
    }
    // There is room again.
    ask(&mut connection, 7, END_STREAM, "/api/a", &[]);
    assert_eq!(connection.answer(7), Some(200));
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!(gate.metric(&streams_cut("http2_streams")), 1.0);
    threat::count("HTTP/2 streams", 1);
}

#[test]
fn a_head_that_cannot_be_meant_costs_its_stream_and_is_counted() {
    let upstream = Upstream::start();
    let (gate, certificate) = start(upstream.address, "");
    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    let field = [("connection", "keep-alive")];
    ask(&mut connection, 1, END_STREAM, "/api/a", &field);
    assert_eq!(reset(&mut connection, 1), PROTOCOL_ERROR);
    gate.wait_for_metric(&streams_cut("malformed"), 1.0);
    ask(&mut connection, 3, END_STREAM, "/api/a", &[]);
    assert_eq!(connection.answer(3), Some(200));
    threat::count("HTTP/2 streams", 1);
}

/// Sends without end at `/api/endless`, and elsewhere a byte and then nothing.
fn endless_or_silent() -> SocketAddr {
    accepting(|mut stream| {
        let is_endless = read_head(&mut stream).contains("/api/endless");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx");
        while is_endless && stream.write_all(&[0; 65536]).is_ok() {}
        read_rest(&mut stream);
    })
}

#[test]
fn a_stream_whose_window_stays_shut_is_ended_while_others_go_on() {
    let (gate, certificate) = start(endless_or_silent(), "send_timeout: 400ms");
    for (round, window) in [(1, 0), (2, 1)] {
        let mut connection = Frames::connect(gate.address(), &certificate, &[(WINDOW, window)]);
        for stream in [1, 3] {
            ask(&mut connection, stream, END_STREAM, "/api/endless", &[]);
            assert_eq!(connection.answer(stream), Some(200));
        }
        wait_for("that the stream is ended", || {
            open(&mut connection, 3, 1000);
            connection.next().expect("the connection goes on");
            (gate.metric(&streams_cut("send_timeout")) >= f64::from(round)).then_some(())
        });
        gate.wait_for_metric(IN_FLIGHT, 1.0);
        // What h2 had taken already comes first.
        open(&mut connection, 1, 1_000_000);
        assert_eq!(reset(&mut connection, 1), CANCEL, "{window}");
        open(&mut connection, 3, 1000);
        let is_more = |connection: &mut Frames| {
            let frame = connection.next().expect("the connection goes on");
            frame.kind == DATA && frame.stream == 3
        };
        while !is_more(&mut connection) {}
        assert_eq!(gate.metric(&connections_cut("send_timeout")), 0.0);
        drop(connection);
        gate.wait_for_metric(IN_FLIGHT, 0.0);
    }
    threat::count("HTTP/2 streams", 2);
}

#[test]
fn a_stream_whose_window_hardly_opens_is_ended_and_one_that_waits_for_its_upstream_goes_on() {
    let limits = "min_download_rate: 1MB, rate_grace: 400ms";
    let (gate, certificate) = start(endless_or_silent(), limits);
    let mut connection = Frames::connect(gate.address(), &certificate, &[(WINDOW, 1)]);
    ask(&mut connection, 1, END_STREAM, "/api/silent", &[]);
    ask(&mut connection, 3, END_STREAM, "/api/endless", &[]);
    wait_for("that the stream is ended", || {
        open(&mut connection, 3, 1);
        connection.next().expect("the connection goes on");
        (gate.metric(&streams_cut("download_too_slow")) >= 1.0).then_some(())
    });
    gate.wait_for_metric(IN_FLIGHT, 1.0);
    ask(&mut connection, 5, END_STREAM, "/api/silent", &[]);
    let is_answer = |connection: &mut Frames| {
        let frame = connection.next().expect("the connection goes on");
        frame.kind == HEADERS && frame.stream == 5
    };
    while !is_answer(&mut connection) {}
    gate.wait_for_metric(IN_FLIGHT, 2.0);
    assert_eq!(gate.metric(&streams_cut("download_too_slow")), 1.0);
    threat::count("HTTP/2 streams", 1);
}
