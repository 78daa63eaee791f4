//! An endpoint behind the gate that can die and come back, and that says what reached it wrongly.
//!
//! The path says what must have come: `/KIND/USER/…/ID`. The answer is the id's own.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socket2::SockRef;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::pause;
use crate::support::chaos::{body_of, read_body};
use crate::support::raw::read_head;

/// How an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Well,
    /// Answers late, but answers.
    Slow,
    /// Breaks off in the middle of the answer, or before it.
    Breaking,
    /// Answers 503.
    Failing,
    /// Takes requests and says nothing.
    Mute,
    /// Nobody listens, and every connection is reset.
    Dead,
}

const MODES: [Mode; 6] = [
    Mode::Well,
    Mode::Slow,
    Mode::Breaking,
    Mode::Failing,
    Mode::Mute,
    Mode::Dead,
];

/// What all endpoints note together.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// How often each id came.
    ids: Mutex<HashMap<u64, u32>>,
    /// What must never come.
    wrong: Mutex<Vec<String>>,
    requests: AtomicU64,
}

impl Record {
    /// How often this id came.
    pub(crate) fn arrivals(&self, id: u64) -> u32 {
        self.ids.lock().unwrap().get(&id).copied().unwrap_or(0)
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What must never come, but came.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    fn note_wrong(&self, why: &str, head: &str) {
        let mut wrong = self.wrong.lock().unwrap();
        wrong.push(format!("{why} at the upstream: {head:?}"));
    }
}

/// One address behind the gate.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    listener: Mutex<Option<TcpListener>>,
}

#[derive(Debug)]
struct Shared {
    mode: AtomicU8,
    open: Mutex<HashMap<u64, TcpStream>>,
    record: Arc<Record>,
}

