//! The cookie that stands for a login: where it counts, and until when.

use std::io::Write as _;

use http::Request;
use serde_json::json;

use super::{ROUTES, builder, start};
use crate::support::client;
use crate::support::gate::{Builder, Gate, claims, sign, sign_as, users};
use crate::support::http2::{Http2, empty};
use crate::support::jar::{Jar, NAVIGATION, hidden, set_cookies};
use crate::support::reload::{Verdict, reload};
use crate::support::threat;
use crate::support::tokens::claims_of;
use crate::support::unix_now;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const SESSION: &str = "__Host-tollgate";

fn logged_in(gate: &Gate) -> Jar {
    let mut jar = Jar::default();
    assert_eq!(jar.log_in(gate, "root", "memphis").status, 303);
    jar
}

/// The status for a page, with this session's cookie.
fn status(gate: &Gate, session: &str) -> u16 {
    gate.request("GET", "/api/x", &format!("cookie: {SESSION}={session}\r\n"))
        .status
}

fn revoke(gate: &Gate, what: &str) {
    let answer = client::send(
        gate.admin,
        format!(
            "POST /revoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{what}",
            what.len()
        ),
    );
    assert_eq!(answer.status, 200);
}

#[test]
fn a_session_counts_only_for_what_the_sites_own_pages_ask_for() {
    let (upstream, gate) = start();
    let jar = logged_in(&gate);
    let cookie = jar.line();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let here = "origin: http://gate.example\r\n";
    let evil = "origin: https://evil.example\r\n";
    let cases = [
        (200, "GET", String::new()),
        (200, "GET", NAVIGATION.to_owned()),
        (200, "GET", "sec-fetch-site: same-origin\r\n".to_owned()),
        (200, "POST", here.to_owned()),
        (
            200,
            "DELETE",
            format!("{here}sec-fetch-site: same-origin\r\n"),
        ),
        (200, "GET", format!("{upgrade}{here}")),
        (
            200,
            "GET",
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n".to_owned(),
        ),
        (403, "POST", String::new()),
        (403, "POST", evil.to_owned()),
        (403, "POST", "origin: null\r\n".to_owned()),
        (403, "POST", "origin: https://gate.example\r\n".to_owned()),
        (403, "POST", "origin: http://gate.example:80\r\n".to_owned()),
        (403, "POST", format!("{here}sec-fetch-site: same-site\r\n")),
        (
            403,
            "POST",
            format!("{here}sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n"),
        ),
        (403, "POST", format!("{here}{here}")),
        (403, "PUT", "sec-fetch-site: none\r\n".to_owned()),
        (
            403,
            "GET",
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n".to_owned(),
        ),
        (403, "GET", evil.to_owned()),
        (403, "GET", upgrade.to_owned()),
        (403, "GET", format!("{upgrade}{evil}")),
    ];
    for (status, method, headers) in cases {
        let before = upstream.seen().len();
        let body = if method == "GET" {
            ""
        } else {
            "content-length: 0\r\n"
        };
        let path = format!("/api/{:016x}", fastrand::u64(..));
        let answer = gate.request(method, &path, &format!("{cookie}{headers}{body}"));
        assert_eq!(answer.status, status, "{method} {headers}");
        let arrived = usize::from(status == 200);
        assert_eq!(upstream.seen().len() - before, arrived, "{headers}");
        if status == 403 {
            assert_eq!(gate.exchange(&path)["reason"], "cross_site");
        }
        threat::count("browser", 1);
    }
}

#[test]
fn a_session_opens_a_websocket_behind_a_proxy_that_names_the_websockets_own_scheme() {
    let upstream = Upstream::start();
    let gate = builder(&upstream, "").trusting("127.0.0.1").start();
    let cookie = logged_in(&gate).line();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // Traefik says `ws` and `wss` of WebSockets; a page's origin is never one of these.
    for (said, scheme, other) in [("wss", "https", "http"), ("ws", "http", "https")] {
        let ask = |origin: &str| {
            let lines = format!(
                "{cookie}{upgrade}x-forwarded-proto: {said}\r\norigin: {origin}://gate.example\r\n"
            );
            gate.request("GET", "/api/x", &lines).status
        };
        assert_eq!(ask(scheme), 200, "{said}");
        assert_eq!(upstream.last().header("x-forwarded-proto"), Some(scheme));
        assert_eq!(ask(other), 403, "{said}");
    }
}

