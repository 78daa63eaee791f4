//! Which headers may a route set or drop on the way to its upstream?

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::RouteConfig;
use crate::config::problem::Problems;
use crate::upstream::translate::fold;

/// The headers that a route sets itself, its credential among them, or drops: what a back end could
/// take for one of them is not the client's to send.
#[derive(Debug, Default)]
pub(crate) struct OwnHeaders {
    /// As a back end may read them.
    folded: Vec<String>,
    /// Whether it may read any of them otherwise than it is written.
    pub(crate) are_odd: bool,
}

impl OwnHeaders {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a HeaderName>) -> Self {
        let mut own = Self::default();
        for name in names {
            let folded = fold(name.as_str());
            own.are_odd |= folded.is_some();
            own.folded
                .push(folded.unwrap_or_else(|| name.as_str().to_owned()));
        }
        own
    }

    /// Whether there is any.
    pub(crate) const fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }

    /// Removes those of a request, in every spelling that a back end could fold together.
    pub(crate) fn remove_twins(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        let is_own = |name: &&HeaderName| {
            let folded = fold(name.as_str());
            let text = folded.as_deref().unwrap_or_else(|| name.as_str());
            self.folded.iter().any(|own| own == text)
        };
        let twins: Vec<_> = headers.keys().filter(is_own).cloned().collect();
        for name in twins {
            headers.remove(name);
        }
    }
}

impl RouteConfig {
    pub(super) fn parse_set_headers(
        &self,
        at: &str,
        problems: &mut Problems,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let at = format!("{at}.set_headers");
        let mut headers = Vec::with_capacity(self.set_headers.len());
        for (name, value) in &self.set_headers {
            let Some(name) = parse_header_name(&at, name, problems) else {
                continue;
            };
            match HeaderValue::from_str(value) {
                Ok(value) => headers.push((name, value)),
                Err(_) => problems.add(format_args!("{at}.{name}"), "not a header's value"),
            }
        }
        headers
    }

    pub(super) fn parse_remove_headers(
        &self,
        at: &str,
        problems: &mut Problems,
    ) -> Vec<HeaderName> {
        let at = format!("{at}.remove_headers");
        let names = &self.remove_headers;
        names
            .iter()
            .filter_map(|name| parse_header_name(&at, name, problems))
            .collect()
    }
}

fn parse_header_name(at: &str, name: &str, problems: &mut Problems) -> Option<HeaderName> {
    let parsed = name.parse::<HeaderName>();
    let parsed = problems.take(
        at,
        parsed.map_err(|_| format!("`{name}` is not a header's name")),
    )?;
    if RESERVED.contains(&parsed.as_str()) {
        problems.add(
            at,
            format_args!("`{name}` is the gate's own affair; see `credential`"),
        );
        return None;
    }
    Some(parsed)
}

/// Whether the gate writes or frames a header of this name itself; it may be its credential.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    *name != AUTHORIZATION && RESERVED.contains(&name.as_str())
}

/// Headers that the gate writes or frames itself.
const RESERVED: [&str; 7] = [
    "authorization",
    "connection",
    "content-length",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
