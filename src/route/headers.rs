//! Which headers may a route set or drop on the way to its upstream?

use http::{HeaderName, HeaderValue};

use super::RouteConfig;
use crate::config::problem::Problems;

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
