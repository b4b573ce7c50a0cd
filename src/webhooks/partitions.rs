//! PostgreSQL's partitions of the log: events, their tokens and the tries stand in a table for each week, by the instant that their
//! id begins with. A week that is over for good is dropped whole, which costs nothing and leaves no room behind.
//!
//! Deliveries are one table: that an event is delivered to a subscription once is a unique key over all weeks. What no week takes, as
//! its week was not made in time, stands in a table for the rest and is deleted row by row.

use entity::id::Timestamp;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, Statement};
use uuid::Uuid;

use super::replays::first_id;
use super::retention::Retention;
use crate::db::{Db, Tx};

/// What a partition holds, in milliseconds.
pub const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// How far weeks are made ahead, in milliseconds: longer than nobody looks after the database.
pub const AHEAD_MS: i64 = 4 * WEEK_MS;
/// The same at a start, which does not wait for more than what is needed before the next look.
pub const AT_START_MS: i64 = 3_600_000;
/// The tables.
const TABLES: [&str; 3] = ["event", "signed_event", "attempt"];
/// The advisory lock of whoever makes or drops partitions: any number that nobody else uses.
const LOCK: i64 = 7_305_805_932_171;
/// How long to wait for others who use the tables; they must not wait long behind it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// A week since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Week(i64);

impl Week {
    const fn of(at: Timestamp) -> Self {
        Self(at.0.div_euclid(WEEK_MS))
    }

    /// Its first id, and the first one after it.
    fn bounds(self) -> (Uuid, Uuid) {
        (first_id(Timestamp(self.0 * WEEK_MS)), first_id(Timestamp((self.0 + 1) * WEEK_MS)))
    }

    fn table(self, of: &str) -> String {
        format!("{of}_w{}", self.0)
    }

    fn parse(table: &str, of: &str) -> Option<Self> {
        table.strip_prefix(of)?.strip_prefix("_w")?.parse().ok().map(Self)
    }

    /// Whether all of it is older than `cutoff`.
    const fn is_before(self, cutoff: Timestamp) -> bool {
        (self.0 + 1) * WEEK_MS <= cutoff.0
    }
}

