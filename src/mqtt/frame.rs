//! What is a WebSocket's frame (RFC 6455 section 5.2)? Its head, read and written.

use std::io;

/// Which end of a WebSocket the gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Client,
    Server,
}

impl Place {
    /// Which end it is of the WebSocket that these bytes go on to.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Close,
    Data,
    Ping,
    Pong,
}

/// A masking key, from the byte on that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    /// Masks or unmasks these bytes; those that follow them are next.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        if self.0 == [0; 4] {
            return;
        }
        for chunk in bytes.chunks_mut(self.0.len()) {
            chunk
                .iter_mut()
                .zip(self.0)
                .for_each(|(byte, key)| *byte ^= key);
        }
        self.skip(bytes.len());
    }

    /// So many bytes stay as they are; those that follow them are next.
    pub(super) const fn skip(&mut self, count: usize) {
        let shift = count % self.0.len();
        self.0.rotate_left(shift);
    }
}

/// Where in the frames of one direction the next byte stands.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    /// Which end the gate is.
    pub(super) place: Place,
    head: Head,
    /// Of the frame that is on its way, or was the last.
    pub(super) kind: Kind,
    /// Its key, for the payload's next byte.
    pub(super) mask: Mask,
    /// The bytes of its payload that are to come.
    pub(super) left: u64,
    /// Whether its message goes on in another.
    is_fragmented: bool,
}

impl Frames {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            head: Head::default(),
            kind: Kind::Pong,
            mask: Mask::default(),
            left: 0,
            is_fragmented: false,
        }
    }

    /// Takes what of these bytes belongs to the next head, and whether it is whole then. How many
    /// bytes that takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for what RFC 6455 section 5 does not allow, and for text,
    /// which MQTT does not (MQTT-6.0.0-1).
    pub(super) fn take_head(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let taken = self.head.take(bytes);
        let Some(frame) = self.head.judge(self.place)? else {
            return Ok((taken, false));
        };
        if frame.kind == Kind::Data {
            if frame.is_continued != self.is_fragmented {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.is_fragmented = !frame.is_final;
        }
        (self.kind, self.mask, self.left) = (frame.kind, frame.mask, frame.length);
        self.head = Head::default();
        Ok((taken, true))
    }

    /// Whether no frame has begun.
    pub(super) const fn is_between(&self) -> bool {
        self.left == 0 && self.head.count == 0
    }

    /// Whether no message has, either.
    pub(super) const fn is_between_messages(&self) -> bool {
        self.is_between() && !self.is_fragmented
    }
}

/// A head that was read.
#[derive(Debug)]
struct Frame {
    kind: Kind,
    is_final: bool,
    /// Whether it goes on with the message of an earlier one.
    is_continued: bool,
    mask: Mask,
    length: u64,
}

/// The bytes of a head, as they come.
#[derive(Clone, Debug, Default)]
struct Head {
    bytes: [u8; MOST],
    count: usize,
}

/// The longest head: two bytes, eight of length, four of key.
const MOST: usize = 14;

impl Head {
    /// Takes what of these bytes belongs to it; how many.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.count < self.wanted() {
            let (Some(byte), Some(place)) = (bytes.get(taken), self.bytes.get_mut(self.count))
            else {
                break;
            };
            *place = *byte;
            self.count += 1;
            taken += 1;
        }
        taken
    }

    /// How long it is, as far as is known.
    fn wanted(&self) -> usize {
        let [_, second, ..] = self.bytes;
        if self.count < 2 {
            return 2;
        }
        let length = match second & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let key = if second & MASKED == 0 { 0 } else { 4 };
        2 + length + key
    }

    /// What it says, once it is whole.
    fn judge(&self, place: Place) -> io::Result<Option<Frame>> {
        if self.count < self.wanted() {
            return Ok(None);
        }
        let [first, second, rest @ ..] = self.bytes;
        let [a, b, c, d, e, f, g, h, ..] = rest;
        let (length, least, key) = match second & LENGTH {
            126 => (u64::from(u16::from_be_bytes([a, b])), 126, [c, d, e, f]),
            127 => {
                let [.., i, j, k, l] = rest;
                let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (length, 1 << 16, [i, j, k, l])
            }
            short => (short.into(), 0, [a, b, c, d]),
        };
        let (kind, is_continued) = match first & OPCODE {
            0 => (Kind::Data, true),
            BINARY => (Kind::Data, false),
            CLOSE => (Kind::Close, false),
            PING => (Kind::Ping, false),
            PONG => (Kind::Pong, false),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let (is_final, is_masked) = (first & FINAL != 0, second & MASKED != 0);
        let is_fit = first & RESERVED == 0
            && is_masked == (place == Place::Server)
            && length >= least
            && length >> 63 == 0
            && (kind == Kind::Data || is_final && length <= MOST_CONTROL);
        if !is_fit {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some(Frame {
            kind,
            is_final,
            is_continued,
            mask: Mask(if is_masked { key } else { [0; 4] }),
            length,
        }))
    }
}

