//! What happens meanwhile: reloads good and broken, keys that come and go, endpoints that die and
//! come back, tokens that are taken back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::good::{Stage, someone, token_of};
use crate::ground::rotated;
use crate::logins::{DIALECTS, posted};
use crate::pause;
use crate::service::Mode;
use crate::support::answer::Got;
use crate::support::client::send;
use crate::support::reload::{Verdict, reload_with};
use crate::support::tokens::{claims, claims_of};
use crate::tally::{Class, Side};
use crate::wire::{ask, bearer, is_refused, plain, request};

/// What fails next, and how.
const DEATHS: &[(&str, usize, Mode)] = &[
    ("app", 0, Mode::Dead),
    ("solo", 2, Mode::Dead),
    ("app", 1, Mode::Breaking),
    ("solo", 2, Mode::Failing),
    ("app", 0, Mode::Mute),
    ("solo", 2, Mode::Breaking),
    ("app", 1, Mode::Dead),
    ("solo", 2, Mode::Mute),
    ("app", 0, Mode::Failing),
    ("solo", 2, Mode::Slow),
    ("app", 1, Mode::Slow),
];

/// What breaks a config: a text in it and what stands there instead.
const BREAKS: &[(&str, &str)] = &[
    ("workers:", "wokers:"),
    ("secret_file: k1", "secret_file: nobody-has-written-this"),
    ("upstream: solo,", "upstream: nobody,"),
    ("leeway: 0s", "leeway: soon"),
    ("identity: [", "identity: [["),
];

