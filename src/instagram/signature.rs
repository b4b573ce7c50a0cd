//! Meta's signature, `X-Hub-Signature-256`: HMAC-SHA256 over a webhook's raw bytes under an app's secret.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};

use crate::seal;

/// The header with a webhook's signature. The one with SHA-1 beside it does not count.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// What the header begins with.
const PREFIX: &str = "sha256=";
/// Hexadecimal digits behind it.
const DIGITS: usize = 64;

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("X-Hub-Signature-256 is missing")]
    Missing,
    /// It cannot be read.
    #[error("X-Hub-Signature-256 is not sha256= and {DIGITS} hexadecimal digits")]
    Malformed,
    /// No secret makes it from these bytes.
    #[error("X-Hub-Signature-256 was not made from this body with a secret of this app")]
    Wrong,
}

/// Checks the header's value against the bytes as they came, in constant time, with each of `secrets`, and says which of them
/// made it, from 0. Without secrets nothing holds.
pub fn verify(header: Option<&str>, body: &[u8], secrets: &[String]) -> Result<usize, SignatureError> {
    let digits = header.ok_or(SignatureError::Missing)?.strip_prefix(PREFIX);
    let mac = digits.and_then(unhex).ok_or(SignatureError::Malformed)?;
    signer(&mac, body, secrets).ok_or(SignatureError::Wrong)
}

/// Which of `secrets` makes `mac` from `bytes`.
fn signer(mac: &[u8], bytes: &[u8], secrets: &[String]) -> Option<usize> {
    let makes = |secret: &String| {
        let made = hmac::sign(&Key::new(HMAC_SHA256, secret.as_bytes()), bytes);
        !secret.is_empty() && seal::same(made.as_ref(), mac)
    };
    secrets.iter().position(makes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    (text.len() == DIGITS).then(|| text.as_bytes().chunks(2).map(byte).collect()).flatten()
}
