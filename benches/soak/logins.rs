//! Clients that log in, in each dialect: use what they get, refresh it, log out, and are out.

use std::time::Instant;

use serde_json::{Value, json};

use crate::good::{Stage, someone};
use crate::ground::PASSWORD;
use crate::pause;
use crate::support::answer::Got;
use crate::support::tokens::claims_of;
use crate::tally::{Class, Side};
use crate::wire::{ask, bearer, plain, request, tls};

/// A way of speaking login.
#[derive(Debug)]
pub(crate) struct Dialect {
    name: &'static str,
    login: fn(&str) -> String,
    refresh: fn(&str) -> String,
    access: &'static str,
    renewed: &'static str,
}

pub(crate) const DIALECTS: [Dialect; 4] = [
    Dialect {
        name: "logins, Memphis",
        login: |user| {
            let body = json!({"username": user, "password": PASSWORD});
            posted("/auth/authenticate", &body)
        },
        refresh: |token| posted("/auth/refreshToken", &json!({"jwt_refresh_token": token})),
        access: "jwt",
        renewed: "jwt_refresh_token",
    },
    Dialect {
        name: "logins, OAuth 2",
        login: |user| {
            form(&format!(
                "grant_type=password&username={user}&password={PASSWORD}"
            ))
        },
        refresh: |token| form(&format!("grant_type=refresh_token&refresh_token={token}")),
        access: "access_token",
        renewed: "refresh_token",
    },
    Dialect {
        name: "logins, datarhei",
        login: |user| {
            let body = json!({"username": user, "password": PASSWORD});
            posted("/datarhei/api/login", &body)
        },
        refresh: |token| request("GET", "/datarhei/api/login/refresh", &bearer(token), ""),
        access: "access_token",
        renewed: "refresh_token",
    },
    Dialect {
        name: "logins, EMnify",
        login: |user| {
            let body = json!({"username": user, "password": PASSWORD});
            posted("/emnify/api/v1/authenticate", &body)
        },
        refresh: |token| {
            posted(
                "/emnify/api/v1/authenticate",
                &json!({"refresh_token": token}),
            )
        },
        access: "auth_token",
        renewed: "refresh_token",
    },
];

/// A JSON body.
pub(crate) fn posted(target: &str, body: &Value) -> String {
    let fields = "content-type: application/json\r\n";
    request("POST", target, fields, &body.to_string())
}

fn form(body: &str) -> String {
    urlencoded("/oauth2/token", body)
}

fn urlencoded(target: &str, body: &str) -> String {
    let fields = "content-type: application/x-www-form-urlencoded\r\n";
    request("POST", target, fields, body)
}

/// An access token and a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Stage<'_> {
    /// Logs in or refreshes; nothing, and a wrong answer noted, if that is not granted.
    fn granted(self, dialect: &Dialect, text: &str, before: Option<&Pair>) -> Option<Pair> {
        let open = [plain, tls][fastrand::usize(..2)];
        let got = ask(&mut open(self.ground), text);
        let pair = pair_of(dialect, &got, before);
        match &pair {
            Some(_) => self.tally.right(Side::Good, dialect.name, Class::Own),
            None => self.tally.wrong(dialect.name, &format!("got {got:.300?}")),
        }
        pair
    }

    /// Logs this user in.
    pub(crate) fn log_in(self, dialect: &Dialect, user: &str) -> Option<Pair> {
        self.granted(dialect, &(dialect.login)(user), None)
    }

    /// One life after the other.
    pub(crate) fn logging_in(self, dialect: &Dialect) {
        while !self.tally.is_over() {
            let user = someone();
            let _ = self.live(dialect, &user);
            pause(fastrand::u64(200..1500));
        }
    }

    fn live(self, dialect: &Dialect, user: &str) -> Option<()> {
        let mut pair = self.log_in(dialect, user)?;
        for _ in 0..fastrand::u8(1..4) {
            for route in ["own", "sealed"] {
                self.use_token("tokens of logins", route, user, &pair.access);
                pause(fastrand::u64(20..200));
            }
            let (text, began) = ((dialect.refresh)(&pair.refresh), Instant::now());
            let next = self.granted(dialect, &text, Some(&pair))?;
            // A client whose answer was lost asks again, and within the grace gets the same pair.
            if fastrand::u8(..4) == 0 && next.refresh != pair.refresh {
                let again = ask(&mut plain(self.ground), &text);
                let pair = pair_of(dialect, &again, Some(&pair));
                // Signed and sealed anew, but for the same place of the same login.
                let is_same = pair.is_some_and(|pair| place(&pair) == place(&next));
                let is_late = began.elapsed().as_secs() >= 9;
                let what = format!("asked again and got {again:.300?}");
                self.tally.check(
                    Side::Good,
                    "second tries to refresh",
                    is_same || is_late,
                    &what,
                );
                if !is_same {
                    return None;
                }
            }
            pair = next;
        }
        self.use_token("tokens of logins", "own", user, &pair.access);
        let text = urlencoded("/oauth2/revoke", &format!("token={}", pair.refresh));
        let got = ask(&mut plain(self.ground), &text);
        let is_out = matches!(got, Got::Answer { status: 200, .. });
        self.tally
            .check(Side::Good, "log-outs", is_out, &format!("got {got:.300?}"));
        self.is_over("tokens after a log-out", user, &pair.access);
        let got = ask(&mut plain(self.ground), &(dialect.refresh)(&pair.refresh));
        let is_refused = matches!(
            got,
            Got::Answer {
                status: 400 | 401 | 403,
                ..
            }
        );
        let what = format!("a refresh after a log-out got {got:.300?}");
        self.tally.check(
            Side::Hostile,
            "refreshes after a log-out",
            is_refused,
            &what,
        );
        Some(())
    }
}

/// The pair that an answer grants; a dialect may leave the refresh token as it was before.
fn pair_of(dialect: &Dialect, got: &Got, before: Option<&Pair>) -> Option<Pair> {
    let Got::Answer {
        status: 200,
        own: None,
        body,
        is_whole: true,
    } = got
    else {
        return None;
    };
    let answer: Value = serde_json::from_str(body).ok()?;
    let field = |name: &str| answer[name].as_str().map(str::to_owned);
    let refresh = field(dialect.renewed).or_else(|| before.map(|pair| pair.refresh.clone()))?;
    let access = field(dialect.access)?;
    Some(Pair { access, refresh })
}

/// Which place of which login a pair is for, and since when.
fn place(pair: &Pair) -> [[Value; 2]; 2] {
    [&pair.access, &pair.refresh].map(|token| {
        let claims = claims_of(token);
        [claims["jti"].clone(), claims["iat"].clone()]
    })
}
