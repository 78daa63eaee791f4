//! An upstream that keeps every byte that arrives.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::raw::accepting;

/// Answers what it takes for a whole request with 200.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&bytes);
        let address = accepting(move |mut stream| {
            let (mut own, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                record.lock().unwrap().extend_from_slice(&buffer[..count]);
                own.extend_from_slice(&buffer[..count]);
                if is_whole(&own) {
                    own.clear();
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            }
        });
        Self { address, bytes }
    }

    /// All that arrived, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// How many request lines arrived.
    pub(crate) fn requests(&self) -> usize {
        self.text().matches(" HTTP/1.").count()
    }
}

/// A head and its body, by length or in chunks that have come to their end.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    if head.contains("transfer-encoding") {
        return text.contains("\r\n0\r\n") && text.ends_with("\r\n\r\n");
    }
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| *name == "content-length");
    let length = length.map_or(0, |(_, value)| value.trim().parse().unwrap());
    body.len() >= length
}
