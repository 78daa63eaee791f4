//! What is spoken with upstreams besides HTTP/1.1 over TCP?

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{ROUTES, ask, builder, get};
use crate::support::client::read_response;
use crate::support::gate::{Builder, claims, self_signed, sign};
use crate::support::http2::{Body, Http2};
use crate::support::http2_upstream::Http2Upstream;
use crate::support::raw::{accepting, read_head, read_rest};

/// A gate with a TLS listener whose upstream has these settings, and its certificate.
fn over_tls(settings: &str) -> (Builder, String) {
    builder(settings).secure()
}

fn request(method: &str, path: &str) -> http::request::Builder {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://gate.example{path}"));
    request.header("authorization", format!("Bearer {}", sign(&claims())))
}

/// A body with trailers, as a gRPC client might send.
fn message() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"message"))),
        Ok(Frame::trailers(trailers)),
    ];
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

#[test]
fn grpc_passes_with_its_trailers_over_h2c() {
    let upstream = Http2Upstream::start(1);
    let settings = format!(
        "endpoints: [ \"http://{}\" ], protocol: http2",
        upstream.address
    );
    let (builder, certificate) = over_tls(&settings);
    let gate = builder.start();
    let mut client = Http2::connect(gate.address(), &certificate);
    let call = request("POST", "/api/pkg.Service/Call?a=%2F")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(message())
        .unwrap();
    let response = client.send(call);
    assert_eq!(response.status, 200);
    assert_eq!(&response.body[..], b"message");
    let trailers = response.trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-sum"], "42");
    let seen = |name: &str| {
        response
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(seen("seen-version"), Some("HTTP/2.0"));
    assert_eq!(seen("seen-scheme"), Some("http"));
    assert_eq!(seen("seen-authority"), Some("gate.example"));
    assert_eq!(seen("seen-target"), Some("/api/pkg.Service/Call?a=%2F"));
    assert_eq!(seen("seen-te"), Some("trailers"));
    assert_eq!(seen("seen-authorization"), Some("Basic Z2F0ZTpzM2NyZXQ="));
    for name in ["seen-host", "seen-connection", "seen-upgrade"] {
        assert_eq!(seen(name), None, "{name}");
    }
}

#[test]
fn an_http1_client_reaches_an_http2_upstream() {
    let upstream = Http2Upstream::start(1);
    let settings = format!(
        "endpoints: [ \"http://{}\" ], protocol: http2",
        upstream.address
    );
    let gate = builder(&settings).start();
    let headers = format!(
        "authorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        sign(&claims())
    );
    // There is no upgrade over HTTP/2: it is not offered on.
    let response = gate.request("GET", "/api/x", &headers);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("seen-upgrade"), None);
    assert_eq!(response.header("seen-version"), Some("HTTP/2.0"));
    let chunks = format!(
        "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {}\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        sign(&claims())
    );
    assert_eq!(gate.send(chunks).text(), "hi");
}

#[test]
fn many_requests_share_one_connection_over_http2() {
    let together = 50;
    let upstream = Http2Upstream::start(together);
    let settings = format!(
        "endpoints: [ \"http://{}\" ], protocol: http2",
        upstream.address
    );
    let gate = builder(&settings).start();
    // Each is answered once all are there: they are under way at the same time.
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..together)
            .map(|_| scope.spawn(|| gate.get("/api/together", &sign(&claims())).status))
            .collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn who_waits_for_a_connection_that_does_not_come_about_does_not_wait_for_every_others() {
    const REQUESTS: usize = 12;
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    // It never answers the handshake.
    let silent = accepting(move |mut stream| {
        count.fetch_add(1, Ordering::Relaxed);
        read_rest(&mut stream);
    });
    let settings = format!(
        "endpoints: [ \"https://{silent}\" ], protocol: http2, connect_timeout: 1s, ejection: {{ failures: 0 }}"
    );
    let gate = builder(&settings).start();
    let mut waiting: Vec<_> = (0..REQUESTS).map(|_| ask(&gate)).collect();
    for stream in &mut waiting {
        assert_eq!(read_response(stream, false).status, 504);
    }
    // Each of its own would be one for each request.
    let opened = opened.load(Ordering::Relaxed);
    assert!(opened < REQUESTS / 2, "{opened} connections");
}

