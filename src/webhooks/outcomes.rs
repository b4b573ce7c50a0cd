//! What came of the tries is written, many together, and then counts for the queues.

use std::time::Duration;

use tokio::sync::mpsc;

use super::delivery::{self, Outcome, Verdict, Written};
use super::dispatcher::Dispatcher;
use crate::db::Db;

/// How long outcomes are gathered, and how many, before they are written.
const WAIT: Duration = Duration::from_millis(20);
const TOGETHER_MAX: usize = 256;
/// Outcomes that may wait to be written; then tries wait too.
pub(super) const QUEUE_MAX: usize = 1_024;
/// Pause before outcomes that could not be written are written again.
const RETRY: Duration = Duration::from_millis(200);
/// Times that outcomes are written together before each is written alone.
const TRIES_MAX: u32 = 5;

/// What came of writing outcomes, and whether none was let go.
#[derive(Default)]
struct Batch {
    is_all: bool,
    written: Written,
}

/// Writes outcomes as they come, many together, and tells the queues.
pub(super) async fn write(dispatcher: Dispatcher, db: Db, mut unwritten: mpsc::Receiver<Outcome>) {
    let mut outcomes = Vec::with_capacity(TOGETHER_MAX);
    while unwritten.recv_many(&mut outcomes, TOGETHER_MAX).await > 0 {
        let deadline = tokio::time::Instant::now() + WAIT;
        while outcomes.len() < TOGETHER_MAX {
            match tokio::time::timeout_at(deadline, unwritten.recv()).await {
                Ok(Some(outcome)) => outcomes.push(outcome),
                Ok(None) | Err(_) => break,
            }
        }
        let Batch { is_all, written } = write_batch(&dispatcher, &db, &outcomes).await;
        let now = db.now();
        let mut has_gone = false;
        {
            let mut state = dispatcher.lock();
            // Another node may have deleted them, and nobody else would take them from this one.
            for subscription in &written.deleted {
                state.disown(*subscription);
            }
            for outcome in &outcomes {
                let delivery = &outcome.job.lease.delivery_id;
                let is_superseded = written.superseded.contains(delivery);
                let next = match outcome.verdict {
                    _ if !is_all || is_superseded => Some(now),
                    Verdict::Retry(at) => Some(at),
                    Verdict::Delivered | Verdict::Exhausted | Verdict::Gone => None,
                };
                state.written(&outcome.job, outcome.verdict != Verdict::Delivered, next);
                if outcome.verdict == Verdict::Gone {
                    has_gone = true;
                    if is_superseded || !written.counted.contains(delivery) {
                        // Nothing will follow from it, so that nobody else would have the others go on.
                        state.forget(outcome.job.target.subscription_id);
                    }
                }
            }
        }
        if has_gone {
            dispatcher.wake();
        }
        outcomes.clear();
        dispatcher.0.idle.notify_waiters();
        dispatcher.pump();
    }
}

/// Writes the outcomes together; when that keeps failing, each alone, so that one that cannot be written holds up nobody
/// else. What is let go is tried again.
async fn write_batch(dispatcher: &Dispatcher, db: &Db, outcomes: &[Outcome]) -> Batch {
    for _ in 0..TRIES_MAX {
        let error = match db.in_time(delivery::write_outcomes(db, outcomes)).await {
            Ok(written) => return Batch { is_all: true, written },
            Err(error) => error,
        };
        tracing::warn!(%error, outcomes = outcomes.len(), "outcomes could not be written; trying again");
        if dispatcher.lock().is_stopping {
            return Batch::default();
        }
        let _ = tokio::time::timeout(RETRY, std::future::pending::<()>()).await;
    }
    let mut batch = Batch { is_all: true, written: Written::default() };
    for outcome in outcomes {
        match delivery::write_outcomes(db, std::slice::from_ref(outcome)).await {
            Ok(Written { counted, superseded, deleted }) => {
                batch.written.counted.extend(counted);
                batch.written.superseded.extend(superseded);
                batch.written.deleted.extend(deleted);
            }
            Err(error) => {
                let delivery = outcome.job.lease.delivery_id;
                tracing::error!(%error, delivery.id = %delivery, "an outcome is let go; its delivery is tried again");
                batch.is_all = false;
            }
        }
    }
    batch
}
