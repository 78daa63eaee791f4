//! Clients that may pass: over HTTP/1 and HTTP/2, kept and short connections, with bodies both
//! ways, WebSockets, tokens that end, Basic, and an upstream that fails in every way.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client};

use crate::ground::{Ground, PASSWORD, USERS};
use crate::pause;
use crate::support::answer::Got;
use crate::support::chaos::{body_of, fault_of};
use crate::support::gate::{claims, sign};
use crate::support::http2::{Http2, empty};
use crate::support::{answer, unix_now};
use crate::tally::{Asked, Class, Side, Tally};
use crate::wire::{Wire, ask, bearer, is_refused, plain, request, tls};

/// What a client stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) tally: &'a Tally,
}

/// A token of the soak's own making.
pub(crate) fn token_of(user: &str, seconds: u64) -> String {
    let mut claims = claims();
    claims["sub"] = user.into();
    claims["scope"] = "ops".into();
    claims["exp"] = (unix_now() + seconds).into();
    sign(&claims)
}

/// Some user.
pub(crate) fn someone() -> String {
    format!("u{}", fastrand::u64(..USERS))
}

impl<'a> Stage<'a> {
    /// A request with all that its kind may have; what it is and its text.
    fn any(self, kind: &'static str, user: &str, token: &str) -> (Asked, String) {
        let id = self.tally.id();
        let (path, upstream) = match fastrand::u8(..20) {
            0..=2 => (format!("/solo/{user}/{id}"), "solo"),
            3..=4 => (format!("/ops/{user}/x/{id}"), "app"),
            5 => (format!("/public/{user}/{id}"), "app"),
            _ => (format!("/own/{user}/{id}"), "app"),
        };
        let is_public = path.starts_with("/public");
        let (target, mut fields) = match fastrand::u8(..6) {
            _ if is_public => (path, String::new()),
            0 => (format!("{path}?access_token={token}"), String::new()),
            1 => (
                format!("{path}?a=%2F&authorization={token}&b"),
                String::new(),
            ),
            2 => (format!("{path}?a=%2F&&b"), bearer(token)),
            _ => (path, bearer(token)),
        };
        let target = target.replace("a=%2F&authorization", "a=%2F&&authorization");
        let body = body_of(id);
        let (text, may_be_retried) = match fastrand::u8(..5) {
            0 => (request("POST", &target, &fields, &body), false),
            1 => {
                fields += "transfer-encoding: chunked\r\n";
                let head = request("PUT", &target, &fields, "");
                let length = body.len();
                (format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n"), false)
            }
            _ => (request("GET", &target, &fields, ""), true),
        };
        let began = Instant::now();
        let asked = Asked {
            kind,
            upstream,
            id,
            may_be_retried,
            began,
        };
        (asked, text)
    }

    /// One request over a connection of its own, or over this one as long as it holds.
    fn judged(
        self,
        stream: &mut Option<Box<dyn Wire>>,
        open: fn(&Ground) -> Box<dyn Wire>,
        (asked, text): (Asked, &str),
    ) -> Got {
        let mut held = stream.take().unwrap_or_else(|| open(self.ground));
        let got = ask(&mut held, text);
        self.tally.judge(self.ground, &asked, &got);
        if matches!(
            got,
            Got::Answer {
                status: 200,
                is_whole: true,
                ..
            }
        ) {
            *stream = Some(held);
        }
        got
    }

    /// Uses a token on a route; what came.
    pub(crate) fn use_token(self, kind: &'static str, route: &str, user: &str, token: &str) -> Got {
        let id = self.tally.id();
        let asked = Asked {
            kind,
            upstream: "app",
            id,
            may_be_retried: route == "own",
            began: Instant::now(),
        };
        let text = request("GET", &format!("/{route}/{user}/{id}"), &bearer(token), "");
        let open = match id.is_multiple_of(2) {
            true => plain,
            false => tls,
        };
        self.judged(&mut None, open, (asked, &text))
    }

    /// That a token is good no more.
    pub(crate) fn is_over(self, kind: &'static str, user: &str, token: &str) {
        let text = request("GET", &format!("/own/{user}/evil"), &bearer(token), "");
        let got = ask(&mut plain(self.ground), &text);
        let what = format!("a token that has ended got {got:.300?}");
        self.tally
            .check(Side::Hostile, kind, is_refused(&got, &[401]), &what);
    }

    /// Over connections that are kept as long as they hold.
    pub(crate) fn keep_alive(self, kind: &'static str, open: fn(&Ground) -> Box<dyn Wire>) {
        let mut stream = None;
        while !self.tally.is_over() {
            let user = someone();
            let token = token_of(&user, 600);
            for _ in 0..fastrand::u8(1..60) {
                let (asked, text) = self.any(kind, &user, &token);
                self.judged(&mut stream, open, (asked, &text));
                pause(fastrand::u64(5..50));
            }
        }
    }

    /// Over connections that come and go.
    pub(crate) fn coming_and_going(self) {
        while !self.tally.is_over() {
            let user = someone();
            let (asked, text) = self.any("short connections", &user, &token_of(&user, 60));
            let text = match fastrand::bool() {
                true => text.replacen("host: ", "connection: close\r\nhost: ", 1),
                false => text,
            };
            let open = [plain, tls][fastrand::usize(..2)];
            self.judged(&mut None, open, (asked, &text));
            pause(fastrand::u64(20..120));
        }
    }

    /// Some at once on one connection.
    pub(crate) fn over_http2(self) {
        while !self.tally.is_over() {
            let mut connection = Http2::connect(self.ground.tls(), &self.ground.certificate);
            let user = someone();
            let token = token_of(&user, 600);
            for _ in 0..fastrand::u8(1..30) {
                let (asked, requests): (Vec<_>, Vec<_>) =
                    (0..4).map(|_| self.http2_request(&user, &token)).unzip();
                let answers = connection.send_together(requests);
                let mut is_fine = true;
                for (asked, answer) in asked.iter().zip(answers) {
                    let got = Got::of_http2(answer);
                    self.tally.judge(self.ground, asked, &got);
                    is_fine &= !matches!(got, Got::Nothing);
                }
                if !is_fine || self.tally.is_over() {
                    break;
                }
                pause(fastrand::u64(20..200));
            }
        }
    }

    fn http2_request(
        self,
        user: &str,
        token: &str,
    ) -> (Asked, Request<crate::support::http2::Body>) {
        let id = self.tally.id();
        let (route, upstream) = match fastrand::u8(..6) {
            0 => ("solo", "solo"),
            _ => ("own", "app"),
        };
        let has_body = fastrand::bool();
        let body = match has_body {
            true => Full::from(body_of(id)).boxed(),
            false => empty(),
        };
        let request = Request::builder()
            .method(if has_body { "POST" } else { "GET" })
            .uri(format!("https://gate.example/{route}/{user}/{id}"))
            .header("authorization", format!("Bearer {token}"))
            .body(body);
        let asked = Asked {
            kind: "HTTP/2",
            upstream,
            id,
            may_be_retried: !has_body,
            began: Instant::now(),
        };
        (asked, request.unwrap())
    }

    /// WebSockets of some messages each.
    pub(crate) fn websockets(self) {
        while !self.tally.is_over() {
            let (user, id, began) = (someone(), self.tally.id(), Instant::now());
            let token = token_of(&user, 600);
            let outcome = self.websocket(&user, id, &token);
            let may_fail = self.tally.was_out("app", began);
            match outcome {
                Ok(()) => self.tally.right(Side::Good, "WebSockets", Class::Own),
                Err(_) if may_fail => {
                    self.tally.right(Side::Good, "WebSockets", Class::BrokenOff);
                }
                Err(why) => self.tally.wrong("WebSockets", &format!("{id}: {why}")),
            }
            pause(fastrand::u64(50..400));
        }
    }

    fn websocket(self, user: &str, id: u64, token: &str) -> Result<(), String> {
        let mut request = format!("ws://gate.example/ws/{user}/{id}")
            .into_client_request()
            .unwrap();
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        let opened = client(request, plain(self.ground));
        let (mut socket, _) = opened.map_err(|error| format!("{error:.300?}"))?;
        let first = socket.read().map_err(|error| error.to_string())?;
        if first != Message::text(format!("<{id}>")) {
            return Err(format!("is told {first:.300?}"));
        }
        for _ in 0..fastrand::u8(1..8) {
            let message = Message::binary(body_of(self.tally.id()).into_bytes());
            let sent = socket.send(message.clone());
            sent.map_err(|error| error.to_string())?;
            let echo = socket.read().map_err(|error| error.to_string())?;
            if echo != message {
                return Err(format!("{message:.100?} came back as {echo:.100?}"));
            }
            pause(fastrand::u64(1..60));
        }
        Ok(())
    }

    /// Tokens that pass until they expire, and no longer.
    pub(crate) fn expiring(self) {
        let kind = "expired tokens";
        while !self.tally.is_over() {
            let user = someone();
            let (token, end) = (token_of(&user, 3), unix_now() + 3);
            let id = self.tally.id();
            let began = Instant::now();
            let text = request("GET", &format!("/own/{user}/{id}"), &bearer(&token), "");
            let got = ask(&mut plain(self.ground), &text);
            // On a busy machine it may have ended by now.
            if unix_now() < end {
                let asked = Asked {
                    kind: "expiring tokens",
                    upstream: "app",
                    id,
                    may_be_retried: true,
                    began,
                };
                self.tally.judge(self.ground, &asked, &got);
            }
            while unix_now() <= end {
                pause(100);
            }
            self.is_over(kind, &user, &token);
        }
    }

    /// Basic on every request.
    pub(crate) fn basic(self) {
        while !self.tally.is_over() {
            let (user, id) = (someone(), self.tally.id());
            let pair = STANDARD.encode(format!("{user}:{PASSWORD}"));
            let fields = format!("authorization: Basic {pair}\r\n");
            let asked = Asked {
                kind: "Basic",
                upstream: "app",
                id,
                may_be_retried: false,
                began: Instant::now(),
            };
            let text = request("GET", &format!("/basic/{user}/{id}"), &fields, "");
            self.judged(&mut None, plain, (asked, &text));
            pause(fastrand::u64(100..600));
        }
    }

    /// An upstream that fails in every way there is.
    pub(crate) fn failing_upstream(self) {
        let kind = "failing upstream";
        let mut stream: Option<Box<dyn Wire>> = None;
        let mut random = Rng::new();
        while !self.tally.is_over() {
            let (user, id) = (someone(), self.tally.id());
            let fault = fault_of(self.ground.seed, id);
            let body = match random.bool() {
                true => body_of(id),
                false => String::new(),
            };
            let method = if body.is_empty() { "GET" } else { "POST" };
            let fields = bearer(&token_of(&user, 600));
            let text = request(method, &format!("/api/{user}/{id}"), &fields, &body);
            let mut held = stream.take().unwrap_or_else(|| plain(self.ground));
            let outcome = (id, ask(&mut held, &text));
            let arrivals = self.ground.chaos.ids().get(&id).copied().unwrap_or(0);
            match answer::judge(fault.seen, &outcome, arrivals > 0) {
                Ok(()) if arrivals < 2 => {
                    let class = match &outcome.1 {
                        Got::Answer {
                            is_whole: true,
                            status: 200 | 204,
                            ..
                        } => Class::Own,
                        Got::Answer { is_whole: true, .. } => Class::Honest,
                        Got::Answer { .. } | Got::Nothing | Got::Left => Class::BrokenOff,
                    };
                    self.tally.right(Side::Good, kind, class);
                    if class == Class::Own {
                        stream = Some(held);
                    }
                }
                Ok(()) => self
                    .tally
                    .wrong(kind, &format!("{id} arrived {arrivals} times")),
                Err(why) => self.tally.wrong(kind, &format!("{}: {why}", fault.name)),
            }
            pause(fastrand::u64(20..150));
        }
    }
}