#[test]
fn a_session_is_one_credential_among_others() {
    let (upstream, gate) = start();
    let jar = logged_in(&gate);
    let cookie = jar.line();
    let session = &jar.0[SESSION];
    let bearer = format!("authorization: Bearer {}\r\n", sign(&claims()));
    for headers in [
        format!("{cookie}{bearer}"),
        format!("{cookie}{cookie}"),
        format!("cookie: {SESSION}={session}; {SESSION}={session}\r\n"),
    ] {
        assert_eq!(gate.request("GET", "/api/x", &headers).status, 400);
    }
    let query = format!("/api/x?access_token={}", sign(&claims()));
    assert_eq!(gate.request("GET", &query, &cookie).status, 400);
    assert_eq!(gate.request("GET", "/programs/x", &cookie).status, 401);
    assert!(upstream.seen().is_empty());
    let both = gate.request("GET", "/programs/x", &format!("{cookie}{bearer}"));
    assert_eq!(
        both.status, 200,
        "where no cookie counts it is no credential"
    );
    assert_eq!(upstream.last().header("cookie"), None);
    assert_eq!(gate.request("GET", "/open/x", &cookie).status, 200);
    assert_eq!(upstream.last().header("cookie"), None);
}

#[test]
fn no_token_stands_in_for_a_session_nor_a_session_for_a_token() {
    let (upstream, gate) = start();
    let jar = logged_in(&gate);
    let session = &jar.0[SESSION];
    assert_eq!(status(&gate, session), 200);
    let arrived = upstream.seen().len();
    let pair = gate.login("root", "memphis");
    let refresh = pair["jwt_refresh_token"].as_str().unwrap();
    let good = claims_of(session);
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        sign_as("session+jwt", &claims)
    };
    for (case, cookie) in [
        ("access", pair["jwt"].as_str().unwrap().to_owned()),
        ("refresh", refresh.to_owned()),
        ("expired", with("exp", unix_now().into())),
        ("other issuer", with("iss", json!("other"))),
        ("other audience", with("aud", json!("other"))),
        ("no family", with("fam", json!(null))),
        (
            "unknown family",
            with("fam", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ),
        ("other place", with("gen", json!(1))),
        ("unknown account", with("acct", json!("users_file:x"))),
        ("no account", with("acct", json!(null))),
        ("other type", sign_as("login-flow+jwt", &good)),
        ("no type", sign_as("JWT", &good)),
        (
            "cut",
            session
                .strip_suffix(char::is_alphanumeric)
                .unwrap_or(session)
                .to_owned()
                + "-",
        ),
        ("empty", String::new()),
        ("words", "let me in".to_owned()),
    ] {
        assert_eq!(status(&gate, &cookie), 401, "{case}");
        threat::count("browser", 1);
    }
    assert_eq!(gate.get("/api/x", session).status, 401);
    let body = json!({"jwt_refresh_token": session}).to_string();
    assert_eq!(gate.post_json("/auth/refreshToken", &body).status, 401);
    assert_eq!(upstream.seen().len(), arrived);
    assert_eq!(status(&gate, &sign_as("session+jwt", &good)), 200);
}

#[test]
fn a_log_out_ends_the_session_at_once_and_no_other() {
    let (_upstream, gate) = start();
    let mut jar = logged_in(&gate);
    let other = logged_in(&gate);
    let session = jar.0[SESSION].clone();
    let page = jar.open(&gate, "/logout").text();
    assert!(
        page.contains("logged in as <strong>root</strong>"),
        "{page}"
    );
    assert_eq!(status(&gate, &session), 200, "the page alone ends nothing");
    let proof = hidden(&page, "form");
    let answer = jar.send(&gate, "/logout", &[("form", &proof)]);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("logged out"), "{}", answer.text());
    assert_eq!(jar.0.get(SESSION), None);
    for _ in 0..8 {
        assert_eq!(status(&gate, &session), 401);
        assert_eq!(status(&gate, &other.0[SESSION]), 200);
    }
    assert_eq!(jar.open(&gate, "/ui/x").status, 302);
    let page = jar.open(&gate, "/login").text();
    assert!(!page.contains("logged in as"), "{page}");
}

