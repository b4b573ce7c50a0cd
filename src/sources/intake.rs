//! Calls that come at the same time are stored together: one transaction and one flush of the disk serve all that arrived while the
//! one before was written. A lone call is a batch of one and goes at once.

use std::sync::Arc;

use sea_orm::DbErr;

use super::{Call, Stored, store, store_together};
use crate::db::Db;
use crate::gather::{Gather, GatherError, GatherLimits};

/// Calls in a batch, and how many may wait, beyond which platforms are told to come back.
const LIMITS: GatherLimits = GatherLimits { batch_max: 64, queue_max: 1_024 };
/// Bytes that one transaction stores, and more only if a single call has more: who else writes must not wait long.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a call was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// Too much to do, or stopping.
    #[error(transparent)]
    Busy(#[from] GatherError),
    /// The database failed.
    #[error(transparent)]
    Store(Arc<DbErr>),
}

impl From<DbErr> for IntakeError {
    fn from(error: DbErr) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Takes calls in. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Gather<Call, Result<Stored, IntakeError>>);

impl Intake {
    /// Starts its worker on the running runtime.
    #[must_use]
    pub fn start(db: &Db) -> Self {
        let db = db.clone();
        Self(Gather::start(LIMITS, move |calls: Vec<Call>, _turn| {
            let db = db.clone();
            async move { store_batch(&db, &calls).await }
        }))
    }

    /// Stores `call`. When this returns, it may be acknowledged.
    pub async fn store(&self, call: Call) -> Result<Stored, IntakeError> {
        self.0.call(call).await?
    }
}

async fn store_batch(db: &Db, calls: &[Call]) -> Vec<Result<Stored, IntakeError>> {
    let mut results = Vec::with_capacity(calls.len());
    let mut rest = calls;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(fitting(rest));
        rest = after;
        match store_together(db, part).await {
            Ok(stored) => results.extend(stored.into_iter().map(Ok)),
            Err(error) if part.len() == 1 => results.push(Err(error.into())),
            Err(error) => {
                tracing::warn!(%error, calls = part.len(), "calls could not be stored together; each is tried alone");
                for call in part {
                    results.push(store(db, call).await.map_err(IntakeError::from));
                }
            }
        }
    }
    results
}

/// How many of `calls` one transaction stores.
fn fitting(calls: &[Call]) -> usize {
    let mut bytes = 0_usize;
    let is_within = |call: &&Call| {
        bytes = bytes.saturating_add(call.body.len());
        bytes <= BYTES_MAX
    };
    calls.iter().take_while(is_within).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_stores_what_fits_and_one_call_whatever_its_size() {
        let sizes = |sizes: &[usize]| -> Vec<Call> {
            let call = |size: &usize| Call { source: "test", body: vec![0; *size], items: Vec::new() };
            sizes.iter().map(call).collect()
        };
        assert_eq!(fitting(&sizes(&[1, 2, 3])), 3);
        assert_eq!(fitting(&sizes(&[BYTES_MAX])), 1);
        assert_eq!(fitting(&sizes(&[BYTES_MAX - 1, 1, 1])), 2);
        assert_eq!(fitting(&sizes(&[BYTES_MAX + 1, 1])), 1);
    }
}
