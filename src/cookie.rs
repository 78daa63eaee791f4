//! Which cookies are the gate's own? They go to no upstream, and no upstream sets one.
//!
//! All have the prefix `__Host-`: a browser takes them over TLS alone, for this very host and all
//! of its paths, so that no other host can set or shadow one (RFC 6265bis section 4.1.3.2).

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// What stands for a login.
pub const SESSION: &str = "__Host-tollgate";
/// What a form of the gate's must repeat.
pub const FORM: &str = "__Host-tollgate-form";
/// What a log-in at an external issuer was begun with.
pub const FLOW: &str = "__Host-tollgate-flow";

/// The longest cookie that browsers keep, its name and value together, in bytes (RFC 6265bis, the
/// algorithm that parses `Set-Cookie`); longer ones they drop without a word.
pub const MAX: usize = 4096;

/// What every cookie of the gate's has beside `Path=/`: it goes over TLS alone, no script reads it,
/// and other sites' pages do not send it.
const GUARDS: &str = "Secure; HttpOnly; SameSite=Lax";

/// The values of every cookie of this name (RFC 6265 section 5.4), with whatever blanks and tabs
/// around it. Nothing else is white space to browsers: they would let any host beside this one set
/// a cookie whose name begins with it, prefix or not.
pub fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(pairs);
    pairs.filter_map(move |(held, value)| (held == name).then_some(value))
}

/// The value of the only cookie of this name.
#[must_use]
pub fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = values(headers, name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn pairs(value: &HeaderValue) -> impl Iterator<Item = (&str, &str)> {
    let pairs = value.as_bytes().split(|byte| *byte == b';');
    pairs.filter_map(|pair| str::from_utf8(pair.trim_ascii()).ok()?.split_once('='))
}

/// `Set-Cookie` for a cookie of the gate's, that lives so long. Nothing if the value cannot stand
/// in one.
#[must_use]
pub fn set(name: &str, value: &str, lifetime: Duration) -> Option<HeaderValue> {
    let seconds = lifetime.as_secs();
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; {GUARDS}");
    HeaderValue::from_str(&text).ok()
}

/// `Set-Cookie` for a cookie of the gate's, that lives as long as the browser runs.
#[must_use]
pub fn set_until_closed(name: &str, value: &str) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Path=/; {GUARDS}");
    HeaderValue::from_str(&text).ok()
}

/// `Set-Cookie` by which a browser forgets a cookie.
#[must_use]
pub fn forget(name: &str) -> Option<HeaderValue> {
    set(name, "", Duration::ZERO)
}

/// Whether a request has one of the gate's own cookies.
#[must_use]
pub fn has_own(headers: &HeaderMap) -> bool {
    let own = |pair: &[u8]| is_own(pair.trim_ascii_start());
    let mut values = headers.get_all(COOKIE).iter();
    values.any(|value| value.as_bytes().split(|byte| *byte == b';').any(own))
}

/// Removes the gate's own cookies from a request's; the others stay as they are. What HTTP/2 lets
/// a client take apart is put together again (RFC 9113 section 8.2.3).
pub fn remove_own(headers: &mut HeaderMap) {
    let own = |pair: &[u8]| is_own(pair.trim_ascii_start());
    let has_own = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').any(own);
    let mut values = headers.get_all(COOKIE).iter();
    let is_whole = values.next().is_none_or(|value| !has_own(value)) && values.next().is_none();
    if is_whole {
        return;
    }
    let rest: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| {
            let pairs = value.as_bytes().split(|byte| *byte == b';');
            let kept: Vec<_> = pairs.filter(|pair| !own(pair)).collect();
            HeaderValue::from_bytes(kept.join(&b';').trim_ascii()).ok()
        })
        .filter(|value| !value.is_empty())
        .collect();
    headers.remove(COOKIE);
    let rest: Vec<_> = rest.iter().map(HeaderValue::as_bytes).collect();
    if !rest.is_empty()
        && let Ok(joined) = HeaderValue::from_bytes(&rest.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Removes from an upstream's answer what would set one of the gate's own cookies. Also one
/// without a name: browsers of before RFC 6265bis sent its value as if that began with a name.
pub fn remove_set(headers: &mut HeaderMap) {
    let is_foreign = |value: &&HeaderValue| {
        let text = value.as_bytes().trim_ascii_start();
        let nameless = text.strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
        !is_own(nameless.unwrap_or(text))
    };
    let set = headers.get_all(SET_COOKIE);
    if set.iter().all(|value| is_foreign(&value)) {
        return;
    }
    let rest: Vec<_> = set.iter().filter(is_foreign).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in rest {
        headers.append(SET_COOKIE, value);
    }
}

/// Whether a pair is a cookie of the gate's, in whatever case.
fn is_own(pair: &[u8]) -> bool {
    let start = pair.get(..SESSION.len()).unwrap_or_default();
    start.eq_ignore_ascii_case(SESSION.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, SET_COOKIE};
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{SESSION, only, remove_own, remove_set, values};

    fn headers(name: &HeaderName, given: &[&'static str]) -> HeaderMap {
        let value = |text: &&'static str| (name.clone(), HeaderValue::from_static(text));
        given.iter().map(value).collect()
    }

    fn texts(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn only_the_gates_own_cookies_are_taken_out() {
        for (given, kept) in [
            (&["a=1; b=2"][..], &["a=1; b=2"][..]),
            (&["__Host-tollgate=x"], &[]),
            (&["a=1; __Host-tollgate=x; b=2"], &["a=1; b=2"]),
            (&["__Host-tollgate=x; a=1"], &["a=1"]),
            (
                &["a=1;__HOST-TOLLGATE-form=x", "__Host-tollgate-flow=y"],
                &["a=1"],
            ),
            (&["a=__Host-tollgate"], &["a=__Host-tollgate"]),
            (&["a=1;;b"], &["a=1;;b"]),
            (
                &["a=1", "b=2", "__Host-tollgate=x", "c=3"],
                &["a=1; b=2; c=3"],
            ),
        ] {
            let mut headers = headers(&COOKIE, given);
            remove_own(&mut headers);
            assert_eq!(texts(&headers, COOKIE), kept, "{given:?}");
        }
        let mut answer = headers(
            &SET_COOKIE,
            &["a=1; Path=/", " __host-tollgate=x; Path=/", "b=2"],
        );
        remove_set(&mut answer);
        assert_eq!(texts(&answer, SET_COOKIE), ["a=1; Path=/", "b=2"]);
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        let found = headers(
            &COOKIE,
            &[
                "__Host-tollgate-form=f; __Host-tollgate=s=t",
                "__host-tollgate=u",
            ],
        );
        assert_eq!(only(&found, SESSION), Some("s=t"));
        let twice = headers(&COOKIE, &["__Host-tollgate=a", "x; __Host-tollgate=b"]);
        assert_eq!(Vec::from_iter(values(&twice, SESSION)), ["a", "b"]);
        assert_eq!(only(&twice, SESSION), None);
    }
}
