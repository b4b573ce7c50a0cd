//! The database: SQLite inside by default, PostgreSQL by configuration, one schema and the same behaviour.
//!
//! Reads take `&impl ConnectionTrait`. Writes take a [`Tx`], which is a transaction together with its one instant and
//! the id source, so that nothing is written, and no event recorded, outside a transaction. On SQLite a transaction
//! takes the write lock at once (`BEGIN IMMEDIATE`) on the only writing connection; a commit is on disk
//! (`synchronous=FULL`) before it returns.

mod deadline;
mod file;
mod log;
pub mod lookup;
mod schema;
mod statistics;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use entity::id::Timestamp;
use migration::{Migrator, MigratorTrait as _};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait as _, Database, DatabaseBackend, DatabaseConnection,
    DatabaseTransaction, DbErr, IsolationLevel, RuntimeErr, SqlErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use sqlx::Connection as _;
use uuid::Uuid;

use self::deadline::Suspicion;
use self::file::{FileLock, lock_file};
pub use self::file::{check_url, sqlite_path};
use crate::clock::Clock;
use crate::ids::{self, IdGenerator};
use crate::outages;

/// Readers beside the writer on SQLite.
const SQLITE_READERS: u32 = 3;
/// Memory for pages, in KiB and negative as SQLite wants it; what does not fit is read from the system's cache.
const SQLITE_WRITER_CACHE: &str = "-4000";
const SQLITE_READER_CACHE: &str = "-2000";
/// Statements that a connection to SQLite keeps prepared.
const SQLITE_STATEMENTS: usize = 24;
/// Rows that a query on SQLite may be ahead of who reads them.
const SQLITE_ROWS_AHEAD: usize = 64;
/// Connections to PostgreSQL per node.
const POSTGRES_CONNECTIONS: u32 = 16;
/// Connections to PostgreSQL that a worker may open beyond what it uses at once: one that falls silent just as it is given back keeps
/// its place until the system gives it up, which takes a quarter of an hour.
const WORKER_SPARE: u32 = 2;
/// How long a caller waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a transaction on PostgreSQL may do nothing before the server ends it, in milliseconds: its node sleeps or has lost
/// its network, and others wait for what it holds.
const IDLE_IN_TRANSACTION_MS: &str = "5000";
/// How far a node's clock may be from the database's, in milliseconds.
const CLOCK_ERROR_MS: i64 = 100;
/// How far ahead of this node's clock something may have happened on another node, in milliseconds: both may be wrong, and it may have
/// waited for a lock.
const AHEAD_MS_MAX: i64 = 1_000;
/// Pause before a lost connection for notifications is opened again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// The advisory lock of the migration on PostgreSQL: any number that nobody else uses.
const MIGRATION_LOCK: i64 = 7_305_805_932_170;
/// Times a transaction that lost a race is run, in all.
pub const TRIES_MAX: usize = 5;
/// Pages in the log at which a writer copies them back itself, should nobody else do so (128 MiB).
const LOG_PAGES_MAX: &str = "32000";

/// Why the database could not be opened, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is neither SQLite nor PostgreSQL.
    #[error("FOLLOWPOINTS_DATABASE_URL must start with sqlite:// or postgres://")]
    UnknownScheme,
    /// The URL says that the file exists, or that nothing may be written.
    #[error("{0}")]
    Mode(String),
    /// Another process serves from the file.
    #[error("{} is in use by another followpoints process; stop it first", .0.display())]
    InUse(PathBuf),
    /// The file or its folder cannot be written.
    #[error("cannot write {}: {source}; check the folder's permissions and that the disk is not read-only", path.display())]
    NotWritable {
        /// What was tried.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database did not answer.
    #[error("cannot open the database: {0}; check FOLLOWPOINTS_DATABASE_URL and that the server runs")]
    Unreachable(DbErr),
    /// The schema is older than this program.
    #[error(
        "the database schema is {0} step(s) behind; run `followpoints migrate` with the same FOLLOWPOINTS_DATABASE_URL"
    )]
    NotMigrated(usize),
    /// The schema was made by a newer program.
    #[error("cannot read the database's migrations: {0}; was it made by a newer followpoints?")]
    Migration(DbErr),
}

