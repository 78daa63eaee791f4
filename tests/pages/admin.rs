//! Is the admin page what operators need, in a real browser?

use serde_json::json;

use crate::browser::tell;
use crate::support::gate::{Builder, users};
use crate::support::tokens::{claims, sign};
use crate::support::upstream::Upstream;

/// A name that would be an element if it were taken for markup.
const MARKED: &str = "<img src=x onerror=alert(1)>";
/// What an operator put where no secret belongs.
const SECRETS: [&str; 2] = ["c0nfigured-header", "user-and-password"];

#[test]
fn operators_see_search_revoke_and_inspect() {
    let upstream = Upstream::start();
    let names = ["root", "alice", "bob", "carol", MARKED];
    let scopes = |name: &str| match name {
        "root" => "[ admin ]",
        _ => "[]",
    };
    let list = names.map(|name| (name, "memphis", scopes(name)));
    let routes = format!(
        r#"
  - {{ path: /app/**, upstream: app, set_headers: {{ X-Api-Key: {} }} }}
  - {{ path: /write/**, upstream: app, require: {{ scopes: [ admin ] }} }}
  - {{ path: /spare/**, upstream: spare, login_page: "https://{}@login.example/" }}
"#,
        SECRETS[0], SECRETS[1]
    );
    let app = format!(
        "  app: {{ endpoints: [ \"http://{}\" ], response_timeout: 5s }}",
        upstream.address
    );
    let spare = "  spare: { endpoints: [ \"http://127.0.0.1:9\" ], health_check: { path: /, interval: 1s, unhealthy_after: 1 } }";
    let gate = Builder::standard(upstream.address, &routes)
        .line(
            "listeners:",
            r#"listeners:
  - { address: "127.0.0.1:0", name: clients }
  - { address: "127.0.0.1:0", name: secure, tls: { certificate: a.crt, private_key: a.key } }"#,
        )
        .line("  app:", &format!("{app}\n{spare}"))
        .line(
            "login:",
            "login: [ { dialect: memphis }, { dialect: emnify } ]",
        )
        .certificate("a", &["gate.example"])
        .file("users.yaml", users(&list))
        .start();
    let facts = json!({
        "gate": format!("http://{}", gate.address()),
        "admin": format!("http://{}", gate.admin),
        "marked": MARKED,
        "secrets": SECRETS,
    });
    tell("admin", &facts);
    let log = gate.log();
    let revoked = log
        .lines()
        .filter(|line| line.contains("tokens were taken back"));
    assert_eq!(revoked.count(), 3, "{log}");
}

/// Only this machine reaches it, but the gate does not count it as loopback.
const ELSEWHERE: &str = "[::ffff:127.0.0.1]:0";

#[test]
fn an_operator_logs_in_from_elsewhere_over_tls() {
    let upstream = Upstream::start();
    let admin = format!(
        "admin: {{ address: \"{ELSEWHERE}\", users_file: operators.yaml, tls: {{ certificate: a.crt, private_key: a.key }} }}"
    );
    let gate = Builder::standard(upstream.address, "  - { path: /app/**, upstream: app }")
        .line("admin:", &admin)
        .certificate("a", &["admin.example"])
        .file(
            "operators.yaml",
            users(&[("olga", "operators-password", "[]")]),
        )
        .start();
    let token = gate.token("root", "memphis");
    let facts = json!({
        "admin": format!("https://admin.example:{}", gate.admin.port()),
        "password": "operators-password",
        "token": sign(&claims()),
    });
    tell("operators", &facts);
    assert_eq!(gate.get("/app/x", &token).status, 401);
}
