//! Can a request's bytes be framed in one way only? What another parser could cut elsewhere is
//! spoiled before ours sees it.
//!
//! hyper drops a `Content-Length` beside a `Transfer-Encoding` and a repeated one, and takes bare
//! line feeds, fragments and white space behind a chunk's size. RFC 9112 sections 2.2, 3.2, 6.1
//! and 7.1 let a proxy refuse all of these, and this one does: of the line in question the last
//! byte becomes NUL, which hyper answers with 400, and nothing after it is read.
//!
//! Only lines are looked at; bodies are skipped by count. A line that is still incomplete is kept
//! and is no longer than hyper's own limit of a head, or than 256 bytes in a body.

use std::io;

use memchr::memchr;

use crate::inspected::Inspect;

/// Reads a client's HTTP/1 connection strictly, from the first byte of a request on: where in its
/// bytes one is.
#[derive(Debug, Default)]
pub struct Framing {
    place: Place,
    /// How many bytes of a body come before the next line.
    skip: u64,
    /// The beginning of a line whose end has not come yet.
    held: Vec<u8>,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    RequestLine,
    Fields,
    ChunkSize,
    Trailers,
}

/// What is not framed in one way only ends at this byte.
#[derive(Debug, PartialEq, Eq)]
struct InDoubt {
    at: usize,
}

impl Inspect for Framing {
    fn inspect(&mut self, fresh: &mut [u8]) -> io::Result<Option<usize>> {
        let Err(InDoubt { at }) = self.follow(fresh) else {
            return Ok(None);
        };
        if let Some(byte) = fresh.get_mut(at) {
            *byte = 0;
        }
        Ok(Some(at + 1))
    }

    fn is_amid(&self) -> bool {
        self.place != Place::RequestLine || self.skip > 0 || !self.held.is_empty()
    }
}

