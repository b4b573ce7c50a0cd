//! What PostgreSQL knows of tables that grow fast. It plans a statement once and keeps the plan; one made when a table was new reads
//! all of it for every row that is looked for. Its own autovacuum notices after a minute at the earliest.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, Statement};

use super::Db;

/// How often is looked for tables that have grown.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A table has grown when so many rows have changed since PostgreSQL last looked, and twice as many as it had then.
const CHANGED_MIN: i64 = 1_000;
const CHANGED_SHARE: i64 = 2;

impl Db {
    /// Has PostgreSQL look at tables that have grown, again and again.
    pub(super) async fn keep_statistics(&self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.analyze_what_has_grown().await {
                tracing::debug!(%error, "tables that have grown could not be analysed; it is tried again");
            }
        }
    }

    /// Has PostgreSQL look at the tables that have grown, and gives their names. What another node is looking at is left out.
    pub async fn analyze_what_has_grown(&self) -> Result<Vec<String>, DbErr> {
        let sql = format!(
            "SELECT format('%I.%I', s.schemaname, s.relname) AS name FROM pg_stat_user_tables s \
             JOIN pg_class c ON c.oid = s.relid WHERE s.schemaname = current_schema() \
             AND s.n_mod_since_analyze > {CHANGED_MIN} + {CHANGED_SHARE} * greatest(c.reltuples, 0) ORDER BY 1"
        );
        let rows = self.reader.query_all_raw(Statement::from_string(DatabaseBackend::Postgres, sql)).await?;
        let names: Vec<String> = rows.iter().map(|row| row.try_get("", "name")).collect::<Result<_, _>>()?;
        for name in &names {
            self.reader.execute_unprepared(&format!("ANALYZE (SKIP_LOCKED) {name}")).await?;
        }
        Ok(names)
    }
}
