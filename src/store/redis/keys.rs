//! Which keys does the store use in Redis? What one script touches stands in one slot of a
//! Cluster.
//!
//! Families and values are spread by their own ids; the lists of a subject's families by the
//! subject; a network's counters together; the log of revocations and the application tokens
//! each in one slot. Names of accounts stand in no key: they are hashed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::store::throttle::Counters;

/// Which version of the layout this is.
pub(super) const LAYOUT: &str = "1";

/// The names of all keys, under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    pub(super) fn layout(&self) -> String {
        self.key("layout")
    }

    pub(super) fn family(&self, id: &str) -> String {
        format!("{}family:{id}", self.0)
    }

    /// The id of the family under this key.
    pub(super) fn family_id<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.0)?.strip_prefix("family:")
    }

    /// A pattern for all families' keys.
    pub(super) fn families(&self) -> String {
        self.key("family:*")
    }

    /// The families of a subject.
    pub(super) fn subject(&self, subject: &str) -> String {
        format!("{}subject:{}", self.0, hash([subject]))
    }

    pub(super) fn value(&self, name: &str) -> String {
        format!("{}value:{name}", self.0)
    }

    /// Until when tokens live that were issued so far.
    pub(super) fn outlive(&self) -> String {
        self.key("outlive")
    }

    /// Where revocations are told.
    pub(super) fn channel(&self) -> String {
        self.key("revoked")
    }

    /// The newest place in the log of revocations.
    pub(super) fn last_revoked(&self) -> String {
        self.key("{revoked}:last")
    }

    /// The log of revocations: its places, and from when and until when each one holds.
    pub(super) fn revoked(&self) -> [String; 3] {
        ["{revoked}:log", "{revoked}:at", "{revoked}:until"].map(|name| self.key(name))
    }

    pub(super) fn application(&self, part: Part<'_>) -> String {
        match part {
            Part::Last => self.key("{application}:last"),
            Part::Tokens => self.key("{application}:tokens"),
            Part::Hashes => self.key("{application}:hashes"),
            Part::Families => self.key("{application}:families"),
            Part::Revoked => self.key("{application}:revoked"),
            Part::Texts => self.key("{application}:texts"),
            Part::Creator(creator) => {
                format!("{}{{application}}:of:{}", self.0, hash([creator]))
            }
        }
    }

    /// The counters of a network, and of an account from there if one is named.
    pub(super) fn counters(&self, counters: &Counters) -> Vec<String> {
        let source = &counters.source;
        let account = counters.account.as_ref();
        let source_key = format!("{}failed:{{{source}}}", self.0);
        let account_key = account.map(|account| format!("{source_key}:{account}"));
        [Some(source_key), account_key]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// What is kept of application tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    /// The newest number.
    Last,
    /// The tokens, by number.
    Tokens,
    /// Numbers, by hash.
    Hashes,
    /// Numbers, by family.
    Families,
    /// Numbers of those that were revoked.
    Revoked,
    /// Descriptions that were changed, by number.
    Texts,
    /// Numbers of a creator's.
    Creator(&'a str),
}

/// The SHA-256 of several parts, none of which can pass for another's end, in base64url.
fn hash<const N: usize>(parts: [&str; N]) -> String {
    let lengths = parts.iter().map(|part| format!("{}:{part},", part.len()));
    let text: String = lengths.collect();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{Keys, Part};

    #[test]
    fn no_key_has_the_name_of_an_account_in_it() {
        let keys = Keys::new("tollgate:");
        for key in [
            keys.subject("alice"),
            keys.application(Part::Creator("alice")),
        ] {
            assert!(!key.contains("alice"), "{key}");
        }
        assert_ne!(keys.subject("alice"), keys.subject("bob"));
        assert_eq!(keys.family_id(&keys.family("f1")), Some("f1"));
    }
}
