//! Which configs of listeners for questions are refused, and which need no upstream?

use super::builder;
use crate::support::client::send;
use crate::support::gate::{Builder, claims, sign};
use crate::support::upstream::Upstream;

#[test]
fn what_would_give_credentials_away_or_be_reached_by_nobody_is_refused() {
    let app = Upstream::start();
    let asker = "listeners: [ { address: \"127.0.0.1:0\", name: questions, trusted_proxies: [ 127.0.0.1 ], forward_auth: { proxy: caddy } } ]";
    for (builder, told) in [
        (
            builder(&app, "proxy: caddy").edit("trusted_proxies: [ 127.0.0.1 ], ", ""),
            "`trusted_proxies` must name who may ask",
        ),
        (
            builder(&app, "proxy: caddy").edit(
                "[ 127.0.0.1 ], ",
                "[ 0.0.0.0/0 ], danger_trust_everyone: true, ",
            ),
            "so not everyone may ask",
        ),
        (
            builder(&app, "proxy: traefik, takes: [ uri ]"),
            "cannot forward the URI",
        ),
        (
            builder(&app, "proxy: caddy").edit(
                "name: questions",
                "name: questions, protocol: mqtt, path: /api/a",
            ),
            "is asked over HTTP",
        ),
        (builder(&app, "proxy: haproxy"), "haproxy"),
        (builder(&app, ""), "proxy"),
        (
            builder(&app, "proxy: caddy").line(
                "login:",
                "login: [ { dialect: memphis, listener: questions } ]",
            ),
            "would be reached by nobody",
        ),
        (
            builder(&app, "proxy: caddy").line("listeners:", asker),
            "would be reached by nobody",
        ),
        (
            builder(&app, "proxy: caddy").edit(
                "  - path: /bare/**\n    upstream: app\n",
                "  - path: /bare/**\n",
            ),
            "is missing",
        ),
    ] {
        let output = builder.run_to_end(&["check"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}: {text}");
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn where_requests_are_only_judged_no_upstream_is_needed() {
    let config = r#"
listeners: [ { address: "127.0.0.1:0", trusted_proxies: [ 127.0.0.1 ], forward_auth: { proxy: traefik } } ]
admin: { address: "127.0.0.1:0" }
tokens: { issuer: tollgate, audience: gate, keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ] }
store: memory
routes:
  - { path: /api/**, credential: { header: { name: X-Api-Key, value_file: key } }, set_headers: { X-Team: blue } }
"#;
    let builder = Builder::new(config)
        .file("k1", crate::support::gate::SECRET)
        .file("key", "sesame\n");
    let output = builder.run_to_end(&["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("/api/** -> (judged only)"), "{text}");
    assert!(text.contains("answers Traefik at /verify alone"), "{text}");
    let gate = builder.start();
    let question = format!(
        "GET /verify HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {}\r\nx-forwarded-method: GET\r\n\
         x-forwarded-uri: /api/a\r\nx-forwarded-host: h\r\n",
        sign(&claims())
    );
    let response = send(gate.address(), format!("{question}\r\n"));
    assert_eq!(
        (response.status, response.header("x-api-key")),
        (200, Some("sesame"))
    );
    assert_eq!(response.header("x-team"), Some("blue"));
    assert_eq!(response.header("authorization"), None);
    for twin in ["x_api_key", "x.team"] {
        let response = send(gate.address(), format!("{question}{twin}: evil\r\n\r\n"));
        assert_eq!(response.status, 400, "{twin}");
    }
}

#[test]
fn the_docs_show_the_configs_that_are_tested() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let folder = std::fs::read_dir("deploy/forward-auth").unwrap();
    let configs = folder.map(|file| read(file.unwrap().path().to_str().unwrap()));
    let configs = Vec::from_iter(configs);
    let docs = read("docs/deploy.md");
    let section = docs
        .split("\n## ")
        .find(|part| part.starts_with("Behind another proxy"));
    let blocks = Vec::from_iter(section.unwrap().split("```").skip(1).step_by(2));
    assert!(blocks.len() >= configs.len());
    for block in blocks {
        let (_, block) = block.split_once('\n').unwrap();
        let is_shown = configs.iter().any(|config| config.contains(block));
        assert!(is_shown, "{block}");
    }
}
