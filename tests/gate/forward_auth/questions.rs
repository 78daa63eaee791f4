//! What a question may say, who may ask it, and what the answer holds.

use http::Request;
use serde_json::Value;

use super::{BASIC, builder, gate};
use crate::support::client::{Response, connect, read_response, send};
use crate::support::gate::{Gate, claims, self_signed, sign};
use crate::support::http2::{Http2, empty};
use crate::support::rows;
use crate::support::threat;
use crate::support::tokens::with_claims;
use crate::support::upstream::Upstream;

/// Sends to the listener for questions.
fn ask(gate: &Gate, method: &str, target: &str, lines: &str) -> Response {
    send(
        gate.listeners[1],
        format!("{method} {target} HTTP/1.1\r\nhost: gate.example\r\n{lines}\r\n"),
    )
}

/// A question in the form of all but Envoy.
pub(super) fn about(gate: &Gate, method: &str, target: &str, lines: &str) -> Response {
    let lines = format!(
        "x-forwarded-method: {method}\r\nx-forwarded-uri: {target}\r\n\
         x-forwarded-host: gate.example\r\n{lines}"
    );
    ask(gate, "GET", "/verify", &lines)
}

fn bearer() -> String {
    format!("authorization: Bearer {}\r\n", sign(&claims()))
}

#[test]
fn a_route_of_mqtt_answers_no_question_since_its_rules_are_for_connect() {
    let app = Upstream::start();
    let route = "  - path: /bare/**\n    protocol: mqtt\n    mqtt: { client_id: \"{sub}\" }\n";
    let gate = builder(&app, "proxy: caddy")
        .edit("  - path: /bare/**\n", route)
        .start();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: mqtt\r\n";
    for lines in [bearer(), bearer() + upgrade] {
        assert_eq!(about(&gate, "GET", "/bare/x", &lines).status, 404);
        assert_eq!(about(&gate, "GET", "/api/x", &bearer()).status, 200);
    }
}

#[test]
fn the_answer_holds_what_the_upstream_is_to_see() {
    let app = Upstream::start();
    let gate = gate(&app, "proxy: traefik");
    let response = about(&gate, "GET", "/api/a%2Fb?x=%2F", &bearer());
    assert_eq!((response.status, response.text().as_str()), (200, ""));
    for (name, value) in [
        ("authorization", Some(BASIC)),
        ("cache-control", Some("no-store")),
        ("x-tollgate-subject", Some("root")),
        ("x-tollgate-scopes", Some("admin")),
        ("x-tollgate-uri", Some("/api/a%2Fb?x=%2F")),
        ("x-envoy-auth-headers-to-remove", None),
        ("location", None),
    ] {
        assert_eq!(response.header(name), value, "{name}");
    }
    let response = about(&gate, "GET", "/bare/a", &bearer());
    assert_eq!(
        (response.status, response.header("authorization")),
        (200, None)
    );
    assert!(app.seen().is_empty());
    let of_it = |line: &Value| line["url.path"] == "/api/a%2Fb" && line["http.route"] == "/api/**";
    let line = gate.wait_for_log("the judged request", of_it);
    assert_eq!(line["http.request.method"], "GET");
    assert_eq!(line["subject"], "root");
    let sample = r#"tollgate_requests_total{code="2xx",method="GET",route="/api/**"}"#;
    assert!(gate.metric(sample) > 0.0);
}

#[test]
fn no_name_of_a_subject_scope_or_group_splits_the_answer() {
    let app = Upstream::start();
    let gate = gate(&app, "proxy: traefik");
    let token = with_claims(|claims| {
        claims["sub"] = "a\r\nx-tollgate-scopes: root\r\n\r\n\u{20ac}%".into();
        claims["groups"] = serde_json::json!(["a,b", "c d", "e\n"]);
    });
    let response = about(
        &gate,
        "GET",
        "/api/a",
        &format!("authorization: Bearer {token}\r\n"),
    );
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("x-tollgate-subject"),
        Some("a%0D%0Ax-tollgate-scopes:%20root%0D%0A%0D%0A%E2%82%AC%25")
    );
    assert_eq!(response.header("x-tollgate-scopes"), Some("admin"));
    assert_eq!(
        response.header("x-tollgate-groups"),
        Some("a%2Cb,c%20d,e%0A")
    );
}

