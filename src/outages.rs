//! Faults of the database that pass by themselves or when its operator has seen to it: it cannot be reached, or it takes nothing more. Whoever
//! asked may come back, and whoever watches over the service is told.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

/// A fault of the database that is nobody's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It cannot be reached, ends, begins, or is locked.
    Unreachable,
    /// It can be read and takes nothing more: its disk is full or fails, or it is a copy that only reads.
    Refusing,
}

/// SQLite's codes without what extends them: busy, not to be opened.
const SQLITE_UNREACHABLE: [u32; 2] = [5, 14];
/// Read-only, an error of the disk, full.
const SQLITE_REFUSING: [u32; 3] = [8, 10, 13];
/// PostgreSQL's: `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`.
const POSTGRES_UNREACHABLE: [&str; 3] = ["57P01", "57P02", "57P03"];
/// The class of lost connections.
const POSTGRES_CONNECTION: &str = "08";
/// `disk_full`, `read_only_sql_transaction`.
const POSTGRES_REFUSING: [&str; 2] = ["53100", "25006"];
/// Characters of PostgreSQL's codes; SQLite's are shorter.
const POSTGRES_CODE: usize = 5;

impl Outage {
    /// The outage that is behind `error`, if one is.
    #[must_use]
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let of_database =
                error.downcast_ref::<DbErr>().or_else(|| error.downcast_ref::<Arc<DbErr>>().map(Arc::as_ref));
            if let Some(error) = of_database {
                return Self::of(error);
            }
            next = error.source();
        }
        None
    }

    /// What `error` is of these, if it is.
    #[must_use]
    pub fn of(error: &DbErr) -> Option<Self> {
        let error = match error {
            DbErr::ConnectionAcquire(_) => return Some(Self::Unreachable),
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => error,
            _ => return None,
        };
        match &**error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Some(Self::Unreachable),
            sqlx::Error::Database(error) => Self::of_code(&error.code()?),
            _ => None,
        }
    }

    fn of_code(code: &str) -> Option<Self> {
        if code.len() == POSTGRES_CODE {
            return if POSTGRES_REFUSING.contains(&code) {
                Some(Self::Refusing)
            } else if POSTGRES_UNREACHABLE.contains(&code) || code.starts_with(POSTGRES_CONNECTION) {
                Some(Self::Unreachable)
            } else {
                None
            };
        }
        let code = code.parse::<u32>().ok()? & 0xff;
        if SQLITE_REFUSING.contains(&code) {
            Some(Self::Refusing)
        } else if SQLITE_UNREACHABLE.contains(&code) {
            Some(Self::Unreachable)
        } else {
            None
        }
    }
}

/// What was refused the last time, until it is done again. A process serves one database, whatever the number of its connections.
pub struct Refusals {
    is_any: AtomicBool,
    last: Mutex<Option<String>>,
}

/// Refusals of what was to be written.
pub static WRITES: Refusals = Refusals::new();
/// Refusals to copy SQLite's log back.
pub static COPIES: Refusals = Refusals::new();

impl Refusals {
    const fn new() -> Self {
        Self { is_any: AtomicBool::new(false), last: Mutex::new(None) }
    }

    /// Notes whether it was `done`, which is given back.
    pub fn note<T>(&self, done: Result<T, DbErr>) -> Result<T, DbErr> {
        match &done {
            Ok(_) if self.is_any.load(Ordering::Relaxed) => self.set(None),
            Ok(_) => {}
            Err(error) => self.note_error(error),
        }
        done
    }

    /// Notes `error` if a refusal is behind it.
    pub fn note_error(&self, error: &(dyn Error + 'static)) {
        if Outage::behind(error) == Some(Outage::Refusing) {
            self.set(Some(error.to_string()));
        }
    }

    fn set(&self, refusal: Option<String>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_any.store(refusal.is_some(), Ordering::Relaxed);
        *last = refusal;
    }

    /// What was refused, in the words of the database.
    #[must_use]
    pub fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnAcquireErr;

    use super::*;

    #[test]
    fn codes_of_both_databases_are_told_apart() {
        for (code, outage) in [
            ("13", Some(Outage::Refusing)),
            ("8", Some(Outage::Refusing)),
            ("1032", Some(Outage::Refusing)),
            ("778", Some(Outage::Refusing)),
            ("5", Some(Outage::Unreachable)),
            ("517", Some(Outage::Unreachable)),
            ("19", None),
            ("2067", None),
            ("53100", Some(Outage::Refusing)),
            ("25006", Some(Outage::Refusing)),
            ("57P01", Some(Outage::Unreachable)),
            ("57P02", Some(Outage::Unreachable)),
            ("57P03", Some(Outage::Unreachable)),
            ("08006", Some(Outage::Unreachable)),
            ("57014", None),
            ("23505", None),
            ("40001", None),
            ("", None),
        ] {
            assert_eq!(Outage::of_code(code), outage, "{code}");
        }
    }

    #[test]
    fn an_outage_is_found_behind_what_it_has_led_to() {
        #[derive(Debug, thiserror::Error)]
        #[error("it could not be stored")]
        struct Stored(#[source] Arc<DbErr>);
        let io = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let lost = || DbErr::Query(RuntimeErr::SqlxError(Arc::new(io())));
        assert_eq!(Outage::behind(&lost()), Some(Outage::Unreachable));
        assert_eq!(Outage::behind(&Arc::new(lost())), Some(Outage::Unreachable));
        assert_eq!(Outage::behind(&Stored(Arc::new(lost()))), Some(Outage::Unreachable));
        let busy = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        assert_eq!(Outage::behind(&busy), Some(Outage::Unreachable));
        assert_eq!(Outage::behind(&DbErr::RecordNotFound("it".to_owned())), None);
        assert_eq!(Outage::behind(&std::io::Error::other("a file")), None);
    }

    #[test]
    fn a_refusal_is_remembered_until_it_is_done() {
        let refusals = Refusals::new();
        let lost = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        assert!(refusals.note::<()>(Err(lost)).is_err());
        assert_eq!(refusals.last(), None, "whoever cannot reach it sees that without");
        refusals.set(Some("database or disk is full".to_owned()));
        assert_eq!(refusals.last().as_deref(), Some("database or disk is full"));
        assert!(refusals.note(Ok(())).is_ok());
        assert_eq!(refusals.last(), None);
    }
}
