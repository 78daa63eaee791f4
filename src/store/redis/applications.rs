//! How are application tokens kept? All in one slot: there are few, and they are seldom asked.

use super::keys::Part;
use super::link::{Call, Link};
use super::scripts;
use crate::store::StoreError;
use crate::store::application::{ApplicationChange, ApplicationToken, MAX_PER_CREATOR};

/// The most application tokens, about 700 bytes each.
const MAX_APPLICATIONS: usize = 100_000;

type Row = (u64, String, bool, bool, String);

pub(super) async fn add(link: &Link, token: &ApplicationToken) -> Result<u64, StoreError> {
    let call = Call::new(&scripts::ADD_APPLICATION)
        .keys(held_in(link, &token.creator))
        .arg(write(token)?)
        .arg(&token.hash)
        .arg(&token.family)
        .arg(MAX_APPLICATIONS)
        .arg(MAX_PER_CREATOR);
    let id: i64 = link.run(call).await?;
    match id {
        -1 => Err(StoreError::TooMany),
        id => u64::try_from(id).map_err(|_| StoreError::Full),
    }
}

pub(super) async fn import(link: &Link, token: &ApplicationToken) -> Result<(), StoreError> {
    let keys = &link.spec.keys;
    let call = Call::new(&scripts::IMPORT_APPLICATION)
        .keys(held_in(link, &token.creator))
        .key(keys.application(Part::Revoked))
        .key(keys.application(Part::Texts))
        .arg(write(token)?)
        .arg(&token.hash)
        .arg(&token.family)
        .arg(token.id)
        .arg(u8::from(token.is_revoked));
    link.run(call).await
}

pub(super) async fn find(link: &Link, hash: &str) -> Result<Option<ApplicationToken>, StoreError> {
    let call = ask(link).key(link.spec.keys.application(Part::Hashes));
    Ok(read(link, call.arg("hash").arg(hash)).await?.pop())
}

pub(super) async fn list(link: &Link, creator: &str) -> Result<Vec<ApplicationToken>, StoreError> {
    let key = link.spec.keys.application(Part::Creator(creator));
    read(link, ask(link).key(key).arg("creator")).await
}

/// All of them, with their numbers; a number at a time, so that nobody else has to wait.
pub(super) async fn all(link: &Link) -> Result<Vec<ApplicationToken>, StoreError> {
    let mut command = redis::cmd("HKEYS");
    command.arg(link.spec.keys.application(Part::Tokens));
    let mut ids: Vec<u64> = link.ask(&command).await?;
    ids.sort_unstable();
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(one(link, id).await?);
    }
    Ok(found)
}

pub(super) async fn change(
    link: &Link,
    id: u64,
    creator: Option<&str>,
    change: ApplicationChange,
) -> Result<Option<ApplicationToken>, StoreError> {
    let keys = &link.spec.keys;
    let creator = creator.map(|creator| keys.application(Part::Creator(creator)));
    let call = Call::new(&scripts::CHANGE_APPLICATION)
        .keys([Part::Tokens, Part::Revoked, Part::Texts].map(|part| keys.application(part)))
        .keys(creator)
        .arg(id)
        .arg(u8::from(change.revoke))
        .arg(u8::from(change.description.is_some()))
        .arg(change.description.unwrap_or_default());
    match link.run(call).await? {
        true => one(link, id).await,
        false => Ok(None),
    }
}

/// Whose application tokens end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending<'a> {
    All,
    Creator(&'a str),
    Family(&'a str),
}

pub(super) async fn end(link: &Link, ending: Ending<'_>) -> Result<(), StoreError> {
    let keys = &link.spec.keys;
    let (part, how, which) = match ending {
        Ending::All => (Part::Tokens, "all", ""),
        Ending::Creator(creator) => (Part::Creator(creator), "creator", ""),
        Ending::Family(family) => (Part::Families, "family", family),
    };
    let call = Call::new(&scripts::END_APPLICATIONS)
        .key(keys.application(Part::Revoked))
        .key(keys.application(part))
        .arg(how)
        .arg(which);
    link.run(call).await
}

fn held_in(link: &Link, creator: &str) -> [String; 5] {
    [
        Part::Last,
        Part::Tokens,
        Part::Hashes,
        Part::Families,
        Part::Creator(creator),
    ]
    .map(|part| link.spec.keys.application(part))
}

fn ask(link: &Link) -> Call {
    let parts = [Part::Tokens, Part::Revoked, Part::Texts];
    Call::new(&scripts::APPLICATIONS).keys(parts.map(|part| link.spec.keys.application(part)))
}

pub(super) async fn one(link: &Link, id: u64) -> Result<Option<ApplicationToken>, StoreError> {
    let call = ask(link).arg("id").arg(id);
    Ok(read(link, call).await?.pop())
}

async fn read(link: &Link, call: Call) -> Result<Vec<ApplicationToken>, StoreError> {
    let rows: Vec<Row> = link.run(call).await?;
    let changed = |(id, token, is_revoked, has_text, text): Row| {
        let mut token = parse(id, &token)?;
        token.is_revoked |= is_revoked;
        if has_text {
            token.description = Some(text);
        }
        Ok(token)
    };
    rows.into_iter().map(changed).collect()
}

/// A token with the number that it has.
pub(super) fn parse(id: u64, token: &str) -> Result<ApplicationToken, StoreError> {
    let parsed = serde_json::from_str::<ApplicationToken>(token);
    let mut token = parsed.map_err(|error| unreadable(&error))?;
    token.id = id;
    Ok(token)
}

fn write(token: &ApplicationToken) -> Result<String, StoreError> {
    serde_json::to_string(token).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> StoreError {
    StoreError::Unavailable(format!("an application token cannot be read: {error}"))
}
