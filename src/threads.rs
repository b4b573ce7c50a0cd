//! Threads for what computes for so long that requests would wait behind it.
//!
//! There is one per core, and a thread that has work to go on with does not sleep in between, as those of tokio's pool for
//! blocking calls do: waking one costs a fifth of a signature.

use std::io;
use std::panic::AssertUnwindSafe;
use std::thread;

use tokio::sync::oneshot;

/// Work that may wait before those who bring more have to.
const QUEUE_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// One thread for each core. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Threads(flume::Sender<Work>);

/// The work was not done: it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the computation failed")]
pub struct Lost;

impl Threads {
    /// Starts them under `name`.
    pub fn start(name: &str) -> io::Result<Self> {
        let (sender, receiver) = flume::bounded::<Work>(QUEUE_MAX);
        for _ in 0..cores() {
            let receiver = receiver.clone();
            let serve = move || {
                for work in receiver {
                    // The caller of work that panics is told by the end of its channel; the thread goes on.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(work));
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(serve)?;
        }
        Ok(Self(sender))
    }

    /// What `work` returns.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
        let (sender, answer) = oneshot::channel();
        let work: Work = Box::new(move || {
            // A caller that is gone does not need its answer.
            let _ = sender.send(work());
        });
        self.0.send_async(work).await.map_err(|_| Lost)?;
        answer.await.map_err(|_| Lost)
    }
}

/// Cores that the process may use.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[tokio::test]
    async fn each_caller_gets_the_answer_to_its_own_work() {
        let threads = Threads::start("test").expect("the threads start");
        let answers = (0..200_u64).map(|number| {
            let threads = threads.clone();
            async move { threads.run(move || number * 2).await }
        });
        let answers = futures_util::future::join_all(answers).await;
        assert_eq!(answers, (0..200).map(|number| Ok(number * 2)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn there_is_a_thread_for_each_core() {
        let threads = Threads::start("test").expect("the threads start");
        let all = Arc::new(Barrier::new(cores()));
        let waiting = (0..cores()).map(|_| {
            let (threads, all) = (threads.clone(), Arc::clone(&all));
            async move { threads.run(move || all.wait().is_leader()).await }
        });
        assert!(futures_util::future::join_all(waiting).await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn work_that_panics_fails_alone() {
        let threads = Threads::start("test").expect("the threads start");
        for _ in 0..cores() * 2 {
            let lost: Result<(), Lost> = threads.run(|| panic!("as it should")).await;
            assert_eq!(lost, Err(Lost));
        }
        assert_eq!(threads.run(|| 7).await, Ok(7));
    }
}
