//! How long what platforms sent is kept, and when nobody is waited for any longer.
//!
//! Everything is found by an index that holds nothing but what is still to be done, and is done a little at a time, so that
//! nobody waits long for the writer.

use std::time::Duration;

use entity::id::Timestamp;
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, Statement};

use crate::db::{Db, Tx};
use crate::webhooks::replays::first_id;

/// How long the bytes that a platform signed are kept, in milliseconds: 7 days.
pub const BODIES_MS: i64 = 7 * 24 * 3_600_000;
/// Rows that one transaction changes.
pub const AT_ONCE: u64 = 500;
/// Why nothing came of what nobody came forward for.
pub const NOBODY: &str = "nobody came forward within 30 days";

/// What was taken away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Things that nobody is waited for any longer.
    pub expired: u64,
    /// Deliveries that lost their bytes.
    pub bodies: u64,
    /// Deliveries, without their things.
    pub deliveries: u64,
    /// Things that platforms sent.
    pub items: u64,
    /// Things that we had fetched, which are only remembered by their key from now on.
    pub emptied: u64,
    /// Activities of nobody.
    pub activities: u64,
}

/// Takes away everything that is too old: what is done with after `kept`, bytes after [`BODIES_MS`]. Any number of nodes may
/// do so at once.
///
/// What we fetched ourselves is emptied, but its key stays: the platform lists it again and again, and it must not count as new.
pub async fn clean_up(db: &Db, kept: Duration) -> Result<Removed, DbErr> {
    let end = db.now().plus_ms(-i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let mut removed = Removed { expired: expire(db).await?, ..Removed::default() };
    let bodies_end = db.now().plus_ms(-BODIES_MS);
    removed.bodies = in_parts(
        db,
        "UPDATE raw_delivery SET body = NULL WHERE id IN (SELECT id FROM raw_delivery \
         WHERE body IS NOT NULL AND received_at < $1 ORDER BY received_at LIMIT $2)",
        &[bodies_end.0.into()],
    )
    .await?;
    removed.deliveries = in_parts(
        db,
        "DELETE FROM raw_delivery WHERE id IN (SELECT id FROM raw_delivery WHERE id < $1 ORDER BY id LIMIT $2)",
        &[first_id(end).into()],
    )
    .await?;
    (removed.items, removed.emptied) = forget_items(db, end).await?;
    removed.activities = in_parts(
        db,
        "DELETE FROM activity WHERE (site_id, id) IN (SELECT site_id, id FROM activity \
         WHERE outcome = 'UNMATCHED' AND created_at < $1 ORDER BY created_at LIMIT $2)",
        &[end.0.into()],
    )
    .await?;
    Ok(removed)
}

/// Gives up what waits for somebody and has waited long enough.
async fn expire(db: &Db) -> Result<u64, DbErr> {
    in_parts(
        db,
        "UPDATE item SET status = 'DONE', reason = $3 WHERE status = 'PARKED' AND id IN (SELECT id FROM item \
         WHERE status = 'PARKED' AND expires_at <= $1 ORDER BY expires_at LIMIT $2)",
        &[db.now().0.into(), NOBODY.into()],
    )
    .await
}

/// Takes away things that were done with and came before `end`: how many were deleted, and how many emptied.
async fn forget_items(db: &Db, end: Timestamp) -> Result<(u64, u64), DbErr> {
    const OLD: &str = "SELECT id FROM item WHERE status = 'DONE' AND payload <> '' AND received_at < $1 \
                       ORDER BY received_at LIMIT $2";
    let (mut deleted, mut emptied) = (0, 0);
    loop {
        let tx = db.write().await?;
        let values: [Value; 2] = [end.0.into(), limit()];
        let found = tx.conn().query_all_raw(statement(&tx, OLD, &values)).await?.len();
        // What one of the two has forgotten is no longer old for the other: less than a full part is gone after both.
        let fetched = format!("UPDATE item SET payload = '' WHERE delivery_id IS NULL AND id IN ({OLD})");
        let some_emptied = run(&tx, &fetched, &values).await?;
        let sent = format!("DELETE FROM item WHERE delivery_id IS NOT NULL AND id IN ({OLD})");
        let some_deleted = run(&tx, &sent, &values).await?;
        tx.commit().await?;
        deleted += some_deleted;
        emptied += some_emptied;
        if u64::try_from(found).unwrap_or(0) < AT_ONCE {
            return Ok((deleted, emptied));
        }
    }
}

/// Runs `sql` again and again, each time in a transaction of its own, until it finds less than a full part. Its second
/// parameter is how many rows that is; `values` are the others.
async fn in_parts(db: &Db, sql: &str, values: &[Value]) -> Result<u64, DbErr> {
    let mut values = values.to_vec();
    values.insert(1, limit());
    let mut changed = 0;
    loop {
        let tx = db.write().await?;
        let some = run(&tx, sql, &values).await?;
        tx.commit().await?;
        changed += some;
        if some < AT_ONCE {
            return Ok(changed);
        }
    }
}

fn limit() -> Value {
    i64::try_from(AT_ONCE).unwrap_or(i64::MAX).into()
}

/// Runs `sql` with `values`, whose parameters are numbered, and says how many rows it changed.
async fn run(tx: &Tx, sql: &str, values: &[Value]) -> Result<u64, DbErr> {
    Ok(tx.conn().execute_raw(statement(tx, sql, values)).await?.rows_affected())
}

fn statement(tx: &Tx, sql: &str, values: &[Value]) -> Statement {
    let backend = tx.conn().get_database_backend();
    let sql = if backend == DatabaseBackend::Postgres { sql.to_owned() } else { sql.replace('$', "?") };
    Statement::from_sql_and_values(backend, sql, values.iter().cloned())
}
