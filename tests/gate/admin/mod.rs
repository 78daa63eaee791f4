//! The admin listener: who may ask, and what is told.

mod door;
mod inspect;
mod mqtt;
mod operators;
mod sessions;
mod shown;

use serde_json::Value;

use crate::support::client::{Response, send};
use crate::support::gate::Gate;

const JSON: &str = "content-type: application/json\r\n";

/// A request to the admin listener by its own name; `headers` are whole lines, each ended by `\r\n`.
fn ask(gate: &Gate, method: &str, path: &str, headers: &str, body: &str) -> Response {
    ask_as(gate, &gate.admin.to_string(), method, path, headers, body)
}

/// As [`ask`], by another name.
fn ask_as(
    gate: &Gate,
    host: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Response {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    send(gate.admin, request)
}

/// The JSON at a path.
fn get(gate: &Gate, path: &str) -> Value {
    let response = ask(gate, "GET", path, "", "");
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.json()
}

fn post(gate: &Gate, path: &str, body: &Value) -> Response {
    ask(gate, "POST", path, JSON, &body.to_string())
}
