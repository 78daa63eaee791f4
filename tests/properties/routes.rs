//! Does the table find the route that a naive search finds?

use std::cmp::Reverse;
use std::collections::BTreeSet;

use http::Method;
use proptest::prelude::*;
use tollgate::refusal::{Detail, Reason};
use tollgate::route::path::{CanonicalPath, PathForms};

use crate::naive::read_path;
use crate::rules::{build, config};
use crate::support::tries;

#[derive(Clone, Debug)]
struct Pattern {
    host: &'static str,
    methods: BTreeSet<&'static str>,
    segments: Vec<String>,
    has_rest: bool,
    demand: Demand,
    takes_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Nothing,
    Scope,
    Token,
}

impl Pattern {
    fn path(&self) -> String {
        let rest = self.has_rest.then_some("**");
        let segments = self.segments.iter().map(String::as_str).chain(rest);
        format!("/{}", Vec::from_iter(segments).join("/"))
    }

    fn yaml(&self, name: usize) -> String {
        let host = match self.host {
            "" => String::new(),
            host => format!("host: \"{host}\", "),
        };
        let methods = Vec::from_iter(self.methods.iter().copied()).join(", ");
        let path = self.path();
        let demand = match self.demand {
            Demand::Nothing => "public: true, danger_unanchored: true",
            Demand::Scope => "require: { scopes: [ s ] }",
            Demand::Token => "public: false",
        };
        let allowed = if self.takes_empty {
            "empty_segment"
        } else {
            ""
        };
        format!(
            "  - {{ name: \"{name}\", {host}methods: [ {methods} ], path: \"{path}\", upstream: app, {demand}, allow_in_path: [ {allowed} ] }}\n"
        )
    }

    /// What is demanded of a token, and of which segments.
    fn policy(&self) -> (Demand, Vec<usize>) {
        let captures = self.segments.iter().enumerate();
        let captures = captures.filter(|(_, segment)| *segment == CAPTURE);
        match self.demand {
            Demand::Nothing => (Demand::Nothing, Vec::new()),
            demand => (demand, captures.map(|(place, _)| place).collect()),
        }
    }

    /// As a back end sees it that knows neither case nor final slash.
    fn folded(&self) -> Self {
        let mut folded = self.clone();
        for segment in &mut folded.segments {
            *segment = segment.to_lowercase();
        }
        if !self.has_rest {
            drop_final_slash(&mut folded.segments);
        }
        folded
    }

    /// As an operator writes it, without case and final slashes.
    fn written(&self) -> String {
        self.path().to_lowercase().trim_end_matches('/').to_owned()
    }

    /// Whether no rule says which of the two wins.
    fn clashes(&self, other: &Self) -> bool {
        let shape = |one: &Self| (one.host, one.path().replace(CAPTURE, "*"));
        let are_alike = shape(self) == shape(other);
        let take_all = self.methods.is_empty() && other.methods.is_empty();
        are_alike && (take_all || !self.methods.is_disjoint(&other.methods))
    }

    fn fits(&self, host: &str, path: &[String]) -> bool {
        let is_host = match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => self.host.is_empty() || self.host == host,
        };
        // A pattern that is `**` alone has no segments of its own.
        let own = &self.segments;
        let is_long_enough = path.len() == own.len() || (self.has_rest && path.len() > own.len());
        let fits = |(own, asked): (&String, &String)| match own.as_str() {
            "*" | CAPTURE => !asked.is_empty(),
            literal => literal == asked,
        };
        is_host && is_long_enough && own.iter().zip(path).all(fits)
    }

    fn takes(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// How specific it is, the smaller the more.
    fn rank(&self) -> impl Ord {
        let host = match self.host {
            "" => (2, Reverse(0)),
            host if host.starts_with('*') => (1, Reverse(host.len())),
            _ => (0, Reverse(0)),
        };
        let segment = |own: &String| match own.as_str() {
            "*" | CAPTURE => 2,
            _ => 1,
        };
        let mut segments = Vec::from_iter(self.segments.iter().map(segment));
        segments.push(if self.has_rest { 3 } else { 0 });
        (host, segments, self.methods.is_empty())
    }
}

/// A segment that must be the token's subject.
const CAPTURE: &str = "{sub}";

fn drop_final_slash(segments: &mut Vec<String>) {
    if segments.len() > 1 && segments.last().is_some_and(String::is_empty) {
        segments.pop();
    }
}

/// The most specific of the patterns that fit, and all methods of those that fit but for theirs.
fn best<'a>(
    patterns: &'a [(usize, Pattern)],
    host: &str,
    path: &[String],
    method: &str,
) -> Result<&'a (usize, Pattern), BTreeSet<&'static str>> {
    let fitting = patterns.iter().filter(|(_, one)| one.fits(host, path));
    let taking = fitting.clone().filter(|(_, one)| one.takes(method));
    let all = fitting.flat_map(|(_, one)| one.methods.iter().copied());
    let best = taking.min_by_key(|(_, one)| one.rank());
    best.ok_or_else(|| all.collect())
}

