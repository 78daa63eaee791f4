//! Does the table find the route that a naive search finds?

use std::cmp::Reverse;
use std::collections::BTreeSet;

use http::Method;
use proptest::prelude::*;
use tollgate::refusal::{Detail, Reason};
use tollgate::route::path::CanonicalPath;

use crate::support::{build, config, tries};

#[derive(Clone, Debug)]
struct Pattern {
    host: &'static str,
    methods: BTreeSet<&'static str>,
    segments: Vec<&'static str>,
    has_rest: bool,
}

impl Pattern {
    fn path(&self) -> String {
        let rest = self.has_rest.then_some("**");
        let segments = self.segments.iter().copied().chain(rest);
        format!("/{}", Vec::from_iter(segments).join("/"))
    }

    fn yaml(&self, name: usize) -> String {
        let host = match self.host {
            "" => String::new(),
            host => format!("host: \"{host}\", "),
        };
        let methods = Vec::from_iter(self.methods.iter().copied()).join(", ");
        let path = self.path();
        format!(
            "  - {{ name: \"{name}\", {host}methods: [ {methods} ], path: \"{path}\", upstream: app }}\n"
        )
    }

    /// Whether no rule says which of the two wins.
    fn clashes(&self, other: &Self) -> bool {
        let are_alike = (self.host, self.path()) == (other.host, other.path());
        let take_all = self.methods.is_empty() && other.methods.is_empty();
        are_alike && (take_all || !self.methods.is_disjoint(&other.methods))
    }

    fn fits(&self, host: &str, path: &[&str]) -> bool {
        let is_host = match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => self.host.is_empty() || self.host == host,
        };
        // A pattern that is `**` alone has no segments of its own.
        let own = &self.segments;
        let is_long_enough = path.len() == own.len() || (self.has_rest && path.len() > own.len());
        let fits = |(own, asked): (&&str, &&str)| match *own {
            "*" => !asked.is_empty(),
            literal => literal == *asked,
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
        let segment = |own: &&str| if *own == "*" { 2 } else { 1 };
        let mut segments = Vec::from_iter(self.segments.iter().map(segment));
        segments.push(if self.has_rest { 3 } else { 0 });
        (host, segments, self.methods.is_empty())
    }
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
    let segment = prop::sample::select(vec!["a", "a", "b", "*"]);
    (
        prop::sample::select(hosts.to_vec()),
        prop::collection::btree_set(prop::sample::select(vec!["GET", "POST", "PUT"]), 0..3),
        prop::collection::vec(segment, 0..4),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(host, methods, mut segments, has_rest, has_slash)| {
            // A final slash is an empty last segment.
            if !has_rest && (has_slash || segments.is_empty()) {
                segments.push("");
            }
            Pattern {
                host,
                methods,
                segments,
                has_rest,
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
    let segment = prop::sample::select(vec!["a", "a", "b", "c", "**"]);
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

        // The first of those that clash is kept.
        let mut kept: Vec<(usize, &Pattern)> = Vec::new();
        for (name, one) in patterns.iter().enumerate() {
            if !kept.iter().any(|(_, other)| one.clashes(other)) {
                kept.push((name, one));
            }
        }
        let built = Vec::from_iter(table.all().iter().map(|route| route.name.to_string()));
        prop_assert_eq!(built, Vec::from_iter(kept.iter().map(|(name, _)| name.to_string())));

        for Asked { host, method, path } in asked {
            let segments = Vec::from_iter(path.strip_prefix('/').unwrap().split('/'));
            let fitting = Vec::from_iter(kept.iter().filter(|(_, one)| one.fits(host, &segments)));
            let taking = fitting.iter().filter(|(_, one)| one.takes(method));
            let best = taking.min_by_key(|(_, one)| one.rank());
            let path = CanonicalPath::parse(&path).unwrap();
            let found = table.find(host, &path, &method.parse::<Method>().unwrap());
            match (best, found) {
                (Some((name, _)), found) => {
                    let found = found.map(|route| route.name.to_string()).ok();
                    prop_assert_eq!(found, Some(name.to_string()), "{} {}/{}", method, host, path.raw());
                }
                (None, Ok(route)) => prop_assert!(false, "{method} {host}/{}: {}", path.raw(), route.name),
                (None, Err(refusal)) => {
                    let all = fitting.iter().flat_map(|(_, one)| &one.methods).copied();
                    let all = BTreeSet::from_iter(all);
                    let expected = match all.is_empty() {
                        true => (Reason::RouteNotFound, None),
                        false => {
                            let allow = Vec::from_iter(all).join(", ");
                            (Reason::MethodNotAllowed, Some(Detail::Allow(allow)))
                        }
                    };
                    let refused = (refusal.reason, refusal.detail);
                    prop_assert_eq!(refused, expected, "{} {}/{}", method, host, path.raw());
                }
            }
        }
    }
}
