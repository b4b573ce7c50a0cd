//! Connections to PostgreSQL that no longer answer and are not closed either, as happens when whatever lies between has forgotten them: nobody
//! waits for such a connection for ever.
//!
//! The pool takes a connection back once the server has answered on it, however long that takes. So whoever gives up waiting makes the
//! pool suspicious: for a while what it gets back has to answer soon, or is closed, and its place is free for a new one. What rests is
//! asked before it is used; if one says nothing, those that rest for as long are closed unasked.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnAcquireErr, ConnectOptions, DatabaseBackend, DbErr};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, timeout};

use super::Db;

/// How long one piece of work on the database may take.
const WORK_MAX: Duration = Duration::from_secs(10);
/// How long a connection that is asked may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long a pool stays suspicious.
const SUSPICIOUS: Duration = Duration::from_secs(30);
/// After how much rest a connection is asked before it is used.
const IDLE_UNTIL_ASKED: Duration = Duration::from_secs(1);

/// What is held against the connections of a pool. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Suspicion(Arc<Mutex<Held>>);

#[derive(Clone, Copy, Default)]
struct Held {
    /// When somebody gave up waiting.
    given_up_at: Option<Instant>,
    /// When a connection did not answer.
    silent_at: Option<Instant>,
}

impl Suspicion {
    fn hold(&self, change: impl FnOnce(&mut Held)) -> Held {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut held);
        *held
    }

    fn raise(&self) {
        self.hold(|held| held.given_up_at = Some(Instant::now()));
    }

    /// Whether what comes back has to prove that it works.
    fn is_raised(&self) -> bool {
        self.hold(|_| {}).given_up_at.is_some_and(|at| at.elapsed() < SUSPICIOUS)
    }

    /// Whether what has rested for so long was there when another was found silent.
    fn condemns(&self, idle_for: Duration) -> bool {
        self.hold(|_| {}).silent_at.is_some_and(|at| at.elapsed() < idle_for)
    }

    async fn ask(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        match timeout(ANSWER_MAX, connection.ping()).await {
            Ok(answer) => answer.map(|()| true),
            Err(_) => {
                self.hold(|held| held.silent_at = Some(Instant::now()));
                Err(silent())
            }
        }
    }

    /// Has the pool of `options` look at it.
    pub(super) fn watch(&self, options: &mut ConnectOptions) {
        let suspicion = self.clone();
        options.test_before_acquire(false).map_sqlx_postgres_pool_opts(move |pool| {
            let (before, after) = (suspicion.clone(), suspicion.clone());
            pool.before_acquire(move |connection, rest| {
                let suspicion = before.clone();
                Box::pin(async move {
                    if suspicion.condemns(rest.idle_for) {
                        Err(silent())
                    } else if rest.idle_for >= IDLE_UNTIL_ASKED {
                        suspicion.ask(connection).await
                    } else {
                        Ok(true)
                    }
                })
            })
            .after_release(move |connection, _| {
                let suspicion = after.clone();
                Box::pin(async move {
                    if suspicion.is_raised() { suspicion.ask(connection).await } else { Ok(true) }
                })
            })
        });
    }
}

fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection says nothing").into()
}

/// Raises the suspicion when it is dropped before it is told that all went well.
struct Doubt<'a>(Option<&'a Suspicion>);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(suspicion) = self.0 {
            suspicion.raise();
        }
    }
}

impl Db {
    /// Does `work`, which uses this database, for as long as `max`; `None` says that it took longer. However it is given up, also
    /// because nobody waits for it any longer, the connection that it used has to answer or is closed.
    pub async fn within<T>(&self, max: Duration, work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        // Dropped before the work, which is the caller's: its connection is on its way back only then.
        let mut doubt = Doubt(Some(&self.suspicion));
        let done = timeout(max, work).await.ok()?;
        doubt.0 = None;
        Some(done)
    }

    /// Does `work` on this database, or fails when it takes too long; what was committed by then stays. SQLite has nothing to wait for.
    pub async fn in_time<T, E: From<DbErr>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if self.backend() == DatabaseBackend::Sqlite {
            return work.await;
        }
        let Some(done) = self.within(WORK_MAX, pin!(work)).await else {
            tracing::warn!(
                "the database did not answer in time; its connection is given up if it stays silent"
            );
            return Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout).into());
        };
        done
    }
}
