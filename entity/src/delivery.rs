//! One event for one subscription.

use sea_orm::entity::prelude::*;

use crate::id::{DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use crate::kinds::DeliveryStatus;

/// One event for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    /// Its site, the first part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// The second part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeliveryId,
    /// For whom.
    pub subscription_id: SubscriptionId,
    /// What.
    pub event_id: EventId,
    /// How far it is.
    pub status: DeliveryStatus,
    /// Tries so far.
    pub attempt_count: i32,
    /// Resends of the schedule used up; a redeliver starts it over.
    pub schedule_step: i32,
    /// When it is due.
    pub next_attempt_at: Timestamp,
    /// What its order is kept within: nothing, an account, or the subscription.
    pub order_key: Option<Uuid>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it reached a final state.
    pub finished_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
