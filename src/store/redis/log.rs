//! How are revocations written, told and read?

use std::collections::HashMap;

use super::link::{Call, Link};
use super::scripts;
use crate::clock::{self, UnixTime};
use crate::store::StoreError;
use crate::token::revocation::{Revocation, Revocations, Revoked};

/// Up to where the log was read: microseconds, as the server counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place(u64);

type Row = (u64, u64, u64, String);

/// Appends a revocation to the log and tells everybody.
pub(super) async fn append(
    link: &Link,
    revocation: &Revocation,
    now: UnixTime,
) -> Result<(), StoreError> {
    let keys = &link.spec.keys;
    let call = Call::new(&scripts::REVOKE)
        .key(keys.last_revoked())
        .keys(keys.revoked())
        .arg(write(&revocation.what))
        .arg(number(revocation.at.0))
        .arg(number(revocation.until.0))
        .arg(number(now.0))
        .arg(keys.channel());
    link.run(call).await
}

/// Puts in force what came into the log of late.
pub(super) async fn catch_up(
    link: &Link,
    view: &Revocations,
    place: &mut Place,
) -> Result<(), StoreError> {
    // A moment again: after a failover the server's clock may be another's.
    let from = place.0.saturating_sub(OVERLAP);
    read(link, from, |place_of_row, revocation| {
        place.0 = place.0.max(place_of_row);
        view.add(revocation);
    })
    .await
}

/// Puts in force all that is in the log, and writes there what it lacks.
pub(super) async fn reconcile(
    link: &Link,
    view: &Revocations,
    place: &mut Place,
) -> Result<(), StoreError> {
    let mut found = HashMap::new();
    read(link, 0, |place_of_row, revocation| {
        place.0 = place.0.max(place_of_row);
        found.insert(revocation.what.clone(), revocation.at);
        view.add(revocation);
    })
    .await?;
    let now = clock::unix_now();
    for known in view.all() {
        let is_there = found.get(&known.what).is_some_and(|at| *at >= known.at);
        if !is_there && now < known.until {
            append(link, &known, now).await?;
        }
    }
    Ok(())
}

/// All revocations in the log that can still hit a token.
pub(super) async fn all(link: &Link, now: UnixTime) -> Result<Vec<Revocation>, StoreError> {
    let mut found = Vec::new();
    read(link, 0, |_, revocation| found.push(revocation)).await?;
    found.retain(|revocation| now < revocation.until);
    Ok(found)
}

async fn read(
    link: &Link,
    mut from: u64,
    mut take: impl FnMut(u64, Revocation),
) -> Result<(), StoreError> {
    loop {
        let call = Call::new(&scripts::REVOKED)
            .keys(link.spec.keys.revoked())
            .arg(from)
            .arg(PAGE);
        let rows: Vec<Row> = link.run(call).await?;
        let count = rows.len();
        for (place, at, until, what) in rows {
            from = from.max(place.saturating_add(1));
            if let Some(revocation) = parse(at, until, &what) {
                take(place, revocation);
            }
        }
        if count < PAGE {
            return Ok(());
        }
    }
}

/// Puts in force what a message tells.
pub(super) fn heard(message: &[u8], view: &Revocations) {
    let parsed = str::from_utf8(message).ok().and_then(|text| {
        let (at, rest) = text.split_once(' ')?;
        let (until, what) = rest.split_once(' ')?;
        parse(at.parse().ok()?, until.parse().ok()?, what)
    });
    match parsed {
        Some(revocation) => view.add(revocation),
        None => tracing::warn!("a message about a revocation could not be read"),
    }
}

fn write(what: &Revoked) -> String {
    match what {
        Revoked::All => "a".to_owned(),
        Revoked::Family(id) => format!("f:{id}"),
        Revoked::Subject(subject) => format!("s:{subject}"),
        Revoked::Token(id) => format!("t:{id}"),
    }
}

fn parse(at: u64, until: u64, what: &str) -> Option<Revocation> {
    let what = match what.split_once(':') {
        None if what == "a" => Revoked::All,
        Some(("f", id)) => Revoked::Family(id.to_owned()),
        Some(("s", subject)) => Revoked::Subject(subject.to_owned()),
        Some(("t", id)) => Revoked::Token(id.to_owned()),
        _ => return None,
    };
    let (at, until) = (UnixTime(at), UnixTime(until));
    Some(Revocation { what, at, until })
}

/// As Redis' scripts can count: they know floating-point numbers alone.
pub(super) fn number(value: u64) -> u64 {
    value.min(LAST_NUMBER)
}

const LAST_NUMBER: u64 = (1 << 53) - 1;
/// How much of the log is read again each time, in microseconds.
const OVERLAP: u64 = 5_000_000;
/// How many rows are read at a time.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::{parse, write};
    use crate::token::revocation::Revoked;

    #[test]
    fn what_is_written_is_read_again() {
        for what in [
            Revoked::All,
            Revoked::Family("a b:c".to_owned()),
            Revoked::Subject("a".to_owned()),
            Revoked::Subject(String::new()),
            Revoked::Token("issuer#1".to_owned()),
        ] {
            let found = parse(1, 2, &write(&what)).expect("a revocation");
            assert_eq!(found.what, what);
        }
        assert_eq!(parse(1, 2, "x:y"), None);
    }
}
