//! The pages, and what their forms do.

use super::{builder, start};
use crate::support::client::Response;
use crate::support::gate::{claims, sign, users};
use crate::support::jar::{FORM, Jar, NAVIGATION, encode, hidden, set_cookies};
use crate::support::threat;
use crate::support::upstream::Upstream;

#[test]
fn a_browser_is_sent_to_log_in_and_back_to_what_it_asked_for() {
    let (upstream, gate) = start();
    let mut jar = Jar::default();
    let sent = jar.open(&gate, "/ui/x?a=b&c=%2F");
    assert_eq!(sent.status, 302);
    let login = "/login?return=%2Fui%2Fx%3Fa%3Db%26c%3D%252F";
    assert_eq!(sent.header("location"), Some(login));
    let page = jar.open(&gate, login);
    check_page(&page);
    let text = page.text();
    let fields = [
        ("form", &*hidden(&text, "form")),
        ("return", &hidden(&text, "return").replace("&amp;", "&")),
        ("username", "root@example.com"),
        ("password", "memphis"),
    ];
    let answer = jar.send(&gate, "/login", &fields);
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some("/ui/x?a=b&c=%2F"));
    let cookie = set_cookies(&answer).next().unwrap().to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-tollgate="), "{cookie}");
    assert_eq!(
        attributes,
        "Path=/; Max-Age=18000; Secure; HttpOnly; SameSite=Lax"
    );
    jar.0.insert("theme".to_owned(), "dark".to_owned());
    let page = jar.open(&gate, "/ui/x?a=b&c=%2F");
    assert_eq!(page.status, 200);
    gate.wait_for_log("the session's exchange", |line| {
        line["url.path"] == "/ui/x" && line["subject"] == "root"
    });
    let seen = upstream.last();
    assert_eq!(seen.target(), "/ui/x?a=b&c=%2F");
    assert_eq!(seen.header("cookie"), Some("theme=dark"));
    assert_eq!(seen.header("authorization"), Some("Basic YXBwOnMzY3JldA=="));
    let logins = "tollgate_logins_total{dialect=\"browser\",reason=\"none\",result=\"ok\"}";
    assert_eq!(gate.metric(logins), 1.0, "{}", gate.metrics());
    assert!(!gate.log().contains(pair));
}

/// That a page is what it is to be, and keeps to itself.
fn check_page(page: &Response) {
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    let text = page.text();
    assert!(!text.contains("<script"), "{text}");
}

#[test]
fn a_program_gets_401_in_json_where_a_person_gets_a_page() {
    let (_upstream, gate) = start();
    for headers in [
        "",
        "accept: application/json\r\n",
        "accept: */*\r\n",
        "accept: text/html\r\nsec-fetch-mode: cors\r\nsec-fetch-site: same-origin\r\n",
    ] {
        let answer = gate.request("GET", "/ui/x", headers);
        assert_eq!(answer.status, 401, "{headers}");
        assert_eq!(answer.json()["message"], "Unauthorized");
        assert!(answer.header("www-authenticate").is_some());
    }
    let answer = gate.request(
        "POST",
        "/ui/x",
        &format!("{NAVIGATION}content-length: 0\r\n"),
    );
    assert_eq!(answer.status, 401);
    let answer = gate.request("GET", "/api/x", NAVIGATION);
    assert_eq!(answer.status, 401, "a route without a login page");
}

#[test]
fn a_login_page_never_shows_what_it_was_given_as_markup() {
    let (_upstream, gate) = start();
    let mut jar = Jar::default();
    let page = jar.open(&gate, "/login?return=/%22%3E%3Cscript%3E").text();
    assert!(!page.contains("<script>"), "{page}");
    let proof = hidden(&page, "form");
    let name = "\"><script>alert(1)</script>";
    let fields = [("form", &*proof), ("username", name), ("password", "x")];
    let answer = jar.send(&gate, "/login", &fields);
    assert_eq!(answer.status, 401);
    let text = answer.text();
    assert!(text.contains("role=\"alert\""), "{text}");
    assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
    assert!(!text.contains("<script"), "{text}");
    assert_eq!(set_cookies(&answer).count(), 0);
    gate.wait_for_log("why it was refused", |line| {
        line["url.path"] == "/login" && line["reason"] == "bad_credentials"
    });
}

