//! Admin API: webhook subscriptions, deliveries and events.

use entity::id::{AppId, DeliveryId, EventId, SubscriptionId, Timestamp};
use entity::kinds;
use entity::{attempt, delivery, event, subscription};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::EventType;
use super::log::{self, DeliveryFilter, EventFilter, RedeliverError};
use super::subscriptions::{self, SubscriptionChange, SubscriptionError};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::{self, Empty};

/// The operations.
pub struct WebhooksApi {
    /// The running service.
    pub app: App,
}

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "EventType", rename = "EventType")]
enum EventTypeName {
    /// An account followed a channel.
    #[oai(rename = "wix.loyalty.socialmedia.v1.followed_channel_created")]
    FollowedChannelCreated,
    /// An account was made.
    #[oai(rename = "wix.loyalty.v1.account_created")]
    AccountCreated,
    /// An account changed; also on every change of points.
    #[oai(rename = "wix.loyalty.v1.account_updated")]
    AccountUpdated,
    /// The points of an account changed.
    #[oai(rename = "wix.loyalty.v1.account_points_updated")]
    AccountPointsUpdated,
}

/// Whether a subscription receives events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(
    remote = "kinds::SubscriptionStatus",
    rename = "SubscriptionStatus",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
enum SubscriptionStatusName {
    /// Events are recorded for it and sent.
    Enabled,
    /// Nothing new is recorded and nothing is sent; what was waiting is kept.
    Disabled,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::DeliveryStatus", rename = "DeliveryStatus", rename_all = "SCREAMING_SNAKE_CASE")]
enum DeliveryStatusName {
    /// Not tried yet.
    Pending,
    /// Tried and failed; tried again at `nextAttemptDate`.
    Retrying,
    /// The receiver accepted it.
    Delivered,
    /// Every try failed.
    Exhausted,
    /// Its subscription was deleted first.
    Cancelled,
}

/// A subscription: the events of a site that go to a URL of an app.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct WebhookSubscription {
    /// Its id.
    id: Uuid,
    /// The app whose key signs.
    app_id: Uuid,
    /// The installation named in the envelope.
    app_instance_id: Uuid,
    /// Which events.
    event_types: Vec<EventTypeName>,
    /// Where they go.
    url: String,
    /// Whether it receives events.
    status: SubscriptionStatusName,
    /// Why it is disabled.
    status_reason: Option<String>,
    /// Time limit of one try in milliseconds.
    timeout_ms: i32,
    /// Tries at once.
    max_in_flight: i32,
    /// Grows with every change; a number as text.
    revision: String,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<subscription::Model> for WebhookSubscription {
    fn from(row: subscription::Model) -> Self {
        let names: Vec<String> = serde_json::from_str(&row.event_types).unwrap_or_default();
        let event_types =
            names.iter().filter_map(|name| EventType::parse(name)).map(EventTypeName::from).collect();
        Self {
            id: row.id.0,
            app_id: row.app_id.0,
            app_instance_id: row.app_instance_id.0,
            event_types,
            url: row.url,
            status: row.status.into(),
            status_reason: row.status_reason,
            timeout_ms: row.timeout_ms,
            max_in_flight: row.in_flight_max,
            revision: row.revision.to_string(),
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateSubscriptionRequest {
    webhook_subscription: NewSubscription,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NewSubscription {
    /// The app; it must be installed on the site.
    app_id: Uuid,
    /// Which events.
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Vec<EventTypeName>,
    /// Where they go: https, and not into a private network unless the operator allows it.
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: String,
    /// Time limit of one try in milliseconds; 1250 by default, as Wix has it.
    #[oai(validator(minimum(value = "100"), maximum(value = "15000")))]
    timeout_ms: Option<i32>,
    /// Tries at once; 64 by default.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    max_in_flight: Option<i32>,
    /// `ENABLED` by default.
    status: Option<SubscriptionStatusName>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateSubscriptionRequest {
    webhook_subscription: SubscriptionUpdate,
}

/// What is absent stays.
#[derive(Debug, Object)]
#[oai(rename = "WebhookSubscriptionUpdate", rename_all = "camelCase")]
struct SubscriptionUpdate {
    /// Which events.
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Option<Vec<EventTypeName>>,
    /// Where they go.
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: Option<String>,
    /// Time limit of one try in milliseconds.
    #[oai(validator(minimum(value = "100"), maximum(value = "15000")))]
    timeout_ms: Option<i32>,
    /// Tries at once.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    max_in_flight: Option<i32>,
    /// Whether it receives events.
    status: Option<SubscriptionStatusName>,
    /// The revision that was read; a newer one answers 409.
    #[oai(validator(max_length = 20))]
    revision: Option<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SubscriptionResponse {
    webhook_subscription: WebhookSubscription,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListSubscriptionsResponse {
    webhook_subscriptions: Vec<WebhookSubscription>,
    paging_metadata: PagingMetadata,
}

/// One event for one subscription.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct WebhookDelivery {
    /// Its id.
    id: Uuid,
    /// The subscription.
    subscription_id: Uuid,
    /// The event.
    event_id: Uuid,
    /// How far it is.
    status: DeliveryStatusName,
    /// Tries so far.
    attempt_count: i32,
    /// When it is tried next; absent once it is done.
    next_attempt_date: Option<String>,
    /// When it was made.
    created_date: String,
    /// When it reached a final state.
    finished_date: Option<String>,
    /// Every try, oldest first; only when a single delivery is read.
    attempts: Option<Vec<Attempt>>,
}

impl From<delivery::Model> for WebhookDelivery {
    fn from(row: delivery::Model) -> Self {
        let is_waiting = row.finished_at.is_none();
        Self {
            id: row.id.0,
            subscription_id: row.subscription_id.0,
            event_id: row.event_id.0,
            status: row.status.into(),
            attempt_count: row.attempt_count,
            next_attempt_date: is_waiting.then(|| row.next_attempt_at.to_rfc3339()),
            created_date: row.created_at.to_rfc3339(),
            finished_date: row.finished_at.map(Timestamp::to_rfc3339),
            attempts: None,
        }
    }
}

/// One HTTP try.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct Attempt {
    /// 1, 2, 3 …
    number: i32,
    /// When the request went out.
    started_date: String,
    /// Milliseconds until the answer was read or given up.
    duration_ms: i32,
    /// The receiver's status, if one came.
    status_code: Option<i32>,
    /// Why no status came: `TIMEOUT`, `DNS_FAILED`, `CONNECT_FAILED`, `TLS_FAILED`, `FORBIDDEN_ADDRESS` …
    error_class: Option<String>,
    /// The same in words.
    error: Option<String>,
    /// The headers of the answer.
    response_headers: Option<Any<Value>>,
    /// Up to 16 KiB of the answer.
    response_body: Option<String>,
}

impl From<attempt::Model> for Attempt {
    fn from(row: attempt::Model) -> Self {
        Self {
            number: row.number,
            started_date: row.started_at.to_rfc3339(),
            duration_ms: row.duration_ms,
            status_code: row.status_code,
            error_class: row.error_class,
            error: row.error,
            response_headers: row.response_headers.and_then(|text| serde_json::from_str(&text).ok()).map(Any),
            response_body: row.response_body,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DeliveryResponse {
    webhook_delivery: WebhookDelivery,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListDeliveriesResponse {
    webhook_deliveries: Vec<WebhookDelivery>,
    paging_metadata: PagingMetadata,
}

/// Something that happened.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "Event")]
struct EventJson {
    /// Its id: the same in every webhook about it.
    id: Uuid,
    /// Its type.
    event_type: String,
    /// What it is about.
    entity_id: Uuid,
    /// The account concerned.
    account_id: Uuid,
    /// Grows per entity; a number as text.
    entity_event_sequence: String,
    /// When it happened.
    event_date: String,
    /// The event as webhooks carry it.
    data: Any<Value>,
    /// Who caused it.
    identity: Any<Value>,
}

impl From<event::Model> for EventJson {
    fn from(row: event::Model) -> Self {
        let json = |text: &str| Any(serde_json::from_str(text).unwrap_or_default());
        Self {
            data: json(&row.data),
            identity: json(&row.identity),
            id: row.id.0,
            event_type: row.event_type,
            entity_id: row.entity_id,
            account_id: row.account_id.0,
            entity_event_sequence: row.sequence.to_string(),
            event_date: row.occurred_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListEventsResponse {
    events: Vec<EventJson>,
    paging_metadata: PagingMetadata,
}

#[derive(Debug, Serialize, Deserialize)]
struct DeliveryCursor {
    subscription: Option<Uuid>,
    event: Option<Uuid>,
    status: Option<kinds::DeliveryStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EventCursor {
    event_type: Option<String>,
    since: Option<Timestamp>,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhooksApi {
    /// Create a webhook subscription
    ///
    /// The app must be installed on the site. Every event committed from now on goes to the URL, at least once.
    #[oai(path = "/webhook-subscriptions", method = "post", operation_id = "createWebhookSubscription")]
    async fn create_webhook_subscription(
        &self,
        caller: AdminCaller,
        body: Body<CreateSubscriptionRequest>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let site = caller.site()?;
        let new = body.0.webhook_subscription;
        let change = SubscriptionChange {
            url: Some(new.url),
            event_types: Some(new.event_types.into_iter().map(EventType::from).collect()),
            status: new.status.map(Into::into),
            timeout_ms: new.timeout_ms,
            in_flight_max: new.max_in_flight,
            revision: None,
        };
        let whose = (caller.viewer()?, site, AppId(new.app_id));
        let tx = self.app.db.write().await?;
        let row = subscriptions::create_subscription(&tx, self.app.client.guard(), whose, change).await?;
        tx.commit().await?;
        Ok(Json(SubscriptionResponse { webhook_subscription: row.into() }))
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
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, ())?;
        let before = page.after.map(SubscriptionId);
        let rows = subscriptions::list_subscriptions(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let webhook_subscriptions = rows.into_iter().map(WebhookSubscription::from).collect();
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
        Ok(Json(SubscriptionResponse { webhook_subscription: row.into() }))
    }

    /// Update a webhook subscription
    ///
    /// Enabling it again sends what was waiting.
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
            url: update.url,
            event_types: update.event_types.map(|names| names.into_iter().map(EventType::from).collect()),
            status: update.status.map(Into::into),
            timeout_ms: update.timeout_ms,
            in_flight_max: update.max_in_flight,
            revision: wire::revision(update.revision.as_deref(), "webhookSubscription.revision")?,
        };
        let tx = self.app.db.write().await?;
        let whose = (site, SubscriptionId(id.0));
        let row = subscriptions::change_subscription(&tx, self.app.client.guard(), whose, change).await?;
        tx.commit().await?;
        self.app.dispatcher.requeue(row.id).await;
        Ok(Json(SubscriptionResponse { webhook_subscription: row.into() }))
    }

    /// Delete a webhook subscription
    ///
    /// What was still waiting for it is cancelled.
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
        self.app.dispatcher.requeue(SubscriptionId(id.0)).await;
        Ok(Json(Empty {}))
    }

    /// List webhook deliveries
    ///
    /// Newest first.
    #[oai(path = "/webhook-deliveries", method = "get", operation_id = "listWebhookDeliveries")]
    async fn list_webhook_deliveries(
        &self,
        caller: AdminCaller,
        /// Only for this subscription.
        #[oai(name = "subscriptionId")]
        subscription_id: Query<Option<Uuid>>,
        /// Only of this event.
        #[oai(name = "eventId")]
        event_id: Query<Option<Uuid>>,
        /// Only in this state.
        status: Query<Option<DeliveryStatusName>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListDeliveriesResponse>, Problem> {
        let site = caller.site()?;
        let cursor_filter = DeliveryCursor {
            subscription: subscription_id.0,
            event: event_id.0,
            status: status.0.map(Into::into),
        };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, cursor_filter)?;
        let filter = DeliveryFilter {
            subscription: page.filter.subscription.map(SubscriptionId),
            event: page.filter.event.map(EventId),
            status: page.filter.status,
        };
        let before = page.after.map(DeliveryId);
        let rows = log::list_deliveries(self.app.db.read(), site, filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let webhook_deliveries = rows.into_iter().map(WebhookDelivery::from).collect();
        Ok(Json(ListDeliveriesResponse { webhook_deliveries, paging_metadata }))
    }

    /// Get a webhook delivery with its attempts
    #[oai(path = "/webhook-deliveries/:id", method = "get", operation_id = "getWebhookDelivery")]
    async fn get_webhook_delivery(
        &self,
        caller: AdminCaller,
        /// The delivery.
        id: Path<Uuid>,
    ) -> Result<Json<DeliveryResponse>, Problem> {
        let found = log::find_delivery(self.app.db.read(), caller.site()?, DeliveryId(id.0)).await?;
        let (row, attempts) = found.ok_or(RedeliverError::NotFound)?;
        let mut webhook_delivery = WebhookDelivery::from(row);
        webhook_delivery.attempts = Some(attempts.into_iter().map(Attempt::from).collect());
        Ok(Json(DeliveryResponse { webhook_delivery }))
    }

    /// Send a webhook delivery again
    ///
    /// At once, with the whole schedule of resends before it and the same event id; its attempts so far are kept.
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
        let row = log::redeliver(&tx, site, DeliveryId(id.0)).await?;
        tx.commit().await?;
        self.app.dispatcher.wake();
        Ok(Json(DeliveryResponse { webhook_delivery: row.into() }))
    }

    /// List events
    ///
    /// Newest first: everything that happened on the site, whether or not anybody subscribed to it.
    #[oai(path = "/events", method = "get", operation_id = "listEvents")]
    async fn list_events(
        &self,
        caller: AdminCaller,
        /// Only of this type.
        #[oai(name = "type")]
        event_type: Query<Option<EventTypeName>>,
        /// Only from this instant on, RFC 3339.
        since: Query<Option<String>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListEventsResponse>, Problem> {
        let site = caller.site()?;
        let event_type = event_type.0.map(|name| EventType::from(name).as_str().to_owned());
        let since = since.0.as_deref().map(instant).transpose()?;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, EventCursor { event_type, since })?;
        let filter = EventFilter { event_type: page.filter.event_type.clone(), since: page.filter.since };
        let before = page.after.map(EventId);
        let rows = log::list_events(self.app.db.read(), site, &filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        Ok(Json(ListEventsResponse {
            events: rows.into_iter().map(EventJson::from).collect(),
            paging_metadata,
        }))
    }
}

fn instant(text: &str) -> Result<Timestamp, Problem> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp(at.timestamp_millis()))
        .map_err(|_| Problem::invalid("since", "FORMAT", "is not an instant like 2024-08-01T11:51:41.431Z"))
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Self {
        let text = error.to_string();
        match error {
            SubscriptionError::NotFound => Self::not_found("WEBHOOK_SUBSCRIPTION_NOT_FOUND", text),
            SubscriptionError::AppNotFound => Self::not_found("APP_NOT_FOUND", text),
            SubscriptionError::AppNotInstalled => Self::precondition("APP_NOT_INSTALLED", text),
            SubscriptionError::Url(_) => Self::invalid("webhookSubscription.url", "FORMAT", text),
            SubscriptionError::StaleRevision => Self::stale_revision(),
            SubscriptionError::TooMany => Self::precondition("TOO_MANY_SUBSCRIPTIONS", text),
            SubscriptionError::Store(cause) => Self::from(cause),
        }
    }
}

impl From<RedeliverError> for Problem {
    fn from(error: RedeliverError) -> Self {
        let text = error.to_string();
        match error {
            RedeliverError::NotFound => Self::not_found("WEBHOOK_DELIVERY_NOT_FOUND", text),
            RedeliverError::SubscriptionNotEnabled => {
                Self::precondition("WEBHOOK_SUBSCRIPTION_NOT_ENABLED", text)
            }
            RedeliverError::Store(cause) => Self::from(cause),
        }
    }
}
