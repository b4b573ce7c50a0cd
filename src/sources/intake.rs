//! Calls that come at the same time are stored together: one transaction and one flush of the disk serve all that arrived while the
//! one before was written. A lone call is a batch of one and goes at once. What can be understood without asking the platform is
//! recorded in that transaction, too: its events are on their way when the call is acknowledged.

use std::sync::Arc;

use sea_orm::DbErr;

use super::Sources;
use crate::follows::WorkersError;
use crate::gather::{Gather, GatherError, GatherLimits};
use crate::inbox::{Call, Stored};

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
    /// Starts its worker on a thread of its own, with a connection of its own.
    pub async fn start(sources: &Sources) -> Result<Self, WorkersError> {
        let sources = sources.apart().await?;
        let run = move |calls: Vec<Call>| {
            let sources = sources.clone();
            async move { store_batch(&sources, calls).await }
        };
        Gather::start_on_thread(LIMITS, "intake", run).map(Self).map_err(WorkersError::Thread)
    }

    /// Stores `call`. When this returns, it may be acknowledged.
    pub async fn store(&self, call: Call) -> Result<Stored, IntakeError> {
        self.0.call(call).await?
    }
}

async fn store_batch(sources: &Sources, calls: Vec<Call>) -> Vec<Result<Stored, IntakeError>> {
    let mut results = Vec::with_capacity(calls.len());
    let mut rest = calls;
    while !rest.is_empty() {
        let after = rest.split_off(fitting(&rest));
        let stored = sources.store(std::mem::replace(&mut rest, after)).await;
        results.extend(stored.into_iter().map(|stored| stored.map_err(IntakeError::Store)));
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
