//! Hostile tokens: each is refused before the upstream hears of it, each time it is shown.

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::support::gate::{Builder, Gate, SECRET, claims, sign};
use crate::support::threat;
use crate::support::tokens::{
    HEADER, encode, forge, forge_with, with_claim, with_header, without_claim,
};
use crate::support::upstream::Upstream;
use crate::support::{rows, unix_now};

const ROUTES: &str = "
  - path: /api/**
    upstream: app
";

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    (upstream, gate)
}

/// Each of these is refused with 401, in the same words when asked again.
fn assert_refused(gate: &Gate, upstream: &Upstream, rows: &[(&str, String)]) {
    for (case, token) in rows {
        let ask = || {
            let response = gate.get("/api/a", token);
            let challenge = response.header("www-authenticate").unwrap_or_default();
            (response.status, challenge.to_owned(), response.text())
        };
        let first = ask();
        assert_eq!(first.0, 401, "{case}");
        assert!(
            first.1.contains(r#"error="invalid_token""#),
            "{case}: {}",
            first.1
        );
        assert_eq!(first.2, r#"{"message":"Unauthorized"}"#, "{case}");
        for _ in 0..2 {
            assert_eq!(ask(), first, "{case}");
        }
        assert!(upstream.seen().is_empty(), "{case}");
    }
    threat::count("tokens", rows.len());
    // The gate is not confused by any of it.
    assert_eq!(gate.get("/api/a", &sign(&claims())).status, 200);
}

#[test]
fn a_token_with_unfit_times_is_refused() {
    let (upstream, gate) = start();
    let now = unix_now();
    let exp = |value: Value| with_claim("exp", value);
    let raw = |exp: &str| {
        let mut payload = claims();
        payload.as_object_mut().unwrap().remove("exp");
        let payload = payload.to_string();
        forge(HEADER, &payload.replacen('{', &format!("{{{exp},"), 1))
    };
    let far = now + 600;
    let rows = [
        ("expired", exp(json!(now - 1))),
        ("expires now", exp(json!(now))),
        ("expired at the epoch", exp(json!(0))),
        ("no exp", without_claim("exp")),
        ("exp is text", exp(json!(far.to_string()))),
        ("exp is a date", exp(json!("2099-01-01T00:00:00Z"))),
        ("exp is negative", exp(json!(-1))),
        ("exp is null", exp(Value::Null)),
        ("exp is a list", exp(json!([far]))),
        ("exp is an object", exp(json!({"exp": far}))),
        ("exp is true", exp(json!(true))),
        ("exp is 1e300", raw(r#""exp":1e300"#)),
        (
            "exp does not fit 64 bits",
            raw(r#""exp":18446744073709551616"#),
        ),
        (
            "exp is a fraction past its end",
            raw(&format!(r#""exp":{}.5"#, now - 1)),
        ),
        (
            "exp twice, good first",
            raw(&format!(r#""exp":{far},"exp":{}"#, now - 1)),
        ),
        (
            "exp twice, good last",
            raw(&format!(r#""exp":{},"exp":{far}"#, now - 1)),
        ),
        ("EXP is not exp", raw(&format!(r#""EXP":{far}"#))),
        ("nbf ahead", with_claim("nbf", json!(now + 600))),
        (
            "nbf is text",
            with_claim("nbf", json!((now - 5).to_string())),
        ),
        ("iat is text", with_claim("iat", json!("now"))),
    ];
    assert_refused(&gate, &upstream, &rows);
}

#[test]
fn a_token_with_unfit_claims_is_refused() {
    let (upstream, gate) = start();
    let text = claims().to_string();
    let rows = [
        ("wrong iss", with_claim("iss", json!("other"))),
        ("iss in another case", with_claim("iss", json!("Tollgate"))),
        ("iss with a space", with_claim("iss", json!("tollgate "))),
        ("iss is a list", with_claim("iss", json!(["tollgate"]))),
        ("no iss", without_claim("iss")),
        ("wrong aud", with_claim("aud", json!("other"))),
        ("aud is the issuer", with_claim("aud", json!("tollgate"))),
        (
            "aud lists others",
            with_claim("aud", json!(["other", "gate2"])),
        ),
        ("aud lists nobody", with_claim("aud", json!([]))),
        ("aud is a number", with_claim("aud", json!(1))),
        ("no aud", without_claim("aud")),
        ("empty sub", with_claim("sub", json!(""))),
        ("sub is a number", with_claim("sub", json!(1))),
        ("no sub", without_claim("sub")),
        (
            "sub twice",
            forge(HEADER, &text.replacen('{', r#"{"sub":"admin","#, 1)),
        ),
        ("scope is a list", with_claim("scope", json!(["admin"]))),
        ("payload is a list", forge(HEADER, "[]")),
        ("payload is text", forge(HEADER, "\"x\"")),
        ("payload is empty", forge(HEADER, "")),
        ("payload is null", forge(HEADER, "null")),
        ("payload has a tail", forge(HEADER, &format!("{text}{{}}"))),
        (
            "payload has a byte order mark",
            forge(HEADER, &format!("\u{feff}{text}")),
        ),
    ];
    assert_refused(&gate, &upstream, &rows);
}

#[test]
fn a_token_with_an_unfit_header_is_refused() {
    let (upstream, gate) = start();
    let mut rejected = Vec::new();
    for row in rows(HEADERS) {
        rejected.push((row[0], with_header(row[1])));
    }
    assert_refused(&gate, &upstream, &rejected);
}

/// Case, header; the signature is the right key's over SHA-256.
const HEADERS: &str = r#"
alg none                | {"alg":"none","kid":"k1","typ":"at+jwt"}
alg None                | {"alg":"None","kid":"k1","typ":"at+jwt"}
alg NONE                | {"alg":"NONE","kid":"k1","typ":"at+jwt"}
alg nOnE                | {"alg":"nOnE","kid":"k1","typ":"at+jwt"}
alg is empty            | {"alg":"","kid":"k1","typ":"at+jwt"}
alg in another case     | {"alg":"hs256","kid":"k1","typ":"at+jwt"}
alg HS384               | {"alg":"HS384","kid":"k1","typ":"at+jwt"}
alg RS256               | {"alg":"RS256","kid":"k1","typ":"at+jwt"}
alg is null             | {"alg":null,"kid":"k1","typ":"at+jwt"}
alg is a list           | {"alg":["HS256"],"kid":"k1","typ":"at+jwt"}
no alg                  | {"kid":"k1","typ":"at+jwt"}
alg twice               | {"alg":"HS256","alg":"none","kid":"k1","typ":"at+jwt"}
kid twice               | {"alg":"HS256","kid":"k1","kid":"k1","typ":"at+jwt"}
kid unknown             | {"alg":"HS256","kid":"k2","typ":"at+jwt"}
kid empty               | {"alg":"HS256","kid":"","typ":"at+jwt"}
kid is a path           | {"alg":"HS256","kid":"../k1","typ":"at+jwt"}
kid is a number         | {"alg":"HS256","kid":1,"typ":"at+jwt"}
crit                    | {"alg":"HS256","kid":"k1","typ":"at+jwt","crit":["exp"]}
crit is empty           | {"alg":"HS256","kid":"k1","typ":"at+jwt","crit":[]}
b64                     | {"alg":"HS256","kid":"k1","typ":"at+jwt","b64":false}
crit b64                | {"alg":"HS256","kid":"k1","typ":"at+jwt","b64":true,"crit":["b64"]}
typ JWT                 | {"alg":"HS256","kid":"k1","typ":"JWT"}
no typ                  | {"alg":"HS256","kid":"k1"}
typ is null             | {"alg":"HS256","kid":"k1","typ":null}
typ is empty            | {"alg":"HS256","kid":"k1","typ":""}
typ rt+jwt              | {"alg":"HS256","kid":"k1","typ":"rt+jwt"}
typ application/rt+jwt  | {"alg":"HS256","kid":"k1","typ":"application/rt+jwt"}
typ with a prefix twice | {"alg":"HS256","kid":"k1","typ":"application/application/at+jwt"}
a list                  | []
nothing                 |
"#;

#[test]
fn a_token_signed_in_another_way_is_refused() {
    let (upstream, gate) = start();
    let secret = b"a secret of the thief's own, long";
    let (own, thief) = (
        EncodingKey::from_secret(SECRET),
        EncodingKey::from_secret(secret),
    );
    let forge =
        |header: &str, algorithm, key| forge_with(header, &claims().to_string(), algorithm, key);
    let header = |field: &str| format!(r#"{{"alg":"HS256","kid":"k1","typ":"at+jwt",{field}}}"#);
    let jwk = header(&format!(
        r#""jwk":{{"kty":"oct","k":"{}"}}"#,
        encode(secret)
    ));
    let jku = header(r#""jku":"http://127.0.0.1:1/jwks""#);
    let hs384 = HEADER.replace("HS256", "HS384");
    let hs512 = HEADER.replace("HS256", "HS512");
    let rows = [
        ("another key", forge(HEADER, Algorithm::HS256, &thief)),
        (
            "a key of its own (jwk)",
            forge(&jwk, Algorithm::HS256, &thief),
        ),
        (
            "a key elsewhere (jku)",
            forge(&jku, Algorithm::HS256, &thief),
        ),
        (
            "HS384, the HS256 key",
            forge(&hs384, Algorithm::HS384, &own),
        ),
        (
            "HS512, the HS256 key",
            forge(&hs512, Algorithm::HS512, &own),
        ),
        (
            "HS384, told as HS256",
            forge(HEADER, Algorithm::HS384, &own),
        ),
    ];
    assert_refused(&gate, &upstream, &rows);
}

/// A good token whose signature has characters in which the two base64 alphabets differ.
fn with_url_characters() -> String {
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    std::iter::repeat_with(|| sign(&claims()))
        .find(|token| signature(token).contains('-') && signature(token).contains('_'))
        .unwrap()
}

#[test]
fn a_token_of_unfit_shape_is_refused() {
    let (upstream, gate) = start();
    let good = with_url_characters();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    let stem = signature.strip_suffix(last).unwrap();
    let flip = |bit: usize| alphabet.chars().nth(index ^ bit).unwrap();
    let standard = signature.replace('-', "+").replace('_', "/");
    let huge = with_claim("x", json!("x".repeat(9 * 1024)));
    let rows = [
        ("no signature", message.to_owned()),
        ("an empty signature", format!("{message}.")),
        (
            "a truncated signature",
            format!("{message}.{}", signature.split_at(20).0),
        ),
        ("a flipped bit", format!("{message}.{stem}{}", flip(4))),
        ("trailing bits", format!("{message}.{stem}{}", flip(1))),
        ("padding", format!("{message}.{signature}=")),
        ("the standard alphabet", format!("{message}.{standard}")),
        (
            "padding in the header",
            format!("{header}=.{payload}.{signature}"),
        ),
        ("an extra segment", format!("{good}.x")),
        ("an empty extra segment", format!("{good}.")),
        ("a leading dot", format!(".{good}")),
        (
            "five segments",
            format!("{header}.{payload}.x.y.{signature}"),
        ),
        (
            "swapped segments",
            format!("{payload}.{header}.{signature}"),
        ),
        ("no payload", format!("{header}..{signature}")),
        ("no header", format!(".{payload}.{signature}")),
        ("dots alone", "..".to_owned()),
        ("a dot", ".".to_owned()),
        ("a word", "null".to_owned()),
        ("JSON", r#"{"alg":"none"}"#.to_owned()),
        ("lower case", good.to_lowercase()),
        ("quotes", format!("\"{good}\"")),
        ("a comma", format!("{good},{good}")),
        ("a token in a token", format!("Bearer:{good}")),
        ("9 KiB, rightly signed", huge),
    ];
    assert_refused(&gate, &upstream, &rows);
}

#[test]
fn a_token_in_the_query_with_more_around_it_is_refused() {
    let (upstream, gate) = start();
    let good = sign(&claims());
    for around in [
        "%20TOKEN",
        "TOKEN%20",
        "TOKEN+",
        "TOKEN%0A",
        "TOKEN%00",
        "TOKEN%FF",
        "%22TOKEN%22",
        "Bearer%20TOKEN",
    ] {
        let value = around.replace("TOKEN", &good);
        let response = gate.request("GET", &format!("/api/a?authorization={value}"), "");
        assert_eq!(response.status, 401, "{around}");
    }
    assert!(upstream.seen().is_empty());
}
