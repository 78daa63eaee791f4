//! Clients that may not pass. Whatever could reach an upstream says `evil`, and none may.

use std::io::{Read, Write};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use crate::good::{Stage, someone, token_of};
use crate::logins::posted;
use crate::pause;
use crate::support::answer::{Got, read_answer};
use crate::support::raw::read_rest;
use crate::support::tokens::{
    HEADER, claims, encode, forge, forge_with, sign_as, with_claim, with_header, without_claim,
};
use crate::support::unix_now;
use crate::tally::{Asked, Side};
use crate::wire::{ask, bearer, hostile, is_refused, request};

/// Requests in doubt; `F` stands for the fields of a good one. All are 400 and the connection ends.
const FRAMING: &[&str] = &[
    "POST /own/u0/evil HTTP/1.1\r\nFcontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /own/u0/evil HTTP/1.1\r\nFtransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "POST /own/u0/evil HTTP/1.1\r\nFcontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
    "POST /own/u0/evil HTTP/1.1\r\nFcontent-length: +2\r\n\r\nhi",
    "POST /own/u0/evil HTTP/1.1\r\nFcontent-length: 18446744073709551618\r\n\r\nhi",
    "POST /own/u0/evil HTTP/1.1\r\nFtransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /own/u0/evil HTTP/1.1\r\nFtransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /own/u0/evil HTTP/1.1\r\nFtransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST /own/u0/evil HTTP/1.1\r\nFtransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    "GET /own/u0/evil HTTP/1.1\r\nFx: y\n\r\n",
    "GET /own/u0/evil HTTP/1.1\r\nFx: y\rz\r\n\r\n",
    "GET /own/u0/evil HTTP/1.1\r\nFx: y\r\n z\r\n\r\n",
    "GET /own/u0/evil HTTP/1.1\r\nFx: \0y\r\n\r\n",
    "GET /own/u0/evil HTTP/1.1\r\nFhost: other.example\r\n\r\n",
    "GET /own/u0/evil HTTP/0.9\r\nF\r\n",
    "GET /own/u0/evil HTTP/1.1 \r\nF\r\n",
    "GET /own/u0/evil#x HTTP/1.1\r\nF\r\n",
    "GET http://other.example/own/u0/evil HTTP/1.1\r\nF\r\n",
    "CONNECT /own/u0/evil HTTP/1.1\r\nF\r\n",
    "TRACE /own/u0/evil HTTP/1.1\r\nF\r\n",
];

/// Paths that back ends may read in different ways, or that nobody serves: 400 or 404, and 403
/// for another user's.
const PATHS: &[&str] = &[
    "/own/u0/../u1/evil",
    "/own/u0/./evil",
    "/own/u0/%2e%2e/u1/evil",
    "/own/u0/..%2fevil",
    "/own/u0/a%2fevil",
    "/own/u0/%252e%252e/evil",
    "/own/u0//evil",
    "/own/u0/a;evil",
    "/own/u0/evil.",
    "/own/u0/a%3Fevil",
    "/own/u0/a%23evil",
    "/own/u0/a\\evil",
    "/own/u0/a%5cevil",
    "/own/u0/%00evil",
    "/own/u0/%25%32e%25%32e/evil",
    "/public/../own/u0/evil",
    "/public/%2e%2e/own/u0/evil",
    "/own/u1/evil",
    "/solo/u1/evil",
    "/nobody/serves/evil",
    "/OWN/u0/evil",
];

/// Fields that could pass for somebody's word; a good request goes on without them.
const FORGED: &[&str] = &[
    "X-Forwarded-User: evil",
    "X_Forwarded_User: evil",
    "Remote_User: evil",
    "X-Remote-User: evil",
    "X-Auth-Request-Email: evil",
    "X-Forwarded-For: evil",
    "X-Real-IP: evil",
    "Forwarded: for=evil",
    "X-Original-URL: /evil",
    "X-Rewrite-URL: /evil",
    "X-HTTP-Method-Override: evil",
    "X-Api-Key: evil",
    "Proxy-Authorization: evil",
    "X-Tollgate-Subject: evil",
    "Connection: authorization, x-evil",
    "Content_Length: evil",
];

