//! Which rules hold right now? All of them in one piece, swapped as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::clock::{self, UnixTime};
use crate::config::Config;
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::dialect::{LoginConfig, Mounts};
use crate::identity::hashing::HashingPool;
use crate::identity::throttle::{Throttle, ThrottleConfig};
use crate::identity::{self, Principal, Providers};
use crate::memory::Watermark;
use crate::mqtt::config::Spoken;
use crate::mqtt::subjects::Subjects;
use crate::refusal::{Reason, Refusal};
use crate::route::table::RouteTable;
use crate::route::{self, Given, Surroundings};
use crate::server::{LimitsConfig, ListenerConfig};
use crate::store::health::{Health, Phase};
use crate::store::outlive::Outlive;
use crate::store::{AnyStore, StoreError};
use crate::telemetry::trace::Tracing;
use crate::telemetry::trace::export::Spans;
use crate::token::Tokens;
use crate::token::cache::TokenCache;
use crate::token::claimed::Wanted;
use crate::token::issuer::Issuers;
use crate::token::revocation::{Revocation, Revocations, Revoked};
use crate::upstream::credential::UpstreamCredential;
use crate::upstream::{Protocol, UpstreamSpec};

/// Everything that is decided by config, keys and users. A request sees one from beginning to
/// end.
#[derive(Debug)]
pub struct Snapshot {
    /// What tokens have to be.
    pub tokens: Tokens,
    /// Who knows users.
    pub providers: Providers,
    /// The login dialects, where they are mounted.
    pub mounts: Mounts,
    /// The routes.
    pub routes: RouteTable,
    /// The upstreams, in the order that routes count in.
    pub upstreams: Vec<Arc<UpstreamSpec>>,
    /// Whether users' own credentials go into their tokens.
    pub seals_logins: bool,
    /// Bounds on what clients may take.
    pub limits: LimitsConfig,
    /// How failed logins slow further ones down.
    pub throttle: ThrottleConfig,
    /// The share of well-ended exchanges that are logged.
    pub access_sample: f64,
    /// Which exchanges are traced, if any.
    pub tracing: Option<Tracing>,
    generation: u64,
}

impl Snapshot {
    /// Builds all that the config asks for; notes every problem.
    #[must_use]
    pub fn build(config: &Config, files: &Files, problems: &mut Problems) -> Option<Self> {
        let tokens = config.tokens.build(files, problems);
        let around = (config.worker_count(), &config.dns);
        let upstreams = config.upstreams.iter().filter_map(|(name, upstream)| {
            upstream.build(name, around, files, problems).map(Arc::new)
        });
        let upstreams: Vec<_> = upstreams.collect();
        let can_seal = config.tokens.seal_key_file.is_some();
        let providers = Providers::build(
            &config.identity,
            &config.upstreams,
            can_seal,
            files,
            problems,
        );
        let own_issuer = &config.tokens.issuer.0;
        let issuers = identity::issuers(&config.identity, own_issuer, files, problems);
        check_ways_in(config, &providers, &issuers, problems);
        let around = surroundings(config, &providers, files);
        let routes = route::build(&config.routes, &around, problems);
        check_listeners(config, &routes, problems);
        config.throttle.check(problems);
        config.limits.check(problems);
        if !(0.0..=1.0).contains(&config.log.access_sample) {
            problems.add("log.access_sample", "must be between 0 and 1");
        }
        let tracing = config.tracing.as_ref();
        let tracing = tracing.and_then(|tracing| tracing.build(files, problems));
        let mounts = mounts(config, problems);
        let mut tokens = tokens?;
        tokens.issuers = issuers;
        tokens.wanted = Wanted::new(routes.claims().cloned().collect());
        let mut credentials = routes.all().iter().map(|route| &route.credential);
        let seals_logins = providers.need_login() || credentials.any(UpstreamCredential::is_login);
        Some(Self {
            tokens,
            providers,
            mounts,
            routes,
            upstreams,
            seals_logins,
            limits: config.limits.clone(),
            throttle: config.throttle.clone(),
            access_sample: config.log.access_sample,
            tracing,
            generation: 0,
        })
    }

    /// What a principal logged in with, sealed for its tokens; nothing where no rule asks for it,
    /// or where it proves nothing to an upstream.
    ///
    /// # Errors
    /// [`Reason::BadCredentials`] if it cannot be sealed, such as for its length.
    pub fn seal(&self, principal: &Principal) -> Result<Option<String>, Refusal> {
        let (Some(sealer), Some(login), true) =
            (&self.tokens.sealer, &principal.login, self.seals_logins)
        else {
            return Ok(None);
        };
        let sealed = sealer.seal(login, &principal.subject);
        let refuse = |error| Refusal::with_cause(Reason::BadCredentials, error);
        sealed.map(Some).map_err(refuse)
    }

