//! Followpoints: a self-hosted loyalty service that rewards a site's members for following its social channels.
//!
//! The walk of one request: [`http`] → `<feature>/api.rs` → `<feature>/mod.rs` → `entity`. A feature's `mod.rs` holds rules and
//! queries and knows nothing of HTTP; its `api.rs` holds HTTP and builds no queries.
//!
//! | module | what |
//! | --- | --- |
//! | [`sites`], [`channels`], [`programs`] | tenants, their social channels, their loyalty program |
//! | [`members`], [`accounts`], [`points`] | persons, their accounts, the ledger |
//! | [`follows`] | the follow: one award per account and channel, for ever |
//! | [`inbox`], [`sources`], [`instagram`], [`tiktok`], [`connections`] | what platforms tell, stored before it is acknowledged, and understood |
//! | [`profiles`], [`activities`] | members' handles and attributes; what they do on platforms and what it earns |
//! | [`webhooks`], [`apps`], [`outbound`], [`streams`] | events told to external systems, their keys, the ways out |
//! | [`access`] | who calls, and the token endpoint |
//! | [`app`], [`config`], [`db`], [`outages`], [`nets`], [`rows`], [`gather`], [`change`], [`threads`], [`seal`], [`clock`], [`ids`], [`metrics`] | what they stand on |

pub mod access;
pub mod accounts;
pub mod activities;
pub mod app;
pub mod apps;
pub mod change;
pub mod channels;
pub mod clock;
pub mod config;
pub mod connections;
pub mod db;
pub mod follows;
pub mod gather;
pub mod http;
pub mod ids;
pub mod inbox;
pub mod instagram;
pub mod members;
pub mod metrics;
pub mod nets;
pub mod outages;
pub mod outbound;
pub mod points;
pub mod profiles;
pub mod programs;
pub mod rows;
pub mod seal;
pub mod server;
pub mod sites;
pub mod sources;
pub mod streams;
pub mod threads;
pub mod tiktok;
pub mod webhooks;
