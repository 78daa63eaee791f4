//! Is the path that is judged the one that is forwarded, and has it one reading only?

#![no_main]

use std::borrow::Cow;
use std::sync::LazyLock;

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use tollgate::route::path::CanonicalPath;
use tollgate::snapshot::Snapshot;

use naive::{decode, read_path};

#[path = "../../properties/naive.rs"]
mod naive;
#[allow(dead_code, reason = "for the properties, too")]
#[path = "../../properties/rules.rs"]
mod rules;
mod shared;

/// One path is guarded; all others are public.
static RULES: LazyLock<Snapshot> = LazyLock::new(|| {
    rules::snapshot_with(
        "  - { name: guarded, path: /admin/**, upstream: app, require: { scopes: [ admin ] } }\n  \
           - { name: open, path: /**, public: true, danger_unanchored: true, upstream: app }\n",
    )
});

fuzz_target!(|raw: &str| {
    let parsed = CanonicalPath::parse(raw);
    let found = parsed.as_ref().ok();
    let found = found.map(|path| (path.segments().map(Cow::into_owned).collect(), path.forms()));
    assert_eq!(found, read_path(raw), "{raw:?}");
    let Ok(path) = parsed else { return };
    assert_eq!(format!("/{}", path.raw()), raw);

    // As it stands in a request's target.
    let Ok(uri) = raw.parse::<Uri>() else { return };
    let Ok(path) = CanonicalPath::parse(uri.path()) else {
        return;
    };
    let Ok(route) = RULES.routes.find("gate.example", &path, &Method::GET) else {
        return;
    };
    if &*route.name == "open" {
        for reading in readings(uri.path()) {
            assert!(!is_guarded(&reading), "{raw:?} is read as {reading:?}");
        }
        let head = shared::head(&Method::GET, uri.clone(), &[]);
        let sent = shared::sent(&RULES, route, head, None).expect("it passes");
        assert_eq!(sent.uri().path(), uri.path());
        assert_eq!(sent.uri().query(), uri.query());
    }
});

fn is_guarded(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

/// What back ends may make of a path: decoded once and twice, each then cleaned up in their ways.
fn readings(path: &str) -> Vec<String> {
    let once = String::from_utf8_lossy(&decode(path)).into_owned();
    let twice = String::from_utf8_lossy(&decode(&once)).into_owned();
    let mut readings = Vec::new();
    for decoded in [path.to_owned(), once, twice] {
        let cut = decoded
            .split(['?', '#', '\0'])
            .next()
            .unwrap_or_default()
            .to_owned();
        for text in [decoded, cut] {
            let text = text.to_lowercase().replace('\\', "/");
            let (mut plain, mut bare, mut resolved) = (Vec::new(), Vec::new(), Vec::new());
            for segment in text.split('/').filter(|segment| !segment.is_empty()) {
                plain.push(segment);
                let segment = segment.split(';').next().unwrap_or_default();
                let trimmed = segment.trim_end_matches(['.', ' ']);
                bare.push(trimmed);
                match segment {
                    "." | "" => {}
                    ".." => drop(resolved.pop()),
                    _ => resolved.push(trimmed),
                }
            }
            for segments in [plain, bare, resolved] {
                readings.push(format!("/{}", segments.join("/")));
            }
        }
    }
    readings
}
