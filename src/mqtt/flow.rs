//! How do packets get from one end to the other while a session lasts? One direction each, with as
//! few bytes held as there are on their way.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::answer::Goodbye;
use super::packet::{Header, Malformed, Packets, Seen, kind};
use super::rules::{Denied, Topics, Verdict};

/// Why a direction ended, if not since its source did.
#[derive(Debug)]
pub(super) enum Stop {
    /// A socket failed.
    Broken,
    /// The client did what it may not.
    Refused(Option<Denied>, Goodbye),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// What waits to be put in between two packets to the client.
#[derive(Debug, Default)]
pub(super) struct Inserts {
    bytes: RefCell<Vec<u8>>,
    come: Notify,
}

impl Inserts {
    /// Nothing if too much waits already: the client does not take its answers.
    fn add(&self, packet: &[u8]) -> Option<()> {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + packet.len() > MOST_INSERTS {
            return None;
        }
        bytes.extend_from_slice(packet);
        self.come.notify_one();
        Some(())
    }

    fn take(&self) -> Vec<u8> {
        self.bytes.take()
    }
}

/// The most bytes of answers that wait for a client.
const MOST_INSERTS: usize = 64 * 1024;

/// What was read and is not written yet. It grows while much comes at once and shrinks again, so
/// that sessions that are idle hold little.
#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    held: Range<usize>,
    /// How many reads in a row a small buffer would have been enough for.
    small: u8,
}

impl Buffer {
    fn new(first: &[u8]) -> Self {
        let mut bytes = vec![0; first.len().max(SMALL)].into_boxed_slice();
        let held = 0..first.len();
        if let Some(place) = bytes.get_mut(held.clone()) {
            place.copy_from_slice(first);
        }
        Self {
            bytes,
            held,
            small: 0,
        }
    }

    fn held(&self) -> &[u8] {
        self.bytes.get(self.held.clone()).unwrap_or_default()
    }

    /// Reads once if nothing is held; whether anything is then. May be dropped at any time.
    async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        if self.held.is_empty() {
            let count = from.read(&mut self.bytes).await?;
            self.held = 0..count;
            self.fit(count);
        }
        Ok(!self.held.is_empty())
    }

    fn fit(&mut self, count: usize) {
        let size = self.bytes.len();
        if count == size && size < LARGE {
            let mut larger = vec![0; LARGE].into_boxed_slice();
            if let Some(place) = larger.get_mut(..count) {
                place.copy_from_slice(self.held());
            }
            (self.bytes, self.small) = (larger, 0);
        } else if size > SMALL && count < SMALL {
            self.small = self.small.saturating_add(1);
            if self.small >= PATIENCE {
                self.bytes = self.bytes.get(..SMALL).unwrap_or_default().into();
                self.small = 0;
            }
        } else {
            self.small = 0;
        }
    }
}

/// What a buffer holds of a session with little to say, in bytes.
const SMALL: usize = 512;
/// What it holds of one with much to say.
const LARGE: usize = 16 * 1024;
/// How many small reads in a row make a buffer small again.
const PATIENCE: u8 = 32;

/// From the client to the upstream.
#[derive(Debug)]
pub(super) struct Up<R, W> {
    from: R,
    pub(super) to: W,
    buffer: Buffer,
    packets: Packets,
    most: usize,
    pub(super) count: Cell<u64>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Up<R, W> {
    /// `first` came behind CONNECT already; a packet may have so many bytes.
    pub(super) fn new(from: R, to: W, first: &[u8], most: usize) -> Self {
        Self {
            from,
            to,
            buffer: Buffer::new(first),
            packets: Packets::default(),
            most,
            count: Cell::new(0),
        }
    }

    /// Copies until the client ends.
    pub(super) async fn copy(&mut self) -> Result<(), Stop> {
        while self.buffer.fill(&mut self.from).await? {
            look(&mut self.packets, self.buffer.held(), self.most)?;
            while !self.buffer.held.is_empty() {
                let count = self.to.write(self.buffer.held()).await?;
                if count == 0 {
                    return Err(Stop::Broken);
                }
                self.buffer.held.start += count;
                self.count.set(self.count.get() + count as u64);
            }
            self.to.flush().await?;
        }
        Ok(())
    }

    /// As [`Up::copy`], one packet after the other, each judged.
    pub(super) async fn filter(
        &mut self,
        topics: &mut Topics,
        inserts: &Inserts,
        tell: impl Fn(Denied),
    ) -> Result<(), Stop> {
        let mut packet = Vec::new();
        while self.buffer.fill(&mut self.from).await? {
            let mut rest = self.buffer.held();
            let mut good = Vec::new();
            while !rest.is_empty() {
                let most = self.most;
                let taken = self.packets.advance(rest, |seen| allow(seen, most))?;
                packet.extend_from_slice(rest.get(..taken).unwrap_or_default());
                rest = rest.get(taken..).unwrap_or_default();
                if self.packets.is_lost() {
                    return Err(Stop::Refused(None, Goodbye::ProtocolError));
                }
                if !self.packets.is_between() {
                    continue;
                }
                let header = Header::parse(&packet).ok().flatten();
                let header = header.ok_or(Stop::Broken)?;
                match topics.judge(&packet, header) {
                    Verdict::Pass => good.append(&mut packet),
                    Verdict::Answer(denied, answer) => {
                        tell(denied);
                        inserts.add(&answer).ok_or(Stop::Broken)?;
                        packet.clear();
                    }
                    Verdict::End(denied, goodbye) => {
                        denied.into_iter().for_each(&tell);
                        // What was good before it has been sent by an honest client.
                        self.to.write_all(&good).await?;
                        self.to.flush().await?;
                        return Err(Stop::Refused(denied, goodbye));
                    }
                }
            }
            self.buffer.held = 0..0;
            self.to.write_all(&good).await?;
            self.to.flush().await?;
            self.count.set(self.count.get() + good.len() as u64);
        }
        Ok(())
    }

    /// Reads to the end, and passes nothing on.
    pub(super) async fn drop_all(&mut self) -> io::Result<()> {
        while self.from.read(&mut self.buffer.bytes).await? > 0 {}
        Ok(())
    }
}

/// Judges what begins in these bytes before any of them goes on.
fn look(packets: &mut Packets, bytes: &[u8], most: usize) -> Result<(), Stop> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = packets.advance(rest, |seen| allow(seen, most))?;
        rest = rest.get(taken..).unwrap_or_default();
    }
    match packets.is_lost() {
        true => Err(Stop::Refused(None, Goodbye::ProtocolError)),
        false => Ok(()),
    }
}

