//! Does a token that was verified under old rules stay out once new ones are in force?

use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use crate::support::{NOW, Worker, cache, token, try_schedules};
use crate::token::revocation::Revocations;

const RULES: [&str; 3] = ["zero", "one", "two"];

#[test]
fn a_request_is_never_answered_by_other_rules_than_its_own() {
    try_schedules(|| {
        let (cache, view) = (cache(8, 1 << 20), Arc::new(Revocations::default()));
        let generation = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for _ in 0..2 {
            let (cache, view) = (Arc::clone(&cache), Arc::clone(&view));
            let generation = Arc::clone(&generation);
            threads.push(thread::spawn(move || {
                let mut worker = Worker::new(&cache, &view);
                for _ in 0..3 {
                    // A request keeps the rules that it began with.
                    let own = generation.load(Ordering::SeqCst);
                    let rules = RULES[usize::try_from(own).unwrap()];
                    let found = worker.ask(1, own, || token("alice", rules)).unwrap();
                    assert_eq!(found.scope(), rules);
                }
            }));
        }
        for next in [1, 2] {
            generation.store(next, Ordering::SeqCst);
            cache.sweep(next, NOW, Duration::ZERO);
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
