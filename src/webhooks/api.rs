//! Admin API: webhook subscriptions, made, listed, read, changed and deleted.

use entity::id::{AppId, SubscriptionId};
use entity::{kinds, subscription};
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use uuid::Uuid;

use super::client_certificate::CertificateError;
use super::custom_headers::{GivenHeader, HeadersError};
use super::destination::Destinations;
use super::secrets;
use super::subscription_api::{
    BacklogResponse, CreateSubscriptionRequest, ListSubscriptionsResponse, SignatureSchemeName,
    SubscriptionResponse, UpdateSubscriptionRequest, WebhookSubscription,
};
use super::subscriptions::{self, SubscriptionChange, SubscriptionError};
use super::{health, log};
use crate::app::App;
use crate::change::Change;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest};
use crate::http::problem::{Problem, Violation};
use crate::http::wire::{self, Empty};

/// The operations.
pub struct WebhookSubscriptionsApi {
    /// The running service.
    pub app: App,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookSubscriptionsApi {
    /// Create a webhook subscription
    ///
    /// The app must be installed on the site. Every event committed from now on goes to the URL, or to NATS, at least once.
    #[oai(path = "/webhook-subscriptions", method = "post", operation_id = "createWebhookSubscription")]
    async fn create_webhook_subscription(
        &self,
        caller: AdminCaller,
        body: Body<CreateSubscriptionRequest>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let site = caller.site()?;
        let new = body.0.webhook_subscription;
        let change = SubscriptionChange {
            kind: new.kind.map(Into::into),
            url: new.url,
            event_types: Some(new.event_types),
            status: new.status.map(Into::into),
            timeout_ms: new.timeout_ms,
            in_flight_max: new.max_in_flight,
            retry_profile: new.retry_profile.map(Into::into),
            retry_delays: new.retry_delays_seconds,
            certificate: new
                .client_certificate
                .map_or(Change::Keep, |certificate| Change::Set(certificate.into())),
            filter: new.filter.map(Into::into),
            custom_headers: headers(new.custom_headers),
            ordering: new.ordering.map(Into::into),
            rate_limit: new.max_per_second,
            signature_headers: new.signature_headers.map(schemes),
            held: None,
            revision: None,
        };
        let whose = (caller.viewer()?, site, AppId(new.app_id));
        let tx = self.app.db.write().await?;
        let App { client, streams, sealer, .. } = &self.app;
        let destinations = Destinations { guard: client.guard(), has_nats: streams.is_some() };
        let row = subscriptions::create_subscription(&tx, sealer, destinations, whose, change).await?;
        let made = secrets::provide(&tx, sealer, row).await?;
        tx.commit().await?;
        Ok(Json(SubscriptionResponse::with_secret(made)))
    }

    /// List webhook subscriptions
    ///
    /// Newest first.
    #[oai(path = "/webhook-subscriptions", method = "get", operation_id = "listWebhookSubscriptions")]
    async fn list_webhook_subscriptions(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListSubscriptionsResponse>, Problem> {
        let site = caller.site()?;
        let page =
            PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListSubscriptionsResponse>::default())?;
        let before = page.after.map(SubscriptionId);
        let rows = subscriptions::list_subscriptions(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let ids: Vec<SubscriptionId> = rows.iter().map(|row| row.id).collect();
        let failing = health::failing(self.app.db.read(), &ids).await?;
        let with_health = |row: subscription::Model| WebhookSubscription {
            failing_since_date: failing.get(&row.id).map(|since| since.to_rfc3339()),
            ..WebhookSubscription::from(row)
        };
        let webhook_subscriptions = rows.into_iter().map(with_health).collect();
        Ok(Json(ListSubscriptionsResponse { webhook_subscriptions, paging_metadata }))
    }

    /// Get a webhook subscription
    #[oai(path = "/webhook-subscriptions/:id", method = "get", operation_id = "getWebhookSubscription")]
    async fn get_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let id = SubscriptionId(id.0);
        let row = subscriptions::find_subscription(self.app.db.read(), caller.site()?, id).await?;
        let row = row.ok_or(SubscriptionError::NotFound)?;
        let failing = health::failing(self.app.db.read(), &[id]).await?;
        let failing_since_date = failing.get(&id).map(|since| since.to_rfc3339());
        let webhook_subscription = WebhookSubscription { failing_since_date, ..row.into() };
        Ok(Json(SubscriptionResponse { webhook_subscription, signing_secret: None }))
    }

    /// Get what waits for a webhook subscription
    ///
    /// How many deliveries are still to be sent, sent again or released, and since when the oldest is.
    #[oai(path = "/webhook-subscriptions/:id/backlog", method = "get", operation_id = "getWebhookBacklog")]
    async fn get_webhook_backlog(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
    ) -> Result<Json<BacklogResponse>, Problem> {
        let (db, id) = (self.app.db.read(), SubscriptionId(id.0));
        let row = subscriptions::find_subscription(db, caller.site()?, id).await?;
        let row = row.ok_or(SubscriptionError::NotFound)?;
        let webhook_backlog = log::backlog(db, row.id).await?.into();
        Ok(Json(BacklogResponse { webhook_backlog }))
    }

    /// Update a webhook subscription
    ///
    /// While it is paused or disabled, events are held for it, and a replay to it rests; enabling it sends them, or not with
    /// `heldDeliveries` `CANCEL`, which also cancels the replay.
    #[oai(path = "/webhook-subscriptions/:id", method = "patch", operation_id = "updateWebhookSubscription")]
    async fn update_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
        body: Body<UpdateSubscriptionRequest>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let site = caller.site()?;
        let update = body.0.webhook_subscription;
        let change = SubscriptionChange {
            kind: None,
            url: update.url,
            event_types: update.event_types,
            status: update.status.map(Into::into),
            timeout_ms: update.timeout_ms,
            in_flight_max: update.max_in_flight,
            retry_profile: update.retry_profile.map(Into::into),
            retry_delays: update.retry_delays_seconds,
            certificate: wire::change(update.client_certificate.map_value(Into::into)),
            filter: wire::emptied(update.filter).map(Into::into),
            custom_headers: headers(wire::emptied(update.custom_headers)),
            ordering: update.ordering.map(Into::into),
            rate_limit: wire::emptied(update.max_per_second),
            signature_headers: wire::emptied(update.signature_headers).map(schemes),
            held: update.held_deliveries.map(Into::into),
            revision: wire::revision(update.revision.as_deref(), "webhookSubscription.revision")?,
        };
        let tx = self.app.db.write().await?;
        let whose = (site, SubscriptionId(id.0));
        let App { client, sealer, .. } = &self.app;
        let row = subscriptions::change_subscription(&tx, client.guard(), sealer, whose, change).await?;
        let changed = secrets::provide(&tx, sealer, row).await?;
        tx.commit().await?;
        self.app.dispatcher.requeue(whose.1);
        Ok(Json(SubscriptionResponse::with_secret(changed)))
    }

