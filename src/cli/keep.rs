//! Who fetches external issuers' keys, asks how upstreams do and hands over spans, and when? One
//! task for each, on the main thread.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::admin::Admin;
use crate::telemetry::trace::export::{Collector, Exporter};
use crate::token::issuer::fetch::FetchError;
use crate::token::issuer::source::{Fetched, KeySource};
use crate::upstream::UpstreamSpec;
use crate::upstream::watch::{first_answers, watch};

/// The tasks that keep external issuers' keys, and what is known of upstreams, fresh.
#[derive(Debug)]
pub(super) struct Keepers {
    admin: Arc<Admin>,
    running: Vec<(Kept, JoinHandle<()>)>,
}

/// What is kept fresh.
#[derive(Clone, Debug)]
enum Kept {
    Keys(Arc<KeySource>),
    Upstream(Arc<UpstreamSpec>),
}

impl Kept {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keys(one), Self::Keys(other)) => Arc::ptr_eq(one, other),
            (Self::Upstream(one), Self::Upstream(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    async fn keep(self, admin: Arc<Admin>) {
        match self {
            Self::Keys(source) => keep(source, admin).await,
            Self::Upstream(spec) => watch(&spec, &admin.metrics).await,
        }
    }

    async fn first_attempt(&self) {
        match self {
            Self::Keys(source) => {
                let mut attempts = source.attempts();
                let _ = timeout(source.timeout(), attempts.wait_for(|count| *count > 0)).await;
            }
            Self::Upstream(spec) => first_answers(spec).await,
        }
    }
}

impl Keepers {
    pub(super) const fn new(admin: Arc<Admin>) -> Self {
        Self {
            admin,
            running: Vec::new(),
        }
    }

    /// Keeps what the rules in force need, and nothing else. What is new is asked for at once.
    pub(super) fn follow(&mut self) {
        let snapshot = self.admin.shared.current();
        let keys = snapshot.tokens.issuers.sources().cloned().map(Kept::Keys);
        let upstreams = snapshot.upstreams.iter().cloned().map(Kept::Upstream);
        let wanted: Vec<_> = keys.chain(upstreams).collect();
        self.running.retain(|(kept, task)| {
            let is_wanted = wanted.iter().any(|wanted| wanted.is(kept));
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for wanted in wanted {
            if !self.running.iter().any(|(kept, _)| kept.is(&wanted)) {
                let task = tokio::spawn(wanted.clone().keep(Arc::clone(&self.admin)));
                self.running.push((wanted, task));
            }
        }
    }

    /// Waits until each was tried once.
    pub(super) async fn first_attempts(&self) {
        join_all(self.running.iter().map(|(kept, _)| kept.first_attempt())).await;
    }
}

/// The task that hands spans to the collector.
#[derive(Debug)]
pub(super) struct HandOver {
    admin: Arc<Admin>,
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HandOver {
    pub(super) fn start(exporter: Exporter, admin: Arc<Admin>) -> Self {
        let (ending, is_ending) = watch::channel(false);
        let admin_of_task = Arc::clone(&admin);
        let task = tokio::spawn(async move {
            let admin = admin_of_task;
            exporter
                .run(|| collector(&admin), &admin.metrics, is_ending)
                .await;
        });
        Self {
            admin,
            ending,
            task,
        }
    }

    /// Hands over the last spans, as far as that can be done in time.
    pub(super) async fn end(self) {
        let _ = self.ending.send(true);
        let limit = collector(&self.admin).map(|collector| collector.timeout());
        let _ = timeout(limit.unwrap_or_default(), self.task).await;
    }
}

fn collector(admin: &Admin) -> Option<Arc<Collector>> {
    let snapshot = admin.shared.current();
    let tracing = snapshot.tracing.as_ref()?;
    Some(Arc::clone(&tracing.collector))
}

/// Fetches again and again: before keys are old, when somebody asks, and after failures less and
/// less often.
async fn keep(source: Arc<KeySource>, admin: Arc<Admin>) {
    let mut failures = 0;
    loop {
        let outcome = source.fetch().await;
        let keys = outcome.as_ref().ok().map(|fetched| fetched.keys);
        admin
            .metrics
            .keys_fetched(source.issuer(), keys, source.loaded());
        failures = match &outcome {
            Ok(_) => 0,
            Err(_) => failures + 1,
        };
        tell(source.issuer(), &outcome);
        tokio::select! {
            () = sleep(pause(source.soft_ttl(), failures)) => {}
            () = source.wished() => {}
        }
    }
}

fn tell(issuer: &str, outcome: &Result<Fetched, FetchError>) {
    match outcome {
        Err(error) => tracing::warn!(issuer, %error, "an issuer's keys could not be fetched"),
        Ok(fetched) => {
            let Fetched {
                keys,
                added,
                removed,
                is_first,
            } = *fetched;
            if keys == 0 {
                tracing::warn!(
                    issuer,
                    "an issuer has no usable key; its tokens are refused"
                );
            } else if is_first {
                tracing::info!(issuer, keys, "an issuer's keys were loaded");
            } else if added + removed > 0 {
                tracing::info!(issuer, keys, added, removed, "an issuer's keys changed");
            }
        }
    }
}

/// How long until the next fetch: after so many failures in a row, or before keys are old. Never
/// twice the same, so that many gates do not ask at once.
fn pause(soft_ttl: Duration, failures: u32) -> Duration {
    let jitter = fastrand::f64();
    match failures {
        0 => soft_ttl.mul_f64(0.8 + 0.1 * jitter),
        _ => {
            let factor = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
            let delay = FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY);
            delay.mul_f64(0.5 + 0.5 * jitter)
        }
    }
}

/// The longest pause after the first failure; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause.
const LAST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    #[test]
    fn keys_are_fetched_before_they_are_old_and_failures_slow_it_down() {
        let soft = Duration::from_secs(600);
        for _ in 0..100 {
            assert!((480..=540).contains(&pause(soft, 0).as_secs()));
            for (failures, most) in [(1, 1), (2, 2), (4, 8), (7, 60), (40, 60)] {
                let pause = pause(soft, failures);
                let most = Duration::from_secs(most);
                assert!(pause >= most / 2 && pause <= most, "{failures}: {pause:?}");
            }
        }
    }
}
