//! What a client got for a request to an upstream that may fail, and whether it may get that.

use std::io::Read;

use bytes::Bytes;

use super::chaos::{Seen, body_of};
use super::raw::read_rest;

/// What a client got for one request.
#[derive(Debug)]
pub(crate) enum Got {
    Answer {
        status: u16,
        /// Whose answer it says that it is.
        own: Option<String>,
        body: String,
        is_whole: bool,
    },
    /// The connection ended first.
    Nothing,
    /// The client did not wait.
    Left,
}

impl Got {
    /// As [`super::http2::Http2::send_together`] tells it.
    pub(crate) fn of_http2(answer: Option<(http::response::Parts, Option<Bytes>)>) -> Self {
        let Some((head, body)) = answer else {
            return Self::Nothing;
        };
        let own = head.headers.get("x-id");
        Self::Answer {
            status: head.status.as_u16(),
            own: own.map(|id| id.to_str().unwrap().to_owned()),
            is_whole: body.is_some(),
            body: text(body.unwrap_or_default().to_vec()),
        }
    }
}

/// Which request, and what came of it.
pub(crate) type Outcome = (u64, Got);

/// Reads one answer, with nothing beyond it.
pub(crate) fn read_answer(stream: &mut impl Read) -> Got {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return Got::Nothing,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(held, _)| *held == name)
            .map(|(_, value)| value)
    };
    let own = field("x-id").map(str::to_owned);
    let (body, is_whole) = match (field("content-length"), field("transfer-encoding")) {
        (Some(length), None) => {
            let length: u64 = length.parse().unwrap();
            let mut body = Vec::new();
            let _ = stream.by_ref().take(length).read_to_end(&mut body);
            let is_whole = body.len() as u64 == length;
            (body, is_whole)
        }
        (None, Some("chunked")) => read_chunked(stream),
        (None, None) if status == 204 => (Vec::new(), true),
        framing => panic!("{framing:?}: {head}"),
    };
    // What comes after an answer that closes would be nobody's.
    if field("connection") == Some("close") {
        assert_eq!(read_rest(stream), b"", "{head}");
        return Got::Answer {
            status,
            own,
            body: text(body),
            is_whole,
        };
    }
    Got::Answer {
        status,
        own,
        body: text(body),
        is_whole,
    }
}

fn read_chunked(stream: &mut impl Read) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                _ => return (body, false),
            }
        }
        let size = u64::from_str_radix(text(line).trim(), 16).unwrap();
        let mut chunk = Vec::new();
        let _ = stream.by_ref().take(size + 2).read_to_end(&mut chunk);
        if chunk.len() as u64 != size + 2 {
            return (body, false);
        }
        if size == 0 {
            return (body, true);
        }
        chunk.truncate(chunk.len() - 2);
        body.append(&mut chunk);
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Whether a client got for this request what it may get.
pub(crate) fn judge(seen: Seen, (id, got): &Outcome, arrived: bool) -> Result<(), String> {
    let Got::Answer {
        status,
        own,
        body,
        is_whole,
    } = got
    else {
        // The head of an answer that breaks off may be lost with it over HTTP/2.
        let is_fine = matches!(got, Got::Left) || seen == Seen::Part;
        return is_fine
            .then_some(())
            .ok_or_else(|| format!("{id} got {got:?}"));
    };
    let wrong = || {
        format!("{id}: {status}, of {own:?}, whole: {is_whole}, arrived: {arrived}: {body:.200}")
    };
    let is_gates = own.is_none() && *is_whole && !body.contains('<') && body.contains("message");
    let is_own = *own == Some(id.to_string());
    let is_right = match (status, seen) {
        // The connection to the upstream broke before the request was there, or the upstream did.
        (502, Seen::Broken | Seen::Part | Seen::WholeOrNot) | (504, Seen::Silent) => is_gates,
        (502, _) => is_gates && !arrived,
        (204, Seen::Nothing) => is_own && body.is_empty(),
        (200, Seen::Whole | Seen::WholeOrNot) if *is_whole => is_own && *body == body_of(*id),
        (200, Seen::Part | Seen::WholeOrNot) => {
            is_own && !is_whole && body_of(*id).starts_with(body.as_str())
        }
        _ => false,
    };
    is_right.then_some(()).ok_or_else(wrong)
}
