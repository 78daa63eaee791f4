//! How are sessions and application tokens found in Redis? What is named exactly by its index, the
//! rest by a walk that ends after so many steps, so that nobody else has to wait.

use futures_util::future::try_join_all;
use redis::cmd;

use super::applications;
use super::families::{self, SIDE_BY_SIDE, ask_node, find, nodes};
use super::keys::Part;
use super::link::Link;
use crate::clock::UnixTime;
use crate::store::StoreError;
use crate::store::application::ApplicationToken;
use crate::store::search::{Found, Gathering, Search, Session, Sessions};

/// How many steps of a walk are taken, of about [`AT_ONCE`] keys each.
const MOST_STEPS: usize = 20;
const AT_ONCE: usize = 1000;

pub(super) async fn sessions(
    link: &Link,
    search: &Search,
    now: UnixTime,
) -> Result<Found<Session>, StoreError> {
    let mut gathering = Gathering::new(search);
    if !search.is_empty() {
        let mut named = families::of_subject(link, &search.text).await?;
        named.push(search.text.clone());
        gather(link, &mut gathering, &named, now).await?;
    }
    let mut steps = 0..MOST_STEPS;
    for node in nodes(link).await? {
        let mut cursor = 0_u64;
        loop {
            if gathering.is_full() {
                return Ok(gathering.sessions());
            }
            if steps.next().is_none() {
                gathering.cut();
                return Ok(gathering.sessions());
            }
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(link.spec.keys.families());
            scan.arg("COUNT").arg(AT_ONCE);
            let (next, keys): (u64, Vec<String>) = match &node {
                None => link.ask(&scan).await?,
                Some(node) => ask_node(link, node, &scan).await?,
            };
            let ids = keys.iter().filter_map(|key| link.spec.keys.family_id(key));
            let ids = Vec::from_iter(ids.map(str::to_owned));
            gather(link, &mut gathering, &ids, now).await?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(gathering.sessions())
}

async fn gather(
    link: &Link,
    gathering: &mut Sessions<'_>,
    ids: &[String],
    now: UnixTime,
) -> Result<(), StoreError> {
    for some in ids.chunks(SIDE_BY_SIDE) {
        if gathering.is_full() {
            break;
        }
        let found = try_join_all(some.iter().map(|id| find(link, id))).await?;
        for (id, record) in some.iter().zip(found) {
            if let Some(record) = record {
                gathering.session(id, record, now);
            }
        }
    }
    Ok(())
}

pub(super) async fn application_tokens(
    link: &Link,
    search: &Search,
) -> Result<Found<ApplicationToken>, StoreError> {
    let mut gathering = Gathering::new(search);
    if !search.is_empty() {
        let named = applications::list(link, &search.text).await?;
        named
            .into_iter()
            .for_each(|token| gathering.application(token));
        if let Some(number) = search.number() {
            let named = applications::one(link, number).await?;
            named
                .into_iter()
                .for_each(|token| gathering.application(token));
        }
    }
    let mut cursor = 0_u64;
    for _ in 0..MOST_STEPS {
        if gathering.is_full() {
            return Ok(gathering.applications());
        }
        let mut scan = cmd("HSCAN");
        scan.arg(link.spec.keys.application(Part::Tokens));
        scan.arg(cursor).arg("COUNT").arg(AT_ONCE);
        let (next, rows): (u64, Vec<(u64, String)>) = link.ask(&scan).await?;
        for (number, token) in rows {
            let token = applications::parse(number, &token)?;
            if gathering.is_full() || !search.fits(&token.creator, &number.to_string()) {
                continue;
            }
            // With what has changed about it.
            let now = applications::one(link, number).await?;
            now.into_iter()
                .for_each(|token| gathering.application(token));
        }
        cursor = next;
        if cursor == 0 {
            return Ok(gathering.applications());
        }
    }
    gathering.cut();
    Ok(gathering.applications())
}
