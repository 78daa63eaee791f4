//! How do packets stand in the bytes of one direction? Plainly, or in a WebSocket's frames that go
//! from one end to the other as they are: only packets' headers are unmasked, and no payload.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;

use super::frame::{Frames, Kind, Place, write};
use super::packet::{Packets, Seen};

/// Follows packets, in a few bytes of memory.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Plain(Packets),
    Framed(Framed),
}

/// Packets in frames.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    frames: Frames,
    packets: Packets,
    /// A close frame has passed.
    has_ended: bool,
    /// What came are no frames.
    is_lost: bool,
}

impl Shape {
    pub(super) fn plain() -> Self {
        Self::Plain(Packets::default())
    }

    /// As they come to the gate, which is this end of them.
    pub(crate) fn framed(place: Place) -> Self {
        Self::Framed(Framed {
            frames: Frames::new(place),
            packets: Packets::default(),
            has_ended: false,
            is_lost: false,
        })
    }

    /// Goes on to where a packet of the gate's own could stand, and tells what packets begin before
    /// that. How many of the bytes it takes.
    pub(super) fn advance(&mut self, bytes: &[u8], mut see: impl FnMut(Seen)) -> usize {
        match self {
            Self::Plain(packets) => walk(packets, bytes, see),
            Self::Framed(framed) => {
                let mut taken = 0;
                while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
                    taken += framed.step(rest, &mut see);
                    if framed.is_between() || framed.has_ended {
                        break;
                    }
                }
                taken
            }
        }
    }

    /// Goes on over all of these bytes, or to where a close frame ends. How many that are.
    pub(crate) fn pass(&mut self, bytes: &[u8], mut see: impl FnMut(Seen)) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.has_ended() {
                break;
            }
            taken += self.advance(rest, &mut see);
        }
        taken
    }

    /// Whether a packet of the gate's own could be put in here.
    pub(super) fn is_between(&self) -> bool {
        match self {
            Self::Plain(packets) => packets.is_between(),
            Self::Framed(framed) => framed.is_between(),
        }
    }

    /// Whether what came is no MQTT.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Plain(packets) => packets.is_lost(),
            Self::Framed(framed) => framed.is_lost || framed.packets.is_lost(),
        }
    }

    /// Whether a close frame has passed, behind which nothing counts.
    pub(crate) const fn has_ended(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Framed(framed) => framed.has_ended,
        }
    }

    /// These packets as they stand on the way that this goes.
    ///
    /// # Errors
    /// If there are no random bytes for a key.
    pub(super) fn dress<'a>(&self, packets: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        match self {
            Self::Framed(framed) if !packets.is_empty() => framed.frame(Kind::Data, packets),
            _ => Ok(packets.into()),
        }
    }

    /// A close frame with this code of RFC 6455 section 7.4.1, if one has a place here.
    ///
    /// # Errors
    /// As of [`Shape::dress`].
    pub(super) fn close(&self, code: u16) -> io::Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Framed(framed) if !framed.is_over() && framed.frames.is_between() => {
                framed.frame(Kind::Close, &code.to_be_bytes()).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl Framed {
    const fn is_over(&self) -> bool {
        self.has_ended || self.is_lost
    }

    fn is_between(&self) -> bool {
        !self.is_over() && self.frames.is_between_messages() && self.packets.is_between()
    }

    fn frame(&self, kind: Kind, payload: &[u8]) -> io::Result<Cow<'static, [u8]>> {
        let mut frame = Vec::new();
        write(kind, payload, self.frames.place.other(), &mut frame)?;
        Ok(frame.into())
    }

    /// Goes on over some of these bytes, which are not none; how many.
    fn step(&mut self, bytes: &[u8], see: impl FnMut(Seen)) -> usize {
        if self.is_over() {
            return bytes.len();
        }
        let taken = if self.frames.left == 0 {
            match self.frames.take_head(bytes) {
                Ok((taken, false)) => return taken,
                Ok((taken, true)) => taken,
                Err(_) => {
                    self.is_lost = true;
                    return bytes.len();
                }
            }
        } else {
            let left = usize::try_from(self.frames.left).unwrap_or(usize::MAX);
            let there = bytes.get(..left).unwrap_or(bytes);
            let taken = match self.frames.kind {
                Kind::Data => self.look(there, see),
                Kind::Close | Kind::Ping | Kind::Pong => there.len(),
            };
            self.frames.left -= taken as u64;
            taken
        };
        self.has_ended = self.frames.left == 0 && self.frames.kind == Kind::Close;
        taken
    }

    /// Goes on over some of these bytes of packets; how many.
    fn look(&mut self, bytes: &[u8], see: impl FnMut(Seen)) -> usize {
        let ahead = self.packets.ahead();
        if ahead > 0 {
            // Nobody looks at these: they stay masked.
            let there = bytes.get(..ahead).unwrap_or(bytes);
            let taken = walk(&mut self.packets, there, see);
            self.frames.mask.skip(taken);
            return taken;
        }
        let mut byte = bytes.first().copied().unwrap_or_default();
        self.frames.mask.apply(std::slice::from_mut(&mut byte));
        walk(&mut self.packets, &[byte], see)
    }
}

fn walk(packets: &mut Packets, bytes: &[u8], mut see: impl FnMut(Seen)) -> usize {
    let walked = packets.advance(bytes, |seen| {
        see(seen);
        Ok::<_, Infallible>(())
    });
    match walked {
        Ok(taken) => taken,
    }
}
