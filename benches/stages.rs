//! What does each stage of the path cost? `cargo bench --bench stages`.
//!
//! Only the pure parts, without sockets; `--bench compare` measures the whole gate.

#![expect(
    clippy::expect_used,
    clippy::unreachable,
    reason = "a bench that cannot run stops"
)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Method, Request, StatusCode, request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tollgate::clock;
use tollgate::config::files::Files;
use tollgate::config::load::parse;
use tollgate::config::problem::Problems;
use tollgate::credential::{self, Credential};
use tollgate::route::path::CanonicalPath;
use tollgate::route::policy;
use tollgate::snapshot::Snapshot;
use tollgate::telemetry::exchange::Exchange;
use tollgate::telemetry::metrics::Metrics;
use tollgate::token::TokenType;
use tollgate::token::cache::{CacheConfig, Circumstances, Front, TokenCache};
use tollgate::token::revocation::Revocations;
use tollgate::token::verify::verify;
use tollgate::upstream::body::{RequestBody, Upload};
use tollgate::upstream::translate::{Facts, translate};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn snapshot(algorithm: &str, key: (&str, Vec<u8>), routes: usize) -> Snapshot {
    let mut yaml = format!(
        r#"
listeners: [ {{ address: "127.0.0.1:0" }} ]
tokens:
  issuer: bench
  keys: [ {{ id: k1, algorithm: {algorithm}, {}: key }} ]
upstreams: {{ app: {{ endpoints: [ "http://127.0.0.1:1" ] }} }}
routes:
  - path: /api/queues/*/*
    upstream: app
    require: {{ scopes: [ admin ] }}
    credential: {{ basic: {{ username: gate, password_file: password }} }}
"#,
        key.0
    );
    for index in 1..routes {
        yaml += &format!("  - {{ path: /other/{index}/**, upstream: app }}\n");
    }
    let files = Files::in_memory([("key", key.1), ("password", b"secret".to_vec())]);
    let config = parse(&yaml, Path::new("bench")).expect("a config");
    let mut problems = Problems::default();
    let snapshot = Snapshot::build(&config, &files, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    snapshot.expect("a snapshot")
}

/// One with HS256 has 300 bytes.
fn token(algorithm: Algorithm, key: &EncodingKey) -> String {
    let mut header = Header::new(algorithm);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some("k1".to_owned());
    let exp = clock::unix_now().0 + 86_400;
    let claims = json!({
        "iss": "bench", "aud": "bench", "sub": "somebody@people.example.com", "exp": exp,
        "jti": "0123456789abcdef0123456789abcdef", "scope": "admin read write",
    });
    jsonwebtoken::encode(&header, &claims, key).expect("a token")
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [1, 1_000] {
        let snapshot = snapshot("HS256", ("secret_file", SECRET.to_vec()), count);
        group.bench_function(format!("match, {count} routes"), |bencher| {
            bencher.iter(|| {
                let path = CanonicalPath::parse(black_box("/api/queues/main/orders"));
                let path = path.expect("a path");
                snapshot
                    .routes
                    .find("gate.example", &path, &Method::GET)
                    .expect("a route")
                    .index
            });
        });
    }
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    let rsa = rsa_key();
    let ec = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    for (name, algorithm, file, key, signing) in [
        (
            "HS256",
            Algorithm::HS256,
            "secret_file",
            SECRET.to_vec(),
            EncodingKey::from_secret(SECRET),
        ),
        (
            "ES256",
            Algorithm::ES256,
            "private_key_file",
            ec.clone().into_bytes(),
            EncodingKey::from_ec_pem(ec.as_bytes()).expect("a key"),
        ),
        (
            "RS256",
            Algorithm::RS256,
            "private_key_file",
            rsa.clone().into_bytes(),
            EncodingKey::from_rsa_pem(rsa.as_bytes()).expect("a key"),
        ),
    ] {
        let snapshot = snapshot(name, (file, key), 1);
        let token = token(algorithm, &signing);
        let now = clock::unix_now();
        group.bench_function(format!("verify {name}"), |bencher| {
            bencher.iter(|| {
                verify(black_box(&token), TokenType::Access, &snapshot.tokens, now).expect("good")
            });
        });
        if name == "HS256" {
            assert_eq!(token.len(), 300);
            let cache = TokenCache::new(&CacheConfig::default()).expect("randomness");
            let mut front = Front::new(Arc::new(cache));
            let verified = verify(&token, TokenType::Access, &snapshot.tokens, now).expect("good");
            let hash = front.hash([token.as_bytes()]);
            front.remember(hash, verified, 0);
            let around = Circumstances {
                generation: 0,
                now,
                leeway: snapshot.tokens.leeway,
                revocations: &Revocations::default(),
            };
            group.bench_function(format!("cache hit, {} bytes", token.len()), |bencher| {
                bencher.iter(|| {
                    let hash = front.hash([black_box(&token).as_bytes()]);
                    front.find(hash, &around).expect("a hit")
                });
            });
        }
    }
}

fn headers(criterion: &mut Criterion) {
    let snapshot = snapshot("HS256", ("secret_file", SECRET.to_vec()), 1);
    let token = token(Algorithm::HS256, &EncodingKey::from_secret(SECRET));
    let now = clock::unix_now();
    let verified = verify(&token, TokenType::Access, &snapshot.tokens, now).expect("good");
    let principal = Rc::new(verified);
    let route = snapshot.routes.all().first().expect("a route");
    let request_id = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
    let address = HeaderValue::from_static("127.0.0.1");
    let head = head(&token);
    criterion.bench_function("find the credential", |bencher| {
        bencher.iter(|| {
            let found = credential::find(black_box(&head), &route.token);
            found.location
        });
    });
    let path = CanonicalPath::parse(head.uri.path()).expect("a path");
    criterion.bench_function("authorize and translate", |bencher| {
        bencher.iter_batched(
            || (head.clone(), RequestBody(Upload::none(clock::now()))),
            |(head, body)| {
                let permit = policy::authorize(&route.policy, Some(principal.clone()), &path);
                let facts = Facts {
                    client: ([127, 0, 0, 1].into(), &address),
                    scheme: "https",
                    authority: &HeaderValue::from_static("gate.example:8443"),
                    is_in_host: true,
                    request_id: &request_id,
                    trace: None,
                    remaining_query: None,
                };
                translate(&permit.expect("a permit"), route, None, facts, head, body).expect("fine")
            },
            FEW,
        );
    });
}

/// All of the gate's own work on a request with a known token, in the order of `gate.rs`: all but
/// the host's parsing, the request's id and what hyper and rustls do.
fn whole(criterion: &mut Criterion) {
    let snapshot = snapshot("HS256", ("secret_file", SECRET.to_vec()), 10);
    let token = token(Algorithm::HS256, &EncodingKey::from_secret(SECRET));
    let metrics = Metrics::new().expect("metrics");
    let upstream = metrics.upstream("app");
    let (upstream_name, route_name): (Rc<str>, Rc<str>) = ("app".into(), "/api".into());
    let cache_metrics = metrics.cache();
    let routes = snapshot.routes.all().iter();
    let labels: Vec<_> = routes
        .map(|route| Rc::new(metrics.route(&route.name)))
        .collect();
    let cache = TokenCache::new(&CacheConfig::default()).expect("randomness");
    let mut front = Front::new(Arc::new(cache));
    let verified = verify(
        &token,
        TokenType::Access,
        &snapshot.tokens,
        clock::unix_now(),
    );
    let hash = front.hash([token.as_bytes()]);
    front.remember(hash, verified.expect("good"), 0);
    let revocations = Revocations::default();
    let request_id = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
    let address = HeaderValue::from_static("127.0.0.1");
    let authority = HeaderValue::from_static("gate.example:8443");
    let head = head(&token);
    let mut pass = |head: request::Parts| {
        let client = Ipv4Addr::LOCALHOST.into();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let mut exchange = Exchange::start(method, uri, client, request_id.clone(), 0.01);
        let body = RequestBody(Upload::none(exchange.started()));
        let path = CanonicalPath::parse(head.uri.path()).expect("a path");
        let route = snapshot.routes.find("gate.example", &path, &head.method);
        let route = route.expect("a route");
        let label = labels.get(route.index).expect("a label");
        exchange.routed(label, &route_name);

        let presented = credential::find(&head, &route.token);
        let Ok(Credential::Token(token)) = presented.credential else {
            unreachable!("a token is presented");
        };
        let around = Circumstances {
            generation: 0,
            now: clock::unix_now(),
            leeway: snapshot.tokens.leeway,
            revocations: &revocations,
        };
        let hash = front.hash([token.as_bytes()]);
        let principal = front.find(hash, &around).expect("a hit");
        cache_metrics.hit();
        label.authenticated(presented.location, None);
        exchange.authenticated(Rc::clone(&principal));
        let permit = policy::authorize(&route.policy, Some(principal), &path).expect("a permit");
        label.authorized(None);

        let facts = Facts {
            client: (client, &address),
            scheme: "https",
            authority: &authority,
            is_in_host: true,
            request_id: exchange.request_id(),
            trace: None,
            remaining_query: presented.remaining_query,
        };
        let outgoing = translate(&permit, route, None, facts, head, body).expect("fine");
        exchange.forwarded(&upstream_name);
        let sent = clock::now();
        let answered = clock::now();
        let waited = answered.saturating_duration_since(sent);
        exchange.waited(waited, answered);
        upstream.answered(StatusCode::OK, waited);
        exchange.answered(StatusCode::OK);
        outgoing.into_inner()
    };
    criterion.bench_function("all of a cached request", |bencher| {
        bencher.iter_batched(|| head.clone(), &mut pass, FEW);
    });
}

/// As a client sends it.
fn head(token: &str) -> request::Parts {
    let request = Request::builder()
        .uri("/api/queues/main/orders?page=1")
        .header("host", "gate.example:8443")
        .header("user-agent", "curl/7.88.1")
        .header("accept", "*/*")
        .header("accept-encoding", "gzip")
        .header("authorization", format!("Bearer {token}"))
        .header("x-forwarded-for", "1.2.3.4")
        .body(());
    request.expect("a request").into_parts().0
}

/// An RSA key of 2048 bits in PEM (PKCS #8), fresh each time.
fn rsa_key() -> String {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    key.expect("a key").serialize_pem()
}

/// So few heads are made ahead that they are in the nearest cache, as one just read is.
const FEW: BatchSize = BatchSize::NumIterations(16);

criterion_group!(benches, routes, tokens, headers, whole);
criterion_main!(benches);
