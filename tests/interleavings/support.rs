//! What the tests share: a worker that asks as the gate does, and the schedules that are tried.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use tollgate::clock::UnixTime;
use tollgate::config::value::Size;
use tollgate::token::claimed::Wanted;
use tollgate::token::verify::LoggedIn;

use crate::token::cache::{CacheConfig, Circumstances, Front, TokenCache};
use crate::token::hash;
use crate::token::revocation::Revocations;
use crate::token::verify::VerifiedToken;

/// When all requests come.
pub(crate) const NOW: UnixTime = UnixTime(1000);

/// Tries schedules at random, and such as change threads seldom, where few have looked.
pub(crate) fn try_schedules(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    run(RandomScheduler::new(SCHEDULES), &test);
    run(PctScheduler::new(3, SCHEDULES), &test);
}

const SCHEDULES: usize = 500;

fn run(scheduler: impl Scheduler + 'static, test: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    // It says that it takes every ordering of atomics for the strongest.
    config.silence_warnings = true;
    // Far more than any of them takes: who goes on for ever waits for what never comes.
    config.max_steps = MaxSteps::FailAfter(100_000);
    let test = Arc::clone(test);
    Runner::new(scheduler, config).run(move || test());
}

/// An empty cache with these bounds.
pub(crate) fn cache(entries: usize, bytes: usize) -> Arc<TokenCache> {
    let bytes = Size(bytes.try_into().unwrap());
    Arc::new(TokenCache::new(&CacheConfig { entries, bytes }).unwrap())
}

/// A token of this subject and scope, issued and good now.
pub(crate) fn token(subject: &str, scope: &str) -> VerifiedToken {
    let login = LoggedIn {
        subject: subject.to_owned(),
        scopes: vec![scope.to_owned()],
        groups: Vec::new(),
        claims: serde_json::Map::new(),
    };
    let expires = UnixTime(NOW.0 + 600);
    VerifiedToken::of_login(login, None, &Wanted::default(), NOW, expires)
}

/// One worker of a gate.
pub(crate) struct Worker {
    front: Front,
    revocations: Arc<Revocations>,
}

impl Worker {
    pub(crate) fn new(cache: &Arc<TokenCache>, revocations: &Arc<Revocations>) -> Self {
        Self {
            front: Front::new(Arc::clone(cache)),
            revocations: Arc::clone(revocations),
        }
    }

    /// A request with the token of this number, step by step as `src/admit.rs` has it: from the
    /// cache, else verified, held against what was revoked, and remembered.
    pub(crate) fn ask(
        &mut self,
        number: u128,
        generation: u64,
        verify: impl FnOnce() -> VerifiedToken,
    ) -> Option<Rc<VerifiedToken>> {
        let around = Circumstances {
            generation,
            now: NOW,
            leeway: Duration::ZERO,
            revocations: &self.revocations,
        };
        if let Some(known) = self.front.find(hash(number), &around) {
            return Some(known);
        }
        let verified = verify();
        if self.revocations.hit(&verified) {
            return None;
        }
        let (token, _) = self.front.remember(hash(number), verified, generation);
        Some(token)
    }
}
