//! How does a user's own upstream password travel inside the token, readable to the gate alone?
//!
//! AES-256-GCM-SIV (RFC 8452), which forgives a repeated nonce, under a key drawn from the
//! configured secret by HKDF (RFC 5869). What is sealed is padded, so that a token's length tells
//! little about a password's, and bound to the token's subject.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::config::secret::Secret;

/// A username and password for the upstream.
#[derive(Clone, Debug)]
pub struct UpstreamLogin {
    /// The name; has no `:` (RFC 7617 section 2).
    pub username: String,
    /// The password; may be empty.
    pub password: Secret<String>,
}

/// Seals and opens.
#[derive(Debug)]
pub struct Sealer(LessSafeKey);

/// The seal could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Fewer than 32 bytes.
    #[error("the secret has {0} bytes; at least {MIN_SECRET} are needed")]
    WeakSecret(usize),
    /// The name or password is longer than a token can carry.
    #[error("the username or password is too long to be sealed")]
    TooLong,
    /// Another key, another subject, or changed bytes.
    #[error("the sealed credential cannot be opened; was the seal key changed?")]
    Broken,
    /// The cryptographic library refused to work.
    #[error("the cryptographic library failed")]
    Library,
}

impl Sealer {
    /// From the configured secret.
    ///
    /// # Errors
    /// If it is too short.
    pub fn from_secret(secret: &[u8]) -> Result<Self, SealError> {
        if secret.len() < MIN_SECRET {
            return Err(SealError::WeakSecret(secret.len()));
        }
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate")
            .extract(secret)
            .expand(
                &[b"sealed upstream credential, version 1"],
                hkdf::HKDF_SHA256,
            )
            .and_then(|material| material.fill(key.as_mut_slice()))
            .map_err(|_| SealError::Library)?;
        let key =
            UnboundKey::new(&AES_256_GCM_SIV, key.as_slice()).map_err(|_| SealError::Library)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals a login into the tokens of `subject`.
    ///
    /// # Errors
    /// If it is too long.
    pub fn seal(&self, login: &UpstreamLogin, subject: &str) -> Result<String, SealError> {
        let (name, password) = (
            login.username.as_bytes(),
            login.password.expose().as_bytes(),
        );
        if name.len().max(password.len()) > MAX_PART {
            return Err(SealError::TooLong);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 + 2 * MAX_PART + PAD));
        for part in [name, password] {
            let length = u16::try_from(part.len()).map_err(|_| SealError::TooLong)?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let padded = bytes.len().next_multiple_of(PAD);
        bytes.resize(padded, 0);
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| SealError::Library)?;
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(subject.as_bytes()),
                &mut *bytes,
            )
            .map_err(|_| SealError::Library)?;
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&bytes);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what was sealed into a token of `subject`.
    ///
    /// # Errors
    /// If the key, the subject or a byte is another.
    pub fn open(&self, sealed: &str, subject: &str) -> Result<UpstreamLogin, SealError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(sealed)
            .map_err(|_| SealError::Broken)?;
        let (nonce, bytes) = bytes
            .split_first_chunk::<NONCE>()
            .ok_or(SealError::Broken)?;
        let mut bytes = Zeroizing::new(bytes.to_vec());
        let opened = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(subject.as_bytes()),
                bytes.as_mut_slice(),
            )
            .map_err(|_| SealError::Broken)?;
        let (username, rest) = take_part(opened).ok_or(SealError::Broken)?;
        let (password, _) = take_part(rest).ok_or(SealError::Broken)?;
        Ok(UpstreamLogin {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        })
    }
}

fn take_part(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (part, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((str::from_utf8(part).ok()?, rest))
}

/// The shortest secret, in bytes.
const MIN_SECRET: usize = 32;
/// The longest name or password that fits a token, in bytes.
const MAX_PART: usize = 512;
/// Sealed lengths are multiples of this, in bytes.
const PAD: usize = 64;
const NONCE: usize = 12;
