//! Are messages passed on as HTTP means them?

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;

use crate::support::client::{connect, read_response};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::http2::{Http2, empty, pieces};
use crate::support::raw::{accepting, read_chunks, read_head, read_rest};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
";

const TRAILED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                       2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n";

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(TRAILED);
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let mut stream = connect(gate.address());
    let head = head(
        "POST",
        "/api/x",
        "connection: te, close\r\nte: trailers\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n",
    );
    stream
        .write_all(format!("{head}5\r\nhello\r\n0\r\nx-end: yes\r\n\r\n").as_bytes())
        .unwrap();
    let answer = String::from_utf8(read_rest(&mut stream)).unwrap();
    assert!(answer.contains("\r\ntrailer: x-sum\r\n"), "{answer}");
    assert!(
        answer.ends_with("2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{answer}"
    );
    let seen = upstream.last();
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.header("te"), Some("trailers"));
    assert_eq!(seen.header("trailer"), Some("x-end"));
    assert_eq!(seen.header("x-end"), Some("yes"));
}

#[test]
fn trailers_reach_an_http2_client() {
    let upstream = Upstream::answering(TRAILED);
    let (_gate, mut client) = http2(upstream.address);
    let request = Request::get("https://gate.example/api/x")
        .header("authorization", format!("Bearer {}", sign(&claims())))
        .header("te", "trailers")
        .body(empty())
        .unwrap();
    let response = client.send(request);
    assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
    assert_eq!(response.trailers.unwrap()["x-sum"], "42");
    assert!(!response.headers.contains_key("transfer-encoding"));
}

#[test]
fn a_body_whose_length_is_not_known_arrives_whatever_the_method() {
    let upstream = Upstream::start();
    let (gate, mut client) = http2(upstream.address);
    let plain = Builder::standard(upstream.address, ROUTES).start();
    for method in ["GET", "OPTIONS", "DELETE", "POST"] {
        let head = head(method, "/api/x", "transfer-encoding: chunked\r\n");
        let request = format!("{head}2\r\nhi\r\n0\r\n\r\n");
        assert_eq!(plain.send(request).status, 200, "{method}");
        assert_eq!(upstream.last().body, b"hi", "{method}");
        let request = Request::builder()
            .method(method)
            .uri("https://gate.example/api/x")
            .header("authorization", format!("Bearer {}", sign(&claims())))
            .body(pieces(1))
            .unwrap();
        assert_eq!(client.send(request).status, 200, "{method}");
        assert_eq!(upstream.last().body.len(), 64 * 1024, "{method}");
    }
    drop(gate);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_once_the_upstream_takes_the_body() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let mut stream = connect(gate.address());
    let head = head(
        "POST",
        "/api/x",
        "expect: 100-continue\r\ncontent-length: 5\r\n",
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(read_response(&mut stream, false).status, 200);
    assert_eq!(upstream.last().body, b"hello");
    assert_eq!(upstream.last().header("expect"), None);
}

#[test]
fn a_client_that_asks_first_is_refused_without_sending_its_body() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let mut stream = connect(gate.address());
    let head =
        "POST /api/x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    stream.shutdown(Shutdown::Write).unwrap();
    let rest = String::from_utf8(read_rest(&mut stream)).unwrap();
    assert!(!rest.contains("100 Continue"), "{rest}");
    assert!(upstream.seen().is_empty());
}

#[test]
fn requests_over_one_connection_share_one_upstream_connection() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let upstream = accepting(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        while !read_head(&mut stream).is_empty() {
            stream.write_all(OK).unwrap();
        }
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = connect(gate.address());
    for _ in 0..50 {
        stream
            .write_all(head("GET", "/api/x", "").as_bytes())
            .unwrap();
        assert_eq!(read_response(&mut stream, false).status, 200);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::scripted(|seen, stream| {
        let target = seen.target();
        let length = target.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}"
        )
        .is_ok()
    });
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let mut stream = connect(gate.address());
    let targets: Vec<_> = (0..20).map(|count| format!("/api/{count}")).collect();
    let requests: String = targets
        .iter()
        .map(|target| head("GET", target, ""))
        .collect();
    stream.write_all(requests.as_bytes()).unwrap();
    for target in &targets {
        assert_eq!(read_response(&mut stream, false).text(), *target);
    }
}

#[test]
fn answers_without_body_end_with_their_head() {
    for (method, answer, length) in [
        ("HEAD", "200 OK\r\ncontent-length: 1234", Some("1234")),
        ("HEAD", "200 OK\r\ntransfer-encoding: chunked", None),
        ("HEAD", "404 Not Found\r\ncontent-length: 0", Some("0")),
        ("GET", "204 No Content", None),
        ("DELETE", "204 No Content", None),
        ("GET", "304 Not Modified\r\netag: \"a\"", None),
        // RFC 9110 section 8.6 leaves it to the sender whether a 304 tells the length.
        ("GET", "304 Not Modified\r\ncontent-length: 1234", None),
    ] {
        let row = format!("{method} {answer}");
        let upstream = Upstream::answering(&format!("HTTP/1.1 {answer}\r\n\r\n"));
        let gate = Builder::standard(upstream.address, ROUTES).start();
        let mut stream = connect(gate.address());
        // The second answer would be misread if the first had a body.
        for _ in 0..2 {
            stream
                .write_all(head(method, "/api/x", "").as_bytes())
                .unwrap();
            let response = read_response(&mut stream, true);
            assert!(answer.starts_with(&response.status.to_string()), "{row}");
            assert_eq!(response.header("content-length"), length, "{row}");
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut stream), b"", "{row}");
    }
}

