//! How do packets get from one end to the other while a session lasts? One direction each, with as
//! few bytes held as there are on their way.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::answer::Goodbye;
use super::packet::{Header, Packets, Seen, kind};
use super::rules::{Denied, Topics, Verdict};
use super::shape::Shape;

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
    to: W,
    buffer: Buffer,
    /// Of what was read.
    shape: Shape,
    most: usize,
    pub(super) count: Cell<u64>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Up<R, W> {
    /// `first` came behind CONNECT already; a packet may have so many bytes.
    pub(super) fn new((from, to): (R, W), shape: Shape, first: &[u8], most: usize) -> Self {
        Self {
            from,
            to,
            buffer: Buffer::new(first),
            shape,
            most,
            count: Cell::new(0),
        }
    }

    /// Copies until the client ends.
    pub(super) async fn copy(&mut self) -> Result<(), Stop> {
        while self.buffer.fill(&mut self.from).await? {
            let good = look(&mut self.shape, self.buffer.held(), self.most)?;
            self.buffer.held.end = self.buffer.held.start + good;
            while !self.buffer.held.is_empty() {
                let count = self.to.write(self.buffer.held()).await?;
                if count == 0 {
                    return Err(Stop::Broken);
                }
                self.buffer.held.start += count;
                self.count.set(self.count.get() + count as u64);
            }
            self.to.flush().await?;
            if self.shape.has_ended() {
                break;
            }
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
        let (mut packets, mut packet) = (Packets::default(), Vec::new());
        while self.buffer.fill(&mut self.from).await? {
            let mut rest = self.buffer.held();
            let mut good = Vec::new();
            while !rest.is_empty() {
                let most = self.most;
                let taken = packets.advance(rest, |seen| allow(seen, most))?;
                packet.extend_from_slice(rest.get(..taken).unwrap_or_default());
                rest = rest.get(taken..).unwrap_or_default();
                if packets.is_lost() {
                    return Err(Stop::Refused(None, Goodbye::ProtocolError));
                }
                if !packets.is_between() {
                    continue;
                }
                let header = Header::parse(&packet).ok().flatten();
                let header = header.ok_or(Stop::Broken)?;
                match topics.judge(&packet, header) {
                    Verdict::Pass if good.is_empty() => good = std::mem::take(&mut packet),
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
            // What a large packet took is not kept for the next.
            if packet.is_empty() && packet.capacity() > LARGE {
                packet = Vec::new();
            }
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub(super) async fn close(&mut self, code: u16) -> io::Result<()> {
        if self.buffer.held.is_empty()
            && let Some(frame) = self.shape.close(code)?
        {
            self.to.write_all(&frame).await?;
        }
        self.to.shutdown().await
    }

    /// Reads to the end, and passes nothing on.
    pub(super) async fn drop_all(&mut self) -> io::Result<()> {
        while !self.shape.has_ended() {
            let count = self.from.read(&mut self.buffer.bytes).await?;
            if count == 0 {
                break;
            }
            let bytes = self.buffer.bytes.get(..count).unwrap_or_default();
            self.shape.pass(bytes, |_| {});
        }
        Ok(())
    }
}

/// Judges what begins in these bytes before any of them goes on. How many may.
fn look(shape: &mut Shape, bytes: &[u8], most: usize) -> Result<usize, Stop> {
    let mut judged = Ok(());
    let good = shape.pass(bytes, |seen| {
        if judged.is_ok() {
            judged = allow(seen, most);
        }
    });
    judged?;
    match shape.is_lost() {
        true => Err(Stop::Refused(None, Goodbye::ProtocolError)),
        false => Ok(good),
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
    to: W,
    buffer: Buffer,
    /// Of what was written.
    shape: Shape,
    pub(super) count: Cell<u64>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Down<R, W> {
    /// `first` came already.
    pub(super) fn new((from, to): (R, W), shape: Shape, first: &[u8]) -> Self {
        Self {
            from,
            to,
            buffer: Buffer::new(first),
            shape,
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
            if self.shape.is_between() {
                let answers = inserts.take();
                self.put(&answers).await?;
            }
            let is_there = tokio::select! {
                biased;
                is_there = self.buffer.fill(&mut self.from) => is_there?,
                () = inserts.come.notified(), if self.shape.is_between() => continue,
            };
            if !is_there {
                return Ok(());
            }
            let waits = !inserts.bytes.borrow().is_empty();
            self.write(waits).await?;
            if self.shape.has_ended() {
                return Ok(());
            }
        }
    }

    /// Copies to the end of the packet that is on its way.
    pub(super) async fn finish_packet(&mut self) -> Result<(), Stop> {
        while !self.shape.is_between() && self.buffer.fill(&mut self.from).await? {
            self.write(true).await?;
        }
        Ok(())
    }

    /// Writes what is held, or of that what belongs to the packet that is on its way.
    async fn write(&mut self, is_packet: bool) -> Result<(), Stop> {
        let held = self.buffer.held();
        let mut left = match is_packet {
            false => held.len(),
            true => self.shape.clone().advance(held, |_| {}),
        };
        while left > 0 {
            let end = self.buffer.held.start + left;
            let bytes = self.buffer.bytes.get(self.buffer.held.start..end);
            let bytes = bytes.unwrap_or_default();
            let count = self.to.write(bytes).await?;
            if count == 0 {
                return Err(Stop::Broken);
            }
            self.shape
                .pass(bytes.get(..count).unwrap_or_default(), |_| {});
            self.buffer.held.start += count;
            self.count.set(self.count.get() + count as u64);
            left -= count;
        }
        Ok(self.to.flush().await?)
    }

    /// Says that nothing follows.
    pub(super) async fn close(&mut self, code: u16) -> io::Result<()> {
        if let Some(frame) = self.shape.close(code)? {
            self.to.write_all(&frame).await?;
        }
        self.to.shutdown().await
    }

    /// Puts a packet of the gate's own in, if it has a place here.
    pub(super) async fn tell(&mut self, packet: &[u8]) -> Result<(), Stop> {
        match self.shape.is_between() {
            true => self.put(packet).await,
            false => Ok(()),
        }
    }

    /// Writes whole packets. Dropped in the middle, it leaves no place for another.
    async fn put(&mut self, packets: &[u8]) -> Result<(), Stop> {
        let dressed = self.shape.dress(packets)?;
        let mut rest = &*dressed;
        while !rest.is_empty() {
            let count = self.to.write(rest).await?;
            if count == 0 {
                return Err(Stop::Broken);
            }
            self.shape
                .pass(rest.get(..count).unwrap_or_default(), |_| {});
            rest = rest.get(count..).unwrap_or_default();
        }
        match packets.is_empty() {
            true => Ok(()),
            false => Ok(self.to.flush().await?),
        }
    }
}
