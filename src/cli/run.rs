//! How does a config become a gate that serves, and how does it end?

use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::dumps;
use super::keep::{HandOver, Keepers};
use super::reload::{Reloader, Started, tell_expiries};
use super::say;
use super::signals::{Signals, StopSignals};
use crate::admin::{Admin, AdminSpec};
use crate::clock;
use crate::config::Config;
use crate::config::files::Files;
use crate::config::guard::Guard;
use crate::config::load::{self, ConfigError};
use crate::config::problem::Problems;
use crate::config::shown::shown;
use crate::identity::hashing::HashingPool;
use crate::identity::throttle::Throttle;
use crate::memory::LOOK_INTERVAL;
use crate::server::drain::{self, Stop};
use crate::server::listener::{Listener, Unbound};
use crate::server::{ListenerConfig, Workers};
use crate::snapshot::{Shared, Snapshot};
use crate::store::{AnyStore, StoreSpec};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::scrape::Registries;
use crate::telemetry::start_logging;
use crate::telemetry::trace::export::Spans;
use crate::token::cache::{SWEEP_INTERVAL, TokenCache};

/// A config in which nothing is wrong, ready to be served.
#[derive(Debug)]
pub struct Prepared {
    /// The config itself.
    pub config: Config,
    /// The rules.
    pub snapshot: Snapshot,
    pub(super) listeners: Vec<Unbound>,
    /// Where operators will connect.
    pub admin: AdminSpec,
    /// The config, as operators may see it.
    pub shown: Value,
    /// Where state will be kept.
    pub store: StoreSpec,
}

/// Checks a config and reads all that it names.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn prepare(config: Config, files: &Files, file: &Path) -> Result<Prepared, ConfigError> {
    let mut problems = Problems::default();
    files.take_loose(config.danger_loose_files);
    let own = file.file_name().map_or(file, Path::new);
    problems.take("this file", files.judge(Guard::Public, own));
    let snapshot = Snapshot::build(&config, files, &mut problems);
    let listeners = config
        .listeners
        .iter()
        .enumerate()
        .filter_map(|(index, listener)| {
            listener.build(&format!("listeners[{index}]"), files, &mut problems)
        });
    let listeners: Vec<_> = listeners.collect();
    if config.listeners.is_empty() {
        problems.add("listeners", "at least one is needed");
    }
    ListenerConfig::check_apart(&config.listeners, &mut problems);
    if config.workers == Some(0) {
        problems.add("workers", "must be at least 1");
    }
    config.reload.check(&mut problems);
    config.dns.check(&mut problems);
    let admin = config.admin.build(files, &mut problems);
    let store = config
        .store
        .build(files, config.limits.state_size.0, &mut problems);
    match (snapshot, admin, store) {
        (Some(snapshot), Some(admin), Some(store)) if problems.is_empty() => Ok(Prepared {
            config,
            snapshot,
            listeners,
            admin,
            shown: Value::Null,
            store,
        }),
        _ => Err(ConfigError::Invalid {
            file: file.to_owned(),
            problems,
        }),
    }
}

/// Reads, checks and prepares a config file.
///
/// # Errors
/// As [`load::load`] and [`prepare`].
pub fn prepare_file(file: &Path) -> Result<Prepared, ConfigError> {
    prepare_with(file, &Files::beside(file))
}

pub(super) fn prepare_with(file: &Path, files: &Files) -> Result<Prepared, ConfigError> {
    let prepared = prepare(load::load(file, files)?, files, file);
    let mut prepared = prepared.map_err(|error| load::located(error, files))?;
    prepared.shown = shown(load::load(file, files)?);
    Ok(prepared)
}

fn no_random(_: aws_lc_rs::error::Unspecified) -> anyhow::Error {
    anyhow::anyhow!("the system's random generator failed")
}

