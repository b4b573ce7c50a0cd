//! What is known of the connection, from what the client library tells of it.

use async_nats::{ClientError, ConnectErrorKind, Event};
use tokio::sync::watch;
use tokio::time::Instant;

use super::DOWN_AFTER;

/// What is known of the connection.
pub(super) struct Link(watch::Sender<State>);

struct State {
    is_connected: bool,
    /// Whether the stream was looked up once, with whatever result.
    is_looked: bool,
    /// Why there is no connection.
    reason: String,
    /// Since when there is none.
    down_since: Instant,
}

impl Default for Link {
    fn default() -> Self {
        let reason = "it was not reached yet".to_owned();
        let down_since = Instant::now();
        Self(watch::Sender::new(State { is_connected: false, is_looked: false, reason, down_since }))
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
                    state.down_since = Instant::now();
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

    /// Why there is no connection now, and whether it is worth waiting for one.
    pub(super) fn why_not(&self) -> Option<(String, bool)> {
        let state = self.0.borrow();
        let is_short = state.down_since.elapsed() < DOWN_AFTER;
        (!state.is_connected).then(|| (state.reason.clone(), is_short))
    }

    /// Whether messages can be published now.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.0.borrow();
        state.is_connected && state.is_looked
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_for_a_connection_that_was_there_a_moment_ago_and_not_for_one_that_is_long_gone() {
        let link = Link::default();
        assert_eq!(link.why_not(), Some(("it was not reached yet".to_owned(), true)));
        let refused = ClientError::Other(ConnectErrorKind::Io.to_string());
        assert!(!link.note(Event::ClientError(refused)));
        assert_eq!(link.why_not(), Some(("it refused the connection, or broke it off".to_owned(), true)));
        link.0.send_modify(|state| state.down_since = Instant::now().checked_sub(DOWN_AFTER).unwrap());
        assert_eq!(link.why_not(), Some(("it refused the connection, or broke it off".to_owned(), false)));

        assert!(!link.note(Event::Connected));
        assert_eq!((link.why_not(), link.is_ready()), (None, false));
        link.set_looked();
        assert!(link.is_ready());
        assert!(link.note(Event::Disconnected), "what waits for an answer is told");
        assert_eq!(link.why_not(), Some(("the connection was lost".to_owned(), true)));
        assert!(!link.is_ready());
    }

    #[test]
    fn every_kind_of_failure_has_its_words() {
        for (kind, words) in [
            (ConnectErrorKind::Dns, "its name could not be looked up"),
            (ConnectErrorKind::TimedOut, "it did not answer in time"),
            (ConnectErrorKind::Tls, "encryption (TLS) could not be agreed on"),
            (ConnectErrorKind::Authentication, "the credentials cannot be used"),
        ] {
            assert_eq!(in_words(&kind.to_string()), words);
        }
    }
}
