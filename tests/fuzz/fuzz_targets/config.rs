//! Is every text a config that can be served, or an error that says where?

#![no_main]

use std::path::Path;

use http::Method;
use libfuzzer_sys::fuzz_target;
use tollgate::cli::run::prepare;
use tollgate::config::Config;
use tollgate::config::files::Files;
use tollgate::config::load::{ConfigError, parse};
use tollgate::refusal::Reason;
use tollgate::route::RouteConfig;
use tollgate::route::path::CanonicalPath;
use tollgate::route::table::RouteTable;

#[allow(dead_code, reason = "for the properties, too")]
#[path = "../../properties/rules.rs"]
mod rules;

fuzz_target!(|yaml: &str| {
    let file = Path::new("a.yaml");
    let config = match parse::<Config>(yaml, file) {
        Ok(config) => config,
        Err(ConfigError::Syntax {
            line, column, text, ..
        }) => {
            let lines = yaml.split(['\n', '\r']).count();
            let line = usize::try_from(line).expect("a line");
            assert!(
                (1..=lines + 1).contains(&line) && column >= 1,
                "{line}:{column}: {text}"
            );
            assert!(!text.is_empty());
            return;
        }
        Err(error) => panic!("{error}"),
    };
    // As `tollgate check` does it, but for the files.
    let users =
        "users: [ { name: alice, scopes: [ a ], upstream: { username: u, password: p } } ]\n";
    let files = Files::in_memory([
        ("k1", rules::SECRET.to_vec()),
        ("users.yaml", users.as_bytes().to_vec()),
        ("password", b"secret".to_vec()),
    ]);
    let first = prepare(config.clone(), &files, file);
    let again = prepare(config.clone(), &files, file);
    match (first, again) {
        (Ok(prepared), Ok(_)) => {
            let table = &prepared.snapshot.routes;
            assert_eq!(table.all().len(), config.routes.len());
            assert!(!config.listeners.is_empty() && !config.tokens.keys.is_empty());
            for route in &config.routes {
                check_found(route, table);
            }
        }
        (Err(first), Err(again)) => {
            let ConfigError::Invalid { problems, .. } = &first else {
                panic!("{first}");
            };
            assert!(!problems.is_empty());
            assert!(
                !problems.to_string().starts_with("  :"),
                "{first} names no key"
            );
            assert_eq!(first.to_string(), again.to_string());
        }
        (first, again) => panic!("{:?}, then {:?}", first.err(), again.err()),
    }
});

/// There is a request that a route's own pattern fits; some route takes it.
fn check_found(route: &RouteConfig, table: &RouteTable) {
    let segments = route.path.split('/').map(|segment| match segment {
        "*" | "**" => "x",
        capture if capture.starts_with('{') => "x",
        literal => literal,
    });
    let path = Vec::from_iter(segments).join("/");
    let Ok(path) = CanonicalPath::parse(&path) else {
        return;
    };
    let method = route.methods.first().map_or("GET", String::as_str);
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
    let host = route
        .host
        .as_deref()
        .unwrap_or("gate.example")
        .to_ascii_lowercase();
    let found = table.find(&host.replacen('*', "x", 1), &path, &method);
    let is_lost = found.is_err_and(|refusal| refusal.reason != Reason::AmbiguousPath);
    assert!(!is_lost, "{} {host}{}", method, route.path);
}
