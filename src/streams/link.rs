//! What is known of the connection, from what the client library tells of it.

use async_nats::{ClientError, ConnectErrorKind, Event};
use tokio::sync::watch;

/// What is known of the connection.
pub(super) struct Link(watch::Sender<State>);

struct State {
    is_connected: bool,
    /// Whether the stream was looked up once, with whatever result.
    is_looked: bool,
    /// Why there is no connection.
    reason: String,
}

impl Default for Link {
    fn default() -> Self {
        let reason = "it was not reached yet".to_owned();
        Self(watch::Sender::new(State { is_connected: false, is_looked: false, reason }))
    }
}

impl Link {
    /// Takes in what happened; says whether it ended a connection.
    pub(super) fn note(&self, event: Event) -> bool {
        match event {
            Event::Connected => {
                tracing::info!("connected to NATS");
                self.0.send_modify(|state| state.is_connected = true);
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!("the connection to NATS is lost; connecting again");
                self.0.send_modify(|state| {
                    state.is_connected = false;
                    "the connection was lost".clone_into(&mut state.reason);
                });
                return true;
            }
            Event::ClientError(ClientError::Other(reason)) => self.note_failure(in_words(&reason)),
            Event::ServerError(error) => tracing::warn!(%error, "the NATS server complains"),
            Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) | Event::ClientError(_) => {}
        }
        false
    }

    fn note_failure(&self, reason: &str) {
        self.0.send_if_modified(|state| {
            let is_news = !state.is_connected && state.reason != reason;
            if is_news {
                // Once for each reason: an attempt is made every two seconds.
                tracing::warn!(reason, "NATS cannot be reached; trying again");
                reason.clone_into(&mut state.reason);
            }
            is_news
        });
    }

    /// The stream was looked up.
    pub(super) fn set_looked(&self) {
        self.0.send_modify(|state| state.is_looked = true);
    }

    /// Why there is no connection now.
    pub(super) fn why_not(&self) -> Option<String> {
        let state = self.0.borrow();
        (!state.is_connected).then(|| state.reason.clone())
    }

    /// Waits for a connection.
    pub(super) async fn connected(&self) {
        self.wait(|state| state.is_connected).await;
    }

    /// Waits until messages can be published.
    pub(super) async fn ready(&self) {
        self.wait(|state| state.is_connected && state.is_looked).await;
    }

    async fn wait(&self, is_so: impl FnMut(&State) -> bool) {
        // Fails only when the sender is gone, and that is ourselves.
        let _ = self.0.subscribe().wait_for(is_so).await;
    }
}

/// Why there is no connection, in words, from what the client library calls it.
fn in_words(reason: &str) -> &'static str {
    let words = [
        (ConnectErrorKind::Dns, "its name could not be looked up"),
        (
            ConnectErrorKind::AuthorizationViolation,
            "it refused the user name, password, token or credentials",
        ),
        (ConnectErrorKind::Authentication, "the credentials cannot be used"),
        (ConnectErrorKind::TimedOut, "it did not answer in time"),
        (ConnectErrorKind::Tls, "encryption (TLS) could not be agreed on"),
    ];
    let known = words.into_iter().find(|(kind, _)| kind.to_string() == reason);
    known.map_or("it refused the connection, or broke it off", |(_, words)| words)
}
