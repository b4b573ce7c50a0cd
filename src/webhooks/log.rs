//! What owners see of events and deliveries.

use std::collections::HashMap;

use entity::id::{AccountId, DeliveryId, EventId, MemberId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::{DeliveryStatus, SubscriptionStatus};
use entity::{account, activity, attempt, delivery, event, followed_channel, signed_event, subscription};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait as _, Select,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::delivery::WAITING;
use super::replays::first_id;
use super::{Signature, signing};
use crate::rows::Rows;

/// Which deliveries to list.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct DeliveryFilter {
    /// Of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// In this state.
    pub status: Option<DeliveryStatus>,
    /// About what happened to this account.
    pub account: Option<AccountId>,
    /// About this entity.
    pub entity: Option<Uuid>,
    /// Made not earlier.
    pub since: Option<Timestamp>,
    /// Made earlier.
    pub until: Option<Timestamp>,
}

/// Deliveries of `site` from the newest, after `before`.
pub async fn list_deliveries(
    db: &impl ConnectionTrait,
    site: SiteId,
    filter: DeliveryFilter,
    before: Option<DeliveryId>,
    limit: u64,
) -> Result<Vec<delivery::Model>, DbErr> {
    let mut query = delivery::Entity::find().filter(delivery::Column::SiteId.eq(site));
    if let Some(subscription) = filter.subscription {
        query = query.filter(delivery::Column::SubscriptionId.eq(subscription));
    }
    if let Some(event) = filter.event {
        query = query.filter(delivery::Column::EventId.eq(event));
    }
    if let Some(status) = filter.status {
        query = query.filter(delivery::Column::Status.eq(status));
        if !matches!(status, DeliveryStatus::Pending | DeliveryStatus::Delivered) {
            // In the words of the index that holds these few.
            query = query.filter(Expr::cust("status IN ('RETRYING', 'EXHAUSTED', 'CANCELLED')"));
        }
    }
    if filter.account.is_some() || filter.entity.is_some() {
        let about = EventFilter { account: filter.account, entity: filter.entity, ..EventFilter::default() };
        let events = events_of(site, &about).select_only().column(event::Column::Id).into_query();
        query = query.filter(delivery::Column::EventId.in_subquery(events));
    }
    // An id begins with its instant.
    if let Some(since) = filter.since {
        query = query.filter(delivery::Column::Id.gte(first_id(since)));
    }
    let end = filter.until.map(first_id).map(DeliveryId);
    for before in before.into_iter().chain(end) {
        query = query.filter(delivery::Column::Id.lt(before));
    }
    query.order_by_desc(delivery::Column::Id).limit(limit).all(db).await
}

/// Deliveries of a backlog that are counted.
pub const BACKLOG_MAX: usize = 10_000;

/// What waits for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// How many deliveries, at most [`BACKLOG_MAX`].
    pub deliveries: usize,
    /// Whether there are more than were counted.
    pub has_more: bool,
    /// When the oldest of those that were counted was made.
    pub oldest: Option<Timestamp>,
}

/// What waits for `subscription` to be sent, sent again, or released.
pub async fn backlog(db: &impl ConnectionTrait, subscription: SubscriptionId) -> Result<Backlog, DbErr> {
    let counted = u64::try_from(BACKLOG_MAX).unwrap_or(u64::MAX);
    let made: Vec<Timestamp> = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::CreatedAt)
        .filter(delivery::Column::SubscriptionId.eq(subscription))
        .filter(delivery::Column::Status.is_in(WAITING))
        .limit(counted.saturating_add(1))
        .into_tuple()
        .all(db)
        .await?;
    Ok(Backlog {
        deliveries: made.len().min(BACKLOG_MAX),
        has_more: made.len() > BACKLOG_MAX,
        oldest: made.into_iter().take(BACKLOG_MAX).min(),
    })
}

/// The delivery `id` of `site` with its attempts in order.
pub async fn find_delivery(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: DeliveryId,
) -> Result<Option<(delivery::Model, Vec<attempt::Model>)>, DbErr> {
    let row = delivery::Entity::find_by_id((site, id)).one(db).await?;
    let Some(row) = row else { return Ok(None) };
    let attempts = attempt::Entity::find()
        .filter(attempt::Column::DeliveryId.eq(id))
        .order_by_asc(attempt::Column::Number)
        .all(db)
        .await?;
    Ok(Some((row, attempts)))
}

/// The token that the newest try of `row` sent, as far as it can still be told.
pub async fn sent_token(db: &impl ConnectionTrait, row: &delivery::Model) -> Result<Option<String>, DbErr> {
    if row.attempt_count == 0 {
        return Ok(None);
    }
    let subscription = subscription::Entity::find_by_id(row.subscription_id).one(db).await?;
    let event = event::Entity::find_by_id((row.site_id, row.event_id)).one(db).await?;
    let (Some(subscription), Some(event)) = (subscription, event) else { return Ok(None) };
    let found = signed_event::Entity::find_by_id((row.event_id, subscription.app_id)).one(db).await?;
    let Some(signature) = found.map(Signature::from) else { return Ok(None) };
    let token = signing::signed_before(&signature, &event.into(), &subscription.into());
    Ok(token.ok().flatten().map(|token| String::from_utf8_lossy(&token).into_owned()))
}

/// Which events to list.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct EventFilter {
    /// About what happened to this account.
    pub account: Option<AccountId>,
    /// About what this member did, with an account or without.
    pub member: Option<MemberId>,
    /// About this entity.
    pub entity: Option<Uuid>,
    /// Earlier.
    pub until: Option<Timestamp>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Not older.
    pub since: Option<Timestamp>,
}

