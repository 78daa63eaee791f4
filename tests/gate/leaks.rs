//! Is any secret left anywhere once it was used: in an output, in the state, or in memory?
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tollgate::cli::run::prepare;
use tollgate::config::files::Files;
use tollgate::config::load::parse;
use tollgate::config::secret::Secret;
use tollgate::identity::{Attempt, SecretKind};
use tollgate::token::cache::TokenCache;

use crate::support::client::{Response, connect, connect_tls, read_response};
use crate::support::gate::{Builder, Gate, SECRET, hash_password, self_signed};
use crate::support::http2::{Http2, empty};
use crate::support::jar::{Jar, hidden};
use crate::support::secrets::Secrets;
use crate::support::tokens::{HEADER, claims, forge, sign, with_claim};
use crate::support::upstream::{Seen, Upstream};

const PASSWORD: &str = "root's own p\u{e4}ssword, all of it";
const CONNECTION_TOKEN: &str = "connection token of root 71c3";
const PROBED: &str = "what only the upstream knows 55";
const MISTYPED: &str = "a password with a slip of the pen";
const UPSTREAM: &str = "the gate's password at the upstream";
const RESOURCE: &str = "7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11";
const SEAL: &str = "fedcba9876543210fedcba9876543210";

const ROUTES: &str = "
  - path: /fixed/**
    upstream: app
    token: { query: [ authorization ], subprotocol: true }
    credential: { basic: { username: gate, password_file: upstream-password } }
  - { path: /own/**, upstream: app, credential: login, basic: {} }
  - { path: /open/**, upstream: app, public: true }
  - { path: /down/**, upstream: down }
  - { path: /narrow/**, upstream: app, require: { scopes: [ nobody-has-this ] } }
";

/// Knows the probed user, agrees to every upgrade and hangs up then; keeps other connections.
fn upstream() -> Upstream {
    let probed = format!("Basic {}", STANDARD.encode(format!("probed:{PROBED}")));
    Upstream::scripted(move |seen: &Seen, stream| {
        let is_upgrade = seen.header("upgrade").is_some();
        let is_good = seen.target() != "/whoami" || seen.header("authorization") == Some(&probed);
        let answer = match (is_upgrade, is_good) {
            (true, _) => {
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            }
            (_, true) => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            (_, false) => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).is_ok() && !is_upgrade
    })
}

fn builder(upstream: &Upstream) -> Builder {
    let (password, connection) = (
        hash_password(PASSWORD, "argon2id"),
        hash_password(CONNECTION_TOKEN, "bcrypt"),
    );
    let users = format!(
        "users:\n  - {{ name: root, email: root@example.com, password_hash: \"{password}\", \
         connection_token_hash: \"{connection}\", scopes: [ admin ], resources: [ {RESOURCE} ] }}\n"
    );
    let app = format!(
        "  app: {{ endpoints: [ \"http://{}\" ], idle_timeout: 1s }}\n  \
         down: {{ endpoints: [ \"http://127.0.0.1:1\" ] }}",
        upstream.address
    );
    let dialects = [
        "memphis",
        "emnify",
        "datarhei",
        "jmvstream",
        "oauth2",
        "ticket",
        "browser",
    ];
    let login = dialects
        .map(|name| format!("{{ dialect: {name} }}"))
        .join(", ");
    let more = "log: { level: debug }\ndanger_core_dumps: true\n";
    Builder::with_extra(upstream.address, ROUTES, more)
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\", tls: { \
             certificate: gate.crt, private_key: gate.key } } ]",
        )
        .line(
            "identity:",
            "identity: [ { users_file: users.yaml }, { upstream_probe: { upstream: app, path: /whoami } } ]",
        )
        .line("  app:", &app)
        .line("login:", &format!("login: [ {login} ]"))
        .file("upstream-password", UPSTREAM)
        .file("users.yaml", users)
}

/// A client that notes what it says and hears.
struct Talk {
    gate: Gate,
    certificate: String,
    secrets: Secrets,
    /// Every answer that is no login's.
    heard: Vec<u8>,
}

impl Talk {
    fn hear(&mut self, response: &Response) {
        for (name, value) in &response.headers {
            self.heard
                .extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
        self.heard.extend_from_slice(&response.body);
        self.heard.push(b'\n');
    }

    /// Sends a request that gets no token.
    fn ask(&mut self, status: u16, method: &str, target: &str, headers: &str, body: &str) {
        let request = request(method, target, headers, body);
        let response = self.gate.send(&request);
        assert_eq!(
            response.status,
            status,
            "{method} {target}: {}",
            response.text()
        );
        self.hear(&response);
    }

    fn get(&mut self, status: u16, target: &str, token: &str) {
        self.ask(status, "GET", target, &bearer(token), "");
    }

    /// Sends a request that gets tokens, and notes those with these names.
    fn log_in(&mut self, target: &str, headers: &str, body: &str, names: &[&str]) -> Vec<String> {
        let response = self.gate.send(request("POST", target, headers, body));
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        let answer = response.json();
        names
            .iter()
            .map(|name| self.note(target, name, &answer))
            .collect()
    }

    fn note(&mut self, whence: &str, name: &str, answer: &Value) -> String {
        let token = answer[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {answer}"));
        let name = format!("{name} of {whence}");
        match token.matches('.').count() {
            2 => self.secrets.add_token(&name, token),
            _ => self.secrets.add(&name, token),
        }
        token.to_owned()
    }
}

const JSON: &str = "content-type: application/json\r\n";
const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nhost: gate.example\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn basic(pair: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(pair))
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Every dialect's ways to get tokens.
fn logins(talk: &mut Talk) -> Vec<String> {
    let user = json!({"username": "root", "password": PASSWORD}).to_string();
    let probed = json!({"username": "probed", "password": PROBED}).to_string();
    let mut good = Vec::new();
    let memphis = ["jwt", "jwt_refresh_token"];
    for body in [
        user.clone(),
        probed,
        json!({"username": "root", "connection_token": CONNECTION_TOKEN}).to_string(),
    ] {
        let pair = talk.log_in("/auth/authenticate", JSON, &body, &memphis);
        let refresh = json!({"jwt_refresh_token": pair[1]}).to_string();
        good.extend(
            talk.log_in("/auth/refreshToken", JSON, &refresh, &memphis)
                .into_iter()
                .next(),
        );
        good.push(pair[0].clone());
    }
    let form = format!("username=root&password={}", encoded(PASSWORD));
    talk.log_in("/auth/authenticate", FORM, &form, &memphis);

    let emnify = talk.log_in(
        "/api/v1/authenticate",
        JSON,
        &user,
        &["auth_token", "refresh_token"],
    );
    let headers = format!("{JSON}{}", bearer(&emnify[0]));
    let made = talk.log_in(
        "/api/v1/application_token",
        &headers,
        "{}",
        &["application_token"],
    );
    let by = json!({"application_token": made[0]}).to_string();
    good.extend(talk.log_in("/api/v1/authenticate", JSON, &by, &["auth_token"]));
    let by = json!({"refresh_token": emnify[1]}).to_string();
    talk.log_in("/api/v1/authenticate", JSON, &by, &["auth_token"]);

    let datarhei = talk.log_in(
        "/api/login",
        JSON,
        &user,
        &["access_token", "refresh_token"],
    );
    let refreshed = talk.gate.get("/api/login/refresh", &datarhei[1]);
    good.push(talk.note("datarhei's refresh", "access_token", &refreshed.json()));

    let body = json!({"email": "root@example.com", "password": PASSWORD, "resource": RESOURCE});
    let jmvstream = talk.gate.post_json("/v1/authenticate", &body.to_string());
    assert_eq!(jmvstream.status, 200);
    let name = jmvstream
        .json()
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    good.push(talk.note("jmvstream", &name, &jmvstream.json()));
    good
}

fn oauth(talk: &mut Talk) -> Vec<String> {
    let client = format!("{FORM}{}", basic(&format!("root:{}", encoded(PASSWORD))));
    let pair = ["access_token", "refresh_token"];
    let form = format!(
        "grant_type=password&username=root&password={}",
        encoded(PASSWORD)
    );
    let first = talk.log_in("/oauth2/token", FORM, &form, &pair);
    let form = format!("grant_type=refresh_token&refresh_token={}", first[1]);
    let second = talk.log_in("/oauth2/token", FORM, &form, &pair);
    let alone = talk.log_in(
        "/oauth2/token",
        &client,
        "grant_type=client_credentials",
        &pair[..1],
    );
    talk.ask(
        200,
        "POST",
        "/oauth2/introspect",
        &client,
        &format!("token={}", alone[0]),
    );
    talk.ask(
        200,
        "POST",
        "/oauth2/revoke",
        FORM,
        &format!("token={}", second[1]),
    );
    let ticket = talk.log_in("/ticket", &bearer(&alone[0]), "", &["ticket"]);
    talk.ask(
        200,
        "GET",
        &format!("/fixed/a?ticket={}&x", ticket[0]),
        "",
        "",
    );
    talk.ask(
        401,
        "GET",
        &format!("/fixed/a?ticket={}&x", ticket[0]),
        "",
        "",
    );
    alone
}

/// Requests that are let through, and in how many ways a token may come.
fn passages(talk: &mut Talk, good: &[String]) {
    for token in good {
        talk.get(200, "/fixed/a", token);
        talk.ask(
            200,
            "GET",
            &format!("/fixed/a?x=1&authorization={token}"),
            "",
            "",
        );
        talk.ask(
            200,
            "GET",
            "/open/a",
            &format!("referer: https://x/?access_token={token}\r\n"),
            "",
        );
        talk.get(403, "/narrow/a", token);
        talk.get(404, &format!("/none/a?authorization={token}"), token);
        talk.ask(
            502,
            "GET",
            &format!("/down/a?authorization={token}"),
            "",
            "",
        );
        talk.ask(400, "GET", "/fixed/a", &bearer(token).repeat(2), "");
    }
    // Those of the probed user, and of `root` by its password.
    talk.get(200, "/own/a", &good[0]);
    talk.get(200, "/own/a", &good[2]);
    talk.ask(
        200,
        "GET",
        "/own/a",
        &basic(&format!("root:{PASSWORD}")),
        "",
    );
    let token = &good[0];
    for place in [
        format!("GET /fixed/ws?authorization={token} HTTP/1.1\r\n"),
        format!("GET /fixed/ws HTTP/1.1\r\nsec-websocket-protocol: mqtt, bearer.{token}\r\n"),
    ] {
        let mut stream = connect(talk.gate.address());
        let rest = "host: gate.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream
            .write_all(format!("{place}{rest}").as_bytes())
            .unwrap();
        let response = read_response(&mut stream, false);
        talk.hear(&response);
    }
}

/// What is refused, broken off, or never whole.
fn refusals(talk: &mut Talk, good: &[String]) {
    let forged = forge(HEADER, &claims().to_string());
    let (head, _) = forged.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", "Zm9yZ2VkIHNpZ25hdHVyZSBvZiAzMiBieXRlcw");
    let expired = with_claim("exp", json!(1_000_000_000));
    talk.secrets.add_token("a forged token", &forged);
    talk.secrets.add_token("an expired token", &expired);
    for token in [&forged, &expired] {
        talk.get(401, "/fixed/a", token);
        talk.ask(
            401,
            "GET",
            &format!("/fixed/a?authorization={token}"),
            "",
            "",
        );
        let body = json!({"jwt_refresh_token": token}).to_string();
        talk.ask(401, "POST", "/auth/refreshToken", JSON, &body);
        let body = json!({"application_token": token}).to_string();
        talk.ask(401, "POST", "/api/v1/authenticate", JSON, &body);
    }
    for user in ["root", "nobody", "probed"] {
        let body = json!({"username": user, "password": MISTYPED}).to_string();
        talk.ask(401, "POST", "/auth/authenticate", JSON, &body);
        talk.ask(
            401,
            "GET",
            "/own/a",
            &basic(&format!("{user}:{MISTYPED}")),
            "",
        );
    }
    let unread = format!("{{\"username\":\"root\",\"password\":\"{MISTYPED}\", x");
    talk.ask(400, "POST", "/auth/authenticate", JSON, &unread);
    let large = json!({"username": "root", "password": PASSWORD, "x": "x".repeat(100_000)});
    talk.ask(413, "POST", "/auth/authenticate", JSON, &large.to_string());
    let token = &good[0];
    talk.ask(
        400,
        "GET",
        "/fixed/a",
        &format!("{}bad header\r\n", bearer(token)),
        "",
    );
    talk.ask(
        431,
        "GET",
        "/fixed/a",
        &format!("{}x: {}\r\n", bearer(token), "y".repeat(200_000)),
        "",
    );
    for cut_short in [
        format!(
            "GET /fixed/a?authorization={token} HTTP/1.1\r\nhost: gate.example\r\n{}",
            bearer(token)
        ),
        format!(
            "POST /auth/authenticate HTTP/1.1\r\nhost: gate.example\r\n{JSON}content-length: 900\r\n\r\n\
             {{\"username\":\"root\",\"password\":\"{PASSWORD}\""
        ),
        format!(
            "POST /fixed/a HTTP/1.1\r\nhost: gate.example\r\n{}content-length: 900\r\n\r\nx",
            bearer(token)
        ),
    ] {
        let mut stream = connect(talk.gate.address());
        stream.write_all(cut_short.as_bytes()).unwrap();
    }
}

/// The same over TLS, with HTTP/1 and HTTP/2.
fn over_tls(talk: &mut Talk, good: &[String]) {
    let body = json!({"username": "root", "password": PASSWORD}).to_string();
    let address = talk.gate.listeners[1];
    let mut tls = connect_tls(
        address,
        "gate.example",
        &talk.certificate,
        &[],
        rustls::ALL_VERSIONS,
    );
    tls.write_all(request("POST", "/auth/authenticate", JSON, &body).as_bytes())
        .unwrap();
    let answer = read_response(&mut tls, false).json();
    talk.note("memphis over TLS", "jwt", &answer);
    tls.write_all(request("GET", "/fixed/a", &bearer(&good[0]), "").as_bytes())
        .unwrap();
    let response = read_response(&mut tls, false);
    assert_eq!(response.status, 200);
    talk.hear(&response);

    let mut http2 = Http2::connect(address, &talk.certificate);
    let login = Request::post("https://gate.example/auth/authenticate")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)).boxed())
        .unwrap();
    let answer = serde_json::from_slice(&http2.send(login).body).unwrap();
    talk.note("memphis over HTTP/2", "jwt", &answer);
    for (target, status) in [
        ("/fixed/a".to_owned(), 200),
        (format!("/fixed/a?authorization={}", good[0]), 400),
        ("/narrow/a".to_owned(), 403),
    ] {
        let request = Request::get(format!("https://gate.example{target}"))
            .header("authorization", format!("Bearer {}", good[0]))
            .body(empty())
            .unwrap();
        let response = http2.send(request);
        assert_eq!(response.status, status, "{target}");
        talk.heard.extend_from_slice(&response.body);
    }
}

fn start(upstream: &Upstream) -> Talk {
    let (certificate, key) = self_signed(&["gate.example"]);
    let builder = builder(upstream)
        .file("gate.crt", &certificate)
        .file("gate.key", key);
    let checked = builder.run_to_end(&["check"]);
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let mut secrets = Secrets::default();
    secrets.add_pair("root's password", "root", PASSWORD);
    secrets.add_pair("the probed user's password", "probed", PROBED);
    secrets.add_pair("a wrong password", "root", MISTYPED);
    secrets.add("a connection token", CONNECTION_TOKEN);
    Talk {
        gate: builder.start(),
        certificate,
        secrets,
        heard: [checked.stdout, checked.stderr].concat(),
    }
}

/// The secrets that a gate is configured with.
/// A browser logs in, works, is misused by another site, and logs out.
fn browser(talk: &mut Talk) {
    let mut jar = Jar::default();
    let page = jar.open(&talk.gate, "/login?return=/fixed/a");
    talk.hear(&page);
    let proof = hidden(&page.text(), "form");
    for (status, password) in [(401, MISTYPED), (303, PASSWORD)] {
        let fields = [
            ("form", &*proof),
            ("username", "root"),
            ("password", password),
        ];
        let answer = jar.send(&talk.gate, "/login", &fields);
        assert_eq!(answer.status, status);
    }
    let session = jar.0["__Host-tollgate"].clone();
    talk.secrets.add_token("a session", &session);
    let cookie = jar.line();
    talk.ask(200, "GET", "/fixed/a", &cookie, "");
    talk.ask(200, "GET", "/own/a", &cookie, "");
    talk.ask(200, "GET", "/open/a", &cookie, "");
    talk.ask(403, "POST", "/fixed/a", &cookie, "");
    talk.ask(401, "GET", "/fixed/a", &bearer(&session), "");
    let answer = jar.send(&talk.gate, "/logout", &[("form", &proof)]);
    assert_eq!(answer.status, 200);
    talk.ask(401, "GET", "/fixed/a", &cookie, "");
}

fn configured() -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add("the signing key", std::str::from_utf8(SECRET).unwrap());
    secrets.add("the sealing key", SEAL);
    secrets.add_pair("the upstream's password", "gate", UPSTREAM);
    secrets
}

#[test]
fn no_secret_that_was_used_is_left_in_an_output_or_in_memory() {
    let upstream = upstream();
    let mut talk = start(&upstream);
    let mut good = logins(&mut talk);
    good.extend(oauth(&mut talk));
    browser(&mut talk);
    let minted = sign(&claims());
    talk.secrets.add_token("a minted token", &minted);
    good.push(minted);
    passages(&mut talk, &good);
    refusals(&mut talk, &good);
    over_tls(&mut talk, &good);
    assert!(talk.secrets.len() > 80, "{}", talk.secrets.len());

    let configured = configured();
    let state = std::fs::read(talk.gate.folder().path().join("state.redb")).unwrap();
    let upstream: Vec<_> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.target().to_owned())
        .collect();
    for (output, text) in [
        ("the log", talk.gate.log().into_bytes()),
        ("the metrics", talk.gate.metrics().into_bytes()),
        ("the keys", talk.gate.on_admin("/keys").body),
        ("the state", state),
        ("the answers", std::mem::take(&mut talk.heard)),
        ("the URLs upstream", upstream.concat().into_bytes()),
    ] {
        assert!(!text.is_empty(), "{output}");
        let found = [talk.secrets.found_in(&text), configured.found_in(&text)].concat();
        assert!(found.is_empty(), "{output}: {found:?}");
    }

    // A connection that is open holds what it read: the search finds what is there.
    let process = talk.gate.pid();
    let mut open = connect(talk.gate.address());
    let token = &good[0];
    let head = format!(
        "GET /fixed/a HTTP/1.1\r\nhost: gate.example\r\n{}",
        bearer(token)
    );
    open.write_all(head.as_bytes()).unwrap();
    wait("the search to find a token", || {
        !talk.secrets.found_in_memory(process).is_empty()
    });
    drop(open);
    let keys = configured.found_in_memory(process);
    assert!(
        keys.iter().any(|name| name.starts_with("the signing key")),
        "{keys:?}"
    );

    let mut left = talk.secrets.found_in_memory(process);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !left.is_empty() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(500));
        left = talk.secrets.found_in_memory(process);
    }
    assert!(left.is_empty(), "left in memory: {left:#?}");
    assert_eq!(
        talk.gate.on_admin("/livez").status,
        200,
        "it is alive and idle"
    );
}

#[test]
fn no_secret_is_in_debug() {
    let (certificate, key) = self_signed(&["gate.example"]);
    let users = format!(
        "users:\n  - {{ name: root, password_hash: \"{}\", upstream: {{ username: a, password: \"{PROBED}\" }} }}\n",
        hash_password(PASSWORD, "argon2id")
    );
    let yaml = r#"
listeners: [ { address: "127.0.0.1:0", tls: { certificate: gate.crt, private_key: gate.key } } ]
tokens:
  issuer: tollgate
  keys: [ { id: k1, algorithm: HS256, secret_file: k1 }, { id: k2, algorithm: ES256, private_key_file: gate.key } ]
  seal_key_file: seal
store: { redis: { urls: [ "rediss://a.example" ], password_file: redis, client_key: gate.key, client_certificate: gate.crt } }
identity: [ { users_file: users.yaml } ]
upstreams: { app: { endpoints: [ "http://127.0.0.1:9" ] } }
login: [ { dialect: memphis } ]
routes:
  - { path: /a/**, upstream: app, credential: { basic: { username: gate, password_file: upstream-password } } }
  - { path: /b/**, upstream: app, credential: { header: { name: X-Api-Key, value_file: upstream-password } } }
  - { path: /c/**, upstream: app, credential: users_file }
  - { path: /d/**, upstream: app, credential: { per_user: { file: per-user } } }
"#;
    let per_user = format!("root: {{ username: b, password: \"{CONNECTION_TOKEN}\" }}\n");
    let files = Files::in_memory([
        ("gate.crt", certificate.into_bytes()),
        ("gate.key", key.clone().into_bytes()),
        ("k1", SECRET.to_vec()),
        ("seal", SEAL.as_bytes().to_vec()),
        ("redis", MISTYPED.as_bytes().to_vec()),
        ("upstream-password", UPSTREAM.as_bytes().to_vec()),
        ("users.yaml", users.into_bytes()),
        ("per-user", per_user.into_bytes()),
    ]);
    let config = parse(yaml, Path::new("debug.yaml")).unwrap();
    let prepared = prepare(config, &files, Path::new("debug.yaml")).unwrap();
    let mut secrets = configured();
    secrets.add("the Redis password", MISTYPED);
    secrets.add_pair("the user's password at the upstream", "a", PROBED);
    secrets.add_pair("another password at the upstream", "b", CONNECTION_TOKEN);
    secrets.add("the private key", key.lines().nth(1).unwrap());
    let attempt = Attempt {
        identifier: "root".to_owned(),
        secret: Secret::new(PASSWORD.to_owned()),
        kind: SecretKind::Password,
        resource: None,
    };
    secrets.add_pair("a password on its way", "root", PASSWORD);
    let cache = TokenCache::new(&prepared.config.tokens.cache).unwrap();
    for shown in [
        format!("{prepared:?} {attempt:?} {cache:?}"),
        format!("{prepared:#?} {attempt:#?} {cache:#?}"),
    ] {
        assert!(shown.contains("upstream-password"), "{shown}");
        let found = secrets.found_in(shown.as_bytes());
        assert!(found.is_empty(), "{found:?}");
        // Nor as a list of bytes, nor as a hash's key.
        assert!(
            !shown.contains("48, 49, 50, 51") && !shown.contains("k0: "),
            "{shown}"
        );
    }
}

fn wait(what: &str, is_there: impl Fn() -> bool) {
    crate::support::wait_for(what, || is_there().then_some(()));
}
