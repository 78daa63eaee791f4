//! The gate and the upstream never read one stream of bytes as different requests.

use std::io::Write;

use crate::support::client;
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::read_rest;
use crate::support::recorder::Recorder;
use crate::support::threat;

const ROUTES: &str = "
  - { path: /api/**, upstream: app }
";

fn start() -> (Recorder, Gate, String) {
    let upstream = Recorder::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let fields = format!(
        "host: gate.example\r\nauthorization: Bearer {}\r\n",
        sign(&claims())
    );
    (upstream, gate, fields)
}

/// Sends these bytes and a further request that would pass by itself; all that comes back.
fn send(gate: &Gate, bytes: &str, fields: &str) -> String {
    let mut stream = client::connect(gate.address());
    let smuggled = format!("GET /api/smuggled HTTP/1.1\r\n{fields}\r\n");
    let whole = format!("{bytes}{smuggled}");
    stream.write_all(whole.as_bytes()).unwrap();
    String::from_utf8(read_rest(&mut stream)).unwrap()
}

/// Each is refused with 400 and the end of its connection, and nothing of it reaches the upstream.
/// In a case `F` stands for the fields of a good request.
fn assert_refused(family: &str, cases: &[&str]) {
    let (upstream, gate, fields) = start();
    for case in cases {
        let answer = send(&gate, &case.replace('F', &fields), &fields);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{case:?}: {answer:?}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{case:?}: {answer:?}"
        );
        assert_eq!(upstream.text(), "", "{case:?}");
    }
    // The further request is such that it would pass.
    let answer = send(&gate, "", &format!("{fields}connection: close\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert_eq!(upstream.requests(), 1);
    threat::count(family, cases.len());
}

/// As [`assert_refused`] for what comes in chunks behind a good head, which has gone up by then.
fn assert_chunks_refused(family: &str, cases: &[&str]) {
    let (upstream, gate, fields) = start();
    for (before, case) in cases.iter().enumerate() {
        let head = format!("POST /api/a HTTP/1.1\r\n{fields}transfer-encoding: chunked\r\n\r\n");
        let answer = send(&gate, &format!("{head}{case}"), &fields);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{case:?}: {answer:?}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{case:?}: {answer:?}"
        );
        let seen = upstream.text();
        let has_ended = seen.contains("smuggled") || seen.contains("\r\n0\r\n");
        assert!(!has_ended, "{case:?}: {seen:?}");
        assert!(upstream.requests() <= before + 1, "{case:?}: {seen:?}");
    }
    threat::count(family, cases.len());
}

#[test]
fn a_length_in_doubt_is_refused() {
    assert_refused(
        "lengths",
        &[
            "POST /api/a HTTP/1.1\r\nFcontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFcontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 0\r\nContent-Length: 0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 0\r\ncontent-length: 44\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2, 2\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2,3\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: +2\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: -2\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: -0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 0x2\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2.0\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2e0\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2_0\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2 0\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: \"2\"\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2;\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length:\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFcontent-length: \u{ff12}\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2\0\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: \u{b}2\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2\u{c}\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 2\u{a0}\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 18446744073709551615\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 18446744073709551618\r\n\r\nhi",
            "POST /api/a HTTP/1.1\r\nFcontent-length: 99999999999999999999999999\r\n\r\nhi",
        ],
    );
}

#[test]
fn a_coding_that_is_not_simply_chunked_is_refused() {
    assert_refused(
        "codings",
        &[
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: identity\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: gzip\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked\r\ntransfer-encoding: cow\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunkedx\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked,\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: ,chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: 'chunked'\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: [chunked]\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: ch unked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: ch\u{17f}unked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chun\u{212a}ed\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding:\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked\u{b}\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: \u{c}chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: \u{a0}chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked\0\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding: chunked\r\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding\u{b}: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer\0-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nF\u{b}transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nF transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFtransfer-encoding:\n chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFx: y\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.1\r\nFx: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /api/a HTTP/1.0\r\nFtransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn a_line_in_doubt_is_refused() {
    assert_refused(
        "lines",
        &[
            "GET /api/a HTTP/1.1\nF\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\n\r\n",
            "GET /api/a HTTP/1.1\r\nF\n",
            "GET /api/a HTTP/1.1\r\nFx: y\n\n",
            "\nGET /api/a HTTP/1.1\r\nF\r\n",
            "GET /api/a HTTP/1.1\rF\r\n",
            "GET /api/a HTTP/1.1\r\r\nF\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\r\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\rz\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nF\r\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\r\n z\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\r\n\tz\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\r\n \r\n\r\n",
            "GET /api/a HTTP/1.1\r\n x: y\r\nF\r\n",
            "GET /api/a HTTP/1.1\r\nFx : y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx\t: y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx y: z\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nF: y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nF:\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx\0: y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: \0y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\u{1}\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\u{7f}\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx: y\u{b}\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx\u{e4}: y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nF(x): y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nFx[]: y\r\n\r\n",
            "GET /api/a HTTP/1.1\r\nF\"x\": y\r\n\r\n",
        ],
    );
}

#[test]
fn a_request_line_in_doubt_is_refused() {
    assert_refused(
        "request lines",
        &[
            "GET /api/a\r\n",
            "GET /api/a\r\nF\r\n",
            "GET /api/a HTTP/0.9\r\nF\r\n",
            "GET /api/a HTTP/1.2\r\nF\r\n",
            "GET /api/a HTTP/1.10\r\nF\r\n",
            "GET /api/a HTTP/01.1\r\nF\r\n",
            "GET /api/a HTTP/2.0\r\nF\r\n",
            "GET /api/a HTTP/3\r\nF\r\n",
            "GET /api/a http/1.1\r\nF\r\n",
            "GET /api/a HTTP/1.1 \r\nF\r\n",
            "GET /api/a HTTP /1.1\r\nF\r\n",
            "GET /api/a HTTP/1.1 x\r\nF\r\n",
            "GET  /api/a HTTP/1.1\r\nF\r\n",
            "GET /api/a  HTTP/1.1\r\nF\r\n",
            "GET\t/api/a HTTP/1.1\r\nF\r\n",
            "GET /api/a\tHTTP/1.1\r\nF\r\n",
            "GET /api/a\u{b}HTTP/1.1\r\nF\r\n",
            " GET /api/a HTTP/1.1\r\nF\r\n",
            "GET /api/a b HTTP/1.1\r\nF\r\n",
            "GET /api/a\0b HTTP/1.1\r\nF\r\n",
            "GET /api/a\u{7f} HTTP/1.1\r\nF\r\n",
            "GET /api/a#b HTTP/1.1\r\nF\r\n",
            "GET /api/a?b#c HTTP/1.1\r\nF\r\n",
            "GET #/api/a HTTP/1.1\r\nF\r\n",
            "GET HTTP/1.1\r\nF\r\n",
            "GET api/a HTTP/1.1\r\nF\r\n",
            "GET ?/api/a HTTP/1.1\r\nF\r\n",
            "GET * HTTP/1.1\r\nF\r\n",
            "OPTIONS * HTTP/1.1\r\nF\r\n",
            "GET gate.example HTTP/1.1\r\nF\r\n",
            "GET gate.example:80 HTTP/1.1\r\nF\r\n",
            "GET gate.example:80/api/a HTTP/1.1\r\nF\r\n",
            "GET http:/api/a HTTP/1.1\r\nF\r\n",
            "GET http:///api/a HTTP/1.1\r\nF\r\n",
            "GET http://other.example/api/a HTTP/1.1\r\nF\r\n",
            "GET http://gate.example:81/api/a HTTP/1.1\r\nF\r\n",
            "GET http://u@gate.example/api/a HTTP/1.1\r\nF\r\n",
            "GET http://gate.example\\@other.example/api/a HTTP/1.1\r\nF\r\n",
            "GET file:///api/a HTTP/1.1\r\nF\r\n",
            "GET ftp://gate.example/api/a HTTP/1.1\r\nF\r\n",
            "CONNECT gate.example:443 HTTP/1.1\r\nF\r\n",
            "CONNECT /api/a HTTP/1.1\r\nF\r\n",
            "CONNECT http://gate.example/api/a HTTP/1.1\r\nF\r\n",
            "TRACE /api/a HTTP/1.1\r\nF\r\n",
            "get /api/a HTTP/1.1\r\nF\r\n",
            "Get /api/a HTTP/1.1\r\nF\r\n",
            "dELETE /api/a HTTP/1.1\r\nF\r\n",
            "G\0ET /api/a HTTP/1.1\r\nF\r\n",
            "G(ET /api/a HTTP/1.1\r\nF\r\n",
            "G\u{c9}T /api/a HTTP/1.1\r\nF\r\n",
            "/api/a HTTP/1.1\r\nF\r\n",
        ],
    );
}

#[test]
fn a_chunk_in_doubt_is_refused_and_never_ends_at_the_upstream() {
    assert_chunks_refused(
        "chunks",
        &[
            "2\nhi\r\n0\r\n\r\n",
            "2\rhi\r\n0\r\n\r\n",
            "2 \r\nhi\r\n0\r\n\r\n",
            "2\t\r\nhi\r\n0\r\n\r\n",
            " 2\r\nhi\r\n0\r\n\r\n",
            "+2\r\nhi\r\n0\r\n\r\n",
            "-2\r\nhi\r\n0\r\n\r\n",
            "0x2\r\nhi\r\n0\r\n\r\n",
            "2_\r\nhi\r\n0\r\n\r\n",
            "2g\r\nhi\r\n0\r\n\r\n",
            "\u{ff12}\r\nhi\r\n0\r\n\r\n",
            "\r\nhi\r\n0\r\n\r\n",
            ";\r\nhi\r\n0\r\n\r\n",
            "2\0\r\nhi\r\n0\r\n\r\n",
            "2\u{b}\r\nhi\r\n0\r\n\r\n",
            "2 ;x\r\nhi\r\n0\r\n\r\n",
            "2;x\nhi\r\n0\r\n\r\n",
            "2;x\rhi\r\n0\r\n\r\n",
            "2;\0\r\nhi\r\n0\r\n\r\n",
            "2;x=\u{b}\r\nhi\r\n0\r\n\r\n",
            "2\r\nhi0\r\n\r\n",
            "2\r\nhi\n0\r\n\r\n",
            "2\r\nhi\r0\r\n\r\n",
            "2\r\nhiXX0\r\n\r\n",
            "2\r\nhi \r\n0\r\n\r\n",
            "1\r\nhi\r\n0\r\n\r\n",
            "3\r\nhi\r\n0\r\n\r\n",
            "2\r\nhi\r\n\r\n0\r\n\r\n",
            "2\r\nhi\r\n00000000000000000\r\n\r\n",
            "10000000000000002\r\nhi\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nhi\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nhi\r\n",
            "2\r\nhi\r\n0\n\r\n",
            "2\r\nhi\r\n0 \r\n\r\n",
            "2\r\nhi\r\n0;x\n\r\n",
            "2\r\nhi\r\n0\r\n\n",
            "2\r\nhi\r\n0\r\nx: y\n\r\n",
            "2\r\nhi\r\n0\r\nx: y\r\n\n",
            "2\r\nhi\r\n0\r\nx: y\n\n",
            "2\r\nhi\r\n0\r\nx: y\rz\r\n\r\n",
            "2\r\nhi\r\n0\r\nx: y\r\n z\r\n\r\n",
            "2\r\nhi\r\n0\r\nx : y\r\n\r\n",
            "2\r\nhi\r\n0\r\nx\r\n\r\n",
            "2\r\nhi\r\n0\r\nx: \0\r\n\r\n",
            "2\r\nhi\r\n0\r\n: y\r\n\r\n",
        ],
    );
}

#[test]
fn what_is_not_in_doubt_passes_one_after_the_other() {
    let (upstream, gate, fields) = start();
    let mut stream = client::connect(gate.address());
    let requests = [
        "\r\nGET /api/1 HTTP/1.1\r\nF\r\n",
        "GET http://gate.example/api/2?a HTTP/1.1\r\nF\r\n",
        "POST /api/3 HTTP/1.1\r\nFcontent-length: 0\r\n\r\n\r\n",
        "POST /api/4 HTTP/1.1\r\nFTransfer-Encoding:\tChunked \r\n\r\n2;a=\"b c\";d\r\nhi\r\n02\r\nho\r\n00\r\n\r\n",
        "GET /api/5 HTTP/1.1\r\nFconnection: close\r\n\r\n",
    ];
    let whole = requests.concat().replace('F', &fields);
    stream.write_all(whole.as_bytes()).unwrap();
    let answers = String::from_utf8(read_rest(&mut stream)).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 5, "{answers}");
    assert_eq!(upstream.requests(), 5, "{}", upstream.text());
    for (number, target) in ["/api/1 ", "/api/2?a ", "/api/3 ", "/api/4 ", "/api/5 "]
        .iter()
        .enumerate()
    {
        assert!(upstream.text().contains(target), "{number}");
    }
}
