//! What do fuzz targets reach that nobody else may call? Built for them alone, with
//! `--cfg fuzzing`: parsers of foreign bytes that are private to their modules.

use std::cell::Cell;
use std::rc::Rc;

use crate::config::problem::Problems;
use crate::identity::Attempt;
use crate::inspected::Inspect as _;
use crate::mqtt::Version;
use crate::mqtt::connect::Connect;
use crate::mqtt::packet::{Header, Packets};
use crate::mqtt::pattern::{Filter, Part};
use crate::mqtt::rules::{Topics, Verdict};
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
    Attempt::of_basic(pair)
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

/// What a CONNECT of MQTT says, and how it goes on.
#[derive(Debug)]
pub struct ReadConnect {
    /// The client identifier.
    pub client_id: String,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Vec<u8>>,
    /// The will's topic.
    pub will_topic: Option<String>,
    /// With the pair that was asked for.
    pub with: Vec<u8>,
    /// With none.
    pub without: Vec<u8>,
}

/// Reads a CONNECT, and writes it with this pair; nothing if it is refused.
#[must_use]
pub fn read_connect(packet: &[u8], username: &str, password: &[u8]) -> Option<ReadConnect> {
    let connect = Connect::parse(packet.to_vec()).ok()?;
    Some(ReadConnect {
        client_id: connect.client_id().to_owned(),
        username: connect.username().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        will_topic: connect.will_topic().map(str::to_owned),
        with: connect
            .with_credentials(Some((username, password)))?
            .to_vec(),
        without: connect.with_credentials(None)?.to_vec(),
    })
}

/// Where packets of MQTT end in a stream that comes in these pieces, and whether it is lost.
#[must_use]
pub fn packet_ends<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<usize>, bool) {
    let (mut packets, mut ends, mut at) = (Packets::default(), Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let taken = packets
                .advance(rest, |_| Ok::<_, ()>(()))
                .unwrap_or(rest.len());
            at += taken;
            rest = rest.get(taken..).unwrap_or_default();
            if packets.is_between() {
                ends.push(at);
            }
        }
    }
    (ends, packets.is_lost())
}

/// Whether a whole packet of a client passes rules that allow these filters: nothing if it ends the
/// session, or is not whole.
#[must_use]
pub fn judge_topics(level: u8, allowed: &[&str], packet: &[u8]) -> Option<bool> {
    let version = match level {
        3 => Version::V31,
        4 => Version::V311,
        _ => Version::V5,
    };
    let filters = || {
        let filters = allowed
            .iter()
            .map(|text| Filter::new(&[Part::Written((*text).to_owned())]));
        Some(filters.collect())
    };
    let header = Header::parse(packet).ok().flatten()?;
    if header.whole() != packet.len() {
        return None;
    }
    match Topics::new(version, filters(), filters()).judge(packet, header) {
        Verdict::Pass => Some(true),
        Verdict::Answer(..) => Some(false),
        Verdict::End(..) => None,
    }
}
