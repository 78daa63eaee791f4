//! What do fuzz targets reach that nobody else may call? Built for them alone, with
//! `--cfg fuzzing`: parsers of foreign bytes that are private to their modules.

use std::cell::Cell;
use std::rc::Rc;

use crate::config::problem::Problems;
use crate::endpoint::basic;
use crate::identity::Attempt;
use crate::inspected::Inspect as _;
use crate::server::frames::Frames;
use crate::server::peer::TrustedProxies;
use crate::server::shed::Cut;
use crate::token::issuer::jwks::KeySet;
use crate::token::keys::KeyAlgorithm;

/// Counts an HTTP/2 client's frames as its bytes come in these pieces: after how many bytes read
/// the connection is given up, and whether for resets; nothing if it is not.
#[must_use]
pub fn count_frames<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    most_resets: u32,
    most_others: u32,
) -> Option<(usize, bool)> {
    let excess = Rc::new(Cell::new(None));
    let mut frames = Frames::new(
        most_resets,
        most_others,
        Rc::clone(&excess),
        Box::new(|_| ()),
    );
    let mut read = 0;
    for piece in pieces {
        read += piece.len();
        if frames.inspect(&mut piece.to_vec()).is_err() {
            return Some((read, excess.get() == Some(Cut::Http2Resets)));
        }
    }
    None
}

/// The name and password of a pair by Basic.
#[must_use]
pub fn read_basic(pair: &str) -> Option<Attempt> {
    basic::parse(pair)
}

/// What an issuer's JWK set holds: id and algorithm of the keys that are used, and how many are
/// not; nothing if it is none.
#[must_use]
pub fn read_jwks(json: &[u8], allowed: &[KeyAlgorithm]) -> Option<(Vec<PublishedKey>, usize)> {
    let set = KeySet::parse(json, allowed).ok()?;
    let keys = set.keys.iter().map(|public| PublishedKey {
        id: public.key.id.clone(),
        algorithm: public.key.algorithm,
        is_found: set
            .find(Some(&public.key.id))
            .is_some_and(|found| std::ptr::eq(found, &public.key)),
        verifies_noise: public.key.verifies(b"noise", "bm9pc2U"),
    });
    Some((keys.collect(), set.skipped.len()))
}

/// A key of a JWK set.
#[derive(Debug)]
pub struct PublishedKey {
    /// The id; empty if it has none.
    pub id: String,
    /// The algorithm.
    pub algorithm: KeyAlgorithm,
    /// Whether its id leads to it and no other.
    pub is_found: bool,
    /// Whether it takes noise for its signature.
    pub verifies_noise: bool,
}

/// Networks whose word counts; nothing if one of the texts is none, or too large a one.
#[must_use]
pub fn read_networks(texts: &[String]) -> Option<TrustedProxies> {
    let mut problems = Problems::default();
    let proxies = TrustedProxies::build(texts, false, "listeners[0]", &mut problems);
    problems.is_empty().then_some(proxies)
}
