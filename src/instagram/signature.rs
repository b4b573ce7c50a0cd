//! Meta's signatures: `X-Hub-Signature-256` over a webhook's raw bytes, and `signed_request` of the deauthorize and deletion
//! callbacks. Both are HMAC-SHA256 under an app's secret.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use entity::id::Timestamp;

use super::json::Json;
use crate::seal;

/// The header with a webhook's signature. The one with SHA-1 beside it does not count.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// What the header begins with.
const PREFIX: &str = "sha256=";
/// Hexadecimal digits behind it.
const DIGITS: usize = 64;
/// Bytes of a signed request; real ones have some 200.
const SIGNED_REQUEST_MAX: usize = 8 * 1024;
/// The only algorithm that a signed request may name.
const ALGORITHM: &str = "HMAC-SHA256";
/// Meta sets no padding; what is padded is read all the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// What Meta says in a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The id, for this app, of the person who had connected: never the account's.
    pub user_id: String,
    /// When it was made.
    pub issued_at: Timestamp,
}

/// Why a signed request does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedRequestError {
    /// It cannot be read.
    #[error("signed_request is not a signature, a dot and a payload in base64url")]
    Malformed,
    /// No secret makes its signature.
    #[error("signed_request was not signed with a secret of this app")]
    Wrong,
    /// It names another algorithm.
    #[error("signed_request names another algorithm than {ALGORITHM}")]
    Algorithm,
    /// It does not say who or when.
    #[error("signed_request has no user_id or no issued_at")]
    Incomplete,
}

/// Checks and reads `text`, the value of the form field `signed_request`, with each of `secrets`.
///
/// The payload is signed as it stands there. Padding is therefore read where it was signed, and refused where somebody added it
/// on the way. Nothing of the payload is looked at before the signature holds.
pub fn signed_request(text: &str, secrets: &[String]) -> Result<SignedRequest, SignedRequestError> {
    if text.len() > SIGNED_REQUEST_MAX {
        return Err(SignedRequestError::Malformed);
    }
    let (mac, payload) = text.split_once('.').ok_or(SignedRequestError::Malformed)?;
    let decode = |text: &str| BASE64.decode(text).map_err(|_| SignedRequestError::Malformed);
    signer(&decode(mac)?, payload.as_bytes(), secrets).ok_or(SignedRequestError::Wrong)?;
    let payload = String::from_utf8(decode(payload)?).map_err(|_| SignedRequestError::Malformed)?;
    let said = Json::read(&payload).ok_or(SignedRequestError::Malformed)?;
    let algorithm = said.text_at(&["algorithm"]).unwrap_or_default();
    if !algorithm.eq_ignore_ascii_case(ALGORITHM) {
        return Err(SignedRequestError::Algorithm);
    }
    let user_id = said.id_at(&["user_id"]).ok_or(SignedRequestError::Incomplete)?.to_owned();
    let issued_at = said.time_at(&["issued_at"]).ok_or(SignedRequestError::Incomplete)?;
    Ok(SignedRequest { user_id, issued_at })
}
