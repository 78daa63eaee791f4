//! Do several endpoints make one upstream that is there when some of them are not?

mod balance;
mod breaker;
mod names;
mod protocols;
mod retries;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::support::client::{Response, connect};
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::upstream::{Seen, Upstream};

const ROUTES: &str = "
  - path: /api/**
    name: api
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
";

/// One worker, whose upstream has these settings, `endpoints` among them.
fn builder(settings: &str) -> Builder {
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    Builder::standard(nowhere, ROUTES)
        .line("  app:", &format!("  app: {{ {settings} }}"))
        .line("workers:", "workers: 1")
}

/// The endpoints' URLs as a setting.
fn endpoints(addresses: &[SocketAddr]) -> String {
    let urls = addresses
        .iter()
        .map(|address| format!("\"http://{address}\""));
    format!("endpoints: [ {} ]", Vec::from_iter(urls).join(", "))
}

fn get(gate: &Gate) -> Response {
    gate.get("/api/x", &sign(&claims()))
}

/// Sends a request and leaves the answer for later.
fn ask(gate: &Gate) -> TcpStream {
    let mut stream = connect(gate.address());
    let token = sign(&claims());
    let request = format!(
        "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// How many addresses of the upstream are in this state.
fn in_state(gate: &Gate, state: &str) -> f64 {
    gate.metric(&format!(
        "tollgate_upstream_endpoints{{state=\"{state}\",upstream=\"app\"}}"
    ))
}

fn errors(gate: &Gate, kind: &str) -> f64 {
    gate.metric(&format!(
        "tollgate_upstream_errors_total{{kind=\"{kind}\",upstream=\"app\"}}"
    ))
}

/// An upstream that answers with this status.
fn with_status(status: u16) -> Upstream {
    Upstream::answering(&format!(
        "HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok"
    ))
}

/// How often the path `/api/x` was asked for.
fn asked(upstream: &Upstream) -> usize {
    let seen = upstream.seen();
    seen.iter().filter(|seen| seen.target() == "/api/x").count()
}

fn is_check(seen: &Seen) -> bool {
    seen.target() == "/healthz"
}