/// Serves a config file until a signal ends it.
///
/// # Errors
/// If the config is wrong, or an address or thread cannot be had.
pub fn run(file: &Path) -> anyhow::Result<()> {
    let files = Files::beside(file);
    let prepared = prepare_with(file, &files)?;
    dumps::settle(prepared.config.danger_core_dumps)?;
    let logging = start_logging(&prepared.config.log);
    let started = Started::new(&prepared.config, files.looks(), logging.level());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let signals = Signals::catch()?;
        let mut serving = serve(prepared).await?;
        let reloader = serving.reloader(file, started)?;
        serving.look_ahead().await;
        serving.announce();
        serving.until_signalled(signals, Some(reloader)).await
    });
    // A look-up of an issuer's name that hangs holds up nothing.
    runtime.shutdown_background();
    outcome
}

/// A gate that serves.
#[derive(Debug)]
pub struct Serving {
    listeners: Vec<Arc<Listener>>,
    admin_address: SocketAddr,
    admin_socket: std::net::TcpListener,
    admin: Arc<Admin>,
    workers: Workers,
    keepers: Keepers,
    hand_over: HandOver,
    stop: Stop,
    delay: Duration,
    is_ready: bool,
}

/// Starts to serve.
///
/// # Errors
/// If an address or thread cannot be had.
pub async fn serve(prepared: Prepared) -> anyhow::Result<Serving> {
    let Prepared {
        config,
        snapshot,
        listeners,
        admin,
        shown,
        store,
    } = prepared;
    let admin_socket = std::net::TcpListener::bind(admin.address)
        .with_context(|| format!("cannot listen on {} (admin.address)", admin.address))?;
    admin_socket.set_nonblocking(true)?;
    let listeners = listeners
        .into_iter()
        .map(|listener| listener.bind().map(Arc::new));
    let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
    let metrics = Metrics::new()?;
    metrics.set_build_info();
    let (spans, exporter) = Spans::new(&metrics);
    let cache = TokenCache::new(&config.tokens.cache).map_err(no_random)?;
    let limits = &config.limits;
    let hashing = HashingPool::start(limits.hashing_threads, limits.hashing_queue)?;
    let shared = Arc::new(Shared::new(
        snapshot,
        cache,
        hashing,
        Throttle::new().map_err(no_random)?,
        AnyStore::open(store)?,
        spans,
    ));
    // Before anybody connects: what was revoked before must not be good again for a moment.
    shared.recollect().await?;
    let (stop, drain) = drain::channel(config.drain.grace.0);
    tell_expiries(&metrics, &listeners);
    let registries = Registries::default();
    registries.add(&metrics);
    let count = config.worker_count();
    let workers = Workers::start(count, &listeners, &shared, &registries, &drain)?;
    let admin = Arc::new(Admin {
        door: ArcSwap::from_pointee(admin.door),
        shown: ArcSwap::from_pointee(shown),
        listeners: listeners.clone(),
        ready_needs_store: config.admin.ready_needs_store,
        registries,
        metrics,
        shared,
        drain,
    });
    admin.tell_expiries();
    let admin_address = admin_socket.local_addr()?;
    Ok(Serving {
        listeners,
        admin_address,
        admin_socket,
        keepers: Keepers::new(Arc::clone(&admin)),
        hand_over: HandOver::start(exporter, Arc::clone(&admin)),
        admin,
        workers,
        stop,
        delay: config.drain.delay.0,
        is_ready: false,
    })
}

impl Serving {
    fn reloader(&self, file: &Path, started: Started) -> anyhow::Result<Reloader> {
        let (admin, listeners) = (Arc::clone(&self.admin), self.listeners.clone());
        Reloader::start(file, started, admin, listeners)
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .map(|listener| listener.address)
            .collect()
    }

    /// Where operators connect.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Fetches external issuers' keys and upstreams' addresses ahead, as far as that can be done
    /// in time.
    async fn look_ahead(&mut self) {
        self.keepers.follow();
        self.keepers.first_attempts().await;
    }

    /// Says where everything is.
    fn announce(&self) {
        for listener in &self.listeners {
            say(format_args!(
                "listening {}://{}",
                listener.scheme(),
                listener.address
            ));
        }
        let scheme = self.admin.scheme();
        say(format_args!("admin {scheme}://{}", self.admin_address));
    }

