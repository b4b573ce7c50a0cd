//! The schema of Followpoints, step by step. Each step is SQL text for both back ends, written once with the
//! column types as placeholders, and runs in a transaction of its own.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::{DbErr, MigrationTrait, SchemaManager};
use sea_orm_migration::sea_orm::{ConnectionTrait as _, DatabaseBackend};

mod m0001_sites_and_members;
mod m0002_loyalty;
mod m0003_callers;
mod m0004_webhooks;
mod m0005_webhook_operations;
mod m0006_sources;

/// The ordered list of steps.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_sites_and_members::Migration),
            Box::new(m0002_loyalty::Migration),
            Box::new(m0003_callers::Migration),
            Box::new(m0004_webhooks::Migration),
            Box::new(m0005_webhook_operations::Migration),
            Box::new(m0006_sources::Migration),
        ]
    }
}

/// Runs `statements`, which are separated by a line holding `;;`. Placeholders: `{uuid}`, `{bytes}`, `{clustered}` for tables that
/// SQLite keeps in one tree by primary key, and `{include_id}` for what the indexes of such a table have anyway.
async fn run(manager: &SchemaManager<'_>, statements: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let sqlite = connection.get_database_backend() == DatabaseBackend::Sqlite;
    let (uuid, bytes, clustered, include_id) =
        if sqlite { ("blob", "blob", " WITHOUT ROWID", "") } else { ("uuid", "bytea", "", " INCLUDE (id)") };
    for statement in statements.split("\n;;") {
        let statement = statement.trim();
        if !statement.is_empty() {
            let sql = statement
                .replace("{uuid}", uuid)
                .replace("{bytes}", bytes)
                .replace("{clustered}", clustered)
                .replace("{include_id}", include_id);
            connection.execute_unprepared(&sql).await?;
        }
    }
    Ok(())
}

/// Drops `tables` in the order given.
async fn drop_tables(manager: &SchemaManager<'_>, tables: &[&str]) -> Result<(), DbErr> {
    for table in tables {
        manager.get_connection().execute_unprepared(&format!("DROP TABLE {table}")).await?;
    }
    Ok(())
}
