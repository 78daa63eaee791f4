//! Is only that opened which was sealed, for its subject and to the last bit?
//!
//! The bytes are a sealed text, and, cut in three at line ends, a login and its subject.

#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use tollgate::config::secret::Secret;
use tollgate::token::seal::{Sealer, UpstreamLogin};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::from_secret(SECRET).expect("a key"));

/// What was once sealed for `s`: the name `n`, the password `p`. The corpus has it too.
const SEALED: &str = "AAECAwQFBgcICQoLFjXM5cSZ7IlhvUxYhuTQ0_muwUqLYG6irG8uV0nxt00Rvr7FovUwnxuh_TKPsGKxwwxRUCbuh-ogTvX0j2mrHyJ4bGcEIUOevSekLgRTkSk";

fuzz_target!(|text: &str| {
    match SEALER.open(text, "s") {
        Ok(login) => {
            assert_eq!(text, SEALED);
            assert_eq!((&*login.username, &**login.password.expose()), ("n", "p"));
        }
        Err(_) => assert_ne!(text, SEALED),
    }
    assert!(SEALER.open(text, "another").is_err());

    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (subject, username, password) = (part(), part(), part());
    let login = UpstreamLogin {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    };
    let sealed = SEALER.seal(&login, subject);
    let is_long = username.len().max(password.len()) > 512;
    assert_eq!(sealed.is_err(), is_long);
    let Ok(sealed) = sealed else { return };
    let opened = SEALER.open(&sealed, subject).expect("what was sealed");
    assert_eq!(opened.username, username);
    assert_eq!(opened.password.expose(), password);

    let whole = URL_SAFE_NO_PAD.decode(&sealed).expect("base64url");
    // Which bit is flipped comes from the nonce, and so differs each time.
    let bit = usize::from(whole[0]) << 8 | usize::from(whole[1]);
    let mut bytes = whole.clone();
    let place = bit / 8 % bytes.len();
    bytes[place] ^= 1 << (bit % 8);
    assert!(
        SEALER
            .open(&URL_SAFE_NO_PAD.encode(&bytes), subject)
            .is_err(),
        "bit {bit}"
    );
    assert!(
        SEALER
            .open(&URL_SAFE_NO_PAD.encode(&whole[..place]), subject)
            .is_err()
    );
    let other = format!("{subject}x");
    assert!(SEALER.open(&sealed, &other).is_err(), "another subject");
});
