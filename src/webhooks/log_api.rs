//! Admin API: what happened and what was sent, events and deliveries with their attempts.

use std::time::Duration;

use entity::id::{AccountId, DeliveryId, EventId, SubscriptionId, Timestamp};
use entity::{attempt, delivery, event, kinds};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use super::EventType;
use super::by_hand::DeliveryError;
use super::delivery::Try;
use super::log::{self, DeliveryFilter, Details, EventFilter};
use crate::app::App;
use crate::db::Db;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::paging::{PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire;
use crate::outbound::Timings;

/// The operations.
pub struct WebhookLogApi {
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
    /// Somebody did something on a social platform.
    #[oai(rename = "followpoints.social.v1.activity_recorded")]
    ActivityRecorded,
    /// A receiver has failed for half of the five days after which its subscription is disabled, or for nine tenths.
    #[oai(rename = "followpoints.webhooks.v1.subscription_failing")]
    SubscriptionFailing,
    /// A receiver of which that was told works again.
    #[oai(rename = "followpoints.webhooks.v1.subscription_recovered")]
    SubscriptionRecovered,
    /// A subscription was disabled because of its receiver.
    #[oai(rename = "followpoints.webhooks.v1.subscription_disabled")]
    SubscriptionDisabled,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::DeliveryStatus", rename = "DeliveryStatus", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum DeliveryStatusName {
    /// Not tried yet.
    Pending,
    /// Tried and failed; tried again at `nextAttemptDate`.
    Retrying,
    /// The receiver accepted it.
    Delivered,
    /// Every try failed.
    Exhausted,
    /// Not sent any more: its subscription was deleted, its owner said so, or it was held for 30 days.
    Cancelled,
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
    /// The type of the event; absent once that is no longer kept.
    event_type: Option<String>,
    /// How far it is.
    status: DeliveryStatusName,
    /// Tries so far.
    attempt_count: i32,
    /// What the receiver answered to the newest try, if it did.
    last_status_code: Option<i32>,
    /// Why it did not; the words are those of `errorClass` of an attempt.
    last_error_class: Option<String>,
    /// When it is tried next; absent once it is done, and while it is held.
    next_attempt_date: Option<String>,
    /// `true` if it waits for its subscription, which is not enabled; absent otherwise.
    held: Option<bool>,
    /// When it was made.
    created_date: String,
    /// When it reached a final state.
    finished_date: Option<String>,
    /// Every try, oldest first; only when a single delivery is read.
    attempts: Option<Vec<Attempt>>,
    /// What the newest try sent: the token, a compact JWS, the same in every try for 83 hours. Only when a single delivery is read,
    /// and absent when it was not tried yet, its subscription was deleted or its event was emptied.
    request_body: Option<String>,
}

impl WebhookDelivery {
    fn new(row: &delivery::Model, details: Details) -> Self {
        Self {
            next_attempt_date: details.next_attempt_at(row).map(Timestamp::to_rfc3339),
            held: details.is_held(row).then_some(true),
            id: row.id.0,
            subscription_id: row.subscription_id.0,
            event_id: row.event_id.0,
            event_type: details.event_type,
            status: row.status.into(),
            attempt_count: row.attempt_count,
            last_status_code: details.status_code,
            last_error_class: details.error_class,
            created_date: row.created_at.to_rfc3339(),
            finished_date: row.finished_at.map(Timestamp::to_rfc3339),
            attempts: None,
            request_body: None,
        }
    }
}

/// One try.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Attempt {
    /// 1, 2, 3 …
    number: i32,
    /// When the request went out.
    started_date: String,
    /// Milliseconds until the answer was read or given up.
    duration_ms: i32,
    /// The receiver's status, if one came.
    status_code: Option<i32>,
    /// Why no status came: `TIMEOUT`, `DNS_FAILED`, `CONNECT_FAILED`, `TLS_FAILED`, `FORBIDDEN_ADDRESS` … With type `NATS`, why no
    /// acknowledgement: `TIMEOUT`, `CONNECT_FAILED`, `CONNECTION_LOST`, `NATS_REFUSED`, `NATS_NO_STREAM` …
    error_class: Option<String>,
    /// The same in words.
    error: Option<String>,
    /// The headers of the answer.
    response_headers: Option<Any<Value>>,
    /// Up to 16 KiB of the answer. With type `NATS`, the acknowledgement as JSON: `stream`, `sequence` and `duplicate`.
    response_body: Option<String>,
    /// The headers of the request as it was sent; `***` instead of what the owner of the subscription keeps secret.
    request_headers: Option<Any<Value>>,
    /// How long the parts of the request took, as far as it came.
    timings: Option<AttemptTimings>,
}

