//! Who may use the legacy service? The one Basic account it was given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use crate::config::secret::Secret;

/// The one account that the legacy service accepts.
#[derive(Debug)]
pub struct Account {
    username: String,
    /// `username:password`, as Basic carries it.
    pair: Secret<Vec<u8>>,
}

impl Account {
    /// An account; the username has no colon, as RFC 7617 asks.
    #[must_use]
    pub fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            pair: Secret::new(format!("{username}:{password}").into_bytes()),
        }
    }

    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// Judges the `Authorization` of a request; the time tells no more than the length.
    pub(super) fn check(&self, headers: &HeaderMap) -> Login {
        let mut presented = headers.get_all(AUTHORIZATION).iter();
        let (first, second) = (presented.next(), presented.next());
        if second.is_some() {
            return Login::Repeated;
        }
        match first.and_then(basic_pair) {
            Some(pair) if self.pair.is(&pair) => Login::Good,
            _ => Login::Bad,
        }
    }
}

/// What a request's `Authorization` is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// Missing, not Basic, or wrong.
    Bad,
    Good,
    /// More than one header.
    Repeated,
}

/// The headers as the service saw them, for a person to look at, without the password.
pub(super) fn seen(headers: &HeaderMap) -> Value {
    let mut seen = Map::new();
    for name in headers.keys() {
        let values: Vec<String> = headers
            .get_all(name)
            .iter()
            .map(|value| match *name {
                AUTHORIZATION => masked(value),
                _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            })
            .collect();
        seen.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    Value::Object(seen)
}

/// `Basic legacy:***`, or no more than stars where it is not Basic.
fn masked(value: &HeaderValue) -> String {
    let username = basic_pair(value).and_then(|pair| {
        let username = pair.split(|byte| *byte == b':').next()?;
        Some(String::from_utf8_lossy(username).into_owned())
    });
    match username {
        Some(username) => format!("Basic {username}:***"),
        None => "***".to_owned(),
    }
}

/// RFC 7617: the scheme has no case, the rest is base64 of `username:password`.
fn basic_pair(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    STANDARD.decode(encoded.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_right_basic_header_is_a_good_login() {
        let account = Account::new("legacy", "pass:word");
        let good = format!("Basic {}", STANDARD.encode("legacy:pass:word"));
        let lower = good.replace("Basic", "basic");
        let wrong = format!("Basic {}", STANDARD.encode("legacy:password"));
        for (presented, login, why) in [
            (vec![good.as_str()], Login::Good, "the account itself"),
            (vec![lower.as_str()], Login::Good, "the scheme has no case"),
            (vec![wrong.as_str()], Login::Bad, "another password"),
            (vec!["Bearer abc"], Login::Bad, "no Basic"),
            (vec!["Basic"], Login::Bad, "no credentials"),
            (vec![], Login::Bad, "no header"),
            (vec![good.as_str(), good.as_str()], Login::Repeated, "twice"),
        ] {
            let mut headers = HeaderMap::new();
            for value in presented {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(account.check(&headers), login, "{why}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let account = Account::new("legacy", "s3cret");
        let encoded = STANDARD.encode("legacy:s3cret");
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Basic {encoded}").parse().unwrap());
        let shown = format!("{account:?} {}", seen(&headers));
        assert!(shown.contains("Basic legacy:***"), "{shown}");
        assert!(
            !shown.contains("s3cret") && !shown.contains(&encoded),
            "{shown}"
        );
    }
}