/// The open database, the clock and the id source. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    url: Arc<str>,
    /// What [`Db::for_worker`] opened, to be closed with the rest.
    of_workers: Arc<Mutex<Vec<DatabaseConnection>>>,
    lock: Option<Arc<FileLock>>,
    /// Of the pool of `writer`.
    suspicion: Suspicion,
}

impl Db {
    /// Opens the database at `url` without looking at its schema. On SQLite the file is created if it is absent, and a
    /// lock file beside it keeps a second process out.
    pub async fn open(
        url: &str,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGenerator>,
    ) -> Result<Self, OpenError> {
        let lock = lock_file(url)?;
        Ok(Self { lock: lock.map(Arc::new), ..Self::open_beside(url, clock, ids).await? })
    }

    /// Opens the database for a short command, also while a service runs on it.
    pub async fn open_beside(
        url: &str,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGenerator>,
    ) -> Result<Self, OpenError> {
        if url.starts_with("sqlite:") {
            check_url(url)?;
            let writer = sqlite(url, 1, SQLITE_WRITER_CACHE).await?;
            let reader = sqlite(url, SQLITE_READERS, SQLITE_READER_CACHE).await?;
            Ok(Self {
                reader,
                writer,
                clock,
                ids,
                url: url.into(),
                of_workers: Arc::default(),
                lock: None,
                suspicion: Suspicion::default(),
            })
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let suspicion = Suspicion::default();
            let options = postgres_options(url, POSTGRES_CONNECTIONS, &suspicion);
            let pool = connect_to_server(url, options).await?;
            Ok(Self {
                reader: pool.clone(),
                writer: pool,
                clock,
                ids,
                url: url.into(),
                of_workers: Arc::default(),
                lock: None,
                suspicion,
            })
        } else {
            Err(OpenError::UnknownScheme)
        }
    }

    /// The same database for a worker that uses so many `connections` at once. On PostgreSQL it gets connections of its own, with some to
    /// spare, opened and watched by the runtime that uses them; SQLite has but one writer.
    pub async fn for_worker(&self, connections: u32) -> Result<Self, OpenError> {
        if self.backend() == DatabaseBackend::Sqlite {
            return Ok(self.clone());
        }
        let suspicion = Suspicion::default();
        let mut options = postgres_options(&self.url, connections + WORKER_SPARE, &suspicion);
        options.min_connections(0).connect_lazy(true);
        let own = Database::connect(options).await.map_err(OpenError::Unreachable)?;
        self.of_workers.lock().unwrap_or_else(PoisonError::into_inner).push(own.clone());
        Ok(Self { reader: own.clone(), writer: own, suspicion, ..self.clone() })
    }

    /// Brings the schema at `url` up to date, on a connection of its own that is closed afterwards. On SQLite no service may
    /// run on the file.
    pub async fn prepare(url: &str) -> Result<(), OpenError> {
        let _lock = lock_file(url)?;
        let connection = if url.starts_with("sqlite:") {
            sqlite(url, 1, SQLITE_WRITER_CACHE).await?
        } else {
            connect_to_server(url, options(url, 1)).await?
        };
        if connection.get_database_backend() == DatabaseBackend::Postgres {
            // Held until the connection closes: nodes that start together migrate one after the other.
            let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
            connection.execute_unprepared(&lock).await.map_err(OpenError::Unreachable)?;
        }
        Migrator::up(&connection, None).await.map_err(OpenError::Migration)?;
        connection.close().await.map_err(OpenError::Unreachable)
    }

    /// Fails unless every migration is applied, and no other: what a program may start on.
    pub async fn check_schema(&self) -> Result<(), OpenError> {
        match Migrator::get_pending_migrations_read_only(&self.reader)
            .await
            .map_err(OpenError::Migration)?
            .len()
        {
            0 => Ok(()),
            behind => Err(OpenError::NotMigrated(behind)),
        }
    }

