//! Which one route does a request take? The most specific that matches it.
//!
//! A route matches by host, path and method together. Of those that match, an exact host wins
//! over a wildcard host, a longer wildcard over a shorter, any host comes last; then, from the
//! left, a literal segment wins over `*` and captures, those over `**`; then a route with methods wins over one
//! without. The cost does not depend on the number of routes.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::Method;

use super::Route;
use super::path::{CanonicalPath, decode};
use super::policy::{Capture, Policy};
use crate::refusal::{Detail, Reason, Refusal};

/// All routes, by host and path.
#[derive(Debug, Default)]
pub struct RouteTable {
    trees: Trees,
    /// The same as a back end sees them that knows neither case nor final slash.
    folded: Trees,
    /// Whether a path that is folded already may still have a twin.
    has_odd: bool,
    routes: Vec<Arc<Route>>,
}

#[derive(Debug, Default)]
struct Trees {
    exact: HashMap<String, Node>,
    /// By suffix (`.example`).
    wildcard: HashMap<String, Node>,
    any: Node,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Self>,
    any: Option<Box<Self>>,
    /// Routes whose pattern ends here.
    here: Vec<Arc<Route>>,
    /// Routes whose pattern ends here with `**`.
    rest: Vec<Arc<Route>>,
}

impl RouteTable {
    /// Adds a route.
    ///
    /// # Errors
    /// A text that says what is wrong: a bad pattern, or a clash with another route.
    pub fn add(&mut self, route: Arc<Route>) -> Result<(), String> {
        let mut pattern = Pattern::parse(&route.pattern)?;
        self.trees.insert(&pattern, &route)?;
        self.has_odd |= pattern.fold();
        // Of routes that differ in case alone the first stands for all.
        let _ = self.folded.insert(&pattern, &route);
        self.routes.push(route);
        Ok(())
    }

    /// The further claims that the routes ask for.
    pub fn claims(&self) -> impl Iterator<Item = &String> {
        let sessions = self.routes.iter().filter_map(|route| route.mqtt.as_ref());
        let policies = self.routes.iter().map(|route| &route.policy);
        let demands = policies.filter_map(|policy| match policy {
            Policy::Public => None,
            Policy::Token(demands) => Some(demands),
        });
        let of_sessions = sessions.flat_map(|rules| rules.claims());
        demands
            .flat_map(|demands| demands.claims())
            .chain(of_sessions)
    }

    /// All routes, in the order of the config.
    #[must_use]
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The most specific route.
    ///
    /// # Errors
    /// [`Reason::RouteNotFound`], or [`Reason::MethodNotAllowed`] if only the method keeps a
    /// route from matching, or [`Reason::AmbiguousPath`] if the route does not allow the path's
    /// form, or if a back end that knows neither case nor final slash would serve what another
    /// route guards by another policy.
    pub fn find(
        &self,
        host: &str,
        path: &CanonicalPath<'_>,
        method: &Method,
    ) -> Result<&Arc<Route>, Refusal> {
        let segments = Segments::new(path);
        let mut allowed = BTreeSet::new();
        let route = self
            .trees
            .roots(host)
            .find_map(|root| root.find(segments.as_slice(), method, &mut allowed));
        let Some(route) = route else {
            if allowed.is_empty() {
                return Err(Reason::RouteNotFound.into());
            }
            let allow = Vec::from_iter(allowed).join(", ");
            return Err(Refusal::with_detail(
                Reason::MethodNotAllowed,
                Detail::Allow(allow),
            ));
        };
        if !path.forms().within(route.allowed_forms) {
            return Err(Reason::AmbiguousPath.into());
        }
        let is_odd = path.raw().ends_with('/') || path.raw().bytes().any(is_capital);
        if (is_odd || self.has_odd) && self.has_twin(route, host, segments.as_slice(), method) {
            return Err(Reason::AmbiguousPath.into());
        }
        Ok(route)
    }

