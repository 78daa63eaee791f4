//! Does an HTTP/2 client send more frames that carry nothing than anybody needs, and what does h2
//! refuse by itself?
//!
//! Resets, pings, settings, priorities, continuations and empty data cost the client next to
//! nothing. They are counted by the nine bytes that begin each frame (RFC 9113 section 4.1); the
//! rest is skipped by count. h2 bounds what they take of memory; this bounds how many there are.
//! What h2 refuses is told by the codes of the resets and farewells that it writes (sections 6.4,
//! 6.8 and 7).

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::shed::Cut;
use crate::clock;
use crate::inspected::Inspect;

/// Tells whoever asks later why h2 ended a connection: it hands no error on.
pub(crate) type Excess = Rc<Cell<Option<Cut>>>;

/// The time within which frames are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the frames of a client's HTTP/2 connection as they are read, and sees what is refused
/// in those that are written.
pub(crate) struct Frames {
    read: Heads,
    written: Heads,
    /// For resets, and for others.
    most: [u32; 2],
    seen: [u32; 2],
    since: Instant,
    excess: Excess,
    /// Is told of each stream that h2 refused.
    refused: Box<dyn Fn(Cut)>,
}

impl Frames {
    /// Fails, and tells `excess`, beyond so many resets, or other frames that carry nothing, within
    /// [`WINDOW`].
    pub(crate) fn new(
        most_resets: u32,
        most_others: u32,
        excess: Excess,
        refused: Box<dyn Fn(Cut)>,
    ) -> Self {
        Self {
            read: Heads::new(PREFACE),
            written: Heads::new(0),
            most: [most_resets, most_others],
            seen: [0; 2],
            since: clock::now(),
            excess,
            refused,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Cut> {
        while let Some(head) = self.read.next(&mut bytes) {
            self.frame(head)?;
        }
        Ok(())
    }

    fn frame(&mut self, head: Head) -> Result<(), Cut> {
        let is_end = head.flags & END_STREAM != 0;
        let which = match head.kind {
            RST_STREAM => Cut::Http2Resets,
            PRIORITY | SETTINGS | PING | CONTINUATION => Cut::Http2ControlFrames,
            DATA if head.length == 0 && !is_end => Cut::Http2ControlFrames,
            _ => return Ok(()),
        };
        let now = clock::now();
        if now.saturating_duration_since(self.since) > WINDOW {
            (self.since, self.seen) = (now, [0; 2]);
        }
        let [resets, others] = &mut self.seen;
        let [most_resets, most_others] = self.most;
        let (seen, most) = match which {
            Cut::Http2Resets => (resets, most_resets),
            _ => (others, most_others),
        };
        *seen = seen.saturating_add(1);
        if *seen > most { Err(which) } else { Ok(()) }
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}

/// Finds the heads of frames in one direction of a connection, however its bytes are cut.
#[derive(Debug)]
struct Heads {
    /// Bytes before the next frame's head.
    skip: usize,
    /// As much of a head, and of an error's code behind it, as is known.
    known: [u8; HEAD + CODED],
    length: usize,
}

/// A frame's head.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    flags: u8,
    /// Of the payload, in bytes.
    length: usize,
    /// Of a reset or a farewell.
    code: u32,
}

const HEAD: usize = 9;
/// The bytes of a farewell up to the end of its code.
const CODED: usize = 8;
/// The client's preface, which is no frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

impl Heads {
    const fn new(skip: usize) -> Self {
        Self {
            skip,
            known: [0; HEAD + CODED],
            length: 0,
        }
    }

    /// The next head that these bytes complete; takes them off.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            *bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = self.wanted();
            let step = (wanted - self.length).min(bytes.len());
            let (fresh, rest) = bytes.split_at_checked(step).unwrap_or_default();
            let place = self.known.iter_mut().skip(self.length);
            place.zip(fresh).for_each(|(place, byte)| *place = *byte);
            self.length += step;
            *bytes = rest;
            if self.length >= HEAD && self.length == self.wanted() {
                return Some(self.take());
            }
        }
        None
    }

    /// How many bytes of a frame have to be seen, as far as is known.
    const fn wanted(&self) -> usize {
        let [_, _, _, kind, ..] = self.known;
        let payload = self.payload();
        let coded = match kind {
            _ if self.length < HEAD => 0,
            RST_STREAM => 4,
            GOAWAY => CODED,
            _ => 0,
        };
        // One that is too short for its code must not take the next frame's bytes for it.
        HEAD + if coded < payload { coded } else { payload }
    }

