//! How a subscription is tried again and whom it says it is; what a try sent and how long its parts took.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: &str = "
ALTER TABLE subscription ADD COLUMN retry_profile text NOT NULL DEFAULT 'WIX'
;;
ALTER TABLE subscription ADD COLUMN retry_delays text
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
ALTER TABLE attempt ADD COLUMN request_headers text
";

/// What the step adds to the log of tries.
const ATTEMPT_COLUMNS: [&str; 6] =
    ["request_headers", "total_us", "first_byte_us", "tls_us", "connect_us", "dns_us"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, COLUMNS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ATTEMPT_COLUMNS {
            let sql = format!("ALTER TABLE attempt DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        for column in ["client_identity", "retry_delays", "retry_profile"] {
            let sql = format!("ALTER TABLE subscription DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