/// Appends a frame that is a message of its own.
///
/// # Errors
/// If there are no random bytes for a client's key.
pub(super) fn write(
    kind: Kind,
    payload: &[u8],
    place: Place,
    frames: &mut Vec<u8>,
) -> io::Result<()> {
    let opcode = match kind {
        Kind::Close => CLOSE,
        Kind::Data => BINARY,
        Kind::Ping => PING,
        Kind::Pong => PONG,
    };
    let masked = if place == Place::Client { MASKED } else { 0 };
    frames.push(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => frames.push(masked | length),
        (_, Ok(length)) => {
            frames.push(masked | 126);
            frames.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frames.push(masked | 127);
            frames.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let mut mask = Mask::default();
    if place == Place::Client {
        aws_lc_rs::rand::fill(&mut mask.0).map_err(io::Error::other)?;
        frames.extend_from_slice(&mask.0);
    }
    let start = frames.len();
    frames.extend_from_slice(payload);
    mask.apply(frames.get_mut(start..).unwrap_or_default());
    Ok(())
}

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// What a control frame holds, in bytes (section 5.5).
const MOST_CONTROL: u64 = 125;

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Known;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::{Head, Kind, Mask, Place, write};

    #[test]
    fn frames_are_read_as_a_library_writes_them() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for place in [Place::Client, Place::Server] {
                let payload: Vec<u8> = (0..length)
                    .map(|at| u8::try_from(at % 251).unwrap())
                    .collect();
                let mut frame = Known::message(payload.clone(), OpCode::Data(Data::Binary), true);
                if place == Place::Server {
                    frame.header_mut().mask = Some([1, 2, 3, 4]);
                }
                let mut bytes = Vec::new();
                frame.format(&mut bytes).unwrap();
                let mut head = Head::default();
                let mut taken = 0;
                // One byte after the other.
                while head.judge(place).unwrap().is_none() {
                    taken += head.take(&bytes[taken..=taken]);
                }
                let read = head.judge(place).unwrap().unwrap();
                assert_eq!((read.kind, read.length), (Kind::Data, length));
                let mut mask = read.mask;
                for piece in bytes[taken..].chunks_mut(7) {
                    mask.apply(piece);
                }
                assert!(bytes[taken..] == payload, "{length}, {place:?}");
            }
        }
    }

    #[test]
    fn frames_are_written_as_a_library_writes_them() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let mut expected = Vec::new();
            let frame = Known::message(payload.clone(), OpCode::Data(Data::Binary), true);
            frame.format(&mut expected).unwrap();
            let mut bytes = Vec::new();
            write(Kind::Data, &payload, Place::Server, &mut bytes).unwrap();
            assert!(bytes == expected, "{length}");
            let mut masked = Vec::new();
            write(Kind::Data, &payload, Place::Client, &mut masked).unwrap();
            let at = masked.len() - length;
            let mut mask = Mask(masked[at - 4..at].try_into().unwrap());
            mask.apply(&mut masked[at..]);
            assert!(masked[at..] == payload, "{length}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (row, bytes) in [
            ("text", &[0x81, 0x80, 0, 0, 0, 0][..]),
            ("not masked", &[0x82, 0x00]),
            ("a reserved bit", &[0xc2, 0x80, 0, 0, 0, 0]),
            ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0]),
            ("a ping in parts", &[0x09, 0x80, 0, 0, 0, 0]),
            ("a long ping", &[0x89, 0xfe, 0, 126, 0, 0, 0, 0]),
            (
                "a long spelling of a length",
                &[0x82, 0xfe, 0, 125, 0, 0, 0, 0],
            ),
            (
                "a longer one",
                &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0],
            ),
            (
                "an endless length",
                &[0x82, 0xff, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ] {
            let mut head = Head::default();
            assert_eq!(head.take(bytes), bytes.len(), "{row}");
            assert!(head.judge(Place::Server).is_err(), "{row}");
        }
    }
}
