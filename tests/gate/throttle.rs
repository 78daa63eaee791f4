//! Failed logins slow further ones down, but only those from the same network.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use tollgate::identity::throttle::{Throttle, ThrottleConfig};

use crate::support::client::{Response, read_response};
use crate::support::gate::{Builder, Gate, users};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SAME_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);

fn start(throttle: &str) -> Gate {
    let upstream = Upstream::start();
    let routes = "  - { path: /api/**, upstream: app }";
    Builder::with_extra(upstream.address, routes, &format!("throttle: {throttle}"))
        .file(
            "users.yaml",
            users(&[("root", "memphis", "[]"), ("other", "memphis", "[]")]),
        )
        .start()
}

/// A login from one of this machine's loopback addresses.
fn log_in(gate: &Gate, from: Ipv4Addr, username: &str, password: &str) -> Response {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&gate.address().into()).unwrap();
    let body = json!({"username": username, "password": password}).to_string();
    let mut stream = TcpStream::from(socket);
    write!(
        stream,
        "POST /auth/authenticate HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    read_response(&mut stream, false)
}

#[test]
fn an_account_is_delayed_after_its_free_failures_whether_it_exists_or_not() {
    let gate = start("{ free_failures: 2, base_delay: 30s }");
    for name in ["root", "nobody"] {
        for count in 1..=3 {
            assert_eq!(
                log_in(&gate, HERE, name, "no").status,
                401,
                "{name} {count}"
            );
        }
        for (from, password) in [(HERE, "no"), (HERE, "memphis"), (SAME_NETWORK, "memphis")] {
            let response = log_in(&gate, from, &name.to_uppercase(), password);
            assert_eq!(response.status, 429, "{name}");
            assert_eq!(response.header("content-type"), Some("application/json"));
            let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=30).contains(&seconds), "{seconds}");
        }
    }
    assert_eq!(log_in(&gate, HERE, "other", "memphis").status, 200);
    let refused = r#"tollgate_logins_total{dialect="memphis",reason="throttled",result="refused"}"#;
    assert_eq!(gate.metric(refused), 6.0);
    let line = gate.wait_for_log("a security event", |line| {
        line["message"] == "security: logins are delayed after repeated failures"
    });
    assert_eq!(line["client.address"], "127.0.0.1");
    let log = gate.log();
    assert!(!log.contains("nobody") && !log.contains("NOBODY"));
}

#[test]
fn an_attacker_elsewhere_does_not_lock_the_victim_out() {
    let gate = start("{ free_failures: 1, base_delay: 60s }");
    while log_in(&gate, ELSEWHERE, "root", "no").status != 429 {}
    assert_eq!(log_in(&gate, HERE, "root", "memphis").status, 200);
    assert_eq!(log_in(&gate, ELSEWHERE, "root", "memphis").status, 429);
}

#[test]
fn a_delay_ends_grows_and_is_forgotten_after_a_success() {
    let gate = start("{ free_failures: 1, base_delay: 50ms, max_delay: 60s }");
    assert_eq!(log_in(&gate, HERE, "root", "no").status, 401);
    let mut judged = 1;
    let longest = wait_for("a delay of several seconds", || {
        let response = log_in(&gate, HERE, "root", "no");
        judged += u32::from(response.status == 401);
        let seconds: u64 = response.header("retry-after")?.parse().unwrap();
        (seconds > 3).then_some(seconds)
    });
    assert!(
        longest <= 60 && (7..=9).contains(&judged),
        "{longest} {judged}"
    );

    let gate = start("{ free_failures: 1, base_delay: 50ms, max_delay: 60s }");
    for _ in 0..2 {
        log_in(&gate, HERE, "root", "no");
    }
    wait_for("the delay's end", || {
        (log_in(&gate, HERE, "root", "memphis").status == 200).then_some(())
    });
    assert_eq!(log_in(&gate, HERE, "root", "no").status, 401);
    assert_eq!(log_in(&gate, HERE, "root", "memphis").status, 200);
}