/// How long the parts of a request took, in milliseconds. What did not occur is absent, as connecting does on a connection that
/// was kept.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AttemptTimings {
    /// Finding the addresses of the host's name.
    #[oai(rename = "dnsMs")]
    dns: Option<f64>,
    /// Opening the connection.
    #[oai(rename = "connectMs")]
    connect: Option<f64>,
    /// Agreeing on encryption.
    #[oai(rename = "tlsMs")]
    tls: Option<f64>,
    /// From the request to the first byte of the answer.
    #[oai(rename = "firstByteMs")]
    first_byte: Option<f64>,
    /// From the start until the answer was read or given up.
    #[oai(rename = "totalMs")]
    total: f64,
}

impl From<Timings> for AttemptTimings {
    fn from(timings: Timings) -> Self {
        // Whole microseconds, as they are stored; no request takes an hour.
        let ms = |part: Duration| {
            let micros = u32::try_from(part.as_micros()).unwrap_or(u32::MAX);
            f64::from(micros) / 1_000.0
        };
        Self {
            dns: timings.dns.map(ms),
            connect: timings.connect.map(ms),
            tls: timings.tls.map(ms),
            first_byte: timings.first_byte.map(ms),
            total: ms(timings.total),
        }
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

impl From<attempt::Model> for Attempt {
    fn from(row: attempt::Model) -> Self {
        let tried = Try {
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            status_code: row.status_code,
            error_class: row.error_class,
            error: row.error,
            response_headers: row.response_headers,
            response_body: row.response_body,
            request_headers: row.request_headers,
            timings: row.total_us.map(|total| Timings {
                dns: row.dns_us.map(duration),
                connect: row.connect_us.map(duration),
                tls: row.tls_us.map(duration),
                first_byte: row.first_byte_us.map(duration),
                total: duration(total),
            }),
        };
        Self { number: row.number, ..Self::first(tried) }
    }
}

impl Attempt {
    /// The first try of something.
    pub(super) fn first(tried: Try) -> Self {
        Self {
            number: 1,
            started_date: tried.started_at.to_rfc3339(),
            duration_ms: tried.duration_ms,
            status_code: tried.status_code,
            error_class: tried.error_class,
            error: tried.error,
            response_headers: tried
                .response_headers
                .and_then(|text| serde_json::from_str(&text).ok())
                .map(Any),
            response_body: tried.response_body,
            request_headers: tried.request_headers.and_then(|text| serde_json::from_str(&text).ok()).map(Any),
            timings: tried.timings.map(AttemptTimings::from),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct DeliveryResponse {
    webhook_delivery: WebhookDelivery,
}

impl DeliveryResponse {
    /// `row` as the list shows it.
    pub(super) async fn new(db: &Db, row: delivery::Model) -> Result<Self, Problem> {
        let mut details = log::details(db.read(), std::slice::from_ref(&row)).await?;
        let details = details.remove(&row.id).unwrap_or_default();
        Ok(Self { webhook_delivery: WebhookDelivery::new(&row, details) })
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListDeliveriesResponse {
    webhook_deliveries: Vec<WebhookDelivery>,
    paging_metadata: PagingMetadata,
}

/// Something that happened.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "Event", skip_serializing_if_is_none)]
struct EventJson {
    /// Its id: the same in every webhook about it.
    id: Uuid,
    /// Its type.
    event_type: String,
    /// What it is about.
    entity_id: Uuid,
    /// The account concerned, if one is.
    account_id: Option<Uuid>,
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
            account_id: row.account_id.map(|id| id.0),
            entity_event_sequence: row.sequence.to_string(),
            event_date: row.occurred_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
struct EventResponse {
    event: EventJson,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListEventsResponse {
    events: Vec<EventJson>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookLogApi {
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
        /// Only about what happened to this account.
        #[oai(name = "accountId")]
        account_id: Query<Option<Uuid>>,
        /// Only about this entity: an account, a followed channel, a subscription.
        #[oai(name = "entityId")]
        entity_id: Query<Option<Uuid>>,
        /// Only those made from this instant on, RFC 3339.
        since: Query<Option<String>>,
        /// Only those made before this instant, RFC 3339.
        until: Query<Option<String>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListDeliveriesResponse>, Problem> {
        let site = caller.site()?;
        let wanted = DeliveryFilter {
            subscription: subscription_id.0.map(SubscriptionId),
            event: event_id.0.map(EventId),
            status: status.0.map(Into::into),
            account: account_id.0.map(AccountId),
            entity: entity_id.0,
            since: since.0.as_deref().map(|text| wire::instant(text, "since")).transpose()?,
            until: until.0.as_deref().map(|text| wire::instant(text, "until")).transpose()?,
        };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, wanted)?;
        let filter = page.filter;
        let before = page.after.map(DeliveryId);
        let rows = log::list_deliveries(self.app.db.read(), site, filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let webhook_deliveries = self.shown(rows).await?;
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
        let db = self.app.db.read();
        let found = log::find_delivery(db, caller.site()?, DeliveryId(id.0)).await?;
        let (row, attempts) = found.ok_or(DeliveryError::NotFound)?;
        let request_body = log::sent_token(db, &row).await?;
        let mut response = DeliveryResponse::new(&self.app.db, row).await?;
        response.webhook_delivery.request_body = request_body;
        response.webhook_delivery.attempts = Some(attempts.into_iter().map(Attempt::from).collect());
        Ok(Json(response))
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
        /// Only about what happened to this account.
        #[oai(name = "accountId")]
        account_id: Query<Option<Uuid>>,
        /// Only about this entity: an account, a followed channel, a subscription.
        #[oai(name = "entityId")]
        entity_id: Query<Option<Uuid>>,
        /// Only from this instant on, RFC 3339.
        since: Query<Option<String>>,
        /// Only before this instant, RFC 3339.
        until: Query<Option<String>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListEventsResponse>, Problem> {
        let site = caller.site()?;
        let event_type = event_type.0.map(|name| EventType::from(name).as_str().to_owned());
        let since = since.0.as_deref().map(|text| wire::instant(text, "since")).transpose()?;
        let until = until.0.as_deref().map(|text| wire::instant(text, "until")).transpose()?;
        let (account, entity) = (account_id.0.map(AccountId), entity_id.0);
        let wanted = EventFilter { account, member: None, entity, until, event_type, since };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, wanted)?;
        let filter = &page.filter;
        let before = page.after.map(EventId);
        let rows = log::list_events(self.app.db.read(), site, filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        Ok(Json(ListEventsResponse {
            events: rows.into_iter().map(EventJson::from).collect(),
            paging_metadata,
        }))
    }

    /// Get an event
    #[oai(path = "/events/:id", method = "get", operation_id = "getEvent")]
    async fn get_event(
        &self,
        caller: AdminCaller,
        /// The event.
        id: Path<Uuid>,
    ) -> Result<Json<EventResponse>, Problem> {
        let found = log::find_event(self.app.db.read(), caller.site()?, EventId(id.0)).await?;
        let row = found.ok_or_else(|| Problem::not_found("EVENT_NOT_FOUND", "there is no such event"))?;
        Ok(Json(EventResponse { event: row.into() }))
    }
}

impl WebhookLogApi {
    async fn shown(&self, rows: Vec<delivery::Model>) -> Result<Vec<WebhookDelivery>, Problem> {
        let mut details = log::details(self.app.db.read(), &rows).await?;
        let shown = |row: delivery::Model| {
            let details = details.remove(&row.id).unwrap_or_default();
            WebhookDelivery::new(&row, details)
        };
        Ok(rows.into_iter().map(shown).collect())
    }
}
