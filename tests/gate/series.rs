//! What clients make up makes no new series of metrics.

use std::collections::BTreeSet;
use std::io::Write;

use crate::support::client;
use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::raw::read_rest;
use crate::support::threat;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
  - { path: /open/**, name: open, upstream: app, public: true }
";

/// On one connection, this many requests whose every part is made up.
fn storm(gate: &Gate, count: usize, token: &str) {
    let text = |length: usize| -> String {
        let letters = std::iter::repeat_with(|| char::from(fastrand::u8(b'A'..=b'Z')));
        letters.take(length).collect()
    };
    let mut requests = String::new();
    for index in 0..count {
        let path = ["/api", "/open", "", "/auth/authenticate"][index % 4];
        let method = match index % 3 {
            0 => "GET".to_owned(),
            _ => text(5),
        };
        let authorization = match index % 5 {
            0 => format!("Bearer {token}"),
            1 => format!("Bearer {}.{}.{}", text(8), text(8), text(8)),
            _ => format!("{} {}", text(6), text(9)),
        };
        let end = if index + 1 == count {
            "connection: close\r\n"
        } else {
            ""
        };
        requests += &format!(
            "{method} {path}/{} HTTP/1.1\r\nhost: {}.example\r\nuser-agent: {}\r\n\
             authorization: {authorization}\r\nx-request-id: {}\r\nx-{}: 1\r\n{end}\r\n",
            text(12),
            text(10),
            text(10),
            text(10),
            text(10),
        );
    }
    let mut stream = client::connect(gate.address());
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(requests.as_bytes()).unwrap());
    let answers = String::from_utf8(read_rest(&mut stream)).unwrap();
    writing.join().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 ").count(), count);
}

/// The series, each by its name and labels.
fn series(gate: &Gate) -> BTreeSet<String> {
    let metrics = gate.metrics();
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn twenty_thousand_made_up_requests_make_no_new_series() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit("reload:", "log: { access_sample: 0 }\nreload:")
        .start();
    let token = sign(&claims());
    storm(&gate, 500, &token);
    storm(&gate, 500, &token);
    let before = series(&gate);
    for _ in 0..20 {
        storm(&gate, 1000, &token);
    }
    let after = series(&gate);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    threat::count("made-up requests", 20_000);
}
