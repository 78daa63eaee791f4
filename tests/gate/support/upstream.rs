//! An upstream that records every byte and answers as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it arrived: the head's raw bytes as text, and the body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The request line's target.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let lines = lines.filter(|(held, _)| held.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.trim()).collect()
    }

    /// The header's only value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is repeated: {all:?}");
        all.first().copied()
    }
}

/// How the upstream answers: gets the request, writes the response. What it returns says whether
/// the connection goes on.
pub(crate) type Script = dyn Fn(&Seen, &mut TcpStream) -> bool + Send + Sync;

/// A recording upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Answers every request with 200 and `ok`.
    pub(crate) fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    }

    /// Answers every request with these bytes.
    pub(crate) fn answering(response: &str) -> Self {
        let response = response.as_bytes().to_vec();
        Self::scripted(move |_, stream| stream.write_all(&response).is_ok())
    }

    /// Answers as the script says, which is called once the request was read whole.
    pub(crate) fn scripted(
        script: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, script) = (Arc::clone(&record), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &record, &*script));
            }
        });
        Self { address, seen }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The newest request.
    pub(crate) fn last(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("no request arrived")
    }
}

fn serve(mut stream: TcpStream, record: &Mutex<Vec<Seen>>, script: &Script) {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.set_nodelay(true).unwrap();
    while let Some(seen) = read_request(&mut stream) {
        record.lock().unwrap().push(seen.clone());
        if !script(&seen, &mut stream) {
            return;
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut seen = Seen::default();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    seen.head = String::from_utf8_lossy(&head).into_owned();
    if seen
        .header("transfer-encoding")
        .is_some_and(|coding| coding.ends_with("chunked"))
    {
        loop {
            let size = usize::from_str_radix(super::client::read_line(stream).trim(), 16).ok()?;
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).ok()?;
            seen.body.extend_from_slice(&chunk);
            if size == 0 {
                loop {
                    let line = super::client::read_line(stream);
                    if line.trim().is_empty() {
                        return Some(seen);
                    }
                    // Trailers are recorded behind the head.
                    seen.head.push_str(&line);
                }
            }
            super::client::read_line(stream);
        }
    }
    let length = seen
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    seen.body = vec![0; length];
    stream.read_exact(&mut seen.body).ok()?;
    Some(seen)
}
