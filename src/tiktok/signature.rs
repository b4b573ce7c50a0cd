//! `TikTok-Signature: t=1794994213,s=<hex>`: HMAC-SHA256 over the time, a dot and the raw body, under an app's secret. The
//! developer platform and API for Business sign alike.

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use entity::id::Timestamp;

use crate::seal;

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "tiktok-signature";
/// How old a signature may be, in milliseconds: 73 hours. `TikTok` tries for 72 hours, and nobody says whether it signs each try
/// anew; what comes twice counts once anyway.
pub const AGE_MAX_MS: i64 = 73 * 3_600_000;
/// How far `TikTok`'s clock may be ahead of ours, in milliseconds.
pub const AHEAD_MAX_MS: i64 = 5 * 60_000;
/// Bytes of the header's value; real ones have 82.
const HEADER_MAX: usize = 512;
/// Digits of a time in seconds, until the year 33658.
const TIME_DIGITS_MAX: usize = 12;
/// Bytes of an HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// A signature that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Which of the secrets made it, from 0.
    pub secret: usize,
    /// When it was made, by `TikTok`'s clock.
    pub signed_at: Timestamp,
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It cannot be read.
    #[error("TikTok-Signature is not t=<seconds>,s=<64 hexadecimal digits>")]
    Malformed,
    /// No secret makes it from these bytes.
    #[error("TikTok-Signature was not made from this body with a secret of this app")]
    Wrong,
    /// It was made too long ago.
    #[error("TikTok-Signature is too old")]
    TooOld,
    /// It was made in the future.
    #[error("TikTok-Signature is from the future")]
    Ahead,
}

/// Checks the header's value against the bytes as they came, in constant time, with each of `secrets`; at `now` it may be
/// `age_max_ms` milliseconds old, most often [`AGE_MAX_MS`]. Without secrets nothing holds. Parts that are not `t` or `s` are left
/// aside, and each of the two stands there once.
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[String],
    now: Timestamp,
    age_max_ms: i64,
) -> Result<Verified, SignatureError> {
    let (time, signed_at, mac) = parse(header).ok_or(SignatureError::Malformed)?;
    let is_of = |secret: &String| {
        let mut context = Context::with_key(&Key::new(HMAC_SHA256, secret.as_bytes()));
        for part in [time.as_bytes(), b".", body] {
            context.update(part);
        }
        !secret.is_empty() && seal::same(context.sign().as_ref(), &mac)
    };
    let secret = secrets.iter().position(is_of).ok_or(SignatureError::Wrong)?;
    if signed_at < now.plus_ms(-age_max_ms) {
        return Err(SignatureError::TooOld);
    }
    if signed_at > now.plus_ms(AHEAD_MAX_MS) {
        return Err(SignatureError::Ahead);
    }
    Ok(Verified { secret, signed_at })
}

/// The time as it stands there and what it means, and the signature's bytes.
fn parse(header: &str) -> Option<(&str, Timestamp, [u8; MAC_BYTES])> {
    if header.len() > HEADER_MAX {
        return None;
    }
    let (mut time, mut mac) = (None, None);
    for part in header.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        let place = match name {
            "t" => &mut time,
            "s" => &mut mac,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let time =
        time.filter(|time| time.len() <= TIME_DIGITS_MAX && time.bytes().all(|b| b.is_ascii_digit()))?;
    let seconds: i64 = time.parse().ok()?;
    Some((time, Timestamp(seconds.saturating_mul(1000)), unhex(mac?)?))
}

fn unhex(text: &str) -> Option<[u8; MAC_BYTES]> {
    if text.len() != 2 * MAC_BYTES {
        return None;
    }
    let mut bytes = [0; MAC_BYTES];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}