#[test]
fn a_network_that_fails_with_many_accounts_is_delayed_as_a_whole() {
    let gate = start("{ free_failures_per_source: 5, base_delay: 30s }");
    for count in 0..6 {
        let name = format!("user-{count}");
        assert_eq!(log_in(&gate, HERE, &name, "no").status, 401);
        // A success takes nothing back: who knows one password must not guess others for free.
        if count < 5 {
            assert_eq!(log_in(&gate, HERE, "root", "memphis").status, 200);
        }
    }
    assert_eq!(log_in(&gate, HERE, "root", "memphis").status, 429);
    assert_eq!(log_in(&gate, ELSEWHERE, "root", "memphis").status, 200);
}

#[test]
fn time_takes_a_networks_failures_back_one_by_one() {
    let config = ThrottleConfig {
        free_failures_per_source: 10,
        ..ThrottleConfig::default()
    };
    let throttle = Throttle::new().unwrap();
    let mut now = std::time::Instant::now();
    // One failure each 90 seconds, as 10 in 15 minutes: for hours they delay nobody.
    for count in 0..500 {
        let account = format!("user-{count}");
        let attempt = throttle.admit(&config, Some(&account), HERE.into(), now);
        attempt.unwrap_or_else(|_| panic!("{count}")).failed(now);
        now += std::time::Duration::from_secs(90);
    }
    // Twice as many do.
    let delayed = (0..60).find(|count| {
        let account = format!("other-{count}");
        now += std::time::Duration::from_secs(45);
        match throttle.admit(&config, Some(&account), HERE.into(), now) {
            Ok(attempt) => attempt.failed(now),
            Err(_) => return true,
        }
        throttle.admit(&config, None, HERE.into(), now).is_err()
    });
    assert!(
        delayed.is_some_and(|count| (10..30).contains(&count)),
        "{delayed:?}"
    );
}

#[test]
fn at_most_the_free_guesses_are_judged_side_by_side_once_one_has_failed() {
    let gate = start("{ free_failures: 3, base_delay: 60s }");
    assert_eq!(log_in(&gate, HERE, "root", "no").status, 401);
    let (told, statuses) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..40 {
            let (told, gate) = (told.clone(), &gate);
            scope.spawn(move || told.send(log_in(gate, HERE, "root", "no").status));
        }
    });
    drop(told);
    let statuses: Vec<u16> = statuses.iter().collect();
    let judged = statuses.iter().filter(|status| **status == 401).count();
    assert!((1..=3).contains(&judged), "{statuses:?}");
    assert_eq!(
        statuses.iter().filter(|status| **status == 429).count(),
        40 - judged
    );
}

#[test]
fn guesses_at_a_clients_secret_count_too() {
    let upstream = Upstream::start();
    let routes = "  - { path: /api/**, upstream: app }";
    let throttle = "throttle: { free_failures: 1, base_delay: 30s }";
    for path in ["/oauth2/token", "/oauth2/introspect"] {
        let gate = Builder::with_extra(upstream.address, routes, throttle)
            .edit("dialect: memphis", "dialect: oauth2")
            .start();
        let ask = || {
            let form = "grant_type=client_credentials&token=x";
            let length = form.len();
            gate.send(format!(
                "POST {path} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Basic cm9vdDpubw==\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
            ))
        };
        assert_eq!([ask().status, ask().status], [401, 401]);
        let response = ask();
        assert_eq!(
            (response.status, &response.json()["error"]),
            (429, &json!("temporarily_unavailable"))
        );
        assert!(response.header("retry-after").is_some());
    }
}

#[test]
fn a_throttle_that_cannot_be_meant_is_a_config_error() {
    for (throttle, text) in [
        ("{ base_delay: 0s }", "throttle.base_delay"),
        ("{ base_delay: 10m }", "throttle.base_delay"),
        ("{ forget_after: 1s }", "throttle.forget_after"),
        ("{ ipv4_prefix: 33 }", "throttle.ipv4_prefix"),
        ("{ ipv6_prefix: 0 }", "throttle.ipv6_prefix"),
        ("{ free_failure: 1 }", "did you mean `free_failures`"),
    ] {
        let extra = format!("throttle: {throttle}");
        let gate = Builder::with_extra(
            ([127, 0, 0, 1], 1).into(),
            "  - { path: /x, upstream: app }",
            &extra,
        );
        let output = gate.run_to_end(&["check"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && errors.contains(text),
            "{throttle}: {errors}"
        );
    }
}
