//! What do fuzz targets reach that nobody else may call? Built for them alone, with
//! `--cfg fuzzing`: parsers of foreign bytes that are private to their modules.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::config::problem::Problems;
use crate::identity::Attempt;
use crate::inspected::Inspect as _;
use crate::mqtt::Version;
use crate::mqtt::connect::Connect;
use crate::mqtt::frame::Place;
use crate::mqtt::packet::{Header, Packets, Seen};
use crate::mqtt::pattern::{Filter, Levels, Part};
use crate::mqtt::rules::{Topics, Verdict};
use crate::mqtt::shape::Shape;
use crate::mqtt::websocket::InFrames;
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
            .map(|text| Filter::new(&[Part::Written((*text).to_owned())], Levels::Slashes));
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

/// What came of a stream of WebSocket frames in which MQTT travels.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadFrames {
    /// The bytes of MQTT.
    pub data: Vec<u8>,
    /// The frames that were written for it: pongs, and a close frame.
    pub answers: Vec<u8>,
    /// Whether it broke the rules.
    pub is_broken: bool,
}

/// Reads frames that come in these pieces from a client, or else from an upstream, into a buffer of
/// this size.
#[must_use]
pub fn read_frames<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    is_from_client: bool,
    size: usize,
) -> ReadFrames {
    let wire = Wire::new(pieces);
    let written = Rc::clone(&wire.written);
    let mut frames = match is_from_client {
        true => InFrames::with_client(wire),
        false => InFrames::with_upstream(wire),
    };
    let (mut data, mut buffer) = (Vec::new(), vec![0; size.max(1)]);
    // A wire never lets anybody wait.
    let is_broken = loop {
        match frames.read(&mut buffer).now_or_never() {
            Some(Ok(count @ 1..)) => {
                data.extend_from_slice(buffer.get(..count).unwrap_or_default())
            }
            Some(Ok(0)) => break false,
            Some(Err(_)) | None => break true,
        }
    };
    let answers = written.take();
    ReadFrames {
        data,
        answers,
        is_broken,
    }
}

/// What is seen of packets in frames that pass as they are.
#[derive(Debug, PartialEq, Eq)]
pub struct SeenPackets {
    /// A packet's first byte, or how many bytes follow its header.
    pub seen: Vec<Result<u8, usize>>,
    /// How many bytes may pass.
    pub passed: usize,
    /// Whether they are no frames, or no packets.
    pub is_lost: bool,
}

/// Looks for packets through the masks of frames that come in these pieces from a client, or else
/// from an upstream.
#[must_use]
pub fn see_packets<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    is_from_client: bool,
) -> SeenPackets {
    let place = match is_from_client {
        true => Place::Server,
        false => Place::Client,
    };
    let (mut shape, mut seen, mut passed) = (Shape::framed(place), Vec::new(), 0);
    for piece in pieces {
        passed += shape.pass(piece, |what| {
            seen.push(match what {
                Seen::First(first) => Ok(first),
                Seen::Remaining(remaining) => Err(remaining),
            });
        });
    }
    SeenPackets {
        seen,
        passed,
        is_lost: shape.is_lost(),
    }
}

/// The frames in which these pieces go to a client, or else to an upstream, and a close frame.
/// Nothing if they cannot be written.
#[must_use]
pub fn write_frames<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    is_to_client: bool,
) -> Option<Vec<u8>> {
    let wire = Wire::new([]);
    let written = Rc::clone(&wire.written);
    let mut frames = match is_to_client {
        true => InFrames::with_client(wire),
        false => InFrames::with_upstream(wire),
    };
    for piece in pieces {
        frames.write_all(piece).now_or_never()?.ok()?;
    }
    frames.shutdown().now_or_never()?.ok()?;
    Some(written.take())
}

/// Pieces to be read, and what was written.
struct Wire {
    pieces: VecDeque<Vec<u8>>,
    written: Rc<RefCell<Vec<u8>>>,
}

impl Wire {
    fn new<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        Self {
            pieces: pieces.map(<[u8]>::to_vec).collect(),
            written: Rc::default(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
