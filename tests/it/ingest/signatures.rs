//! Meta's signatures: the vectors, and what must not pass.

use followpoints::instagram::signature::{SignatureError, verify};
use serde_json::Value;

use super::{FACEBOOK_SECRETS, INSTAGRAM_SECRET, base64, signature};

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hub_vectors() -> Value {
    vectors(include_str!("../payloads/instagram/signature_vectors.json"))
}

fn secrets(all: &[&str]) -> Vec<String> {
    all.iter().map(|secret| (*secret).to_owned()).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[test]
fn every_vector_holds_for_its_bytes_and_its_secret() {
    let vectors = hub_vectors();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let body = base64(text(vector, "body_base64"));
        let header = Some(text(vector, "x_hub_signature_256"));
        let secret = text(vector, "secret");
        assert_eq!(verify(header, &body, &secrets(&[secret])), Ok(0), "{}", vector["name"]);
        assert_eq!(verify(header, &body, &secrets(&["x", "", secret])), Ok(2), "{}", vector["name"]);
        for wrong in [&secrets(&["another"]), &secrets(&[""]), &secrets(&[])] {
            assert_eq!(verify(header, &body, wrong), Err(SignatureError::Wrong), "{}", vector["name"]);
        }
        let sha1 = Some(text(vector, "x_hub_signature"));
        assert_eq!(verify(sha1, &body, &secrets(&[secret])), Err(SignatureError::Malformed));
    }
}

#[test]
fn every_negative_vector_is_judged_as_it_says() {
    let vectors = hub_vectors();
    let body_of = |name: &str| {
        let all = vectors["vectors"].as_array().unwrap();
        base64(text(all.iter().find(|one| one["name"] == name).unwrap(), "body_base64"))
    };
    let one = secrets(&[FACEBOOK_SECRETS[0]]);
    let both = secrets(&[FACEBOOK_SECRETS[0], INSTAGRAM_SECRET]);
    let expected = [
        ("missing_prefix", Err(SignatureError::Malformed), Err(SignatureError::Malformed)),
        ("uppercase_hex", Ok(0), Ok(0)),
        ("sha1_only", Err(SignatureError::Malformed), Err(SignatureError::Malformed)),
        ("truncated", Err(SignatureError::Malformed), Err(SignatureError::Malformed)),
        ("not_hex", Err(SignatureError::Malformed), Err(SignatureError::Malformed)),
        ("other_secret", Err(SignatureError::Wrong), Ok(1)),
        ("reserialised_body", Err(SignatureError::Wrong), Err(SignatureError::Wrong)),
    ];
    let negative = vectors["negative"].as_array().unwrap();
    assert_eq!(negative.len(), expected.len());
    for (vector, (name, with_one, with_both)) in negative.iter().zip(expected) {
        assert_eq!(vector["name"], name);
        let body = match vector["body_of"].as_str() {
            Some(of) => body_of(of),
            None => text(vector, "body").as_bytes().to_vec(),
        };
        let header = Some(text(vector, "header"));
        assert_eq!(verify(header, &body, &one), with_one, "{name}");
        assert_eq!(verify(header, &body, &both), with_both, "{name}");
    }
}

#[test]
fn what_is_no_signature_is_refused() {
    let secrets = secrets(&[FACEBOOK_SECRETS[0]]);
    let good = signature(FACEBOOK_SECRETS[0], b"{}");
    assert_eq!(verify(Some(&good), b"{}", &secrets), Ok(0));
    assert_eq!(verify(None, b"{}", &secrets), Err(SignatureError::Missing));
    for bad in [
        "",
        "sha256=",
        "sha256",
        "SHA256=00",
        &format!(" {good}"),
        &format!("{good}00"),
        &format!("{good},{good}"),
        &format!("sha256={}", "é".repeat(32)),
        &format!("sha256={}", "+f".repeat(32)),
    ] {
        assert_eq!(verify(Some(bad), b"{}", &secrets), Err(SignatureError::Malformed), "{bad}");
    }
    for body in [&b"{ }"[..], b"", b"{}\n", b"\xef\xbb\xbf{}"] {
        assert_eq!(verify(Some(&good), body, &secrets), Err(SignatureError::Wrong));
    }
}