/// A second CONNECT would bring credentials of the client's own, as would AUTH (MQTT 5.0 sections
/// 3.1 and 3.15): an upstream must not be asked whether it takes them.
const fn allow(seen: Seen, most: usize) -> Result<(), Stop> {
    match seen {
        Seen::First(first) => match first >> 4 {
            0 | kind::CONNECT | kind::CONNACK | kind::AUTH => {
                Err(Stop::Refused(None, Goodbye::ProtocolError))
            }
            _ => Ok(()),
        },
        Seen::Remaining(remaining) if remaining > most => {
            Err(Stop::Refused(None, Goodbye::PacketTooLarge))
        }
        Seen::Remaining(_) => Ok(()),
    }
}

/// From the upstream to the client.
#[derive(Debug)]
pub(super) struct Down<R, W> {
    from: R,
    pub(super) to: W,
    buffer: Buffer,
    /// Of what was written.
    packets: Packets,
    pub(super) count: Cell<u64>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Down<R, W> {
    /// `first` came already.
    pub(super) fn new(from: R, to: W, first: &[u8]) -> Self {
        Self {
            from,
            to,
            buffer: Buffer::new(first),
            packets: Packets::default(),
            count: Cell::new(0),
        }
    }

    /// Writes what came already.
    pub(super) async fn begin(&mut self) -> Result<(), Stop> {
        self.write(false).await
    }

    /// Copies until the upstream ends, and puts the gate's answers in between its packets.
    pub(super) async fn copy(&mut self, inserts: &Inserts) -> Result<(), Stop> {
        loop {
            if self.packets.is_between() {
                let answers = inserts.take();
                self.put(&answers).await?;
            }
            let is_there = tokio::select! {
                biased;
                is_there = self.buffer.fill(&mut self.from) => is_there?,
                () = inserts.come.notified(), if self.packets.is_between() => continue,
            };
            if !is_there {
                return Ok(());
            }
            let waits = !inserts.bytes.borrow().is_empty();
            self.write(waits).await?;
        }
    }

    /// Copies to the end of the packet that is on its way.
    pub(super) async fn finish_packet(&mut self) -> Result<(), Stop> {
        while !self.packets.is_between() && self.buffer.fill(&mut self.from).await? {
            self.write(true).await?;
        }
        Ok(())
    }

    /// Writes what is held, or of that what belongs to the packet that is on its way.
    async fn write(&mut self, is_packet: bool) -> Result<(), Stop> {
        let held = self.buffer.held();
        let mut left = match is_packet {
            false => held.len(),
            true => {
                let taken = self
                    .packets
                    .clone()
                    .advance(held, |_| Ok::<_, Malformed>(()));
                taken.unwrap_or(held.len())
            }
        };
        while left > 0 {
            let end = self.buffer.held.start + left;
            let bytes = self.buffer.bytes.get(self.buffer.held.start..end);
            let bytes = bytes.unwrap_or_default();
            let count = self.to.write(bytes).await?;
            if count == 0 {
                return Err(Stop::Broken);
            }
            self.packets.pass(bytes.get(..count).unwrap_or_default());
            self.buffer.held.start += count;
            self.count.set(self.count.get() + count as u64);
            left -= count;
        }
        Ok(self.to.flush().await?)
    }

    /// Puts a packet of the gate's own in, if it has a place here.
    pub(super) async fn tell(&mut self, packet: &[u8]) -> Result<(), Stop> {
        match self.packets.is_between() {
            true => self.put(packet).await,
            false => Ok(()),
        }
    }

    /// Writes whole packets. Dropped in the middle, it leaves no place for another.
    async fn put(&mut self, packets: &[u8]) -> Result<(), Stop> {
        let mut rest = packets;
        while !rest.is_empty() {
            let count = self.to.write(rest).await?;
            if count == 0 {
                return Err(Stop::Broken);
            }
            self.packets.pass(rest.get(..count).unwrap_or_default());
            rest = rest.get(count..).unwrap_or_default();
        }
        match packets.is_empty() {
            true => Ok(()),
            false => Ok(self.to.flush().await?),
        }
    }
}
