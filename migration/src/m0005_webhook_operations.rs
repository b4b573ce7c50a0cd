//! How a subscription is tried again, in which order and how fast, how it is signed in headers and whom it says it is; replays; what a
//! try sent and how long its parts took.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &str = "
ALTER TABLE subscription ADD COLUMN retry_profile {text} NOT NULL DEFAULT 'WIX'
;;
ALTER TABLE subscription ADD COLUMN retry_delays {text}
;;
ALTER TABLE subscription ADD COLUMN client_identity {bytes}
;;
ALTER TABLE attempt ADD COLUMN dns_us bigint
;;
ALTER TABLE attempt ADD COLUMN connect_us bigint
;;
ALTER TABLE attempt ADD COLUMN tls_us bigint
;;
ALTER TABLE attempt ADD COLUMN first_byte_us bigint
;;
ALTER TABLE attempt ADD COLUMN total_us bigint
;;
ALTER TABLE attempt ADD COLUMN request_headers {text}
;;
ALTER TABLE attempt ADD COLUMN late_at bigint
;;
CREATE INDEX attempt_late ON attempt (late_at) WHERE late_at IS NOT NULL
;;
ALTER TABLE subscription ADD COLUMN ordering {text} NOT NULL DEFAULT 'PARALLEL'
;;
ALTER TABLE subscription ADD COLUMN rate_limit integer
;;
CREATE TABLE replay (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL,
    subscription_id {uuid} NOT NULL,
    scope {text} NOT NULL,
    since bigint NOT NULL,
    until bigint NOT NULL,
    status {text} NOT NULL,
    cursor {uuid},
    examined_count bigint NOT NULL,
    replayed_count bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    finished_at bigint
)
;;
CREATE TABLE retention (
    name {text} PRIMARY KEY,
    reached {uuid} NOT NULL
)
;;
CREATE INDEX replay_page ON replay (site_id, id)
;;
CREATE INDEX replay_subscription ON replay (subscription_id, id)
;;
CREATE INDEX replay_running ON replay (updated_at) WHERE status = 'RUNNING'
;;
ALTER TABLE subscription ADD COLUMN signature_headers {text} NOT NULL DEFAULT '[]'
;;
ALTER TABLE subscription ADD COLUMN signing_public_key {text}
;;
CREATE TABLE subscription_secret (
    site_id {uuid} NOT NULL,
    subscription_id {uuid} NOT NULL REFERENCES subscription (id),
    id {uuid} NOT NULL,
    kind {text} NOT NULL,
    sealed {bytes} NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint,
    PRIMARY KEY (subscription_id, id)
){clustered}
;;
CREATE INDEX subscription_secret_retired ON subscription_secret (retired_at) WHERE retired_at IS NOT NULL
;;
ALTER TABLE subscription ADD COLUMN filter {text}
;;
ALTER TABLE subscription ADD COLUMN custom_headers {bytes}
;;
ALTER TABLE subscription ADD COLUMN kind {text} NOT NULL DEFAULT 'WEBHOOK'
";

/// What the step adds to the log of tries.
const ATTEMPT_COLUMNS: [&str; 7] =
    ["late_at", "request_headers", "total_us", "first_byte_us", "tls_us", "connect_us", "dns_us"];
/// What it adds to subscriptions.
const COLUMNS_DOWN: [&str; 10] = [
    "custom_headers",
    "filter",
    "client_identity",
    "kind",
    "signing_public_key",
    "signature_headers",
    "rate_limit",
    "ordering",
    "retry_delays",
    "retry_profile",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP INDEX attempt_late").await?;
        for column in ATTEMPT_COLUMNS {
            let sql = format!("ALTER TABLE attempt DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        crate::drop_tables(manager, &["subscription_secret", "retention", "replay"]).await?;
        for column in COLUMNS_DOWN {
            let sql = format!("ALTER TABLE subscription DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
