//! What platforms push: signatures, the splitting of deliveries, the entrances.

mod tiktok_signature;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}
