//! Who may call: keys, front-ends, trusted issuers, refresh tokens.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &str = "
CREATE TABLE api_key (
    id {uuid} PRIMARY KEY,
    site_id {uuid} REFERENCES site (id),
    name {text} NOT NULL,
    secret_hash {bytes} NOT NULL UNIQUE,
    scopes {text} NOT NULL,
    created_at bigint NOT NULL
)
;;
CREATE INDEX api_key_page ON api_key (site_id, id)
;;
CREATE TABLE oauth_client (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    name {text} NOT NULL,
    allowed_origins {text} NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE INDEX oauth_client_page ON oauth_client (site_id, id)
;;
CREATE TABLE trusted_issuer (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    issuer {text} NOT NULL,
    audience {text} NOT NULL,
    jwks_url {text},
    public_key {text},
    hmac_secret {bytes},
    member_id_claim {text} NOT NULL,
    created_at bigint NOT NULL
)
;;
CREATE UNIQUE INDEX trusted_issuer_site ON trusted_issuer (site_id, issuer, audience)
;;
CREATE INDEX trusted_issuer_token ON trusted_issuer (issuer, audience)
;;
CREATE TABLE refresh_token (
    id {uuid} PRIMARY KEY,
    family_id {uuid} NOT NULL,
    site_id {uuid} NOT NULL REFERENCES site (id),
    member_id {uuid},
    visitor_id {uuid},
    client_id {uuid},
    token_hash {bytes} NOT NULL UNIQUE,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    rotated_at bigint,
    successor_id {uuid},
    revoked_at bigint
)
;;
CREATE INDEX refresh_token_family ON refresh_token (family_id)
;;
CREATE INDEX refresh_token_member ON refresh_token (site_id, member_id) WHERE revoked_at IS NULL
;;
CREATE INDEX refresh_token_expiry ON refresh_token (expires_at)
;;
CREATE TABLE instance_key (
    name {text} PRIMARY KEY,
    private_key {bytes} NOT NULL,
    public_key {bytes} NOT NULL,
    created_at bigint NOT NULL
)
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::drop_tables(
            manager,
            &["instance_key", "refresh_token", "trusted_issuer", "oauth_client", "api_key"],
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
