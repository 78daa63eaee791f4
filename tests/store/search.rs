//! Are sessions and application tokens found, and only those that are looked for?

use tollgate::store::AnyStore;
use tollgate::store::application::{ApplicationChange, ApplicationToken};
use tollgate::store::search::{Found, MOST_ROWS, Search, Session};
use tollgate::token::revocation::Revoked;

use crate::cases::{HOUR, add, begin, later, now, revoke, take};

async fn sessions(store: &AnyStore, text: &str, limit: usize) -> Found<Session> {
    let search = Search::new(text, limit);
    store.search_families(&search, now()).await.unwrap()
}

async fn ids(store: &AnyStore, text: &str) -> Vec<String> {
    let found = sessions(store, text, 50).await;
    assert!(found.is_whole, "{text}");
    let mut ids = Vec::from_iter(found.rows.into_iter().map(|(id, _)| id));
    ids.sort_unstable();
    ids
}

async fn tokens(store: &AnyStore, text: &str, limit: usize) -> Found<ApplicationToken> {
    let search = Search::new(text, limit);
    store.search_applications(&search).await.unwrap()
}

/// By a part of the subject in any case, by the beginning of an id, or all.
pub(crate) async fn sessions_are_found(store: &AnyStore) {
    for (id, subject) in [
        ("fa1", "Alice"),
        ("fa2", "alice@example.com"),
        ("fb1", "bob"),
        ("xb2", "bob"),
        ("xm1", "müller %_*[a]"),
    ] {
        begin(store, id, subject).await;
    }
    for (text, expected) in [
        ("", &["fa1", "fa2", "fb1", "xb2", "xm1"][..]),
        (" alice ", &["fa1", "fa2"]),
        ("ALICE@", &["fa2"]),
        ("ob", &["fb1", "xb2"]),
        ("bob", &["fb1", "xb2"]),
        ("fb1", &["fb1"]),
        ("fb", &["fb1"]),
        ("b1", &[]),
        ("MÜLLER", &["xm1"]),
        // No pattern, whatever the store takes for one.
        ("*", &["xm1"]),
        ("%", &["xm1"]),
        ("[a]", &["xm1"]),
        ("f?1", &[]),
    ] {
        assert_eq!(ids(store, text).await, expected, "{text}");
    }
    let found = sessions(store, "fb1", 1).await;
    let (_, record) = &found.rows[0];
    assert_eq!((&*record.subject, record.generation), ("bob", 0));
    take(store, "fb1", 0, now()).await;
    let found = sessions(store, "fb1", 1).await;
    assert_eq!(found.rows[0].1.generation, 1);
}

/// What has ended or expired is no session.
pub(crate) async fn sessions_that_ended_are_not_found(store: &AnyStore) {
    begin(store, "f1", "alice").await;
    begin(store, "f2", "alice").await;
    revoke(store, Revoked::Family("f1".to_owned())).await;
    assert_eq!(ids(store, "").await, ["f2"]);
    assert_eq!(ids(store, "f1").await, <[&str; 0]>::default());
    let search = Search::new("alice", 10);
    let found = store.search_families(&search, later(2 * HOUR)).await;
    assert_eq!(found.unwrap().rows, []);
}

/// No more than is asked for, and no more than anybody gets; what is left out is told.
pub(crate) async fn a_search_has_a_bound(store: &AnyStore) {
    for index in 0..MOST_ROWS + 20 {
        begin(store, &format!("f{index:04}"), &format!("user-{index:04}")).await;
    }
    for (text, limit, rows, is_whole) in [
        ("", 5, 5, false),
        ("", 100_000, MOST_ROWS, false),
        ("user-000", 5, 5, false),
        ("user-000", 10, 10, true),
        ("user-0007", 1, 1, true),
        ("f0219", 1, 1, true),
        ("nobody", 1, 0, true),
    ] {
        let found = sessions(store, text, limit).await;
        assert_eq!(
            (found.rows.len(), found.is_whole),
            (rows, is_whole),
            "{text} {limit}"
        );
    }
}

/// By creator or number, the newest first, revoked or not, as they are now.
pub(crate) async fn application_tokens_are_searched(store: &AnyStore) {
    let mut numbers = Vec::new();
    for creator in ["alice", "bob", "Alicia"] {
        numbers.push(add(store, creator, &format!("of {creator}")).await);
    }
    let change = ApplicationChange {
        description: Some("changed".to_owned()),
        revoke: true,
    };
    store
        .change_application(numbers[1], None, change)
        .await
        .unwrap();
    let number = numbers[1].to_string();
    for (text, expected) in [
        ("", &[2, 1, 0][..]),
        ("ali", &[2, 0]),
        ("bob", &[1]),
        (&number, &[1]),
        ("eve", &[]),
    ] {
        let found = tokens(store, text, 10).await;
        let expected = Vec::from_iter(expected.iter().map(|index| numbers[*index]));
        let got = Vec::from_iter(found.rows.iter().map(|token| token.id));
        assert_eq!((got, found.is_whole), (expected, true), "{text}");
    }
    let found = tokens(store, "", 2).await;
    assert_eq!((found.rows.len(), found.is_whole), (2, false));
    let found = tokens(store, "bob", 10).await;
    let bob = &found.rows[0];
    assert!(bob.is_revoked);
    assert_eq!(bob.description.as_deref(), Some("changed"));
}