    /// Delete a webhook subscription
    ///
    /// What was still waiting for it is cancelled, and so is a replay to it.
    #[oai(path = "/webhook-subscriptions/:id", method = "delete", operation_id = "deleteWebhookSubscription")]
    async fn delete_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        subscriptions::delete_subscription(&tx, site, SubscriptionId(id.0)).await?;
        tx.commit().await?;
        self.app.dispatcher.forget_deleted(SubscriptionId(id.0));
        Ok(Json(Empty {}))
    }
}

fn headers<H: Into<GivenHeader>>(given: Option<Vec<H>>) -> Change<Vec<GivenHeader>> {
    match given {
        None => Change::Keep,
        Some(headers) if headers.is_empty() => Change::Remove,
        Some(headers) => Change::Set(headers.into_iter().map(Into::into).collect()),
    }
}

fn schemes(names: Vec<SignatureSchemeName>) -> Vec<kinds::SignatureScheme> {
    names.into_iter().map(Into::into).collect()
}

impl From<HeadersError> for Problem {
    fn from(error: HeadersError) -> Self {
        let text = error.to_string();
        let refused = |index, field, text| {
            Self::invalid(format!("webhookSubscription.customHeaders[{index}].{field}"), "FORMAT", text)
        };
        match error {
            HeadersError::Name { index, .. } => refused(index, "name", text),
            HeadersError::Value { index } => refused(index, "value", text),
            HeadersError::NoValue { index } => Self::invalid(
                format!("webhookSubscription.customHeaders[{index}].value"),
                "REQUIRED_FIELD",
                text,
            ),
            HeadersError::Seal(cause) => Self::from(cause),
        }
    }
}

impl From<CertificateError> for Problem {
    fn from(error: CertificateError) -> Self {
        let text = error.to_string();
        let violation = |field, rule, text: &str| {
            Violation::new(format!("webhookSubscription.clientCertificate.{field}"), rule, text)
        };
        let violations = match error {
            CertificateError::Certificate(_) => vec![violation("certificatePem", "FORMAT", &text)],
            CertificateError::PrivateKey(_) => vec![violation("privateKeyPem", "FORMAT", &text)],
            CertificateError::Missing { certificate, private_key } => {
                [("certificatePem", certificate), ("privateKeyPem", private_key)]
                    .into_iter()
                    .filter(|(_, is_missing)| *is_missing)
                    .map(|(field, _)| violation(field, "REQUIRED_FIELD", &text))
                    .collect()
            }
            CertificateError::Seal(cause) => return Self::from(cause),
        };
        Self::validation(violations)
    }
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Self {
        let text = error.to_string();
        match error {
            SubscriptionError::NotFound => Self::not_found("WEBHOOK_SUBSCRIPTION_NOT_FOUND", text),
            SubscriptionError::AppNotFound => Self::not_found("APP_NOT_FOUND", text),
            SubscriptionError::AppNotInstalled => Self::precondition("APP_NOT_INSTALLED", text),
            SubscriptionError::Url(_) | SubscriptionError::UrlOfStream => {
                Self::invalid("webhookSubscription.url", "FORMAT", text)
            }
            SubscriptionError::OnlyForWebhook { field } => {
                Self::invalid(format!("webhookSubscription.{field}"), "FORMAT", text)
            }
            SubscriptionError::Headers(cause) => cause.into(),
            SubscriptionError::Certificate(cause) => cause.into(),
            SubscriptionError::FilterRange => {
                Self::invalid("webhookSubscription.filter.pointsMin", "MAX", text)
            }
            SubscriptionError::UrlMissing => Self::invalid("webhookSubscription.url", "REQUIRED_FIELD", text),
            SubscriptionError::NatsNotConfigured => Self::precondition("NATS_NOT_CONFIGURED", text),
            SubscriptionError::NatsOtherApp => Self::precondition("NATS_OTHER_APP", text),
            SubscriptionError::EventType { index } => {
                Self::invalid(format!("webhookSubscription.eventTypes[{index}]"), "INVALID_ENUM_VALUE", text)
            }
            SubscriptionError::RetryDelays { rule, .. } => {
                Self::invalid("webhookSubscription.retryDelaysSeconds", rule, text)
            }
            SubscriptionError::StaleRevision => Self::stale_revision(),
            SubscriptionError::TooMany => Self::precondition("TOO_MANY_SUBSCRIPTIONS", text),
            SubscriptionError::Store(cause) => Self::from(cause),
        }
    }
}