impl Stage<'_> {
    /// One thing after the other, in steps as long as `step`, until traffic is over.
    pub(crate) fn events(self, step: Duration) {
        let mut generation = 0;
        let mut round = 0;
        while !self.tally.is_over() {
            generation += 1;
            self.reload(generation);
            wait(step);
            let (upstream, index, mode) = DEATHS[round % DEATHS.len()];
            self.die(upstream, index, mode, step);
            wait(step);
            self.refuse_config(generation, BREAKS[round % BREAKS.len()]);
            round += 1;
        }
    }

    /// The next config: from its acknowledgement on its rules hold, and those before no more.
    fn reload(self, generation: u64) {
        let before = generation - 1;
        self.probe(&format!("/gen-{before}/x"), true);
        let old = rotated_token(before);
        let is_good = matches!(self.uses(&old), Got::Answer { status: 200, .. });
        let what = format!("the key of generation {before} is there, and its token refused");
        if !is_good && !self.tally.was_out("app", Instant::now()) {
            self.tally.wrong("reloads", &what);
        }
        let folder = self.ground.gate.folder();
        folder.write(&format!("t{generation}"), rotated(generation));
        let verdict = reload_with(&self.ground.gate, &self.ground.config(generation));
        self.tally.happened("reload");
        let is_taken = verdict == Verdict::Taken;
        let what = format!("a good config was refused: {verdict:?}");
        self.tally.check(Side::Good, "reloads", is_taken, &what);
        self.probe(&format!("/gen-{generation}/x"), true);
        self.probe(&format!("/gen-{before}/x"), false);
        let got = self.uses(&old);
        let what = format!("a token by a key that is gone got {got:.300?}");
        let is_right = is_refused(&got, &[401]);
        self.tally.check(
            Side::Hostile,
            "tokens by keys that are gone",
            is_right,
            &what,
        );
    }

    /// The same again with a mistake in it, which changes nothing.
    fn refuse_config(self, generation: u64, (from, to): (&str, &str)) {
        let config = self.ground.config(generation);
        let verdict = reload_with(&self.ground.gate, &config.replacen(from, to, 1));
        self.tally.happened("refused");
        let is_refused = verdict == Verdict::Refused;
        let what = format!("a config with {to} was taken");
        self.tally
            .check(Side::Hostile, "broken configs", is_refused, &what);
        self.probe(&format!("/gen-{generation}/x"), true);
    }

    /// Whether there is such a route, that goes to the upstream with two endpoints.
    fn probe(self, prefix: &str, is_there: bool) {
        let (id, began) = (self.tally.id(), Instant::now());
        let id = if is_there {
            id.to_string()
        } else {
            "evil".to_owned()
        };
        let text = request("GET", &format!("{prefix}/{id}"), "", "");
        let got = ask(&mut plain(self.ground), &text);
        let what = format!("{prefix} is there: {is_there}, and got {got:.300?}");
        if is_there {
            let is_own =
                matches!(&got, Got::Answer { status: 200, own: Some(own), .. } if *own == id);
            let is_right = is_own || self.tally.was_out("app", began);
            self.tally
                .check(Side::Good, "routes after a reload", is_right, &what);
        } else {
            let is_right = is_refused(&got, &[404]);
            self.tally
                .check(Side::Hostile, "routes before a reload", is_right, &what);
        }
    }

    fn uses(self, token: &str) -> Got {
        let target = format!("/own/u0/{}", self.tally.id());
        let text = request("GET", &target, &bearer(token), "");
        ask(&mut plain(self.ground), &text)
    }

    /// An endpoint fails for a while. One that is only slow is no excuse for anything.
    fn die(self, upstream: &'static str, index: usize, mode: Mode, step: Duration) {
        let endpoint = &self.ground.endpoints[index];
        let is_outage = mode != Mode::Slow;
        if is_outage {
            self.tally.out(upstream, format!("{mode:?}"));
        }
        endpoint.turn(mode);
        wait(step);
        endpoint.turn(Mode::Well);
        if is_outage {
            self.wait_until_back(upstream);
            // What was under way on connections that broke has its answer by then.
            wait(step.min(Duration::from_secs(1)));
            self.tally.back();
        }
    }

    fn wait_until_back(self, upstream: &str) {
        let route = if upstream == "app" { "own" } else { upstream };
        let (mut good, token, began) = (0, token_of("u0", 600), Instant::now());
        while good < 8 {
            let target = format!("/{route}/u0/{}", self.tally.id());
            let text = request("GET", &target, &bearer(&token), "");
            match ask(&mut plain(self.ground), &text) {
                Got::Answer { status: 200, .. } => good += 1,
                _ => good = 0,
            }
            if began.elapsed() > Duration::from_secs(90) {
                self.tally
                    .wrong("returns", &format!("{upstream} was never asked again"));
                return;
            }
            pause(50);
        }
        self.tally.right(Side::Good, "returns", Class::Own);
    }

    /// Tokens are taken back, by their id, by login and by subject; from the acknowledgement on
    /// they are refused.
    pub(crate) fn revocations(self) {
        let mut round = 0_u64;
        while !self.tally.is_over() {
            match round % 4 {
                0 => self.revoke_login(),
                1 => self.revoke_subject(),
                _ => self.revoke_token(),
            }
            round += 1;
            pause(fastrand::u64(200..900));
        }
    }

    fn revoke_token(self) {
        let user = someone();
        let token = token_of(&user, 120);
        self.use_token("tokens before they are revoked", "own", &user, &token);
        self.revoke(&json!({ "token_id": claims_of(&token)["jti"] }));
        self.is_over("revoked tokens", &user, &token);
    }

    fn revoke_login(self) {
        let (user, dialect) = (someone(), &DIALECTS[fastrand::usize(..DIALECTS.len())]);
        let Some(pair) = self.log_in(dialect, &user) else {
            return;
        };
        self.use_token(
            "tokens before they are revoked",
            "sealed",
            &user,
            &pair.access,
        );
        self.revoke(&json!({ "family": claims_of(&pair.access)["fam"] }));
        self.is_over("revoked logins", &user, &pair.access);
    }

    fn revoke_subject(self) {
        let tokens = [token_of("victim", 120), token_of("victim", 120)];
        for token in &tokens {
            self.use_token("tokens before they are revoked", "own", "victim", token);
        }
        self.revoke(&json!({ "subject": "victim" }));
        for token in &tokens {
            self.is_over("revoked subjects", "victim", token);
        }
    }

    fn revoke(self, what: &serde_json::Value) {
        let admin = self.ground.gate.admin;
        let asked = posted("/revoke", what).replace("gate.example", &admin.to_string());
        let response = send(admin, asked);
        let is_done = response.status == 200;
        let what = format!("{what} got {}: {}", response.status, response.text());
        self.tally.check(Side::Good, "revocations", is_done, &what);
    }
}

/// A token of `u0` by the key that is there in this generation alone.
fn rotated_token(generation: u64) -> String {
    let mut claims = claims();
    claims["sub"] = "u0".into();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some(format!("t{generation}"));
    let key = jsonwebtoken::EncodingKey::from_secret(rotated(generation).as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

fn wait(time: Duration) {
    pause(u64::try_from(time.as_millis()).unwrap());
}
