//! A standard library's view: authlib, over TLS.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::builder;
use crate::support::gate::self_signed;
use crate::support::upstream::Upstream;

#[test]
fn authlib_gets_uses_renews_and_ends_its_tokens() {
    let upstream = Upstream::start();
    let (certificate, key) = self_signed(&["127.0.0.1"]);
    let tls = "\"127.0.0.1:0\", tls: { certificate: tls.crt, private_key: tls.key } } ]\nadmin";
    let gate = builder(&upstream)
        .edit("\"127.0.0.1:0\" } ]\nadmin", tls)
        .file("tls.crt", certificate)
        .file("tls.key", key)
        .start();
    let python = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("python")
        .join("bin/python");
    let output = Command::new(&python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/oauth2/session.py"
        ))
        .args(["--gate", &format!("https://{}", gate.address())])
        .arg("--ca")
        .arg(gate.folder().path().join("tls.crt"))
        .args(["--username", "root", "--password", "memphis"])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/install.sh", python.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut steps: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .collect();
    let pair = [
        "access_token",
        "expires_in",
        "refresh_token",
        "scope",
        "token_type",
    ];
    let alone = ["access_token", "expires_in", "scope", "token_type"];
    let told = steps.remove(10);
    assert_eq!(
        (&told["step"], &told["active"], &told["sub"]),
        (&json!("introspect"), &json!(true), &json!("root"),)
    );
    let wanted = [
        json!({"step": "wrong password", "error": "invalid_grant"}),
        json!({"step": "password", "fields": pair, "scope": "admin read"}),
        json!({"step": "access", "status": 200}),
        json!({"step": "refresh", "fields": pair, "scope": "admin read"}),
        json!({"step": "access after the refresh", "status": 200}),
        json!({"step": "revoke", "status": 200}),
        json!({"step": "access after the end", "status": 401}),
        json!({"step": "refresh after the end", "error": "invalid_grant"}),
        json!({"step": "client_secret_basic", "fields": alone, "scope": "admin"}),
        json!({"step": "client_secret_basic access", "status": 200}),
        json!({"step": "client_secret_post", "fields": alone, "scope": "admin"}),
        json!({"step": "client_secret_post access", "status": 200}),
    ];
    assert_eq!(steps, wanted);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
}