    /// Whether the path, folded, is another route's with another policy.
    fn has_twin(
        &self,
        route: &Route,
        host: &str,
        segments: &[Cow<'_, str>],
        method: &Method,
    ) -> bool {
        let mut folded: Vec<_> = segments.iter().map(|text| fold(text).into()).collect();
        drop_final_slash(&mut folded, |text: &Cow<'_, str>| text.is_empty());
        let mut roots = self.folded.roots(host);
        let twin = roots.find_map(|root| root.find(&folded, method, &mut BTreeSet::new()));
        let without_slash = |pattern: &str| fold(pattern.trim_end_matches('/'));
        twin.is_some_and(|twin| {
            !matches!(twin.policy, Policy::Public)
                && twin.policy != route.policy
                && without_slash(&twin.pattern) != without_slash(&route.pattern)
        })
    }
}

fn is_capital(byte: u8) -> bool {
    byte.is_ascii_uppercase() || !byte.is_ascii() || byte == b'%'
}

fn fold(text: &str) -> String {
    text.to_lowercase()
}

fn drop_final_slash<T>(segments: &mut Vec<T>, is_empty: impl Fn(&T) -> bool) {
    if segments.len() > 1 && segments.last().is_some_and(is_empty) {
        segments.pop();
    }
}

impl Trees {
    fn insert(&mut self, pattern: &Pattern<'_>, route: &Arc<Route>) -> Result<(), String> {
        let root = match route
            .host
            .as_deref()
            .map(|host| (host, host.strip_prefix('*')))
        {
            None => &mut self.any,
            Some((_, Some(suffix))) => self.wildcard.entry(suffix.to_owned()).or_default(),
            Some((host, None)) => self.exact.entry(host.to_owned()).or_default(),
        };
        root.insert(pattern, Arc::clone(route))
    }

    /// The trees in which to look, the most specific host first.
    fn roots<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = &'a Node> + use<'a, 'h> {
        let dots = if self.wildcard.is_empty() { "" } else { host };
        let suffixes = dots.match_indices('.').filter_map(move |(at, _)| {
            if at == 0 {
                None
            } else {
                self.wildcard.get(host.get(at..)?)
            }
        });
        self.exact
            .get(host)
            .into_iter()
            .chain(suffixes)
            .chain([&self.any])
    }
}

/// The segments of one path, on the stack for the usual lengths.
enum Segments<'a> {
    Few([Cow<'a, str>; FEW], usize),
    Many(Vec<Cow<'a, str>>),
}

const FEW: usize = 8;

impl<'a> Segments<'a> {
    fn new(path: &CanonicalPath<'a>) -> Self {
        let mut few = [const { Cow::Borrowed("") }; FEW];
        let mut count = 0;
        for segment in path.segments() {
            match few.get_mut(count) {
                Some(place) => *place = segment,
                None => return Self::Many(path.segments().collect()),
            }
            count += 1;
        }
        Self::Few(few, count)
    }

    fn as_slice(&self) -> &[Cow<'a, str>] {
        match self {
            Self::Few(few, count) => few.get(..*count).unwrap_or_default(),
            Self::Many(many) => many,
        }
    }
}

impl Node {
    fn find(
        &self,
        segments: &[Cow<'_, str>],
        method: &Method,
        allowed: &mut BTreeSet<String>,
    ) -> Option<&Arc<Route>> {
        if let [first, others @ ..] = segments {
            let deeper = self
                .literal
                .get(first.as_ref())
                .and_then(|node| node.find(others, method, allowed))
                .or_else(|| {
                    let any = if first.is_empty() {
                        None
                    } else {
                        self.any.as_deref()
                    };
                    any.and_then(|node| node.find(others, method, allowed))
                });
            if deeper.is_some() {
                return deeper;
            }
        } else if let Some(route) = pick(&self.here, method, allowed) {
            return Some(route);
        }
        pick(&self.rest, method, allowed)
    }

    fn insert(&mut self, pattern: &Pattern<'_>, route: Arc<Route>) -> Result<(), String> {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                PatternSegment::Any => node.any.get_or_insert_default(),
                PatternSegment::Literal(text) => {
                    node.literal.entry(text.as_ref().into()).or_default()
                }
            };
        }
        let routes = if pattern.has_rest {
            &mut node.rest
        } else {
            &mut node.here
        };
        for other in routes.iter() {
            let clash = match (route.methods.is_empty(), other.methods.is_empty()) {
                (true, true) => true,
                (false, false) => route
                    .methods
                    .iter()
                    .any(|method| other.methods.contains(method)),
                _ => false,
            };
            if clash {
                return Err(format!(
                    "matches the same requests as the route `{}`; no rule says which wins",
                    other.name
                ));
            }
        }
        // Those with methods stand in front.
        let at = if route.methods.is_empty() {
            routes.len()
        } else {
            0
        };
        routes.insert(at, route);
        Ok(())
    }
}

fn pick<'a>(
    routes: &'a [Arc<Route>],
    method: &Method,
    allowed: &mut BTreeSet<String>,
) -> Option<&'a Arc<Route>> {
    let found = routes.iter().find(|route| route.takes(method));
    if found.is_none() {
        let methods = routes.iter().flat_map(|route| &route.methods);
        allowed.extend(methods.map(ToString::to_string));
    }
    found
}

