//! An upstream that fails in every way there is, each request in the one that its id stands for.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socket2::SockRef;

use super::raw::{accepting, read_head, read_rest};

/// What a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The whole answer.
    Whole,
    /// The whole answer, or that the service failed.
    WholeOrNot,
    /// No more than a part of the answer, and that it is a part; or that the service failed.
    Part,
    /// 204 without a body.
    Nothing,
    /// That the service broke off: 502.
    Broken,
    /// That the service did not answer: 504.
    Silent,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) seen: Seen,
    /// Of so many requests.
    weight: usize,
    play: fn(&mut Exchange<'_>) -> Then,
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
    Reset,
}

const fn fault(
    name: &'static str,
    seen: Seen,
    weight: usize,
    play: fn(&mut Exchange<'_>) -> Then,
) -> Fault {
    Fault {
        name,
        seen,
        weight,
        play,
    }
}

/// All the ways.
pub(crate) const FAULTS: &[Fault] = &[
    fault("by length", Seen::Whole, 8, |it| it.say(&it.whole(""))),
    fault("in chunks", Seen::Whole, 8, |it| it.say(&it.chunks())),
    fault("as HTTP/1.0", Seen::Whole, 2, |it| {
        it.say(&it.whole("").replace("HTTP/1.1", "HTTP/1.0"));
        Then::Close
    }),
    fault("until its end", Seen::Whole, 2, |it| {
        it.say(&format!("{}\r\n{}", it.head(""), it.body()));
        Then::Close
    }),
    fault("late", Seen::Whole, 3, |it| {
        pause(20);
        it.say(&it.whole(""))
    }),
    fault("in drips", Seen::Whole, 3, |it| it.drip()),
    fault("after some 1xx", Seen::Whole, 3, |it| {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        it.say(&early.repeat(10));
        it.say(&it.whole(""))
    }),
    fault("and closes", Seen::Whole, 4, |it| {
        it.say(&it.whole(""));
        Then::Close
    }),
    fault("and resets", Seen::WholeOrNot, 3, |it| {
        it.say(&it.whole(""));
        Then::Reset
    }),
    fault("and says more than its length", Seen::Whole, 4, |it| {
        it.say(&(it.whole("") + "more"))
    }),
    fault("twice at once", Seen::Whole, 4, |it| {
        it.say(&(it.whole("") + POISON))
    }),
    fault("in chunks, and once more", Seen::Whole, 4, |it| {
        it.say(&(it.chunks() + POISON))
    }),
    fault("before it was asked all, twice", Seen::Whole, 6, |it| {
        // Played before the body is read.
        it.say(&(it.whole("") + POISON))
    }),
    fault("204 with a body", Seen::Nothing, 3, |it| {
        let head = it.head("").replace("200 OK", "204 No Content");
        it.say(&format!("{head}\r\n{POISON}"))
    }),
    fault("too short", Seen::Part, 4, |it| {
        it.say(&it.without_its_end(it.whole("")));
        Then::Close
    }),
    fault("too short, reset", Seen::Part, 4, |it| {
        it.say(&it.without_its_end(it.whole("")));
        Then::Reset
    }),
    fault("chunks without an end", Seen::Part, 4, |it| {
        it.say(it.chunks().strip_suffix("0\r\n\r\n").unwrap());
        Then::Close
    }),
    fault("half a chunk, half closed", Seen::Part, 4, |it| {
        it.say(&it.without_its_end(it.chunks()));
        it.half_close()
    }),
    fault("a bad chunk size", Seen::Part, 4, |it| {
        it.say(&it.chunks().replace("\r\n0\r\n\r\n", "\r\n-1\r\n\r\n"))
    }),
    fault("a chunk size beyond all", Seen::Part, 2, |it| {
        let beyond = format!("\r\n{}\r\n", "f".repeat(17));
        it.say(&it.chunks().replace("\r\n0\r\n\r\n", &beyond))
    }),
    fault("closed", Seen::Broken, 4, |_| Then::Close),
    fault("reset", Seen::Broken, 4, |_| Then::Reset),
    fault("half closed", Seen::Broken, 2, |it| it.half_close()),
    fault("half a head", Seen::Broken, 3, |it| {
        it.say(&it.head("content-le"));
        Then::Close
    }),
    fault("half a head, reset", Seen::Broken, 3, |it| {
        it.say(&it.head("content-le"));
        Then::Reset
    }),
    fault("garbage", Seen::Broken, 3, |it| {
        it.say("\u{1}\u{2}\u{fffd}\r\n\r\n\0\0")
    }),
    fault("as HTTP/0.9", Seen::Broken, 2, |it| {
        it.say("<html>it works</html>");
        Then::Close
    }),
    fault("as HTTP/2.0", Seen::Broken, 2, |it| {
        it.say(&it.whole("").replace("HTTP/1.1", "HTTP/2.0"))
    }),
    fault("as HTTP/1.2", Seen::Broken, 2, |it| {
        it.say(&it.whole("").replace("HTTP/1.1", "HTTP/1.2"))
    }),
    fault("101 unasked", Seen::Broken, 3, |it| {
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
        it.say(&(it.head(upgrade).replace("200 OK", "101 Switching") + "\r\n" + POISON))
    }),
    fault("by length and in chunks", Seen::Broken, 2, |it| {
        let both = "\r\ncontent-length: 4\r\n";
        it.say(&it.chunks().replacen("\r\n", both, 1))
    }),
    fault("in another coding", Seen::Broken, 2, |it| {
        it.say(&(it.head("transfer-encoding: gzip\r\n") + "\r\n" + &it.body()));
        Then::Close
    }),
    fault("two lengths", Seen::Broken, 2, |it| {
        it.say(&it.whole("content-length: 3\r\n"))
    }),
    fault("a bad length", Seen::Broken, 2, |it| {
        it.say(
            &it.whole("")
                .replace("content-length: ", "content-length: +"),
        )
    }),
    fault("too large a head", Seen::Broken, 2, |it| {
        it.say(&it.whole(&format!("x-large: {}\r\n", "x".repeat(200_000))))
    }),
    fault("a head without end", Seen::Broken, 2, |it| {
        it.say(&it.head(""));
        while it.stream.write_all(b"x-more: x\r\n").is_ok() {}
        Then::Close
    }),
    fault("never", Seen::Silent, 1, |it| {
        read_rest(it.stream);
        Then::Close
    }),
    fault("1xx for ever", Seen::Silent, 1, |it| {
        while it.stream.write_all(b"HTTP/1.1 103 Hints\r\n\r\n").is_ok() {
            pause(5);
        }
        Then::Close
    }),
];

/// An answer that belongs to nobody.
const POISON: &str = "HTTP/1.1 200 OK\r\nx-id: poison\r\ncontent-length: 6\r\n\r\npoison";

/// How the request with this id is answered.
pub(crate) fn fault_of(seed: u64, id: u64) -> &'static Fault {
    let mut random = fastrand::Rng::with_seed(seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let all: usize = FAULTS.iter().map(|fault| fault.weight).sum();
    let mut at = random.usize(..all);
    let mut faults = FAULTS.iter();
    loop {
        let fault = faults.next().unwrap();
        match at.checked_sub(fault.weight) {
            Some(rest) => at = rest,
            None => return fault,
        }
    }
}

/// The body of the answer to this id, and of the request with it: itself, again and again.
pub(crate) fn body_of(id: u64) -> String {
    let mut random = fastrand::Rng::with_seed(id);
    let most = if random.u8(..16) == 0 { 20_000 } else { 600 };
    format!("<{id}>").repeat(random.usize(2..most))
}

/// The upstream, and what it has seen.
#[derive(Clone, Debug)]
pub(crate) struct Chaos {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// How often each id came.
    ids: Mutex<HashMap<u64, usize>>,
    /// What must never come.
    wrong: Mutex<Vec<String>>,
}

impl Chaos {
    pub(crate) fn start(seed: u64) -> Self {
        let record = Arc::new(Record::default());
        let own = Arc::clone(&record);
        let address = accepting(move |stream| serve(stream, seed, &record));
        Self {
            address,
            record: own,
        }
    }

    /// How often each id came.
    pub(crate) fn ids(&self) -> HashMap<u64, usize> {
        self.record.ids.lock().unwrap().clone()
    }

    /// What must never come, but came.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.record.wrong.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, seed: u64, record: &Record) {
    loop {
        let head = read_head(&mut stream);
        if !head.ends_with("\r\n\r\n") {
            if !head.is_empty() {
                record.wrong.lock().unwrap().push(head);
            }
            return;
        }
        let Some((user, id)) = judge(&head, record) else {
            return;
        };
        *record.ids.lock().unwrap().entry(id).or_default() += 1;
        let fault = fault_of(seed, id);
        let mut exchange = Exchange {
            stream: &mut stream,
            id,
            user,
        };
        let is_early = fault.name.starts_with("before");
        let mut then = Then::GoOn;
        if is_early {
            then = (fault.play)(&mut exchange);
        }
        match read_body(exchange.stream, &head) {
            // The client broke off.
            None => return,
            Some(body) if !body_of(id).starts_with(&body) => {
                record.wrong.lock().unwrap().push(format!("{head}{body}"));
            }
            Some(_) => {}
        }
        if !is_early {
            then = (fault.play)(&mut exchange);
        }
        if then == Then::Reset {
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        if then != Then::GoOn {
            return;
        }
    }
}

/// Whose request it is, and its id; notes what must not be there.
fn judge(head: &str, record: &Record) -> Option<(String, u64)> {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let mut parts = target.trim_start_matches("/api/").split('/');
    let user = parts.next()?.to_owned();
    let id = parts.next().and_then(|id| id.parse().ok());
    let password = STANDARD.encode(format!("{user}:of-{user}"));
    let own = format!("authorization: Basic {password}\r\n");
    let lower = head.to_lowercase();
    let is_right = head.contains(&own)
        && lower.matches("authorization").count() == 1
        && !lower.contains("bearer")
        && !head.contains("eyJ");
    if !is_right || id.is_none() {
        record.wrong.lock().unwrap().push(head.to_owned());
    }
    Some((user, id?))
}

/// Reads a request's body; nothing if the client broke off.
pub(crate) fn read_body(stream: &mut TcpStream, head: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut body = Vec::new();
    match fields.find(|(name, _)| matches!(*name, "content-length" | "transfer-encoding")) {
        None => {}
        Some(("content-length", length)) => {
            body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).ok()?;
        }
        Some(_) => loop {
            let size = read_size(stream)?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        },
    }
    String::from_utf8(body).ok()
}

fn read_size(stream: &mut TcpStream) -> Option<usize> {
    let mut line = String::new();
    while !line.ends_with("\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(char::from(byte[0]));
    }
    usize::from_str_radix(line.trim(), 16).ok()
}

/// One request that is to be answered.
struct Exchange<'a> {
    stream: &'a mut TcpStream,
    id: u64,
    user: String,
}

