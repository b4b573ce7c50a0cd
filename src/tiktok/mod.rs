//! TikTok: posts pushed by providers, its webhooks, its APIs.

pub mod hashtags;
pub mod signature;
pub mod tracked;
pub mod words;