/// Of those that clash the first is kept.
fn without_clashes(patterns: impl IntoIterator<Item = (usize, Pattern)>) -> Vec<(usize, Pattern)> {
    let mut kept = Vec::<(usize, Pattern)>::new();
    for (name, one) in patterns {
        if !kept.iter().any(|(_, other)| one.clashes(other)) {
            kept.push((name, one));
        }
    }
    kept
}

/// Whether a back end that knows neither case nor final slash would serve what another pattern
/// guards by another policy.
fn has_twin(
    kept: &[(usize, Pattern)],
    own: &Pattern,
    host: &str,
    path: &[String],
    method: &str,
) -> bool {
    let folded = without_clashes(kept.iter().map(|(name, one)| (*name, one.folded())));
    let mut path = Vec::from_iter(path.iter().map(|segment| segment.to_lowercase()));
    drop_final_slash(&mut path);
    let Ok((name, _)) = best(&folded, host, &path, method) else {
        return false;
    };
    let (_, twin) = kept.iter().find(|(other, _)| other == name).unwrap();
    twin.demand != Demand::Nothing
        && twin.policy() != own.policy()
        && twin.written() != own.written()
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let hosts = [
        "",
        "",
        "a.example",
        "b.a.example",
        "*.example",
        "*.a.example",
    ];
    let segment = prop::sample::select(vec!["a", "a", "b", "A", "*", CAPTURE]);
    let demand = prop::sample::select(vec![Demand::Nothing, Demand::Scope, Demand::Token]);
    (
        prop::sample::select(hosts.to_vec()),
        prop::collection::btree_set(prop::sample::select(vec!["GET", "POST", "PUT"]), 0..3),
        prop::collection::vec(segment, 0..4),
        any::<(bool, bool, bool)>(),
        demand,
    )
        .prop_map(|(host, methods, segments, flags, demand)| {
            let (has_rest, has_slash, takes_empty) = flags;
            let mut segments = Vec::from_iter(segments.into_iter().map(str::to_owned));
            // A final slash is an empty last segment.
            if !has_rest && (has_slash || segments.is_empty()) {
                segments.push(String::new());
            }
            Pattern {
                host,
                methods,
                segments,
                has_rest,
                demand,
                takes_empty,
            }
        })
}

#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    method: &'static str,
    path: String,
}

fn asked() -> impl Strategy<Value = Asked> {
    let hosts = [
        "a.example",
        "b.a.example",
        "c.b.a.example",
        "example",
        "xa.example",
        "other",
    ];
    let spellings = ["a", "a", "%61", "b", "A", "%41", "c", "**", ""];
    let segment = prop::sample::select(spellings.to_vec());
    (
        prop::sample::select(hosts.to_vec()),
        prop::sample::select(vec!["GET", "POST", "DELETE"]),
        prop::collection::vec(segment, 1..10),
        any::<bool>(),
    )
        .prop_map(|(host, method, segments, has_slash)| {
            let slash = if has_slash { "/" } else { "" };
            let path = format!("/{}{slash}", segments.join("/"));
            Asked { host, method, path }
        })
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn the_most_specific_route_wins(
        patterns in prop::collection::vec(pattern(), 1..12),
        asked in prop::collection::vec(asked(), 24),
    ) {
        let yaml: String = patterns.iter().enumerate().map(|(name, one)| one.yaml(name)).collect();
        let (snapshot, _) = build(&config(&yaml)).expect("a config");
        let table = snapshot.expect("keys").routes;

        let kept = without_clashes(patterns.into_iter().enumerate());
        let built = Vec::from_iter(table.all().iter().map(|route| route.name.to_string()));
        prop_assert_eq!(built, Vec::from_iter(kept.iter().map(|(name, _)| name.to_string())));

        for Asked { host, method, path } in asked {
            let (segments, forms) = read_path(&path).unwrap();
            let expected = match best(&kept, host, &segments, method) {
                Ok((name, own)) => {
                    let has_form = forms != PathForms::default() && !own.takes_empty;
                    match has_form || has_twin(&kept, own, host, &segments, method) {
                        true => Err((Reason::AmbiguousPath, None)),
                        false => Ok(name.to_string()),
                    }
                }
                Err(methods) if methods.is_empty() => Err((Reason::RouteNotFound, None)),
                Err(methods) => {
                    let allow = Vec::from_iter(methods).join(", ");
                    Err((Reason::MethodNotAllowed, Some(Detail::Allow(allow))))
                }
            };
            let canonical = CanonicalPath::parse(&path).unwrap();
            let found = table.find(host, &canonical, &method.parse::<Method>().unwrap());
            let found = found.map(|route| route.name.to_string());
            let found = found.map_err(|refusal| (refusal.reason, refusal.detail));
            prop_assert_eq!(found, expected, "{} {}{}", method, host, path);
        }
    }
}
