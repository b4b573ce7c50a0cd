//! Accounts, followed channels and the append-only ledger.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: &str = "
CREATE TABLE account (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    member_id {uuid} NOT NULL REFERENCES member (id),
    contact_id {uuid} NOT NULL,
    balance bigint NOT NULL CHECK (balance >= 0),
    earned bigint NOT NULL,
    adjusted bigint NOT NULL,
    redeemed bigint NOT NULL,
    expired bigint NOT NULL,
    revision bigint NOT NULL,
    event_sequence bigint NOT NULL,
    ledger_sequence bigint NOT NULL,
    last_activity_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE UNIQUE INDEX account_member ON account (site_id, member_id)
;;
CREATE UNIQUE INDEX account_contact ON account (site_id, contact_id)
;;
CREATE TABLE followed_channel (
    account_id {uuid} NOT NULL REFERENCES account (id),
    channel text NOT NULL,
    id {uuid} NOT NULL,
    site_id {uuid} NOT NULL,
    source text NOT NULL,
    evidence text NOT NULL,
    idempotency_key text,
    created_at bigint NOT NULL,
    PRIMARY KEY (account_id, channel)
){clustered}
;;
CREATE TABLE ledger_entry (
    account_id {uuid} NOT NULL REFERENCES account (id),
    sequence bigint NOT NULL CHECK (sequence >= 1),
    id {uuid} NOT NULL,
    site_id {uuid} NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    balance_after bigint NOT NULL CHECK (balance_after >= 0),
    entry_type text NOT NULL,
    description text NOT NULL,
    channel text,
    award_key text,
    created_at bigint NOT NULL,
    PRIMARY KEY (account_id, sequence)
){clustered}
;;
CREATE UNIQUE INDEX ledger_entry_award ON ledger_entry (account_id, award_key)
";

/// The ledger is append-only: the database itself refuses to change or remove an entry.
const SQLITE_GUARD: &str = "
CREATE TRIGGER ledger_entry_no_update BEFORE UPDATE ON ledger_entry
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
;;
CREATE TRIGGER ledger_entry_no_delete BEFORE DELETE ON ledger_entry
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
";

const POSTGRES_GUARD: &str = "
CREATE FUNCTION ledger_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$
;;
CREATE TRIGGER ledger_entry_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
FOR EACH STATEMENT EXECUTE FUNCTION ledger_entry_refuse()
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await?;
        let sqlite = manager.get_connection().get_database_backend() == DatabaseBackend::Sqlite;
        crate::run(manager, if sqlite { SQLITE_GUARD } else { POSTGRES_GUARD }).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::drop_tables(manager, &["ledger_entry", "followed_channel", "account"]).await?;
        if manager.get_connection().get_database_backend() == DatabaseBackend::Postgres {
            manager.get_connection().execute_unprepared("DROP FUNCTION ledger_entry_refuse()").await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
