//! Which trace does a request belong to? Trace Context, level 1:
//! <https://www.w3.org/TR/trace-context-1/>.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The id of a trace, as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub(super) u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: u64,
    pub(super) is_sampled: bool,
}

impl Parent {
    /// What the one `traceparent` says (section 3.2); nothing if there are several or it is wrong in
    /// any way.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.as_bytes()),
            _ => None,
        }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let version = hex(version, 2)?;
        let has_good_end = match version {
            0 => rest.is_empty(),
            0xff => false,
            // A later version may say more, after another dash.
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let trace = hex(trace, 32).filter(|trace| *trace != 0 && has_good_end)?;
        let span = hex(span, 16).filter(|span| *span != 0)?;
        Some(Self {
            trace: TraceId(trace),
            span: u64::try_from(span).ok()?,
            is_sampled: hex(flags, 2)? & 1 == 1,
        })
    }

    /// The same as a header's value, in version 00.
    pub(super) fn value(self) -> Option<HeaderValue> {
        let Self { trace, span, .. } = self;
        let flags = u8::from(self.is_sampled);
        HeaderValue::try_from(format!("00-{trace}-{span:016x}-{flags:02x}")).ok()
    }
}

/// The length of a `traceparent` of version 00, in bytes.
const LENGTH: usize = 55;

/// A number of exactly so many hexadecimal digits in lower case.
fn hex(digits: &[u8], count: usize) -> Option<u128> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != count || !digits.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether the `tracestate` can be read (section 3.3): at most 32 members `key=value`, no key twice.
pub(super) fn has_good_state(headers: &HeaderMap) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    let values = headers.get_all(TRACESTATE).iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for member in members {
        let trimmed = member.trim_ascii();
        if trimmed.is_empty() {
            continue;
        }
        // Only white space in front is no part of the value.
        let Some(at) = trimmed.iter().position(|byte| *byte == b'=') else {
            return false;
        };
        let (key, value) = trimmed.split_at(at);
        let value = value.split_first().map(|(_, value)| value);
        let is_good = is_key(key) && value.is_some_and(is_value);
        if !is_good || keys.contains(&key) || keys.len() == MOST_MEMBERS {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty()
}

const MOST_MEMBERS: usize = 32;
/// The longest keys and values, in bytes (sections 3.3.1.3.1 and 3.3.1.3.2).
const LONGEST: usize = 256;

fn is_key(key: &[u8]) -> bool {
    let is_rest = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &[u8], longest: usize, may_begin_with_digit: bool| {
        part.len() <= longest
            && part.first().is_some_and(|first| {
                first.is_ascii_lowercase() || may_begin_with_digit && first.is_ascii_digit()
            })
            && part.iter().all(is_rest)
    };
    let mut parts = key.split(|byte| *byte == b'@');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(key), None, _) => is_part(key, LONGEST, false),
        (Some(tenant), Some(system), None) => {
            is_part(tenant, 241, true) && is_part(system, 14, false)
        }
        _ => false,
    }
}

fn is_value(value: &[u8]) -> bool {
    let is_good = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    (1..=LONGEST).contains(&value.len()) && value.iter().all(is_good)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Parent, TRACESTATE, has_good_state};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_strictly() {
        let parse = |text: &str| {
            let text = text.replace("TRACE", TRACE).replace("SPAN", SPAN);
            Parent::parse(text.as_bytes())
        };
        for (text, is_sampled) in [
            ("00-TRACE-SPAN-00", false),
            ("00-TRACE-SPAN-01", true),
            ("00-TRACE-SPAN-fe", false),
            ("00-TRACE-SPAN-ff", true),
            ("cc-TRACE-SPAN-01", true),
            ("cc-TRACE-SPAN-01-what comes later", true),
        ] {
            let parent = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parent.is_sampled, is_sampled, "{text}");
            assert_eq!(parent.trace.to_string(), TRACE);
            assert_eq!(format!("{:016x}", parent.span), SPAN);
        }
        for text in [
            "",
            "00",
            "00-TRACE-SPAN",
            "00-TRACE-SPAN-",
            "00-TRACE-SPAN-0",
            "00-TRACE-SPAN-011",
            "00-TRACE-SPAN-01-",
            "00-TRACE-SPAN-01-more",
            "cc-TRACE-SPAN-01.more",
            "ff-TRACE-SPAN-01",
            "0-TRACE-SPAN-001",
            "00-TRACE-SPAN-0G",
            "00-TRACE-SPAN-+1",
            "00-TRACE-SPAN-0A",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-SPAN-01",
            "00-TRACE-00F067AA0BA902B7-01",
            "00-00000000000000000000000000000000-SPAN-01",
            "00-TRACE-0000000000000000-01",
            "00-SPAN-TRACE-01",
            "00_TRACE_SPAN_01",
            " 00-TRACE-SPAN-01",
            "00-TRACE-SPAN-01 ",
            "00-TRACE-SPAN-01,00-TRACE-SPAN-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_tracestate_is_a_list_of_members() {
        let is_good = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACESTATE, HeaderValue::from_str(value).unwrap());
            }
            has_good_state(&headers)
        };
        let many = |count: usize| {
            let members = (0..count).map(|index| format!("k{index}=v"));
            Vec::from_iter(members).join(",")
        };
        for good in [
            &["a=1"][..],
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"],
            &["a=1", "b=2"],
            &["a=1, ,b=2\t"],
            &["fw529a3039@dt=FfAA/x:y", "a*b/c_d-e=~"],
            &[&many(32)],
            &[&format!("{}=v", "k".repeat(256))],
        ] {
            assert!(is_good(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[""],
            &["a"],
            &["=1"],
            &["a="],
            &["a=1=2"],
            &["A=1"],
            &["1=1"],
            &["a b=1"],
            &["a=1,a=2"],
            &["a=1", "a=2"],
            &["a@b@c=1"],
            &["a@=1"],
            &["@a=1"],
            &["a@1=1"],
            &[&many(33)],
            &[&format!("{}=v", "k".repeat(257))],
            &[&format!("k={}", "v".repeat(257))],
        ] {
            assert!(!is_good(bad), "{bad:?}");
        }
    }
}
