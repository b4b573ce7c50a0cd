//! The only source of time. What is stored or compared with something stored comes from here, so that tests decide
//! what time it is.

use std::sync::atomic::{AtomicI64, Ordering};

use entity::id::Timestamp;

/// Tells the time in whole milliseconds.
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;

    /// Learns that it is `ms` milliseconds behind the clock that counts, or ahead when negative.
    fn correct(&self, _ms: i64) {}
}

/// The machine's clock, corrected by what it was told of its error.
#[derive(Debug, Default)]
pub struct SystemClock {
    behind_ms: AtomicI64,
}

impl SystemClock {
    /// A clock that is `ms` milliseconds ahead of the machine's, as if that were wrong.
    #[must_use]
    pub const fn ahead_by(ms: i64) -> Self {
        Self { behind_ms: AtomicI64::new(ms) }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp(chrono::Utc::now().timestamp_millis() + self.behind_ms.load(Ordering::Relaxed))
    }

    fn correct(&self, ms: i64) {
        self.behind_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// A clock that moves when told to.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `start`.
    #[must_use]
    pub const fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.0))
    }

    /// Moves the clock by `ms` milliseconds, backwards when negative.
    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}
