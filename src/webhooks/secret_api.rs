//! Admin API: rotating what signs a subscription's webhooks in their headers.

use entity::id::SubscriptionId;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::secrets::{self, OVERLAP_S_DEFAULT, SecretError};
use super::subscription_api::SubscriptionResponse;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;

/// The operations.
pub struct WebhookSecretsApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RotateSecretRequest {
    /// How long the replaced secrets sign beside the new ones, in seconds; a day by default, a week at most. With 0 they sign
    /// no more at all, and neither do those of earlier rotations.
    #[oai(validator(minimum(value = "0"), maximum(value = "604800")))]
    overlap_seconds: Option<i64>,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookSecretsApi {
    /// Rotate the signing secrets
    ///
    /// Makes a new shared secret and a new Ed25519 pair, as far as the subscription has them. Both the new and the replaced
    /// ones sign until the overlap ends, so a receiver that has either accepts every delivery. The shared secret is in
    /// `signingSecret`, this once. At most ten replaced ones of a kind sign at a time.
    #[oai(
        path = "/webhook-subscriptions/:id/rotate-secret",
        method = "post",
        operation_id = "rotateWebhookSubscriptionSecret"
    )]
    async fn rotate_webhook_subscription_secret(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
        body: Body<RotateSecretRequest>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let whose = (caller.site()?, SubscriptionId(id.0));
        let overlap_s = body.0.overlap_seconds.unwrap_or(OVERLAP_S_DEFAULT);
        let tx = self.app.db.write().await?;
        let rotated = secrets::rotate(&tx, &self.app.sealer, whose, overlap_s).await?;
        tx.commit().await?;
        self.app.dispatcher.requeue(whose.1);
        Ok(Json(SubscriptionResponse::with_secret(rotated)))
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        let text = error.to_string();
        match error {
            SecretError::NotFound => Self::not_found("WEBHOOK_SUBSCRIPTION_NOT_FOUND", text),
            SecretError::NoSecret => Self::precondition("NO_SIGNING_SECRET", text),
            SecretError::TooMany => Self::precondition("TOO_MANY_SIGNING_SECRETS", text),
            SecretError::Store(cause) => Self::from(cause),
            SecretError::Seal(cause) => Self::internal(cause),
            SecretError::Unusable(cause) => Self::internal(cause),
            SecretError::Header(cause) => Self::internal(cause),
        }
    }
}