#[test]
fn too_many_failures_are_told_on_the_page() {
    let upstream = Upstream::start();
    let throttle =
        "reload: { interval: 0s }\nthrottle: { free_failures: 1, base_delay: 60s, max_delay: 60s }";
    let gate = builder(&upstream, "").line("reload:", throttle).start();
    let mut jar = Jar::default();
    assert_eq!(jar.log_in(&gate, "root", "wrong").status, 401);
    assert_eq!(jar.log_in(&gate, "root", "wrong").status, 401);
    let answer = jar.log_in(&gate, "root", "memphis");
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains("Try again in"), "{}", answer.text());
}

#[test]
fn an_account_whose_session_no_browser_would_keep_is_told_so() {
    let upstream = Upstream::start();
    let gate_with = |count: usize| {
        let groups = Vec::from_iter((0..count).map(|group| format!("department-{group:04}")));
        let groups = format!("scopes: [ admin ], groups: [ {} ]", groups.join(", "));
        let users = users(&[("root", "memphis", "[ admin ]")]);
        builder(&upstream, "")
            .file("users.yaml", users.replace("scopes: [ admin ]", &groups))
            .start()
    };
    let gate = gate_with(100);
    let mut jar = Jar::default();
    let answer = jar.log_in(&gate, "root", "memphis");
    assert_eq!(answer.status, 303);
    let cookie = set_cookies(&answer).next().unwrap().to_owned();
    let (pair, _) = cookie.split_once(';').unwrap();
    assert!((2048..=4096).contains(&pair.len()), "{}", pair.len());
    assert_eq!(jar.open(&gate, "/ui/x").status, 200);
    let gate = gate_with(200);
    let answer = Jar::default().log_in(&gate, "root", "memphis");
    assert_eq!(answer.status, 403);
    assert_eq!(set_cookies(&answer).count(), 0);
    let text = answer.text();
    assert!(text.contains("more groups and claims"), "{text}");
    gate.wait_for_log("why it was refused", |line| {
        line["url.path"] == "/login" && line["reason"] == "session_too_large"
    });
}

