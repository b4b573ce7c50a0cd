//! Apps and their keys, subscriptions, the event outbox, deliveries and attempts.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &str = "
CREATE TABLE app (
    id {uuid} PRIMARY KEY,
    owner_site_id {uuid} REFERENCES site (id),
    name {text} NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE TABLE app_secret (
    app_id {uuid} NOT NULL REFERENCES app (id),
    id {uuid} NOT NULL,
    secret_hash {bytes} NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint,
    PRIMARY KEY (app_id, id)
){clustered}
;;
CREATE INDEX app_secret_retired ON app_secret (retired_at) WHERE retired_at IS NOT NULL
;;
CREATE TABLE app_key (
    id {text} PRIMARY KEY,
    app_id {uuid} NOT NULL REFERENCES app (id),
    public_key {text} NOT NULL,
    private_key {bytes} NOT NULL,
    active_from bigint NOT NULL,
    published_until bigint,
    created_at bigint NOT NULL
)
;;
CREATE INDEX app_key_app ON app_key (app_id, active_from)
;;
CREATE TABLE app_instance (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    app_id {uuid} NOT NULL REFERENCES app (id),
    created_at bigint NOT NULL
)
;;
CREATE UNIQUE INDEX app_instance_site_app ON app_instance (site_id, app_id)
;;
CREATE TABLE subscription (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    app_id {uuid} NOT NULL REFERENCES app (id),
    app_instance_id {uuid} NOT NULL REFERENCES app_instance (id),
    url {text} NOT NULL,
    event_types {text} NOT NULL,
    status {text} NOT NULL,
    status_reason {text},
    held_since bigint,
    timeout_ms integer NOT NULL,
    in_flight_max integer NOT NULL,
    revision bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE INDEX subscription_page ON subscription (site_id, id)
;;
CREATE TABLE endpoint (
    subscription_id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL,
    owner {uuid},
    fence bigint NOT NULL,
    due_at bigint NOT NULL,
    is_ordered boolean NOT NULL,
    failing_since bigint,
    last_failure {text},
    exhausted_first_at bigint,
    exhausted_last_at bigint,
    warned_percent integer NOT NULL,
    told_at bigint,
    notice {text},
    check_at bigint
)
;;
CREATE INDEX endpoint_due ON endpoint (due_at)
;;
CREATE INDEX endpoint_owner ON endpoint (owner)
;;
CREATE INDEX endpoint_check ON endpoint (check_at) WHERE check_at IS NOT NULL
;;
CREATE TABLE node (
    id {uuid} PRIMARY KEY,
    session integer NOT NULL,
    alive_until bigint NOT NULL
)
;;
CREATE TABLE event (
    site_id {uuid} NOT NULL,
    id {uuid} NOT NULL,
    event_type {text} NOT NULL,
    entity_id {uuid} NOT NULL,
    account_id {uuid},
    sequence bigint NOT NULL,
    data {text} NOT NULL,
    identity {text} NOT NULL,
    occurred_at bigint NOT NULL,
    PRIMARY KEY (site_id, id)
){range id}
;;
CREATE INDEX event_entity ON event (entity_id, id)
;;
CREATE TABLE signed_event (
    event_id {uuid} NOT NULL,
    app_id {uuid} NOT NULL,
    key_id {text} NOT NULL,
    signature {text} NOT NULL,
    input_hash bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (event_id, app_id)
){range event_id}
;;
CREATE TABLE delivery (
    site_id {uuid} NOT NULL,
    id {uuid} NOT NULL,
    subscription_id {uuid} NOT NULL,
    event_id {uuid} NOT NULL,
    status {text} NOT NULL,
    attempt_count integer NOT NULL,
    schedule_step integer NOT NULL,
    next_attempt_at bigint NOT NULL,
    order_key {uuid},
    created_at bigint NOT NULL,
    finished_at bigint,
    PRIMARY KEY (site_id, id)
){clustered}
;;
CREATE INDEX delivery_due ON delivery (subscription_id, next_attempt_at) WHERE status IN ('PENDING', 'RETRYING')
;;
CREATE INDEX delivery_ordered ON delivery (subscription_id, id)
    WHERE status IN ('PENDING', 'RETRYING') AND order_key IS NOT NULL
;;
CREATE INDEX delivery_order_key ON delivery (subscription_id, order_key, id)
    WHERE status IN ('PENDING', 'RETRYING') AND order_key IS NOT NULL
;;
CREATE INDEX delivery_failed ON delivery (site_id, status, id) WHERE status IN ('RETRYING', 'EXHAUSTED', 'CANCELLED')
;;
CREATE INDEX delivery_subscription ON delivery (subscription_id, id)
;;
CREATE UNIQUE INDEX delivery_event ON delivery (event_id, subscription_id)
;;
CREATE TABLE attempt (
    delivery_id {uuid} NOT NULL,
    number integer NOT NULL,
    site_id {uuid} NOT NULL,
    started_at bigint NOT NULL,
    duration_ms integer NOT NULL,
    status_code integer,
    error_class {text},
    error {text},
    response_headers {text},
    response_body {text},
    PRIMARY KEY (delivery_id, number)
){clustered}{range delivery_id}
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await?;
        crate::make_rests(manager, &["event", "signed_event", "attempt"]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::drop_tables(
            manager,
            &[
                "attempt",
                "delivery",
                "signed_event",
                "event",
                "node",
                "endpoint",
                "subscription",
                "app_instance",
                "app_key",
                "app_secret",
                "app",
            ],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
