//! The storm: logins at a fixed rate beside the load, right, wrong and by nobody, whatever becomes
//! of them.
//!
//! Every attempt names another account than those before it, and each connection has an address of
//! its own, so that what is throttled by account or source is throttled as little as it can be:
//! the hashing is what the load is to suffer from.

use std::iter::Sum;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use socket2::{Domain, Socket, Type};

use crate::wire::{Connection, Target};

/// A storm that is under way.
pub(crate) struct Storm {
    sky: Arc<Sky>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// How logins were answered.
#[derive(Clone, Copy, Default)]
pub(crate) struct Answers {
    pub(crate) elapsed: Duration,
    /// 200.
    pub(crate) granted: u64,
    /// 401.
    pub(crate) refused: u64,
    /// 429.
    pub(crate) throttled: u64,
    /// 503.
    pub(crate) busy: u64,
}

/// What the connections share.
struct Sky {
    start: Instant,
    next: AtomicU32,
    is_over: AtomicBool,
    counts: [AtomicU64; STATUSES.len()],
}

impl Storm {
    pub(crate) fn start(target: &Target) -> anyhow::Result<Self> {
        let connections = (0..CONNECTIONS)
            .map(|serial| connect(target, serial))
            .collect::<Result<Vec<_>, _>>()?;
        let sky = Arc::new(Sky {
            start: Instant::now(),
            next: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            counts: Default::default(),
        });
        let threads = connections
            .into_iter()
            .map(|connection| {
                let sky = Arc::clone(&sky);
                thread::Builder::new()
                    .stack_size(STACK)
                    .spawn(move || sky.drive(connection))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { sky, threads })
    }

    /// Ends it; waits for the logins under way.
    pub(crate) fn stop(self) -> anyhow::Result<Answers> {
        self.sky.is_over.store(true, Ordering::Relaxed);
        let elapsed = self.sky.start.elapsed();
        for thread in self.threads {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))?;
        }
        let [granted, refused, throttled, busy] = &self.sky.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Answers {
            elapsed,
            granted: count(granted),
            refused: count(refused),
            throttled: count(throttled),
            busy: count(busy),
        })
    }
}

impl Answers {
    pub(crate) const fn total(&self) -> u64 {
        self.granted + self.refused + self.throttled + self.busy
    }
}

impl Sum for Answers {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            elapsed: sum.elapsed + one.elapsed,
            granted: sum.granted + one.granted,
            refused: sum.refused + one.refused,
            throttled: sum.throttled + one.throttled,
            busy: sum.busy + one.busy,
        })
    }
}

impl Sky {
    fn drive(&self, mut connection: Connection) -> anyhow::Result<()> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.start + Duration::from_secs(1) / RATE * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let response = connection.exchange(&attempt(number))?;
            let known = STATUSES
                .iter()
                .position(|status| *status == response.status);
            known
                .and_then(|place| self.counts.get(place))
                .with_context(|| format!("a login was answered {}", response.status))?
                .fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A connection from an address of its own: all of 127.0.0.0/8 is this machine.
fn connect(target: &Target, serial: u8) -> anyhow::Result<Connection> {
    let source = SocketAddr::from((Ipv4Addr::new(127, 1 + serial, 0, 1), 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&source.into())?;
    socket
        .connect(&target.address.into())
        .with_context(|| format!("cannot connect from {source}"))?;
    Connection::over(TcpStream::from(socket))
}

/// Of four attempts two have the right password, one a wrong one, and one names nobody.
fn attempt(number: u32) -> Vec<u8> {
    let account = number / 4 % ACCOUNTS;
    let (name, password) = match number % 4 {
        0 | 1 => (format!("user-{account}"), PASSWORD),
        2 => (format!("user-{account}"), "wrong"),
        _ => (format!("nobody-{number}"), PASSWORD),
    };
    let body = format!(r#"{{"username":"{name}","password":"{password}"}}"#);
    let length = body.len();
    format!(
        "POST /auth/authenticate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A users file with the storm's accounts, which share one hash.
pub(crate) fn users(hash: &str) -> String {
    let users = (0..ACCOUNTS)
        .map(|account| format!("  - {{ name: user-{account}, password_hash: \"{hash}\" }}\n"));
    format!("users:\n{}", users.collect::<String>())
}

/// Logins a second.
pub(crate) const RATE: u32 = 1_000;
pub(crate) const PASSWORD: &str = "the password of everybody in the storm";

const ACCOUNTS: u32 = 1_000;
/// More than the gate lets wait for its hashing, so that there is always somebody to try next.
const CONNECTIONS: u8 = 192;
const STACK: usize = 128 * 1024;
const STATUSES: [&str; 4] = ["200", "401", "429", "503"];