#[test]
fn no_form_of_another_sites_page_logs_anybody_in_or_out() {
    let (_upstream, gate) = start();
    let mut jar = Jar::default();
    let page = jar.open(&gate, "/login").text();
    let proof = hidden(&page, "form");
    let cookie = jar.line();
    let kind = "content-type: application/x-www-form-urlencoded\r\n";
    let evil = format!("{kind}origin: https://evil.example\r\n");
    let cross = format!("{kind}origin: http://gate.example\r\nsec-fetch-site: cross-site\r\n");
    let beside = format!("{kind}origin: http://gate.example\r\nsec-fetch-site: same-site\r\n");
    let none = format!("{kind}origin: null\r\n");
    let other = "x".repeat(proof.len());
    let cases = [
        ("no cookie", "", FORM, &*proof),
        ("no proof", &*cookie, FORM, ""),
        ("another proof", &cookie, FORM, &other),
        (
            "an empty cookie",
            "cookie: __Host-tollgate-form=\r\n",
            FORM,
            "",
        ),
        ("two cookies", &format!("{cookie}{cookie}"), FORM, &proof),
        ("another site", &cookie, &evil, &proof),
        ("across sites", &cookie, &cross, &proof),
        ("a host beside", &cookie, &beside, &proof),
        ("nowhere", &cookie, &none, &proof),
        ("nothing said", &cookie, kind, &proof),
    ];
    for (case, cookie, headers, proof) in cases {
        let body = encode(&[
            ("form", proof),
            ("username", "root"),
            ("password", "memphis"),
        ]);
        for path in ["/login", "/logout"] {
            let answer = gate.send(format!(
                "POST {path} HTTP/1.1\r\nhost: gate.example\r\n{cookie}{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            ));
            assert_eq!(answer.status, 403, "{path}: {case}");
            let is_session = |set: &str| set.starts_with("__Host-tollgate=");
            assert!(!set_cookies(&answer).any(is_session), "{path}: {case}");
            // Whoever meant it is told, and can say so anew.
            let text = answer.text();
            assert!(text.contains("role=\"alert\""), "{path}: {case}: {text}");
            assert!(
                text.contains(&format!("action=\"{path}\"")),
                "{case}: {text}"
            );
            threat::count("browser", 1);
        }
    }
    assert_eq!(jar.log_in(&gate, "root", "memphis").status, 303);
}

#[test]
fn a_login_leads_nowhere_but_to_this_host() {
    let (_upstream, gate) = start();
    for there in [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\r\n/evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        " //evil.example",
        "@evil.example",
        ".evil.example",
        "",
        "/x\r\nset-cookie: a=b",
    ] {
        let mut jar = Jar::default();
        let target = format!("/login?{}", encode(&[("return", there)]));
        let page = jar.open(&gate, &target).text();
        assert_eq!(hidden(&page, "return"), "/", "{there:?}");
        let proof = hidden(&page, "form");
        let fields = [
            ("form", &*proof),
            ("return", there),
            ("username", "root"),
            ("password", "memphis"),
        ];
        let answer = jar.send(&gate, "/login", &fields);
        assert_eq!(answer.status, 303, "{there:?}");
        assert_eq!(answer.header("location"), Some("/"), "{there:?}");
        threat::count("browser", 1);
    }
}

#[test]
fn a_bad_token_in_a_pages_url_does_not_travel_on_in_the_way_back() {
    let (_upstream, gate) = start();
    let token = sign(&claims()) + "x";
    let target = format!("/ui/x?a=1&access_token={token}");
    let answer = Jar::default().open(&gate, &target);
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.header("location"),
        Some("/login?return=%2Fui%2Fx%3Fa%3D1")
    );
}

#[test]
fn a_person_who_may_not_is_told_so_on_a_page() {
    let (upstream, gate) = start();
    let mut jar = Jar::default();
    jar.log_in(&gate, "eve", "memphis");
    let answer = jar.open(&gate, "/owner/x");
    assert_eq!(answer.status, 403);
    let text = answer.text();
    assert!(text.contains("/login?return=%2Fowner%2Fx"), "{text}");
    let answer = jar.ask(&gate, "GET", "/owner/x", "accept: application/json\r\n");
    assert_eq!(answer.status, 403);
    assert!(answer.json()["message"].is_string());
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_login_page_where_no_session_counts_is_a_mistake() {
    let upstream = Upstream::start();
    let check = |token: &str| {
        let route = format!("login_page: /login, token: {{ {token} }}, require:");
        builder(&upstream, "")
            .edit("login_page: /login, require:", &route)
            .run_to_end(&["check"])
    };
    let output = check("cookie: false");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("routes[4].login_page"), "{told}");
    assert!(told.contains("sent again and again"), "{told}");
    assert_eq!(check("header: false").status.code(), Some(0));
}

#[test]
fn the_pages_are_where_the_prefix_says() {
    let upstream = Upstream::start();
    let gate = builder(&upstream, ", prefix: /auth")
        .edit("login_page: /login", "login_page: /auth/login")
        .start();
    let mut jar = Jar::default();
    let sent = jar.open(&gate, "/ui/x");
    let login = sent.header("location").unwrap().to_owned();
    assert_eq!(login, "/auth/login?return=%2Fui%2Fx");
    let page = jar.open(&gate, &login).text();
    assert!(page.contains("action=\"/auth/login\""), "{page}");
    assert_eq!(gate.request("GET", "/login", "").status, 404);
    let wrong = gate.request("PUT", "/auth/login", "content-length: 0\r\n");
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, POST"));
}
