//! Instagram: what its webhooks say, and the Graph API that says the rest.

pub mod ingest_api;
mod json;
mod keys;
pub mod kinds;
mod messaging;
pub mod payload;
pub mod signature;

pub use keys::message_key;
pub mod answers;
pub mod api;
pub mod brands;
mod direct_replies;
pub mod fates;
pub mod graph;
pub mod graph_error;
pub mod lookups;
pub mod meaning;
pub mod mentions;
pub mod tags;
pub mod understand;
pub mod usage;
