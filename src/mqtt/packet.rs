//! Where does one MQTT packet end and the next begin? By its fixed header alone (MQTT 5.0 section
//! 2.1, the same in 3.1 and 3.1.1).

/// Types of packets that the gate knows apart (section 2.1.2).
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// What is no MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A packet's fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Type and flags.
    pub(crate) first: u8,
    /// The bytes of the header itself.
    pub(crate) size: usize,
    /// The bytes that follow it.
    pub(crate) remaining: usize,
}

impl Header {
    /// Reads the header at the beginning of `bytes`; nothing if more of them are needed.
    ///
    /// # Errors
    /// A remaining length of more than four bytes, or of more than it needs (section 1.5.5).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let length = variable(rest)?;
        Ok(length.map(|(remaining, size)| Self {
            first: *first,
            size: size + 1,
            remaining,
        }))
    }

    /// The packet's type.
    pub(crate) const fn kind(self) -> u8 {
        self.first >> 4
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub(crate) const fn whole(self) -> usize {
        self.size + self.remaining
    }
}

/// A variable byte integer (section 1.5.5) and how many bytes it takes; nothing if more are needed.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(MOST_LENGTH_BYTES).enumerate() {
        value |= usize::from(byte & !MORE) << (7 * at);
        if byte & MORE == 0 {
            return match at > 0 && *byte == 0 {
                true => Err(Malformed),
                false => Ok(Some((value, at + 1))),
            };
        }
    }
    match bytes.len() < MOST_LENGTH_BYTES {
        true => Ok(None),
        false => Err(Malformed),
    }
}

/// Appends a fixed header. Longer packets than [`MOST_REMAINING`] do not exist; whoever calls has
/// less.
pub(super) fn write_header(first: u8, remaining: usize, packet: &mut Vec<u8>) {
    packet.push(first);
    write_variable(remaining.min(MOST_REMAINING), packet);
}

/// Appends a variable byte integer.
pub(super) fn write_variable(mut value: usize, bytes: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | MORE);
    }
}

const MORE: u8 = 0x80;
const MOST_LENGTH_BYTES: usize = 4;
/// The most that can follow a fixed header, in bytes (section 2.1.4).
pub(super) const MOST_REMAINING: usize = 268_435_455;

/// Follows the packets of one direction by their lengths, in a few bytes of memory. What is no
/// packet keeps it from finding an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packets {
    at: At,
    /// The first byte of the packet that is on its way.
    first: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    /// So many bytes of the length came, which make this number.
    Length(u8, usize),
    /// So many bytes are to come.
    Rest(usize),
    Lost,
}

/// What of a packet is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its type and flags.
    First(u8),
    /// How many bytes follow its header.
    Remaining(usize),
}

impl Packets {
    /// Goes on to the end of the packet that the bytes belong to, and tells what begins. How many
    /// of the bytes that takes.
    ///
    /// # Errors
    /// What `judge` says; it is asked before anything of the packet counts.
    pub(crate) fn advance<E>(
        &mut self,
        bytes: &[u8],
        mut judge: impl FnMut(Seen) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            taken += 1;
            self.at = match self.at {
                At::Start => {
                    judge(Seen::First(*byte))?;
                    self.first = *byte;
                    At::Length(0, 0)
                }
                At::Length(count, value) => {
                    let value = value | usize::from(byte & !MORE) << (7 * count);
                    let is_last = byte & MORE == 0;
                    if is_last && (count == 0 || *byte != 0) {
                        judge(Seen::Remaining(value))?;
                        At::Rest(value)
                    } else if is_last || usize::from(count) + 1 == MOST_LENGTH_BYTES {
                        At::Lost
                    } else {
                        At::Length(count + 1, value)
                    }
                }
                At::Rest(left) => {
                    let there = bytes.len() - (taken - 1);
                    let passed = left.min(there);
                    taken += passed.saturating_sub(1);
                    At::Rest(left - passed)
                }
                At::Lost => {
                    taken = bytes.len();
                    At::Lost
                }
            };
            if self.at == At::Rest(0) {
                self.at = At::Start;
                break;
            }
        }
        Ok(taken)
    }

    /// How many bytes follow at least whose values make no difference.
    pub(crate) const fn ahead(&self) -> usize {
        match self.at {
            At::Start | At::Length(..) => 0,
            At::Rest(left) => left,
            At::Lost => usize::MAX,
        }
    }

    /// Whether a packet of the gate's own could be put in here.
    #[must_use]
    pub(crate) fn is_between(&self) -> bool {
        self.at == At::Start
    }

    /// Whether what came is no MQTT.
    #[must_use]
    pub(crate) fn is_lost(&self) -> bool {
        self.at == At::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, MOST_REMAINING, Malformed, Packets, write_header};

    #[test]
    fn a_length_is_read_as_it_is_written() {
        for remaining in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            MOST_REMAINING,
        ] {
            let mut bytes = Vec::new();
            write_header(0x30, remaining, &mut bytes);
            let header = Header::parse(&bytes).unwrap().unwrap();
            assert_eq!((header.remaining, header.size), (remaining, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut]), Ok(None), "{remaining}");
            }
        }
    }

    #[test]
    fn a_length_has_one_spelling() {
        for bytes in [
            &[0x10, 0x80, 0x00][..],
            &[0x10, 0xff, 0x80, 0x00],
            &[0x10, 0xff, 0xff, 0xff, 0xff],
            &[0x10, 0x80, 0x80, 0x80, 0x80, 0x01],
        ] {
            assert_eq!(Header::parse(bytes), Err(Malformed), "{bytes:?}");
            let mut packets = Packets::default();
            for bytes in [bytes, &[0; 1000]] {
                let taken = packets.advance(bytes, |_| Ok::<_, ()>(()));
                assert_eq!(taken, Ok(bytes.len()));
            }
            assert!(packets.is_lost() && !packets.is_between(), "{bytes:?}");
        }
    }

    #[test]
    fn packets_end_where_they_end_however_they_are_cut() {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for remaining in [0, 1, 2, 127, 128, 300, 20_000] {
            write_header(0x30, remaining, &mut bytes);
            bytes.resize(bytes.len() + remaining, 0x80);
            ends.push(bytes.len());
        }
        for piece in [1, 2, 3, 7, 1000, bytes.len()] {
            let (mut packets, mut place, mut found) = (Packets::default(), 0, Vec::new());
            for piece in bytes.chunks(piece) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let taken = packets.advance(rest, |_| Ok::<_, ()>(())).unwrap();
                    (place, rest) = (place + taken, &rest[taken..]);
                    if packets.is_between() {
                        found.push(place);
                    }
                }
            }
            assert_eq!(found, ends, "pieces of {piece}");
        }
    }
}
