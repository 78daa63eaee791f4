//! Where does one WebSocket frame end and the next begin? Only there may a frame of the gate's own
//! be put in.

/// Follows the frames of one direction (RFC 6455 section 5.2) by their lengths alone, in a few
/// bytes of memory; payloads are passed over. What is no frame keeps it from finding an end.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    at: At,
    is_close: bool,
    has_closed: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Debug, Default)]
enum At {
    #[default]
    Start,
    Length,
    /// So many bytes of a longer length are to come, after those that make this number.
    LongLength {
        missing: u8,
        length: u64,
        mask: u64,
    },
    /// So many bytes of masking key and payload are to come.
    Payload(u64),
}

impl Frames {
    /// Goes on to the end of the frame that the bytes belong to. How many of them that takes.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            self.at = match self.at {
                At::Start => {
                    self.is_close = byte & OPCODE == CLOSE;
                    At::Length
                }
                At::Length => {
                    let mask = if byte & MASKED == 0 { 0 } else { MASK_LENGTH };
                    let long = |missing| At::LongLength {
                        missing,
                        length: 0,
                        mask,
                    };
                    match byte & !MASKED {
                        126 => long(2),
                        127 => long(8),
                        length => At::Payload(u64::from(length) + mask),
                    }
                }
                At::LongLength {
                    missing,
                    length,
                    mask,
                } => {
                    let length = length << 8 | u64::from(*byte);
                    match missing {
                        0 | 1 => At::Payload(length.saturating_add(mask)),
                        _ => At::LongLength {
                            missing: missing - 1,
                            length,
                            mask,
                        },
                    }
                }
                At::Payload(left) => {
                    let there = bytes.len() - taken;
                    let passed = usize::try_from(left).map_or(there, |left| left.min(there));
                    taken += passed;
                    // One more is counted below.
                    taken -= 1;
                    At::Payload(left.saturating_sub(passed as u64))
                }
            };
            taken += 1;
            if let At::Payload(0) = self.at {
                self.at = At::Start;
                self.has_closed |= self.is_close;
                break;
            }
        }
        taken
    }

    /// Goes on over all of these bytes.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.advance(rest);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Whether a frame of the gate's own could be put in here: between two frames, and before the
    /// close frame, which is the last one (RFC 6455 section 5.5.1).
    pub(super) const fn takes_another(&self) -> bool {
        matches!(self.at, At::Start) && !self.has_closed
    }

    /// Whether the close frame has passed.
    pub(super) const fn has_closed(&self) -> bool {
        self.has_closed
    }
}

/// A close frame (RFC 6455 section 5.5.1) with this code of section 7.4.1 and reason, masked with
/// this key if it goes to a server (section 5.3). Of a reason more than a control frame may hold is
/// left out.
pub(super) fn close(code: u16, reason: &'static str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let reason = if reason.len() <= MOST_REASON {
        reason
    } else {
        ""
    };
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    let length = u8::try_from(payload.len()).unwrap_or_default();
    let mut frame = vec![FINAL | CLOSE];
    match mask {
        None => frame.push(length),
        Some(mask) => {
            frame.push(MASKED | length);
            frame.extend_from_slice(&mask);
            let keys = mask.iter().cycle();
            payload
                .iter_mut()
                .zip(keys)
                .for_each(|(byte, key)| *byte ^= key);
        }
    }
    frame.append(&mut payload);
    frame
}

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 8;
const MASKED: u8 = 0x80;
const MASK_LENGTH: u64 = 4;
/// What a control frame holds (RFC 6455 section 5.5), less the code.
const MOST_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

    use super::{Frames, close};

    /// Frames of every kind of length, with and without a mask, and where each ends.
    fn stream() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for is_masked in [false, true] {
                let opcode = OpCode::Data(Data::Binary);
                let mut frame = Frame::message(vec![0x88; length], opcode, true);
                if is_masked {
                    frame.header_mut().mask = Some([0x88; 4]);
                }
                frame.format(&mut bytes).unwrap();
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        let (bytes, ends) = stream();
        for piece in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut frames = Frames::default();
            let (mut place, mut found) = (0, Vec::new());
            for piece in bytes.chunks(piece) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let taken = frames.advance(rest);
                    (place, rest) = (place + taken, &rest[taken..]);
                    if frames.takes_another() {
                        found.push(place);
                    }
                }
            }
            assert_eq!(found, ends, "pieces of {piece}");
            assert!(!frames.has_closed());
        }
    }

    #[test]
    fn nothing_is_put_in_behind_a_close_frame() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let mut frames = Frames::default();
            frames.pass(&stream().0);
            assert!(frames.takes_another());
            frames.pass(&close(1001, "drained", mask));
            assert!(frames.has_closed() && !frames.takes_another());
        }
    }

    #[test]
    fn a_length_beyond_all_bounds_never_ends() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 0xff]);
        frames.pass(&[0xff; 8]);
        frames.pass(&[0; 1000]);
        assert!(!frames.takes_another());
    }

    #[test]
    fn a_close_frame_is_what_a_library_makes() {
        let expected = |mask| {
            let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
                code: CloseCode::Policy,
                reason: "expired".into(),
            };
            let mut frame = Frame::close(Some(frame));
            frame.header_mut().mask = mask;
            let mut bytes = Vec::new();
            frame.format(&mut bytes).unwrap();
            bytes
        };
        for mask in [None, Some([9, 8, 7, 6])] {
            assert_eq!(close(1008, "expired", mask), expected(mask));
        }
    }
}
