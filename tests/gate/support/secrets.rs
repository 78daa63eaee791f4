//! Secrets that a test used, in every form in which one could be left behind, and where one is.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// What is looked for, each with a name that a failure can show.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// A password, key or opaque token: as it is and percent-encoded.
    pub(crate) fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 16, "{name} is found by chance");
        self.push(name, secret.as_bytes());
        let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        if encoded != secret {
            self.push(&format!("{name}, percent-encoded"), encoded.as_bytes());
        }
    }

    /// A name and password: the password, and both as Basic credentials.
    pub(crate) fn add_pair(&mut self, name: &str, username: &str, password: &str) {
        self.add(name, password);
        let pair = STANDARD.encode(format!("{username}:{password}"));
        self.push(
            &format!("{name}, as Basic"),
            pair.trim_end_matches('=').as_bytes(),
        );
    }

    /// A JWT: its signature, without which it is worth nothing, as text and as bytes; and the text
    /// of its claims, from which the rest could be made.
    pub(crate) fn add_token(&mut self, name: &str, token: &str) {
        let mut parts = token.split('.').skip(1);
        let (claims, signature) = (parts.next().unwrap(), parts.next().unwrap());
        self.push(&format!("{name}, signature"), signature.as_bytes());
        for (what, part) in [("claims", claims), ("signature in bytes", signature)] {
            if let Ok(bytes) = URL_SAFE_NO_PAD.decode(part) {
                self.push(&format!("{name}, {what}"), &bytes);
            }
        }
        self.push(&format!("{name}, claims as sent"), claims.as_bytes());
    }

    fn push(&mut self, name: &str, bytes: &[u8]) {
        self.0.push((name.to_owned(), bytes.to_vec()));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of those that are in these bytes.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let found = self
            .0
            .iter()
            .filter(|(_, secret)| Finder::new(secret).find(bytes).is_some());
        found.map(|(name, _)| name.as_str()).collect()
    }

    /// The names of those that are in the memory of a process, each with the mappings where it is.
    pub(crate) fn found_in_memory(&self, process: u32) -> BTreeSet<String> {
        let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        let memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let longest = self
            .0
            .iter()
            .map(|(_, secret)| secret.len())
            .max()
            .unwrap_or(0);
        let finders: Vec<_> = self
            .0
            .iter()
            .map(|(name, secret)| (name, Finder::new(secret)))
            .collect();
        let mut found = BTreeSet::new();
        let mut buffer = vec![0; WINDOW + longest];
        let blank = buffer.clone();
        for mapping in maps.lines().filter(|line| is_readable(line)) {
            let (range, rest) = mapping.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            let (mut at, end) = (address(start), address(end));
            while at < end {
                let length = usize::try_from(end - at).unwrap().min(buffer.len());
                // A mapping may be gone by now.
                let count = memory.read_at(&mut buffer[..length], at).unwrap_or(0);
                let window = &buffer[..count];
                if *window != blank[..count] {
                    let inside = finders
                        .iter()
                        .filter(|(_, finder)| finder.find(window).is_some());
                    let kind = rest.split_whitespace().nth(4).unwrap_or("no name");
                    found.extend(inside.map(|(name, _)| format!("{name} ({kind})")));
                }
                at += WINDOW as u64;
            }
        }
        found
    }
}

/// What in a text has the form of a secret, whosever it is: a JWT's beginning, or Basic credentials.
/// Every gate's log is searched so when its test ends.
pub(crate) fn shaped_like_one(text: &str) -> Option<&str> {
    let is_other = |letter: char| !letter.is_ascii_alphanumeric() && !"-_+/=".contains(letter);
    let forms = [("eyJ", 12), ("Basic ", 8), ("basic ", 8)];
    // A JSON object in base64 begins with `eyJ`.
    forms.into_iter().find_map(|(start, least)| {
        let rests = text.split(start).skip(1);
        let mut secrets = rests.map(|rest| rest.split(is_other).next().unwrap_or_default());
        secrets.find(|secret| secret.len() >= least)
    })
}

#[test]
fn the_form_of_a_secret_is_known() {
    let token = super::tokens::sign(&super::tokens::claims());
    for text in [
        &format!("\"path\":\"/a?x={token}\""),
        "Authorization: Basic Z2F0ZTpzM2NyZXQ=",
    ] {
        assert!(shaped_like_one(text).is_some(), "{text}");
    }
    for text in ["eyJ", "Basic auth", "Basic, of course", ""] {
        assert_eq!(shaped_like_one(text), None);
    }
}

/// Bytes that are looked at together; what lies across a border is in both windows.
const WINDOW: usize = 1024 * 1024;

/// Whether a line of `/proc/PID/maps` is memory of the process's own: readable, and none of the
/// kernel's pages.
fn is_readable(mapping: &str) -> bool {
    let permissions = mapping.split_whitespace().nth(1).unwrap();
    permissions.starts_with('r') && !mapping.contains("[vvar") && !mapping.contains("[vsyscall")
}
