//! An event as a message to the stream of the operator's NATS server.

use std::time::Duration;

use super::{Job, SignedToken};
use crate::streams::{Ack, Message, PublishError, Streams};

/// What every subject begins with.
const SUBJECT_ROOT: &str = "followpoints";

/// Gives the event of `job` to the stream and waits until it is stored, up to the time limit of the subscription.
pub(super) async fn publish(
    streams: Option<&Streams>,
    job: &Job,
    token: &SignedToken,
) -> Result<Ack, PublishError> {
    let streams = streams.ok_or(PublishError::NotConfigured)?;
    let limit = Duration::from_millis(u64::from(job.target.timeout_ms));
    streams.publish(&message(job, token), limit).await
}

fn message(job: &Job, token: &SignedToken) -> Message {
    let event_type = &job.event.event_type;
    Message {
        subject: format!("{SUBJECT_ROOT}.{}.{event_type}", job.target.site_id),
        // The same in every try, so that the stream drops what it has.
        id: job.event.id.to_string(),
        headers: vec![
            ("Followpoints-Event-Type", event_type.clone()),
            ("Followpoints-Delivery-Id", job.lease.delivery_id.to_string()),
        ],
        payload: token.token.clone(),
    }
}
