//! The tables of Followpoints as Rust types: one module per table, no rules, no HTTP.

pub mod id;
pub mod kinds;

pub mod account;
pub mod api_key;
pub mod app;
pub mod app_instance;
pub mod app_key;
pub mod attempt;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod followed_channel;
pub mod instance_key;
pub mod ledger_entry;
pub mod member;
pub mod node;
pub mod oauth_client;
pub mod program;
pub mod refresh_token;
pub mod replay;
pub mod retention;
pub mod signed_event;
pub mod site;
pub mod site_channel;
pub mod subscription;
pub mod subscription_secret;
pub mod trusted_issuer;
