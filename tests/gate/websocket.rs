//! Do WebSockets pass, with the token's rights, for the token's time, and nothing else?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

use crate::support::client::{connect, read_response, send};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::{accepting, read_head, read_rest};
use crate::support::threat;
use crate::support::upstream::Upstream;
use crate::support::{unix_now, wait_for};

const ROUTES: &str = "
  - path: /ws/**
    name: ws
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - { path: /open/**, name: open, upstream: app, public: true }
";

/// An upstream that echoes WebSocket messages and speaks `v2.mqtt` if asked to.
#[expect(clippy::result_large_err, reason = "the library asks for this type")]
fn echo() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&heads);
    let address = accepting(move |stream| {
        let callback = |request: &Request, mut response: Response| {
            let line = |(name, value): (_, &http::HeaderValue)| {
                format!("{name}: {}\n", value.to_str().unwrap())
            };
            let lines: String = request.headers().iter().map(line).collect();
            record
                .lock()
                .unwrap()
                .push(format!("{}\n{lines}", request.uri()));
            let asked = request.headers().get("sec-websocket-protocol");
            if asked.is_some_and(|asked| asked.to_str().unwrap().contains("v2.mqtt")) {
                let chosen = http::HeaderValue::from_static("v2.mqtt");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", chosen);
            }
            Ok(response)
        };
        let mut socket = accept_hdr(stream, callback).unwrap();
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
    });
    (address, heads)
}

/// Opens a WebSocket through the gate.
fn open(gate: &Gate, target: &str, headers: &[(&'static str, &str)]) -> Opened {
    let url = format!("ws://gate.example{target}");
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, response) = client(request, connect(gate.address())).unwrap();
    Opened { socket, response }
}

struct Opened {
    socket: WebSocket<TcpStream>,
    response: http::Response<Option<Vec<u8>>>,
}

impl Opened {
    fn assert_echo(&mut self) {
        let binary = vec![7; 300_000];
        for message in [Message::text("hello"), Message::binary(binary)] {
            self.socket.send(message.clone()).unwrap();
            assert_eq!(self.socket.read().unwrap(), message);
        }
    }

    /// There is a close frame, and then nothing.
    fn assert_closed(&mut self) {
        let told = self.socket.read().unwrap();
        assert!(told.is_close(), "{told:?}");
        let end = self.socket.read();
        assert!(end.is_err(), "{end:?}");
    }
}

#[test]
fn messages_pass_with_the_token_in_the_header_or_the_query() {
    let (upstream, heads) = echo();
    let gate = Builder::standard(upstream, ROUTES).start();
    let token = sign(&claims());
    let bearer = format!("Bearer {token}");
    for (row, target, headers) in [
        (
            "header",
            "/ws/a?x=%2F".to_owned(),
            &[("authorization", &*bearer)][..],
        ),
        ("query", format!("/ws/a?authorization={token}&x=%2F"), &[]),
        (
            "access_token",
            format!("/ws/a?x=%2F&access_token={token}"),
            &[],
        ),
        ("public", "/open/a?x=%2F".to_owned(), &[]),
    ] {
        open(&gate, &target, headers).assert_echo();
        let seen = heads.lock().unwrap().pop().unwrap();
        assert!(!seen.contains(&token), "{row}: {seen}");
        assert!(seen.contains("/a?x=%2F\n"), "{row}: {seen}");
        assert!(seen.contains("\nconnection: upgrade\n"), "{row}: {seen}");
        assert!(seen.contains("\nupgrade: websocket\n"), "{row}: {seen}");
        let basic = seen.contains("\nauthorization: Basic Z2F0ZTpzM2NyZXQ=\n");
        assert_eq!(basic, row != "public", "{row}: {seen}");
    }
}

#[test]
fn the_subprotocol_is_agreed_upon_through_the_gate() {
    let (upstream, heads) = echo();
    let gate = Builder::standard(upstream, ROUTES).start();
    let protocols = ("sec-websocket-protocol", "v1.mqtt, v2.mqtt");
    let mut opened = open(&gate, "/open/a", &[protocols]);
    opened.assert_echo();
    assert_eq!(
        opened.response.headers()["sec-websocket-protocol"],
        "v2.mqtt"
    );
    assert!(opened.response.headers().contains_key("x-request-id"));
    let seen = heads.lock().unwrap().pop().unwrap();
    assert!(
        seen.contains("\nsec-websocket-protocol: v1.mqtt, v2.mqtt\n"),
        "{seen}"
    );
}

#[test]
fn without_a_token_no_websocket_reaches_the_upstream() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    for target in ["/ws/a", "/ws/a?authorization=x", "/ws/a?token=x"] {
        assert_eq!(
            gate.send(upgrade(target, "websocket")).status,
            401,
            "{target}"
        );
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn bytes_sent_ahead_of_the_101_never_reach_the_upstream() {
    for are_apart in [false, true] {
        let (tell, told) = channel();
        let (go_on, wait) = channel::<()>();
        let (tell, wait) = (Mutex::new(tell), Mutex::new(wait));
        let upstream = accepting(move |mut stream| {
            read_head(&mut stream);
            tell.lock().unwrap().send(Vec::new()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            let _ = stream.write_all(SWITCH);
            tell.lock().unwrap().send(read_rest(&mut stream)).unwrap();
        });
        let gate = Builder::standard(upstream, ROUTES).start();
        let request = upgrade("/open/a", "websocket");
        let mut stream = connect(gate.address());
        if are_apart {
            stream.write_all(request.as_bytes()).unwrap();
            take(&told);
            stream.write_all(SMUGGLED).unwrap();
        } else {
            stream
                .write_all(&[request.as_bytes(), SMUGGLED].concat())
                .unwrap();
            take(&told);
        }
        go_on.send(()).unwrap();
        let answer = read_rest(&mut stream);
        drop(stream);
        let got = String::from_utf8(take(&told)).unwrap();
        assert!(got.is_empty(), "apart {are_apart}: the upstream got {got}");
        let line = gate.exchange("/open/a");
        assert_eq!(line["tunnel_end"], "sent_before_upgrade", "{answer:?}");
    }
    threat::count("bytes ahead of the 101", 2);
}

const SMUGGLED: &[u8] = b"GET /secret HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn a_refused_upgrade_is_told_as_what_it_is() {
    for (answer, status, is_passed_on) in [
        ("401 Unauthorized", 502, false),
        ("403 Forbidden", 403, true),
        ("404 Not Found", 404, true),
        ("200 OK", 200, true),
        ("503 Service Unavailable", 503, true),
    ] {
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 4\r\n\r\nwhy?");
        let gate = Builder::standard(Upstream::answering(&answer).address, ROUTES).start();
        let response = gate.send(upgrade("/open/a", "websocket"));
        assert_eq!(response.status, status, "{answer}");
        assert_eq!(response.text() == "why?", is_passed_on, "{answer}");
    }
}

#[test]
fn only_websocket_is_ever_asked_of_the_upstream() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    for (row, request) in [
        ("another protocol", upgrade("/open/a", "foo")),
        ("HTTP/2", upgrade("/open/a", "h2c")),
        ("a list", upgrade("/open/a", "websocket, h2c")),
        (
            "POST",
            upgrade("/open/a", "websocket").replace("GET", "POST"),
        ),
        (
            "HTTP/1.0",
            upgrade("/open/a", "websocket").replace("/1.1", "/1.0"),
        ),
        (
            "not listed in Connection",
            upgrade("/open/a", "websocket").replace("connection: upgrade\r\n", ""),
        ),
    ] {
        assert_eq!(gate.send(request).status, 200, "{row}");
        let seen = upstream.last();
        assert_eq!(seen.header("upgrade"), None, "{row}");
        assert_eq!(seen.header("connection"), None, "{row}");
        assert_eq!(seen.header("http2-settings"), None, "{row}");
    }
}

#[test]
fn an_upgrade_with_a_body_is_no_upgrade() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    for (row, framing, body) in [
        ("a length", "content-length: 4\r\n", "GET "),
        (
            "chunks",
            "transfer-encoding: chunked\r\n",
            "4\r\nGET \r\n0\r\n\r\n",
        ),
    ] {
        let request = upgrade("/open/a", "websocket");
        let request = request.replace("\r\n\r\n", &format!("\r\n{framing}\r\n{body}"));
        assert_eq!(gate.send(request).status, 200, "{row}");
        let seen = upstream.last();
        assert_eq!(seen.body, b"GET ", "{row}");
        for name in ["upgrade", "connection"] {
            assert_eq!(seen.header(name), None, "{row}");
        }
    }
    let empty = upgrade("/open/a", "websocket");
    let empty = empty.replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n");
    gate.send(empty);
    assert_eq!(upstream.last().header("upgrade"), Some("websocket"));
}

#[test]
fn an_upstream_that_agrees_sets_no_cookie_of_the_gates_and_says_nothing_of_origins() {
    let switch = String::from_utf8(SWITCH.to_vec()).unwrap();
    let said = "\r\nset-cookie: a=1\r\nset-cookie: __Host-tollgate=stolen; Path=/; Secure\r\n\
                www-authenticate: Basic\r\naccess-control-allow-origin: https://evil.example\r\n\r\n";
    let upstream = Upstream::answering(&switch.replace("\r\n\r\n", said));
    let routes = format!(
        "{ROUTES}  - {{ path: /cors, upstream: app, public: true, cors: {{ origins: [ \"https://ui.example\" ] }} }}\n"
    );
    let gate = Builder::standard(upstream.address, &routes).start();
    for (target, origin) in [("/open/a", Some("*")), ("/cors", None)] {
        let request = upgrade(target, "websocket");
        let request = request.replace("\r\n\r\n", "\r\norigin: https://evil.example\r\n\r\n");
        let mut stream = connect(gate.address());
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_response(&mut stream, false);
        assert_eq!(response.status, 101, "{target}");
        assert_eq!(response.header("set-cookie"), Some("a=1"), "{target}");
        assert_eq!(response.header("www-authenticate"), None, "{target}");
        let allowed = response.header("access-control-allow-origin");
        assert_eq!(allowed, origin, "{target}");
    }
}

#[test]
fn an_upstream_that_switches_unasked_is_broken() {
    let upstream = Upstream::answering(str::from_utf8(SWITCH).unwrap());
    let gate = Builder::standard(upstream.address, ROUTES).start();
    for (path, protocol) in [("/open/a", "foo"), ("/open/b", "h2c")] {
        assert_eq!(gate.send(upgrade(path, protocol)).status, 502, "{protocol}");
        let line = gate.exchange(path);
        assert_eq!(line["reason"], "upstream_broken", "{line}");
    }
}

#[test]
fn a_tunnel_ends_with_its_token() {
    let (upstream, _) = echo();
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut claims = claims();
    let expires = unix_now() + 2;
    claims["exp"] = expires.into();
    let bearer = format!("Bearer {}", sign(&claims));
    let mut opened = open(&gate, "/ws/a", &[("authorization", &bearer)]);
    opened.assert_echo();
    opened.assert_closed();
    let now = unix_now();
    assert!(
        (expires..=expires + 1).contains(&now),
        "{now} for {expires}"
    );
    let line = gate.exchange("/ws/a");
    assert_eq!(line["http.response.status_code"], 101, "{line}");
    assert_eq!(line["tunnel_end"], "expired", "{line}");
    assert_eq!(line["subject"], "root", "{line}");
    let took = line["duration_ms"].as_f64().unwrap();
    assert!((500.0..3000.0).contains(&took), "{line}");
}

#[test]
fn a_tunnel_by_basic_outlives_what_is_remembered() {
    let (upstream, _) = echo();
    let routes = "  - { path: /ws/**, upstream: app, basic: { remember: 0s } }";
    let gate = Builder::standard(upstream, routes).start();
    let basic = ("authorization", "Basic cm9vdDptZW1waGlz");
    let mut opened = open(&gate, "/ws/a", &[basic]);
    opened.assert_echo();
    opened.assert_echo();
    let wrong = ("authorization", "Basic cm9vdDpubw==");
    let request = upgrade("/ws/a", "websocket");
    let request = request.replace("\r\n\r\n", &format!("\r\n{}: {}\r\n\r\n", wrong.0, wrong.1));
    assert_eq!(gate.send(request).status, 401);
}

#[test]
fn a_tunnel_ends_when_its_token_is_revoked() {
    let (upstream, _) = echo();
    let gate = Builder::standard(upstream, ROUTES).start();
    let bearer = format!("Bearer {}", gate.token("root", "memphis"));
    let mut opened = open(&gate, "/ws/a", &[("authorization", &bearer)]);
    opened.assert_echo();
    let (body, kind) = (r#"{"subject":"root"}"#, "application/json");
    let request = format!(
        "POST /revoke HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        gate.admin,
        body.len()
    );
    assert_eq!(send(gate.admin, request).status, 200);
    opened.assert_closed();
    assert_eq!(gate.exchange("/ws/a")["tunnel_end"], "revoked");
}

#[test]
fn an_end_that_closes_closes_the_other_and_is_counted_and_logged() {
    let (upstream, _) = echo();
    let gate = Builder::standard(upstream, ROUTES).start();
    let sample = "tollgate_tunnels_open{route=\"open\"}";
    let mut sockets: Vec<_> = (0..3).map(|_| open(&gate, "/open/a", &[])).collect();
    gate.wait_for_metric(sample, 3.0);
    // A proper close goes through to the other end and back.
    let mut first = sockets.pop().unwrap();
    first.socket.close(None).unwrap();
    while first.socket.read().is_ok() {}
    drop(first);
    gate.wait_for_metric(sample, 2.0);
    drop(sockets);
    gate.wait_for_metric(sample, 0.0);
    let line = gate.exchange("/open/a");
    assert_eq!(line["http.response.status_code"], 101, "{line}");
    assert_eq!(line["http.route"], "open", "{line}");
    assert_eq!(line["tunnel_end"], "closed", "{line}");
    let requests = "tollgate_requests_total{code=\"1xx\",method=\"GET\",route=\"open\"}";
    gate.wait_for_metric(requests, 3.0);
    gate.wait_for_metric("tollgate_requests_in_flight{route=\"open\"}", 0.0);
}

#[test]
fn an_upstream_that_hangs_up_hangs_up_on_the_client() {
    let upstream = accepting(|mut stream| {
        read_head(&mut stream);
        stream.write_all(SWITCH).unwrap();
        stream.write_all(b"bye").unwrap();
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = connect(gate.address());
    stream
        .write_all(upgrade("/open/a", "websocket").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream, false).status, 101);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    drop(stream);
    assert_eq!(gate.exchange("/open/a")["tunnel_end"], "closed");
}

#[test]
fn a_tunnel_ends_with_the_upstream_even_if_the_client_stays() {
    let upstream = accepting(|mut stream| {
        read_head(&mut stream);
        stream.write_all(SWITCH).unwrap();
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut stream = connect(gate.address());
    stream
        .write_all(upgrade("/open/a", "websocket").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream, false).status, 101);
    assert_eq!(read_rest(&mut stream), b"");
    gate.wait_for_metric("tollgate_tunnels_open{route=\"open\"}", 0.0);
    drop(stream);
}

#[test]
fn the_system_asks_both_ends_of_a_quiet_tunnel_whether_they_are_there() {
    let (upstream, _) = echo();
    let gate = Builder::standard(upstream, ROUTES).start();
    let mut opened = open(&gate, "/open/a", &[]);
    opened.assert_echo();
    let own = format!("sport = :{}", gate.address().port());
    let other = format!("dport = :{}", upstream.port());
    for end in [own, other] {
        wait_for("a question to come", || {
            let shown = Command::new("ss")
                .args(["-tnoH", "state", "established", &end])
                .output()
                .unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            assert!(!shown.is_empty(), "{end}");
            shown.contains("timer:(keepalive,").then_some(())
        });
    }
}

#[test]
fn a_tunnel_counts_as_an_open_connection() {
    let (upstream, _) = echo();
    let gate = Builder::standard(upstream, ROUTES)
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\", name: main } ]",
        )
        .start();
    let mut opened = open(&gate, "/open/a", &[]);
    opened.assert_echo();
    gate.wait_for_metric("tollgate_tunnels_open{route=\"open\"}", 1.0);
    let sample = "tollgate_connections_open{listener=\"main\"}";
    assert_eq!(
        gate.metric(sample),
        1.0,
        "limits.connections does not bound tunnels"
    );
}

/// A request to switch to `protocol`, raw.
fn upgrade(target: &str, protocol: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: gate.example\r\nconnection: upgrade\r\n\
         upgrade: {protocol}\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn take<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(Duration::from_secs(20)).unwrap()
}
