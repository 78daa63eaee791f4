//! What reaches the upstream, and what does not.

use crate::support::gate::Builder;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
";

#[test]
fn a_logged_in_client_reaches_the_upstream_with_basic_credentials_alone() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let token = gate.token("root", "memphis");
    let response = gate.get("/api/overview?a=1", &token);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let seen = upstream.last();
    assert_eq!(seen.target(), "/api/overview?a=1");
    assert_eq!(seen.all("authorization"), ["Basic Z2F0ZTpzM2NyZXQ="]);
    assert!(!seen.head.contains(&token));
}
