//! What every store keeps beside families: application tokens, values, and all of it elsewhere.

use tollgate::store::application::{ApplicationChange, MAX_PER_CREATOR};
use tollgate::store::family::Rotation;
use tollgate::store::{AnyStore, Record, StoreError};
use tollgate::token::revocation::Revoked;

use crate::cases::{HOUR, add, application, begin, is_alive, later, now, revoke, take};

pub(crate) async fn application_tokens_are_found_and_listed(store: &AnyStore) {
    let mut made = Vec::new();
    for (creator, name) in [("root", "a"), ("eve", "b"), ("root", "c")] {
        let mut token = application(creator, name);
        token.id = store.add_application(token.clone()).await.unwrap();
        made.push(token);
    }
    let [a, b, c] = &made[..] else { panic!() };
    assert!(a.id < b.id && b.id < c.id);
    assert_eq!(
        store.find_application(&b.hash).await.unwrap().as_ref(),
        Some(b)
    );
    assert_eq!(store.find_application("another").await.unwrap(), None);
    let listed = store.list_applications("root").await.unwrap();
    assert_eq!(listed.iter().collect::<Vec<_>>(), [a, c]);
    assert_eq!(store.list_applications("nobody").await.unwrap(), []);
}

pub(crate) async fn application_tokens_change_for_their_creator_alone(store: &AnyStore) {
    let id = add(store, "root", "a").await;
    let change = |text: Option<&str>, revoke| ApplicationChange {
        description: text.map(str::to_owned),
        revoke,
    };
    let other = store.change_application(id, Some("eve"), change(Some("x"), true));
    assert_eq!(other.await.unwrap(), None);
    let unknown = store.change_application(id + 1, None, change(Some("x"), true));
    assert_eq!(unknown.await.unwrap(), None);
    let own = store.change_application(id, Some("root"), change(Some(""), false));
    let own = own.await.unwrap().unwrap();
    assert_eq!(
        (own.description.as_deref(), own.is_revoked),
        (Some(""), false)
    );
    let ended = store.change_application(id, None, change(None, true));
    let ended = ended.await.unwrap().unwrap();
    assert_eq!(
        (ended.description.as_deref(), ended.is_revoked),
        (Some(""), true)
    );
    let back = store.change_application(id, None, change(Some("y"), false));
    assert!(
        back.await.unwrap().unwrap().is_revoked,
        "there is no way back"
    );
}

pub(crate) async fn a_creator_has_a_bound(store: &AnyStore) {
    for index in 0..MAX_PER_CREATOR {
        let token = application("root", &index.to_string());
        store.add_application(token).await.unwrap();
    }
    let more = store.add_application(application("root", "more")).await;
    assert!(matches!(more, Err(StoreError::TooMany)), "{more:?}");
    add(store, "eve", "other").await;
}

pub(crate) async fn a_value_is_taken_once(store: &AnyStore) {
    let value = vec![0, 159, 146, 150];
    store
        .put("v".to_owned(), value.clone(), later(60), now())
        .await
        .unwrap();
    let racers = (0..20).map(|_| store.take_once("v".to_owned(), now()));
    let taken = futures_util::future::join_all(racers).await;
    let taken: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken, [value]);
}

pub(crate) async fn a_value_ends(store: &AnyStore) {
    store
        .put("v".to_owned(), vec![1], later(60), now())
        .await
        .unwrap();
    assert_eq!(
        store.take_once("v".to_owned(), later(62)).await.unwrap(),
        None
    );
    assert_eq!(store.take_once("w".to_owned(), now()).await.unwrap(), None);
}

async fn export(store: &AnyStore) -> Vec<Record> {
    store.export(now()).await.unwrap()
}

async fn fill(store: &AnyStore) -> Vec<Record> {
    begin(store, "f", "root").await;
    begin(store, "g", "eve").await;
    take(store, "f", 0, now()).await;
    add(store, "root", "a").await;
    revoke(store, Revoked::Token("t".to_owned())).await;
    export(store).await
}

pub(crate) async fn what_is_exported_is_imported(store: &AnyStore) {
    let exported = fill(store).await;
    let kind = |record: &Record| match record {
        Record::Application(token) => token.hash.clone(),
        Record::Family(id, record) => format!("{id} at {}", record.generation),
        Record::Revocation(revocation) => format!("{:?}", revocation.what),
    };
    let mut kinds: Vec<_> = exported.iter().map(kind).collect();
    kinds.sort();
    assert_eq!(kinds, ["Token(\"t\")", "f at 1", "g at 0", "hash of a"]);
    revoke(store, Revoked::Subject("root".to_owned())).await;
    store.import(exported.clone()).await.unwrap();
    let again = export(store).await;
    let is_there = |record: &Record| again.contains(record);
    assert!(exported.iter().all(is_there), "{exported:?} in {again:?}");
    assert!(add(store, "eve", "b").await > 1, "numbers go on");
}

pub(crate) async fn what_was_imported_works(store: &AnyStore) {
    let exported = fill(store).await;
    revoke(store, Revoked::Subject("root".to_owned())).await;
    store.import(exported).await.unwrap();
    assert!(is_alive(store, "a").await);
    assert_eq!(take(store, "f", 1, now()).await, Rotation::Next);
    revoke(store, Revoked::Subject("root".to_owned())).await;
    assert_eq!(take(store, "f", 2, now()).await, Rotation::Unknown);
}

pub(crate) async fn what_has_expired_is_swept(store: &AnyStore) {
    begin(store, "f", "root").await;
    revoke(store, Revoked::Token("t".to_owned())).await;
    store
        .put("v".to_owned(), vec![1], later(60), now())
        .await
        .unwrap();
    store.sweep(now()).await.unwrap();
    assert_eq!(store.revocations(now()).await.unwrap().len(), 1);
    assert_eq!(take(store, "f", 0, now()).await, Rotation::Next);
    store.sweep(later(HOUR + 2)).await.unwrap();
    assert_eq!(store.revocations(now()).await.unwrap(), []);
}