    /// The connection for queries.
    #[must_use]
    pub const fn read(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Starts a write transaction. Dropping it rolls back.
    #[expect(clippy::disallowed_methods, reason = "the one place that opens transactions")]
    pub async fn write(&self) -> Result<Tx, DbErr> {
        let inner = if self.backend() == DatabaseBackend::Sqlite {
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            self.writer.begin_with_options(options).await?
        } else {
            self.writer.begin().await?
        };
        // Read after the lock is held, so that within one process time order and commit order agree.
        let now = AtomicI64::new(self.clock.now().0);
        let ids_from = AtomicI64::new(0);
        let ids_to = AtomicI64::new(0);
        Ok(Tx { inner, now, ids_from, ids_to, now_text: OnceLock::new(), ids: Arc::clone(&self.ids) })
    }

    /// Sets the clock by the database's, so that all nodes agree however wrong their own are. SQLite has no other clock.
    pub async fn keep_time(&self) -> Result<(), DbErr> {
        if self.backend() == DatabaseBackend::Sqlite {
            return Ok(());
        }
        let failed = |error: sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(error.into()));
        // Waiting for a connection is no part of the way there and back.
        let mut connection = self.reader.get_postgres_connection_pool().acquire().await.map_err(failed)?;
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let asked = self.now();
        let theirs: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await.map_err(failed)?;
        let answered = self.now();
        let behind_ms = theirs - i64::midpoint(asked.0, answered.0);
        // Whichever of the two ways took the time: what it may explain is no error.
        if behind_ms.abs() > CLOCK_ERROR_MS + (answered.0 - asked.0).abs() / 2 {
            tracing::info!(behind_ms, "the clock is set by the database's");
            self.clock.correct(behind_ms);
        }
        Ok(())
    }

    /// Does what either database needs done now and then, until it is dropped: SQLite's log is kept short, PostgreSQL told what
    /// has grown. SQLite needs no such telling: statements for it are written so that their plans do not depend on it.
    pub async fn keep_in_shape(&self) {
        if self.backend() == DatabaseBackend::Sqlite {
            self.keep_log_short().await;
        } else {
            self.keep_statistics().await;
        }
    }

    /// SQLite or PostgreSQL.
    #[must_use]
    pub fn backend(&self) -> DatabaseBackend {
        self.reader.get_database_backend()
    }

    /// The current instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new id, for what is not written in a transaction.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        self.ids.next_id(self.clock.now())
    }

    /// Closes every connection and lets another process have the file.
    pub async fn close(&self) -> Result<(), DbErr> {
        let of_workers = std::mem::take(&mut *self.of_workers.lock().unwrap_or_else(PoisonError::into_inner));
        let closed = async {
            for own in of_workers {
                own.close().await?;
            }
            self.reader.clone().close().await?;
            self.writer.clone().close().await
        };
        let closed = closed.await;
        if let Some(lock) = &self.lock {
            lock.release();
        }
        closed
    }

    /// Calls `heard` with what every notification on `channel` says, on a connection of its own that is opened again when it is lost; and
    /// with nothing each time it was opened, as some may have been missed. As long as it is open, the advisory lock `lock` is held. Only
    /// PostgreSQL notifies: on SQLite this ends at once.
    pub async fn listen(&self, channel: &str, lock: (i32, i32), heard: impl Fn(&str) + Send) {
        if self.backend() == DatabaseBackend::Sqlite {
            return;
        }
        loop {
            if let Err(error) = self.listen_once(channel, lock, &heard).await {
                tracing::debug!(%error, "notifications are lost for a moment");
            }
            let _ = tokio::time::timeout(LISTEN_RETRY, std::future::pending::<()>()).await;
        }
    }

    async fn listen_once(
        &self,
        channel: &str,
        (class, key): (i32, i32),
        heard: &(impl Fn(&str) + Send),
    ) -> Result<(), sqlx::Error> {
        let mut listener = sqlx::postgres::PgListener::connect(&self.url).await?;
        let hold = sqlx::query("SELECT pg_advisory_lock($1, $2)").bind(class).bind(key);
        sqlx::Executor::execute(&mut listener, hold).await?;
        listener.listen(channel).await?;
        heard("");
        while let Some(notification) = listener.try_recv().await? {
            heard(notification.payload());
        }
        Ok(())
    }
}

/// A write transaction with the one instant at which all in it happens.
pub struct Tx {
    inner: DatabaseTransaction,
    now: AtomicI64,
    /// Of which instant ids are at the least.
    ids_from: AtomicI64,
    /// Of which instant they are at the most.
    ids_to: AtomicI64,
    now_text: OnceLock<String>,
    ids: Arc<dyn IdGenerator>,
}

impl Tx {
    /// The connection to run statements on.
    #[must_use]
    pub const fn conn(&self) -> &DatabaseTransaction {
        &self.inner
    }

