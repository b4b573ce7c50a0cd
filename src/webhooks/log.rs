//! What owners see of events and deliveries, and sending one again.

use entity::id::{DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::{DeliveryStatus, SubscriptionStatus};
use entity::{attempt, delivery, event, subscription};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::endpoints;
use crate::db::Tx;

/// Which deliveries to list.
#[derive(Debug, Default, Clone, Copy)]
pub struct DeliveryFilter {
    /// Of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// In this state.
    pub status: Option<DeliveryStatus>,
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
    }
    if let Some(before) = before {
        query = query.filter(delivery::Column::Id.lt(before));
    }
    query.order_by_desc(delivery::Column::Id).limit(limit).all(db).await
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

/// Why a delivery was not sent again.
#[derive(Debug, thiserror::Error)]
pub enum RedeliverError {
    /// The site has no such delivery.
    #[error("there is no such delivery")]
    NotFound,
    /// Its subscription is gone or disabled.
    #[error("the webhook subscription of this delivery is deleted or not enabled")]
    SubscriptionNotEnabled,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Makes the delivery `id` of `site` due now, with the whole schedule before it; its attempts so far are kept. One that is
/// under way at this moment is left alone.
pub async fn redeliver(tx: &Tx, site: SiteId, id: DeliveryId) -> Result<delivery::Model, RedeliverError> {
    let found = delivery::Entity::find_by_id((site, id)).one(tx.conn()).await?;
    // The endpoint first, as whoever writes outcomes does.
    endpoints::hold(tx, &[found.ok_or(RedeliverError::NotFound)?.subscription_id]).await?;
    let mut row = delivery::Entity::find_by_id((site, id))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .ok_or(RedeliverError::NotFound)?;
    subscription::Entity::find_by_id(row.subscription_id)
        .filter(subscription::Column::Status.eq(SubscriptionStatus::Enabled))
        .one(tx.conn())
        .await?
        .ok_or(RedeliverError::SubscriptionNotEnabled)?;
    let is_waiting = matches!(row.status, DeliveryStatus::Pending | DeliveryStatus::Retrying);
    if is_waiting && row.next_attempt_at <= tx.now() {
        return Ok(row);
    }
    row.status = if row.attempt_count == 0 { DeliveryStatus::Pending } else { DeliveryStatus::Retrying };
    row.schedule_step = 0;
    row.next_attempt_at = tx.now();
    row.finished_at = None;
    row.clone().into_active_model().reset_all().update(tx.conn()).await?;
    endpoints::poke(tx, &[row.subscription_id]).await?;
    Ok(row)
}

/// Which events to list.
#[derive(Debug, Default, Clone)]
pub struct EventFilter {
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
    let mut query = event::Entity::find().filter(event::Column::SiteId.eq(site));
    if let Some(event_type) = &filter.event_type {
        query = query.filter(event::Column::EventType.eq(event_type));
    }
    if let Some(since) = filter.since {
        query = query.filter(event::Column::OccurredAt.gte(since));
    }
    if let Some(before) = before {
        query = query.filter(event::Column::Id.lt(before));
    }
    query.order_by_desc(event::Column::Id).limit(limit).all(db).await
}
