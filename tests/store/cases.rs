//! What every store does.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate::clock::UnixTime;
use tollgate::store::application::ApplicationToken;
use tollgate::store::family::{Family, FamilyRecord, Presented, Rotation};
use tollgate::store::throttle::{Counters, Rates};
use tollgate::store::{AnyStore, StoreError};
use tollgate::token::revocation::{Revocation, Revoked};

use crate::kept::{
    a_creator_has_a_bound, a_value_ends, a_value_is_taken_once,
    application_tokens_are_found_and_listed, application_tokens_change_for_their_creator_alone,
    what_has_expired_is_swept, what_is_exported_is_imported, what_was_imported_works,
};
use crate::search::{
    a_search_has_a_bound, application_tokens_are_searched, sessions_are_found,
    sessions_that_ended_are_not_found,
};

type Case = for<'a> fn(&'a AnyStore) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! cases {
    ($($name:ident)*) => {
        /// Every case, by name.
        pub(crate) const ALL: &[(&str, Case)] = &[
            $((stringify!($name), |store| Box::pin($name(store))),)*
        ];
    };
}

cases! {
    a_chain_of_places_goes_on
    a_second_try_within_the_grace_gets_the_same_place
    a_second_try_after_the_grace_ends_the_family
    an_older_place_ends_the_family
    an_expired_or_unknown_family_is_refused
    the_newest_is_told_without_being_taken
    a_race_rotates_once
    a_random_walk_goes_by_the_rules
    failures_delay_by_the_formula_where_replicas_count_them
    a_revoked_family_is_gone_and_its_application_token
    a_revoked_subject_loses_all_and_nobody_else_does
    everything_can_be_revoked
    a_revoked_token_ends_nothing_else
    revocations_are_told_until_their_end
    of_two_revocations_the_later_counts
    the_latest_end_of_tokens_is_remembered
    application_tokens_are_found_and_listed
    application_tokens_change_for_their_creator_alone
    a_creator_has_a_bound
    a_value_is_taken_once
    a_value_ends
    what_is_exported_is_imported
    what_was_imported_works
    what_has_expired_is_swept
    sessions_are_found
    sessions_that_ended_are_not_found
    a_search_has_a_bound
    application_tokens_are_searched
}

const GRACE: Duration = Duration::from_secs(10);
pub(crate) const HOUR: u64 = 3600;

pub(crate) fn now() -> UnixTime {
    UnixTime(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
}

pub(crate) fn later(seconds: u64) -> UnixTime {
    UnixTime(now().0 + seconds)
}

pub(crate) async fn begin(store: &AnyStore, id: &str, subject: &str) {
    let family = Family {
        id: id.to_owned(),
        subject: subject.to_owned(),
        expires: later(HOUR),
    };
    store.begin(family, now()).await.unwrap();
}

fn place(family: &str, generation: u64) -> Presented<'_> {
    Presented {
        family,
        generation,
        next_expires: later(HOUR),
    }
}

pub(crate) async fn take(
    store: &AnyStore,
    family: &str,
    generation: u64,
    at: UnixTime,
) -> Rotation {
    let taken = store.take(place(family, generation), at, GRACE).await;
    taken.unwrap()
}

pub(crate) async fn revoke(store: &AnyStore, what: Revoked) {
    let revocation = Revocation {
        what,
        at: now(),
        until: later(HOUR),
    };
    store.revoke(&revocation).await.unwrap();
}

pub(crate) fn application(creator: &str, name: &str) -> ApplicationToken {
    ApplicationToken {
        id: 0,
        hash: format!("hash of {name}"),
        family: format!("family of {name}"),
        creator: creator.to_owned(),
        provider: "users_file".to_owned(),
        description: Some(name.to_owned()),
        created: now(),
        expires: Some(later(HOUR)),
        network: Some("10.0.0.0/8".parse().unwrap()),
        is_revoked: false,
        scope: "admin read".to_owned(),
        sealed: Some("sealed".to_owned()),
    }
}

pub(crate) async fn add(store: &AnyStore, creator: &str, name: &str) -> u64 {
    let token = application(creator, name);
    store.add_application(token).await.unwrap()
}

async fn a_chain_of_places_goes_on(store: &AnyStore) {
    begin(store, "f", "root").await;
    for generation in 0..5 {
        assert_eq!(take(store, "f", generation, now()).await, Rotation::Next);
    }
}

async fn a_second_try_within_the_grace_gets_the_same_place(store: &AnyStore) {
    begin(store, "f", "root").await;
    let first = now();
    let second = UnixTime(first.0 + 10);
    assert_eq!(take(store, "f", 0, first).await, Rotation::Next);
    for at in [first, second] {
        assert_eq!(take(store, "f", 0, at).await, Rotation::Again(first));
    }
    assert_eq!(take(store, "f", 1, second).await, Rotation::Next);
}