#[test]
fn http2_over_tls_is_agreed_on_or_told() {
    let (certificate, key) = self_signed(&["localhost"]);
    let upstream = Http2Upstream::over_tls(&certificate, &key);
    let port = upstream.address.port();
    let settings = |protocol: &str| {
        format!(
            "endpoints: [ \"https://127.0.0.1:{port}\" ], server_name: localhost, ca_file: up.crt, protocol: {protocol}"
        )
    };
    let gate = builder(&settings("http2"))
        .file("up.crt", &certificate)
        .start();
    let response = get(&gate);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("seen-scheme"), Some("https"));
    // This upstream speaks nothing else.
    let gate = builder(&settings("http1"))
        .file("up.crt", &certificate)
        .start();
    assert_eq!(get(&gate).status, 502);
    // And this one does not speak HTTP/2.
    let plain = crate::support::raw::accepting_tls(&certificate, &key, |mut stream| {
        read_head(&mut stream);
    });
    let settings = settings("http2").replace(&port.to_string(), &plain.port().to_string());
    let gate = builder(&settings).file("up.crt", &certificate).start();
    assert_eq!(get(&gate).status, 502);
    let cause = gate.exchange("/api/x")["cause"].to_string();
    assert!(cause.contains("does not agree on HTTP/2"), "{cause}");
}

#[test]
fn an_upstream_may_listen_on_a_unix_socket() {
    let folder = crate::support::gate::Folder::new();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while read_head(&mut stream).starts_with("GET /api/x ") {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix";
                stream.write_all(answer).unwrap();
            }
        }
    });
    let settings = format!("endpoints: [ \"unix:{}\" ]", path.display());
    let gate = builder(&settings).start();
    for _ in 0..3 {
        let response = get(&gate);
        assert_eq!((response.status, &*response.text()), (200, "unix"));
    }
    let open = "tollgate_upstream_connections_open{upstream=\"app\"}";
    assert_eq!(gate.metric(open), 1.0);
}

#[test]
fn the_gate_says_who_it_is_where_an_upstream_asks() {
    let (certificate, key) = self_signed(&["localhost"]);
    let (ours, our_key) = self_signed(&["tollgate"]);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ours.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let address = accepting(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        if !read_head(&mut stream).is_empty() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let url = format!(
        "endpoints: [ \"https://localhost:{}\" ], ca_file: up.crt",
        address.port()
    );
    let gate = |settings: &str| {
        builder(settings)
            .file("up.crt", &certificate)
            .file("ours.crt", &ours)
            .file("ours.key", &our_key)
            .start()
    };
    let known = gate(&format!(
        "{url}, client_certificate: ours.crt, client_key: ours.key"
    ));
    assert_eq!(get(&known).status, 200);
    let unknown = gate(&url);
    assert_eq!(get(&unknown).status, 502);
}

#[test]
fn settings_that_cannot_be_meant_are_told() {
    for (settings, key, text) in [
        (
            "endpoints: [ \"unix:app.sock\" ]",
            "endpoints[0]",
            "no absolute path",
        ),
        (
            "endpoints: [ \"http://127.0.0.1:1\" ], connections: 0",
            "connections",
            "more than nothing",
        ),
        (
            "endpoints: [ \"http://127.0.0.1:1\" ], server_name: a",
            "server_name",
            "no endpoint is https",
        ),
        (
            "endpoints: [ \"http://127.0.0.1:1\" ], retry_budget: 2.0",
            "retry_budget",
            "between 0 and 1",
        ),
        (
            "endpoints: [ \"https://127.0.0.1:1\" ], client_certificate: a",
            "client_certificate",
            "belong together",
        ),
        (
            "endpoints: [ \"http://127.0.0.1:1\" ], health_check: { path: healthz }",
            "health_check.path",
            "must be a path",
        ),
        (
            "endpoints: [ \"http://127.0.0.1:1\" ], health_check: { interval: 0s }",
            "health_check.interval",
            "more than nothing",
        ),
        (
            "endpoints: [ \"http://127.0.0.1:1\" ], protocol: http3",
            "",
            "did you mean `http2`?",
        ),
    ] {
        let output = builder(settings).run_to_end(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{settings}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            key.is_empty() || told.contains(&format!("upstreams.app.{key}")),
            "{settings}: {told}"
        );
        assert!(told.contains(text), "{settings}: {told}");
    }
    let output = Builder::standard("127.0.0.1:1".parse().unwrap(), ROUTES)
        .edit("reload:", "dns: { servers: [ resolver.example ] }\nreload:")
        .run_to_end(&["check"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("dns.servers[0]"), "{told}");
}
