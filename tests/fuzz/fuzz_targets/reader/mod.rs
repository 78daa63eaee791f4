//! HTTP/1 as the strictest of readers takes it (RFC 9112), written to be checked by eye.

/// A request that is whole.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
    /// Where the next one begins.
    end: usize,
}

impl Message {
    pub(crate) fn head(&self) -> (String, String) {
        (self.method.clone(), self.target.clone())
    }
}

/// The whole requests at the beginning of a stream.
pub(crate) fn messages(stream: &[u8]) -> Vec<Message> {
    let mut messages = Vec::<Message>::new();
    loop {
        let start = messages.last().map_or(0, |message| message.end);
        match message(stream, start) {
            Some(message) => messages.push(message),
            None => return messages,
        }
    }
}

/// Method and target behind these requests, where a head is whole but its body is not.
pub(crate) fn head_after(stream: &[u8], messages: &[Message]) -> Option<(String, String)> {
    let start = messages.last().map_or(0, |message| message.end);
    let head = head(stream, start)?;
    Some((head.method, head.target))
}

fn message(stream: &[u8], start: usize) -> Option<Message> {
    let Head {
        method,
        target,
        framing,
        end,
    } = head(stream, start)?;
    let (body, end) = match framing {
        Framing::Length(length) => {
            let end = end.checked_add(length)?;
            (stream.get(end - length..end)?.to_vec(), end)
        }
        Framing::Chunked => chunks(stream, end)?,
    };
    Some(Message {
        method,
        target,
        body,
        end,
    })
}

struct Head {
    method: String,
    target: String,
    framing: Framing,
    end: usize,
}

enum Framing {
    Length(usize),
    Chunked,
}

fn head(stream: &[u8], start: usize) -> Option<Head> {
    let mut at = start;
    let mut first = line(stream, &mut at)?;
    // Section 2.2.
    while first.is_empty() {
        first = line(stream, &mut at)?;
    }
    let words = Vec::from_iter(first.split(' '));
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = *words else {
        return None;
    };
    if method.is_empty() || target.is_empty() || target.contains('#') {
        return None;
    }
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    loop {
        let field = line(stream, &mut at)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':')?;
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        match &*name.to_ascii_lowercase() {
            "content-length" => lengths.push(value.to_owned()),
            "transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    let framing = match (&*lengths, &*codings) {
        ([], []) => Framing::Length(0),
        ([length], []) => Framing::Length(digits(length, 10)?),
        ([], [coding]) if coding == "chunked" => Framing::Chunked,
        _ => return None,
    };
    Some(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        framing,
        end: at,
    })
}

fn chunks(stream: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let size = line(stream, &mut at)?;
        let size = digits(size.split(';').next().unwrap_or_default(), 16)?;
        if size == 0 {
            // Trailers.
            while !line(stream, &mut at)?.is_empty() {}
            return Some((body, at));
        }
        let end = at.checked_add(size)?;
        body.extend_from_slice(stream.get(at..end)?);
        at = end;
        if !line(stream, &mut at)?.is_empty() {
            return None;
        }
    }
}

/// A line that ends with CRLF and has no other control character but a tab; `at` goes behind it.
fn line(stream: &[u8], at: &mut usize) -> Option<String> {
    let rest = stream.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    if line
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return None;
    }
    *at += end + 2;
    // Letters beyond ASCII mean nothing here, but may stand in values.
    Some(line.iter().map(|byte| char::from(*byte)).collect())
}

fn digits(text: &str, radix: u32) -> Option<usize> {
    let is_number = !text.is_empty() && text.chars().all(|letter| letter.is_digit(radix));
    usize::from_str_radix(text, radix)
        .ok()
        .filter(|_| is_number)
}
