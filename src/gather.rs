//! Gathering of concurrent calls: while one batch runs, the calls that arrive form the next one. Nothing waits when
//! idle, so a lone call is a batch of one and goes at once.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

/// Why a call got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// More calls wait than the queue holds: the store is slower than the callers.
    #[error("too many calls are waiting")]
    Full,
    /// The service is stopping, or the batch was lost.
    #[error("the service is stopping")]
    Stopped,
}

type Call<Q, A> = (Q, oneshot::Sender<A>);

/// The callers' end of a gathered operation. Cheap to clone.
pub struct Gather<Q, A> {
    queue: mpsc::Sender<Call<Q, A>>,
}

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// How calls are gathered.
#[derive(Debug, Clone, Copy)]
pub struct GatherLimits {
    /// Batches that may run at once.
    pub workers: usize,
    /// Calls in one batch at the most.
    pub batch_max: usize,
    /// Calls that may wait.
    pub queue_max: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Starts the workers. `run` gets the calls of a batch in order of arrival and gives one answer each, in order.
    pub fn start<F, R>(limits: GatherLimits, run: F) -> Self
    where
        F: Fn(Vec<Q>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<A>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel::<Call<Q, A>>(limits.queue_max);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let run = Arc::new(run);
        for _ in 0..limits.workers {
            let (waiting, run) = (Arc::clone(&waiting), Arc::clone(&run));
            tokio::spawn(async move {
                let mut calls = Vec::with_capacity(limits.batch_max);
                loop {
                    let taken = waiting.lock().await.recv_many(&mut calls, limits.batch_max).await;
                    if taken == 0 {
                        return;
                    }
                    let (questions, senders): (Vec<_>, Vec<_>) = calls.drain(..).unzip();
                    // A task of its own: should a batch die, its callers are told and the worker goes on.
                    let Ok(answers) = tokio::spawn(run(questions)).await else {
                        continue;
                    };
                    for (answer, sender) in answers.into_iter().zip(senders) {
                        // A caller that hung up does not need its answer.
                        let _ = sender.send(answer);
                    }
                }
            });
        }
        Self { queue }
    }

    /// Asks and waits for the answer. Refused at once when the queue is full.
    pub async fn call(&self, question: Q) -> Result<A, GatherError> {
        let (sender, answer) = oneshot::channel();
        self.queue.try_send((question, sender)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => GatherError::Full,
            mpsc::error::TrySendError::Closed(_) => GatherError::Stopped,
        })?;
        answer.await.map_err(|_| GatherError::Stopped)
    }
}
