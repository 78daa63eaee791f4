//! What does one worker keep for the rules in force? Connections to upstreams, and handles to
//! metrics.

use std::rc::Rc;
use std::sync::Arc;

use crate::cors::Cors;
use crate::refusal::{Reason, Refusal};
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::telemetry::handles::RouteMetrics;
use crate::telemetry::metrics::Metrics;
use crate::upstream::UpstreamSpec;
use crate::upstream::connect::Upstream;

/// Under which name an exchange is counted.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) metrics: Rc<RouteMetrics>,
    pub(crate) name: Rc<str>,
    /// Which other sites' pages may call. Of this worker alone, as all that is counted here.
    pub(crate) cors: Option<Arc<Cors>>,
}

/// The rules in force, with what this worker keeps for them.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) upstreams: Vec<Rc<Upstream>>,
    /// For the gate's own endpoints.
    pub(crate) endpoints: Label,
    /// For requests that no route takes.
    pub(crate) nowhere: Label,
    routes: Vec<Label>,
}

impl Rules {
    /// Connections to upstreams that are the same as before go on.
    pub(crate) fn new(snapshot: Arc<Snapshot>, metrics: &Metrics, before: Option<&Self>) -> Self {
        let label = |name: &str, cors: Option<&Arc<Cors>>| Label {
            metrics: Rc::new(metrics.route(name)),
            name: name.into(),
            cors: cors.map(|cors| Arc::new(Cors::clone(cors))),
        };
        let specs = &snapshot.upstreams;
        let known = before.map(|before| before.upstreams.as_slice());
        let upstream = |spec: &Arc<UpstreamSpec>| {
            let mut known = known.unwrap_or_default().iter();
            match known.find(|known| Arc::ptr_eq(&known.spec, spec)) {
                Some(known) => Rc::clone(known),
                None => Upstream::new(Arc::clone(spec), metrics.upstream(&spec.name)),
            }
        };
        Self {
            upstreams: specs.iter().map(upstream).collect(),
            routes: snapshot
                .routes
                .all()
                .iter()
                .map(|route| label(&route.name, route.cors.as_ref()))
                .collect(),
            endpoints: label("(endpoint)", None),
            nowhere: label("(none)", None),
            snapshot,
        }
    }

    /// Under which name exchanges on this route are counted.
    pub(crate) fn label(&self, route: &Route) -> &Label {
        self.routes.get(route.index).unwrap_or(&self.nowhere)
    }

    /// The route's upstream.
    pub(crate) fn upstream(&self, route: &Route) -> Result<&Rc<Upstream>, Refusal> {
        route
            .upstream
            .and_then(|place| self.upstreams.get(place))
            .ok_or_else(|| Refusal::with_cause(Reason::Internal, "the route's upstream is gone"))
    }
}