impl Exchange<'_> {
    fn say(&mut self, text: &str) -> Then {
        match self.stream.write_all(text.as_bytes()) {
            Ok(()) => Then::GoOn,
            Err(_) => Then::Close,
        }
    }

    fn body(&self) -> String {
        body_of(self.id)
    }

    /// All of a head but its last line.
    fn head(&self, further: &str) -> String {
        let Self { id, user, .. } = self;
        format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\nx-user: {user}\r\n{further}")
    }

    fn whole(&self, further: &str) -> String {
        let (head, body) = (self.head(further), self.body());
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    }

    fn chunks(&self) -> String {
        let head = self.head("transfer-encoding: chunked\r\n");
        let body = self.body();
        let (one, two) = body.split_at(body.len() / 3);
        format!(
            "{head}\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
            one.len(),
            two.len()
        )
    }

    /// As much as leaves some of the body to come.
    fn without_its_end(&self, mut answer: String) -> String {
        answer.truncate(answer.len() - self.body().len() / 4 - 1);
        answer
    }

    fn drip(&mut self) -> Then {
        let answer = self.whole("");
        let (first, rest) = answer.split_at(answer.len().min(200));
        for piece in first.as_bytes().chunks(20) {
            if self.stream.write_all(piece).is_err() {
                return Then::Close;
            }
            pause(2);
        }
        self.say(rest)
    }

    fn half_close(&mut self) -> Then {
        let _ = self.stream.shutdown(Shutdown::Write);
        read_rest(self.stream);
        Then::Close
    }
}

fn pause(milliseconds: u64) {
    std::thread::park_timeout(Duration::from_millis(milliseconds));
}
