//! What stands for a secret in memory? A keyed 128-bit hash (SipHash-2-4) under a secret of this
//! process, so that nobody outside can make two secrets meet, or find one from its hash.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

/// The hash that stands for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(pub(super) u128);

/// Hashes under a secret of its own.
pub struct KeyedHash(SipHasher24);

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[keyed hash]")
    }
}

impl KeyedHash {
    /// With a fresh secret.
    ///
    /// # Errors
    /// If the system's random generator fails.
    pub fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut secret = [0; 16];
        aws_lc_rs::rand::fill(&mut secret)?;
        Ok(Self(SipHasher24::new_with_key(&secret)))
    }

    /// The hash of several parts, none of which can pass for another's end.
    #[must_use]
    pub fn hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> TokenHash {
        let mut hasher = self.0;
        for part in parts {
            hasher.write(part);
            hasher.write_usize(part.len());
        }
        TokenHash(hasher.finish128().as_u128())
    }
}
