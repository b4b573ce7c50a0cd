//! One try, from the job to the answer: the token, the headers, and the way out that the subscription's kind says.

use std::time::Duration;

use entity::kinds::SubscriptionKind;
use http::{HeaderName, HeaderValue, Method, header};
use sea_orm::DbErr;

use super::answer::{self, Sending};
use super::client_certificate::ClientCertificates;
use super::custom_headers::CustomHeaders;
use super::secrets::SecretError;
use super::signing::{Signer, SigningError};
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

/// Why no request was made.
pub(super) enum Unsent {
    /// The database did not tell what it needs. That says nothing about the receiver, so it is no try.
    Store(DbErr),
    /// It cannot be made as it is.
    Refused(SendError),
}

impl From<SendError> for Unsent {
    fn from(error: SendError) -> Self {
        Self::Refused(error)
    }
}

impl From<SigningError> for Unsent {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Store(error) => Self::Store(error),
            _ => Self::Refused(SendError::InvalidRequest(error.to_string())),
        }
    }
}

impl From<SecretError> for Unsent {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Store(error) => Self::Store(error),
            _ => Self::Refused(SendError::InvalidRequest(error.to_string())),
        }
    }
}

impl Ways {
    /// Tries `job` once. A token that was made for it and must be stored is put into `new_token`. Fails if the database did,
    /// before anything was sent.
    pub(super) async fn send(
        &self,
        job: &Job,
        new_token: &mut Option<SignedToken>,
    ) -> Result<Sending, DbErr> {
        match self.sign_and_send(job, new_token).await {
            Ok(sent) => Ok(sent),
            Err(Unsent::Store(error)) => Err(error),
            Err(Unsent::Refused(error)) => Ok(error.into()),
        }
    }

    async fn sign_and_send(&self, job: &Job, new_token: &mut Option<SignedToken>) -> Result<Sending, Unsent> {
        let token = self.signer.token(job).await.map_err(|error| unsigned(job, error))?;
        if !token.stored {
            *new_token = Some(token.clone());
        }
        match job.target.kind {
            SubscriptionKind::Webhook => self.post(job, &token).await,
            SubscriptionKind::Nats => {
                Ok(Sending::published(stream::publish(self.streams.as_ref(), job, &token).await))
            }
        }
    }

    async fn post(&self, job: &Job, token: &SignedToken) -> Result<Sending, Unsent> {
        let url = self.client.guard().check_url(&job.target.url).map_err(SendError::from)?;
        let identity = self.certificates.of(&job.target)?;
        let custom = self.headers.of(&job.target)?;
        let secret: Vec<HeaderName> = custom.iter().map(|(name, _)| name.clone()).collect();
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
        ];
        headers.extend(custom.iter().cloned());
        let signed = self.signer.headers.sign(job, &token.token).await;
        headers.extend(signed.map_err(|error| unsigned(job, error))?);
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

fn unsigned(job: &Job, error: impl Into<Unsent>) -> Unsent {
    let (unsent, delivery) = (error.into(), job.lease.delivery_id);
    match &unsent {
        Unsent::Store(error) => {
            tracing::warn!(%error, delivery.id = %delivery, "a delivery could not be signed; it is read again");
        }
        Unsent::Refused(error) => {
            tracing::error!(%error, delivery.id = %delivery, "a delivery could not be signed");
        }
    }
    unsent
}
