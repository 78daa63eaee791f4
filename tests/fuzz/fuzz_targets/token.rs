//! Is a token accepted only if it is, byte for byte, one that was issued, cached or not?

#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tollgate::clock::UnixTime;
use tollgate::snapshot::Snapshot;
use tollgate::token::TokenType;
use tollgate::token::cache::{CacheConfig, Circumstances, Front, TokenCache};
use tollgate::token::revocation::Revocations;
use tollgate::token::verify::{VerifiedToken, verify, verify_bearer};

#[path = "../../properties/rules.rs"]
mod rules;
mod signing;

use signing::{NOW, sign};

static RULES: LazyLock<Snapshot> = LazyLock::new(rules::snapshot);

/// All that were ever issued: access tokens, and refresh tokens. The corpus has them too.
static ISSUED: LazyLock<[Vec<String>; 2]> = LazyLock::new(|| {
    let claims = [
        r#"{"iss":"tollgate","aud":"gate","sub":"a","exp":1700000001}"#,
        r#"{"iss":"tollgate","aud":["x","gate"],"sub":"b","exp":1800000000,"nbf":1700000000,"scope":"a b"}"#,
    ];
    ["at+jwt", "rt+jwt"].map(|typ| {
        let header = format!(r#"{{"alg":"HS256","kid":"k1","typ":"{typ}"}}"#);
        claims
            .iter()
            .map(|claims| sign(header.as_bytes(), claims.as_bytes()))
            .collect()
    })
});

thread_local! {
    static FRONT: RefCell<Front> = RefCell::new({
        let cache = TokenCache::new(&CacheConfig::default()).expect("randomness");
        Front::new(Arc::new(cache))
    });
}

fuzz_target!(|token: &str| {
    let [access, refresh] = &*ISSUED;
    for (kind, issued) in [(TokenType::Access, access), (TokenType::Refresh, refresh)] {
        let verified = verify(token, kind, &RULES.tokens, NOW);
        let is_issued = issued.iter().any(|issued| issued == token);
        assert_eq!(verified.is_ok(), is_issued, "{token:?} as {kind:?}");
    }
    let own = verify_bearer(token, &RULES.tokens, NOW).map(|token| told(&token));
    for _ in 0..2 {
        assert_eq!(remembered(token, NOW), own.clone().ok(), "{token:?}");
    }
    // A moment after the first one's end, and far behind the other's.
    for later in [UnixTime(1_700_000_001), UnixTime(1_900_000_000)] {
        let own = verify_bearer(token, &RULES.tokens, later).map(|token| told(&token));
        assert_eq!(remembered(token, later), own.ok(), "{token:?}");
    }
});

/// What the gate says of a token that it may have seen before.
fn remembered(token: &str, now: UnixTime) -> Option<String> {
    let around = Circumstances {
        generation: 0,
        now,
        leeway: RULES.tokens.leeway,
        revocations: &Revocations::default(),
    };
    FRONT.with_borrow_mut(|front| {
        let hash = front.hash([token.as_bytes()]);
        if let Some(known) = front.find(hash, &around) {
            return Some(told(&known));
        }
        let verified = verify_bearer(token, &RULES.tokens, now).ok()?;
        let (token, _) = front.remember(hash, verified, 0);
        Some(told(&token))
    })
}

fn told(token: &VerifiedToken) -> String {
    format!("{token:?}")
}
