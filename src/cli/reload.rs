//! How does a changed config come into force while the gate serves?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::run::prepare_with;
use crate::admin::Admin;
use crate::config::Config;
use crate::config::files::{Files, Looks};
use crate::config::problem::Problems;
use crate::config::value::Span;
use crate::server::ListenerConfig;
use crate::server::listener::{Listener, Unbound};
use crate::telemetry::LiveLevel;
use crate::telemetry::metrics::Metrics;

/// How changes are noticed while the gate serves.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// How often the config and every file that it names are looked at. What has changed and is
    /// the same at the next look is put in force. `0s`: never, only at SIGHUP.
    pub interval: Span,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self {
            interval: Span::seconds(5),
        }
    }
}

impl ReloadConfig {
    /// Notes an interval that would keep the disk busy.
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.interval > NEVER && self.interval < SHORTEST {
            let text = "must be at least 100ms, or 0s for never";
            problems.add("reload.interval", text);
        }
    }
}

const NEVER: Span = Span(Duration::ZERO);
const SHORTEST: Span = Span(Duration::from_millis(100));

/// What the gate started with.
#[derive(Debug)]
pub(super) struct Started {
    config: Config,
    looks: Looks,
    level: LiveLevel,
}

impl Started {
    pub(super) fn new(config: &Config, looks: Looks, level: LiveLevel) -> Self {
        let config = config.clone();
        Self {
            config,
            looks,
            level,
        }
    }

    /// What of another config comes into force at a restart alone.
    fn waiting(&self, config: &Config) -> Vec<&'static str> {
        let old = &self.config;
        let listeners = |config: &Config| config.listeners.len();
        let mut pairs = old.listeners.iter().zip(&config.listeners);
        let are_alike = listeners(old) == listeners(config)
            && pairs.all(|(old, new)| ListenerConfig::is_alike(old, new));
        let limits = |config: &Config| {
            let limits = &config.limits;
            let hashing = (limits.hashing_threads, limits.hashing_queue);
            (limits.connections, hashing)
        };
        let parts = [
            ("listeners", !are_alike),
            ("admin", old.admin != config.admin),
            ("workers", old.workers != config.workers),
            ("tokens.cache", old.tokens.cache != config.tokens.cache),
            ("store", old.store != config.store),
            ("limits", limits(old) != limits(config)),
            ("drain", old.drain != config.drain),
            (
                "danger_core_dumps",
                old.danger_core_dumps != config.danger_core_dumps,
            ),
        ];
        let parts = parts.into_iter().filter(|(_, differs)| *differs);
        parts.map(|(name, _)| name).collect()
    }
}

/// A thread of its own that reads the config again, when asked and when its files change. A file
/// system that hangs holds up nothing else.
#[derive(Debug)]
pub struct Reloader(SyncSender<()>);

impl Reloader {
    /// Starts the thread; it ends when the handle is dropped.
    ///
    /// # Errors
    /// If a thread cannot be had.
    pub(super) fn start(
        file: &Path,
        started: Started,
        admin: Arc<Admin>,
        listeners: Vec<Arc<Listener>>,
    ) -> anyhow::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let watch = Watch {
            file: file.to_owned(),
            interval: started.config.reload.interval,
            known: Known::new(started.looks.clone()),
            started,
            admin,
            listeners,
        };
        let thread = thread::Builder::new().name("reload".to_owned());
        thread.spawn(move || watch.run(&asked))?;
        Ok(Self(ask))
    }

    /// Has the config read again.
    pub(super) fn ask(&self) {
        // One that waits already will see the newest files too.
        let _ = self.0.try_send(());
    }
}

struct Watch {
    file: PathBuf,
    started: Started,
    admin: Arc<Admin>,
    listeners: Vec<Arc<Listener>>,
    interval: Span,
    known: Known,
}

impl Watch {
    fn run(mut self, asked: &Receiver<()>) {
        loop {
            let waited = match self.interval {
                NEVER => asked.recv().map_err(RecvTimeoutError::from),
                interval => asked.recv_timeout(interval.0),
            };
            match waited {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if !self.known.has_changed() => {}
                Ok(()) | Err(RecvTimeoutError::Timeout) => self.reload(),
            }
        }
    }

