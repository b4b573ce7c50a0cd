//! Gathering of concurrent calls: while one batch runs, the calls that arrive form the next one. Nothing waits when
//! idle, so a lone call is a batch of one and goes at once.

use std::future::Future;
use std::io;
use std::thread;

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
    /// Calls in one batch at the most.
    pub batch_max: usize,
    /// Calls that may wait.
    pub queue_max: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Starts a worker as a task of the running runtime. `run` gets the calls of one batch after the other in order of arrival and
    /// gives one answer each, in order.
    pub fn start<F, R>(limits: GatherLimits, run: F) -> Self
    where
        F: Fn(Vec<Q>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<A>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(limits.queue_max);
        tokio::spawn(work(waiting, limits.batch_max, run));
        Self { queue }
    }

    /// Starts a worker on a thread with a runtime of its own: a batch is many short steps, and each of them would queue behind the
    /// requests of a shared runtime.
    pub fn start_on_thread<F, R>(limits: GatherLimits, name: &str, run: F) -> io::Result<Self>
    where
        F: Fn(Vec<Q>) -> R + Send + 'static,
        R: Future<Output = Vec<A>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(limits.queue_max);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || runtime.block_on(work(waiting, limits.batch_max, run));
        thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { queue })
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

/// Whether somebody still waits for the answer: whoever gave up was told that nothing is known of it, and may ask anew.
fn is_awaited<Q, A>((_, sender): &Call<Q, A>) -> bool {
    !sender.is_closed()
}

/// The next batch; `None` when every caller is gone.
async fn next<Q, A>(
    waiting: &mut mpsc::Receiver<Call<Q, A>>,
    batch_max: usize,
) -> Option<(Vec<Q>, Vec<oneshot::Sender<A>>)> {
    let first = loop {
        let call = waiting.recv().await?;
        if is_awaited(&call) {
            break call;
        }
    };
    let mut calls = vec![first];
    // Whoever is ready to call at this moment gets into the batch; when idle nobody is, and it goes at once.
    tokio::task::yield_now().await;
    while calls.len() < batch_max
        && let Ok(call) = waiting.try_recv()
    {
        if is_awaited(&call) {
            calls.push(call);
        }
    }
    Some(calls.into_iter().unzip())
}

/// Runs batches until every caller is gone.
async fn work<Q, A, R>(mut waiting: mpsc::Receiver<Call<Q, A>>, batch_max: usize, run: impl Fn(Vec<Q>) -> R)
where
    A: Send + 'static,
    R: Future<Output = Vec<A>> + Send + 'static,
{
    while let Some((questions, senders)) = next(&mut waiting, batch_max).await {
        // A task of its own: should a batch die, its callers are told and the worker goes on.
        let Ok(answers) = tokio::spawn(run(questions)).await else {
            continue;
        };
        for (answer, sender) in answers.into_iter().zip(senders) {
            // A caller that hung up does not need its answer.
            let _ = sender.send(answer);
        }
    }
}
