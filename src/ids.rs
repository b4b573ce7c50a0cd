//! The only source of identifiers: `UUIDv7`, whose order is the order of creation.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use entity::id::Timestamp;
use uuid::{ContextV7, Uuid};

/// Makes identifiers.
pub trait IdGenerator: Send + Sync {
    /// A new id made at `at`; later calls of one process give greater ids while the clock does not go back.
    fn next_id(&self, at: Timestamp) -> Uuid;
}

/// The instant of an id, in whole milliseconds.
#[must_use]
pub fn instant_of(id: Uuid) -> Timestamp {
    let (high, _) = id.as_u64_pair();
    Timestamp(i64::try_from(high >> 16).unwrap_or(i64::MAX))
}

/// Production ids: our clock's milliseconds, a counter within the millisecond, random bits.
#[derive(Debug)]
pub struct RandomIds(Mutex<ContextV7>);

impl Default for RandomIds {
    fn default() -> Self {
        Self(Mutex::new(ContextV7::new()))
    }
}

impl IdGenerator for RandomIds {
    fn next_id(&self, at: Timestamp) -> Uuid {
        let ms = at.0.max(0).unsigned_abs();
        let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
        let context = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*context, ms / 1000, nanos))
    }
}

/// Test ids: our clock's milliseconds and a counter, so that whole bodies can be compared. They are in order as those of production are.
#[derive(Debug, Default)]
pub struct SequentialIds {
    count: AtomicU64,
    last_ms: AtomicU64,
}

impl IdGenerator for SequentialIds {
    fn next_id(&self, at: Timestamp) -> Uuid {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let at_ms = at.0.max(0).unsigned_abs();
        // A clock that is set back by more than a moment is part of a test.
        let last_ms = self.last_ms.fetch_max(at_ms, Ordering::SeqCst);
        let ms = if last_ms.saturating_sub(at_ms) < 1_000 { last_ms.max(at_ms) } else { at_ms };
        let mut random = [0_u8; 10];
        random[2..].copy_from_slice(&count.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }
}
