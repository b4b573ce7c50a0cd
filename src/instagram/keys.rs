//! Keys: what makes two things the same, however they were sent.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

use super::json::Json;
use super::kinds::Kind;
use crate::inbox::KEY_MAX;

/// The key of the message with the id `mid`.
#[must_use]
pub fn message_key(mid: &str) -> String {
    key("message", &[mid])
}

/// `name` and `parts` with colons between them. One that is too long or has other characters than visible ASCII becomes the
/// name and its hash.
pub(super) fn key(name: &str, parts: &[&str]) -> String {
    let mut key = name.to_owned();
    for part in parts {
        key.push(':');
        key.push_str(part);
    }
    if key.len() <= KEY_MAX && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return key;
    }
    format!("{name}:{}", hash(&key))
}

/// The key of something that has no id of its own.
pub(super) fn hashed(kind: Kind, json: &Json) -> String {
    key(kind.as_str(), &[&hash(&json.canonical())])
}

/// SHA-256 in hexadecimal.
pub(super) fn hash(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::{KEY_MAX, key, message_key};

    #[test]
    fn a_key_is_readable_unless_it_is_too_long_or_odd() {
        assert_eq!(message_key("aWdfZA"), "message:aWdfZA");
        assert_eq!(key("seen", &["m", "5512"]), "seen:m:5512");
        let longest = "m".repeat(KEY_MAX - "message:".len());
        assert_eq!(message_key(&longest), format!("message:{longest}"));
        for odd in [format!("{longest}m"), "\u{2764}".to_owned(), "a b".to_owned(), "a\u{fffd}".to_owned()] {
            let key = message_key(&odd);
            assert_eq!(key.len(), "message:".len() + 64, "{odd}");
            assert!(key.starts_with("message:") && key.is_ascii(), "{key}");
        }
        assert_ne!(message_key("a b"), message_key("a c"));
    }
}
