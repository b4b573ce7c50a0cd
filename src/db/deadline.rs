//! Connections to PostgreSQL that no longer answer and are not closed either, as happens when whatever lies between has forgotten them: nobody
//! waits for such a connection for ever.
//!
//! The pool takes a connection back once the server has answered on it. So whoever gave up waiting makes the pool suspicious: for a while
//! what it gets back has to answer soon, or is closed, and its place is free for a new one.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnAcquireErr, ConnectOptions, DatabaseBackend, DbErr};
use sqlx::Connection as _;
use tokio::time::{Instant, timeout};

use super::Db;

/// How long one piece of work on the database may take.
const WORK_MAX: Duration = Duration::from_secs(10);
/// How long a suspicious connection may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a pool stays suspicious.
const SUSPICIOUS: Duration = Duration::from_secs(30);

/// Until when what comes back to a pool has to prove that it works. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Suspicion(Arc<Mutex<Option<Instant>>>);

impl Suspicion {
    fn raise(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + SUSPICIOUS);
    }

    fn is_raised(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    /// Has the pool of `options` look at it.
    pub(super) fn watch(&self, options: &mut ConnectOptions) {
        let suspicion = self.clone();
        options.map_sqlx_postgres_pool_opts(move |pool| {
            let suspicion = suspicion.clone();
            pool.after_release(move |connection, _| {
                let is_raised = suspicion.is_raised();
                Box::pin(async move {
                    if is_raised {
                        timeout(ANSWER_MAX, connection.ping())
                            .await
                            .map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
        });
    }
}

impl Db {
    /// Does `work` on this database, or fails when it takes too long; what was committed by then stays. SQLite has nothing to wait for.
    pub async fn in_time<T, E: From<DbErr>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if self.backend() == DatabaseBackend::Sqlite {
            return work.await;
        }
        // Dropped after the suspicion is raised: its connection is on its way back by then.
        let mut work = pin!(work);
        match timeout(WORK_MAX, work.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                self.suspect();
                tracing::warn!(
                    "the database did not answer in time; its connection is given up if it stays silent"
                );
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout).into())
            }
        }
    }

    /// To be called before work on this database is given up.
    pub fn suspect(&self) {
        self.suspicion.raise();
    }
}
