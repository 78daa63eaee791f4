//! THE PATH. One request walks through the house once, from top to bottom; this is the only
//! place where a refusal becomes a response.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;
use tokio::time::{Instant as Deadline, timeout_at};

use crate::admit::Asked;
use crate::answer::{self, Voice};
use crate::authority::{authority, host};
use crate::body::{GateBody, Kept};
use crate::clock;
use crate::cors;
use crate::dialect::{Endpoint, Mount};
use crate::endpoint;
use crate::identity::Means;
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::route::path::CanonicalPath;
use crate::route::policy::Permit;
use crate::rules::Rules;
use crate::server::LimitsConfig;
use crate::server::guard::ExchangeGuard;
use crate::server::peer::Peer;
use crate::snapshot::Shared;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::handles::{CacheMetrics, UpstreamFault};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Stage;
use crate::token::cache::Front;
use crate::upstream::body::{RequestBody, Upload};
use crate::upstream::connect::Upstream;
use crate::upstream::respond;
use crate::upstream::translate::{Facts, UpstreamRequest, translate};
use crate::walk::{Answer, Walk};

/// One worker's gate.
#[derive(Debug)]
pub struct Gate {
    pub(crate) shared: Arc<Shared>,
    rules: RefCell<Rc<Rules>>,
    pub(crate) front: RefCell<Front>,
    metrics: Metrics,
    pub(crate) cache_metrics: CacheMetrics,
}

impl Gate {
    /// A gate over what all workers share.
    #[must_use]
    pub fn new(shared: Arc<Shared>, metrics: Metrics) -> Rc<Self> {
        let rules = Rules::new(shared.current(), &metrics, None);
        let cache_metrics = metrics.cache();
        Rc::new(Self {
            front: RefCell::new(Front::new(Arc::clone(&shared.cache))),
            rules: RefCell::new(Rc::new(rules)),
            shared,
            metrics,
            cache_metrics,
        })
    }

