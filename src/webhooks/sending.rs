//! One try, from the job to the answer: the token, the headers, and the way out that the subscription's kind says.

use std::time::Duration;

use entity::kinds::SubscriptionKind;
use http::{HeaderName, HeaderValue, Method, header};

use super::answer::{self, Sending};
use super::client_certificate::ClientCertificates;
use super::custom_headers::CustomHeaders;
use super::signing::Signer;
use super::{Job, SignedToken, stream};
use crate::outbound::{Client, OutboundRequest, SendError};
use crate::streams::Streams;

/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

const USER_AGENT: &str = concat!("Followpoints/", env!("CARGO_PKG_VERSION"));

/// The ways out, and what tries carry.
pub struct Ways {
    /// Signs them.
    pub signer: Signer,
    /// What owners want them to say.
    pub headers: CustomHeaders,
    /// Shows who sends them.
    pub certificates: ClientCertificates,
    /// To a URL.
    pub client: Client,
    /// To the operator's NATS server, if there is one.
    pub streams: Option<Streams>,
}

impl Ways {
    /// Tries `job` once. A token that was made for it and must be stored is put into `new_token`.
    pub(super) async fn send(&self, job: &Job, new_token: &mut Option<SignedToken>) -> Sending {
        match self.signer.token(job).await {
            Ok(token) => {
                let sent = match job.target.kind {
                    SubscriptionKind::Webhook => self.post(job, &token).await.unwrap_or_else(Sending::from),
                    SubscriptionKind::Nats => {
                        Sending::published(stream::publish(self.streams.as_ref(), job, &token).await)
                    }
                };
                *new_token = (!token.stored).then_some(token);
                sent
            }
            Err(error) => {
                tracing::error!(%error, delivery.id = %job.lease.delivery_id, "an event could not be signed");
                SendError::InvalidRequest(error.to_string()).into()
            }
        }
    }

    async fn post(&self, job: &Job, token: &SignedToken) -> Result<Sending, SendError> {
        let url = self.client.guard().check_url(&job.target.url)?;
        let identity = self.certificates.of(&job.target)?;
        let custom = self.headers.of(&job.target)?;
        let secret: Vec<HeaderName> = custom.iter().map(|(name, _)| name.clone()).collect();
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
        ];
        headers.extend(custom.iter().cloned());
        headers.extend(self.signer.headers.sign(job, &token.token).await?);
        let request = OutboundRequest {
            method: Method::POST,
            url,
            headers,
            body: token.token.clone(),
            timeout: Duration::from_millis(u64::from(job.target.timeout_ms)),
            body_max: ANSWER_BYTES_MAX,
            identity,
        };
        Ok(answer::send(&self.client, request, &secret).await)
    }
}
