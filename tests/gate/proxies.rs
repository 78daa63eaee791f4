//! Who is the client, when a proxy stands in front? Nobody is believed who is not trusted.

use serde_json::Value;

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::rows;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    forwarded: true
";

fn start(trusted: &str) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .trusting(trusted)
        .start();
    (upstream, gate)
}

/// What the upstream is told of client and scheme when these header lines come (`;` between).
fn told(upstream: &Upstream, gate: &Gate, lines: &str) -> (String, String) {
    let lines: String = lines
        .split(';')
        .map(|line| format!("{}\r\n", line.trim()))
        .filter(|line| line.len() > 2)
        .collect();
    let bearer = sign(&claims());
    let headers = format!("authorization: Bearer {bearer}\r\n{lines}");
    assert_eq!(
        gate.request("GET", "/api/a", &headers).status,
        200,
        "{lines}"
    );
    let seen = upstream.last();
    let [client, scheme] =
        ["x-forwarded-for", "x-forwarded-proto"].map(|name| seen.header(name).unwrap().to_owned());
    let forwarded = seen.header("forwarded").unwrap();
    let quoted = match client.contains(':') {
        true => format!("for=\"[{client}]\";"),
        false => format!("for={client};"),
    };
    assert!(forwarded.starts_with(&quoted), "{forwarded}");
    assert!(
        forwarded.ends_with(&format!(";proto={scheme}")),
        "{forwarded}"
    );
    (client, scheme)
}

/// Case, header lines, the client. 127.0.0.1 is connected; it and 10.0.0.0/8 are trusted.
const CLIENTS: &str = "
no header                       |                                                     | 127.0.0.1
one proxy                       | x-forwarded-for: 192.0.2.7                          | 192.0.2.7
what the client wrote           | x-forwarded-for: 198.51.100.1, 192.0.2.7            | 192.0.2.7
a trusted address it wrote      | x-forwarded-for: 10.9.9.9, 192.0.2.7                | 192.0.2.7
two proxies                     | x-forwarded-for: 192.0.2.7, 10.1.2.3                | 192.0.2.7
three proxies and a lie         | x-forwarded-for: 8.8.8.8, 192.0.2.7, 10.1.2.3,10.4.5.6 | 192.0.2.7
two headers, in their order     | x-forwarded-for: 8.8.8.8; x-forwarded-for: 192.0.2.7 | 192.0.2.7
two headers, the last trusted   | x-forwarded-for: 8.8.8.8, 192.0.2.7; x-forwarded-for: 10.1.2.3 | 192.0.2.7
all trusted: the leftmost       | x-forwarded-for: 10.3.3.3, 10.2.2.2                 | 10.3.3.3
no address at the end           | x-forwarded-for: 192.0.2.7, unknown                 | 127.0.0.1
no address behind a proxy       | x-forwarded-for: 192.0.2.7, unknown, 10.1.2.3       | 10.1.2.3
an empty entry                  | x-forwarded-for: 192.0.2.7,,10.1.2.3                | 10.1.2.3
an empty header                 | x-forwarded-for:                                    | 127.0.0.1
a broken entry left of all      | x-forwarded-for: <script>, 192.0.2.7                | 192.0.2.7
a port                          | x-forwarded-for: 192.0.2.7:4711                     | 192.0.2.7
IPv6                            | x-forwarded-for: 2001:db8::7                        | 2001:db8::7
IPv6 with a port                | x-forwarded-for: [2001:db8::7]:4711                 | 2001:db8::7
IPv4 written as IPv6            | x-forwarded-for: ::ffff:192.0.2.7                   | 192.0.2.7
a proxy written as IPv6         | x-forwarded-for: 192.0.2.7, ::ffff:10.1.2.3         | 192.0.2.7
another spelling of the header  | x_forwarded_for: 192.0.2.7                          | 127.0.0.1
other headers                   | x-real-ip: 192.0.2.7; forwarded: for=192.0.2.7; x-client-ip: 192.0.2.7 | 127.0.0.1
";

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
    for trusted in [
        "127.0.0.1, 10.0.0.0/8",
        "'::ffff:127.0.0.1', '::ffff:10.0.0.0/104'",
    ] {
        let (upstream, gate) = start(trusted);
        for row in rows(CLIENTS) {
            let (client, _) = told(&upstream, &gate, row[1]);
            assert_eq!(client, row[2], "{}, {trusted}", row[0]);
        }
    }
}