#[test]
fn a_login_ends_the_session_that_the_browser_had() {
    let (_upstream, gate) = start();
    let mut jar = logged_in(&gate);
    let first = jar.0[SESSION].clone();
    let page = jar.open(&gate, "/login?return=/ui/").text();
    assert!(
        page.contains("logged in as <strong>root</strong>"),
        "{page}"
    );
    assert_eq!(jar.log_in(&gate, "eve", "memphis").status, 303);
    assert_eq!(status(&gate, &first), 401);
    assert_eq!(status(&gate, &jar.0[SESSION]), 200);
}

#[test]
fn a_session_ends_with_its_subject_its_login_or_its_account() {
    let (_upstream, gate) = start();
    let session = |jar: &Jar| jar.0[SESSION].clone();
    let one = session(&logged_in(&gate));
    assert_eq!(status(&gate, &one), 200);
    revoke(&gate, r#"{"subject":"root"}"#);
    assert_eq!(status(&gate, &one), 401);
    let two = session(&logged_in(&gate));
    assert_eq!(status(&gate, &two), 200, "a login right after works");
    let family = claims_of(&two)["fam"].clone();
    revoke(&gate, &json!({"family": family}).to_string());
    assert_eq!(status(&gate, &two), 401);

    let unused = session(&logged_in(&gate));
    let id = claims_of(&unused)["jti"].clone();
    revoke(&gate, &json!({"token_id": id}).to_string());
    assert_eq!(status(&gate, &unused), 401, "it was never cached");

    let three = session(&logged_in(&gate));
    assert_eq!(status(&gate, &three), 200);
    let changed = users(&[("root", "changed", "[ admin ]"), ("eve", "memphis", "[]")]);
    gate.folder().write("users.yaml", changed);
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_eq!(status(&gate, &three), 401, "the password is another one");
    let mut jar = Jar::default();
    jar.0.insert(SESSION.to_owned(), three);
    for page in ["/login", "/logout"] {
        let page = jar.open(&gate, page).text();
        assert!(!page.contains("You are logged in"), "{page}");
    }
}

#[test]
fn a_session_goes_on_without_a_word_and_with_the_rights_of_now() {
    let upstream = Upstream::start();
    let gate = builder(&upstream, ", access_ttl: 1s").start();
    let mut jar = logged_in(&gate);
    assert_eq!(jar.open(&gate, "/owner/x").status, 403);
    let refreshed = "tollgate_refreshes_total{dialect=\"browser\",reason=\"none\",result=\"ok\"}";
    wait_for("the session to be judged again, twice", || {
        assert_eq!(jar.open(&gate, "/ui/x").status, 200);
        (gate.metric(refreshed) >= 3.0).then_some(())
    });
    let text = std::fs::read_to_string(gate.folder().path().join("users.yaml")).unwrap();
    gate.folder()
        .write("users.yaml", text.replace("[ admin ]", "[ admin, owner ]"));
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_eq!(jar.open(&gate, "/owner/x").status, 200);
}

#[test]
fn a_websocket_has_a_sessions_whole_time_however_long_ago_that_was_judged() {
    let (_upstream, gate) = start();
    let cookie = logged_in(&gate).line();
    let judged = || {
        gate.metric("tollgate_refreshes_total{dialect=\"browser\",reason=\"none\",result=\"ok\"}")
    };
    let ask = |lines: &str| {
        let before = judged();
        let answer = gate.request("GET", "/api/x", &format!("{cookie}{lines}"));
        assert_eq!(answer.status, 200);
        judged() - before
    };
    wait_for("the session to be known", || (ask("") == 0.0).then_some(()));
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\norigin: http://gate.example\r\n";
    assert_eq!(ask(upgrade), 1.0);
    assert_eq!(ask(""), 0.0);
}

#[test]
fn a_session_ends_when_its_time_is_over_and_the_browser_logs_in_again() {
    let upstream = Upstream::start();
    let gate = builder(&upstream, ", access_ttl: 1s, refresh_ttl: 2s").start();
    let mut jar = logged_in(&gate);
    assert_eq!(jar.open(&gate, "/ui/x").status, 200);
    let sent = wait_for("the session's end", || {
        let answer = jar.open(&gate, "/ui/x");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(sent.status, 302);
    assert_eq!(sent.header("location"), Some("/login?return=%2Fui%2Fx"));
    assert_eq!(jar.log_in(&gate, "root", "memphis").status, 303);
    assert_eq!(jar.open(&gate, "/ui/x").status, 200);
}

#[test]
fn an_upstream_neither_sees_nor_sets_the_gates_cookies() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: __Host-tollgate=stolen; Path=/; Secure\r\n\
         set-cookie: __HOST-tollgate-form=x; Path=/; Secure\r\ncontent-length: 2\r\n\r\nok",
    );
    let gate = builder(&upstream, "").start();
    let jar = logged_in(&gate);
    let cookies = format!("{}cookie: b=2\r\n", jar.line());
    let answer = gate.request("GET", "/ui/x", &cookies);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("set-cookie"), Some("a=1"));
    assert_eq!(upstream.last().all("cookie"), ["b=2"]);
}

