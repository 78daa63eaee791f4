//! What does a store do in a second, how soon does a revocation hold at every replica, and what
//! does a session take? `cargo bench --bench store`; needs `redis-server`.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench that cannot run stops, tells what it found and has its own clock"
)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Builder;
use tollgate::clock::{UnixTime, unix_now};
use tollgate::config::files::Files;
use tollgate::config::problem::Problems;
use tollgate::store::family::{Family, Presented};
use tollgate::store::{AnyStore, StoreConfig};
use tollgate::token::revocation::{Revocation, Revoked};

/// How much is done.
struct Size {
    /// Sessions for the operations per second.
    sessions: usize,
    /// Sessions for the memory.
    held: usize,
    /// Revocations.
    revocations: usize,
}

const FULL: Size = Size {
    sessions: 20_000,
    held: 100_000,
    revocations: 1_000,
};
const ONCE: Size = Size {
    sessions: 100,
    held: 100,
    revocations: 5,
};
/// How many ask side by side.
const SIDE_BY_SIDE: usize = 64;

struct Redis {
    server: Child,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let server = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--port",
                &port.to_string(),
            ])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server; run tests/install.sh");
        Self { server, port }
    }

    fn open(&self) -> AnyStore {
        open(&format!(
            "{{\"redis\":{{\"urls\":[\"redis://127.0.0.1:{}\"]}}}}",
            self.port
        ))
    }

    fn used(&self) -> u64 {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "INFO", "memory"])
            .output()
            .expect("redis-cli");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let used = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        used.expect("a figure").trim().parse().expect("a number")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn open(config: &str) -> AnyStore {
    let config: StoreConfig = serde_json::from_str(config).expect("a store's config");
    let mut problems = Problems::default();
    let spec = config.build(&Files::default(), 1 << 30, &mut problems);
    AnyStore::open(spec.expect("a store")).expect("a store")
}

fn family(index: usize) -> String {
    format!("dGhlIGlkIG9mIGEgZmFtaWx5IGhhcyB0aGlz{index:08}")
}

fn later() -> UnixTime {
    unix_now().plus(Duration::from_secs(30 * 24 * 3600))
}

async fn begin(store: &AnyStore, range: std::ops::Range<usize>) {
    let mut indices = range.peekable();
    while indices.peek().is_some() {
        let some = indices.by_ref().take(SIDE_BY_SIDE).map(|index| {
            let family = Family {
                id: family(index),
                // Two sessions for each account.
                subject: format!("account-{:08}", index / 2),
                expires: later(),
            };
            store.begin(family, unix_now())
        });
        for outcome in join_all(some).await {
            outcome.expect("a session");
        }
    }
}

async fn take(store: &AnyStore, count: usize) {
    let mut indices = (0..count).peekable();
    while indices.peek().is_some() {
        let some = indices.by_ref().take(SIDE_BY_SIDE).map(|index| async move {
            let id = family(index);
            let presented = Presented {
                family: &id,
                generation: 0,
                next_expires: later(),
            };
            store
                .take(presented, unix_now(), Duration::from_secs(10))
                .await
        });
        for outcome in join_all(some).await {
            outcome.expect("a rotation");
        }
    }
}

fn per_second(count: usize, since: Instant) -> u64 {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    count.saturating_mul(1_000_000) / micros.max(1)
}

async fn operations(name: &str, store: &AnyStore, count: usize) {
    store.health().begun().await.expect("a store");
    let started = Instant::now();
    begin(store, 0..count).await;
    let logins = per_second(count, started);
    let started = Instant::now();
    take(store, count).await;
    let refreshes = per_second(count, started);
    println!(
        "{name}: {logins} logins, {refreshes} refreshes per second, {SIDE_BY_SIDE} side by side"
    );
}

async fn delays(redis: &Redis, count: usize) {
    let replicas = [redis.open(), redis.open(), redis.open()];
    for replica in &replicas {
        replica.health().begun().await.expect("a store");
    }
    // Until all listen.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut delays = Vec::with_capacity(count);
    let [first, others @ ..] = &replicas;
    for index in 0..count {
        let before = others.each_ref().map(|replica| replica.view().count());
        let revocation = Revocation {
            what: Revoked::Token(format!("token-{index}")),
            at: unix_now(),
            until: later(),
        };
        let started = Instant::now();
        first.revoke(&revocation).await.expect("a revocation");
        for (replica, before) in others.iter().zip(before) {
            while replica.view().count() == before {
                tokio::task::yield_now().await;
            }
        }
        delays.push(started.elapsed());
    }
    delays.sort_unstable();
    let at = |share: usize| delays.get(delays.len() * share / 100).copied();
    println!(
        "a revocation in force at 3 replicas: p50 {:?}, p99 {:?}, longest {:?}",
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default(),
        delays.last().copied().unwrap_or_default()
    );
}

async fn memory(redis: &Redis, count: usize) {
    let store = redis.open();
    store.health().begun().await.expect("a store");
    let before = redis.used();
    begin(&store, 0..count).await;
    let used = redis.used().saturating_sub(before);
    let each = used / u64::try_from(count).unwrap_or(1).max(1);
    println!(
        "{count} sessions of {} accounts: {} MiB in Redis, {each} bytes each",
        count / 2,
        used >> 20
    );
}

fn main() {
    // cargo's own argument when it only wants to see whether it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let size = if is_bench { FULL } else { ONCE };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("store-bench-{}", std::process::id()));
    runtime.block_on(async {
        operations("memory", &open("\"memory\""), size.sessions).await;
        let config = format!("{{\"file\":{file:?}}}");
        operations("file", &open(&config), size.sessions / 10).await;
        let redis = Redis::start();
        operations("redis", &redis.open(), size.sessions).await;
        drop(redis);
        delays(&Redis::start(), size.revocations).await;
        memory(&Redis::start(), size.held).await;
    });
    let _ = std::fs::remove_file(file);
}