#[test]
fn the_scheme_is_the_proxys_if_it_is_one() {
    let (upstream, gate) = start("127.0.0.1/32");
    for (lines, scheme) in [
        ("x-forwarded-proto: https", "https"),
        ("x-forwarded-proto: http", "http"),
        ("x-forwarded-proto: HTTPS", "http"),
        ("x-forwarded-proto: wss", "https"),
        ("x-forwarded-proto: ws", "http"),
        ("x-forwarded-proto: WSS", "http"),
        ("x-forwarded-proto: https, http", "http"),
        ("x-forwarded-proto: https; x-forwarded-proto: https", "http"),
        ("x_forwarded_proto: https", "http"),
        ("", "http"),
    ] {
        assert_eq!(told(&upstream, &gate, lines).1, scheme, "{lines}");
    }
}

#[test]
fn nobody_else_is_believed() {
    let lines = "x-forwarded-for: 192.0.2.7; x-forwarded-proto: https";
    for trusted in ["", "10.0.0.0/8", "127.0.0.2/32", "'::1'", "192.0.2.7"] {
        let (upstream, gate) = start(trusted);
        let (client, scheme) = told(&upstream, &gate, lines);
        assert_eq!((&*client, &*scheme), ("127.0.0.1", "http"), "{trusted}");
    }
}

#[test]
fn the_log_names_the_client_behind_the_proxy() {
    let (upstream, gate) = start("127.0.0.0/8");
    told(&upstream, &gate, "x-forwarded-for: 192.0.2.7");
    let is_it = |line: &Value| line["client.address"] == "192.0.2.7";
    gate.wait_for_log("the client's address", is_it);
}

/// Fails to log in with this header line until the source is delayed.
fn fail(gate: &Gate, line: &str) {
    while log_in(gate, line, "no") != 429 {}
}

fn log_in(gate: &Gate, line: &str, password: &str) -> u16 {
    let body = format!(r#"{{"username":"root","password":"{password}"}}"#);
    let length = body.len();
    let head = format!(
        "POST /auth/authenticate HTTP/1.1\r\nhost: gate.example\r\n{line}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    gate.send(head + &body).status
}

#[test]
fn failed_logins_delay_the_client_and_not_the_proxy_and_cannot_be_passed_on() {
    let throttled = |trusted: &str| {
        let throttle = "throttle: { free_failures: 1, base_delay: 60s }";
        let listener = format!(
            "listeners: [ {{ address: \"127.0.0.1:0\", trusted_proxies: [ {trusted} ] }} ]"
        );
        Builder::with_extra(Upstream::start().address, ROUTES, throttle)
            .line("listeners:", &listener)
            .start()
    };
    let (attacker, victim) = (
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-for: 198.51.100.7",
    );
    let gate = throttled("127.0.0.1");
    fail(&gate, attacker);
    assert_eq!(log_in(&gate, victim, "memphis"), 200);
    assert_eq!(log_in(&gate, attacker, "memphis"), 429);
    let lie = "x-forwarded-for: 198.51.100.7, 192.0.2.7";
    assert_eq!(log_in(&gate, lie, "memphis"), 429);
    // Nobody escapes by a header where no proxy is trusted.
    let gate = throttled("");
    fail(&gate, attacker);
    assert_eq!(log_in(&gate, victim, "memphis"), 429);
}
