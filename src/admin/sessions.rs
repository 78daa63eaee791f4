//! Who is logged in, and which programs hold application tokens? Some of them, as they are looked
//! for.

use http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::reply::{Reply, json, text};
use crate::clock::{self, UnixTime};
use crate::snapshot::Shared;
use crate::store::StoreError;
use crate::store::application::ApplicationToken;
use crate::store::search::{Search, Session};

/// A session: a login that can be renewed.
#[derive(Serialize)]
struct SessionRow {
    /// Its family, which all its tokens name.
    family: String,
    subject: String,
    /// When it began or was last renewed.
    renewed: u64,
    expires: u64,
    /// How often it was renewed.
    renewals: u64,
}

/// An application token. Never its hash, nor what is sealed in it.
#[derive(Serialize)]
struct ApplicationRow {
    number: u64,
    creator: String,
    provider: String,
    description: Option<String>,
    created: u64,
    expires: Option<u64>,
    network: Option<String>,
    scope: String,
    is_revoked: bool,
    is_good: bool,
}

#[derive(Serialize)]
struct Rows<T> {
    rows: Vec<T>,
    /// Whether these are all that there are.
    is_whole: bool,
}

/// `GET /sessions?search=…&limit=…`.
pub(super) async fn sessions(shared: &Shared, uri: &Uri) -> Reply {
    let now = clock::unix_now();
    let row = |(family, record): Session| SessionRow {
        family,
        subject: record.subject,
        renewed: record.rotated.0,
        expires: record.expires.0,
        renewals: record.generation,
    };
    match shared.store.search_families(&search(uri), now).await {
        Ok(found) => json(&Rows {
            rows: found.rows.into_iter().map(row).collect(),
            is_whole: found.is_whole,
        }),
        Err(error) => failed(&error),
    }
}

/// `GET /application-tokens?search=…&limit=…`.
pub(super) async fn application_tokens(shared: &Shared, uri: &Uri) -> Reply {
    let now = clock::unix_now();
    match shared.store.search_applications(&search(uri)).await {
        Ok(found) => json(&Rows {
            rows: found
                .rows
                .into_iter()
                .map(|token| application(token, now))
                .collect(),
            is_whole: found.is_whole,
        }),
        Err(error) => failed(&error),
    }
}

fn application(token: ApplicationToken, now: UnixTime) -> ApplicationRow {
    ApplicationRow {
        is_good: token.is_alive(now),
        number: token.id,
        creator: token.creator,
        provider: token.provider,
        description: token.description,
        created: token.created.0,
        expires: token.expires.map(|expires| expires.0),
        network: token.network.map(|network| network.to_string()),
        scope: token.scope,
        is_revoked: token.is_revoked,
    }
}

/// How many rows are given if nobody says.
const USUAL: usize = 50;
/// The longest text that is looked for, in bytes.
const LONGEST: usize = 512;

fn search(uri: &Uri) -> Search {
    let value = |wanted: &str| {
        let pairs = uri.query().unwrap_or_default().split('&');
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == wanted)?;
        let value = value.replace('+', " ");
        Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
    };
    let text = value("search").filter(|text| text.len() <= LONGEST);
    let limit = value("limit").and_then(|text| text.parse().ok());
    Search::new(&text.unwrap_or_default(), limit.unwrap_or(USUAL))
}

fn failed(error: &StoreError) -> Reply {
    tracing::warn!(%error, "the store could not be searched");
    let why = "the store cannot be searched now\n";
    text(StatusCode::SERVICE_UNAVAILABLE, why)
}
