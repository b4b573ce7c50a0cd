//! Admin API: one delivery, sent again or cancelled.

use entity::id::DeliveryId;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use uuid::Uuid;

use super::by_hand::{self, DeliveryError};
use super::log_api::DeliveryResponse;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::problem::Problem;

/// The operations.
pub struct WebhookDeliveriesApi {
    /// The running service.
    pub app: App,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookDeliveriesApi {
    /// Send a webhook delivery again
    ///
    /// At once, with the whole schedule of resends before it and the same event id; its attempts so far are kept. If it has never been
    /// accepted, it keeps to the order of its subscription.
    #[oai(
        path = "/webhook-deliveries/:id/redeliver",
        method = "post",
        operation_id = "redeliverWebhookDelivery"
    )]
    async fn redeliver_webhook_delivery(
        &self,
        caller: AdminCaller,
        /// The delivery.
        id: Path<Uuid>,
    ) -> Result<Json<DeliveryResponse>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        let row = by_hand::redeliver(&tx, site, DeliveryId(id.0)).await?;
        tx.commit().await?;
        self.app.dispatcher.wake();
        Ok(Json(DeliveryResponse::new(&self.app.db, row).await?))
    }

    /// Cancel a webhook delivery
    ///
    /// One that is `PENDING` or `RETRYING` is not sent any more, and what stands behind it in its order goes on. A try that is under way
    /// is not called back; it still comes into the log.
    #[oai(path = "/webhook-deliveries/:id/cancel", method = "post", operation_id = "cancelWebhookDelivery")]
    async fn cancel_webhook_delivery(
        &self,
        caller: AdminCaller,
        /// The delivery.
        id: Path<Uuid>,
    ) -> Result<Json<DeliveryResponse>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        let row = by_hand::cancel(&tx, site, DeliveryId(id.0)).await?;
        tx.commit().await?;
        self.app.dispatcher.requeue(row.subscription_id);
        Ok(Json(DeliveryResponse::new(&self.app.db, row).await?))
    }
}

impl From<DeliveryError> for Problem {
    fn from(error: DeliveryError) -> Self {
        let text = error.to_string();
        match error {
            DeliveryError::NotFound => Self::not_found("WEBHOOK_DELIVERY_NOT_FOUND", text),
            DeliveryError::SubscriptionNotEnabled => {
                Self::precondition("WEBHOOK_SUBSCRIPTION_NOT_ENABLED", text)
            }
            DeliveryError::Expunged => Self::precondition("EVENT_EXPUNGED", text),
            DeliveryError::Ended(_) => Self::precondition("WEBHOOK_DELIVERY_ENDED", text),
            DeliveryError::Store(cause) => Self::from(cause),
        }
    }
}
