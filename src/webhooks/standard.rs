//! The signatures of Standard Webhooks 1.0: over `id.timestamp.body`, HMAC-SHA256 (`v1`) or Ed25519 (`v1a`), several in
//! one header so that receivers with an older or a newer secret both find theirs.

use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entity::id::Timestamp;
use entity::kinds::SignatureScheme;

/// The header with the event's id.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the instant of the try, in seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// How far the instant of a try may be from the receiver's clock, in seconds.
pub const TOLERANCE_S: i64 = 300;

/// Bytes of a secret of ours: the key of an HMAC or the seed of an Ed25519 pair.
pub const SECRET_BYTES: usize = 32;
/// Bytes of an HMAC key that are accepted.
const HMAC_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const PUBLIC_KEY_BYTES: usize = 32;
/// What a shared secret begins with.
pub const HMAC_PREFIX: &str = "whsec_";
/// What a public key begins with.
pub const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// Why a secret could not be made or used.
#[derive(Debug, thiserror::Error)]
#[error("the signing secret cannot be used")]
pub struct UnusableSecret;

/// A secret that signs. Prints nothing.
pub struct SigningSecret(Secret);

enum Secret {
    // The key in the form that a signature needs is forty times as large, and quickly made.
    Hmac(Vec<u8>),
    Ed25519(Ed25519KeyPair),
}

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningSecret({:?})", self.scheme())
    }
}

/// The bytes of a new secret.
pub fn new_secret() -> Result<[u8; SECRET_BYTES], UnusableSecret> {
    let mut bytes = [0; SECRET_BYTES];
    rand::fill(&mut bytes).map_err(|_| UnusableSecret)?;
    Ok(bytes)
}

/// The key of an HMAC as its receiver gets it.
#[must_use]
pub fn shown_secret(bytes: &[u8]) -> String {
    format!("{HMAC_PREFIX}{}", STANDARD.encode(bytes))
}

impl SigningSecret {
    /// The secret of these bytes, [`SECRET_BYTES`] long.
    pub fn new(scheme: SignatureScheme, bytes: &[u8]) -> Result<Self, UnusableSecret> {
        Ok(Self(match scheme {
            SignatureScheme::V1 => Secret::Hmac(bytes.to_vec()),
            SignatureScheme::V1a => {
                Secret::Ed25519(Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| UnusableSecret)?)
            }
        }))
    }

    /// What it signs.
    #[must_use]
    pub const fn scheme(&self) -> SignatureScheme {
        match self.0 {
            Secret::Hmac(_) => SignatureScheme::V1,
            Secret::Ed25519(_) => SignatureScheme::V1a,
        }
    }

    /// The public half as receivers take it; a shared secret has none.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        match &self.0 {
            Secret::Hmac(_) => None,
            Secret::Ed25519(pair) => {
                Some(format!("{PUBLIC_KEY_PREFIX}{}", STANDARD.encode(pair.public_key().as_ref())))
            }
        }
    }

    /// The signature of `content`, with its scheme before it.
    #[must_use]
    pub fn sign(&self, content: &[u8]) -> String {
        match &self.0 {
            Secret::Hmac(bytes) => format!("v1,{}", STANDARD.encode(hmac::sign(&hmac_key(bytes), content))),
            Secret::Ed25519(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(content))),
        }
    }
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// What is signed.
#[must_use]
pub fn content(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(id.len() + timestamp.len() + body.len() + 2);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        content.extend_from_slice(part);
    }
    content
}

/// The headers as they arrived.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

