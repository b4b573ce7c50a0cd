//! What is said to JetStream: look a stream up, make one, store a message.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::inbox::{Answer, Inbox};
use super::{Message, PublishError};

/// What a stream that we make takes.
const SUBJECTS: &str = "followpoints.>";
/// For how long a stream that we make knows the ids of its messages.
const DUPLICATE_WINDOW: Duration = Duration::from_hours(1);

/// What the server says when there is no such stream.
const STREAM_NOT_FOUND: u64 = 10_059;
/// What it says while its cluster has no leader.
const NO_LEADER: [u64; 2] = [10_008, 10_009];

/// What the server said when it had stored a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ack {
    /// The stream.
    pub stream: String,
    /// The number of the message in it.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Whether it already had the message.
    #[serde(default)]
    pub duplicate: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Response<T> {
    Error { error: ApiError },
    Done(T),
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Gives `message` to `stream` once.
pub(super) async fn publish(
    client: &Client,
    inbox: &Arc<Inbox>,
    stream: &str,
    message: &Message,
) -> Result<Ack, PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", message.id.as_str());
    // Another stream that takes the subject would acknowledge it too.
    headers.insert("Nats-Expected-Stream", stream);
    for (name, value) in &message.headers {
        headers.insert(*name, value.as_str());
    }
    match inbox.ask(client, message.subject.clone(), headers, message.payload.clone()).await? {
        Answer::Nobody => {
            Err(PublishError::NoStream { stream: stream.to_owned(), subject: message.subject.clone() })
        }
        Answer::Said(text) => match read::<Ack>(&text)? {
            Response::Done(ack) => Ok(ack),
            Response::Error { error } => Err(PublishError::Refused {
                stream: stream.to_owned(),
                reason: error.description,
                code: error.err_code,
            }),
        },
    }
}

/// Makes `stream` unless it is there.
pub(super) async fn find_or_make(
    client: &Client,
    inbox: &Arc<Inbox>,
    stream: &str,
    replicas: u8,
) -> Result<(), PublishError> {
    match ask(client, inbox, &format!("STREAM.INFO.{stream}"), Bytes::new()).await? {
        Response::Done(_) => return Ok(()),
        Response::Error { error } if error.err_code == STREAM_NOT_FOUND => {}
        Response::Error { error } => return Err(not_made(stream, error)),
    }
    let config = json!({
        "name": stream,
        "description": "Events of Followpoints",
        "subjects": [SUBJECTS],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "duplicate_window": u64::try_from(DUPLICATE_WINDOW.as_nanos()).unwrap_or(u64::MAX),
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": -1,
    });
    match ask(client, inbox, &format!("STREAM.CREATE.{stream}"), Bytes::from(config.to_string())).await? {
        Response::Done(_) => Ok(()),
        Response::Error { error } => Err(not_made(stream, error)),
    }
}

fn not_made(stream: &str, error: ApiError) -> PublishError {
    if NO_LEADER.contains(&error.err_code) {
        return PublishError::NoJetStream;
    }
    PublishError::NotMade { stream: stream.to_owned(), reason: error.description, code: error.err_code }
}

async fn ask(
    client: &Client,
    inbox: &Arc<Inbox>,
    operation: &str,
    request: Bytes,
) -> Result<Response<Value>, PublishError> {
    match inbox.ask(client, format!("$JS.API.{operation}"), HeaderMap::new(), request).await? {
        Answer::Nobody => Err(PublishError::NoJetStream),
        Answer::Said(text) => read(&text),
    }
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<Response<T>, PublishError> {
    serde_json::from_slice(text).map_err(|_| PublishError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_and_errors_are_read() {
        let acknowledged = |text: &str| match read::<Ack>(text.as_bytes()) {
            Ok(Response::Done(ack)) => (ack.stream, ack.sequence, ack.duplicate),
            Ok(Response::Error { error }) => (error.description, error.err_code, false),
            Err(error) => (error.class().to_owned(), 0, false),
        };
        for (text, stream, number, duplicate) in [
            (r#"{"stream":"S","seq":7}"#, "S", 7, false),
            (r#"{"stream":"S","domain":"hub","seq":7,"duplicate":true}"#, "S", 7, true),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"S","seq":0}"#,
                "full",
                10_077,
                false,
            ),
            (r#"{"error":{"code":503}}"#, "", 0, false),
            ("+OK", "PROTOCOL_ERROR", 0, false),
            (r#"{"stream":"S"}"#, "PROTOCOL_ERROR", 0, false),
        ] {
            assert_eq!(acknowledged(text), (stream.to_owned(), number, duplicate), "{text}");
        }
    }

    #[test]
    fn a_cluster_without_a_leader_is_no_refusal() {
        let error = |err_code| not_made("S", ApiError { err_code, description: "no".to_owned() }).class();
        assert_eq!(
            [error(10_008), error(10_009), error(10_074)],
            ["NATS_NO_JETSTREAM", "NATS_NO_JETSTREAM", "NATS_NO_STREAM"]
        );
    }
}
