//! TikTok: posts pushed by providers, its webhooks, its APIs.

pub mod signature;
