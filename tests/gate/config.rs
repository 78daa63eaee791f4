//! A wrong config is refused with all that is wrong in it, and shows no secret.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Output;

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use crate::support::gate::{Builder, SECRET, self_signed};
use crate::support::rows;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /own/**
    name: own
    upstream: app
    credential: login
";
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
const LISTENER: &str = "listeners: [ { address: \"127.0.0.1:0\" } ]";
const ADMIN: &str = "admin: { address: \"127.0.0.1:0\" }";

/// What no output may show: parts of every secret in the files.
const SECRETS: [&str; 5] = [
    "0123456789abcdef0123",
    "fedcba9876",
    "s3cret",
    "hunter2",
    "$argon2id$v",
];

/// 1024 bits: too few by RFC 7518 section 3.3.
const SMALL_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQClivMx6lEz8aUfQQ4zZeGsClzb
GdoN59jceSYyQM/hevsIXPTTWdNbdZoVy1uA7GQYajCh48R6I8XF0g+W9A5hAHcP
4T2F8C4Ef9m+ukVlb1tY3l+cJL1B0u6dwo5XLmlkEZOs8Bm5RxREIaK9lMqDv3cS
grLHlGMPRtSvldsWVQIDAQAB
-----END PUBLIC KEY-----
";

/// Case, what stands in the good config, what stands there instead, parts of the answer.
const SYNTAX: &str = r#"
a misspelt section      | routes:               | rotues:                                      | tollgate.yaml: | `rotues` | did you mean `routes`?
a misspelt key          | issuer:               | isuer:                                       | tollgate.yaml:6: | `isuer` | did you mean `issuer`?
a misspelt route's key  | name: own             | nmae: own                                    | `nmae` | did you mean `name`?
an unknown key          | name: own             | zzzzz: own                                   | `zzzzz` | known here
an unknown dialect      | dialect: memphis      | dialect: memfis                              | `memfis` | did you mean `memphis`?
an unknown algorithm    | HS256                 | HS257                                        | `HS257` | did you mean `HS256`?
algorithm none          | HS256                 | none                                         | `none`
an unknown path form    | name: own             | allow_in_path: [encoded_slsh]                | `encoded_slsh` | `encoded_slash`
an unknown credential   | credential: login     | credential: logn                             | `logn` | did you mean `login`?
no upstreams            | upstreams:            | log:                                         | tollgate.yaml:
a missing key           | issuer: tollgate      | # gone                                       | `issuer` | missing
a missing path          | - path: /own/**\n   | -                                            | `path` | missing
a bad duration          | audience: gate        | access_ttl: soon                             | `soon` | duration
an endless duration     | audience: gate        | access_ttl: 300000000000years                | `300000000000years` | hundred years
a duration without unit | audience: gate        | access_ttl: 15                               | `15` | duration
a negative duration     | audience: gate        | access_ttl: -15m                             | `-15m` | duration
a bad size              | audience: gate        | cache: { bytes: lots }                       | `lots` | size
a negative number       | workers: 2            | workers: -2                                  | tollgate.yaml:4:
text for a number       | workers: 2            | workers: two                                 | tollgate.yaml:4:
a key twice             | workers: 2            | workers: 2\nworkers: 2                       | tollgate.yaml:5: | workers
broken YAML             | workers: 2            | workers: [2                                  | tollgate.yaml:
a variable that is none | issuer: tollgate      | issuer: "${TOLLGATE_TEST_NOT_SET}"           | `TOLLGATE_TEST_NOT_SET` | not set
a variable without end  | issuer: tollgate      | issuer: "${HOME"                             | }
"#;

const ROUTE: &str = r#"
an unknown upstream         | name: own\n    upstream: app | upstream: ap                          | routes[1].upstream | did you mean `app`?
the same route twice        | /own/**            | /api/**                                         | routes[1] | /api/**
the same name twice         | name: own          | name: /api/**                                   | routes[1].name
a path without slash        | /own/**            | own/**                                          | routes[1] | own/**
two stars in the middle     | /own/**            | /own/**/x                                       | routes[1] | `**`
a star in a segment         | /own/**            | /own/x*                                         | routes[1] | `*`
a path that cannot match    | /own/**            | /own/../x                                       | routes[1] | /own/../x
a method that is none       | name: own          | methods: [ 'G T' ]                              | routes[1].methods | `G T`
a host with a port          | name: own          | host: 'a.example:80'                            | routes[1].host
a star inside a host        | name: own          | host: 'a.*.example'                             | routes[1].host
a header that is the gate's | name: own          | set_headers: { Authorization: x }               | routes[1].set_headers | `Authorization`
a header that is none       | name: own          | remove_headers: [ 'a b' ]                       | routes[1].remove_headers | `a b`
a credential that frames    | credential: login  | credential: { header: { name: Content-Length, value_file: k1 } } | routes[1].credential.header.name | `content-length`
a header with a line end    | name: own          | set_headers: { X-A: "a\\nb" }                   | routes[1].set_headers
no place for a token        | name: own          | token: { header: false, query: [], subprotocol: false } | routes[1].token
scopes on a public route    | name: own          | public: true\n    require: { scopes: [x] }      | routes[1].require
own credentials, public     | name: own          | public: true                                    | routes[1].credential
a Basic name with a colon   | username: gate     | username: 'ga:te'                               | routes[0].credential | `:`
a missing password file     | upstream-password  | nowhere                                         | routes[0].credential.basic.password_file | nowhere
no key for seals            | seal_key_file: seal | leeway: 0s                                     | routes[1].credential | tokens.seal_key_file
a per-user password alone   | credential: login  | credential: { per_user: { file: per-user.yaml } } | routes[1].credential.per_user.file | per-user.yaml:1:
a per-user password in a list | credential: login | credential: { per_user: { file: per-user-list.yaml } } | routes[1].credential.per_user.file | per-user-list.yaml:1:
a per-user name with a colon | credential: login | credential: { per_user: { file: per-user-colon.yaml } } | routes[1].credential | root
"#;

const TOKENS: &str = r#"
no key                  | { id: k1, algorithm: HS256, secret_file: k1 } |                   | tokens.keys
a weak secret           | secret_file: k1     | secret_file: weak                           | tokens.keys[0].secret_file | 32
a missing secret        | secret_file: k1     | secret_file: nowhere                        | tokens.keys[0].secret_file | nowhere
no secret               | , secret_file: k1   |                                             | tokens.keys[0] | secret_file
a secret for RS256      | HS256               | RS256                                       | tokens.keys[0] | private_key_file
an id twice             | secret_file: k1 }   | secret_file: k1 }, { id: k1, algorithm: HS256, secret_file: k1 } | tokens.keys[1].id | `k1`
an RSA key of 1024 bits | secret_file: k1 }   | secret_file: k1 }, { id: r, algorithm: RS256, public_key_file: rsa.pem } | tokens.keys[1].public_key_file | 1024 | 2048
the same for PS256      | secret_file: k1 }   | secret_file: k1 }, { id: r, algorithm: PS256, public_key_file: rsa.pem } | tokens.keys[1].public_key_file | 1024
a public key first      | HS256, secret_file: k1 | EdDSA, public_key_file: ed.pub           | tokens.keys[0] | private_key_file
a key of another curve  | HS256, secret_file: k1 | ES256, private_key_file: p384.pem        | tokens.keys[0].private_key_file
a key of another kind   | HS256, secret_file: k1 | EdDSA, private_key_file: p384.pem        | tokens.keys[0].private_key_file
a secret as private key | HS256, secret_file: k1 | ES256, private_key_file: k1              | tokens.keys[0].private_key_file | PEM
a life over the longest | audience: gate      | access_ttl: 25h                             | tokens.access_ttl | max_access_ttl
a refresh over the longest | audience: gate   | refresh_ttl: 31days                         | tokens.refresh_ttl | max_refresh_ttl
no life                 | audience: gate      | access_ttl: 0s                              | tokens.access_ttl
a leeway that undoes exp | audience: gate     | leeway: 1h                                  | tokens.leeway
an empty issuer         | issuer: tollgate    | issuer: ''                                  | tokens.issuer
a weak seal             | seal_key_file: seal | seal_key_file: weak                         | tokens.seal_key_file | 32
an empty audience       | audience: gate      | audience: ''                                | tokens.audience
"#;

const PLACES: &str = r#"
plain text for the world  | LISTENER            | listeners: [ { address: "0.0.0.0:0" } ]   | listeners[0] | danger_plaintext
the same over IPv6        | LISTENER            | listeners: [ { address: "[::]:0" } ]      | listeners[0] | danger_plaintext
no listener               | LISTENER            | listeners: []                             | listeners
no address                | LISTENER            | listeners: [ { address: localhost } ]     | listeners[0].address | `localhost`
a network that is none    | LISTENER            | listeners: [ { address: "127.0.0.1:0", trusted_proxies: [ 10.0.0.0/33 ] } ] | listeners[0].trusted_proxies[0] | `10.0.0.0/33`
a proxy by name           | LISTENER            | listeners: [ { address: "127.0.0.1:0", trusted_proxies: [ proxy.example ] } ] | listeners[0].trusted_proxies[0] | `proxy.example`
another certificate's key | LISTENER            | listeners: [ { address: "127.0.0.1:0", tls: { certificate: a.crt, private_key: b.key } } ] | listeners[0].tls.private_key
a missing certificate     | LISTENER            | listeners: [ { address: "127.0.0.1:0", tls: { certificate: nowhere, private_key: b.key } } ] | listeners[0].tls.certificate | nowhere
a key as certificate      | LISTENER            | listeners: [ { address: "127.0.0.1:0", tls: { certificate: b.key, private_key: b.key } } ] | listeners[0].tls.certificate
metrics for the world     | ADMIN               | admin: { address: "0.0.0.0:0" }           | admin.address | danger_public
no workers                | workers: 2          | workers: 0                                | workers
no endpoint               | "http://127.0.0.1:9" |                                          | upstreams.app.endpoints
an endpoint with a path   | http://127.0.0.1:9  | http://127.0.0.1:9/x                      | upstreams.app.endpoints[0]
another scheme            | http://127.0.0.1:9  | ftp://127.0.0.1:9                         | upstreams.app.endpoints[0]
a missing authority       | response_timeout: 5s | ca_file: nowhere                         | upstreams.app.ca_file
nobody to log in          | { users_file: users.yaml } |                                    | identity
a missing users file      | users.yaml          | nowhere                                   | identity[0].users_file | nowhere
a user of two files       | { users_file: users.yaml } | { users_file: users.yaml }, { users_file: users-again.yaml } | identity[1].users_file | `root@example.com`
a misspelt key in it      | users.yaml          | users-typo.yaml                           | identity[0].users_file | users-typo.yaml:2: | `password_hash`
a password in clear       | users.yaml          | users-plain.yaml                          | identity[0].users_file | password_hash | hash-password
a user twice              | users.yaml          | users-twice.yaml                          | identity[0].users_file | `a`
a secret as users file    | users.yaml          | seal                                      | identity[0].users_file
a text as users file      | users.yaml          | text.yaml                                 | identity[0].users_file
a probe of no upstream    | users_file: users.yaml | upstream_probe: { upstream: x, path: /a } | identity[0].upstream_probe.upstream
a probe of no path        | users_file: users.yaml | upstream_probe: { upstream: app, path: a } | identity[0].upstream_probe.path
a bad prefix              | dialect: memphis    | dialect: memphis, prefix: x/              | login[0].prefix
the same login twice      | { dialect: memphis } | { dialect: memphis }, { dialect: memphis } | login[1]
a login's life            | dialect: memphis    | dialect: memphis, access_ttl: 48h         | login[0].access_ttl
looks without a pause     | interval: 0s        | interval: 10ms                            | reload.interval | 100ms
a share over one          | workers: 2          | log: { access_sample: 2.0 }               | log.access_sample
no time for a head        | workers: 2          | limits: { header_timeout: 0s }            | limits.header_timeout | nobody
no connection             | workers: 2          | limits: { connections: 0 }                | limits.connections | nobody
no head                   | workers: 2          | limits: { header_size: 0B }               | limits.header_size | nobody
no body of a login        | workers: 2          | limits: { login_body: 0B }                | limits.login_body | nobody
no frame of HTTP/2        | workers: 2          | limits: { http2_control_frames: 0 }       | limits.http2_control_frames | nobody
no time to connect        | response_timeout: 5s | connect_timeout: 0s                      | upstreams.app.connect_timeout | nobody
no time to answer         | response_timeout: 5s | response_timeout: 0s                     | upstreams.app.response_timeout | nobody
an address in two spellings | LISTENER          | listeners: [ { address: "[::1]:9" }, { address: "[0:0:0:0:0:0:0:1]:9" } ] | listeners[1].address
a name that Basic splits  | users.yaml          | users-colon.yaml                          | identity[0].users_file | `:`
an endpoint's password    | http://127.0.0.1:9  | http://u:hunter2@127.0.0.1:9              | upstreams.app.endpoints[0]
"#;

fn standard() -> Builder {
    let (certificate, _) = self_signed(&["a.example"]);
    let (_, key) = self_signed(&["b.example"]);
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    Builder::standard(NOWHERE, ROUTES)
        .file("a.crt", certificate)
        .file("b.key", key)
        .file("rsa.pem", SMALL_RSA)
        .file("p384.pem", p384.serialize_pem())
        .file("ed.pub", ed25519.public_key_pem())
        .file("weak", "hunter2 and no more")
        .file("text.yaml", "hunter2hunter2")
        .file(
            "users-typo.yaml",
            "users:\n  - { name: a, pasword_hash: x }\n",
        )
        .file(
            "users-plain.yaml",
            "users: [ { name: a, password_hash: hunter2 } ]\n",
        )
        .file("users-twice.yaml", "users: [ { name: a }, { name: a } ]\n")
        .file(
            "users-again.yaml",
            "users: [ { name: other, email: ROOT@example.com } ]\n",
        )
        .file("users-colon.yaml", "users: [ { name: 'a:b' } ]\n")
        .file("per-user.yaml", "root: hunter2\n")
        .file(
            "per-user-list.yaml",
            "root: { username: a, password: [hunter2] }\n",
        )
        .file(
            "per-user-colon.yaml",
            "root: { username: 'a:b', password: hunter2 }\n",
        )
}

/// `check` and `run` refuse each row with exit code 2, name all that the row expects, and show
/// neither a panic nor a secret.
fn assert_refused(table: &str) {
    for row in rows(table) {
        let (case, expected) = (row[0], &row[3..]);
        let from = match row[1] {
            "LISTENER" => LISTENER.to_owned(),
            "ADMIN" => ADMIN.to_owned(),
            from => from.replace("\\n", "\n"),
        };
        let to = row[2]
            .replace("\\\\", "\u{0}")
            .replace("\\n", "\n")
            .replace('\u{0}', "\\");
        let builder = standard().edit(&from, &to);
        for command in ["check", "run"] {
            let output = builder.run_to_end(&[command]);
            let (stdout, stderr) = texts(&output);
            assert_eq!(output.status.code(), Some(2), "{case}: {stdout}{stderr}");
            for part in expected {
                assert!(stderr.contains(part), "{case}: no {part} in: {stderr}");
            }
            assert!(!stderr.contains("panicked"), "{case}: {stderr}");
            assert_eq!(stdout, "", "{case}");
            for secret in SECRETS {
                assert!(!stderr.contains(secret), "{case} shows a secret: {stderr}");
            }
        }
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_config_that_does_not_fit_is_refused_with_line_column_and_the_nearest_key() {
    assert_refused(SYNTAX);
}

#[test]
fn a_route_that_cannot_be_meant_is_refused_with_its_key() {
    assert_refused(ROUTE);
}

#[test]
fn tokens_and_keys_that_are_not_safe_are_refused_with_their_key() {
    assert_refused(TOKENS);
}

#[test]
fn listeners_upstreams_users_and_logins_that_are_not_safe_are_refused_with_their_key() {
    assert_refused(PLACES);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let builder = standard()
        .edit("secret_file: k1", "secret_file: weak")
        .edit("audience: gate", "leeway: 1h")
        .edit("users_file: users.yaml", "users_file: nowhere")
        .edit("dialect: memphis", "dialect: memphis, prefix: x/")
        .edit("name: own\n    upstream: app", "upstream: ap")
        .edit("http://127.0.0.1:9", "ftp://127.0.0.1:9")
        .edit(ADMIN, "admin: { address: \"0.0.0.0:0\" }")
        .edit(LISTENER, "listeners: [ { address: \"0.0.0.0:0\" } ]");
    let (_, stderr) = texts(&builder.run_to_end(&["check"]));
    for key in [
        "tokens.keys[0].secret_file",
        "tokens.leeway",
        "identity[0].users_file",
        "routes[1].upstream",
        "upstreams.app.endpoints[0]",
        "admin.address",
        "listeners[0]",
        "login[0].prefix",
    ] {
        let told = stderr.lines().find_map(|line| {
            let (place, rest) = line.strip_prefix("  ")?.split_once(": ")?;
            rest.starts_with(&format!("{key}: ")).then_some(place)
        });
        let (line, column) = told
            .unwrap_or_else(|| panic!("no {key} in: {stderr}"))
            .split_once(':')
            .unwrap();
        let written = builder
            .config()
            .lines()
            .nth(line.parse::<usize>().unwrap() - 1);
        let from = column.parse::<usize>().unwrap() - 1;
        assert!(
            written.unwrap().len() > from,
            "{key} is not at {line}:{column}"
        );
    }
    assert!(!stderr.contains(str::from_utf8(SECRET).unwrap()));
}

#[test]
fn a_good_config_is_told_in_short_and_shows_no_secret() {
    let output = standard().run_to_end(&["check"]);
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    for part in [
        "listener",
        "http://127.0.0.1:0",
        "memphis",
        "app",
        "/api/**",
        "own",
    ] {
        assert!(stdout.contains(part), "no `{part}` in: {stdout}");
    }
    for secret in SECRETS {
        assert!(!stdout.contains(secret), "{stdout}");
    }
}