async fn a_second_try_after_the_grace_ends_the_family(store: &AnyStore) {
    begin(store, "f", "root").await;
    assert_eq!(take(store, "f", 0, now()).await, Rotation::Next);
    assert_eq!(take(store, "f", 0, later(12)).await, Rotation::Reused);
    assert_eq!(take(store, "f", 1, now()).await, Rotation::Unknown);
}

async fn an_older_place_ends_the_family(store: &AnyStore) {
    begin(store, "f", "root").await;
    for generation in 0..3 {
        take(store, "f", generation, now()).await;
    }
    assert_eq!(take(store, "f", 0, now()).await, Rotation::Reused);
    assert_eq!(take(store, "f", 3, now()).await, Rotation::Unknown);
}

async fn an_expired_or_unknown_family_is_refused(store: &AnyStore) {
    begin(store, "f", "root").await;
    assert_eq!(take(store, "g", 0, now()).await, Rotation::Unknown);
    assert_eq!(
        take(store, "f", 0, later(HOUR + 2)).await,
        Rotation::Unknown
    );
    assert_eq!(
        take(store, "f", 0, now()).await,
        Rotation::Next,
        "it was not taken"
    );
}

async fn the_newest_is_told_without_being_taken(store: &AnyStore) {
    begin(store, "f", "root").await;
    for (family, generation, at, expected) in [
        ("f", 0, now(), true),
        ("f", 1, now(), false),
        ("g", 0, now(), false),
        ("f", 0, later(HOUR + 2), false),
        ("f", 0, now(), true),
    ] {
        let newest = store.is_newest(place(family, generation), at).await;
        assert_eq!(newest.unwrap(), expected, "{family} {generation}");
    }
}

async fn a_race_rotates_once(store: &AnyStore) {
    begin(store, "f", "root").await;
    let at = now();
    let racers = (0..50).map(|_| store.take(place("f", 0), at, GRACE));
    let ended = futures_util::future::join_all(racers).await;
    let next = |taken: &&Result<Rotation, StoreError>| matches!(taken, Ok(Rotation::Next));
    assert_eq!(ended.iter().filter(next).count(), 1);
    let is_again = |taken: &Result<Rotation, StoreError>| match taken {
        Ok(Rotation::Again(rotated)) => *rotated == at,
        taken => matches!(taken, Ok(Rotation::Next)),
    };
    assert!(ended.iter().all(is_again), "{ended:?}");
}

/// What every store does with a refresh token is what [`FamilyRecord::take`] says.
async fn a_random_walk_goes_by_the_rules(store: &AnyStore) {
    let mut random = fastrand::Rng::with_seed(7);
    for walk in 0..40 {
        let id = format!("walk {walk}");
        begin(store, &id, "root").await;
        let family = Family {
            id: id.clone(),
            subject: "root".to_owned(),
            expires: later(HOUR),
        };
        let mut at = now();
        let mut model = Some(FamilyRecord::new(&family, at));
        for _ in 0..12 {
            at = UnixTime(at.0 + random.u64(0..8));
            let newest = model.as_ref().map_or(0, |record| record.generation);
            // Mostly the newest, else the one before, one long gone or one that never was.
            let generation = match random.u8(0..10) {
                0..=6 => newest,
                7 | 8 => newest.saturating_sub(1),
                _ => random.u64(0..newest + 3),
            };
            let presented = Presented {
                family: &id,
                generation,
                next_expires: UnixTime(at.0 + HOUR),
            };
            let taken = store.take(presented, at, GRACE).await.unwrap();
            let expected = match &mut model {
                Some(record) => record.take(presented, at, GRACE),
                None => Rotation::Unknown,
            };
            assert_eq!(taken, expected, "{id}, {generation} of {newest} at {at:?}");
            if expected == Rotation::Reused {
                model = None;
            }
        }
    }
}

async fn failures_delay_by_the_formula_where_replicas_count_them(store: &AnyStore) {
    let counters = |account: &str| Counters {
        source: "network".to_owned(),
        account: Some(account.to_owned()),
    };
    let rates = Rates {
        free_account: 2,
        free_source: 7,
        base: Duration::from_secs(100),
        max: Duration::from_secs(350),
        forget: Duration::from_secs(9000),
        each: Duration::from_secs(1000),
    };
    let one = counters("one");
    for (failure, delay) in [(1, 0), (2, 0), (3, 100), (4, 200), (5, 350), (6, 350)] {
        let is_first = store.failed(&one, rates).await.unwrap();
        let waits = store.wait(&one).await.unwrap().as_secs_f64();
        let delay = if store.is_shared() {
            f64::from(delay)
        } else {
            0.0
        };
        assert!((delay - 5.0..=delay).contains(&waits), "{failure}: {waits}");
        assert_eq!(is_first, store.is_shared() && failure == 3, "{failure}");
    }
    // Another account from there waits for what the network has failed; a success forgives one's own.
    let other = counters("other");
    assert_eq!(store.wait(&other).await.unwrap(), Duration::ZERO);
    for _ in 0..2 {
        store.failed(&other, rates).await.unwrap();
    }
    store.succeeded(&one).await.unwrap();
    let waits = store.wait(&one).await.unwrap();
    let network = if store.is_shared() { 95..=100 } else { 0..=0 };
    assert!(network.contains(&waits.as_secs()), "{waits:?}");
}

