//! A browser's session, where another proxy forwards its requests.

use super::builder;
use super::questions::about;
use crate::support::jar::{Jar, NAVIGATION};
use crate::support::upstream::Upstream;

#[test]
fn a_browsers_session_opens_pages_to_this_sites_own_and_stays_with_the_gate() {
    let app = Upstream::start();
    let gate = builder(&app, "proxy: nginx, takes: [ cookie ]")
        .line("login:", "login: [ { dialect: browser } ]")
        .start();
    let response = about(&gate, "GET", "/pages/a?x=1", NAVIGATION);
    assert_eq!(response.status, 401);
    let page = response.header("location").unwrap();
    assert_eq!(page, "/login?return=%2Fpages%2Fa%3Fx%3D1");

    let mut jar = Jar::default();
    assert_eq!(jar.log_in(&gate, "root", "memphis").status, 303);
    let session = jar.line();
    let cookie = format!(
        "cookie: theme=dark; {}",
        session.strip_prefix("cookie: ").unwrap()
    );
    let response = about(&gate, "GET", "/pages/a", &format!("{cookie}{NAVIGATION}"));
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-tollgate-subject"), Some("root"));
    assert_eq!(response.header("cookie"), Some("theme=dark"));

    // Where the proxy would forward the session, a browser is not sent to log in once more.
    let careless = builder(&app, "proxy: caddy")
        .line("login:", "login: [ { dialect: browser } ]")
        .start();
    let response = about(
        &careless,
        "GET",
        "/pages/a",
        &format!("{cookie}{NAVIGATION}"),
    );
    assert_eq!((response.status, response.header("location")), (401, None));

    let evil = "origin: https://evil.example\r\n";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-fetch-site: same-origin\r\n";
    // The proxy's question has no `Upgrade`.
    for (method, lines) in [
        ("POST", evil.to_owned()),
        ("GET", format!("{evil}{key}")),
        (
            "GET",
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n".to_owned(),
        ),
    ] {
        let response = about(&gate, method, "/pages/a", &format!("{cookie}{lines}"));
        assert_eq!(response.status, 403, "{method} {lines}");
    }
    let here = "origin: http://gate.example\r\n";
    let response = about(&gate, "POST", "/pages/a", &format!("{cookie}{here}"));
    assert_eq!(response.status, 200);
    // Without TLS in front it is another origin than with it.
    let tls = format!("{cookie}{here}x-forwarded-proto: https\r\n");
    assert_eq!(about(&gate, "POST", "/pages/a", &tls).status, 403);
}
