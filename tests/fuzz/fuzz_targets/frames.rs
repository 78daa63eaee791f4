//! Is a flood of HTTP/2 frames seen however its bytes are cut, and nothing else taken for one?
//!
//! The first byte says how it is cut, the next two how many frames are allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::fuzzing::count_frames;

mod shared;

const PREFACE: usize = 24;
const HEAD: usize = 9;

fuzz_target!(|bytes: &[u8]| {
    let Some(([seed, resets, others], stream)) = bytes.split_first_chunk() else {
        return;
    };
    let (resets, others) = (u32::from(*resets), u32::from(*others));
    let expected = flood(stream, resets, others);
    for pieces in shared::cuts(*seed, stream) {
        let found = count_frames(pieces.iter().copied(), resets, others);
        // The piece that ends the frame's head is the last that is read.
        let expected = expected.map(|(at, is_resets)| {
            let ends = pieces.iter().scan(0, |end, piece| {
                *end += piece.len();
                Some(*end)
            });
            let end = ends
                .into_iter()
                .find(|end| *end >= at)
                .expect("the head's piece");
            (end, is_resets)
        });
        assert_eq!(found, expected, "{stream:?}");
    }
});

/// Where the head ends that is one too many, and whether of a reset, found the naive way.
fn flood(stream: &[u8], most_resets: u32, most_others: u32) -> Option<(usize, bool)> {
    let (mut at, mut resets, mut others) = (PREFACE, 0, 0);
    loop {
        let head = stream.get(at..at + HEAD)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let is_end = head[4] & 1 == 1;
        match head[3] {
            3 => resets += 1,
            2 | 4 | 6 | 9 => others += 1,
            0 if length == 0 && !is_end => others += 1,
            _ => {}
        }
        at += HEAD;
        // A reset is counted once its code is there.
        let code = match head[3] {
            3 => usize::try_from(length.min(4)).expect("at most four"),
            _ => 0,
        };
        stream.get(at..at + code)?;
        if resets > most_resets || others > most_others {
            return Some((at + code, resets > most_resets));
        }
        at += usize::try_from(length).expect("24 bits");
    }
}