pub(crate) async fn is_alive(store: &AnyStore, name: &str) -> bool {
    let found = store.find_application(&format!("hash of {name}")).await;
    found.unwrap().unwrap().is_alive(now())
}

async fn a_revoked_family_is_gone_and_its_application_token(store: &AnyStore) {
    begin(store, "f", "root").await;
    begin(store, "g", "root").await;
    for name in ["a", "b"] {
        add(store, "root", name).await;
    }
    revoke(store, Revoked::Family("f".to_owned())).await;
    revoke(store, Revoked::Family("family of a".to_owned())).await;
    assert_eq!(take(store, "f", 0, now()).await, Rotation::Unknown);
    assert_eq!(take(store, "g", 0, now()).await, Rotation::Next);
    assert!(!is_alive(store, "a").await);
    assert!(is_alive(store, "b").await);
}

async fn a_revoked_subject_loses_all_and_nobody_else_does(store: &AnyStore) {
    for (family, subject) in [("f", "root"), ("g", "eve"), ("h", "root")] {
        begin(store, family, subject).await;
    }
    take(store, "h", 0, now()).await;
    add(store, "root", "a").await;
    add(store, "eve", "b").await;
    revoke(store, Revoked::Subject("root".to_owned())).await;
    for (family, generation, expected) in [
        ("f", 0, Rotation::Unknown),
        ("h", 1, Rotation::Unknown),
        ("g", 0, Rotation::Next),
    ] {
        assert_eq!(take(store, family, generation, now()).await, expected);
    }
    assert_eq!(
        [is_alive(store, "a").await, is_alive(store, "b").await],
        [false, true]
    );
}

async fn everything_can_be_revoked(store: &AnyStore) {
    begin(store, "f", "root").await;
    begin(store, "g", "eve").await;
    add(store, "root", "a").await;
    revoke(store, Revoked::All).await;
    for family in ["f", "g"] {
        assert_eq!(take(store, family, 0, now()).await, Rotation::Unknown);
    }
    assert!(!is_alive(store, "a").await);
}

async fn a_revoked_token_ends_nothing_else(store: &AnyStore) {
    begin(store, "f", "root").await;
    revoke(store, Revoked::Token("f".to_owned())).await;
    assert_eq!(take(store, "f", 0, now()).await, Rotation::Next);
}

async fn revocations_are_told_until_their_end(store: &AnyStore) {
    let all = [
        Revoked::All,
        Revoked::Family("f".to_owned()),
        Revoked::Subject("a:b c".to_owned()),
        Revoked::Token("t".to_owned()),
    ];
    for what in all.clone() {
        revoke(store, what).await;
    }
    let mut told = store.revocations(now()).await.unwrap();
    told.sort_by_key(|revocation| format!("{:?}", revocation.what));
    let told: Vec<_> = told.into_iter().map(|revocation| revocation.what).collect();
    assert_eq!(told, all);
    assert_eq!(store.revocations(later(HOUR + 2)).await.unwrap(), []);
}

async fn the_latest_end_of_tokens_is_remembered(store: &AnyStore) {
    let (end, longer) = (later(2 * HOUR), later(3 * HOUR));
    let mut told = Vec::new();
    for until in [end, later(HOUR), longer, end] {
        told.push(store.outlive(until, now()).await.unwrap());
    }
    // One in this process forgets what was revoked, too.
    let kept = match store {
        AnyStore::Memory(_) => [UnixTime(0); 4],
        _ => [UnixTime(0), end, end, longer],
    };
    assert_eq!(told, kept);
}

async fn of_two_revocations_the_later_counts(store: &AnyStore) {
    let what = Revoked::Subject("root".to_owned());
    for (at, until) in [(now(), later(10)), (later(5), later(HOUR))] {
        let what = what.clone();
        store.revoke(&Revocation { what, at, until }).await.unwrap();
    }
    let told = store.revocations(now()).await.unwrap();
    assert_eq!(told.len(), 1);
    let [told] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(
        told.at >= later(3) && told.until > later(HOUR - 10),
        "{told:?}"
    );
}
