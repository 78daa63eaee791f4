//! HTTP/2 in bad faith: what cannot be said in one way over HTTP/1 goes no further, and floods end
//! with their connection.

use std::net::SocketAddr;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, frame, head, literal,
};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::recorder::Recorder;
use crate::support::threat;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";

fn start(upstream: SocketAddr, limits: &str) -> (Gate, String) {
    let limits = format!("limits: {{ {limits} }}");
    let (builder, certificate) = Builder::with_extra(upstream, ROUTES, &limits).secure();
    (builder.start(), certificate)
}

fn cut(cause: &str) -> String {
    format!("tollgate_connections_cut_total{{cause=\"{cause}\",listener=\"secure\"}}")
}

/// The fields of a good request; `changes` replace those of their names, and are added else.
fn fields<'a>(bearer: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gate.example"),
        (":path", "/api/a"),
        ("authorization", bearer),
    ];
    for change in changes {
        match fields.iter_mut().find(|(name, _)| name == &change.0) {
            Some(field) => *field = *change,
            None => fields.push(*change),
        }
    }
    fields
}

/// Fields that cannot be meant, each in the place of the good one of its name.
const FIELDS: [&[(&str, &str)]; 57] = [
    &[("x", "a\r\nx-b: c")],
    &[("x", "a\nx-b: c")],
    &[("x", "a\rb")],
    &[("x", "a\0b")],
    &[("x\r\ny", "a")],
    &[("x: a\r\ny", "a")],
    &[("x:y", "a")],
    &[("x y", "a")],
    &[("X", "a")],
    &[("", "a")],
    &[("x\0", "a")],
    &[("transfer-encoding", "chunked")],
    &[("transfer-encoding", "identity")],
    &[("connection", "keep-alive")],
    &[("connection", "transfer-encoding")],
    &[("keep-alive", "timeout=5")],
    &[("proxy-connection", "keep-alive")],
    &[("upgrade", "websocket")],
    &[("te", "gzip")],
    &[("content-length", "0"), ("content-length ", "5")],
    &[("content-length", "+0")],
    &[("content-length", "-1")],
    &[("content-length", "0, 0")],
    &[("content-length", "5")],
    &[("content-length", "x")],
    &[("content-length", "99999999999999999999")],
    &[("host", "other.example")],
    &[("host", "gate.example:80")],
    &[(":authority", "")],
    &[(":authority", "u@gate.example")],
    &[(":authority", "gate.example/b")],
    &[(":authority", "gate.example b")],
    &[(":authority", "gate.example\r\nx: y")],
    &[(":method", "GET /api/b HTTP/1.1\r\nx: y\r\n\r\nGET")],
    &[(":method", "GET ")],
    &[(":method", "get")],
    &[(":method", "")],
    &[(":method", "TRACE")],
    &[(":method", "CONNECT")],
    &[(":path", "/api/a HTTP/1.1\r\nx: y")],
    &[(":path", "/api/a b")],
    &[(":path", "/api/a\nb")],
    &[(":path", "/api/a\0")],
    &[(":path", "")],
    &[(":path", "*")],
    &[(":path", "api/a")],
    &[(":path", "?/api/a")],
    &[(":path", "/api/../api/a")],
    &[(":path", "/api/a\\b")],
    &[(":path", "//gate.example/api/a")],
    &[(":path", "http://other.example/api/a")],
    &[(":scheme", "")],
    &[(":scheme", "https://other.example/")],
    &[(":scheme", "http\r\nx: y")],
    &[(":status", "200")],
    &[(":protocol", "websocket")],
    &[(":unknown", "x")],
];

