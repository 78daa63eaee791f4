//! One path is matched and the same path is forwarded, however a back end reads it.

use serde_json::json;

use crate::support::gate::{Builder, Gate, claims, sign};
use crate::support::threat;
use crate::support::tokens::with_claim;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /public/**, upstream: app, public: true }
  - { path: /admin/**, upstream: app, require: { scopes: [ admin ] } }
  - { path: /exact, upstream: app, require: { scopes: [ admin ] } }
  - { path: /slash/**, upstream: app, allow_in_path: [ encoded_slash ] }
  - { path: /app/**, upstream: app }
  - { path: /**, upstream: app }
";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

/// A good token whose user is nobody special.
fn plain() -> String {
    with_claim("scope", json!("read"))
}

/// Paths by which others were led past a rule: Oathkeeper GHSA-p224, APISIX CVE-2021-43557, OPA
/// CVE-2026-26205, Traefik GHSA-6jwx.
const PATHS: [&str; 62] = [
    "//admin/a",
    "/app//admin/a",
    "/./admin/a",
    "/app/../admin/a",
    "/app/..//admin/a",
    "/app/x/../../admin/a",
    "/public/../admin/a",
    "/app/%2e%2e/admin/a",
    "/app/%2E%2E/admin/a",
    "/app/.%2e/admin/a",
    "/app/%2e./admin/a",
    "/app/..%2fadmin/a",
    "/app/..%2Fadmin/a",
    "/app%2f..%2fadmin/a",
    "/slash/..%2fadmin/a",
    "/slash/%2e%2e%2fadmin/a",
    "/slash/..%2f..%2fadmin/a",
    "/slash/x%2f..%2f..%2fadmin/a",
    "/slash/%2fadmin/a",
    "/app/%252e%252e/admin/a",
    "/app/%252e%252e%252fadmin/a",
    "/app/..%252fadmin/a",
    "/app/%25%32%65%25%32%65/admin/a",
    "/app/..%c0%afadmin/a",
    "/app/%c0%ae%c0%ae/admin/a",
    "/app/..\\admin/a",
    "/app/..%5cadmin/a",
    "/app\\..\\admin\\a",
    "\\admin\\a",
    "/\\admin/a",
    "/%5cadmin/a",
    "/app/..;/admin/a",
    "/app/..;x=y/admin/a",
    "/app/.;/../admin/a",
    "/app/%2e%2e%3b/admin/a",
    "/admin;/a",
    "/admin;x=y/a",
    "/admin%3b/a",
    "/;/admin/a",
    "/admin./a",
    "/admin../a",
    "/admin%2e/a",
    "/admin%20/a",
    "/admin%00/a",
    "/admin%00.css",
    "/admin%0a/a",
    "/admin%09/a",
    "/admin%23/a",
    "/admin%3f/a",
    "/ADMIN/a",
    "/Admin/a",
    "/%41dmin/a",
    "/%61dmin/a",
    "/adm%69n/a",
    "/adm%49n/a",
    "/%2561dmin/a",
    "/admin%2fa",
    "/admin%2f",
    "/%2fadmin/a",
    "/exact/",
    "/EXACT",
    "/exact;x",
];

/// How back ends are known to read a path, each alone and in every order of two.
fn readings(path: &str) -> Vec<String> {
    let steps: [fn(&str) -> String; 8] = [
        |path| {
            String::from_utf8_lossy(
                &percent_encoding::percent_decode_str(path).collect::<Vec<u8>>(),
            )
            .into_owned()
        },
        |path| path.replace('\\', "/"),
        |path| {
            let cut = |part: &str| part.split(';').next().unwrap().to_owned();
            path.split('/').map(cut).collect::<Vec<_>>().join("/")
        },
        |path| {
            let mut kept: Vec<&str> = Vec::new();
            for part in path.split('/').filter(|part| !part.is_empty()) {
                match part {
                    "." => {}
                    ".." => drop(kept.pop()),
                    part => kept.push(part),
                }
            }
            format!("/{}", kept.join("/"))
        },
        |path| {
            let cut = |part: &str| part.trim_end_matches(['.', ' ']).to_owned();
            path.split('/').map(cut).collect::<Vec<_>>().join("/")
        },
        |path| path.to_lowercase(),
        |path| path.split(['\0', '?', '#']).next().unwrap().to_owned(),
        |path| path.trim_end_matches('/').to_owned(),
    ];
    let mut found = vec![path.to_owned()];
    for _ in 0..3 {
        let further: Vec<_> = found
            .iter()
            .flat_map(|path| steps.map(|step| step(path)))
            .collect();
        found.extend(further);
        found.sort();
        found.dedup();
    }
    found
}

#[test]
fn whoever_may_not_reaches_no_guarded_path_in_any_reading_of_what_is_forwarded() {
    let (upstream, gate) = start();
    let token = plain();
    for path in PATHS {
        let before = upstream.seen().len();
        let status = gate.get(path, &token).status;
        let seen = upstream.seen();
        assert!(matches!(status, 200 | 400 | 403 | 404), "{path}: {status}");
        for seen in &seen[before..] {
            assert_eq!(seen.target(), path, "the raw path is forwarded");
            for reading in readings(path) {
                let is_guarded = reading == "/admin" || reading.starts_with("/admin/");
                assert!(!is_guarded && reading != "/exact", "{path} is {reading}");
            }
        }
    }
    // A path that may be read so by whoever may.
    assert_eq!(gate.get("/adm%69n/a", &sign(&claims())).status, 200);
    threat::count("paths", PATHS.len());
}

#[test]
fn a_query_or_fragment_is_no_part_of_the_path_that_is_matched() {
    let (upstream, gate) = start();
    let token = plain();
    for (target, status) in [
        ("/admin/a?/public/a", 403),
        ("/admin?/public/a", 403),
        ("/admin/a?x=/../../public/a", 403),
        ("/admin/a#/public/a", 400),
        ("/public/a#/../admin/a", 400),
        ("http://gate.example/admin/a", 403),
        ("http://gate.example?/public/a", 200),
        ("http://gate.example//admin/a", 400),
        ("http:/admin/a", 400),
    ] {
        assert_eq!(gate.get(target, &token).status, status, "{target}");
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.last().target(), "/?/public/a");
    threat::count("queries and fragments", 9);
}

#[test]
fn a_path_is_another_routes_twin_only_where_that_one_guards_it_otherwise() {
    let upstream = Upstream::start();
    let gate = Builder::standard(
        upstream.address,
        "
  - { path: /page, upstream: app, public: true }
  - { path: /Both, upstream: app }
  - { path: /both, upstream: app, require: { scopes: [ admin ] } }
  - { path: /same/**, upstream: app }
  - { path: /Kept/**, upstream: app, require: { scopes: [ admin ] } }
  - { path: /final/, upstream: app, require: { scopes: [ admin ] } }
  - { path: /put, methods: [ PUT ], upstream: app, require: { scopes: [ admin ] } }
  - { path: /open/**, upstream: app, public: true }
  - { path: /open/shut/**, upstream: app }
  - { path: /**, upstream: app }
",
    )
    .start();
    let token = plain();
    for (path, status) in [
        ("/page/", 200),
        ("/PAGE", 200),
        ("/Both", 200),
        ("/both", 403),
        ("/SAME/x", 200),
        ("/Kept/x", 403),
        ("/kept/x", 400),
        ("/final/", 403),
        ("/final", 400),
        ("/put/", 200),
        ("/open/X/", 200),
        ("/open/SHUT/x", 400),
        ("/Elsewhere/X/", 200),
    ] {
        assert_eq!(gate.get(path, &token).status, status, "{path}");
    }
    let bearer = format!("authorization: Bearer {token}\r\n");
    assert_eq!(gate.request("PUT", "/put/", &bearer).status, 400);
}
