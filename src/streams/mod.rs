//! Messages to a JetStream stream of the operator's NATS server.
//!
//! - **Taken means stored.** [`Streams::publish`] succeeds only when the server has acknowledged the message: then the
//!   stream has it, on as many servers as it has replicas.
//! - **One deadline.** Waiting for the connection, publishing and waiting for the acknowledgement share the timeout of the
//!   message. Before it, what can pass is tried again: a connection that breaks, a stream without a leader.
//! - **Once.** Every try carries the id of the message, by which the stream drops what it already has.
//! - **The server may be away.** The connection is made in the background and made again for ever. Once it is away for some
//!   seconds, messages fail at once: whoever waited would take the place of somebody else.
//! - **The stream is the operator's.** One that exists is used as it is; one that does not is made.
//!
//! The client library sends requests too, but it remembers each that is never answered for as long as it lives, so
//! the answers have an inbox of our own.

mod error;
mod inbox;
mod jetstream;
mod link;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
pub use error::PublishError;
pub use jetstream::Ack;
use rustls::ClientConfig;
pub use settings::{Given, Settings, SettingsError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use self::inbox::Inbox;
use self::link::Link;

/// Pause between two attempts to reach a server, at the most.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long messages wait for a connection; when it is away for longer they fail at once.
const DOWN_AFTER: Duration = Duration::from_secs(5);
/// How often a silent connection is probed. Two probes without an answer end it.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that may wait to be written to the connection; then publishing waits.
const UNWRITTEN_MAX: usize = 1_024;
/// How long messages wait at the start for the stream to be looked up, or made.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before a message is tried again for which no stream was there.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// The connection to the operator's NATS server. Cheap to clone.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    client: Client,
    link: Arc<Link>,
    inbox: Arc<Inbox>,
    stream: String,
    replicas: u8,
    /// Ends with the last clone.
    tasks: std::sync::Mutex<JoinSet<()>>,
}

/// A message to the stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// The subject.
    pub subject: String,
    /// By which the stream drops what it already has.
    pub id: String,
    /// More headers; neither names nor values have line breaks.
    pub headers: Vec<(&'static str, String)>,
    /// What it says.
    pub payload: Bytes,
}

impl Streams {
    /// Begins to connect, and goes on in the background. `tls` is for servers with `tls://` and those that ask for it.
    pub async fn connect(settings: &Settings, tls: ClientConfig) -> Result<Self, SettingsError> {
        let link = Arc::new(Link::default());
        let inbox = Arc::new(Inbox::default());
        let events = (Arc::clone(&link), Arc::clone(&inbox));
        let options = settings
            .sign_in(ConnectOptions::new())?
            .name("followpoints")
            .tls_client_config(tls)
            .require_tls(settings.is_encrypted())
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(reconnect_pause)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_EVERY)
            .client_capacity(UNWRITTEN_MAX)
            .event_callback(move |event| {
                let (link, inbox) = events.clone();
                async move {
                    if link.note(event) {
                        inbox.give_up();
                    }
                }
            });
        let client = options.connect(settings.servers()).await.map_err(|_| SettingsError::Url)?;
        let streams = Self(Arc::new(Inner {
            client,
            link,
            inbox,
            stream: settings.stream().to_owned(),
            replicas: settings.replicas(),
            tasks: std::sync::Mutex::default(),
        }));
        streams.start().await;
        Ok(streams)
    }

    async fn start(&self) {
        let inner = &self.0;
        let mut tasks = JoinSet::new();
        if let Some(reading) = inner.inbox.open(&inner.client).await {
            tasks.spawn(reading);
        }
        // Made at once and not with the first message, so that readers can be set up before anything happens.
        let looking = (inner.client.clone(), Arc::clone(&inner.link), Arc::clone(&inner.inbox));
        let (stream, replicas) = (inner.stream.clone(), inner.replicas);
        tasks.spawn(async move {
            let (client, link, inbox) = looking;
            link.connected().await;
            let found =
                timeout(LOOK_TIMEOUT, jetstream::find_or_make(&client, &inbox, &stream, replicas)).await;
            match found.unwrap_or(Err(PublishError::Timeout)) {
                Ok(()) => tracing::info!(stream, "the NATS stream is there"),
                Err(error) => tracing::warn!(%error, stream, "the NATS stream could not be looked up"),
            }
            link.set_looked();
        });
        *inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = tasks;
    }

    /// Whether there is a connection and the stream was looked up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.link.is_ready()
    }

    /// How many answers of the server are awaited.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.0.inbox.awaited()
    }

    /// Gives `message` to the stream and waits until it is stored, up to `limit`.
    pub async fn publish(&self, message: &Message, limit: Duration) -> Result<Ack, PublishError> {
        let mut why = PublishError::Timeout;
        let taken = timeout_at(Instant::now() + limit, self.publish_until_taken(message, &mut why)).await;
        taken.unwrap_or(Err(why))
    }

    /// `why` says what it waits for, in case that the time runs out.
    async fn publish_until_taken(
        &self,
        message: &Message,
        why: &mut PublishError,
    ) -> Result<Ack, PublishError> {
        let Inner { client, link, inbox, stream, replicas, .. } = &*self.0;
        loop {
            if let Some((reason, is_short)) = link.why_not() {
                *why = PublishError::NotConnected(reason);
                if !is_short {
                    return Err(why.clone());
                }
                link.connected().await;
                *why = PublishError::Timeout;
            }
            link.ready().await;
            match jetstream::publish(client, inbox, stream, message).await {
                Err(PublishError::ConnectionLost) => *why = PublishError::ConnectionLost,
                Err(error @ PublishError::NoStream { .. }) => {
                    *why = error;
                    match jetstream::find_or_make(client, inbox, stream, *replicas).await {
                        Ok(()) | Err(PublishError::ConnectionLost) => {}
                        Err(error @ PublishError::NoJetStream) => *why = error,
                        Err(error) => return Err(error),
                    }
                    // The stream may be there and have no leader at the moment.
                    let _ = timeout(AGAIN_PAUSE, std::future::pending::<()>()).await;
                }
                done => return done,
            }
        }
    }

    /// Ends the connection; what waits for an acknowledgement fails.
    pub async fn close(&self) {
        let mut tasks =
            std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        tasks.shutdown().await;
        self.0.inbox.give_up();
    }
}

/// Doubles from 50 milliseconds on.
fn reconnect_pause(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    match attempts {
        0 | 1 => Duration::ZERO,
        _ => (Duration::from_millis(25) * 2_u32.pow(doublings)).min(RECONNECT_PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_between_attempts_doubles_up_to_its_limit() {
        let pauses: Vec<_> = (0..9).map(|attempts| reconnect_pause(attempts).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 50, 100, 200, 400, 800, 1_600, 2_000]);
        assert_eq!(reconnect_pause(usize::MAX), RECONNECT_PAUSE_MAX);
    }
}
