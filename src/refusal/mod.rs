//! What becomes of a request that is refused: who is told what?

mod reason;

use std::error::Error as StdError;
use std::fmt;

use bytes::Bytes;
use http::Response;

pub use reason::{Reason, Side};

/// A refusal on its way out: the reason for everyone, the cause for the log alone.
#[derive(Debug)]
pub struct Refusal {
    /// The exact reason.
    pub reason: Reason,
    /// More for the client, safe to show: which field is missing, which methods are allowed.
    pub detail: Option<Detail>,
    /// What happened underneath; goes to the log, never to the client.
    pub cause: Option<Box<dyn StdError + Send + Sync>>,
    /// The page that tells a person of it, where there is one of its own.
    pub page: Option<Box<Response<Bytes>>>,
}

/// What a client may be told beyond the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The methods for `Allow`, comma-separated.
    Allow(String),
    /// A required field that is missing or empty, by its wire name.
    MissingField(&'static str),
    /// How many seconds to wait.
    RetryAfter(u64),
    /// The scopes that the route requires, space-separated.
    Scope(String),
    /// The request was understood by the dialect but is not valid in its form.
    Text(&'static str),
}

impl Refusal {
    /// With something safe to tell the client.
    #[must_use]
    pub fn with_detail(reason: Reason, detail: Detail) -> Self {
        Self {
            reason,
            detail: Some(detail),
            cause: None,
            page: None,
        }
    }

    /// With a cause for the log.
    #[must_use]
    pub fn with_cause(reason: Reason, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            reason,
            detail: None,
            cause: Some(cause.into()),
            page: None,
        }
    }

    /// The causes, outermost first, for the log.
    #[must_use]
    pub fn cause_chain(&self) -> Option<String> {
        let mut error: &dyn StdError = self.cause.as_deref()?;
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            let next = source.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            error = source;
        }
        Some(text)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
            cause: None,
            page: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.text())
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}