    /// How long any token can live that is issued under these rules.
    #[must_use]
    pub fn longest_life(&self) -> Duration {
        let lifetimes = self.mounts.lifetimes().chain([&self.tokens.lifetimes]);
        let longest = lifetimes.map(|lifetimes| lifetimes.max_access.max(lifetimes.max_refresh));
        longest
            .max()
            .unwrap_or_default()
            .saturating_add(self.tokens.leeway)
    }

    /// How long what is taken back must be remembered. An external issuer's tokens live as long as
    /// it likes; past [`EXTERNAL_LIFE`] one of them outlives its revocation.
    fn memory(&self, revoked: &Revoked) -> Duration {
        let is_ours = match revoked {
            Revoked::Family(_) => true,
            Revoked::All | Revoked::Subject(_) => false,
            Revoked::Token(id) => !id.contains('#'),
        };
        match is_ours || self.tokens.issuers.is_empty() {
            true => self.longest_life(),
            false => self.longest_life().max(EXTERNAL_LIFE),
        }
    }

    /// Counts up with every snapshot of a process.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

/// Notes listeners of MQTT whose connections no route takes to an upstream that speaks it.
fn check_listeners(config: &Config, routes: &RouteTable, problems: &mut Problems) {
    let listeners = config.listeners.iter().enumerate();
    let of_mqtt = listeners.filter(|(_, listener)| listener.protocol == Spoken::Mqtt);
    for (index, listener) in of_mqtt {
        let Some(path) = &listener.path else { continue };
        let at = format_args!("listeners[{index}].path");
        let taken = routes.for_sessions(path);
        if taken.is_empty() {
            problems.add(
                at,
                format_args!("no route with `protocol: mqtt` has the path {path}"),
            );
        }
        for route in taken {
            let upstream = route
                .upstream
                .and_then(|place| config.upstreams.values().nth(place));
            if upstream.is_some_and(|upstream| upstream.protocol != Protocol::Mqtt) {
                let text = format_args!(
                    "leads to the route `{}`, whose upstream takes MQTT in WebSockets alone: it must have `protocol: mqtt`",
                    route.name
                );
                problems.add(at, text);
            }
        }
    }
}

/// What routes refer to.
fn surroundings<'a>(
    config: &'a Config,
    providers: &Providers,
    files: &'a Files,
) -> Surroundings<'a> {
    let logins = &config.login;
    // Programs' errors do not take the form that is for people.
    let mut programs = logins.iter().filter(|login| login.login_page().is_none());
    let only_login = programs.next().filter(|_| programs.next().is_none());
    let login_pages: Vec<_> = logins.iter().filter_map(LoginConfig::login_page).collect();
    Surroundings {
        upstreams: &config.upstreams,
        default_dialect: only_login.map(|login| login.dialect),
        can_seal: config.tokens.seal_key_file.is_some(),
        given: Given {
            sessions: !login_pages.is_empty(),
            tickets: logins.iter().any(|login| login.dialect.gives_tickets()),
        },
        login_pages,
        users: providers.upstream_credentials(),
        forwards: config.forwards(),
        files,
    }
}

/// Notes logins where nobody could log in.
fn check_ways_in(
    config: &Config,
    providers: &Providers,
    issuers: &Issuers,
    problems: &mut Problems,
) {
    if config.identity.is_empty() && !config.login.is_empty() {
        problems.add(
            "identity",
            "nobody could log in: list a users_file, an upstream_probe or an oidc issuer",
        );
        return;
    }
    let mut pages = config.login.iter().filter_map(LoginConfig::login_page);
    if pages.next().is_some() && !providers.know_passwords() && !issuers.can_log_in() {
        problems.add(
            "login",
            "nobody could log in with a browser: give an oidc issuer `client_id` and `browser`, or list a users_file or an upstream_probe",
        );
    }
}

/// The login dialects, where they are mounted and can be reached.
fn mounts(config: &Config, problems: &mut Problems) -> Mounts {
    let names = config.listeners.iter().map(ListenerConfig::name);
    let names: Vec<_> = names.collect();
    ListenerConfig::check_logins(&config.listeners, &config.login, problems);
    Mounts::build(&config.login, &names, &config.tokens.lifetimes(), problems)
}

