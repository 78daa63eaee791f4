//! How does a replica come to know what the others revoked, and that it knows it all?
//!
//! Messages tell at once, and the log of revocations is read every so often, because a message
//! can be missed. After every connect all of it is read, and what this replica knows and the log
//! does not is written there: a failover that lost it loses nothing that a replica still knows.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{ErrorKind, RedisError, ServerErrorKind, cmd};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::config::RedisMode;
use super::keys::LAYOUT;
use super::link::Link;
use super::log::{self, Place};
use crate::clock;
use crate::store::StoreError;
use crate::store::health::{Health, Phase};
use crate::token::revocation::Revocations;

/// What the store's thread and those who ask share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) link: Link,
    pub(super) view: Arc<Revocations>,
    pub(super) health: Arc<Health>,
    /// Told when the log should be read now.
    wake: Notify,
    /// Whether the log may lack what this replica knows.
    pub(super) owes: AtomicBool,
}

/// Why the log is not followed.
#[derive(Debug)]
enum Failure {
    /// It may go away.
    Passing(String),
    /// The server answers, but not to this config.
    Wrong(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Passing(error.to_string())
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        let is_refusal = matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed
                | ErrorKind::InvalidClientConfig
                | ErrorKind::MasterNameNotFoundBySentinel
                | ErrorKind::Server(ServerErrorKind::NoPerm)
        ) || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
            || text.contains("cluster support disabled");
        match is_refusal {
            true => Self::Wrong(text),
            false => Self::Passing(text),
        }
    }
}

impl Core {
    pub(super) fn new(link: Link) -> Self {
        let health = Arc::new(Health::following(link.spec.max_staleness));
        Self {
            link,
            view: Arc::default(),
            health,
            wake: Notify::new(),
            owes: AtomicBool::new(true),
        }
    }

    /// Keeps the connection and the log's view, for ever.
    pub(super) async fn follow(&self) -> Infallible {
        let mut failures = 0;
        let mut turn = 0;
        loop {
            let failure = match self.session(&mut failures, turn).await {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            turn = usize::wrapping_add(turn, 1);
            // A cluster's connection mends itself, and its other nodes may be well.
            if self.link.spec.mode != RedisMode::Cluster || failures > 2 {
                self.link.set(None);
            }
            self.tell(&failure, failures);
            if let Failure::Wrong(text) = failure {
                self.health.wrong(text);
            }
            sleep(pause(failures)).await;
            failures += 1;
        }
    }

    /// Connects, and reads the log until that fails.
    async fn session(&self, failures: &mut u32, turn: usize) -> Result<Infallible, Failure> {
        let link = &self.link;
        if link.current().is_none() {
            let connection = link.spec.connect(turn).await?;
            link.set(Some(Arc::new(connection)));
        }
        self.check_layout().await?;
        self.owes.store(true, Ordering::Release);
        let mut place = Place::default();
        let mut ticks = interval(link.spec.catch_up_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
                () = link.doubt.notified() => {}
            }
            let asked = clock::unix_now();
            if self.owes.swap(false, Ordering::AcqRel) {
                let outcome = log::reconcile(link, &self.view, &mut place).await;
                outcome.inspect_err(|_| self.owes.store(true, Ordering::Release))?;
            } else {
                log::catch_up(link, &self.view, &mut place).await?;
            }
            *failures = 0;
            if self.health.in_step(asked) {
                tracing::info!("the store is in step");
            }
        }
    }

    /// What is in the store must be readable.
    async fn check_layout(&self) -> Result<(), Failure> {
        let Some(connection) = self.link.current() else {
            return Err(Failure::Passing("it cannot be reached".to_owned()));
        };
        let key = self.link.spec.keys.layout();
        let within = self.link.spec.timeout;
        let late = |_| Failure::Passing("it did not answer in time".to_owned());
        let mut set = cmd("SET");
        set.arg(&key).arg(LAYOUT).arg("NX");
        timeout(within, connection.ask::<redis::Value>(&set))
            .await
            .map_err(late)??;
        let mut get = cmd("GET");
        get.arg(&key);
        let found: String = timeout(within, connection.ask(&get))
            .await
            .map_err(late)??;
        match found == LAYOUT {
            true => Ok(()),
            false => Err(Failure::Wrong(format!(
                "`{key}` says layout {found}, and this version knows only layout {LAYOUT}: it was \
                 written by another version; give this one another `store.redis.prefix`, or take \
                 what is there along with `tollgate state export` of that version"
            ))),
        }
    }

    fn tell(&self, failure: &Failure, failures: u32) {
        let (Failure::Passing(error) | Failure::Wrong(error)) = failure;
        let is_start = self.health.phase() == Phase::Starting;
        let is_news = self.health.behind();
        if is_start && failures == 0 {
            tracing::error!(
                %error,
                "the store cannot be reached; the gate is not ready and tries again"
            );
        } else if is_news {
            tracing::error!(
                %error,
                "the store cannot be reached; tokens are judged from memory, logins get 503"
            );
        } else {
            tracing::debug!(%error, failures, "the store cannot be reached");
        }
    }

    /// Hears of revocations, for ever.
    pub(super) async fn listen(&self) -> Infallible {
        let mut failures = 0;
        let mut turn = 0;
        loop {
            match self.hear(&mut failures, turn).await {
                Ok(()) => tracing::debug!("the store's messages ended"),
                Err(error) => tracing::debug!(%error, "the store's messages cannot be had"),
            }
            turn = usize::wrapping_add(turn, 1);
            sleep(pause(failures)).await;
            failures += 1;
        }
    }

    async fn hear(&self, failures: &mut u32, turn: usize) -> Result<(), RedisError> {
        let (mut sink, mut messages) = self.link.spec.subscribe(turn).await?.split();
        *failures = 0;
        // What was told before is in the log.
        self.wake.notify_one();
        let mut pings = interval(PING_INTERVAL);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => log::heard(message.get_payload_bytes(), &self.view),
                    None => return Ok(()),
                },
                _ = pings.tick() => {
                    let ping = timeout(self.link.spec.timeout, sink.ping::<redis::Value>());
                    if ping.await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// How long until the next attempt, after so many that failed: never twice the same, so that
/// many replicas do not come at once.
fn pause(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    let longest = FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY);
    longest.mul_f64(0.5 + 0.5 * fastrand::f64())
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How often it is looked whether messages could still come.
const PING_INTERVAL: Duration = Duration::from_secs(5);
