//! Who fetches external issuers' keys, and when? One task for each issuer, on the main thread.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::admin::Admin;
use crate::token::issuer::fetch::FetchError;
use crate::token::issuer::source::{Fetched, KeySource};

/// The tasks that keep external issuers' keys fresh.
#[derive(Debug)]
pub(super) struct Keepers {
    admin: Arc<Admin>,
    running: Vec<(Arc<KeySource>, JoinHandle<()>)>,
}

impl Keepers {
    pub(super) const fn new(admin: Arc<Admin>) -> Self {
        Self {
            admin,
            running: Vec::new(),
        }
    }

    /// Keeps the keys of the issuers in force, and no others. Those of new ones are fetched at
    /// once.
    pub(super) fn follow(&mut self) {
        let snapshot = self.admin.shared.current();
        let wanted: Vec<_> = snapshot.tokens.issuers.sources().cloned().collect();
        self.running.retain(|(source, task)| {
            let is_wanted = wanted.iter().any(|wanted| Arc::ptr_eq(wanted, source));
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        for source in wanted {
            let is_kept = |(kept, _): &(_, _)| Arc::ptr_eq(kept, &source);
            if !self.running.iter().any(is_kept) {
                let task = tokio::spawn(keep(Arc::clone(&source), Arc::clone(&self.admin)));
                self.running.push((source, task));
            }
        }
    }

    /// Waits until each was tried once.
    pub(super) async fn first_attempts(&self) {
        let attempts = self.running.iter().map(|(source, _)| {
            let mut attempts = source.attempts();
            async move {
                let _ = timeout(source.timeout(), attempts.wait_for(|count| *count > 0)).await;
            }
        });
        join_all(attempts).await;
    }
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
