//! Does the seal open for the same key and subject alone, and hide lengths?

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use tollgate::config::secret::Secret;
use tollgate::token::seal::{SealError, Sealer, UpstreamLogin};

use crate::rules::SECRET;
use crate::support::tries;

/// The longest name or password, in bytes.
const LONGEST: usize = 512;
/// What stands around the padded text: a nonce and a tag.
const AROUND: usize = 12 + 16;
const PAD: usize = 64;

fn sealer(secret: &[u8]) -> Sealer {
    Sealer::from_secret(secret).unwrap()
}

fn login(username: &str, password: &str) -> UpstreamLogin {
    UpstreamLogin {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    }
}

/// A name or password of any letters, up to the limit.
fn part() -> impl Strategy<Value = String> {
    let long = (LONGEST - 2..=LONGEST, "[ -~]").prop_map(|(length, letter)| letter.repeat(length));
    let short = "\\PC{0,100}".prop_filter("too long", |text| text.len() <= LONGEST);
    prop_oneof![4 => short, 1 => long, 1 => Just(String::new())]
}

fn is_broken(outcome: &Result<UpstreamLogin, SealError>) -> bool {
    matches!(outcome, Err(SealError::Broken))
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn what_is_sealed_is_opened_as_it_was(username in part(), password in part(), subject in "\\PC{0,20}") {
        let sealer = sealer(SECRET);
        let sealed = sealer.seal(&login(&username, &password), &subject).unwrap();
        let opened = sealer.open(&sealed, &subject).unwrap();
        prop_assert_eq!(&opened.username, &username);
        prop_assert_eq!(opened.password.expose(), &password);
        let again = sealer.seal(&login(&username, &password), &subject).unwrap();
        prop_assert_ne!(sealed, again, "the same password twice looks the same");
    }

    #[test]
    fn nothing_else_opens_it(
        username in part(), password in part(), subject in "[a-z]{1,12}", other in "\\PC{0,12}",
        key in prop::array::uniform32(any::<u8>()), place in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let own = sealer(SECRET);
        let sealed = own.seal(&login(&username, &password), &subject).unwrap();
        if other != subject {
            prop_assert!(is_broken(&own.open(&sealed, &other)), "another subject");
        }
        if key != SECRET {
            prop_assert!(is_broken(&sealer(&key).open(&sealed, &subject)), "another key");
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        let index = place.index(bytes.len());
        bytes[index] ^= 1 << bit;
        let changed = URL_SAFE_NO_PAD.encode(&bytes);
        prop_assert!(is_broken(&own.open(&changed, &subject)), "a flipped bit");
        let cut = URL_SAFE_NO_PAD.encode(&bytes[..index]);
        prop_assert!(is_broken(&own.open(&cut, &subject)), "a cut end");
    }

    #[test]
    fn the_length_tells_a_passwords_length_to_a_step_alone(username in part(), password in part()) {
        let sealed = sealer(SECRET).seal(&login(&username, &password), "s").unwrap();
        let length = URL_SAFE_NO_PAD.decode(sealed).unwrap().len() - AROUND;
        prop_assert_eq!(length % PAD, 0);
        // Two lengths of two bytes each stand in front of name and password.
        let whole = 4 + username.len() + password.len();
        prop_assert_eq!(length, whole.next_multiple_of(PAD));
    }

    #[test]
    fn what_does_not_fit_a_token_is_not_sealed(length in LONGEST + 1..70_000, is_name in any::<bool>()) {
        let long = "x".repeat(length);
        let login = if is_name { login(&long, "") } else { login("", &long) };
        prop_assert!(matches!(sealer(SECRET).seal(&login, "s"), Err(SealError::TooLong)));
    }

    #[test]
    fn no_text_makes_it_panic(sealed in "\\PC{0,80}", noise in prop::collection::vec(any::<u8>(), 0..120)) {
        let own = sealer(SECRET);
        prop_assert!(is_broken(&own.open(&sealed, "s")));
        prop_assert!(is_broken(&own.open(&URL_SAFE_NO_PAD.encode(noise), "s")));
    }
}
