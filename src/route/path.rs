//! Which path is asked for? One decoded form to judge; the raw bytes go upstream untouched.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::refusal::Reason;

/// A form of path that back ends read differently. Refused unless the route allows that form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathForm {
    /// `%2F` inside a segment, as RabbitMQ's default virtual host.
    EncodedSlash,
    /// `%25` before two hexadecimal digits, in any spelling: decoded twice, it is another path.
    DoubleEncoding,
    /// `//`, which some back ends merge.
    EmptySegment,
    /// `%3F` or `%23`, which begin a query or fragment for back ends that parse what they decoded.
    EncodedDelimiter,
    /// `;`, after which some back ends stop reading a segment.
    PathParameter,
    /// A segment that ends with a dot or a space, which some back ends cut off.
    TrailingDot,
}

/// A set of [`PathForm`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathForms(u8);

impl PathForms {
    const fn bit(form: PathForm) -> u8 {
        1 << form as u8
    }

    const fn add(&mut self, form: PathForm) {
        self.0 |= Self::bit(form);
    }

    /// Whether every form of this set is also in `allowed`.
    #[must_use]
    pub const fn within(self, allowed: Self) -> bool {
        self.0 & !allowed.0 == 0
    }
}

impl FromIterator<PathForm> for PathForms {
    fn from_iter<I: IntoIterator<Item = PathForm>>(forms: I) -> Self {
        let mut set = Self::default();
        forms.into_iter().for_each(|form| set.add(form));
        set
    }
}

/// Proof that a path has exactly one reading, but for the forms that it admits to have.
#[derive(Clone, Copy, Debug)]
pub struct CanonicalPath<'a> {
    raw: &'a str,
    forms: PathForms,
    is_encoded: bool,
}

impl<'a> CanonicalPath<'a> {
    /// Parses the raw path of a request's target.
    ///
    /// # Errors
    /// [`Reason::AmbiguousPath`] for what no route can allow: dot segments in any spelling,
    /// backslashes, control characters, broken percent-encoding, text that is not UTF-8;
    /// [`Reason::AmbiguousRequest`] for what is no path.
    pub fn parse(raw: &'a str) -> Result<Self, Reason> {
        let body = raw.strip_prefix('/').ok_or(Reason::AmbiguousRequest)?;
        let mut path = Self {
            raw: body,
            forms: PathForms::default(),
            is_encoded: false,
        };
        if is_plain(body) {
            return Ok(path);
        }
        path.judge_all()?;
        Ok(path)
    }

    fn judge_all(&mut self) -> Result<(), Reason> {
        self.is_encoded = self.raw.contains('%');
        let last = self.raw.matches('/').count();
        for (index, segment) in self.raw.split('/').enumerate() {
            self.judge(segment, index == last)?;
        }
        Ok(())
    }

    /// The forms that a route must allow for this path to pass.
    #[must_use]
    pub const fn forms(&self) -> PathForms {
        self.forms
    }

    /// The decoded segments, split where the raw path has a `/`.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        let is_encoded = self.is_encoded;
        self.raw.split('/').map(move |segment| {
            if is_encoded {
                decode(segment)
            } else {
                segment.into()
            }
        })
    }

    /// The raw path, without its leading slash.
    #[must_use]
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    fn judge(&mut self, segment: &str, is_last: bool) -> Result<(), Reason> {
        if segment.is_empty() && !is_last {
            self.forms.add(PathForm::EmptySegment);
        }
        let decoded = if self.is_encoded {
            self.judge_encoding(segment)?
        } else {
            segment.into()
        };
        if decoded
            .bytes()
            .any(|byte| byte.is_ascii_control() || byte == b'\\')
        {
            return Err(Reason::AmbiguousPath);
        }
        if decoded.contains(['?', '#']) {
            self.forms.add(PathForm::EncodedDelimiter);
        }
        if decoded.contains(';') {
            self.forms.add(PathForm::PathParameter);
        }
        // Some back ends cut parameters off before they look for dots.
        let is_dots = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
        if decoded.split('/').any(is_dots) {
            return Err(Reason::AmbiguousPath);
        }
        if decoded
            .split(['/', ';'])
            .any(|part| part.ends_with(['.', ' ']))
        {
            self.forms.add(PathForm::TrailingDot);
        }
        Ok(())
    }

    fn judge_encoding<'s>(&mut self, segment: &'s str) -> Result<Cow<'s, str>, Reason> {
        let mut rest = segment;
        while let Some((_, after)) = rest.split_once('%') {
            let digits = after.get(..2).ok_or(Reason::AmbiguousPath)?;
            if !is_hex(digits) {
                return Err(Reason::AmbiguousPath);
            }
            rest = after.get(2..).unwrap_or_default();
            if digits.eq_ignore_ascii_case("2f") {
                self.forms.add(PathForm::EncodedSlash);
            }
        }
        let decoded = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| Reason::AmbiguousPath)?;
        // Its digits may be encoded as well: `%25%32e`.
        let is_encoded = |at: usize| decoded.get(at + 1..at + 3).is_some_and(is_hex);
        if decoded.match_indices('%').any(|(at, _)| is_encoded(at)) {
            self.forms.add(PathForm::DoubleEncoding);
        }
        Ok(decoded)
    }
}

