//! Instagram: what its webhooks say, and the Graph API that says the rest.

pub mod ingest_api;
mod json;
mod keys;
pub mod kinds;
mod messaging;
pub mod payload;
pub mod signature;

pub use keys::message_key;
