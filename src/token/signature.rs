//! How is a signature made or judged so that it is not left on the stack? By the library, in a
//! frame of its own, below which the stack is wiped.

use jsonwebtoken::errors::Error;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use zeroize::zeroize_stack;

/// The signature over `message`, in base64url.
///
/// # Errors
/// The library's, if the key does not fit the algorithm.
pub(super) fn make(
    message: &[u8],
    key: &EncodingKey,
    algorithm: Algorithm,
) -> Result<String, Error> {
    #[inline(never)]
    fn inner(message: &[u8], key: &EncodingKey, algorithm: Algorithm) -> Result<String, Error> {
        jsonwebtoken::crypto::sign(message, key, algorithm)
    }
    let signature = inner(message, key, algorithm);
    zeroize_stack::<RESIDUE>();
    signature
}

/// Whether `signature` (base64url) is this key's over `message`.
pub(super) fn is_good(
    signature: &str,
    message: &[u8],
    key: &DecodingKey,
    algorithm: Algorithm,
) -> bool {
    #[inline(never)]
    fn inner(signature: &str, message: &[u8], key: &DecodingKey, algorithm: Algorithm) -> bool {
        jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false)
    }
    let is_good = inner(signature, message, key, algorithm);
    zeroize_stack::<RESIDUE>();
    is_good
}

/// How much of the stack is wiped, in bytes: more than the library was seen to leave a signature in.
const RESIDUE: usize = 4096;
