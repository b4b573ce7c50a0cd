//! How a subscription is tried again, in which order and how fast.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &str = "
ALTER TABLE subscription ADD COLUMN retry_profile text NOT NULL DEFAULT 'WIX'
;;
ALTER TABLE subscription ADD COLUMN retry_delays text
;;
ALTER TABLE subscription ADD COLUMN ordering text NOT NULL DEFAULT 'PARALLEL'
;;
ALTER TABLE subscription ADD COLUMN rate_limit integer
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["rate_limit", "ordering", "retry_delays", "retry_profile"] {
            let sql = format!("ALTER TABLE subscription DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
