//! Does the cache keep its bounds, whoever fills and sweeps it at once?

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;

use crate::support::{NOW, Worker, cache, token, try_schedules};
use crate::token::cache::TokenCache;
use crate::token::revocation::Revocations;

/// Three workers fill the cache while another thread sweeps it. It never holds more than `most`
/// and the one that is just being put in, in none of the two maps that are counted one after the
/// other; and what was counted then is still right: filled up again by one alone, it holds exactly
/// as many as it may.
fn assert_kept(make: impl Fn() -> Arc<TokenCache> + Send + Sync + 'static, most: usize) {
    try_schedules(move || {
        let (cache, view) = (make(), Arc::new(Revocations::default()));
        let mut threads = Vec::new();
        for _ in 0..3 {
            let (cache, view) = (Arc::clone(&cache), Arc::clone(&view));
            threads.push(thread::spawn(move || {
                let mut worker = Worker::new(&cache, &view);
                // The same ones in each worker, and under two generations.
                for number in 0..4 {
                    let generation = u64::from(number > 1);
                    let _ = worker.ask(number, generation, || token("alice", "admin"));
                    let entries = cache.entries();
                    assert!(entries <= 2 * (most + 1), "{entries}");
                }
            }));
        }
        {
            let cache = Arc::clone(&cache);
            threads.push(thread::spawn(move || {
                cache.sweep(1, NOW, Duration::ZERO);
                cache.sweep(1, NOW, Duration::ZERO);
            }));
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(cache.entries() <= most, "{}", cache.entries());
        let mut worker = Worker::new(&cache, &view);
        for number in 100..110 {
            let _ = worker.ask(number, 1, || token("alice", "admin"));
        }
        assert_eq!(cache.entries(), most);
    });
}

#[test]
fn no_more_entries_than_configured() {
    assert_kept(|| cache(2, 1 << 20), 2);
}

#[test]
fn no_more_bytes_than_configured() {
    // Room for two and a half.
    let each = token("alice", "admin").weight() + 64;
    assert_kept(move || cache(100, each * 5 / 2), 2);
}

#[test]
fn a_cache_without_room_holds_nothing() {
    assert_kept(|| cache(0, 1 << 20), 0);
}