impl Stage<'_> {
    /// All families in turn, each one's cases by chance.
    pub(crate) fn attacks(self) {
        while !self.tally.is_over() {
            match fastrand::u8(..20) {
                0..=5 => self.forged_token(),
                6..=9 => self.framing(),
                10..=12 => self.path(),
                13..=14 => self.forged_header(),
                15 => self.giant_head(),
                16 => self.half_open(),
                17 => self.wrong_basic(),
                18 => self.guess(),
                _ => self.several_credentials(),
            }
            pause(fastrand::u64(10..80));
        }
    }

    pub(crate) fn refused(self, kind: &'static str, got: &Got, statuses: &[u16], what: &str) {
        let is_right = is_refused(got, statuses);
        let what = format!("{what:?} got {got:.300?}");
        self.tally.check(Side::Hostile, kind, is_right, &what);
    }

    fn forged_token(self) {
        let thief = EncodingKey::from_secret(b"a secret of the thief's own, long");
        let user = "u0";
        let mut good = claims();
        good["sub"] = user.into();
        let text = good.to_string();
        let none = r#"{"alg":"none","typ":"at+jwt"}"#;
        let token = match fastrand::u8(..14) {
            0 => format!("{}.{}.", encode(none), encode(&text)),
            1 => forge(&none.replace("none", "nOnE"), &text),
            2 => forge_with(HEADER, &text, Algorithm::HS256, &thief),
            3 => with_claim("exp", json!(unix_now() - 1)),
            4 => with_claim("exp", json!("2099-01-01")),
            5 => with_claim("iss", json!("other")),
            6 => with_claim("aud", json!("other")),
            7 => without_claim("exp"),
            8 => sign_as("rt+jwt", &good),
            9 => sign_as("JWT", &good),
            10 => with_header(&HEADER.replace("k1", "../k1")),
            11 => with_header(&HEADER.replace("}", r#","crit":["exp"]}"#)),
            12 => format!("{}.", forge(HEADER, &text)),
            _ => {
                let mut token = forge(HEADER, &text);
                // The last character but one: the last has bits that say nothing.
                let at = token.len() - 2;
                let other = if token.as_bytes()[at] == b'A' {
                    "B"
                } else {
                    "A"
                };
                token.replace_range(at..=at, other);
                token
            }
        };
        let request = request("GET", "/own/u0/evil", &bearer(&token), "");
        let got = ask(&mut hostile(self.ground), &request);
        self.refused("forged tokens", &got, &[401], &request);
    }

    fn framing(self) {
        let fields = format!("host: gate.example\r\n{}", bearer(&token_of("u0", 60)));
        let case = FRAMING[fastrand::usize(..FRAMING.len())];
        let smuggled = format!("GET /own/u0/evil HTTP/1.1\r\n{fields}\r\n");
        let mut stream = hostile(self.ground);
        let _ = stream.write_all((case.replace('F', &fields) + &smuggled).as_bytes());
        let answer = String::from_utf8_lossy(&read_rest(&mut stream)).into_owned();
        let is_right =
            answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1 ").count() == 1;
        let what = format!("{case:?} got {answer:.300?}");
        self.tally
            .check(Side::Hostile, "ambiguous framing", is_right, &what);
    }

    fn path(self) {
        let path = PATHS[fastrand::usize(..PATHS.len())];
        let request = request("GET", path, &bearer(&token_of("u0", 60)), "");
        let got = ask(&mut hostile(self.ground), &request);
        self.refused("ambiguous paths", &got, &[400, 403, 404], path);
    }

    fn forged_header(self) {
        let (user, id) = (someone(), self.tally.id());
        let mut fields = bearer(&token_of(&user, 60));
        for _ in 0..3 {
            fields += FORGED[fastrand::usize(..FORGED.len())];
            fields += "\r\n";
        }
        let asked = Asked {
            kind: "forged headers, dropped",
            upstream: "app",
            id,
            may_be_retried: true,
            began: Instant::now(),
        };
        let request = request("GET", &format!("/own/{user}/{id}"), &fields, "");
        let got = ask(&mut hostile(self.ground), &request);
        self.tally.judge(self.ground, &asked, &got);
    }

    fn giant_head(self) {
        let fields = match fastrand::bool() {
            true => format!("x-giant: {}\r\n", "x".repeat(200_000)),
            false => "x: y\r\n".repeat(150),
        };
        let fields = bearer(&token_of("u0", 60)) + &fields;
        let request = request("GET", "/own/u0/evil", &fields, "");
        let mut stream = hostile(self.ground);
        let _ = stream.write_all(request.as_bytes());
        let answer = String::from_utf8_lossy(&read_rest(&mut stream)).into_owned();
        // What the gate did not read may reset the connection before its answer is read.
        let is_right = answer.is_empty() || answer.starts_with("HTTP/1.1 431 ");
        let what = format!("a giant head got {answer:.300?}");
        self.tally
            .check(Side::Hostile, "giant heads", is_right, &what);
    }

    /// Leaves in the middle of a request.
    fn half_open(self) {
        let (user, id) = (someone(), self.tally.id());
        let body = crate::support::chaos::body_of(id);
        let target = format!("/own/{user}/{id}");
        let request = request("POST", &target, &bearer(&token_of(&user, 60)), &body);
        let mut stream = hostile(self.ground);
        let sent = &request.as_bytes()[..fastrand::usize(..request.len())];
        let is_sent = stream.write_all(sent).is_ok();
        pause(fastrand::u64(..50));
        self.tally
            .check(Side::Hostile, "half-open", is_sent, "the gate took nothing");
    }

    fn wrong_basic(self) {
        let pair = STANDARD.encode(format!("{}:evil", someone()));
        let fields = format!("authorization: Basic {pair}\r\n");
        let request = request("GET", "/basic/u0/evil", &fields, "");
        let got = ask(&mut hostile(self.ground), &request);
        // 403 never: who it is was not found out. 503 is the hashing queue's.
        self.refused("guessed passwords", &got, &[401, 429, 503], &request);
    }

    fn guess(self) {
        let body = json!({"username": someone(), "password": "evil"});
        let request = posted("/auth/authenticate", &body);
        let got = ask(&mut hostile(self.ground), &request);
        self.refused("guessed passwords", &got, &[401, 429, 503], &request);
    }

    fn several_credentials(self) {
        let token = token_of("u0", 60);
        let fields = match fastrand::bool() {
            true => bearer(&token).repeat(2),
            false => bearer(&token),
        };
        let target = format!("/own/u0/evil?access_token={token}");
        let request = request("GET", &target, &fields, "");
        let got = ask(&mut hostile(self.ground), &request);
        self.refused("several credentials", &got, &[400], "two credentials");
    }

    /// Whether a stranger hears anything that is not a refusal, over a connection that is held.
    pub(crate) fn stranger(self) {
        while !self.tally.is_over() {
            let mut stream = hostile(self.ground);
            for _ in 0..fastrand::u8(1..20) {
                let request = request("GET", "/own/u0/evil", "", "");
                let _ = stream.write_all(request.as_bytes());
                let got = read_answer(&mut stream);
                self.refused("no token", &got, &[401], "no token");
                pause(fastrand::u64(50..300));
            }
            let mut rest = [0; 1];
            let _ = stream.set_nonblocking(true);
            let said = stream.read(&mut rest).is_ok_and(|count| count > 0);
            if said {
                self.tally
                    .wrong("no token", "an answer that nobody asked for");
            }
        }
    }
}
