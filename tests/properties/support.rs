//! What the properties share: how often they are tried, how texts are spelt, a gate's rules.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::Config as Tries;
use tollgate::config::Config;
use tollgate::config::files::Files;
use tollgate::config::load::parse;
use tollgate::config::problem::Problems;
use tollgate::snapshot::Snapshot;

/// The HS256 secret of [`snapshot`].
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// As often as usual, or as the environment says.
pub(crate) fn tries() -> Tries {
    Tries {
        failure_persistence: None,
        ..Tries::default()
    }
}

/// Sixteen times as often: for what costs next to nothing.
pub(crate) fn many_tries() -> Tries {
    let usual = tries();
    Tries {
        cases: usual.cases.saturating_mul(16),
        ..usual
    }
}

/// A config that can be served, with these routes (YAML list items, indented by two).
pub(crate) fn config(routes: &str) -> String {
    format!(
        "listeners: [ {{ address: \"127.0.0.1:0\" }} ]\n\
         tokens:\n  issuer: tollgate\n  audience: gate\n  \
         keys: [ {{ id: k1, algorithm: HS256, secret_file: k1 }} ]\n\
         upstreams:\n  app: {{ endpoints: [ \"http://127.0.0.1:1\" ] }}\n\
         routes:\n{routes}"
    )
}

/// The rules that a config makes, with the problems that were noted; nothing if it is no config.
pub(crate) fn build(config: &str) -> Option<(Option<Snapshot>, Problems)> {
    let config: Config = parse(config, Path::new("a.yaml")).ok()?;
    let files = Files::in_memory([("k1", SECRET.to_vec())]);
    let mut problems = Problems::default();
    let snapshot = Snapshot::build(&config, &files, &mut problems);
    Some((snapshot, problems))
}

/// The rules of a config with one route for everything.
pub(crate) fn snapshot() -> Snapshot {
    let (snapshot, problems) = build(&config("  - { path: /**, upstream: app }")).unwrap();
    assert!(problems.is_empty(), "{problems}");
    snapshot.unwrap()
}

/// One byte, percent-encoded; digits in either case.
pub(crate) fn encoded(byte: u8, in_capitals: bool) -> String {
    if in_capitals {
        format!("%{byte:02X}")
    } else {
        format!("%{byte:02x}")
    }
}

/// A text in any of its percent-encoded spellings.
pub(crate) fn spelling(text: &'static str) -> impl Strategy<Value = String> {
    let ways = prop::collection::vec(0..4_u8, text.len());
    ways.prop_map(move |ways| {
        let spelt = text.bytes().zip(ways).map(|(byte, way)| match way {
            0 => encoded(byte, true),
            1 => encoded(byte, false),
            _ => char::from(byte).to_string(),
        });
        spelt.collect()
    })
}

/// The naive way to undo percent-encoding; what is no encoding stays.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
