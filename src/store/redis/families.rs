//! How are families kept? Each under its own id, and its id under its subject.

use std::time::Duration;

use futures_util::future::{join, try_join_all};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{FromRedisValue as _, Value, cmd};
use tokio::time::timeout;

use super::link::{Call, Connection, Link};
use super::log::number;
use super::scripts;
use crate::clock::UnixTime;
use crate::store::StoreError;
use crate::store::family::{FamilyRecord, Presented, Rotation};

pub(super) async fn begin(
    link: &Link,
    id: &str,
    record: &FamilyRecord,
    now: UnixTime,
) -> Result<(), StoreError> {
    let ttl = ttl(record.expires, now);
    let call = Call::new(&scripts::BEGIN)
        .key(link.spec.keys.family(id))
        .arg(&record.subject)
        .arg(number(record.expires.0))
        .arg(number(now.0))
        .arg(ttl);
    let noted = note(link, id, &record.subject, record.expires, now);
    let (begun, noted) = join(link.run::<()>(call), noted).await;
    begun.and(noted)
}

/// Keeps a family as it was elsewhere.
pub(super) async fn import(
    link: &Link,
    id: &str,
    record: &FamilyRecord,
    now: UnixTime,
) -> Result<(), StoreError> {
    if now >= record.expires {
        return Ok(());
    }
    begin(link, id, record, record.rotated).await?;
    let key = link.spec.keys.family(id);
    let mut set = cmd("HSET");
    set.arg(&key).arg("g").arg(number(record.generation));
    link.ask::<Value>(&set).await?;
    let mut expire = cmd("EXPIRE");
    expire.arg(&key).arg(ttl(record.expires, now));
    link.ask(&expire).await
}

pub(super) async fn take(
    link: &Link,
    presented: Presented<'_>,
    now: UnixTime,
    grace: Duration,
) -> Result<Rotation, StoreError> {
    let call = Call::new(&scripts::TAKE)
        .key(link.spec.keys.family(presented.family))
        .arg(number(presented.generation))
        .arg(number(presented.next_expires.0))
        .arg(number(now.0))
        .arg(number(grace.as_secs()))
        .arg(ttl(presented.next_expires, now));
    let answer: Vec<String> = link.run(call).await?;
    let text = |index: usize| answer.get(index).map(String::as_str);
    match (text(0), text(1)) {
        (Some("next"), Some(subject)) => {
            // Only for a revocation of the subject to find it. The log holds without that.
            let noted = note(link, presented.family, subject, presented.next_expires, now).await;
            if let Err(error) = noted {
                tracing::debug!(%error, "a family could not be noted under its subject");
            }
            Ok(Rotation::Next)
        }
        (Some("again"), Some(at)) => {
            let at = at.parse().map_err(|_| unreadable())?;
            Ok(Rotation::Again(UnixTime(at)))
        }
        (Some("reused"), _) => Ok(Rotation::Reused),
        (Some("unknown"), _) => Ok(Rotation::Unknown),
        _ => Err(unreadable()),
    }
}

pub(super) async fn find(link: &Link, id: &str) -> Result<Option<FamilyRecord>, StoreError> {
    let mut command = cmd("HMGET");
    let key = link.spec.keys.family(id);
    command.arg(key).arg("s").arg("e").arg("g").arg("r");
    let found: (Option<String>, Option<u64>, Option<u64>, Option<u64>) = link.ask(&command).await?;
    let (Some(subject), Some(expires), Some(generation), Some(rotated)) = found else {
        return Ok(None);
    };
    Ok(Some(FamilyRecord {
        subject,
        expires: UnixTime(expires),
        generation,
        rotated: UnixTime(rotated),
    }))
}

pub(super) async fn end(link: &Link, id: &str) -> Result<(), StoreError> {
    let mut command = cmd("UNLINK");
    command.arg(link.spec.keys.family(id));
    link.ask(&command).await
}

/// Ends all of a subject's.
pub(super) async fn end_subject(link: &Link, subject: &str) -> Result<(), StoreError> {
    let call = Call::new(&scripts::FORGET).key(link.spec.keys.subject(subject));
    let families: Vec<String> = link.run(call).await?;
    for some in families.chunks(SIDE_BY_SIDE) {
        try_join_all(some.iter().map(|family| end(link, family))).await?;
    }
    Ok(())
}

