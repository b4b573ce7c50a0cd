//! Sites, their channels and program, and their members.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &str = "
CREATE TABLE site (
    id {uuid} PRIMARY KEY,
    name {text} NOT NULL,
    config_version bigint NOT NULL,
    settings_revision bigint NOT NULL,
    auth_revision bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE TABLE site_channel (
    site_id {uuid} NOT NULL REFERENCES site (id),
    channel {text} NOT NULL,
    enabled boolean NOT NULL,
    handle {text},
    url {text},
    points bigint CHECK (points >= 0),
    PRIMARY KEY (site_id, channel)
)
;;
CREATE TABLE program (
    site_id {uuid} PRIMARY KEY REFERENCES site (id),
    name {text} NOT NULL,
    point_name {text},
    status {text} NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE TABLE member (
    site_id {uuid} NOT NULL REFERENCES site (id),
    id {uuid} NOT NULL,
    external_id {text},
    email {text},
    name {text},
    contact_id {uuid} NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (site_id, id)
){clustered}
;;
CREATE UNIQUE INDEX member_external_id ON member (site_id, external_id)
;;
CREATE UNIQUE INDEX member_contact ON member (site_id, contact_id)
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::drop_tables(manager, &["member", "program", "site_channel", "site"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
