//! Meta's signatures: the vectors, and what must not pass.

use entity::id::Timestamp;
use followpoints::instagram::signature::{
    SignatureError, SignedRequest, SignedRequestError, signed_request, verify,
};
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

#[test]
fn every_signed_request_is_judged_as_it_says() {
    let vectors = vectors(include_str!("../payloads/instagram/signed_request_vectors.json"));
    let vectors = vectors["vectors"].as_array().unwrap();
    let expected = [
        ("deauthorize_fb_login", Ok("10223344556677889")),
        ("data_deletion_fb_login", Ok("10223344556677889")),
        ("deauthorize_ig_login", Ok("8823456701234567")),
        ("wrong_secret", Err(SignedRequestError::Wrong)),
        ("tampered", Err(SignedRequestError::Wrong)),
        ("alg_none_empty_signature", Err(SignedRequestError::Wrong)),
        // The padding was added to what had been signed without it.
        ("padded_base64", Err(SignedRequestError::Wrong)),
        ("no_dot", Err(SignedRequestError::Malformed)),
    ];
    assert_eq!(vectors.len(), expected.len());
    for (vector, (name, expected)) in vectors.iter().zip(expected) {
        assert_eq!(vector["name"], name);
        let read = signed_request(text(vector, "signed_request"), &secrets(&[text(vector, "secret")]));
        let expected = expected.map(|user_id| SignedRequest {
            user_id: user_id.to_owned(),
            issued_at: Timestamp(1_794_994_212_000),
        });
        assert_eq!(read, expected, "{name}");
    }
}

/// A signed request with a payload of the test's own; `padding` stands behind both parts.
fn signed(payload: &str, padding: bool) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    let engine = if padding { &URL_SAFE } else { &URL_SAFE_NO_PAD };
    let payload = engine.encode(payload);
    let digits = signature(INSTAGRAM_SECRET, payload.as_bytes());
    let mac: Vec<u8> = digits.as_bytes()["sha256=".len()..]
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    format!("{}.{payload}", engine.encode(mac))
}

#[test]
fn a_signed_request_must_name_the_algorithm_and_the_person() {
    let secrets = secrets(&["another-secret-000000", INSTAGRAM_SECRET]);
    let read = |payload: &str, padding| signed_request(&signed(payload, padding), &secrets);
    let good =
        r#"{"user_id":8823456701234567890123,"algorithm":"hmac-sha256","issued_at":1794994212,"x":null}"#;
    for padding in [false, true] {
        assert_eq!(read(good, padding).unwrap().user_id, "8823456701234567890123");
    }
    for (payload, error) in [
        (r#"{"user_id":"1","algorithm":"none","issued_at":1}"#, SignedRequestError::Algorithm),
        (r#"{"user_id":"1","algorithm":"HMAC-SHA1","issued_at":1}"#, SignedRequestError::Algorithm),
        (r#"{"user_id":"1","issued_at":1}"#, SignedRequestError::Algorithm),
        (r#"{"algorithm":"HMAC-SHA256","issued_at":1}"#, SignedRequestError::Incomplete),
        (r#"{"user_id":null,"algorithm":"HMAC-SHA256","issued_at":1}"#, SignedRequestError::Incomplete),
        (r#"{"user_id":"","algorithm":"HMAC-SHA256","issued_at":1}"#, SignedRequestError::Incomplete),
        (r#"{"user_id":"1","algorithm":"HMAC-SHA256"}"#, SignedRequestError::Incomplete),
        ("[]", SignedRequestError::Algorithm),
        ("not json", SignedRequestError::Malformed),
    ] {
        assert_eq!(read(payload, false), Err(error), "{payload}");
    }
    for text in ["", ".", "a.b.c", "\u{e9}.\u{e9}", &"a".repeat(10_000)] {
        assert!(signed_request(text, &secrets).is_err(), "{text}");
    }
    assert_eq!(signed_request(&signed(good, false), &[]), Err(SignedRequestError::Wrong));
}
