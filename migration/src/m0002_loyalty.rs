//! Accounts, followed channels and the append-only ledger.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// An entry or follow does not name its account as a foreign key: whoever writes one has just made or locked the account, and
/// a check for each row would cost as much as the row. The triggers below keep accounts that have entries.
const TABLES: &str = "
CREATE TABLE account (
    site_id {uuid} NOT NULL,
    id {uuid} NOT NULL,
    member_id {uuid} NOT NULL,
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
    updated_at bigint NOT NULL,
    latest_id_at bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (site_id, id),
    FOREIGN KEY (site_id, member_id) REFERENCES member (site_id, id)
){clustered}
;;
CREATE UNIQUE INDEX account_member ON account (site_id, member_id){include_id}
;;
CREATE TABLE followed_channel (
    account_id {uuid} NOT NULL,
    channel {text} NOT NULL,
    id {uuid} NOT NULL,
    site_id {uuid} NOT NULL,
    source {text} NOT NULL,
    evidence {text} NOT NULL,
    idempotency_key {text},
    created_at bigint NOT NULL,
    PRIMARY KEY (account_id, channel)
){clustered}
;;
CREATE TABLE ledger_entry (
    account_id {uuid} NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    id {uuid} NOT NULL,
    site_id {uuid} NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    balance_after bigint NOT NULL CHECK (balance_after >= 0),
    entry_type {text} NOT NULL,
    description {text} NOT NULL,
    channel {text},
    award_key {text},
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
;;
CREATE TRIGGER account_keeps_ledger BEFORE DELETE ON account
WHEN EXISTS (SELECT 1 FROM ledger_entry WHERE account_id = OLD.id)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: the account has entries'); END
";

const POSTGRES_GUARD: &str = "
CREATE FUNCTION ledger_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$
;;
CREATE TRIGGER ledger_entry_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
FOR EACH STATEMENT EXECUTE FUNCTION ledger_entry_refuse()
;;
CREATE FUNCTION account_keep_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' OR EXISTS (SELECT 1 FROM ledger_entry WHERE account_id = OLD.id) THEN
        RAISE EXCEPTION 'the ledger is append-only: the account has entries';
    END IF;
    RETURN OLD;
END $$
;;
CREATE TRIGGER account_keeps_ledger BEFORE DELETE ON account
FOR EACH ROW EXECUTE FUNCTION account_keep_ledger()
;;
CREATE TRIGGER account_keeps_ledger_whole BEFORE TRUNCATE ON account
FOR EACH STATEMENT EXECUTE FUNCTION account_keep_ledger()
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
            let functions = "DROP FUNCTION ledger_entry_refuse(), account_keep_ledger()";
            manager.get_connection().execute_unprepared(functions).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