struct Pattern<'a> {
    segments: Vec<PatternSegment<'a>>,
    has_rest: bool,
}

enum PatternSegment<'a> {
    Any,
    Literal(Cow<'a, str>),
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let body = text
            .strip_prefix('/')
            .ok_or_else(|| format!("`{text}` must start with `/`"))?;
        CanonicalPath::parse(text).map_err(|_| format!("`{text}` could never match a path"))?;
        let mut pattern = Self {
            segments: Vec::new(),
            has_rest: false,
        };
        for segment in body.split('/') {
            if pattern.has_rest {
                return Err(format!("`**` may stand only at the end of `{text}`"));
            }
            match segment {
                "**" => pattern.has_rest = true,
                "*" => pattern.segments.push(PatternSegment::Any),
                capture if captured(capture).is_some() => {
                    pattern.segments.push(PatternSegment::Any);
                }
                literal if literal.contains(['{', '}']) => {
                    return Err(format!(
                        "in `{text}`, a segment in braces must be {{sub}} or {{claim:NAME}}"
                    ));
                }
                literal if literal.contains('*') => {
                    return Err(format!("in `{text}`, `*` must be a whole segment"));
                }
                literal => pattern
                    .segments
                    .push(PatternSegment::Literal(decode(literal))),
            }
        }
        Ok(pattern)
    }

    /// Takes case and final slash away; whether there were any.
    fn fold(&mut self) -> bool {
        let before = self.segments.len();
        if !self.has_rest {
            let is_empty = |segment: &PatternSegment<'_>| matches!(segment, PatternSegment::Literal(text) if text.is_empty());
            drop_final_slash(&mut self.segments, is_empty);
        }
        let mut is_odd = self.segments.len() < before;
        for segment in &mut self.segments {
            if let PatternSegment::Literal(text) = segment {
                let folded = fold(text);
                is_odd |= *text != folded;
                *text = folded.into();
            }
        }
        is_odd
    }
}

/// The segments of a pattern that must be the principal's own.
pub(super) fn captures(pattern: &str) -> Vec<Capture> {
    let segments = pattern.strip_prefix('/').unwrap_or(pattern).split('/');
    let capture = |(place, segment)| {
        let claim = captured(segment)?.to_owned();
        Some(Capture { place, claim })
    };
    segments.enumerate().filter_map(capture).collect()
}

/// The claim that a segment of a pattern must be.
fn captured(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    match name.strip_prefix("claim:") {
        Some(claim) => Some(claim).filter(|claim| !claim.is_empty()),
        None => Some(name).filter(|name| *name == "sub"),
    }
}
