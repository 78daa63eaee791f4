//! Is exactly that accepted which was issued?

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Map, Value};
use tollgate::clock::UnixTime;
use tollgate::refusal::Reason;
use tollgate::snapshot::Snapshot;
use tollgate::token::issue::{Grantee, Holder, Lineage, Order, TokenPair, issue_pair};
use tollgate::token::verify::{VerifiedToken, verify};
use tollgate::token::{RESERVED_CLAIMS, TokenType};

use crate::rules::{SECRET, snapshot};
use crate::support::tries;

static RULES: LazyLock<Snapshot> = LazyLock::new(snapshot);

const NOW: UnixTime = UnixTime(1_700_000_000);

fn judge(token: &str, kind: TokenType, now: UnixTime) -> Result<VerifiedToken, Reason> {
    verify(token, kind, &RULES.tokens, now)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[!-~]{1,8}", 0..4)
}

fn grantee() -> impl Strategy<Value = Grantee> {
    let some = || proptest::option::of("\\PC{1,20}");
    let holder = proptest::option::of(("\\PC{1,12}", any::<bool>()));
    let claims = prop::collection::btree_map("x_[a-z]{1,6}", "\\PC{0,8}", 0..3);
    let account = proptest::option::of("[a-z]{1,6}(:\\PC{1,20})?");
    let texts = (some(), some(), account);
    ("\\PC{1,40}", words(), words(), claims, texts, holder).prop_map(
        |(subject, scope, groups, claims, (sealed, resource, account), holder)| Grantee {
            subject,
            scope: scope.join(" "),
            groups,
            claims: claims
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            login_scope: scope.join(" "),
            client: holder.map(|(id, is_proved)| Holder { id, is_proved }),
            sealed,
            resource,
            account,
        },
    )
}

fn issue(grantee: &Grantee, place: u64, ttl: u64) -> TokenPair {
    let lineage = Lineage {
        family: "family".to_owned(),
        place,
        at: NOW,
    };
    let order = Order {
        access_ttl: Duration::from_secs(ttl),
        refresh_ttl: Duration::from_secs(ttl * 2),
        has_refresh: true,
        access_claims: Map::new(),
        refresh_claims: Map::new(),
    };
    issue_pair(&RULES.tokens, grantee, &lineage, order).unwrap()
}

fn refresh_of(pair: &TokenPair) -> &str {
    pair.refresh.as_ref().unwrap().expose()
}

/// A rightly signed token of this payload.
fn sign(payload: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = encode(r#"{"alg":"HS256","kid":"k1","typ":"at+jwt"}"#);
    let message = format!("{header}.{}", encode(payload));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::collection::vec("[a-z]{0,4}", 0..3).prop_map(Value::from),
        prop::collection::btree_map("[a-z]{1,4}", any::<u8>(), 0..3).prop_map(|map| {
            let fields = map
                .into_iter()
                .map(|(name, value)| (name, Value::from(value)));
            Value::Object(fields.collect())
        }),
    ]
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn what_was_issued_is_accepted_as_it_was(
        grantee in grantee(), place in any::<u64>(), ttl in 1..10_000_000_u64,
    ) {
        let pair = issue(&grantee, place, ttl);
        let access = judge(pair.access.expose(), TokenType::Access, NOW).unwrap();
        let refresh = judge(refresh_of(&pair), TokenType::Refresh, NOW).unwrap();
        for token in [&access, &refresh] {
            prop_assert_eq!(token.subject(), &grantee.subject);
            prop_assert_eq!(token.scope(), &grantee.scope);
            prop_assert!(token.groups().eq(&grantee.groups));
            prop_assert_eq!(token.sealed(), grantee.sealed.as_deref());
            prop_assert_eq!(token.resource(), grantee.resource.as_deref());
            prop_assert_eq!(token.client(), grantee.client.as_ref().map(|client| &*client.id));
            prop_assert_eq!((token.family(), token.issued()), (Some("family"), Some(NOW)));
        }
        prop_assert_eq!(access.expires(), NOW.plus(pair.access_ttl));
        prop_assert_eq!(refresh.expires(), NOW.plus(pair.refresh_ttl));
        let account = grantee.account.as_deref();
        // What an access token shows of it is for whoever holds it to read.
        let kind = account.map(|account| account.split(':').next().unwrap());
        prop_assert_eq!((access.account(), access.place()), (kind, None));
        prop_assert_eq!((refresh.account(), refresh.place()), (account, Some(place)));
        prop_assert_ne!(access.id(), refresh.id());
    }

    #[test]
    fn it_is_accepted_for_its_time_and_in_its_place_alone(
        grantee in grantee(), ttl in 1..1_000_000_u64, passed in 0..2_000_000_u64,
    ) {
        let pair = issue(&grantee, 0, ttl);
        let at = UnixTime(NOW.0 + passed);
        let outcome = judge(pair.access.expose(), TokenType::Access, at).map(|_| ());
        let expected = if passed < ttl { Ok(()) } else { Err(Reason::Expired) };
        prop_assert_eq!(outcome, expected);
        for (token, kind) in [
            (pair.access.expose().as_str(), TokenType::Refresh),
            (refresh_of(&pair), TokenType::Access),
        ] {
            prop_assert_eq!(judge(token, kind, NOW).map(|_| ()), Err(Reason::WrongType));
        }
    }

    #[test]
    fn a_changed_letter_is_refused(
        grantee in grantee(), place in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_.=+/ -]",
    ) {
        let token = issue(&grantee, 0, 60).access.expose().clone();
        let (before, rest) = token.split_at(place.index(token.len()));
        let (own, after) = rest.split_at(1);
        let mut others = vec![format!("{before}{after}"), format!("{before}{letter}{rest}")];
        if own != letter {
            others.push(format!("{before}{letter}{after}"));
        }
        for other in others {
            prop_assert!(judge(&other, TokenType::Access, NOW).is_err(), "{other}");
        }
    }

    #[test]
    fn no_text_is_a_token(text in "\\PC{0,120}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        prop_assert!(judge(&text, TokenType::Access, NOW).is_err());
        prop_assert!(judge(&parts.join("."), TokenType::Access, NOW).is_err());
    }

    #[test]
    fn claims_of_any_type_under_a_good_signature_never_panic(
        changed in prop::collection::btree_map(prop::sample::select(RESERVED_CLAIMS.to_vec()), json(), 1..4),
        payload in "\\PC{0,60}",
    ) {
        let mut claims = serde_json::json!({
            "iss": "tollgate", "aud": "gate", "sub": "s", "exp": NOW.0 + 1, "iat": NOW.0,
        });
        prop_assert!(judge(&sign(&claims.to_string()), TokenType::Access, NOW).is_ok());
        for (name, value) in changed {
            claims[name] = value;
        }
        if let Ok(token) = judge(&sign(&claims.to_string()), TokenType::Access, NOW) {
            prop_assert!(!token.subject().is_empty());
            prop_assert!(token.expires() > NOW);
        }
        prop_assert!(judge(&sign(&payload), TokenType::Access, NOW).is_err());
    }
}