/// A year: how long revocations of external tokens are remembered.
const EXTERNAL_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// What all workers share: read by all, written by none of them but for the cache.
#[derive(Debug)]
pub struct Shared {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
    /// The cache of verified tokens.
    pub cache: Arc<TokenCache>,
    /// Where passwords are hashed.
    pub hashing: HashingPool,
    /// The logins that failed of late.
    pub throttle: Throttle,
    /// What outlives a request.
    pub store: AnyStore,
    /// How this replica stands to the store.
    pub health: Arc<Health>,
    /// What was taken back.
    pub revocations: Arc<Revocations>,
    outlive: Outlive,
    /// Where spans wait for the collector.
    pub spans: Spans,
    /// Whether there is memory for more work.
    pub memory: Watermark,
    /// The sessions of MQTT that each subject has.
    pub(crate) subjects: Arc<Subjects>,
    swapped: Notify,
}

impl Shared {
    /// Starts with this snapshot.
    #[must_use]
    pub fn new(
        snapshot: Snapshot,
        cache: TokenCache,
        hashing: HashingPool,
        throttle: Throttle,
        store: AnyStore,
        spans: Spans,
    ) -> Self {
        Self {
            generation: AtomicU64::new(snapshot.generation),
            current: ArcSwap::from_pointee(snapshot),
            cache: Arc::new(cache),
            hashing,
            throttle,
            health: store.health(),
            revocations: store.view(),
            outlive: Outlive::default(),
            store,
            spans,
            memory: Watermark::new(),
            subjects: Arc::default(),
            swapped: Notify::new(),
        }
    }

    /// The generation of the current snapshot; cheap enough to ask for every request.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Learns what was revoked before this process began. A store that lost it takes everything
    /// back: nobody knows any more which tokens were revoked.
    ///
    /// # Errors
    /// If the store cannot tell.
    pub async fn recollect(&self) -> Result<(), StoreError> {
        if self.store.is_shared() {
            // It feeds the view itself, from its first answer on.
            return Ok(());
        }
        for revocation in self.store.revocations(clock::unix_now()).await? {
            self.revocations.add(revocation);
        }
        self.note_lives(clock::unix_now()).await;
        match self.store.is_amnesic() {
            true => self.revoke(Revoked::All).await,
            false => Ok(()),
        }
    }

    /// Takes back what this names: in force from the very next request on.
    ///
    /// # Errors
    /// If the store cannot keep it; it is in force here all the same.
    pub async fn revoke(&self, what: Revoked) -> Result<(), StoreError> {
        let now = clock::unix_now();
        let at = self.revocations.reach(&what, now);
        let until = at.plus(self.current().memory(&what));
        let mut revocation = Revocation { what, at, until };
        self.revocations.add(revocation.clone());
        revocation.until = until.max(self.note_lives(now).await);
        self.revocations.add(revocation.clone());
        self.store.revoke(&revocation).await
    }

    /// Has the store remember until when tokens live; by when the last one has ended.
    async fn note_lives(&self, now: UnixTime) -> UnixTime {
        let life = self.current().longest_life();
        self.outlive.note(&self.store, life, now).await
    }

    /// Forgets what has expired.
    pub async fn sweep(&self, now: UnixTime) {
        let snapshot = self.current();
        self.cache
            .sweep(snapshot.generation(), now, snapshot.tokens.leeway);
        self.revocations.sweep(now);
        self.throttle.sweep(&snapshot.throttle, clock::now());
        if self.health.phase() == Phase::InStep {
            self.note_lives(now).await;
            if let Err(error) = self.store.sweep(now).await {
                tracing::warn!(%error, "the store could not forget what has expired");
            }
        }
    }

    /// Puts a new snapshot in force. Requests under way go on with theirs. What is known of
    /// external issuers' keys and of unchanged upstreams goes over into it.
    pub fn swap(&self, mut snapshot: Snapshot) {
        let current = self.current();
        snapshot.tokens.issuers.adopt(&current.tokens.issuers);
        for upstream in &mut snapshot.upstreams {
            let mut known = current.upstreams.iter();
            if let Some(known) = known.find(|known| known.is_same(upstream)) {
                *upstream = Arc::clone(known);
            }
        }
        self.outlive.issued(current.longest_life());
        let next = self.generation().wrapping_add(1);
        snapshot.generation = next;
        self.current.store(Arc::new(snapshot));
        self.generation.store(next, Ordering::Release);
        self.swapped.notify_one();
    }

    /// Waits until another snapshot was put in force. For one who waits.
    pub async fn swapped(&self) {
        self.swapped.notified().await;
    }
}