    /// Puts the file's rules in force, or keeps the old ones and says why.
    fn reload(&mut self) {
        let files = Files::beside(&self.file);
        let outcome = prepare_with(&self.file, &files);
        self.known = Known::new(files.looks());
        match outcome {
            Ok(prepared) => {
                let waiting = self.started.waiting(&prepared.config);
                let is_same_admin = self.started.config.admin == prepared.config.admin;
                self.interval = prepared.config.reload.interval;
                // Nothing from here on can fail: all of it comes into force, or none did.
                self.started.level.set(prepared.config.log.level);
                self.admin.shared.swap(prepared.snapshot);
                self.renew_certificates(prepared.listeners);
                self.admin.shown.store(Arc::new(prepared.shown));
                if is_same_admin {
                    // Other operators, or another certificate.
                    self.admin.renew(prepared.admin.door);
                }
                self.admin.metrics.reloaded(true);
                self.admin.metrics.waits_for_restart(!waiting.is_empty());
                tracing::info!("the config was read again and is in force");
                if !waiting.is_empty() {
                    let parts = waiting.join(", ");
                    tracing::warn!(parts, "parts of the new config wait for a restart");
                }
            }
            Err(error) => {
                self.admin.metrics.reloaded(false);
                tracing::error!(%error, "the new config was refused; the old one goes on");
            }
        }
    }
}

impl Watch {
    /// Gives each listener the certificates that the new config has for it; the metric follows.
    fn renew_certificates(&self, mut next: Vec<Unbound>) {
        let metrics = &self.admin.metrics;
        for listener in &self.listeners {
            let Some(replaced) = listener.renew(&mut next) else {
                continue;
            };
            for (name, _) in replaced.expiries() {
                metrics.no_certificate(&listener.name, name);
            }
            tracing::info!(listener = listener.name, "new certificates are in force");
        }
        tell_expiries(metrics, &self.listeners);
    }
}

/// Puts in the metrics when each certificate expires.
pub(super) fn tell_expiries(metrics: &Metrics, listeners: &[Arc<Listener>]) {
    for listener in listeners {
        let Some(tls) = &listener.tls else {
            continue;
        };
        for (name, not_after) in tls.load().expiries() {
            metrics.certificate(&listener.name, name, not_after);
        }
    }
}

/// What the files held.
struct Known {
    /// When the newest config was read from them, good or not.
    seen: Looks,
    /// At the last look, if not the same.
    changed: Option<Looks>,
}

impl Known {
    const fn new(seen: Looks) -> Self {
        let changed = None;
        Self { seen, changed }
    }

    /// Whether two looks in a row found the same, and not what is known: a file may be half
    /// written, or gone for a moment while another takes its place.
    fn has_changed(&mut self) -> bool {
        let found = self.seen.again();
        let before = self.changed.take();
        if found == self.seen {
            return false;
        }
        let has_settled = before.as_ref() == Some(&found);
        self.changed = Some(found);
        has_settled
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, remove_dir_all, remove_file, write};
    use std::path::Path;

    use super::Known;
    use crate::config::files::Files;

    #[test]
    fn a_change_counts_once_it_was_found_twice() {
        let name = format!("tollgate-looks-{:016x}", fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        create_dir_all(&folder).unwrap();
        let (a, b) = (folder.join("a"), folder.join("b"));
        write(&a, "1").unwrap();
        let read = || {
            let files = Files::beside(&folder.join("config"));
            assert!(files.read(Path::new("a")).is_ok());
            let _ = files.read(Path::new("b"));
            Known::new(files.looks())
        };
        let mut known = read();
        assert!(!known.has_changed());
        // Gone for a moment, and back with what it had.
        remove_file(&a).unwrap();
        assert!(!known.has_changed());
        write(&a, "1").unwrap();
        assert!(!known.has_changed());
        assert!(!known.has_changed());
        // Gone, and then back with something else.
        remove_file(&a).unwrap();
        assert!(!known.has_changed());
        write(&a, "2").unwrap();
        assert!(!known.has_changed());
        assert!(known.has_changed());
        known = read();
        assert!(!known.has_changed());
        // A file that was missing.
        write(&b, "").unwrap();
        assert!(!known.has_changed());
        assert!(known.has_changed());
        known = read();
        // Gone for good.
        remove_file(&b).unwrap();
        assert!(!known.has_changed());
        assert!(known.has_changed());
        remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_was_not_the_same_twice_is_read_again() {
        let name = format!("tollgate-torn-{:016x}", fastrand::u64(..));
        let file = std::env::temp_dir().join(name);
        let files = Files::beside(&file);
        let name = Path::new(file.file_name().unwrap());
        for content in ["1", "2"] {
            write(&file, content).unwrap();
            assert!(files.read(name).is_ok());
        }
        let mut known = Known::new(files.looks());
        assert!(!known.has_changed());
        assert!(known.has_changed());
        remove_file(&file).unwrap();
    }
}
