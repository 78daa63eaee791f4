//! Which of a request's headers need a closer look before it goes on?

use http::header::{AUTHORIZATION, COOKIE, EXPECT, REFERER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName};

use super::translate::{HOP_BY_HOP, is_forgeable};

/// Which of the headers are there that need a closer look. Most requests have none of them but
/// `Authorization`, and one look at each name is cheaper than asking for each of these.
#[derive(Default)]
pub(super) struct Found {
    pub(super) has_authorization: bool,
    pub(super) has_hop_by_hop: bool,
    /// Forgeable, of [`TELLING`], or of a name that a back end may fold into another.
    pub(super) has_suspect: bool,
}

impl Found {
    pub(super) fn among(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            let text = name.as_str();
            if !is_suspect(text) {
                continue;
            }
            if *name == AUTHORIZATION {
                found.has_authorization = true;
            } else if HOP_BY_HOP.contains(name) {
                found.has_hop_by_hop = true;
            } else if TELLING.contains(name) || is_forgeable(text) || !text.bytes().all(is_plain) {
                found.has_suspect = true;
            }
        }
        found
    }
}

/// Headers that could tell the upstream what it should not know, or ask of it what the gate does.
const TELLING: [HeaderName; 4] = [COOKIE, EXPECT, REFERER, SEC_WEBSOCKET_PROTOCOL];

/// Whether a name could be one of those that need a closer look, by its first letter and length.
pub(super) fn is_suspect(name: &str) -> bool {
    let name = name.as_bytes();
    let first = name.first().copied().unwrap_or_default();
    matches!(
        (first, name.len()),
        (b'a', 7 | 13)
            | (b'c', 6 | 9..=11 | 16 | 17 | 34)
            | (b'e', 6)
            | (b'f', 9 | 16)
            | (b'h', 14)
            | (b'k', 10)
            | (b'p', 5 | 16 | 19)
            | (b'r', 7 | 11..=13)
            | (b's', 15 | 17 | 20..=22)
            | (b't', 2 | 14 | 17 | 19 | 20)
            | (b'u', 7)
            | (b'x', _)
    ) || name == b"apikey"
        || !name.iter().copied().all(is_plain)
}

/// The name as a back end may read it that makes one character of whatever is no letter or digit:
/// `_` as in CGI, or `.`. Nothing if it is that already.
pub(crate) fn fold(name: &str) -> Option<String> {
    let fold = |byte: u8| if is_plain(byte) { byte.into() } else { '-' };
    let is_folded = name.bytes().all(is_plain);
    (!is_folded).then(|| name.to_ascii_lowercase().bytes().map(fold).collect())
}

/// What no back end folds into another character.
pub(super) const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'z')
}

#[cfg(test)]
mod tests {
    use super::super::translate::{FORGEABLE, FORGEABLE_PREFIXES, HOP_BY_HOP};
    use super::{TELLING, is_suspect};

    #[test]
    fn whatever_needs_a_closer_look_gets_one() {
        let standard = HOP_BY_HOP.into_iter().chain(TELLING);
        let standard: Vec<_> = standard.map(|name| name.as_str().to_owned()).collect();
        let others = FORGEABLE.iter().chain(&FORGEABLE_PREFIXES);
        for name in standard.iter().map(String::as_str).chain(others.copied()) {
            assert!(is_suspect(name), "{name}");
            for other in ["_", "."] {
                let twin = name.replace('-', other);
                assert!(!name.contains('-') || is_suspect(&twin), "{twin}");
            }
        }
        for name in ["accept", "content-type", "host", "user-agent"] {
            assert!(!is_suspect(name), "{name}");
        }
    }
}