    /// Where this worker counts.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether there is no memory for more work.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.shared.memory.is_reached()
    }

    /// Bounds on what clients may take.
    #[must_use]
    pub fn limits(&self) -> LimitsConfig {
        self.rules().snapshot.limits.clone()
    }

    /// Drops what is dead in this worker's own memory.
    pub fn sweep(&self) {
        let rules = self.rules();
        let leeway = rules.snapshot.tokens.leeway;
        let generation = rules.snapshot.generation();
        self.front
            .borrow_mut()
            .sweep(generation, clock::unix_now(), leeway);
        let now = clock::now();
        rules
            .upstreams
            .iter()
            .for_each(|upstream| upstream.sweep(now));
    }

    /// Answers one request; never fails.
    ///
    /// # Errors
    /// None.
    pub async fn handle(
        self: Rc<Self>,
        peer: Rc<Peer>,
        connection: ExchangeGuard,
        request: Request<Incoming>,
    ) -> Result<Response<GateBody>, Infallible> {
        let rules = self.rules();
        let (mut head, body) = request.into_parts();
        let connected = peer.address;
        let asker = peer.entrance.forward_auth.as_ref();
        let question = asker.map(|asker| {
            let is_trusted = peer.entrance.proxies.hold(connected);
            asker.read(&mut head, is_trusted)
        });
        let peer = peer.behind_proxies(&head.headers);
        let mut exchange = Exchange::start(
            head.method.clone(),
            head.uri.clone(),
            peer.address,
            answer::request_id(&head.headers),
            rules.snapshot.access_sample,
        );
        if let Some(tracing) = &rules.snapshot.tracing {
            let is_trusted = peer.entrance.proxies.hold(connected);
            exchange.traced(tracing.begin(&head.headers, is_trusted, &self.shared.spans));
        }
        let mut walk = Walk {
            exchange,
            voice: Voice::Plain,
            is_token_in_query: false,
            is_session: false,
            origin: cors::origin(&head.headers),
            cors: None,
            login_page: None,
            question,
        };
        let limits = &rules.snapshot.limits;
        let upload = Upload::new(body, walk.exchange.started(), limits.upload_rate());
        let limit = limits.request_time.0;
        let deadline = (!limit.is_zero()).then(|| Deadline::now() + limit);
        let walking = self.walk(&rules, &mut walk, &peer, head, &upload);
        let outcome = match deadline {
            None => walking.await,
            Some(deadline) => Box::pin(timeout_at(deadline, walking))
                .await
                .unwrap_or_else(|_| Err(upload.overtime().into())),
        };
        let kept = Kept {
            upload,
            connection,
            deadline,
        };
        Ok(walk.end(outcome, &rules, kept, &self.shared))
    }

    /// The path of a request, one line per stage.
    async fn walk(
        self: &Rc<Self>,
        rules: &Rc<Rules>,
        walk: &mut Walk,
        peer: &Rc<Peer>,
        head: request::Parts,
        upload: &Rc<Upload>,
    ) -> Result<Answer, Refusal> {
        let body = RequestBody(Rc::clone(upload));
        let snapshot = &*rules.snapshot;
        if let Some(question) = walk.question {
            question.check()?;
        }
        if self.is_out_of_memory() {
            return Err(Reason::Overloaded.into());
        }
        if head.headers.len() > snapshot.limits.header_count {
            return Err(Reason::HeadersTooLarge.into());
        }
        let authority = authority(&head)?;
        let host = host(authority.as_str());
        let path = CanonicalPath::parse(head.uri.path())?;

        let is_question = walk.question.is_some();
        if !is_question
            && let Some((mount, found)) =
                snapshot.mounts.find(&peer.entrance.listener, &host, &head)
            && (found != Endpoint::About || self.is_stranger(rules, &head))
        {
            let around = self.surroundings(rules, peer, authority.as_str());
            return answer_itself(walk, rules, &around, (mount, found), &head, body).await;
        }
        if !is_question
            && let Some(asked) = cors::asked_method(&head)
            && let Ok(route) = snapshot.routes.find(&host, &path, &asked)
            && let Some(answer) = walk.preflight(&head, rules.label(route), route)
        {
            return Ok(answer);
        }

        let route = snapshot.routes.find(&host, &path, &head.method);
        walk.exchange.passed(Stage::Route);
        let route = route?;
        walk.takes(rules.label(route), Voice::Route(route.dialect));
        upload.bound(route.body_size)?;
        upload.reserve(&route.own_headers);
        if let Some(bytes) = route.min_upload_rate {
            upload.ask_rate(bytes);
        }
        let asker = peer.entrance.forward_auth.as_ref();
        // What it refuses no log-in would mend.
        let grant = asker.map(|asker| asker.prepare(&head, route)).transpose()?;
        walk.login_page = answer::login_page(route, &head);
        let asked = Asked {
            peer,
            route,
            authority: authority.as_str(),
            path: &path,
            head: &head,
        };
        if route.mqtt.is_some() {
            // Whoever asks for another proxy never sees CONNECT, nor what follows it.
            if grant.is_some() {
                return Err(Reason::RouteNotFound.into());
            }
            let (place, head) = ((peer, route), head.clone());
            return Box::pin(self.agree_to_mqtt(rules, walk, place, (asked, head))).await;
        }
        let (permit, remaining_query) = self.admit(rules, walk, asked).await?;
        let facts = Facts {
            client: (peer.address, &peer.text),
            scheme: peer.scheme,
            authority: authority.value(),
            is_in_host: authority.is_header(),
            request_id: walk.exchange.request_id(),
            trace: walk.exchange.trace(),
            remaining_query,
        };
        let sealer = snapshot.tokens.sealer.as_ref();
        let outgoing = translate(&permit, route, sealer, facts, head, body);
        walk.exchange.passed(Stage::Translate);
        let outgoing = outgoing?;
        if let Some(grant) = grant {
            return Ok(Answer::Own(grant.answer(route, &permit, outgoing)?));
        }
        let upstream = rules.upstream(route)?;
        walk.exchange.forwarded(upstream.label());
        forward(walk, upstream, route, &permit, upload, outgoing).await
    }

    pub(crate) fn surroundings<'a>(
        &'a self,
        rules: &'a Rules,
        peer: &Peer,
        authority: &str,
    ) -> endpoint::Surroundings<'a> {
        endpoint::Surroundings {
            snapshot: &rules.snapshot,
            shared: &self.shared,
            means: Means {
                upstreams: &rules.upstreams,
                hashing: &self.shared.hashing,
                tokens: &rules.snapshot.tokens,
                revocations: &self.shared.revocations,
                client: peer.address,
            },
            metrics: &self.metrics,
            sessions: rules
                .snapshot
                .mounts
                .of_people(&peer.entrance.listener, &host(authority)),
            origin: format!("{}://{authority}", peer.scheme),
        }
    }

    /// The rules in force; replaced here once a new snapshot is.
    pub(crate) fn rules(&self) -> Rc<Rules> {
        let mut rules = self.rules.borrow_mut();
        if rules.snapshot.generation() != self.shared.generation() {
            let next = Rules::new(self.shared.current(), &self.metrics, Some(&rules));
            *rules = Rc::new(next);
        }
        Rc::clone(&rules)
    }
}

