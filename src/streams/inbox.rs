//! Where answers arrive: one subscription for all of them, and whom each is for. Who no longer waits is forgotten at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_nats::{Client, HeaderMap, Message, PublishErrorKind, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::PublishError;

type Waiting = HashMap<u64, oneshot::Sender<Message>>;

/// The answers that are awaited.
#[derive(Default)]
pub(super) struct Inbox {
    prefix: OnceLock<String>,
    last: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// What an answer was.
pub(super) enum Answer {
    /// Somebody answered so.
    Said(Bytes),
    /// Nobody listens to the subject.
    Nobody,
}

impl Inbox {
    /// Listens; gives what has to run for answers to arrive.
    pub(super) async fn open(
        self: &Arc<Self>,
        client: &Client,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let prefix = client.new_inbox();
        // Waits in the client until there is a connection, and is repeated on every new one.
        let mut answers = client.subscribe(format!("{prefix}.*")).await.ok()?;
        self.prefix.set(prefix).ok()?;
        let inbox = Arc::clone(self);
        Some(async move {
            while let Some(answer) = answers.next().await {
                inbox.hand_out(answer);
            }
        })
    }

    fn hand_out(&self, answer: Message) {
        let number = answer.subject.as_str().rsplit_once('.').and_then(|(_, number)| number.parse().ok());
        if let Some(waiting) = number.and_then(|number: u64| self.lock().remove(&number)) {
            // Whoever waited may have given up this moment.
            let _ = waiting.send(answer);
        }
    }

    /// Nothing that is awaited will come: the connection is gone.
    pub(super) fn give_up(&self) {
        self.lock().clear();
    }

    /// Sends a request and waits for the answer, as long as the caller does.
    pub(super) async fn ask(
        self: &Arc<Self>,
        client: &Client,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Answer, PublishError> {
        let prefix = self.prefix.get().ok_or_else(stopped)?;
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.lock().insert(number, sender);
        let _forgotten = Place { inbox: Arc::clone(self), number };
        let reply = format!("{prefix}.{number}");
        client.publish_with_reply_and_headers(subject, reply, headers, payload).await.map_err(|error| {
            match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => PublishError::TooLarge,
                _ => stopped(),
            }
        })?;
        let answer = answer.await.map_err(|_| PublishError::ConnectionLost)?;
        Ok(match answer.status {
            Some(StatusCode::NO_RESPONDERS) => Answer::Nobody,
            _ => Answer::Said(answer.payload),
        })
    }

    /// How many answers are awaited.
    pub(super) fn awaited(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client has ended, so that no further try can help.
fn stopped() -> PublishError {
    PublishError::NotConnected("the client has stopped".to_owned())
}

/// The place of one who waits, given up when he does.
struct Place {
    inbox: Arc<Inbox>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inbox.lock().remove(&self.number);
    }
}