/// Why headers are not to be believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeadersError {
    /// Not whole seconds.
    #[error("{TIMESTAMP_HEADER} is not a number of seconds")]
    Timestamp,
    /// Sent too long ago, or a replay.
    #[error(
        "{TIMESTAMP_HEADER} is {0} s before the receiver's clock; {TOLERANCE_S} s are allowed, so this is a replay or a clock is wrong"
    )]
    TooOld(i64),
    /// Sent in the future.
    #[error(
        "{TIMESTAMP_HEADER} is {0} s after the receiver's clock; {TOLERANCE_S} s are allowed, so a clock is wrong"
    )]
    TooNew(i64),
    /// No signature of the key's scheme at all.
    #[error("{SIGNATURE_HEADER} has no {0} signature")]
    NoneOfScheme(&'static str),
    /// None of them is right.
    #[error(
        "no {0} signature in {SIGNATURE_HEADER} fits: id, timestamp or body were changed, or the key is another"
    )]
    Mismatch(&'static str),
}

/// What a receiver verifies with.
pub enum VerifyingKey {
    /// The shared secret, `whsec_…`.
    Hmac(Vec<u8>),
    /// The public key, `whpk_…`.
    Ed25519(Vec<u8>),
}

/// Not a key.
#[derive(Debug, thiserror::Error)]
#[error("must be {HMAC_PREFIX} or {PUBLIC_KEY_PREFIX} and a key in base64")]
pub struct NotAKey;

