//! What an owner does with one delivery: sending it again, or cancelling it.

use entity::id::{DeliveryId, SiteId};
use entity::kinds::{DeliveryStatus, SubscriptionStatus};
use entity::{attempt, delivery, event, subscription};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QuerySelect as _,
};

use super::{endpoints, retention};
use crate::db::Tx;
use crate::sites::config::Target;

/// Why nothing was done with a delivery.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The site has no such delivery.
    #[error("there is no such delivery")]
    NotFound,
    /// Its subscription is gone or disabled.
    #[error("the webhook subscription of this delivery is deleted or not enabled")]
    SubscriptionNotEnabled,
    /// Its event was expunged.
    #[error("the event of this delivery was expunged: there is nothing left of it to send")]
    Expunged,
    /// It waits no more.
    #[error("the delivery has ended: it is {0}")]
    Ended(DeliveryStatus),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Makes the delivery `id` of `site` due now, with the whole schedule before it and in the order that its subscription has now; its
/// attempts so far are kept. One that is under way at this moment is left alone. One that was accepted before has no order: its place
/// there is past, and nothing stands behind it.
pub async fn redeliver(tx: &Tx, site: SiteId, id: DeliveryId) -> Result<delivery::Model, DeliveryError> {
    let mut row = hold(tx, site, id).await?;
    let target: Target = subscription::Entity::find_by_id(row.subscription_id)
        .filter(subscription::Column::Status.eq(SubscriptionStatus::Enabled))
        .one(tx.conn())
        .await?
        .ok_or(DeliveryError::SubscriptionNotEnabled)?
        .into();
    if is_waiting(&row) && row.next_attempt_at <= tx.now() {
        return Ok(row);
    }
    let event = event::Entity::find_by_id((site, row.event_id)).one(tx.conn()).await?;
    if event.as_ref().is_some_and(retention::is_expunged) {
        return Err(DeliveryError::Expunged);
    }
    let ordered = if was_accepted(tx, id).await? { None } else { event };
    row.order_key = ordered.and_then(|event| target.order_key(event.account_id, event.entity_id));
    row.status = if row.attempt_count == 0 { DeliveryStatus::Pending } else { DeliveryStatus::Retrying };
    row.schedule_step = 0;
    row.next_attempt_at = tx.now();
    row.finished_at = None;
    row.clone().into_active_model().reset_all().update(tx.conn()).await?;
    endpoints::poke(tx, &[row.subscription_id]).await?;
    Ok(row)
}

/// Cancels the delivery `id` of `site`, which waits; what stands behind it in its order goes on. A try that is under way still comes
/// into its log.
pub async fn cancel(tx: &Tx, site: SiteId, id: DeliveryId) -> Result<delivery::Model, DeliveryError> {
    let mut row = hold(tx, site, id).await?;
    if !is_waiting(&row) {
        return Err(DeliveryError::Ended(row.status));
    }
    row.status = DeliveryStatus::Cancelled;
    row.finished_at = Some(tx.now());
    row.clone().into_active_model().reset_all().update(tx.conn()).await?;
    // Its node may have it in memory.
    endpoints::changed(tx, row.subscription_id, false).await?;
    Ok(row)
}

/// The delivery `id` of `site`, which nobody else changes until the transaction ends.
async fn hold(tx: &Tx, site: SiteId, id: DeliveryId) -> Result<delivery::Model, DeliveryError> {
    let found = delivery::Entity::find_by_id((site, id)).one(tx.conn()).await?;
    // The endpoint first, as whoever writes outcomes does.
    endpoints::hold(tx, &[found.ok_or(DeliveryError::NotFound)?.subscription_id]).await?;
    let row = delivery::Entity::find_by_id((site, id)).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(DeliveryError::NotFound)
}

fn is_waiting(row: &delivery::Model) -> bool {
    matches!(row.status, DeliveryStatus::Pending | DeliveryStatus::Retrying)
}

/// Whether a receiver or a stream has accepted a try of the delivery `id`.
async fn was_accepted(tx: &Tx, id: DeliveryId) -> Result<bool, DbErr> {
    let code = attempt::Column::StatusCode;
    let accepted = attempt::Entity::find()
        .filter(attempt::Column::DeliveryId.eq(id))
        .filter(attempt::Column::ErrorClass.is_null())
        .filter(Condition::any().add(code.is_null()).add(code.between(200, 299)));
    Ok(accepted.count(tx.conn()).await? > 0)
}