#[test]
fn an_http_1_0_client_gets_what_it_can_read() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let request = head("GET", "/api/x", "").replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = connect(gate.address());
    stream.write_all(request.as_bytes()).unwrap();
    let answer = String::from_utf8(read_rest(&mut stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(!answer.contains("transfer-encoding"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(upstream.last().head.contains(" HTTP/1.1\r\n"));
}

#[test]
fn an_answer_ahead_of_the_upload_reaches_a_client_that_is_still_sending() {
    let gate = Builder::standard(too_large(), ROUTES).start();
    let mut stream = connect(gate.address());
    let head = head("POST", "/api/x", "content-length: 16777216\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let (done, sent) = channel();
    std::thread::spawn(move || {
        let is_whole = (0..256).all(|_| writer.write_all(&[0; 64 * 1024]).is_ok());
        let _ = done.send(is_whole);
    });
    assert_eq!(read_response(&mut stream, false).status, 413);
    let end = sent.recv_timeout(Duration::from_secs(10));
    assert!(end.is_ok(), "its upload is neither taken nor cut off");
}

#[test]
fn an_answer_ahead_of_the_upload_reaches_a_client_that_waits_for_it() {
    let gate = Builder::standard(too_large(), ROUTES).start();
    let mut stream = connect(gate.address());
    let head = head("POST", "/api/x", "content-length: 16777216\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[0; 1000]).unwrap();
    let response = read_response(&mut stream, false);
    assert_eq!((response.status, response.text().as_str()), (413, "large"));
}

#[test]
fn an_answer_ahead_of_the_upload_reaches_an_http2_client() {
    let (_gate, mut client) = http2(too_large());
    let token = format!("Bearer {}", sign(&claims()));
    let request = Request::post("https://gate.example/api/x")
        .header("authorization", token)
        .body(pieces(256))
        .unwrap();
    assert_eq!(client.send(request).status, 413);
}

#[test]
fn a_refused_upload_over_http2_gets_its_answer_and_not_a_reset() {
    let upstream = Upstream::start();
    let (_gate, mut client) = http2(upstream.address);
    for count in [1, 3, 16, 256] {
        let request = Request::post("https://gate.example/api/x")
            .body(pieces(count))
            .unwrap();
        let response = client.send(request);
        assert_eq!(response.status, 401, "{count} pieces");
        assert!(!response.body.is_empty(), "{count} pieces");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_upload_that_outlives_its_answer_arrives_without_a_hole() {
    let (arrived, arrival) = channel();
    let arrived = Mutex::new(arrived);
    let upstream = accepting(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
        arrived
            .lock()
            .unwrap()
            .send(read_chunks(&mut stream))
            .unwrap();
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = connect(gate.address());
    let chunked = "transfer-encoding: chunked\r\nconnection: close\r\n";
    stream
        .write_all(head("POST", "/api/x", chunked).as_bytes())
        .unwrap();
    stream.write_all(b"3\r\n000\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).status, 200);
    let mut sent = "000".to_owned();
    for count in 1..200 {
        let piece = format!("{count:03}");
        if write!(stream, "3\r\n{piece}\r\n").is_err() {
            break;
        }
        sent.push_str(&piece);
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    drop(stream);
    let got = arrival.recv_timeout(Duration::from_secs(10));
    let got = got.expect("the upload stalls");
    let got = String::from_utf8(got).unwrap();
    let is_whole = got.ends_with("\r\n0\r\n\r\n");
    // Chunks may be put together in another way.
    let mut rest = got.as_str();
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(after.get(..size).unwrap_or(after));
        rest = after.get(size + 2..).unwrap_or_default();
    }
    assert!(sent.starts_with(&body), "the upstream got {body}");
    assert!(
        !is_whole || body == sent,
        "a part passed for the whole: {body}"
    );
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An upstream that refuses a body on sight of its head, and takes it all the same.
fn too_large() -> SocketAddr {
    accepting(|mut stream| {
        read_head(&mut stream);
        let answer =
            "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge";
        stream.write_all(answer.as_bytes()).unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })
}

/// The head of a request; `lines` are whole header lines.
fn head(method: &str, target: &str, lines: &str) -> String {
    let token = sign(&claims());
    format!(
        "{method} {target} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\
         {lines}\r\n"
    )
}

fn http2(upstream: SocketAddr) -> (Gate, Http2) {
    let (certificate, key) = self_signed(&["gate.example"]);
    let gate = Builder::standard(upstream, ROUTES)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key } } ]")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let client = Http2::connect(gate.address(), &certificate);
    (gate, client)
}