/// The ids of a subject's.
pub(super) async fn of_subject(link: &Link, subject: &str) -> Result<Vec<String>, StoreError> {
    let mut command = cmd("ZREVRANGE");
    command.arg(link.spec.keys.subject(subject));
    link.ask(command.arg(0).arg(999)).await
}

/// Ends all that did not begin or go on after `at`.
pub(super) async fn end_all(link: &Link, at: UnixTime) -> Result<(), StoreError> {
    for some in ids(link).await?.chunks(SIDE_BY_SIDE) {
        let ended = some.iter().map(|id| {
            let call = Call::new(&scripts::END_OLD).key(link.spec.keys.family(id));
            link.run::<()>(call.arg(number(at.0)))
        });
        try_join_all(ended).await?;
    }
    Ok(())
}

/// How many are asked for at a time where there are many.
pub(super) const SIDE_BY_SIDE: usize = 64;

/// The ids of all families.
pub(super) async fn ids(link: &Link) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for node in nodes(link).await? {
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(link.spec.keys.families());
            scan.arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) = match &node {
                None => link.ask(&scan).await?,
                Some(node) => ask_node(link, node, &scan).await?,
            };
            let ids = keys.iter().filter_map(|key| link.spec.keys.family_id(key));
            found.extend(ids.map(str::to_owned));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Where keys are: a cluster's primaries, or where everything goes.
pub(super) async fn nodes(link: &Link) -> Result<Vec<Option<(String, u16)>>, StoreError> {
    let connection = link.current();
    if !matches!(connection.as_deref(), Some(Connection::Cluster(_))) {
        return Ok(vec![None]);
    }
    let slots: Vec<Vec<Value>> = link.ask(cmd("CLUSTER").arg("SLOTS")).await?;
    let mut nodes = Vec::new();
    for slot in slots {
        let primary = slot.into_iter().nth(2).ok_or_else(unreadable)?;
        let mut parts = Vec::<Value>::from_redis_value(primary)
            .map_err(|_| unreadable())?
            .into_iter();
        let (host, port) = parts.next().zip(parts.next()).ok_or_else(unreadable)?;
        let host = String::from_redis_value(host).map_err(|_| unreadable())?;
        let port = u16::from_redis_value(port).map_err(|_| unreadable())?;
        nodes.push(Some((host, port)));
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

pub(super) async fn ask_node<T: redis::FromRedisValue>(
    link: &Link,
    (host, port): &(String, u16),
    command: &redis::Cmd,
) -> Result<T, StoreError> {
    let connection = link.current();
    let Some(Connection::Cluster(connection)) = connection.as_deref() else {
        return Err(unreadable());
    };
    let to = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress {
        host: host.clone(),
        port: *port,
    });
    let mut connection = connection.clone();
    let answer = Box::pin(connection.route_command(command.clone(), to));
    let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
    let answer = timeout(link.spec.timeout, answer).await.map_err(late)?;
    let failed = |error: redis::RedisError| StoreError::Unavailable(error.to_string());
    T::from_redis_value(answer.map_err(failed)?).map_err(|_| unreadable())
}

/// Notes a family under its subject.
async fn note(
    link: &Link,
    id: &str,
    subject: &str,
    expires: UnixTime,
    now: UnixTime,
) -> Result<(), StoreError> {
    let call = Call::new(&scripts::INDEX)
        .key(link.spec.keys.subject(subject))
        .arg(id)
        .arg(number(expires.0))
        .arg(number(now.0))
        .arg(ttl(expires, now));
    link.run(call).await
}

/// How long a key lives, in seconds: counted from `now`, so that the server's clock does not
/// matter.
pub(super) fn ttl(until: UnixTime, now: UnixTime) -> u64 {
    until.since(now).as_secs().clamp(1, LONGEST)
}

/// As long as Redis can take: a hundred years.
const LONGEST: u64 = 100 * 366 * 24 * 3600;

pub(super) fn unreadable() -> StoreError {
    StoreError::Unavailable("its answer cannot be read".to_owned())
}
