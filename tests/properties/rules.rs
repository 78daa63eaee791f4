//! A gate's rules, with the smallest config that can be served; for the fuzz targets, too.

use std::path::Path;

use tollgate::config::Config;
use tollgate::config::files::Files;
use tollgate::config::load::parse;
use tollgate::config::problem::Problems;
use tollgate::snapshot::Snapshot;

/// The HS256 secret of [`snapshot`].
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A config that can be served, with these routes (YAML list items, indented by two).
pub(crate) fn config(routes: &str) -> String {
    format!(
        "listeners: [ {{ address: \"127.0.0.1:0\" }} ]\n\
         tokens:\n  issuer: tollgate\n  audience: gate\n  \
         keys: [ {{ id: k1, algorithm: HS256, secret_file: k1 }} ]\n\
         upstreams:\n  app: {{ endpoints: [ \"http://127.0.0.1:1\" ] }}\n\
         routes:\n{routes}"
    )
}

/// The rules that a config makes, with the problems that were noted; nothing if it is no config.
pub(crate) fn build(config: &str) -> Option<(Option<Snapshot>, Problems)> {
    let config: Config = parse(config, Path::new("a.yaml")).ok()?;
    let files = Files::in_memory([("k1", SECRET.to_vec())]);
    let mut problems = Problems::default();
    let snapshot = Snapshot::build(&config, &files, &mut problems);
    Some((snapshot, problems))
}

/// The rules of a config with one route for everything.
pub(crate) fn snapshot() -> Snapshot {
    snapshot_with("  - { path: /**, upstream: app }\n")
}

/// The rules of a config with these routes, in which nothing is wrong.
pub(crate) fn snapshot_with(routes: &str) -> Snapshot {
    let (snapshot, problems) = build(&config(routes)).unwrap();
    assert!(problems.is_empty(), "{problems}");
    snapshot.unwrap()
}
