//! OAuth 2, as standard libraries speak it.

mod held;
mod library;
mod token;
mod told;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::client::Response;
use crate::support::gate::{Builder, Gate, users};
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";
const PASSWORD: &str = "grant_type=password&username=root&password=memphis";
/// `batch` and `p+ss %: w\u{f6}rd`, each encoded as in a form.
const BATCH: &str = "batch:p%2Bss+%25%3A+w%C3%B6rd";

fn builder(upstream: &Upstream) -> Builder {
    let users = users(&[
        ("root", "memphis", "[ admin, read ]"),
        ("batch", "p+ss %: w\u{f6}rd", "[ read ]"),
        ("bare", "memphis", "[]"),
    ]);
    Builder::standard(upstream.address, ROUTES)
        .edit("dialect: memphis", "dialect: oauth2")
        .file("users.yaml", users)
}

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = builder(&upstream).start();
    (upstream, gate)
}

/// A form with further header lines, each ended by `\r\n`.
fn post(gate: &Gate, target: &str, headers: &str, form: &str) -> Response {
    let length = form.len();
    gate.send(format!(
        "POST {target} HTTP/1.1\r\nhost: gate.example:8443\r\n{headers}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
    ))
}

fn basic(pair: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(pair))
}

fn granted(gate: &Gate, headers: &str, form: &str) -> Value {
    let response = post(gate, "/oauth2/token", headers, form);
    assert_eq!(response.status, 200, "{form}: {}", response.text());
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(response.header(name), Some(value), "{form}");
    }
    response.json()
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
}

fn refresh(gate: &Gate, headers: &str, pair: &Value, more: &str) -> Response {
    let token = text(pair, "refresh_token");
    let form = format!("grant_type=refresh_token&refresh_token={token}{more}");
    post(gate, "/oauth2/token", headers, &form)
}

fn opens(gate: &Gate, pair: &Value) -> bool {
    gate.get("/api/x", text(pair, "access_token")).status == 200
}