/// Answers at one of the gate's own endpoints.
async fn answer_itself(
    walk: &mut Walk,
    rules: &Rules,
    around: &endpoint::Surroundings<'_>,
    (mount, found): (&Mount, Endpoint),
    head: &request::Parts,
    body: RequestBody,
) -> Result<Answer, Refusal> {
    walk.takes(&rules.endpoints, Voice::Endpoint(mount.dialect, found));
    walk.cors.clone_from(&mount.cors);
    if head.method == Method::OPTIONS
        && let Some(answer) = walk.allow(head)
    {
        return Ok(answer);
    }
    let answer = endpoint::answer(around, mount, found, head, body).await;
    walk.exchange.passed(Stage::Endpoint);
    Ok(Answer::Own(answer?))
}

async fn forward(
    walk: &mut Walk,
    upstream: &Rc<Upstream>,
    route: &Route,
    permit: &Permit,
    upload: &Rc<Upload>,
    outgoing: UpstreamRequest,
) -> Result<Answer, Refusal> {
    let is_upgrade = outgoing.is_upgrade();
    let mut request = outgoing.into_inner();
    let downstream = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    let sent = clock::now();
    let outcome = upstream
        .send(request, upload, sent, route.retry.as_ref())
        .await;
    let answered = clock::now();
    let waited = answered.saturating_duration_since(sent);
    walk.exchange.waited(waited, answered);
    let mut response = outcome?;
    let status = response.status();
    upstream.metrics.answered(status, waited);
    if !respond::has_one_end(response.headers()) {
        upstream.metrics.fault(UpstreamFault::Broken);
        let cause = "it cannot be told where the upstream's answer ends";
        return Err(Refusal::with_cause(Reason::UpstreamBroken, cause));
    }
    if route.refusal_signs.are_in(status, response.headers()) {
        upstream.metrics.refused();
        let cause = format!("the upstream answered {status} to the gate's credentials");
        return Err(Refusal::with_cause(
            Reason::UpstreamRefusedCredential,
            cause,
        ));
    }
    match (status, downstream) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(downstream)) => {
            respond::clean_agreement(response.headers_mut());
            let principal = permit.principal().cloned();
            Ok(Answer::Tunnel(response, downstream, principal))
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => {
            upstream.metrics.fault(UpstreamFault::Broken);
            let cause = "the upstream switched protocols without being asked";
            Err(Refusal::with_cause(Reason::UpstreamBroken, cause))
        }
        _ => {
            respond::clean(response.headers_mut());
            *response.version_mut() = Version::HTTP_11;
            Ok(Answer::Upstream(response))
        }
    }
}
