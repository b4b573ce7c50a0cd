//! Secrets at rest and secrets in passing. What must be read again (private keys, shared secrets) is sealed with
//! AES-256-GCM under the master key; what need only be recognised (API keys, tokens) is hashed.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Bytes of a master key.
pub const MASTER_KEY_BYTES: usize = 32;
/// Random bytes of a secret or token: 256 bits.
const SECRET_BYTES: usize = 32;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The master key has the wrong form.
    #[error(
        "FOLLOWPOINTS_MASTER_KEY must be {MASTER_KEY_BYTES} bytes in base64; `openssl rand -base64 32` makes one"
    )]
    MasterKey,
    /// The text was sealed under another key, for another purpose, or was altered.
    #[error("a stored secret cannot be opened: was it sealed under another FOLLOWPOINTS_MASTER_KEY?")]
    Open,
    /// The system has no randomness.
    #[error("the system's random source failed")]
    Random,
}

/// Seals and opens secrets under the master key. Cheap to clone; prints nothing.
#[derive(Clone)]
pub struct Sealer(Arc<LessSafeKey>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// A sealer under the master key `base64`, which must hold 32 bytes.
    pub fn new(base64: &str) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(base64.trim()).map_err(|_| SealError::MasterKey)?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::MasterKey)?;
        Ok(Self(Arc::new(LessSafeKey::new(key))))
    }

    /// Seals `secret`; it opens only with the same `purpose`. The result is nonce, ciphertext and tag.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = vec![0; NONCE_LEN];
        rand::fill(&mut sealed).map_err(|_| SealError::Random)?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed).map_err(|_| SealError::Random)?;
        let mut text = secret.to_vec();
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(purpose), &mut text)
            .map_err(|_| SealError::Random)?;
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Opens what [`Sealer::seal`] made for `purpose`.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let mut text = text.to_vec();
        let length =
            self.0.open_in_place(nonce, Aad::from(purpose), &mut text).map_err(|_| SealError::Open)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Bytes that say how long the clear part is.
const LENGTH_BYTES: usize = 4;

/// What everybody may see and what is sealed, to be stored in one place; nothing if the former is too long.
#[must_use]
pub fn beside(clear: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(clear.len()).ok()?;
    Some([&length.to_be_bytes()[..], clear.as_bytes(), sealed].concat())
}

/// The two parts of what [`beside`] made.
#[must_use]
pub fn apart(stored: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = stored.split_first_chunk::<LENGTH_BYTES>()?;
    let (clear, sealed) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(clear).ok()?, sealed))
}

/// Random bytes.
pub fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], SealError> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

/// A new master key in base64.
pub fn new_master_key() -> Result<String, SealError> {
    Ok(STANDARD.encode(random::<MASTER_KEY_BYTES>()?))
}

/// A new random secret behind `prefix`, safe in URLs and headers, with 256 bits of randomness.
pub fn new_secret(prefix: &str) -> Result<String, SealError> {
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>()?)))
}

/// SHA-256 of a secret that has enough randomness of its own.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    out
}

/// Compares in a time that does not depend on where the two differ.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
