//! Verifies a webhook of Followpoints. Needs `jsonwebtoken` with `aws_lc_rs`, and `serde` and `serde_json`; for the headers
//! `aws-lc-rs` and `base64`. The body comes on standard input:
//!
//! ```sh
//! verify_webhook <app.pem | keys.json> <app id> < body
//! ```
//!
//! With `WEBHOOK_SECRET` set it also checks the headers, in `WEBHOOK_ID`, `WEBHOOK_TIMESTAMP` and `WEBHOOK_SIGNATURE`.

use std::error::Error;
use std::process::ExitCode;
use std::time::SystemTime;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

const TOLERANCE_S: u64 = 300;

#[derive(Deserialize)]
struct Claims {
    jti: String,
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    event_type: String,
    data: String,
    identity: String,
}

/// What a verified token says.
#[derive(Debug)]
struct Webhook {
    id: String,
    event_type: String,
    event: Value,
    identity: Value,
}

fn public_key(file: &str, token: &str) -> Result<DecodingKey, Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    if text.starts_with("-----BEGIN") {
        return Ok(DecodingKey::from_rsa_pem(text.as_bytes())?);
    }
    let kid = jsonwebtoken::decode_header(token)?.kid.ok_or("the token names no key")?;
    let set: JwkSet = serde_json::from_str(&text)?;
    Ok(DecodingKey::from_jwk(set.find(&kid).ok_or("there is no such key")?)?)
}

fn verify_token(token: &str, key_file: &str, app_id: &str) -> Result<Webhook, Box<dyn Error>> {
    // The token must not choose how it is verified.
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&["followpoints"]);
    validation.set_audience(&[app_id]);
    validation.set_required_spec_claims(&["iss", "aud", "exp"]);
    let key = public_key(key_file, token)?;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)?.claims;
    // JSON texts within a JSON text.
    let envelope: Envelope = serde_json::from_str(&claims.data)?;
    Ok(Webhook {
        id: claims.jti,
        event_type: envelope.event_type,
        event: serde_json::from_str(&envelope.data)?,
        identity: serde_json::from_str(&envelope.identity)?,
    })
}

fn verify_headers(body: &str, secret: &str) -> Result<(), Box<dyn Error>> {
    let [id, timestamp, signatures] = ["WEBHOOK_ID", "WEBHOOK_TIMESTAMP", "WEBHOOK_SIGNATURE"]
        .map(|name| std::env::var(name).unwrap_or_default());
    if SystemTime::UNIX_EPOCH.elapsed()?.as_secs().abs_diff(timestamp.parse()?) > TOLERANCE_S {
        return Err("the timestamp is too far from now".into());
    }
    let secret = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let content = format!("{id}.{timestamp}.{body}");
    // Several while a secret is being rotated; one that fits is enough.
    let fits = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|one| {
        STANDARD.decode(one).is_ok_and(|given| hmac::verify(&key, content.as_bytes(), &given).is_ok())
    });
    if fits { Ok(()) } else { Err("no signature in the headers fits".into()) }
}

fn run() -> Result<Webhook, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(key_file), Some(app_id)) = (arguments.next(), arguments.next()) else {
        return Err("usage: verify_webhook <app.pem | keys.json> <app id>".into());
    };
    let body = std::io::read_to_string(std::io::stdin())?;
    if let Ok(secret) = std::env::var("WEBHOOK_SECRET") {
        verify_headers(&body, &secret)?;
    }
    verify_token(&body, &key_file, &app_id)
}

fn main() -> ExitCode {
    match run() {
        Ok(Webhook { id, event_type, event, identity }) => {
            println!("{id} {event_type}");
            // What a receiver would work with now.
            let _ = (event, identity);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
