//! Is what was revoked refused from the very next request on?

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;
use tollgate::clock::UnixTime;

use crate::support::{NOW, Worker, cache, token, try_schedules};
use crate::token::revocation::{Revocation, Revocations, Revoked};

fn revocation(what: Revoked, at: u64, until: u64) -> Revocation {
    Revocation {
        what,
        at: UnixTime(at),
        until: UnixTime(until),
    }
}

fn subject(name: &str) -> Revoked {
    Revoked::Subject(name.to_owned())
}

/// Workers ask again and again while each of these goes in force in a thread of its own: once one
/// that takes the token back is acknowledged, no request that comes later is admitted.
fn assert_none_admitted(further_workers: usize, revocations: &'static [fn() -> Revocation]) {
    try_schedules(move || {
        let (cache, view) = (cache(8, 1 << 20), Arc::new(Revocations::default()));
        let is_acknowledged = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        // One worker knows the token before anything happens.
        let mut worker = Worker::new(&cache, &view);
        assert!(ask(&mut worker) && ask(&mut worker));
        for revoke in revocations {
            let (view, is_acknowledged) = (Arc::clone(&view), Arc::clone(&is_acknowledged));
            threads.push(thread::spawn(move || {
                let revocation = revoke();
                let takes_it_back = revocation.at >= NOW;
                view.add(revocation);
                if takes_it_back {
                    is_acknowledged.store(true, Ordering::SeqCst);
                }
            }));
        }
        for _ in 0..further_workers {
            let (cache, view) = (Arc::clone(&cache), Arc::clone(&view));
            let is_acknowledged = Arc::clone(&is_acknowledged);
            threads.push(thread::spawn(move || {
                assert_keeps_out(&mut Worker::new(&cache, &view), &is_acknowledged);
            }));
        }
        assert_keeps_out(&mut worker, &is_acknowledged);
        for thread in threads {
            thread.join().unwrap();
        }
        // And so it stays, for workers old and new.
        assert!(!ask(&mut worker) && !ask(&mut Worker::new(&cache, &view)));
    });
}

fn assert_keeps_out(worker: &mut Worker, is_acknowledged: &AtomicBool) {
    for _ in 0..3 {
        let is_late = is_acknowledged.load(Ordering::SeqCst);
        assert!(!(ask(worker) && is_late), "admitted afterwards");
    }
}

fn ask(worker: &mut Worker) -> bool {
    worker.ask(1, 0, || token("alice", "admin")).is_some()
}

#[test]
fn a_revoked_token_is_not_admitted_again() {
    assert_none_admitted(2, &[|| revocation(subject("alice"), 1000, 5000)]);
}

#[test]
fn of_two_who_revoke_the_same_both_can_rely_on_it() {
    assert_none_admitted(
        0,
        &[
            || revocation(subject("alice"), 1000, 5000),
            || revocation(subject("alice"), 1000, 5000),
        ],
    );
}

#[test]
fn an_earlier_revocation_does_not_hide_a_later_one() {
    assert_none_admitted(
        0,
        &[
            || revocation(subject("alice"), 900, 5000),
            || revocation(subject("alice"), 1000, 4000),
        ],
    );
    assert_none_admitted(
        0,
        &[
            || revocation(Revoked::All, 1000, 5000),
            || revocation(subject("bob"), 900, 5000),
        ],
    );
}

#[test]
fn what_is_in_force_outlasts_a_sweep() {
    try_schedules(|| {
        let view = Arc::new(Revocations::default());
        view.add(revocation(subject("alice"), 800, 900));
        let sweeping = {
            let view = Arc::clone(&view);
            thread::spawn(move || view.sweep(NOW))
        };
        view.add(revocation(subject("alice"), 1000, 5000));
        assert!(view.hit(&token("alice", "admin")));
        sweeping.join().unwrap();
        assert!(view.hit(&token("alice", "admin")));
        assert_eq!(view.all().len(), 1);
    });
}