/// Whether nothing here has to be judged: no empty segment but the last, and no byte that encodes,
/// separates parameters or could be part of a dot segment.
fn is_plain(body: &str) -> bool {
    let mut before = b'/';
    body.bytes().all(|byte| {
        let is_plain = match byte {
            b'/' => before != b'/',
            _ => byte.is_ascii_alphanumeric() || b"-_~:@!$&'()*+,=".contains(&byte),
        };
        before = byte;
        is_plain
    })
}

/// Decodes a segment of a path or pattern.
#[must_use]
pub(super) fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{CanonicalPath, PathForm, PathForms, is_plain};
    use crate::refusal::Reason;

    #[test]
    fn what_no_route_can_allow_is_refused() {
        for raw in [
            "/a/../b",
            "/a/./b",
            "/..",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a%2f..%2fb",
            "/a\\b",
            "/a%5Cb",
            "/a%00",
            "/a%0d%0a",
            "/%zz",
            "/%2",
            "/%",
            "/%ff",
            "/a/..;x/b",
            "/a/.;/b",
        ] {
            assert!(
                matches!(CanonicalPath::parse(raw), Err(Reason::AmbiguousPath)),
                "{raw}"
            );
        }
        assert!(matches!(
            CanonicalPath::parse("*"),
            Err(Reason::AmbiguousRequest)
        ));
    }

    #[test]
    fn ambiguous_forms_are_named() {
        for (raw, form) in [
            ("/a/%2F/b", PathForm::EncodedSlash),
            ("/a%2fb", PathForm::EncodedSlash),
            ("/a%252Fb", PathForm::DoubleEncoding),
            ("/a/%25%32e%25%32%65/b", PathForm::DoubleEncoding),
            ("/a//b", PathForm::EmptySegment),
            ("//a", PathForm::EmptySegment),
            ("/a;b=c", PathForm::PathParameter),
            ("/a%3Bb", PathForm::PathParameter),
            ("/a%3fb", PathForm::EncodedDelimiter),
            ("/%23", PathForm::EncodedDelimiter),
            ("/a./b", PathForm::TrailingDot),
            ("/a/b...", PathForm::TrailingDot),
            ("/a%2e", PathForm::TrailingDot),
            ("/a%20/b", PathForm::TrailingDot),
        ] {
            let forms = CanonicalPath::parse(raw).unwrap().forms();
            assert_eq!(forms, PathForms::from_iter([form]), "{raw}");
        }
    }

    #[test]
    fn what_is_passed_at_one_look_would_pass_the_judgement() {
        let parts = (0..=0x7f_u8).map(char::from).map(String::from);
        let parts = parts.chain(["//", "a//", "/.", "./", "..", "%2e", "\u{e4}"].map(String::from));
        let mut passed = 0;
        for part in parts {
            for body in [format!("a/{part}/b"), format!("a{part}b"), part.clone()] {
                if !is_plain(&body) {
                    continue;
                }
                passed += 1;
                let mut path = CanonicalPath {
                    raw: &body,
                    forms: PathForms::default(),
                    is_encoded: false,
                };
                assert!(path.judge_all().is_ok(), "{body}");
                assert_eq!(path.forms, PathForms::default(), "{body}");
            }
        }
        assert!(passed > 200, "{passed}");
    }

    #[test]
    fn plain_paths_have_no_forms() {
        for raw in [
            "/",
            "/a",
            "/a/",
            "/a/b%20c",
            "/%C3%A4",
            "/a...b/..c",
            "/100%25",
            "/a%3Ab",
        ] {
            assert_eq!(
                CanonicalPath::parse(raw).unwrap().forms(),
                PathForms::default(),
                "{raw}"
            );
        }
    }
}
