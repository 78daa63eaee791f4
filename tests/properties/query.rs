//! Is a credential cut out of a query whole, and nothing else with it?

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderName, HeaderValue, Request, request};
use proptest::prelude::*;
use tollgate::credential::{find, is_in_query, other_subprotocols};
use tollgate::route::TokenPlaces;

use crate::naive::decode;
use crate::support::{many_tries, spelling};

const NAMES: [&str; 3] = ["authorization", "access_token", "ticket"];

/// Everywhere.
fn places() -> TokenPlaces {
    TokenPlaces {
        tickets: true,
        basic: true,
        ..TokenPlaces::default()
    }
}

/// Whether an upstream could take a pair for a credential: its name, decoded.
fn is_credential(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap();
    NAMES.iter().any(|known| decode(name) == known.as_bytes())
}

/// A pair that names a credential, in any spelling.
fn credential_pair() -> impl Strategy<Value = String> {
    let name = prop_oneof![spelling(NAMES[0]), spelling(NAMES[1]), spelling(NAMES[2]),];
    (name, "(=[A-Za-z0-9._-]{0,12}){0,2}").prop_map(|(name, value)| name + &value)
}

/// A pair that names none, however near it comes.
fn other_pair() -> impl Strategy<Value = String> {
    let near = [
        "Authorization=T",
        "authorization%20=T",
        "%2561uthorization=T",
        "a=authorization=T",
        "access+token=T",
        "authorization%=T",
        "ticket[]=T",
        "--cleanup",
        "=",
        "",
    ];
    let near = prop::sample::select(near.to_vec()).prop_map(str::to_owned);
    // All that a query may hold, but `&`.
    let noise = "[!$%'-;=?-~]{0,16}".prop_filter("names a credential", |pair| !is_credential(pair));
    prop_oneof![near, noise]
}

fn query() -> impl Strategy<Value = String> {
    let pair = prop_oneof![3 => other_pair(), 1 => credential_pair()];
    prop::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join("&"))
}

fn head(query: &str) -> request::Parts {
    let request = Request::builder().uri(format!("/?{query}"));
    request.body(()).unwrap().into_parts().0
}

proptest! {
    #![proptest_config(many_tries())]

    #[test]
    fn what_remains_is_the_query_without_the_credentials_pairs(query in query()) {
        let (places, head) = (places(), head(&query));
        let presented = find(&head, &places);
        let (cut, others): (Vec<_>, Vec<_>) = query.split('&').partition(|pair| is_credential(pair));
        let expected = (!cut.is_empty()).then(|| others.join("&"));
        prop_assert_eq!(&presented.remaining_query, &expected);
        prop_assert_eq!(is_in_query(&query, &places), expected.is_some());
        prop_assert_eq!(presented.credential.is_ok(), cut.len() == 1);
        let remaining = expected.as_deref().unwrap_or(&query);
        prop_assert!(!remaining.split('&').any(is_credential), "{remaining}");
    }

    #[test]
    fn places_that_are_not_listed_hold_nothing(query in query()) {
        let places = TokenPlaces {
            cookie: false,
            header: false, query: Vec::new(), subprotocol: false, tickets: false, basic: false,
        };
        let mut head = head(&query);
        head.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer T"));
        head.headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("bearer.T"));
        let presented = find(&head, &places);
        prop_assert!(presented.credential.is_err());
        prop_assert_eq!(presented.remaining_query, None);
    }

    #[test]
    fn no_header_makes_it_panic(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3),
        start in "(Bearer|bearer|Bearer:|Basic|bearer[.]|base64url.bearer.authorization.k8s.io.|)[ \t,]{0,2}",
        is_protocol in any::<bool>(),
        query in query(),
    ) {
        let mut head = head(&query);
        let name: HeaderName = if is_protocol { SEC_WEBSOCKET_PROTOCOL } else { AUTHORIZATION };
        for value in values {
            let value = [start.as_bytes(), &value].concat();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                head.headers.append(&name, value);
            }
        }
        let _ = (find(&head, &places()), other_subprotocols(&head.headers));
    }
}