#[test]
fn a_field_that_would_be_another_request_over_http_1_goes_no_further() {
    let upstream = Recorder::start();
    let (gate, certificate) = start(upstream.address, "");
    let bearer = format!("Bearer {}", sign(&claims()));
    for case in FIELDS {
        let mut connection = Frames::connect(gate.address(), &certificate, &[]);
        connection.request(1, END_STREAM, &fields(&bearer, case));
        let answer = connection.answer(1);
        assert!(
            matches!(answer, None | Some(400 | 404)),
            "{case:?}: {answer:?}"
        );
        assert_eq!(upstream.text(), "", "{case:?}");
    }
    // Fields that stand there twice, or in the wrong place.
    let good = fields(&bearer, &[]);
    let repeated: [&[(&str, &str)]; 6] = [
        &[("content-length", "0"), ("content-length", "0")],
        &[("content-length", "0"), ("content-length", "5")],
        &[("host", "gate.example"), ("host", "gate.example")],
        &[("authorization", &bearer)],
        &[(":path", "/api/b")],
        &[(":method", "GET")],
    ];
    for more in repeated {
        let mut connection = Frames::connect(gate.address(), &certificate, &[]);
        connection.request(1, END_STREAM, &[&good[..], more].concat());
        let answer = connection.answer(1);
        assert!(matches!(answer, None | Some(400)), "{more:?}: {answer:?}");
        assert_eq!(upstream.text(), "", "{more:?}");
    }
    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    connection.request(1, END_STREAM, &good);
    assert_eq!(connection.answer(1), Some(200));
    threat::count("HTTP/2 fields", FIELDS.len() + repeated.len());
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_never_ends_at_the_upstream() {
    let upstream = Recorder::start();
    let (gate, certificate) = start(upstream.address, "");
    let bearer = format!("Bearer {}", sign(&claims()));
    let smuggled = b"GET /api/smuggled HTTP/1.1\r\nhost: gate.example\r\n\r\n";
    for (length, parts) in [
        ("5", &[&smuggled[..]][..]),
        ("0", &[&smuggled[..]]),
        ("5", &[&smuggled[..3], &smuggled[3..]]),
        ("500", &[&smuggled[..]]),
    ] {
        let mut connection = Frames::connect(gate.address(), &certificate, &[]);
        let mut frames = vec![head(1, 0, &fields(&bearer, &[("content-length", length)]))];
        let (last, others) = parts.split_last().unwrap();
        frames.extend(others.iter().map(|part| frame(DATA, 0, 1, part)));
        frames.push(frame(DATA, END_STREAM, 1, last));
        // A head that says `0` could be answered before more comes.
        match length {
            "0" => connection.send_together(&frames),
            _ => frames
                .chunks(1)
                .for_each(|one| connection.send_together(one)),
        }
        let answer = connection.answer(1);
        assert!(matches!(answer, None | Some(400)), "{length}: {answer:?}");
        let text = upstream.text();
        let is_whole = text.contains("smuggled HTTP/1.1\r\nhost") && length != "500";
        assert!(!is_whole, "{length}: {text}");
    }
    threat::count("HTTP/2 lengths", 4);
}

/// One round of a flood.
type Flood<'a> = dyn Fn(&mut Frames, u32) + 'a;

/// Floods until the gate ends the connection; whether it did.
fn is_ended(connection: &mut Frames, mut send: impl FnMut(&mut Frames, u32)) -> bool {
    for round in 0..50_000 {
        send(connection, round);
    }
    loop {
        match connection.next() {
            None => return true,
            Some(frame) if frame.kind == GOAWAY => return true,
            Some(_) => {}
        }
    }
}

#[test]
fn a_flood_ends_with_its_connection_and_others_are_served() {
    let upstream = Upstream::start();
    let limits = "http2_resets: 50, http2_control_frames: 200, header_size: 16KiB";
    let (gate, certificate) = start(upstream.address, limits);
    let bearer = format!("Bearer {}", sign(&claims()));
    let good = fields(&bearer, &[]);
    let block: Vec<u8> = good
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    let ours = &["http2_control_frames"][..];
    // Of some h2 has a bound of its own, which may come first.
    let either = &["http2_control_frames", "http2_flood"][..];
    let floods: [(&[&str], &Flood<'_>); 6] = [
        (ours, &|to, _| {
            to.send(PING, 0, 0, &[0; 8]);
        }),
        (ours, &|to, _| {
            to.send(SETTINGS, 0, 0, &[]);
        }),
        (ours, &|to, round| {
            to.send(PRIORITY, 0, round * 2 + 1, &[0, 0, 0, 0, 1]);
        }),
        (either, &|to, round| match round {
            0 => to.send(HEADERS, END_HEADERS, 1, &block),
            _ => to.send(DATA, 0, 1, &[]),
        }),
        (either, &|to, round| match round {
            0 => to.send(HEADERS, 0, 1, &block),
            _ => to.send(CONTINUATION, 0, 1, &[]),
        }),
        // CVE-2023-44487.
        (&["http2_resets"], &|to, round| {
            to.send(HEADERS, END_HEADERS | END_STREAM, round * 2 + 1, &block);
            to.send(RST_STREAM, 0, round * 2 + 1, &[0, 0, 0, 8]);
        }),
    ];
    for (number, (causes, flood)) in floods.iter().enumerate() {
        let counted = || -> f64 { causes.iter().map(|cause| gate.metric(&cut(cause))).sum() };
        let before = counted();
        let mut connection = Frames::connect(gate.address(), &certificate, &[]);
        assert!(is_ended(&mut connection, flood), "{number}");
        wait_for("that it is counted", || (counted() > before).then_some(()));
        let mut connection = Frames::connect(gate.address(), &certificate, &[]);
        connection.request(1, END_STREAM, &good);
        assert_eq!(connection.answer(1), Some(200), "{number}");
    }
    threat::count("HTTP/2 floods", floods.len());
}

#[test]
fn heads_beyond_the_limits_are_refused_whatever_they_are_packed_into() {
    let upstream = Recorder::start();
    let (gate, certificate) = start(upstream.address, "header_size: 16KiB, header_count: 20");
    let bearer = format!("Bearer {}", sign(&claims()));
    let good = fields(&bearer, &[]);
    let long = "x".repeat(20_000);
    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    let many: Vec<_> = std::iter::repeat_n(("x", "y"), 20).collect();
    connection.request(1, END_STREAM, &[&good[..], &many].concat());
    assert_eq!(connection.answer(1), Some(431), "too many");

    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    let block = [&good[..], &[("x", &long)]].concat();
    let block: Vec<u8> = block
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    let (first, rest) = block.split_at(10_000);
    connection.send(HEADERS, END_STREAM, 1, first);
    connection.send(CONTINUATION, END_HEADERS, 1, rest);
    assert_eq!(connection.answer(1), Some(431), "too long");

    // A bomb: one long field goes into the table and is then named by a byte each time.
    let mut connection = Frames::connect(gate.address(), &certificate, &[]);
    let mut block: Vec<u8> = good
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
    let mut indexed = literal("bomb", &"x".repeat(3000));
    indexed[0] = 0x40;
    block.extend(indexed);
    block.extend([0xbe; 8000]);
    connection.send(HEADERS, END_STREAM | END_HEADERS, 1, &block);
    let answer = connection.answer(1);
    assert!(matches!(answer, None | Some(431)), "a bomb: {answer:?}");
    assert_eq!(upstream.text(), "");
    threat::count("HTTP/2 heads", 3);
}