impl Endpoint {
    /// Listens. The address is one that no other process is given by chance while nobody listens.
    pub(crate) fn start(record: &Arc<Record>) -> Self {
        let host = [127, 77, fastrand::u8(1..255), fastrand::u8(1..255)];
        let listener = TcpListener::bind(SocketAddr::from((host, 0))).unwrap();
        let endpoint = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                mode: AtomicU8::new(Mode::Well as u8),
                open: Mutex::default(),
                record: Arc::clone(record),
            }),
            listener: Mutex::default(),
        };
        endpoint.listen(listener);
        endpoint
    }

    fn listen(&self, listener: TcpListener) {
        let (accepting, shared) = (listener.try_clone().unwrap(), Arc::clone(&self.shared));
        *self.listener.lock().unwrap() = Some(listener);
        std::thread::spawn(move || {
            for (number, stream) in (0..).zip(accepting.incoming()) {
                // The listener was shut down.
                let Ok(stream) = stream else { return };
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(stream, number));
            }
        });
    }

    /// Changes how it does, from now on.
    pub(crate) fn turn(&self, mode: Mode) {
        let before = self.shared.mode.swap(mode as u8, Ordering::SeqCst);
        if mode == Mode::Dead {
            let listener = self.listener.lock().unwrap().take();
            if let Some(listener) = listener {
                SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
            }
            for stream in self.shared.open.lock().unwrap().values() {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Both);
            }
        } else if before == Mode::Dead as u8 {
            self.listen(TcpListener::bind(self.address).unwrap());
        }
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        MODES[usize::from(self.mode.load(Ordering::SeqCst))]
    }

    fn serve(&self, mut stream: TcpStream, number: u64) {
        let limit = Some(Duration::from_secs(120));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        stream.set_nodelay(true).unwrap();
        // Numbers begin again with each listener; those of one before have ended by then, or soon.
        let key = number | u64::from(fastrand::u32(..)) << 32;
        let clone = stream.try_clone().unwrap();
        self.open.lock().unwrap().insert(key, clone);
        while self.mode() != Mode::Dead && self.exchange(&mut stream).is_some() {}
        self.open.lock().unwrap().remove(&key);
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Answers one request; nothing if the connection is over.
    fn exchange(&self, stream: &mut TcpStream) -> Option<()> {
        let head = read_head(stream);
        if !head.ends_with("\r\n\r\n") {
            return None;
        }
        if head.starts_with("GET /healthz ") {
            while self.mode() == Mode::Mute {
                pause(20);
            }
            return say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        self.record.requests.fetch_add(1, Ordering::Relaxed);
        let Some(id) = self.judge(&head) else {
            self.record.note_wrong("a request", &head);
            return None;
        };
        *self.record.ids.lock().unwrap().entry(id).or_default() += 1;
        let body = read_body(stream, &head)?;
        if !body_of(id).starts_with(&body) {
            self.record.note_wrong("a body", &head);
        }
        if head.contains("upgrade: websocket") {
            echo(stream, &head, id);
            return None;
        }
        self.answer(stream, id)
    }

    fn answer(&self, stream: &mut TcpStream, id: u64) -> Option<()> {
        let body = body_of(id);
        let head = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\n");
        let whole = if id.is_multiple_of(3) {
            let (one, two) = body.split_at(body.len() / 3);
            let (first, second) = (one.len(), two.len());
            format!(
                "{head}transfer-encoding: chunked\r\n\r\n{first:x}\r\n{one}\r\n{second:x}\r\n{two}\r\n0\r\n\r\n"
            )
        } else {
            format!("{head}content-length: {}\r\n\r\n{body}", body.len())
        };
        match self.mode() {
            Mode::Well => say(stream, &whole),
            Mode::Slow => {
                pause(fastrand::u64(100..1000));
                say(stream, &whole)
            }
            Mode::Breaking if id.is_multiple_of(2) => None,
            Mode::Breaking => {
                let some = whole.len() - body.len() / 4 - 1;
                let _ = stream.write_all(&whole.as_bytes()[..some]);
                None
            }
            Mode::Failing => {
                let busy = "HTTP/1.1 503 Service Unavailable\r\nx-id: ";
                say(stream, &format!("{busy}{id}\r\ncontent-length: 0\r\n\r\n"))
            }
            Mode::Mute => {
                while self.mode() == Mode::Mute {
                    pause(20);
                }
                None
            }
            Mode::Dead => None,
        }
    }

    /// The request's id, if all is there that must be, and nothing else.
    fn judge(&self, head: &str) -> Option<u64> {
        let target = head.split(' ').nth(1)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parts = path.trim_start_matches('/').split('/');
        let (kind, user) = (parts.next()?, parts.next()?);
        let pair = match kind {
            "basic" | "sealed" => Some(format!("{user}:memphis")),
            "ops" => Some("gate:s3cret".to_owned()),
            "own" | "solo" | "ws" => Some(format!("{user}:of-{user}")),
            _ if kind == "public" || kind.starts_with("gen-") => None,
            _ => return None,
        };
        let lower = head.to_lowercase();
        let is_right = match pair {
            Some(pair) => {
                let own = format!("\r\nauthorization: Basic {}\r\n", STANDARD.encode(pair));
                head.contains(&own) && lower.matches("authorization").count() == 1
            }
            None => !lower.contains("authorization"),
        };
        // A hostile request says so, and a token begins like this.
        let is_clean =
            !lower.contains("evil") && !lower.contains("bearer") && !head.contains("eyJ");
        let is_whole = matches!(query, "" | "a=%2F&&b");
        (is_right && is_clean && is_whole).then_some(())?;
        parts.next_back()?.parse().ok()
    }
}

fn say(stream: &mut TcpStream, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).ok()
}

/// A WebSocket that says first whose it is and then what it hears.
fn echo(stream: &TcpStream, head: &str, id: u64) {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let key = fields.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = derive_accept_key(key.map_or("", |(_, key)| key).as_bytes());
    let mut stream = stream;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nx-id: {id}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    if stream.write_all(answer.as_bytes()).is_err() {
        return;
    }
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    if socket.send(Message::text(format!("<{id}>"))).is_err() {
        return;
    }
    while let Ok(message) = socket.read() {
        if message.is_binary() && socket.send(message).is_err() {
            return;
        }
    }
}
