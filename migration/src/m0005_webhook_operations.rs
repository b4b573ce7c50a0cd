//! How a subscription is tried again.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &str = "
ALTER TABLE subscription ADD COLUMN retry_profile text NOT NULL DEFAULT 'WIX'
;;
ALTER TABLE subscription ADD COLUMN retry_delays text
;;
ALTER TABLE subscription ADD COLUMN kind text NOT NULL DEFAULT 'WEBHOOK'
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["kind", "retry_delays", "retry_profile"] {
            let sql = format!("ALTER TABLE subscription DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