impl VerifyingKey {
    /// The key that `text` spells.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let bytes = |base64: &str| STANDARD.decode(base64).map_err(|_| NotAKey);
        if let Some(secret) = text.strip_prefix(HMAC_PREFIX) {
            let secret = bytes(secret)?;
            let has_length = HMAC_KEY_BYTES.contains(&secret.len());
            return if has_length { Ok(Self::Hmac(secret)) } else { Err(NotAKey) };
        }
        let public = bytes(text.strip_prefix(PUBLIC_KEY_PREFIX).ok_or(NotAKey)?)?;
        if public.len() == PUBLIC_KEY_BYTES { Ok(Self::Ed25519(public)) } else { Err(NotAKey) }
    }

    /// Whether one of the signatures is right and the try was made around `now`.
    pub fn verify(&self, headers: Headers<'_>, body: &[u8], now: Timestamp) -> Result<(), HeadersError> {
        let at: i64 = headers.timestamp.parse().map_err(|_| HeadersError::Timestamp)?;
        let age = now.seconds().saturating_sub(at);
        if age > TOLERANCE_S {
            return Err(HeadersError::TooOld(age));
        }
        if age < -TOLERANCE_S {
            return Err(HeadersError::TooNew(age.saturating_neg()));
        }
        let content = content(headers.id, headers.timestamp, body);
        let scheme = match self {
            Self::Hmac(_) => "v1",
            Self::Ed25519(_) => "v1a",
        };
        let given = headers.signature.split(' ').filter_map(|signature| signature.split_once(','));
        let mut of_scheme = given.filter(|(name, _)| *name == scheme).map(|(_, base64)| base64).peekable();
        if of_scheme.peek().is_none() {
            return Err(HeadersError::NoneOfScheme(scheme));
        }
        let fits =
            |base64: &str| STANDARD.decode(base64).is_ok_and(|signature| self.fits(&content, &signature));
        if of_scheme.any(fits) { Ok(()) } else { Err(HeadersError::Mismatch(scheme)) }
    }

    fn fits(&self, content: &[u8], signature: &[u8]) -> bool {
        match self {
            // In a time that does not depend on where the two differ.
            Self::Hmac(bytes) => hmac::verify(&hmac_key(bytes), content, signature).is_ok(),
            Self::Ed25519(public) => {
                UnparsedPublicKey::new(&ED25519, public).verify(content, signature).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: &str = "1614265330";
    const NOW: Timestamp = Timestamp(1_614_265_330_999);
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    /// The vectors that the libraries of the specification's authors are tested with.
    const V1_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const V1: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const V1A_SEED: &str = "VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    const V1A: &str =
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";

    fn signing(scheme: SignatureScheme, base64: &str) -> SigningSecret {
        SigningSecret::new(scheme, &STANDARD.decode(base64).unwrap()).unwrap()
    }

    fn headers(signature: &str) -> Headers<'_> {
        Headers { id: ID, timestamp: AT, signature }
    }

    #[test]
    fn the_published_vectors_are_signed_and_verified() {
        let content = content(ID, AT, BODY);
        let hmac = signing(SignatureScheme::V1, &V1_SECRET[6..]);
        assert_eq!((hmac.sign(&content), hmac.public_key()), (V1.to_owned(), None));
        let pair = signing(SignatureScheme::V1a, V1A_SEED);
        assert_eq!(pair.sign(&content), V1A);

        let shared = VerifyingKey::parse(V1_SECRET).unwrap();
        let public = VerifyingKey::parse(&pair.public_key().unwrap()).unwrap();
        let both = format!("v1,AAAA v2,AAAA {V1A} nonsense {V1}");
        for signature in [V1, both.as_str()] {
            assert_eq!(shared.verify(headers(signature), BODY, NOW), Ok(()), "{signature}");
        }
        for signature in [V1A, both.as_str()] {
            assert_eq!(public.verify(headers(signature), BODY, NOW), Ok(()), "{signature}");
        }
        assert_eq!(shared.verify(headers(V1A), BODY, NOW), Err(HeadersError::NoneOfScheme("v1")));
        assert_eq!(public.verify(headers(V1), BODY, NOW), Err(HeadersError::NoneOfScheme("v1a")));
    }

    #[test]
    fn whatever_was_changed_is_refused() {
        let key = VerifyingKey::parse(V1_SECRET).unwrap();
        let mismatch = Err(HeadersError::Mismatch("v1"));
        assert_eq!(key.verify(Headers { id: "msg_q", ..headers(V1) }, BODY, NOW), mismatch);
        assert_eq!(key.verify(Headers { timestamp: "1614265331", ..headers(V1) }, BODY, NOW), mismatch);
        assert_eq!(key.verify(headers(V1), b"{}", NOW), mismatch);
        let other = VerifyingKey::parse(&shown_secret(&[7; 32])).unwrap();
        assert_eq!(other.verify(headers(V1), BODY, NOW), mismatch);
        for signature in ["v1,", "v1,g0hM9SsE", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF="] {
            assert_eq!(key.verify(headers(signature), BODY, NOW), mismatch, "{signature}");
        }
        for signature in ["", "v1", "V1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
            let none = Err(HeadersError::NoneOfScheme("v1"));
            assert_eq!(key.verify(headers(signature), BODY, NOW), none, "{signature}");
        }
    }

    #[test]
    fn five_minutes_are_forgiven_and_not_a_second_more() {
        let key = VerifyingKey::parse(V1_SECRET).unwrap();
        let verify = |seconds: i64| key.verify(headers(V1), BODY, Timestamp(seconds * 1_000));
        let at: i64 = AT.parse().unwrap();
        assert_eq!((verify(at + 300), verify(at - 300)), (Ok(()), Ok(())));
        assert_eq!(verify(at + 301), Err(HeadersError::TooOld(301)));
        assert_eq!(verify(at - 301), Err(HeadersError::TooNew(301)));
        for timestamp in ["", "soon", "1614265330.5", "99999999999999999999"] {
            let changed = Headers { timestamp, ..headers(V1) };
            assert_eq!(key.verify(changed, BODY, NOW), Err(HeadersError::Timestamp), "{timestamp}");
        }
    }

    #[test]
    fn keys_are_told_from_other_texts() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        let public = format!("whpk_{}", STANDARD.encode([1; 31]));
        for text in
            ["", "whsec_", "whsec_!", "whpk_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long, &public]
        {
            assert!(VerifyingKey::parse(text).is_err(), "{text}");
        }
        let secret = new_secret().unwrap();
        assert!(VerifyingKey::parse(&shown_secret(&secret)).is_ok());
        assert_ne!(secret, new_secret().unwrap());
        assert_eq!(format!("{:?}", signing(SignatureScheme::V1, &V1_SECRET[6..])), "SigningSecret(V1)");
    }
}