/// The table of `of` that rows are deleted from one by one.
#[must_use]
pub const fn rest(backend: DatabaseBackend, of: &'static str) -> &'static str {
    match (backend, of.as_bytes()) {
        (DatabaseBackend::Postgres, b"event") => "event_rest",
        (DatabaseBackend::Postgres, b"signed_event") => "signed_event_rest",
        (DatabaseBackend::Postgres, b"attempt") => "attempt_rest",
        _ => of,
    }
}

/// Makes the partitions of this week and of those that begin in the next `ahead_ms`. Any number of nodes may do so at once.
pub async fn make(db: &Db, ahead_ms: i64) -> Result<(), DbErr> {
    if db.backend() != DatabaseBackend::Postgres {
        return Ok(());
    }
    let now = db.now();
    let (first, last) = (Week::of(now), Week::of(now.plus_ms(ahead_ms)));
    let weeks: Vec<Week> = (first.0..=last.0).map(Week).collect();
    let wanted = weeks.iter().flat_map(|week| TABLES.map(|of| (of, *week)));
    let mut missing = Vec::new();
    for of in TABLES {
        let known = weeks_of(db, of).await?;
        missing.extend(wanted.clone().filter(|(table, week)| *table == of && !known.contains(week)));
    }
    for (of, week) in missing {
        let tx = begin(db).await?;
        let (from, to) = week.bounds();
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} PARTITION OF {of} FOR VALUES FROM ('{from}') TO ('{to}')",
            week.table(of)
        );
        // Rows of that week may stand in the rest, where they can stay.
        if let Err(error) = tx.conn().execute_unprepared(&sql).await {
            tracing::warn!(%error, table = week.table(of), "a partition could not be made; its rows go to the rest");
            continue;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Drops the weeks that are older than `retention` says and that no delivery needs any more; says how many tables those were. Any
/// number of nodes may do so at once.
pub async fn drop_old(db: &Db, retention: Retention) -> Result<u64, DbErr> {
    if db.backend() != DatabaseBackend::Postgres {
        return Ok(0);
    }
    let mut dropped = 0;
    for week in weeks_of(db, "attempt").await? {
        if week.is_before(retention.before(db.now(), retention.deliveries)) {
            dropped += done(drop_attempts(db, week).await);
        }
    }
    for week in weeks_of(db, "event").await? {
        if week.is_before(retention.before(db.now(), retention.events)) {
            dropped += done(drop_events(db, week).await);
        }
    }
    Ok(dropped)
}

/// What cannot be dropped now, as somebody uses it, is the next time.
fn done(dropped: Result<u64, DbErr>) -> u64 {
    dropped.unwrap_or_else(|error| {
        tracing::warn!(%error, "a week of the log could not be dropped; the next clean-up tries again");
        0
    })
}

async fn begin(db: &Db) -> Result<Tx, DbErr> {
    let tx = db.write().await?;
    tx.conn().execute_unprepared(LOCK_TIMEOUT).await?;
    tx.conn().execute_unprepared(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    Ok(tx)
}

/// The weeks that have a partition of `of`, the oldest first.
async fn weeks_of(db: &Db, of: &str) -> Result<Vec<Week>, DbErr> {
    let sql = "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               WHERE i.inhparent = to_regclass($1)";
    let statement = Statement::from_sql_and_values(DatabaseBackend::Postgres, sql, [of.into()]);
    let rows = db.read().query_all_raw(statement).await?;
    let names = rows.iter().map(|row| row.try_get::<String>("", "name")).collect::<Result<Vec<_>, _>>()?;
    let mut weeks: Vec<Week> = names.iter().filter_map(|name| Week::parse(name, of)).collect();
    weeks.sort_unstable_by_key(|week| week.0);
    Ok(weeks)
}

/// Whether the query `sql` finds anything.
async fn is_any(tx: &Tx, sql: &str) -> Result<bool, DbErr> {
    let statement = Statement::from_string(DatabaseBackend::Postgres, sql);
    Ok(tx.conn().query_one_raw(statement).await?.is_some())
}

/// Whether another node has dropped `table` meanwhile.
async fn is_gone(tx: &Tx, table: &str) -> Result<bool, DbErr> {
    is_any(tx, &format!("SELECT 1 AS gone WHERE to_regclass('{table}') IS NULL")).await
}

/// Drops the tries of deliveries that were made in `week`, unless one of these is still there.
async fn drop_attempts(db: &Db, week: Week) -> Result<u64, DbErr> {
    let table = week.table("attempt");
    let tx = begin(db).await?;
    if is_gone(&tx, &table).await? {
        return Ok(0);
    }
    let needed = format!(
        "SELECT 1 AS needed FROM {table} a JOIN delivery d ON d.site_id = a.site_id AND d.id = a.delivery_id LIMIT 1"
    );
    if is_any(&tx, &needed).await? {
        return Ok(0);
    }
    tx.conn().execute_unprepared(&format!("DROP TABLE {table}")).await?;
    tx.commit().await?;
    Ok(1)
}

/// Drops the events of `week` with their tokens, unless one of them has a delivery.
async fn drop_events(db: &Db, week: Week) -> Result<u64, DbErr> {
    let (from, to) = week.bounds();
    let tx = begin(db).await?;
    if is_gone(&tx, &week.table("event")).await? {
        return Ok(0);
    }
    // A replay reads events and makes deliveries of them in one transaction: from now on there is none.
    tx.conn().execute_unprepared("LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await?;
    let needed =
        format!("SELECT 1 AS needed FROM delivery WHERE event_id >= '{from}' AND event_id < '{to}' LIMIT 1");
    if is_any(&tx, &needed).await? {
        return Ok(0);
    }
    for of in ["signed_event", "event"] {
        tx.conn().execute_unprepared(&format!("DROP TABLE IF EXISTS {}", week.table(of))).await?;
    }
    tx.commit().await?;
    Ok(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_a_range_of_ids() {
        let week = Week::of(Timestamp(1_722_513_101_431));
        let (from, to) = week.bounds();
        for at in [week.0 * WEEK_MS, (week.0 + 1) * WEEK_MS - 1] {
            assert_eq!(Week::of(Timestamp(at)), week);
            assert!(from <= first_id(Timestamp(at)) && first_id(Timestamp(at)) < to);
        }
        assert_eq!(Week::parse(&week.table("event"), "event"), Some(week));
        assert_eq!(Week::parse("event_rest", "event"), None);
        assert_eq!(Week::parse(&week.table("signed_event"), "event"), None);
    }

    #[test]
    fn a_week_is_over_when_its_last_instant_is() {
        let week = Week(10);
        assert!(!week.is_before(Timestamp(11 * WEEK_MS - 1)));
        assert!(week.is_before(Timestamp(11 * WEEK_MS)));
    }
}
