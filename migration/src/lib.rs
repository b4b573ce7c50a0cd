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

/// Runs `statements`, which are separated by a line holding `;;`. Placeholders: `{uuid}`, `{bytes}`, `{text}` for texts that are compared byte
/// by byte whatever language the database sorts by, as SQLite does, `{clustered}` for tables that
/// SQLite keeps in one tree by primary key, `{include_id}` for what the indexes of such a table have anyway,
/// and `{range column}` for those that PostgreSQL keeps in parts.
async fn run(manager: &SchemaManager<'_>, statements: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let sqlite = connection.get_database_backend() == DatabaseBackend::Sqlite;
    let (uuid, bytes, text) =
        if sqlite { ("blob", "blob", "text") } else { ("uuid", "bytea", "text COLLATE \"C\"") };
    let (clustered, include_id) = if sqlite { (" WITHOUT ROWID", "") } else { ("", " INCLUDE (id)") };
    for statement in statements.split("\n;;") {
        let statement = statement.trim();
        if !statement.is_empty() {
            let sql = statement
                .replace("{uuid}", uuid)
                .replace("{bytes}", bytes)
                .replace("{text}", text)
                .replace("{clustered}", clustered)
                .replace("{include_id}", include_id);
            connection.execute_unprepared(&ranged(&sql, sqlite)).await?;
        }
    }
    Ok(())
}

/// `sql` with `{range column}` written out: PostgreSQL keeps such a table in parts by that column, which is in its primary key.
fn ranged(sql: &str, sqlite: bool) -> String {
    let Some((before, (column, after))) =
        sql.split_once("{range ").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return sql.to_owned();
    };
    let range = if sqlite { String::new() } else { format!(" PARTITION BY RANGE ({column})") };
    format!("{before}{range}{after}")
}

/// Makes, on PostgreSQL, the part of each of `tables` that takes what no other part does.
async fn make_rests(manager: &SchemaManager<'_>, tables: &[&str]) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    if connection.get_database_backend() == DatabaseBackend::Sqlite {
        return Ok(());
    }
    for table in tables {
        let sql = format!("CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT");
        connection.execute_unprepared(&sql).await?;
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
