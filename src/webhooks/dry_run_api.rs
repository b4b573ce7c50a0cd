//! Admin API: what a subscription would have been told of what happened last.

use entity::event;
use entity::id::SubscriptionId;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::EventType;
use super::filter::Filter;
use super::log::{self, EventFilter};
use super::subscription_api::FilterJson;
use super::subscriptions::{self, SubscriptionError};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;
use crate::sites::config::Target;

/// Events that are looked at unless the caller says otherwise.
const LIMIT_DEFAULT: u32 = 50;

/// The operation.
pub struct WebhookDryRunApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DryRunRequest {
    /// Event types to try instead of the subscription's own.
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Option<Vec<String>>,
    /// A filter to try instead of the subscription's own.
    filter: Option<FilterJson>,
    /// How many of the newest events to look at; 50 by default.
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    limit: Option<u32>,
}

/// Why a subscription is not told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
enum RefusedBy {
    /// It is of another type.
    EventTypes,
    /// It says something else.
    Filter,
    /// It is about how the receiver of this very subscription does, which is told to the others.
    Itself,
}

/// An event, and whether it would be sent.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct DryRunEvent {
    /// The event.
    event_id: Uuid,
    /// Its type.
    event_type: String,
    /// When it happened.
    event_date: String,
    /// Whether it would be sent.
    matches: bool,
    /// Why not.
    refused_by: Option<RefusedBy>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DryRunResponse {
    /// The newest events, newest first.
    events: Vec<DryRunEvent>,
    /// How many of them would be sent.
    match_count: u32,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookDryRunApi {
    /// Try the event types and filter of a webhook subscription
    ///
    /// Says of the site's newest events which would be sent. Nothing is sent, and nothing is changed.
    #[oai(
        path = "/webhook-subscriptions/:id/dry-run",
        method = "post",
        operation_id = "dryRunWebhookSubscription"
    )]
    async fn dry_run_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
        body: Body<DryRunRequest>,
    ) -> Result<Json<DryRunResponse>, Problem> {
        let (site, id, wanted) = (caller.site()?, SubscriptionId(id.0), body.0);
        let db = self.app.db.read();
        let row = subscriptions::find_subscription(db, site, id).await?;
        let mut target = Target::from(row.ok_or(SubscriptionError::NotFound)?);
        if let Some(patterns) = wanted.event_types {
            target.event_types = event_types(&patterns)?;
        }
        if let Some(filter) = wanted.filter {
            target.filter = Filter::from(filter);
            if target.filter.is_impossible() {
                return Err(Problem::invalid(
                    "filter.pointsMin",
                    "MAX",
                    SubscriptionError::FilterRange.to_string(),
                ));
            }
        }
        let limit = u64::from(wanted.limit.unwrap_or(LIMIT_DEFAULT));
        let events = log::list_events(db, site, &EventFilter::default(), None, limit).await?;
        let events: Vec<DryRunEvent> = events.iter().map(|event| tried(&target, event)).collect();
        let count = events.iter().filter(|event| event.matches).count();
        Ok(Json(DryRunResponse { match_count: u32::try_from(count).unwrap_or(u32::MAX), events }))
    }
}

fn event_types(patterns: &[String]) -> Result<Vec<EventType>, Problem> {
    let mut types = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let meant = EventType::matching(pattern);
        if meant.is_empty() {
            let text = SubscriptionError::EventType { index }.to_string();
            return Err(Problem::invalid(format!("eventTypes[{index}]"), "INVALID_ENUM_VALUE", text));
        }
        types.extend(meant);
    }
    Ok(types)
}

fn tried(target: &Target, event: &event::Model) -> DryRunEvent {
    let refused_by = if !target.is_to(&event.event_type) {
        Some(RefusedBy::EventTypes)
    } else if target.is(event.entity_id) {
        Some(RefusedBy::Itself)
    } else if !target.filter.passes(&event.data) {
        Some(RefusedBy::Filter)
    } else {
        None
    };
    DryRunEvent {
        event_id: event.id.0,
        event_type: event.event_type.clone(),
        event_date: event.occurred_at.to_rfc3339(),
        matches: refused_by.is_none(),
        refused_by,
    }
}
