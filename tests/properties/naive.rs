//! What paths and encodings mean, found the naive way; for the fuzz targets, too.

use tollgate::route::path::{PathForm, PathForms};

/// What a path is, found the naive way: its segments and forms, or nothing if it has no one
/// reading.
pub(crate) fn read_path(raw: &str) -> Option<(Vec<String>, PathForms)> {
    let body = raw.strip_prefix('/')?;
    let raw_segments = Vec::from_iter(body.split('/'));
    let (mut segments, mut forms) = (Vec::new(), Vec::new());
    for (index, segment) in raw_segments.iter().enumerate() {
        // Each `%` needs two digits.
        for (at, _) in segment.match_indices('%') {
            let digits = segment.as_bytes().get(at + 1..at + 3)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
        }
        let text = String::from_utf8(decode(segment)).ok()?;
        let is_dot = |part: &str| part == "." || part == "..";
        let parts = || text.split('/').map(|part| part.split(';').next().unwrap());
        if text.contains('\\')
            || text.chars().any(|letter| letter.is_ascii_control())
            || parts().any(is_dot)
        {
            return None;
        }
        if segment.is_empty() && index + 1 < raw_segments.len() {
            forms.push(PathForm::EmptySegment);
        }
        if text.contains('/') {
            forms.push(PathForm::EncodedSlash);
        }
        if text.contains(['?', '#']) {
            forms.push(PathForm::EncodedDelimiter);
        }
        if text.contains(';') {
            forms.push(PathForm::PathParameter);
        }
        if text
            .split(['/', ';'])
            .any(|part| part.ends_with(['.', ' ']))
        {
            forms.push(PathForm::TrailingDot);
        }
        // A back end that decodes again sees another text.
        if decode(&text) != text.as_bytes() {
            forms.push(PathForm::DoubleEncoding);
        }
        segments.push(text);
    }
    Some((segments, forms.into_iter().collect()))
}

/// The naive way to undo percent-encoding; what is no encoding stays.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