    /// The instant of this transaction.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    /// Has what this transaction does come after what happened `before` on another node, with ids until `latest_id_at`: the clock there may
    /// be ahead, or that transaction began later and was not made to wait. Ids are greater from here on, and the instant is not less. What is
    /// further ahead than clocks may be was told by a wrong one.
    pub fn come_after(&self, before: Timestamp, latest_id_at: Timestamp) {
        let may_be = self.now().0..self.now().0.saturating_add(AHEAD_MS_MAX);
        if may_be.contains(&before.0) {
            self.now.store(before.0, Ordering::Relaxed);
        }
        if may_be.contains(&latest_id_at.0) {
            self.ids_from.store(latest_id_at.0.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The same in RFC 3339.
    #[must_use]
    pub fn now_text(&self) -> &str {
        self.now_text.get_or_init(|| self.now().to_rfc3339())
    }

    /// A new id of this instant, or of a later one if it has to come after something.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        let id = self.ids.next_id(self.now().max(Timestamp(self.ids_from.load(Ordering::Relaxed))));
        self.ids_to.fetch_max(ids::instant_of(id).0, Ordering::Relaxed);
        id
    }

    /// The instant of the last id that was given, or of the transaction if none was. Ids may be ahead of the clock.
    #[must_use]
    pub fn latest_id_at(&self) -> Timestamp {
        self.now().max(Timestamp(self.ids_to.load(Ordering::Relaxed)))
    }

    /// Commits; the changes are durable when this returns.
    pub async fn commit(self) -> Result<(), DbErr> {
        outages::WRITES.note(self.inner.commit().await)
    }
}

/// A transaction that only reads: all of it as it was at one instant, while others write.
#[expect(clippy::disallowed_methods, reason = "nothing is written in it")]
pub async fn snapshot(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    if db.get_database_backend() == DatabaseBackend::Sqlite {
        return db.begin().await;
    }
    db.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)).await
}

fn options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

async fn sqlite(url: &str, connections: u32, cache: &'static str) -> Result<DatabaseConnection, OpenError> {
    let mut options = options(url, connections);
    options.idle_timeout(None).max_lifetime(None).map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .create_if_missing(true)
            .row_buffer_size(SQLITE_ROWS_AHEAD)
            .statement_cache_capacity(SQLITE_STATEMENTS)
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", "FULL")
            .pragma("foreign_keys", "ON")
            // Without it `REPLACE` removes rows past the triggers that guard the ledger.
            .pragma("recursive_triggers", "ON")
            .pragma("busy_timeout", "5000")
            .pragma("wal_autocheckpoint", LOG_PAGES_MAX)
            .pragma("cache_size", cache)
            .pragma("temp_store", "MEMORY")
    });
    // When a commit fails for want of room, SQLite ends the transaction by itself, and the driver counts it as open for ever
    // after: what it then calls a commit would only end a part of a transaction that nobody commits.
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                if connection.is_in_transaction() {
                    // A rollback may still be under way.
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            })
        })
    });
    Database::connect(options).await.map_err(OpenError::Unreachable)
}

/// Connects to PostgreSQL. The pool tries again until its time is over, and then tells nothing but that; so one more try tells why.
async fn connect_to_server(url: &str, options: ConnectOptions) -> Result<DatabaseConnection, OpenError> {
    let error = match Database::connect(options).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let alone = tokio::time::timeout(ACQUIRE_TIMEOUT, sqlx::PgConnection::connect(url)).await;
    let cause = alone.ok().and_then(Result::err);
    Err(OpenError::Unreachable(cause.map_or(error, |cause| DbErr::Conn(RuntimeErr::SqlxError(cause.into())))))
}

fn postgres_options(url: &str, connections: u32, suspicion: &Suspicion) -> ConnectOptions {
    let mut options = options(url, connections);
    suspicion.watch(&mut options);
    options.map_sqlx_postgres_opts(|postgres| {
        postgres.options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS)])
    });
    options
}

/// Whether running the transaction again can succeed: deadlock, serialization failure, or a unique key that another
/// node took first.
#[must_use]
pub fn lost_a_race(error: &DbErr) -> bool {
    if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return true;
    }
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let code = error.as_database_error().and_then(sea_orm::sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40P01" | "40001"))
}
