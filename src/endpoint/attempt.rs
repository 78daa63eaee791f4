//! May a login be judged now? What failed at any replica counts, where the store is shared.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Surroundings;
use crate::identity::throttle::{ThrottleConfig, tell_delayed, too_soon};
use crate::refusal::Refusal;
use crate::store::throttle::{Counters, Rates};

/// The counters that a login counts in at all replicas.
pub(super) struct Shared<'a> {
    around: &'a Surroundings<'a>,
    counters: Option<Counters>,
}

impl<'a> Shared<'a> {
    /// Lets an attempt be judged, or not yet. While the store cannot be asked each replica counts
    /// alone.
    ///
    /// # Errors
    /// [`Reason::Throttled`](crate::refusal::Reason::Throttled), with the time to wait.
    pub(super) async fn admit(
        around: &'a Surroundings<'a>,
        account: Option<&str>,
    ) -> Result<Self, Refusal> {
        let store = &around.shared.store;
        let config = &around.snapshot.throttle;
        let counters = store.is_shared().then(|| {
            let network = config.network(around.means.client).to_string();
            let name = account.map(str::to_lowercase);
            Counters {
                account: name.map(|name| hash(&[&network, &name])),
                source: hash(&[&network]),
            }
        });
        if let Some(counters) = &counters
            && let Ok(left) = store.wait(counters).await
            && !left.is_zero()
        {
            return Err(too_soon(left));
        }
        Ok(Self { around, counters })
    }

    /// It failed.
    pub(super) async fn failed(self) {
        let Some(counters) = &self.counters else {
            return;
        };
        let rates = rates(&self.around.snapshot.throttle);
        let outcome = self.around.shared.store.failed(counters, rates).await;
        match outcome {
            Ok(true) => tell_delayed(self.around.means.client),
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "a failed login was counted here alone"),
        }
    }

    /// It succeeded: the account's failures from there are forgotten.
    pub(super) async fn succeeded(self) {
        if let Some(counters) = &self.counters {
            let outcome = self.around.shared.store.succeeded(counters).await;
            if let Err(error) = outcome {
                tracing::debug!(%error, "failed logins were forgotten here alone");
            }
        }
    }
}

fn rates(config: &ThrottleConfig) -> Rates {
    Rates {
        free_account: config.free_failures,
        free_source: config.free_failures_per_source,
        base: config.base_delay.0,
        max: config.max_delay.0,
        forget: config.forget_after.0,
        each: config.each(),
    }
}

/// Several parts, none of which can pass for another's end, so that no name stands in a key.
fn hash(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(context.finish())
}
