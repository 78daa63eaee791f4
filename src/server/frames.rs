//! Does an HTTP/2 client send more frames that carry nothing than anybody needs?
//!
//! Resets, pings, settings, priorities, continuations and empty data cost the client next to
//! nothing. They are counted by the nine bytes that begin each frame (RFC 9113 section 4.1); the
//! rest is skipped by count. h2 bounds what they take of memory; this bounds how many there are.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::inspected::Inspect;

/// Tells whoever asks later of what there were too many: h2 hands no error on.
pub(crate) type Excess = Rc<Cell<Option<TooMany>>>;

/// The time within which frames are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// More frames that carry nothing than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    Resets,
    ControlFrames,
}

/// Counts the frames of a client's HTTP/2 connection as they are read.
#[derive(Debug)]
pub(crate) struct Frames {
    /// For resets, and for others.
    most: [u32; 2],
    seen: [u32; 2],
    since: Instant,
    /// Bytes before the next frame's head.
    skip: usize,
    /// As much of a head as is known.
    head: [u8; HEAD],
    known: usize,
    excess: Excess,
}

const HEAD: usize = 9;
/// The client's preface, which is no frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

impl Frames {
    /// Fails, and tells `excess`, beyond so many resets, or other frames that carry nothing, within
    /// [`WINDOW`].
    pub(crate) fn new(most_resets: u32, most_others: u32, excess: Excess) -> Self {
        Self {
            most: [most_resets, most_others],
            seen: [0; 2],
            since: clock::now(),
            skip: PREFACE,
            head: [0; HEAD],
            known: 0,
            excess,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), TooMany> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                bytes = bytes.get(step..).unwrap_or_default();
                continue;
            }
            let step = (HEAD - self.known).min(bytes.len());
            let (fresh, rest) = bytes.split_at_checked(step).unwrap_or_default();
            let place = self.head.iter_mut().skip(self.known);
            place.zip(fresh).for_each(|(place, byte)| *place = *byte);
            self.known += step;
            bytes = rest;
            if self.known == HEAD {
                self.known = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), TooMany> {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let is_end = flags & END_STREAM != 0;
        let which = match kind {
            RST_STREAM => TooMany::Resets,
            PRIORITY | SETTINGS | PING | CONTINUATION => TooMany::ControlFrames,
            DATA if self.skip == 0 && !is_end => TooMany::ControlFrames,
            _ => return Ok(()),
        };
        let now = clock::now();
        if now.saturating_duration_since(self.since) > WINDOW {
            (self.since, self.seen) = (now, [0; 2]);
        }
        let [resets, others] = &mut self.seen;
        let [most_resets, most_others] = self.most;
        let (seen, most) = match which {
            TooMany::Resets => (resets, most_resets),
            TooMany::ControlFrames => (others, most_others),
        };
        *seen = seen.saturating_add(1);
        if *seen > most { Err(which) } else { Ok(()) }
    }
}

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

impl Inspect for Frames {
    fn inspect(&mut self, fresh: &mut [u8]) -> io::Result<Option<usize>> {
        self.follow(fresh).map(|()| None).map_err(|excess| {
            self.excess.set(Some(excess));
            io::ErrorKind::InvalidData.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Excess, Frames, PREFACE, TooMany};

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend(vec![kind; length.into()]);
        bytes
    }

    fn judge(frames: &[Vec<u8>], size: usize) -> Result<(), TooMany> {
        let mut counted = Frames::new(2, 3, Excess::default());
        let stream = [vec![b'P'; PREFACE], frames.concat()].concat();
        stream
            .chunks(size)
            .try_for_each(|piece| counted.follow(piece))
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_they_are_cut() {
        for (frames, outcome) in [
            (vec![frame(3, 0, 4); 2], Ok(())),
            (vec![frame(3, 0, 4); 3], Err(TooMany::Resets)),
            (vec![frame(6, 0, 8); 3], Ok(())),
            (vec![frame(6, 0, 8); 4], Err(TooMany::ControlFrames)),
            (vec![frame(4, 0, 0); 4], Err(TooMany::ControlFrames)),
            (vec![frame(2, 0, 5); 4], Err(TooMany::ControlFrames)),
            (vec![frame(9, 0, 200); 4], Err(TooMany::ControlFrames)),
            (vec![frame(0, 0, 0); 4], Err(TooMany::ControlFrames)),
            (vec![frame(0, 1, 0); 9], Ok(())),
            (vec![frame(0, 0, 9); 9], Ok(())),
            (vec![frame(1, 5, 200); 9], Ok(())),
            (vec![frame(8, 0, 4); 9], Ok(())),
        ] {
            for size in [1, 5, 9, 4096] {
                assert_eq!(judge(&frames, size), outcome, "{frames:?} by {size}");
            }
        }
    }
}
