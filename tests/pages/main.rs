//! Do people who open the gate's pages in a real browser get what they should, and nothing else?
//!
//! `TOLLGATE_SCREENSHOTS=write cargo test --test pages` takes the screenshots in docs/pages/ anew.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops here; it has its own clock and files"
)]

mod admin;
mod browser;
#[path = "../support/files.rs"]
mod files;
#[expect(dead_code, reason = "the other services' tests need more of it")]
#[path = "../support/provider.rs"]
mod provider;
#[expect(dead_code, reason = "the other services' tests need more of it")]
#[path = "../support/services.rs"]
mod services;
#[expect(
    dead_code,
    unused_imports,
    reason = "the gate's own tests need more of it"
)]
#[path = "../gate/support/mod.rs"]
mod support;

use std::process::Command;

use serde_json::json;

use files::file_server;
use provider::{CLIENT_SECRET, Provider};
use services::{Folder, GATE, Gate, Process};

#[test]
fn a_page_that_does_what_it_must_not_is_found_out() {
    browser::tell("harness", &json!({}));
}

/// The demo, with its gate's and its admin listener's URL.
fn demo() -> (Process, Folder, [String; 2]) {
    let folder = Folder::create();
    let mut command = Command::new(GATE);
    command.args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let demo = Process::start(&mut command, &folder);
    assert!(demo.stdout.wait_for(|line| line.starts_with("GATE=")));
    let said = demo.stdout.text();
    let url = |name: &str| {
        let mut words = said.split_whitespace();
        let url = words.find_map(|word| word.strip_prefix(name));
        url.unwrap().to_owned()
    };
    let urls = ["GATE=", "ADMIN="].map(url);
    (demo, folder, urls)
}

#[test]
fn somebody_logs_in_works_and_logs_out() {
    let (_demo, _folder, [gate, _]) = demo();
    browser::tell("login", &json!({ "gate": gate }));
}

#[test]
fn a_session_that_an_operator_ends_is_over_in_its_browser() {
    let (_demo, _folder, [gate, admin]) = demo();
    browser::tell("together", &json!({ "gate": gate, "admin": admin }));
}

#[test]
fn somebody_logs_in_at_a_provider_until_the_session_is_over() {
    let provider = Provider::start();
    let folder = Folder::create();
    let (_upstream, port) = file_server(&folder);
    let config = format!(
        r#"
identity:
  - oidc:
      issuer: "{}"
      audience: gate
      subject_prefix: "provider:"
      client_id: gate
      browser: {{ name: Provider, client_secret_file: client-secret, scopes: [ openid, profile ] }}
upstreams:
  files: {{ endpoints: [ "http://127.0.0.1:{port}" ] }}
login: [ {{ dialect: browser, refresh_ttl: 4s, access_ttl: 2s }} ]
routes:
  - {{ path: /**, upstream: files, login_page: /login }}
"#,
        provider.url
    );
    let gate = Gate::start(&config, &[("client-secret", CLIENT_SECRET)]);
    provider.sends_back_to(&format!("{}/login/callback", gate.https));
    let facts = json!({ "gate": gate.https, "provider": provider.url });
    browser::tell("provider", &facts);
    assert!(gate.logged(|event| event["subject"] == "provider:alice"));
}