    /// The length that the head tells.
    const fn payload(&self) -> usize {
        let [high, middle, low, ..] = self.known;
        (high as usize) << 16 | (middle as usize) << 8 | low as usize
    }

    fn take(&mut self) -> Head {
        let [_, _, _, kind, flags, ..] = self.known;
        let length = self.payload();
        let seen = self.known.get(HEAD..self.length).unwrap_or_default();
        let code = seen
            .last_chunk()
            .map_or(0, |code| u32::from_be_bytes(*code));
        self.skip = length.saturating_sub(self.length - HEAD);
        self.length = 0;
        Head {
            kind,
            flags,
            length,
            code,
        }
    }
}

/// What a code says that the client did; nothing if it is not at fault.
const fn fault(code: u32) -> Option<Cut> {
    match code {
        PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR
        | COMPRESSION_ERROR => Some(Cut::Malformed),
        REFUSED_STREAM => Some(Cut::Http2Streams),
        ENHANCE_YOUR_CALM => Some(Cut::Http2Flood),
        _ => None,
    }
}

// RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

impl Inspect for Frames {
    fn inspect(&mut self, fresh: &mut [u8]) -> io::Result<Option<usize>> {
        self.follow(fresh).map(|()| None).map_err(|excess| {
            self.excess.set(Some(excess));
            io::ErrorKind::InvalidData.into()
        })
    }

    fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(head) = self.written.next(&mut bytes) {
            match (head.kind, fault(head.code)) {
                (RST_STREAM, Some(cut)) => (self.refused)(cut),
                (GOAWAY, Some(cut)) if self.excess.get().is_none() => self.excess.set(Some(cut)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Excess, Frames, PREFACE};
    use crate::inspected::Inspect as _;
    use crate::server::shed::Cut;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend(vec![kind; length.into()]);
        bytes
    }

    fn judge(frames: &[Vec<u8>], size: usize) -> Result<(), Cut> {
        let mut counted = Frames::new(2, 3, Excess::default(), Box::new(|_| ()));
        let stream = [vec![b'P'; PREFACE], frames.concat()].concat();
        stream
            .chunks(size)
            .try_for_each(|piece| counted.follow(piece))
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_they_are_cut() {
        for (frames, outcome) in [
            (vec![frame(3, 0, 4); 2], Ok(())),
            (vec![frame(3, 0, 4); 3], Err(Cut::Http2Resets)),
            // Too short for their codes: the next head is not taken for one.
            (vec![frame(3, 0, 0); 2], Ok(())),
            (vec![frame(3, 0, 0); 3], Err(Cut::Http2Resets)),
            (
                [vec![frame(7, 0, 3); 2], vec![frame(6, 0, 8); 4]].concat(),
                Err(Cut::Http2ControlFrames),
            ),
            (vec![frame(6, 0, 8); 3], Ok(())),
            (vec![frame(6, 0, 8); 4], Err(Cut::Http2ControlFrames)),
            (vec![frame(4, 0, 0); 4], Err(Cut::Http2ControlFrames)),
            (vec![frame(2, 0, 5); 4], Err(Cut::Http2ControlFrames)),
            (vec![frame(9, 0, 200); 4], Err(Cut::Http2ControlFrames)),
            (vec![frame(0, 0, 0); 4], Err(Cut::Http2ControlFrames)),
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

    #[test]
    fn what_h2_refuses_is_told_however_it_is_written() {
        let coded = |kind: u8, lead: &[u8], code: u8| {
            let payload = [lead, &[0, 0, 0, code]].concat();
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, 0, 0, 0, 0, 1], &payload[..]].concat()
        };
        let written = [
            frame(4, 0, 6),
            coded(3, &[], 7),
            frame(0, 0, 200),
            coded(3, &[], 1),
            coded(3, &[], 0),
            coded(3, &[], 8),
            frame(1, 5, 3),
            coded(3, &[], 7),
            coded(7, &[0, 0, 0, 1], 11),
        ];
        let written = written.concat();
        for size in [1, 2, 5, 13, 4096] {
            let told = Rc::new(RefCell::new(Vec::new()));
            let (excess, sink) = (Excess::default(), Rc::clone(&told));
            let tell = Box::new(move |cut| sink.borrow_mut().push(cut));
            let mut frames = Frames::new(2, 3, Rc::clone(&excess), tell);
            written.chunks(size).for_each(|piece| frames.wrote(piece));
            let expected = [Cut::Http2Streams, Cut::Malformed, Cut::Http2Streams];
            assert_eq!(*told.borrow(), expected, "by {size}");
            assert_eq!(excess.get(), Some(Cut::Http2Flood), "by {size}");
        }
    }
}
