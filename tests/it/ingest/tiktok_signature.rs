//! TikTok's signature: the vectors, and what must not pass.

use entity::id::Timestamp;
use followpoints::tiktok::signature::{AGE_MAX_MS, AHEAD_MAX_MS, SignatureError, Verified, verify};
use serde_json::Value;

use super::base64;

const VECTORS: &str = include_str!("../payloads/tiktok/signature_vectors.json");
/// What a caller could choose who knows that retries are signed anew, in milliseconds.
const STRICT_MS: i64 = 300_000;

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

/// Body, secret, header and the time at which it holds.
fn vector(name: &str) -> (Vec<u8>, Vec<String>, String, Timestamp) {
    let vectors = vectors();
    let one = vectors["vectors"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    let text = |field: &str| one[field].as_str().unwrap().to_owned();
    let now = Timestamp(one["valid_at"].as_i64().unwrap() * 1000);
    (base64(&text("body_base64")), vec![text("secret")], text("tiktok_signature"), now)
}

#[test]
fn every_vector_holds() {
    for name in ["compact", "spaced", "business_im"] {
        let (body, secrets, header, now) = vector(name);
        let signed_at = now.plus_ms(-2_000);
        assert_eq!(
            verify(&header, &body, &secrets, now, STRICT_MS),
            Ok(Verified { secret: 0, signed_at }),
            "{name}"
        );
    }
}

#[test]
fn every_negative_vector_is_judged_as_it_says() {
    for negative in vectors()["negative"].as_array().unwrap() {
        let (body, secrets, header, now) = vector(negative["of"].as_str().unwrap());
        let header = negative["header"].as_str().unwrap_or(&header);
        let now = negative["now"].as_i64().map_or(now, |now| Timestamp(now * 1000));
        let expected = negative["valid"].as_bool().unwrap();
        assert_eq!(verify(header, &body, &secrets, now, STRICT_MS).is_ok(), expected, "{}", negative["name"]);
    }
}

#[test]
fn a_retry_of_three_days_holds_and_what_is_older_does_not() {
    let (body, secrets, header, now) = vector("compact");
    let signed_at = now.plus_ms(-2_000);
    let at = |now| verify(&header, &body, &secrets, now, AGE_MAX_MS);
    assert!(at(signed_at.plus_ms(72 * 3_600_000)).is_ok());
    assert!(at(signed_at.plus_ms(AGE_MAX_MS)).is_ok());
    assert_eq!(at(signed_at.plus_ms(AGE_MAX_MS + 1)), Err(SignatureError::TooOld));
    assert!(at(signed_at.plus_ms(-AHEAD_MAX_MS)).is_ok());
    assert_eq!(at(signed_at.plus_ms(-AHEAD_MAX_MS - 1)), Err(SignatureError::Ahead));
}

#[test]
fn any_of_several_secrets_may_have_signed() {
    let (body, mut secrets, header, now) = vector("compact");
    secrets.insert(0, "another-secret-000000001".to_owned());
    assert_eq!(verify(&header, &body, &secrets, now, STRICT_MS).map(|verified| verified.secret), Ok(1));
    assert_eq!(verify(&header, &body, &secrets[..1], now, STRICT_MS), Err(SignatureError::Wrong));
    assert_eq!(verify(&header, &body, &[], now, STRICT_MS), Err(SignatureError::Wrong));
    assert_eq!(verify(&header, &body, &[String::new()], now, STRICT_MS), Err(SignatureError::Wrong));
}

#[test]
fn other_bytes_and_other_times_do_not_hold() {
    let (body, secrets, header, now) = vector("compact");
    for at in 0..body.len() {
        let mut other = body.clone();
        other[at] ^= 1;
        assert_eq!(verify(&header, &other, &secrets, now, STRICT_MS), Err(SignatureError::Wrong), "{at}");
    }
    let other = header.replace("t=1794994213", "t=1794994214");
    assert_eq!(verify(&other, &body, &secrets, now, STRICT_MS), Err(SignatureError::Wrong));
    // The same number in other digits is another text.
    let other = header.replace("t=1794994213", "t=01794994213");
    assert_eq!(verify(&other, &body, &secrets, now, STRICT_MS), Err(SignatureError::Wrong));
}

#[test]
fn what_is_no_header_is_refused() {
    let (body, secrets, header, now) = vector("compact");
    let mac = header.split_once("s=").unwrap().1;
    let long = format!("{header},x={}", "y".repeat(512));
    for bad in [
        "",
        ",",
        "t",
        "t=,s=",
        "t=1794994213",
        "t=1794994213,s=",
        &header[..header.len() - 1],
        &header[..header.len() - 2],
        &format!("{header}00"),
        &header.replace(mac, &"z".repeat(64)),
        &header.replace(mac, &"é".repeat(32)),
        &format!("{header},s={mac}"),
        &format!("t=1,{header}"),
        &header.replace("t=1794994213", "t=+1794994213"),
        &header.replace("t=1794994213", "t=-1794994213"),
        &header.replace("t=1794994213", "t=99999999999999999999"),
        &header.replace("t=1794994213", "t="),
        &long,
    ] {
        assert_eq!(verify(bad, &body, &secrets, now, STRICT_MS), Err(SignatureError::Malformed), "{bad}");
    }
    assert!(verify(&format!(" {header} , v=1"), &body, &secrets, now, STRICT_MS).is_ok());
    assert!(verify(&header.replace(mac, &mac.to_uppercase()), &body, &secrets, now, STRICT_MS).is_ok());
}
