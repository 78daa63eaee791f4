//! What does the gate say about itself? Logs as JSON lines, and metrics.

pub(crate) mod batch;
pub mod exchange;
pub mod handles;
pub mod metrics;
pub mod scrape;
pub mod trace;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

/// What is logged. Everything goes to standard error, one JSON object per line.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: Level,
    /// The share of well-ended exchanges that get a line, from 0 to 1. Refusals by the gate and
    /// failures of upstreams are always logged.
    pub access_sample: f64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: Level::Info,
            access_sample: 1.0,
        }
    }
}

/// A level of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Everything that may help to find a fault.
    Debug,
    /// What went wrong in the gate itself.
    Error,
    /// Every exchange.
    Info,
    /// What went wrong behind the gate.
    Warn,
}

impl Level {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Error => LevelFilter::ERROR,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
        }
    }
}

/// Logging that goes on until this is dropped, which flushes it.
#[derive(Debug)]
pub struct Logging {
    level: LiveLevel,
    _guard: WorkerGuard,
}

impl Logging {
    /// By which the level can be changed.
    #[must_use]
    pub fn level(&self) -> LiveLevel {
        self.level.clone()
    }
}

/// The level of logging, which can be changed at any time.
#[derive(Clone, Debug)]
pub struct LiveLevel(Handle<Targets, Registry>);

impl LiveLevel {
    /// From now on this level holds.
    pub fn set(&self, level: Level) {
        // It fails only when logging has ended.
        let _ = self.0.reload(own_events(level));
    }
}

/// Only our own events: what libraries log of requests could hold what must not be logged.
fn own_events(level: Level) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level.filter())
}

/// Starts logging for the whole process. Lines are written by a thread of their own; when it
/// cannot keep up, lines are lost rather than requests delayed.
pub fn start_logging(config: &LogConfig) -> Logging {
    let (writer, guard) = batch::Lines::to_stderr();
    let (filter, handle) = reload::Layer::new(own_events(config.level));
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    Logging {
        level: LiveLevel(handle),
        _guard: guard,
    }
}
