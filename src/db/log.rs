//! SQLite's write-ahead log, copied back beside the writer rather than in its way.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, DbErr, Statement};

use super::Db;
use crate::outages;

/// How often what is in SQLite's write-ahead log is copied back.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
/// Pages in the log at which writers wait a moment so that it starts anew (64 MiB).
const LOG_PAGES: i64 = 16_000;
/// Pages for which they may have to wait then, and how often it is tried to get down to them.
const LOG_PAGES_LEFT: i64 = 1_000;
const LOG_COPIES_MAX: usize = 4;

impl Db {
    /// Copies what SQLite has in its write-ahead log back into the file, again and again, beside the writer rather than in
    /// its way.
    pub(super) async fn keep_log_short(&self) {
        let mut ticks = tokio::time::interval(CHECKPOINT_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = outages::COPIES.note(self.checkpoint(LOG_PAGES).await) {
                tracing::warn!(%error, "the write-ahead log could not be copied back; it is tried again");
            }
        }
    }

    /// Copies back what is in the log, and starts it anew when it has `restart_at` pages.
    async fn checkpoint(&self, restart_at: i64) -> Result<(), DbErr> {
        let mut log = Log::copy_back(&self.reader, "PASSIVE").await?;
        // What was written in the meantime is copied too, so that little is left for which writers have to wait.
        for _ in 0..LOG_COPIES_MAX {
            if log.pages < restart_at || log.pages - log.copied < LOG_PAGES_LEFT {
                break;
            }
            log = Log::copy_back(&self.reader, "PASSIVE").await?;
        }
        if log.pages >= restart_at {
            // On the connection of the writers, in turn with them: whoever waits for SQLite's lock from elsewhere looks at it
            // now and then, and hardly ever finds it free while they are busy.
            Log::copy_back(&self.writer, "RESTART").await?;
        }
        Ok(())
    }
}

/// SQLite's write-ahead log.
struct Log {
    pages: i64,
    copied: i64,
}

impl Log {
    async fn copy_back(connection: &DatabaseConnection, mode: &str) -> Result<Self, DbErr> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let answer = connection.query_one_raw(Statement::from_string(DatabaseBackend::Sqlite, sql)).await?;
        let count = |name| answer.as_ref().map_or(Ok(0), |row| row.try_get("", name));
        Ok(Self { pages: count("log")?, copied: count("checkpointed")? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use sea_orm::ConnectionTrait as _;

    use super::*;
    use crate::app::Seams;

    #[tokio::test]
    async fn the_log_starts_anew_however_busy_the_writer_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data.db");
        let seams = Seams::default();
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let db = Db::open(&url, seams.clock, seams.ids).await.expect("the database opens");
        let run = |sql: &'static str| {
            let db = db.clone();
            async move {
                let tx = db.write().await.expect("a transaction");
                tx.conn().execute_unprepared(sql).await.expect("it runs");
                tx.commit().await.expect("it is committed");
            }
        };
        run("CREATE TABLE t (words text)").await;
        let (is_done, written) = (AtomicBool::new(false), AtomicI64::new(0));
        let write = async {
            while !is_done.load(Ordering::Relaxed) {
                run("INSERT INTO t VALUES (hex(zeroblob(20000)))").await;
                written.fetch_add(10, Ordering::Relaxed);
            }
        };
        let copy = async {
            while written.load(Ordering::Relaxed) < 2_000 {
                db.checkpoint(100).await.expect("it is copied");
            }
            is_done.store(true, Ordering::Relaxed);
        };
        tokio::join!(write, copy);
        let log = folder.path().join("data.db-wal").metadata().expect("the log exists").len() / 4_096;
        assert!(log < 1_000, "at least 2,000 pages went through a log of {log}");
        db.close().await.expect("it closes");
    }
}
