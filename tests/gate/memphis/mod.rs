//! The Memphis REST gateway's login, byte for byte as its clients know it.

mod calls;
mod granted;
mod refused;

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /stations/**
    upstream: app
";
const LOGIN: &str = "/auth/authenticate";
const REFRESH: &str = "/auth/refreshToken";
const FORM: &str = "application/x-www-form-urlencoded";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

/// Posts a body of this content type; `-` for none.
fn post(gate: &Gate, target: &str, kind: &str, body: &str) -> Response {
    let length = body.len();
    let kind = match kind {
        "-" => String::new(),
        "json" => "content-type: application/json\r\n".to_owned(),
        "form" => format!("content-type: {FORM}\r\n"),
        kind => format!("content-type: {kind}\r\n"),
    };
    gate.send(format!(
        "POST {target} HTTP/1.1\r\nhost: gate.example\r\n{kind}\
         content-length: {length}\r\n\r\n{body}"
    ))
}