/// What an upstream says of caches, and what is told for a session.
const CACHES: [(&str, &[&str]); 11] = [
    ("", &["private"]),
    ("cache-control: max-age=60\r\n", &["max-age=60", "private"]),
    ("cache-control: no-cache\r\n", &["no-cache", "private"]),
    (
        "cache-control: private=\"x-a\", max-age=60\r\n",
        &["private=\"x-a\", max-age=60", "private"],
    ),
    ("expires: Thu, 01 Jan 2099 00:00:00 GMT\r\n", &["private"]),
    ("cache-control: x-public\r\n", &["x-public", "private"]),
    ("cache-control: no-store\r\n", &["no-store"]),
    (
        "cache-control: Private, max-age=60\r\n",
        &["Private, max-age=60"],
    ),
    // What the upstream lets everybody have (RFC 9111 section 3.5).
    (
        "cache-control: public, max-age=60\r\n",
        &["public, max-age=60"],
    ),
    ("cache-control: S-MaxAge=60\r\n", &["S-MaxAge=60"]),
    (
        "cache-control: max-age=60\r\ncache-control: must-revalidate\r\n",
        &["max-age=60", "must-revalidate"],
    ),
];

#[test]
fn no_cache_between_hands_one_sessions_answer_to_others() {
    let upstream = Upstream::scripted(|seen, stream| {
        let case: usize = seen.header("x-case").unwrap().parse().unwrap();
        let (said, _) = CACHES[case];
        let answer = format!("HTTP/1.1 200 OK\r\n{said}content-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let gate = builder(&upstream, "").start();
    let cookie = logged_in(&gate).line();
    let bearer = format!("authorization: Bearer {}\r\n", sign(&claims()));
    for (case, (said, told)) in CACHES.into_iter().enumerate() {
        let caches = |target: &str, lines: &str| {
            let answer = gate.request("GET", target, &format!("{lines}x-case: {case}\r\n"));
            assert_eq!(answer.status, 200);
            let headers = answer.headers.into_iter();
            let of_caches = headers.filter(|(name, _)| name == "cache-control");
            Vec::from_iter(of_caches.map(|(_, value)| value))
        };
        assert_eq!(caches("/ui/x", &cookie), told, "{said}");
        // `Authorization` tells caches by itself, and what is public may be kept.
        let lines = said.lines().filter_map(|line| line.split_once(": "));
        let lines = lines.filter(|(name, _)| *name == "cache-control");
        let as_it_came = Vec::from_iter(lines.map(|(_, value)| value));
        assert_eq!(caches("/api/x", &bearer), as_it_came, "{said}");
        assert_eq!(caches("/open/x", &cookie), as_it_came, "{said}");
    }
}

#[test]
fn no_upstream_sets_the_gates_cookies_by_a_websocket_or_without_a_name() {
    let theirs = "set-cookie: a=1\r\nset-cookie: __Host-tollgate=stolen; Path=/; Secure\r\n\
         set-cookie: =__Host-tollgate=stolen; Path=/; Secure\r\n\
         set-cookie: \t= __Host-tollgate-form=x; Path=/; Secure\r\n\
         www-authenticate: Basic realm=\"x\"\r\n";
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let asked = format!(
        "{upgrade}sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (status, line, asked) in [
        (200, "200 OK\r\ncontent-length: 0\r\n", ""),
        (
            101,
            &format!("101 Switching Protocols\r\n{upgrade}"),
            &asked,
        ),
    ] {
        let upstream = Upstream::answering(&format!("HTTP/1.1 {line}{theirs}\r\n"));
        let gate = builder(&upstream, "").start();
        let answer = gate.request("GET", "/open/x", asked);
        assert_eq!(answer.status, status);
        assert_eq!(Vec::from_iter(set_cookies(&answer)), ["a=1"], "{status}");
        assert_eq!(answer.header("www-authenticate"), None, "{status}");
    }
}

/// Characters that some readers take for white space, and no browser does: a host beside this one
/// may set a cookie whose name begins with one, which it may not where the prefix comes first.
const BLANKS: [&str; 6] = [
    "\u{a0}", "\u{85}", "\u{1680}", "\u{2000}", "\u{2028}", "\u{3000}",
];

#[test]
fn no_cookie_of_another_name_passes_for_one_of_the_gates() {
    let (upstream, gate) = start();
    let jar = logged_in(&gate);
    let session = &jar.0[SESSION];
    let proof = "x".repeat(22);
    for blank in BLANKS {
        let line = format!("cookie: {blank}{SESSION}={session}\r\n");
        let before = upstream.seen().len();
        let answer = gate.request("GET", "/api/x", &line);
        assert_eq!(answer.status, 401, "{blank:?}");
        assert_eq!(upstream.seen().len(), before, "{blank:?}");
        // Nor does it come in the way of the true one.
        let both = format!("cookie: {blank}{SESSION}=x; {SESSION}={session}\r\n");
        let answer = gate.request("GET", "/api/x", &both);
        assert_eq!(answer.status, 200, "{blank:?}");
        let mut strange = Jar::default();
        strange
            .0
            .insert(format!("{blank}{SESSION}-form"), proof.clone());
        let fields = [
            ("form", &*proof),
            ("username", "root"),
            ("password", "memphis"),
        ];
        let answer = strange.send(&gate, "/login", &fields);
        assert_eq!(answer.status, 403, "{blank:?}");
        threat::count("browser", 3);
    }
}

#[test]
fn cookies_that_http_2_brings_one_by_one_arrive_as_one() {
    let upstream = Upstream::start();
    let (builder, certificate) = builder(&upstream, "").secure();
    let gate = builder.start();
    let token = sign(&claims());
    let mut client = Http2::connect(gate.address(), &certificate);
    let request = Request::get("https://gate.example/api/x")
        .header("authorization", format!("Bearer {token}"))
        .header("cookie", "a=1")
        .header("cookie", "__Host-tollgate-form=f")
        .header("cookie", "b=2")
        .body(empty())
        .unwrap();
    assert_eq!(client.send(request).status, 200);
    assert_eq!(upstream.last().all("cookie"), ["a=1; b=2"]);
}

#[test]
fn a_users_own_upstream_credential_lives_in_its_session() {
    let upstream = Upstream::start();
    let routes = format!("{ROUTES}  - {{ path: /own/**, upstream: app, credential: login }}\n");
    let gate = Builder::standard(upstream.address, &routes)
        .line("login:", "login: [ { dialect: browser } ]")
        .start();
    let mut jar = logged_in(&gate);
    let answer = jar.open(&gate, "/own/x");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(seen.header("authorization"), Some("Basic cm9vdDptZW1waGlz"));
}
