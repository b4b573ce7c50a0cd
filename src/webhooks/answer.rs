//! What a receiver's answer means, and how the log keeps it.

use entity::id::Timestamp;
use http::{HeaderMap, HeaderName, header};
use serde_json::{Value, json};

use super::delivery::{Try, Verdict};
use super::{Job, schedule};
use crate::outbound::{Answer, Client, OutboundRequest, SendError, Timings};
use crate::streams::{Ack, PublishError};

/// What came back.
pub(super) enum Reply {
    /// Of a webhook.
    Answer(Answer),
    /// Of a stream.
    Ack(Ack),
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Of a webhook.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Of a stream.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What became of a try.
pub(super) struct Sending {
    /// What the receiver answered, or why it did not.
    pub(super) result: Result<Reply, Failure>,
    request_headers: Option<String>,
    timings: Option<Timings>,
}

impl<E: Into<Failure>> From<E> for Sending {
    /// No request was made.
    fn from(error: E) -> Self {
        Self { result: Err(error.into()), request_headers: None, timings: None }
    }
}

impl Sending {
    /// What a stream said.
    pub(super) fn published(result: Result<Ack, PublishError>) -> Self {
        Self { result: result.map(Reply::Ack).map_err(Failure::from), request_headers: None, timings: None }
    }
}

/// Sends `request` and remembers what the log shows of it: its headers, but not the values of `secret` ones, and how long it
/// took.
pub(super) async fn send(client: &Client, request: OutboundRequest, secret: &[HeaderName]) -> Sending {
    let request_headers = Some(Value::from(request.shown_headers(secret)).to_string());
    let sent = client.send(request).await;
    let result = sent.result.map(Reply::Answer).map_err(Failure::from);
    Sending { result, request_headers, timings: Some(sent.timings) }
}

/// What follows from an answer, or from none, at `at`.
pub(super) fn judge(job: &Job, sent: &Result<Reply, Failure>, at: Timestamp) -> Verdict {
    let hint = match sent {
        Ok(Reply::Ack(_)) => return Verdict::Delivered,
        Ok(Reply::Answer(answer)) if (200..300).contains(&answer.status) => return Verdict::Delivered,
        Ok(Reply::Answer(answer)) if answer.status == 410 => return Verdict::Gone,
        Ok(Reply::Answer(answer)) => answer
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| schedule::retry_after_ms(value, at)),
        Err(_) => None,
    };
    match schedule::next_attempt_at(
        job.lease.delivery_id,
        &job.target.resends_ms,
        job.schedule_step,
        at,
        hint,
    ) {
        Some(next) => Verdict::Retry(next),
        None => Verdict::Exhausted,
    }
}

/// The try as the log keeps it.
pub(super) fn record(sent: Sending, started_at: Timestamp, duration_ms: i32) -> Try {
    let mut attempt = Try {
        started_at,
        duration_ms,
        status_code: None,
        error_class: None,
        error: None,
        response_headers: None,
        response_body: None,
        request_headers: sent.request_headers,
        timings: sent.timings,
    };
    match sent.result {
        Ok(Reply::Ack(Ack { stream, sequence, duplicate })) => {
            let said = json!({"stream": stream, "sequence": sequence, "duplicate": duplicate});
            attempt.response_body = Some(said.to_string());
        }
        Ok(Reply::Answer(answer)) => {
            attempt.status_code = Some(i32::from(answer.status));
            attempt.response_headers = Some(shown_headers(&answer.headers).to_string());
            attempt.response_body =
                (!answer.body.is_empty()).then(|| storable(&String::from_utf8_lossy(&answer.body)));
            attempt.error = answer.body_error.map(|error| storable(&error.to_string()));
        }
        Err(Failure::Send(error)) => {
            attempt.error_class = Some(error.class().to_owned());
            attempt.error = Some(storable(&told(&error)));
        }
        Err(Failure::Publish(error)) => {
            attempt.error_class = Some(error.class().to_owned());
            attempt.error = Some(storable(&error.to_string()));
        }
    }
    attempt
}

/// Headers as the log shows them; those of one name together, as RFC 9110 has it.
fn shown_headers(headers: &HeaderMap) -> Value {
    let shown = headers.keys().map(|name| {
        let values = headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| storable(&String::from_utf8_lossy(value.as_bytes()))).collect();
        (name.to_string(), Value::from(values.join(", ")))
    });
    shown.collect::<serde_json::Map<_, _>>().into()
}

/// What the owner of the URL is told: not the addresses that a name has inside the operator's network.
fn told(error: &SendError) -> String {
    match error {
        SendError::ForbiddenAddress(_) => {
            "the host is not publicly reachable and must not be called".to_owned()
        }
        SendError::PlainHttp(_) => "the host may only be called over https".to_owned(),
        _ => error.to_string(),
    }
}

/// The text without NUL, which PostgreSQL cannot store.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
