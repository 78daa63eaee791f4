//! Are the frames of a WebSocket in which MQTT travels read as RFC 6455 section 5 has them, however
//! they are cut, are packets found in them behind their masks, and are they written so that they are
//! read as what they were?
//!
//! The first byte says how the stream is cut, and by its lowest bit whose it is: a client's or an
//! upstream's. The stream is also taken for what is to be written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::fuzzing::{ReadFrames, SeenPackets, read_frames, see_packets, write_frames};

mod shared;

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, stream)) = bytes.split_first() else {
        return;
    };
    let is_from_client = seed & 1 == 0;
    let expected = read(stream, is_from_client);
    let packets = packets(&expected);
    for (size, pieces) in [1, 3, 512, 4096, 7]
        .into_iter()
        .zip(shared::cuts(*seed, stream))
    {
        let found = see_packets(pieces.iter().copied(), is_from_client);
        assert_eq!(found.seen, packets.seen, "{stream:?}");
        assert_eq!(found.is_lost, packets.is_lost, "{stream:?}");
        assert!(
            found.is_lost || found.passed == packets.passed,
            "{stream:?}"
        );
        let found = read_frames(pieces.iter().copied(), is_from_client, size);
        let ReadFrames {
            data,
            answers,
            is_broken,
        } = found;
        assert_eq!(
            (&data, is_broken),
            (&expected.data, expected.is_broken),
            "{stream:?}"
        );
        // They are read by the other end.
        let told = read(&answers, !is_from_client);
        assert_eq!(told.controls, expected.answers, "{stream:?}");
        assert!(told.data.is_empty() && !told.is_broken);

        let written = write_frames(pieces, !is_from_client).expect("room for frames");
        let again = read(&written, is_from_client);
        assert!(again.data == stream && !again.is_broken, "{stream:?}");
        assert_eq!(again.controls, [(CLOSE, vec![3, 232])]);
    }
});

#[derive(Default)]
struct Read {
    data: Vec<u8>,
    /// Opcodes and payloads of the control frames that are whole.
    controls: Vec<(u8, Vec<u8>)>,
    /// What they are to be answered with.
    answers: Vec<(u8, Vec<u8>)>,
    is_broken: bool,
    /// How many bytes there are to where a close frame ends, if one does.
    length: usize,
}

/// What there is to be seen of packets.
fn packets(read: &Read) -> SeenPackets {
    let mut found = SeenPackets {
        seen: Vec::new(),
        passed: read.length,
        is_lost: read.is_broken,
    };
    let mut rest = &read.data[..];
    while let Some((first, length)) = rest.split_first() {
        found.seen.push(Ok(*first));
        let more = length.iter().take(4).take_while(|byte| **byte & 0x80 != 0);
        let more = more.count();
        let last = length.get(more);
        if more == 4 || more > 0 && last == Some(&0) {
            found.is_lost = true;
            break;
        }
        if last.is_none() {
            break;
        }
        let value = |sum, byte: &u8| sum * 128 + usize::from(byte & 0x7f);
        let remaining = length[..=more].iter().rev().fold(0, value);
        found.seen.push(Err(remaining));
        rest = length.get(more + 1 + remaining..).unwrap_or_default();
    }
    found
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Reads the naive way.
fn read(stream: &[u8], is_from_client: bool) -> Read {
    let (mut read, mut rest, mut is_fragmented) = (Read::default(), stream, false);
    read.length = stream.len();
    while let Some((opcode, is_final, head, length)) = head(rest) {
        let Some(key) = rest.get(head - if rest[1] & 0x80 == 0 { 0 } else { 4 }..head) else {
            return read;
        };
        let is_control = opcode >= CLOSE;
        let is_well = rest[0] & 0x70 == 0
            && [0, BINARY, CLOSE, PING, PONG].contains(&opcode)
            && key.is_empty() != is_from_client
            && is_shortest(rest[1] & 0x7f, length)
            && (!is_control || is_final && length <= 125)
            && (is_control || (opcode == 0) == is_fragmented);
        if !is_well {
            read.is_broken = true;
            return read;
        }
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(head));
        let end = end.unwrap_or(usize::MAX).min(rest.len());
        let masked = rest[head..end].iter().enumerate();
        let payload = masked.map(|(at, byte)| byte ^ key.get(at % 4).copied().unwrap_or_default());
        let payload: Vec<u8> = payload.collect();
        let is_whole = payload.len() as u64 == length;
        if !is_control {
            is_fragmented = !is_final;
            read.data.extend(payload);
        } else if is_whole {
            match opcode {
                CLOSE => read.answers.push((CLOSE, vec![3, 232])),
                PING => read.answers.push((PONG, payload.clone())),
                _ => {}
            }
            read.controls.push((opcode, payload));
        }
        if is_whole && opcode == CLOSE {
            read.length -= rest.len() - end;
        }
        if !is_whole || opcode == CLOSE {
            return read;
        }
        rest = &rest[end..];
    }
    read
}

/// Opcode, whether it is the last part, and the lengths of the head with its key and of the payload;
/// nothing if the length is not there yet.
fn head(bytes: &[u8]) -> Option<(u8, bool, usize, u64)> {
    let &[first, second, ..] = bytes else {
        return None;
    };
    let (size, length) = match second & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let key = if second & 0x80 == 0 { 0 } else { 4 };
    Some((first & 0xf, first & 0x80 != 0, size + key, length))
}

/// Whether the length was written in as few bytes as it needs, and is no negative number.
fn is_shortest(written: u8, length: u64) -> bool {
    match written {
        126 => length > 125,
        127 => length > 0xffff && length <= u64::MAX / 2,
        _ => true,
    }
}
