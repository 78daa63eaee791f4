//! Where does a browser go once it is logged in? To a path of this very host, whatever was asked.

use http::uri::PathAndQuery;

use crate::dialect::wire::form_pairs;
use crate::page::field;

/// A path, with its query, that no browser takes for another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way(String);

impl Way {
    /// The one that a query asks for, or the host's root.
    pub(super) fn asked_for(query: Option<&str>) -> Self {
        let mut pairs = form_pairs(query.unwrap_or_default()).flatten();
        let asked = pairs.find(|(name, _)| name == field::RETURN);
        Self::parse(&asked.map(|(_, value)| value).unwrap_or_default())
    }

    /// This one if it is one, else the host's root. Browsers take `\` for `/` and leave out tabs
    /// and line ends (URL standard, section 4.4), so nothing but printable ASCII without it is
    /// taken; and two slashes at the start are a host.
    pub(super) fn parse(text: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        let is_way = text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= MAX
            && text.bytes().all(is_plain)
            && PathAndQuery::try_from(text).is_ok_and(|parsed| parsed.as_str() == text);
        match is_way {
            true => Self(text.to_owned()),
            false => Self("/".to_owned()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest that is remembered, in bytes: it stands in a cookie while an external issuer is
/// asked.
const MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::Way;

    #[test]
    fn a_way_stays_on_this_host() {
        for way in ["/", "/ui/", "/ui?a=b&c=%2F", "/a//b", "/%09/x", "/a:b@c"] {
            assert_eq!(Way::parse(way).as_str(), way);
        }
        for text in [
            "",
            "ui",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " /ui",
            "/a b",
            "https://evil.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "/a\r\nset-cookie: x",
            "/\u{e4}",
            "/a#//b",
            &format!("/{}", "x".repeat(1024)),
        ] {
            assert_eq!(Way::parse(text).as_str(), "/", "{text}");
        }
        let asked = |query| Way::asked_for(Some(query)).0;
        assert_eq!(asked("x=1&return=%2Fui%3Fa%3Db"), "/ui?a=b");
        assert_eq!(asked("return=%2F%2Fevil.example"), "/");
        assert_eq!(asked("return=/a&return=//b"), "/a");
        assert_eq!(asked(""), "/");
    }
}
