//! The cache of verified tokens stays within its bounds and answers as no cache would.

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
";
const HITS: &str = r#"tollgate_token_cache_lookups_total{result="hit"}"#;
const MISSES: &str = r#"tollgate_token_cache_lookups_total{result="miss"}"#;
const ENTRIES: &str = "tollgate_token_cache_entries";

fn start(cache: &str) -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit(
            "audience: gate",
            &format!("audience: gate\n  cache: {cache}"),
        )
        .start();
    (upstream, gate)
}

/// Shows the token until it is remembered.
fn warm(gate: &Gate, token: &str) {
    wait_for("a hit", || {
        let before = gate.metric(HITS);
        assert_eq!(gate.get("/api/a", token).status, 200);
        (gate.metric(HITS) > before).then_some(())
    });
}

#[test]
fn a_thousand_good_tokens_do_not_fill_more_than_the_bound() {
    let (_upstream, gate) = start("{ entries: 100 }");
    let tokens = Vec::from_iter(std::iter::repeat_with(|| sign(&claims())).take(1000));
    for (index, token) in tokens.iter().enumerate() {
        assert_eq!(gate.get("/api/a", token).status, 200);
        if index % 250 == 0 {
            assert!(gate.metric(ENTRIES) <= 100.0);
        }
    }
    let entries = gate.metric(ENTRIES);
    assert!((1.0..=100.0).contains(&entries), "{entries}");
    // Those that were pushed out are still good.
    for token in tokens.iter().take(20) {
        assert_eq!(gate.get("/api/a", token).status, 200);
    }
}

#[test]
fn the_bound_in_bytes_holds_too() {
    let (_upstream, gate) = start("{ entries: 100000, bytes: 16KiB }");
    for _ in 0..300 {
        assert_eq!(gate.get("/api/a", &sign(&claims())).status, 200);
    }
    let entries = gate.metric(ENTRIES);
    // An entry takes more than a hundred bytes, however they are counted.
    assert!((1.0..=160.0).contains(&entries), "{entries}");
}

#[test]
fn a_cache_without_room_serves_all_the_same() {
    let (_upstream, gate) = start("{ entries: 0 }");
    let token = sign(&claims());
    for _ in 0..4 {
        assert_eq!(gate.get("/api/a", &token).status, 200);
    }
    assert!(gate.metric(ENTRIES) < 1.0);
}

#[test]
fn bad_tokens_push_no_good_one_out() {
    let (upstream, gate) = start("{ entries: 10 }");
    let good = sign(&claims());
    warm(&gate, &good);
    let (entries, served) = (gate.metric(ENTRIES), upstream.seen().len());
    for index in 0..1000 {
        let bad = format!("{}x{index}", sign(&claims()));
        assert_eq!(gate.get("/api/a", &bad).status, 401);
    }
    assert!((gate.metric(ENTRIES) - entries).abs() < 0.5);
    assert_eq!(upstream.seen().len(), served);
    let (hits, misses) = (gate.metric(HITS), gate.metric(MISSES));
    assert_eq!(gate.get("/api/a", &good).status, 200);
    assert!((gate.metric(HITS) - hits - 1.0).abs() < 0.5, "still a hit");
    assert!((gate.metric(MISSES) - misses).abs() < 0.5);
}