/// Events of `site` from the newest, after `before`.
pub async fn list_events(
    db: &impl ConnectionTrait,
    site: SiteId,
    filter: &EventFilter,
    before: Option<EventId>,
    limit: u64,
) -> Result<Vec<event::Model>, DbErr> {
    let mut query = events_of(site, filter);
    if let Some(before) = before {
        query = query.filter(event::Column::Id.lt(before));
    }
    query.order_by_desc(event::Column::Id).limit(limit).all(db).await
}

fn events_of(site: SiteId, filter: &EventFilter) -> Select<event::Entity> {
    let mut query = event::Entity::find().filter(event::Column::SiteId.eq(site));
    if let Some(event_type) = &filter.event_type {
        query = query.filter(event::Column::EventType.eq(event_type));
    }
    if let Some(account) = filter.account {
        // What happens to an account is about the account, one of its follows or of its activities, by which events are found.
        let follows = followed_channel::Entity::find()
            .select_only()
            .column(followed_channel::Column::Id)
            .filter(followed_channel::Column::AccountId.eq(account));
        let activities = activity::Entity::find()
            .select_only()
            .column(activity::Column::Id)
            .filter(activity::Column::AccountId.eq(account));
        let about = Condition::any()
            .add(event::Column::EntityId.eq(account.0))
            .add(event::Column::EntityId.in_subquery(follows.into_query()))
            .add(event::Column::EntityId.in_subquery(activities.into_query()));
        query = query.filter(about).filter(event::Column::AccountId.eq(account));
    }
    if let Some(member) = filter.member {
        query = query.filter(about_member(site, member));
    }
    if let Some(entity) = filter.entity {
        query = query.filter(event::Column::EntityId.eq(entity));
    }
    // An id begins with its instant.
    if let Some(since) = filter.since {
        query = query.filter(event::Column::Id.gte(first_id(since)));
    }
    if let Some(until) = filter.until {
        query = query.filter(event::Column::Id.lt(first_id(until)));
    }
    query
}

/// Events about the member's account, its follows, or the member's activities, which need no account.
fn about_member(site: SiteId, member: MemberId) -> Condition {
    let accounts = || {
        account::Entity::find()
            .select_only()
            .column(account::Column::Id)
            .filter(account::Column::SiteId.eq(site))
            .filter(account::Column::MemberId.eq(member))
            .into_query()
    };
    let follows = followed_channel::Entity::find()
        .select_only()
        .column(followed_channel::Column::Id)
        .filter(followed_channel::Column::AccountId.in_subquery(accounts()));
    let activities = activity::Entity::find()
        .select_only()
        .column(activity::Column::Id)
        .filter(activity::Column::SiteId.eq(site))
        .filter(activity::Column::MemberId.eq(member));
    let mut about = Condition::any().add(event::Column::EntityId.in_subquery(accounts()));
    for entities in [follows.into_query(), activities.into_query()] {
        about = about.add(event::Column::EntityId.in_subquery(entities));
    }
    about
}

/// The event `id` of `site`.
pub async fn find_event(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: EventId,
) -> Result<Option<event::Model>, DbErr> {
    event::Entity::find_by_id((site, id)).one(db).await
}

/// What the log says of a delivery beside its own row.
#[derive(Debug, Default, Clone, FromQueryResult)]
pub struct Details {
    /// The type of its event, while that is kept.
    pub event_type: Option<String>,
    /// What the receiver last answered.
    pub status_code: Option<i32>,
    /// Why it last did not.
    pub error_class: Option<String>,
    /// How its subscription is, while there is one.
    pub subscription_status: Option<SubscriptionStatus>,
}

impl Details {
    /// When `delivery` is tried next; unless it has ended, or is held.
    #[must_use]
    pub fn next_attempt_at(&self, delivery: &delivery::Model) -> Option<Timestamp> {
        (delivery.finished_at.is_none() && !self.is_held(delivery)).then_some(delivery.next_attempt_at)
    }

    /// Whether `delivery` waits for its subscription to be enabled.
    #[must_use]
    pub fn is_held(&self, delivery: &delivery::Model) -> bool {
        delivery.finished_at.is_none()
            && self.subscription_status.is_some_and(|status| status != SubscriptionStatus::Enabled)
    }
}

/// For each of `deliveries`, the type of its event, how its last try went, and how its subscription is.
pub async fn details(
    db: &impl ConnectionTrait,
    deliveries: &[delivery::Model],
) -> Result<HashMap<DeliveryId, Details>, DbErr> {
    let rows = Rows::new(deliveries)
        .uuid("site_id", |row| row.site_id.0)
        .uuid("id", |row| row.id.0)
        .uuid("event_id", |row| row.event_id.0)
        .uuid("subscription_id", |row| row.subscription_id.0)
        .int("number", |row| i64::from(row.attempt_count))
        .query(
            db,
            "SELECT r.id, e.event_type, a.status_code, a.error_class, s.status AS subscription_status FROM {rows} r \
             LEFT JOIN subscription s ON s.id = r.subscription_id \
             LEFT JOIN event e ON e.site_id = r.site_id AND e.id = r.event_id \
             LEFT JOIN attempt a ON a.delivery_id = r.id AND a.number = r.number",
        )
        .await?;
    rows.iter().map(|row| Ok((row.try_get("", "id")?, Details::from_query_result(row, "")?))).collect()
}