impl Framing {
    fn follow(&mut self, bytes: &[u8]) -> Result<(), InDoubt> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.skip > 0 {
                let step =
                    usize::try_from(self.skip).map_or(rest.len(), |skip| skip.min(rest.len()));
                self.skip -= step as u64;
                at += step;
                continue;
            }
            let Some(length) = memchr(b'\n', rest) else {
                self.held.extend_from_slice(rest);
                let is_long = self.place == Place::ChunkSize && self.held.len() > MAX_CHUNK_LINE;
                let last = bytes.len() - 1;
                return if is_long {
                    Err(InDoubt { at: last })
                } else {
                    Ok(())
                };
            };
            let line = rest.get(..length).unwrap_or_default();
            let outcome = if self.held.is_empty() {
                self.line(line)
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(line);
                self.line(&held)
            };
            at += length;
            outcome.ok_or(InDoubt { at })?;
            at += 1;
        }
        Ok(())
    }

    /// One line without its line feed; nothing if it is in doubt.
    fn line(&mut self, line: &[u8]) -> Option<()> {
        let line = line.strip_suffix(b"\r")?;
        match self.place {
            // Some clients end a body with an empty line more (RFC 9112 section 2.2).
            Place::RequestLine if line.is_empty() => {}
            Place::RequestLine => {
                // A fragment is no part of a target; some cut it off, some do not.
                if memchr(b'#', line).is_some() {
                    return None;
                }
                self.place = Place::Fields;
            }
            Place::Fields if line.is_empty() => self.end_of_head(),
            Place::Fields => self.field(line)?,
            Place::ChunkSize => {
                let size = chunk_size(line)?;
                // With the line end behind the data, which hyper judges.
                match size {
                    0 => self.place = Place::Trailers,
                    _ => self.skip = size.checked_add(2)?,
                }
            }
            Place::Trailers if line.is_empty() => self.place = Place::RequestLine,
            Place::Trailers => {}
        }
        Some(())
    }

    /// A field that says how long the body is may stand there once, and only one of the two may.
    fn field(&mut self, line: &[u8]) -> Option<()> {
        let is_first = self.length.is_none() && !self.is_chunked;
        // Most fields begin otherwise.
        match line.first()?.to_ascii_lowercase() {
            b'c' => {
                if let Some(value) = value_of(line, b"content-length") {
                    self.length = Some(digits(value, 10).filter(|_| is_first)?);
                }
            }
            b't' => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    let is_fine = is_first && value.eq_ignore_ascii_case(b"chunked");
                    self.is_chunked = is_fine.then_some(true)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    const fn end_of_head(&mut self) {
        self.skip = match self.length.take() {
            Some(length) => length,
            None => 0,
        };
        self.place = if self.is_chunked {
            Place::ChunkSize
        } else {
            Place::RequestLine
        };
        self.is_chunked = false;
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (held, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    held.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// RFC 9112 section 7.1, but without white space behind the size.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = memchr(b';', line).unwrap_or(line.len());
    let (size, extension) = line.split_at_checked(end)?;
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let is_short = line.len() <= MAX_CHUNK_LINE && size.len() <= MAX_CHUNK_DIGITS;
    digits(size, 16).filter(|_| is_short && extension.iter().all(is_plain))
}

/// The longest line of a chunk's size and extensions, in bytes.
const MAX_CHUNK_LINE: usize = 256;
const MAX_CHUNK_DIGITS: usize = 16;

/// Digits alone: no sign, nothing around them, and no more than fits everywhere.
fn digits(text: &[u8], radix: u32) -> Option<u64> {
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let text = str::from_utf8(text).ok()?;
    let number = i64::from_str_radix(text, radix).ok()?;
    let is_fine = text.as_bytes().iter().all(is_digit);
    u64::try_from(number).ok().filter(|_| is_fine)
}

#[cfg(test)]
mod tests {
    use super::{Framing, InDoubt};

    /// Where a stream is spoiled, which must not depend on how it is cut into reads.
    fn spoiled_at(stream: &[u8]) -> Option<usize> {
        let whole = Framing::default().follow(stream).err();
        for size in [1, 2, 3, 7] {
            let (mut framing, mut before, mut found) = (Framing::default(), 0, None);
            for piece in stream.chunks(size) {
                if let Err(InDoubt { at }) = framing.follow(piece) {
                    found = Some(InDoubt { at: before + at });
                    break;
                }
                before += piece.len();
            }
            assert_eq!(found, whole, "in pieces of {size}");
        }
        whole.map(|found| found.at)
    }

    #[test]
    fn what_is_framed_in_one_way_passes_and_the_next_request_is_found() {
        for body in [
            "host: a\r\n\r\n",
            "content-length: 0\r\n\r\n",
            "Content-Length:\t7 \r\n\r\na\nb\n\n#c",
            "Transfer-Encoding: Chunked\r\n\r\n3\r\n\n\n#\r\n0a;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n",
            "host: a\r\n\r\n\r\n",
        ] {
            let stream = format!("POST / HTTP/1.1\r\n{body}");
            assert_eq!(spoiled_at(stream.as_bytes()), None, "{body:?}");
            // A line that is in doubt is found where the next head is.
            let next = format!("{stream}GET / HTTP/1.1\r\nx: #\r\n\r\nGET /#");
            let at = next.len();
            assert_eq!(
                spoiled_at(format!("{next}\r\n").as_bytes()),
                Some(at + 1),
                "{body:?}"
            );
        }
    }

    #[test]
    fn a_line_in_doubt_ends_the_stream_at_its_last_byte() {
        const POST: &str = "POST / HTTP/1.1\r\n";
        const LENGTH: &str = "POST / HTTP/1.1\r\ncontent-length: 1\r\n";
        const CODING: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n";
        const CHUNKS: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        const TRAILERS: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n";
        for (head, lines) in [
            ("", &["GET /a#b HTTP/1.1\r\n", "GET / HTTP/1.1\n", "\n"][..]),
            (POST, &["x: y\n", "\n", "content-length: +1\r\n"]),
            (POST, &["content-length: \r\n", "content-length: 1,1\r\n"]),
            (POST, &["content-length: 9223372036854775808\r\n"]),
            (POST, &["transfer-encoding: gzip, chunked\r\n"]),
            (POST, &["transfer-encoding:\r\n", "transfer-encoding: x\n"]),
            (LENGTH, &["content-length: 1\r\n", "Content-Length: 2\r\n"]),
            (LENGTH, &["transfer-encoding: chunked\r\n"]),
            (CODING, &["Transfer-Encoding: chunked\r\n"]),
            (CODING, &["content-length: 1\r\n", "\n"]),
            (CHUNKS, &["1\n", "1 \r\n", "1 ;x\r\n", " 1\r\n", "+1\r\n"]),
            (
                CHUNKS,
                &["0x1\r\n", "\r\n", "00000000000000001\r\n", "-1\r\n"],
            ),
            (
                CHUNKS,
                &["1;\u{b}\r\n", "1;a\rb\r\n", "1;\u{e4}\r\n", ";\r\n"],
            ),
            (TRAILERS, &["z: y\n", "\n"]),
        ] {
            for line in lines {
                let before = format!("{head}{line}");
                let stream = format!("{before}GET /smuggled HTTP/1.1\r\n\r\n");
                let at = before.len() - 1;
                assert_eq!(spoiled_at(stream.as_bytes()), Some(at), "{before:?}");
            }
        }
    }

    #[test]
    fn a_chunks_line_that_does_not_end_is_not_kept() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;";
        let mut framing = Framing::default();
        assert_eq!(framing.follow(head.as_bytes()), Ok(()));
        let outcome = framing.follow(&[b'x'; 1024]);
        assert_eq!(outcome, Err(InDoubt { at: 1023 }));
    }
}
