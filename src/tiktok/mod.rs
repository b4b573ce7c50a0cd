//! TikTok: posts pushed by providers, its webhooks, its APIs.

pub mod hashtags;
pub mod post;
pub mod push;
pub mod signature;
pub mod tracked;
pub mod webhook;
pub mod words;
