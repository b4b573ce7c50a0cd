//! The integration tests, one binary. Every scenario runs on SQLite and on PostgreSQL.

#![expect(unreachable_pub, reason = "everything is used within this binary")]
#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect shall fail")]

mod accounts;
mod activities;
mod activity_views;
mod admin;
mod anomaly;
mod auth_matrix;
mod cli;
mod connections;
mod docs;
mod errors;
mod faults;
mod follows;
mod graph;
mod ingest;
mod isolation;
mod ledger;
mod migrations;
mod nodes;
mod openapi;
mod operations;
mod outbound;
mod profiles;
mod recovery;
mod secrets;
mod simulation;
mod site_jwts;
mod statistics;
mod streams;
mod support;
mod tidy;
mod tiktok;
mod tokens;
mod verifiers;
mod webhooks;