#[test]
fn whoever_is_no_trusted_proxy_learns_nothing() {
    let app = Upstream::start();
    for proxy in ["traefik", "envoy", "nginx"] {
        let gate = builder(&app, &format!("proxy: {proxy}"))
            .edit(
                "trusted_proxies: [ 127.0.0.1 ]",
                "trusted_proxies: [ 10.0.0.0/8 ]",
            )
            .start();
        let lines = bearer() + "x-forwarded-for: 10.1.2.3\r\n";
        let mut answers = Vec::new();
        for target in [
            "/verify",
            "/verify/api/a",
            "/api/a",
            "/nowhere",
            "/auth/authenticate",
        ] {
            let response = about(&gate, "GET", "/api/a", &lines);
            assert_eq!(response.status, 403, "{proxy} {target}");
            let response = ask(&gate, "GET", target, &lines);
            assert_eq!(response.status, 403, "{proxy} {target}");
            assert_eq!(response.header("authorization"), None, "{proxy} {target}");
            answers.push(response.text());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
    assert!(app.seen().is_empty());
}

#[test]
fn nothing_else_is_served_where_questions_are_answered() {
    let app = Upstream::start();
    for (proxy, own, foreign) in [
        ("traefik", "/verify", "/verify/api/a"),
        ("envoy", "/verify/api/a", "/verify"),
    ] {
        let gate = gate(&app, &format!("proxy: {proxy}"));
        let lines = bearer()
            + "x-forwarded-method: GET\r\nx-forwarded-uri: /api/a\r\nx-forwarded-host: gate.example\r\n";
        for target in [
            foreign,
            "/",
            "/api/a",
            "/public/a",
            "/auth/authenticate",
            "/VERIFY",
            "/verify.",
            "/verifyx/api/a",
            "/%76erify",
            "//verify",
            "/verify%2Fapi/a",
            "/x/../verify",
            "*",
        ] {
            let response = ask(&gate, "GET", target, &lines);
            assert_eq!(response.header("authorization"), None, "{proxy} {target}");
            assert!(
                matches!(response.status, 400 | 404),
                "{proxy} {target}: {}",
                response.status
            );
        }
        assert_eq!(ask(&gate, "GET", own, &lines).status, 200, "{proxy}");
    }
    assert!(app.seen().is_empty());
}

/// Case, header lines (`;` between).
const UNFIT: &str = "
nothing                | x-a: b
no method              | x-forwarded-uri: /api/a; x-forwarded-host: h
no target              | x-forwarded-method: GET; x-forwarded-host: h
no host                | x-forwarded-method: GET; x-forwarded-uri: /api/a
two methods            | x-forwarded-method: GET; x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-host: h
two targets            | x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-uri: /api/a; x-forwarded-host: h
two hosts              | x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-host: h; x-forwarded-host: h
a list of hosts        | x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-host: h, h
a host with a path     | x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-host: h/x
an empty host          | x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-host:
a user before the host | x-forwarded-method: GET; x-forwarded-uri: /api/a; x-forwarded-host: u@h
an empty method        | x-forwarded-method:; x-forwarded-uri: /api/a; x-forwarded-host: h
a method in lower case | x-forwarded-method: get; x-forwarded-uri: /api/a; x-forwarded-host: h
two words              | x-forwarded-method: GET GET; x-forwarded-uri: /api/a; x-forwarded-host: h
CONNECT                | x-forwarded-method: CONNECT; x-forwarded-uri: /api/a; x-forwarded-host: h
TRACE                  | x-forwarded-method: TRACE; x-forwarded-uri: /api/a; x-forwarded-host: h
an empty target        | x-forwarded-method: GET; x-forwarded-uri:; x-forwarded-host: h
a relative target      | x-forwarded-method: GET; x-forwarded-uri: api/a; x-forwarded-host: h
an absolute target     | x-forwarded-method: GET; x-forwarded-uri: http://h/api/a; x-forwarded-host: h
a star                 | x-forwarded-method: OPTIONS; x-forwarded-uri: *; x-forwarded-host: h
a fragment             | x-forwarded-method: GET; x-forwarded-uri: /api/a#x; x-forwarded-host: h
a fragment in the query| x-forwarded-method: GET; x-forwarded-uri: /api/a?x#y; x-forwarded-host: h
a space                | x-forwarded-method: GET; x-forwarded-uri: /api/a b; x-forwarded-host: h
no ASCII               | x-forwarded-method: GET; x-forwarded-uri: /api/\u{e9}; x-forwarded-host: h
another spelling       | x_forwarded_method: GET; x_forwarded_uri: /api/a; x_forwarded_host: h
other names            | x-original-method: GET; x-original-url: /api/a; x-original-host: h
more of them           | x-http-method: GET; x-rewrite-url: /api/a; x-host: h; forwarded: host=h
";

#[test]
fn a_question_that_is_not_whole_and_single_is_refused() {
    let app = Upstream::start();
    let gates = ["traefik", "nginx"].map(|proxy| gate(&app, &format!("proxy: {proxy}")));
    let mut cases = 0;
    for row in rows(UNFIT) {
        let lines: String = row[1]
            .split(';')
            .map(|line| format!("{}\r\n", line.trim()))
            .collect();
        let lines = bearer() + &lines.replace("\\u{e9}", "\u{e9}");
        for (gate, status) in gates.iter().zip([400, 403]) {
            let response = ask(gate, "GET", "/verify", &lines);
            assert_eq!(response.status, status, "{}", row[0]);
            assert_eq!(response.header("authorization"), None, "{}", row[0]);
            cases += 1;
        }
    }
    threat::count("questions of other proxies", cases);
}

#[test]
fn no_other_header_says_what_is_asked() {
    let app = Upstream::start();
    let other = "x-original-url: /public/a\r\nx-original-uri: /public/a\r\nx-rewrite-url: /public/a\r\n\
         x-original-method: POST\r\nx-http-method-override: GET\r\nforwarded: host=open.example\r\n\
         x-host: open.example\r\nx_forwarded_uri: /public/a\r\nx-envoy-original-path: /public/a\r\n";
    let front = gate(&app, "proxy: caddy");
    assert_eq!(about(&front, "GET", "/api/a", other).status, 401);
    assert_eq!(about(&front, "POST", "/mixed/a", other).status, 401);
    assert_eq!(about(&front, "GET", "/host/a", other).status, 401);
    // Envoy's question is the request itself; what its headers say is the client's word.
    let envoy = gate(&app, "proxy: envoy");
    let claimed = "x-forwarded-uri: /public/a\r\nx-forwarded-method: GET\r\nx-forwarded-host: open.example\r\n";
    let lines = format!("{other}{claimed}");
    assert_eq!(ask(&envoy, "GET", "/verify/api/a", &lines).status, 401);
    assert_eq!(ask(&envoy, "POST", "/verify/mixed/a", &lines).status, 401);
    assert_eq!(ask(&envoy, "GET", "/verify/host/a", &lines).status, 401);
    assert_eq!(ask(&envoy, "GET", "/verify/public/a", &lines).status, 200);
    assert_eq!(
        ask(&envoy, "GET", "/verify/verify/public/a", &lines).status,
        404
    );
}

/// What is asked and with what, in all proxies' forms; what an ordinary listener says, too.
const REQUESTS: [(&str, &str, &str); 18] = [
    ("GET", "/api/a", "good"),
    ("GET", "/api/a", "none"),
    ("GET", "/api/a", "forged"),
    ("GET", "/admin/a", "good"),
    ("GET", "/mixed/a", "none"),
    ("POST", "/mixed/a", "none"),
    ("POST", "/mixed/a", "good"),
    ("DELETE", "/mixed/a", "good"),
    ("GET", "/host/a", "none"),
    ("GET", "/nowhere", "good"),
    ("GET", "/public/a", "forged"),
    ("GET", "/api/../admin/a", "good"),
    ("GET", "/api//a", "good"),
    ("GET", "/api/%2e%2e/a", "good"),
    ("GET", "/api/a%2Fb", "good"),
    ("GET", "/API/a", "good"),
    ("OPTIONS", "/api/a", "none"),
    ("GET", "/api/a?x=%2F&&y", "good"),
];

#[test]
fn a_request_is_judged_as_if_it_had_come_itself() {
    let app = Upstream::start();
    let gates = ["caddy", "envoy", "nginx"].map(|proxy| gate(&app, &format!("proxy: {proxy}")));
    for (method, target, credential) in REQUESTS {
        let lines = match credential {
            "good" => bearer(),
            "forged" => format!("authorization: Bearer {}x\r\n", sign(&claims())),
            _ => String::new(),
        };
        let honest = gates[0].request(method, target, &lines).status;
        let case = format!("{method} {target} {credential}");
        assert_eq!(
            about(&gates[0], method, target, &lines).status,
            honest,
            "{case}"
        );
        let response = ask(&gates[1], method, &format!("/verify{target}"), &lines);
        assert_eq!(response.status, honest, "{case} by Envoy");
        let known = match honest {
            200 | 401 => honest,
            _ => 403,
        };
        assert_eq!(
            about(&gates[2], method, target, &lines).status,
            known,
            "{case} by nginx"
        );
    }
}

#[test]
fn a_credential_that_the_proxy_would_forward_is_refused_and_not_used_up() {
    let app = Upstream::start();
    for proxy in ["caddy", "envoy", "nginx", "traefik"] {
        let gate = builder(&app, &format!("proxy: {proxy}"))
            .line(
                "login:",
                "login: [ { dialect: memphis }, { dialect: ticket } ]",
            )
            .start();
        let token = sign(&claims());
        let ticket = gate.request(
            "POST",
            "/ticket",
            &format!("authorization: Bearer {token}\r\n"),
        );
        let ticket = ticket.json()["ticket"].as_str().unwrap().to_owned();
        let question = |target: &str, lines: &str| match proxy {
            "envoy" => ask(&gate, "GET", &format!("/verify{target}"), lines),
            _ => about(&gate, "GET", target, lines),
        };
        let offered = format!("sec-websocket-protocol: mqtt, bearer.{token}\r\n");
        let session = "cookie: a=1;__host-Tollgate-flow=x\r\n";
        for (target, lines) in [
            (format!("/api/a?access_token={token}"), String::new()),
            (format!("/api/a?%61uthorization={token}"), String::new()),
            (format!("/public/a?access_token={token}"), String::new()),
            (format!("/api/a?ticket={ticket}"), String::new()),
            ("/api/a".to_owned(), offered),
            ("/api/a".to_owned(), session.to_owned() + &bearer()),
            ("/public/a".to_owned(), session.to_owned()),
        ] {
            let response = question(&target, &lines);
            assert_eq!(response.status, 401, "{proxy} {target}");
            let challenge = response.header("www-authenticate").unwrap();
            assert!(
                challenge.contains("in the Authorization header alone"),
                "{challenge}"
            );
        }
        // The ticket is still good where it can be cut out.
        assert_eq!(
            gate.request("GET", &format!("/api/a?ticket={ticket}"), "")
                .status,
            200
        );
    }
}

#[test]
fn a_token_that_the_proxy_takes_out_is_not_in_the_answer() {
    let app = Upstream::start();
    let gate = gate(&app, "proxy: nginx, takes: [ uri, subprotocol ]");
    let token = sign(&claims());
    let response = about(
        &gate,
        "GET",
        &format!("/api/a?x=1&access_token={token}&y"),
        "",
    );
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-tollgate-uri"), Some("/api/a?x=1&y"));
    let offered = format!("sec-websocket-protocol: bearer.{token}, mqtt\r\n");
    let response = about(&gate, "GET", "/api/a", &offered);
    assert_eq!(response.header("sec-websocket-protocol"), Some("mqtt"));
}

#[test]
fn a_header_that_could_be_taken_for_one_of_the_answers_is_refused() {
    let app = Upstream::start();
    let gate = gate(&app, "proxy: caddy");
    for name in [
        "x_tollgate_subject",
        "X_TOLLGATE_SUBJECT",
        "x-tollgate_subject",
        "x.tollgate.uri",
        "x_tollgate_anything",
        "x_tollgate_groups",
    ] {
        let lines = format!("{}{name}: evil\r\n", bearer());
        for target in ["/api/a", "/public/a"] {
            assert_eq!(
                about(&gate, "GET", target, &lines).status,
                400,
                "{name} {target}"
            );
        }
    }
    // Spelt as it is, the proxy replaces it; and others are the proxy's affair.
    for name in ["x-tollgate-subject", "x_anything", "x.custom"] {
        let lines = format!("{}{name}: evil\r\n", bearer());
        let response = about(&gate, "GET", "/api/a", &lines);
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(response.header("x-tollgate-subject"), Some("root"));
    }
}

#[test]
fn envoy_is_told_what_to_drop() {
    let app = Upstream::start();
    let gate = gate(&app, "proxy: envoy");
    let lines = bearer()
        + "x-remote-user: evil\r\nx-tollgate-groups: evil\r\nx-tollgate-other: evil\r\nx-original-url: /x\r\n\
           x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\nx-forwarded-client-cert: Hash=1\r\n\
           x-request-id: 1\r\nx-envoy-external-address: 192.0.2.7\r\naccept: */*\r\n\
           x-forwarded-user: evil\r\nx-forwarded-groups: evil\r\nx-forwarded-host: evil.example\r\n";
    let dropped = |target: &str| {
        let response = ask(&gate, "GET", target, &lines);
        assert_eq!(response.status, 200, "{target}");
        let names = response
            .header("x-envoy-auth-headers-to-remove")
            .unwrap()
            .to_owned();
        let mut names: Vec<_> = names.split(',').map(str::to_owned).collect();
        names.sort();
        names
    };
    let usual = [
        "x-forwarded-groups",
        "x-forwarded-host",
        "x-forwarded-user",
        "x-original-url",
        "x-remote-user",
        "x-tollgate-other",
    ];
    assert_eq!(dropped("/verify/api/a"), usual);
    // What the answer does not replace is dropped.
    let all = [
        "authorization",
        "x-forwarded-groups",
        "x-forwarded-host",
        "x-forwarded-user",
        "x-original-url",
        "x-remote-user",
        "x-tollgate-groups",
        "x-tollgate-other",
    ];
    assert_eq!(dropped("/verify/mixed/a"), all);
}

#[test]
fn a_browser_is_told_of_the_login_page_in_the_proxys_way() {
    let app = Upstream::start();
    for (proxy, status) in [("caddy", 302), ("nginx", 401)] {
        let gate = gate(&app, &format!("proxy: {proxy}"));
        let response = about(&gate, "GET", "/pages/a", "accept: text/html\r\n");
        assert_eq!(response.status, status, "{proxy}");
        assert_eq!(response.header("location"), Some("/login"), "{proxy}");
        let response = about(&gate, "GET", "/pages/a", "");
        assert_eq!(
            (response.status, response.header("location")),
            (401, None),
            "{proxy}"
        );
        let response = about(&gate, "POST", "/pages/a", "accept: text/html\r\n");
        assert_eq!(response.status, 401, "{proxy}");
    }
}

#[test]
fn the_body_of_a_question_is_no_part_of_it() {
    let app = Upstream::start();
    let gate = gate(&app, "proxy: traefik");
    let head = format!(
        "POST /verify HTTP/1.1\r\nhost: gate.example\r\n{}x-forwarded-method: GET\r\n\
         x-forwarded-uri: /api/a\r\nx-forwarded-host: gate.example\r\n",
        bearer()
    );
    let mut stream = connect(gate.listeners[1]);
    for body in [
        "content-length: 0\r\n\r\n",
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        use std::io::Write as _;
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        assert_eq!(read_response(&mut stream, false).status, 200, "{body}");
    }
    assert!(app.seen().is_empty());
}

#[test]
fn the_host_that_is_judged_is_the_forwarded_one() {
    let app = Upstream::start();
    let front = gate(&app, "proxy: caddy");
    let ask_with = |own: &str, forwarded: &str| {
        let question = format!(
            "GET /verify HTTP/1.1\r\nhost: {own}\r\nx-forwarded-method: GET\r\n\
             x-forwarded-uri: /host/a\r\nx-forwarded-host: {forwarded}\r\n\r\n"
        );
        send(front.listeners[1], question).status
    };
    assert_eq!(ask_with("gate.example", "open.example"), 200);
    assert_eq!(ask_with("open.example", "gate.example"), 401);
    assert_eq!(ask_with("open.example", "OPEN.example.:443"), 200);
    let envoy = gate(&app, "proxy: envoy");
    assert_eq!(
        ask(
            &envoy,
            "GET",
            "/verify/host/a",
            "x-forwarded-host: open.example\r\n"
        )
        .status,
        401
    );
}

#[test]
fn nobody_logs_in_by_a_question() {
    let app = Upstream::start();
    let body = r#"{"username":"root","password":"memphis"}"#;
    for proxy in ["caddy", "envoy"] {
        let gate = gate(&app, &format!("proxy: {proxy}"));
        let login = |method: &str| match proxy {
            "envoy" => format!("{method} /verify/auth/authenticate HTTP/1.1\r\n"),
            _ => format!(
                "{method} /verify HTTP/1.1\r\nx-forwarded-method: {method}\r\n\
                 x-forwarded-uri: /auth/authenticate\r\nx-forwarded-host: gate.example\r\n"
            ),
        };
        for method in ["POST", "OPTIONS", "GET"] {
            let question = format!(
                "{}host: gate.example\r\norigin: https://ui.example\r\n\
                 access-control-request-method: POST\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                login(method),
                body.len()
            );
            let response = send(gate.listeners[1], question);
            assert_eq!(response.status, 404, "{proxy} {method}");
            assert!(!response.text().contains("eyJ"), "{}", response.text());
        }
    }
}

#[test]
fn questions_come_over_http_2_too() {
    let app = Upstream::start();
    let (certificate, key) = self_signed(&["gate.example"]);
    for (proxy, target) in [("caddy", "/verify"), ("envoy", "/verify/api/a?x=1")] {
        let tls = "name: questions, tls: { certificate: a.crt, private_key: a.key }";
        let gate = builder(&app, &format!("proxy: {proxy}"))
            .edit("name: questions", tls)
            .file("a.crt", &certificate)
            .file("a.key", &key)
            .start();
        let mut client = Http2::connect(gate.listeners[1], &certificate);
        let mut ask = |token: &str| {
            let mut question = Request::get(format!("https://gate.example{target}"));
            if proxy == "caddy" {
                question = question
                    .header("x-forwarded-method", "GET")
                    .header("x-forwarded-uri", "/api/a?x=1")
                    .header("x-forwarded-host", "gate.example");
            }
            let question = question.header("authorization", format!("Bearer {token}"));
            client.send(question.body(empty()).unwrap())
        };
        let response = ask(&sign(&claims()));
        assert_eq!(response.status, 200, "{proxy}");
        assert_eq!(response.headers["authorization"], BASIC);
        assert_eq!(response.headers["x-tollgate-uri"], "/api/a?x=1");
        assert_eq!(ask("junk").status, 401, "{proxy}");
    }
}
