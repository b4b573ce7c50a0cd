//! What can go wrong with a message, in words for the owner of a subscription: no address of the operator's network.

/// Why a message was not taken, as far as is known: after a timeout or a lost connection the stream may have it all the
/// same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The operator has named no server.
    #[error("this service has no NATS server (FOLLOWPOINTS_NATS_URL is not set)")]
    NotConfigured,
    /// No connection came about in time.
    #[error("there is no connection to the NATS server: {0}")]
    NotConnected(String),
    /// The connection broke while the answer was awaited.
    #[error("the connection to the NATS server broke before it acknowledged the event")]
    ConnectionLost,
    /// The deadline passed.
    #[error("the time ran out before the NATS server acknowledged the event")]
    Timeout,
    /// No stream takes the subject.
    #[error(
        "no stream takes the subject {subject}: the stream {stream} has other subjects, or no leader at the moment"
    )]
    NoStream {
        /// The stream that is meant.
        stream: String,
        /// The subject.
        subject: String,
    },
    /// The server has no JetStream, or it cannot answer.
    #[error(
        "JetStream does not answer: it is not enabled on the NATS server, or has no leader at the moment"
    )]
    NoJetStream,
    /// The server said no.
    #[error("the stream {stream} did not take the event: {reason} (NATS error {code})")]
    Refused {
        /// The stream.
        stream: String,
        /// What the server said.
        reason: String,
        /// Its number of the reason.
        code: u64,
    },
    /// The stream does not exist and the server did not make it.
    #[error("the stream {stream} could not be made: {reason} (NATS error {code})")]
    NotMade {
        /// The stream.
        stream: String,
        /// What the server said.
        reason: String,
        /// Its number of the reason.
        code: u64,
    },
    /// The message does not fit into what the server takes.
    #[error("the NATS server takes no message of this size")]
    TooLarge,
    /// What came back cannot be read.
    #[error("the answer of the NATS server cannot be read")]
    Unreadable,
}

impl PublishError {
    /// The kind of failure, as a stable name.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::NotConfigured => "NATS_NOT_CONFIGURED",
            Self::NotConnected(_) => "CONNECT_FAILED",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::Timeout => "TIMEOUT",
            Self::NoStream { .. } | Self::NotMade { .. } => "NATS_NO_STREAM",
            Self::NoJetStream => "NATS_NO_JETSTREAM",
            Self::Refused { .. } | Self::TooLarge => "NATS_REFUSED",
            Self::Unreadable => "PROTOCOL_ERROR",
        }
    }
}
