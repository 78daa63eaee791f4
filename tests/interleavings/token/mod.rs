//! The files under test, on a scheduler's types.

#![expect(dead_code, unreachable_pub, reason = "written for the library")]

#[path = "../../../src/token/cache.rs"]
pub(crate) mod cache;
#[path = "../../../src/token/hash.rs"]
pub(crate) mod hash;
#[path = "../../../src/token/revocation.rs"]
pub(crate) mod revocation;
pub(crate) mod sync;

pub(crate) mod verify {
    pub(crate) use tollgate::token::verify::VerifiedToken;
}

/// The hash that stands for the token of this number.
pub(crate) const fn hash(number: u128) -> hash::TokenHash {
    hash::TokenHash(number)
}