    /// Serves the admin listener, says when the gate is ready and keeps house until SIGTERM or
    /// SIGINT; at SIGHUP `reloader` reads the config again. Then it is ready no more, goes on for
    /// `drain.delay` and drains: no new connection, those that are open end politely or when the
    /// grace period does, or at once at a second signal. The admin listener answers to the end.
    ///
    /// # Errors
    /// If the admin socket cannot be used, or the store does not take the config.
    pub async fn until_signalled(
        mut self,
        signals: Signals,
        reloader: Option<Reloader>,
    ) -> anyhow::Result<()> {
        let Signals { mut stop, hang_up } = signals;
        let admin = Arc::clone(&self.admin).serve(self.admin_socket.try_clone()?);
        let admin = tokio::spawn(admin);
        let mut asked = (hang_up, reloader);
        self.keep_house(&mut asked, stop.next()).await?;
        if self.leave(&mut asked, &mut stop).await? {
            tracing::warn!("stopped at once by a second signal");
            return Ok(());
        }
        drop(asked);
        self.go_down(stop).await?;
        admin.abort();
        Ok(())
    }

    /// Is ready no more, and goes on for `drain.delay`. Whether a second signal came.
    async fn leave(
        &mut self,
        asked: &mut (Signal, Option<Reloader>),
        stop: &mut StopSignals,
    ) -> anyhow::Result<bool> {
        self.stop.announce();
        let delay = self.delay;
        if delay.is_zero() {
            return Ok(false);
        }
        tracing::info!("not ready any more; the drain begins after drain.delay");
        let end = async {
            tokio::select! {
                () = sleep(delay) => false,
                () = stop.next() => true,
            }
        };
        self.keep_house(asked, end).await
    }

    async fn keep_house<T>(
        &mut self,
        (hang_up, reloader): &mut (Signal, Option<Reloader>),
        end: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        let mut end = pin!(end);
        let mut ticks = interval(SWEEP_INTERVAL);
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let health = Arc::clone(&self.admin.shared.health);
        let mut begun = pin!(health.begun());
        loop {
            tokio::select! {
                begun = &mut begun, if !self.is_ready => {
                    begun.map_err(|text| anyhow!("the store cannot be used: {text}"))?;
                    self.is_ready = true;
                    say("ready");
                }
                ended = &mut end => return Ok(ended),
                _ = hang_up.recv() => reloader.iter().for_each(Reloader::ask),
                () = self.admin.shared.swapped() => self.keepers.follow(),
                _ = looks.tick() => self.look_at_memory(),
                _ = ticks.tick() => {
                    self.admin.shared.sweep(clock::unix_now()).await;
                    release_memory();
                }
            }
        }
    }

    fn look_at_memory(&self) {
        let shared = &self.admin.shared;
        if let Some(look) = shared.memory.look(shared.current().limits.memory) {
            self.admin.metrics.memory(look.taken, look.most);
        }
        if shared.memory.is_reached() {
            // What is free already is not to keep clients out.
            release_memory();
        }
    }

    async fn go_down(self, mut stop: StopSignals) -> anyhow::Result<()> {
        tracing::info!("draining");
        self.stop.begin();
        let (ended, end) = oneshot::channel();
        let (workers, hand_over) = (self.workers, self.hand_over);
        thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                workers.join();
                let _ = ended.send(());
            })?;
        tokio::select! {
            () = async {
                let _ = end.await;
                hand_over.end().await;
            } => tracing::info!("stopped"),
            () = stop.next() => tracing::warn!("stopped at once by a second signal"),
        }
        Ok(())
    }
}

/// Lets the allocator return to the system what a burst took. mimalloc looks for memory that has
/// been free for a while only when it frees a page of its own, which a gate that has fallen idle
/// does not; a block too large to share a page, never touched, makes it look.
fn release_memory() {
    drop(black_box(Vec::<u8>::with_capacity(OWN_PAGE)));
}

const OWN_PAGE: usize = 1024 * 1024;
