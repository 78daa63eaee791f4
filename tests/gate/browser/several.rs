//! Logins where there are several external issuers, of which one may be after the others' codes.

use serde_json::json;

use super::flow::{Away, query};
use crate::support::gate::Gate;
use crate::support::issuer::{Issuer, IssuerKey, ok};
use crate::support::jar::{Jar, set_cookies};
use crate::support::threat;
use crate::support::unix_now;
use crate::support::upstream::Upstream;

const ROUTES: &str = "  - { path: /ui/**, upstream: app, login_page: /login }";

struct World {
    _upstream: Upstream,
    issuers: [Issuer; 3],
    key: IssuerKey,
    gate: Gate,
}

impl World {
    /// None of the issuers says who it is when it sends a browser back.
    fn start() -> Self {
        let upstream = Upstream::start();
        let key = IssuerKey::new("e1", "ES256");
        let issuers = [(); 3].map(|()| Issuer::with(&[&key]));
        let entry = |(place, issuer): (usize, &Issuer)| {
            let mut document = issuer.discovery();
            document["authorization_endpoint"] = json!(format!("{}authorize", issuer.url));
            document["token_endpoint"] = json!(format!("{}token", issuer.url));
            issuer.answer_discovery(&ok(&document));
            issuer.entry(&format!(
                ", client_id: gate-{place}, subject_prefix: \"{place}:\", browser: {{ name: Number {place} }}"
            ))
        };
        let entries = Vec::from_iter(issuers.iter().enumerate().map(entry)).join(", ");
        let gate = issuers[0]
            .gate(&upstream, ROUTES, "")
            .line("identity:", &format!("identity: [ {entries} ]"))
            .line("login:", "login: [ { dialect: browser } ]")
            .start();
        Self {
            _upstream: upstream,
            issuers,
            key,
            gate,
        }
    }

    fn leave(&self, place: usize) -> Away {
        let mut jar = Jar::default();
        let sent = jar.open(
            &self.gate,
            &format!("/login/begin?issuer={place}&return=/ui/x"),
        );
        assert_eq!(sent.status, 303, "{}", sent.text());
        let (_, asked) = sent.header("location").unwrap().split_once('?').unwrap();
        let asked = query(asked);
        Away { jar, asked }
    }

    /// The issuer gives a good ID token for any code.
    fn gives(&self, place: usize, away: &Away) {
        let now = unix_now();
        let claims = json!({
            "iss": self.issuers[place].url, "sub": "alice", "aud": format!("gate-{place}"),
            "iat": now, "exp": now + 300, "nonce": away.asked["nonce"],
        });
        let header = json!({"alg": "ES256", "kid": "e1", "typ": "JWT"});
        let token = self.key.sign_under(&header, &claims);
        let answer = json!({"token_type": "Bearer", "id_token": token});
        self.issuers[place].answer("/token", &ok(&answer));
    }

    fn asked_for_tokens(&self) -> Vec<usize> {
        Vec::from_iter(self.issuers.iter().map(|issuer| issuer.asked("/token")))
    }
}

/// The path that an issuer was told to send the browser back to.
fn way_back(away: &Away) -> String {
    let uri = &away.asked["redirect_uri"];
    uri.strip_prefix("http://gate.example").unwrap().to_owned()
}

#[test]
fn no_issuer_is_shown_the_code_of_another() {
    let world = World::start();
    let ways = [0, 1, 2].map(|place| way_back(&world.leave(place)));
    let port = |place: usize| {
        let url = world.issuers[place].url.trim_end_matches('/');
        url.rsplit_once(':').unwrap().1.to_owned()
    };
    assert_eq!(ways[0], "/login/callback");
    for place in [1, 2] {
        let own = format!("/login/callback/127.0.0.1-{}", port(place));
        assert_eq!(ways[place], own);
    }
    for (begun, from) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let mut away = world.leave(begun);
        world.gives(begun, &away);
        let state = away.asked["state"].clone();
        let target = format!("{}?code=c0de&state={state}", ways[from]);
        let answer = away.jar.open(&world.gate, &target);
        assert_eq!(answer.status, 401, "{begun} {from}: {}", answer.text());
        assert_eq!(set_cookies(&answer).count(), 0, "{begun} {from}");
        assert_eq!(world.asked_for_tokens(), [0; 3], "{begun} {from}");
        threat::count("browser", 1);
    }
    for place in [0, 1, 2] {
        let mut away = world.leave(place);
        world.gives(place, &away);
        let state = away.asked["state"].clone();
        let target = format!("{}?code=c0de&state={state}", ways[place]);
        let answer = away.jar.open(&world.gate, &target);
        assert_eq!(answer.status, 303, "{place}: {}", answer.text());
        assert_eq!(away.jar.open(&world.gate, "/ui/x").status, 200, "{place}");
    }
    assert_eq!(world.asked_for_tokens(), [1; 3]);
    let strange = world.gate.request("GET", "/login/callback/a/b", "");
    assert_eq!(strange.status, 404);
    let wrong = world.gate.request("HEAD", &ways[1], "");
    assert_eq!(wrong.status, 405);
}

#[test]
fn issuers_whose_ways_back_would_be_one_are_a_mistake() {
    let upstream = Upstream::start();
    let entry = |issuer: &str, prefix: &str| {
        format!(
            "{{ oidc: {{ issuer: \"{issuer}\", audience: gate, client_id: gate, subject_prefix: \"{prefix}:\", browser: {{}} }} }}"
        )
    };
    let check = |last: &str| {
        let entries = [
            entry("http://127.0.0.1:1/", "a"),
            entry("http://127.0.0.1:1/a/b", "b"),
            entry(last, "c"),
        ];
        Issuer::with(&[])
            .gate(&upstream, ROUTES, "")
            .line(
                "identity:",
                &format!("identity: [ {} ]", entries.join(", ")),
            )
            .line("login:", "login: [ { dialect: browser } ]")
            .run_to_end(&["check"])
    };
    let output = check("http://127.0.0.1:1/a-b");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("back to the same path as http://127.0.0.1:1/a/b"),
        "{told}"
    );
    assert_eq!(check("http://127.0.0.1:1/a/c").status.code(), Some(0));
}
