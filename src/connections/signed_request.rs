//! `signed_request`: how Meta says that a person has removed the app, or wants to be forgotten.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::calls::{hmac, is_id};
use crate::seal;

/// Characters of a signed request.
pub const LENGTH_MAX: usize = 8 * 1024;
/// The only algorithm that there is; `none` is none.
const ALGORITHM: &str = "HMAC-SHA256";

/// What a signed request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The app's id of the person.
    pub user_id: String,
    /// When it was issued, in seconds; none if it does not say.
    pub issued_at: Option<i64>,
}

/// The payload, as far as it counts.
#[derive(Deserialize)]
struct Payload<'a> {
    algorithm: String,
    /// A text, or a number of any size.
    #[serde(borrow)]
    user_id: &'a RawValue,
    #[serde(default)]
    issued_at: Option<i64>,
}

/// What `text` says, if it is signed with one of the app's `secrets`: a signature and a payload in base64 with a dot between
/// them, the signature over the payload as it was sent.
#[must_use]
pub fn verify(secrets: &[String], text: &str) -> Option<Signed> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let (signature, payload) = text.split_once('.')?;
    let bare = payload.trim_end_matches('=');
    let signature = URL_SAFE_NO_PAD.decode(signature.trim_end_matches('=')).ok()?;
    // Padding is tolerated, whether or not the signature counts it.
    let is_signed = |secret: &String| {
        let by = |text: &str| seal::same(&hmac(secret, text.as_bytes()), &signature);
        by(payload) || by(bare)
    };
    if !secrets.iter().any(is_signed) {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(bare).ok()?;
    let payload: Payload<'_> = serde_json::from_slice(&payload).ok()?;
    if !payload.algorithm.eq_ignore_ascii_case(ALGORITHM) {
        return None;
    }
    let raw = payload.user_id.get();
    let is_number = raw.bytes().all(|byte| byte.is_ascii_digit());
    let user_id = if is_number { raw.to_owned() } else { serde_json::from_str(raw).ok()? };
    is_id(&user_id).then_some(Signed { user_id, issued_at: payload.issued_at })
}
