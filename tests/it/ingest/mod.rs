//! What platforms push: signatures, the splitting of deliveries, the entrances.

mod callbacks;
mod crash;
mod instagram;
pub mod mutations;
mod signatures;
mod splitting;
mod tiktok_signature;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::{Options, TestApp};

/// The secrets of Facebook Login's app, the current one first.
const FACEBOOK_SECRETS: [&str; 2] = ["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "an-older-secret-of-the-app"];
/// The secret of Instagram Login's app.
const INSTAGRAM_SECRET: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";
const FACEBOOK_LOGIN: &str = "/ingest/instagram/facebook-login";
const INSTAGRAM_LOGIN: &str = "/ingest/instagram/instagram-login";
const SIGNATURE: &str = "x-hub-signature-256";
/// The brand's account in every fixture.
const BRAND: &str = "17841460998877001";

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn options() -> Options {
    let settings = [
        ("FOLLOWPOINTS_META_APP_SECRETS", FACEBOOK_SECRETS.join(",")),
        ("FOLLOWPOINTS_META_VERIFY_TOKEN", "test-verify-token".to_owned()),
        ("FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS", INSTAGRAM_SECRET.to_owned()),
        ("FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN", "another-verify-token".to_owned()),
    ];
    Options { platforms: settings.to_vec(), ..Options::default() }
}

/// The header's value for `body`.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mac = hmac::sign(&hmac::Key::new(HMAC_SHA256, secret.as_bytes()), body);
    let digits: Vec<_> = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={}", digits.concat())
}

/// Sends `body` as Meta does, with Facebook Login's current secret.
async fn deliver(app: &TestApp, body: &[u8]) -> Answer {
    let header = signature(FACEBOOK_SECRETS[0], body);
    let call = app.call("POST", FACEBOOK_LOGIN).header(SIGNATURE, &header);
    call.text("application/json", body).send().await
}

/// Every webhook of the fixtures, by name: `mentions_caption`.
fn webhooks() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/payloads/instagram");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter_map(|path| {
            let file = path.file_name()?.to_str()?;
            let name = file.strip_prefix("webhook_")?.strip_suffix(".json")?;
            Some((name.to_owned(), std::fs::read(&path).unwrap()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// A delivery about the brand, with these entries of `messaging`.
fn messaging(entries: &[Value]) -> Value {
    json!({"object": "instagram", "entry": [{"id": BRAND, "time": 1_794_994_867_565_i64, "messaging": entries}]})
}

/// A message to the brand.
fn message(mid: &str) -> Value {
    json!({
        "sender": {"id": "5512034987760112"}, "recipient": {"id": BRAND}, "timestamp": 1_794_994_867_215_i64,
        "message": {"mid": mid, "text": "hello"},
    })
}
