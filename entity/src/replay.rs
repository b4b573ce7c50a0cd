//! Events of a time that are sent to a subscription again.

use sea_orm::entity::prelude::*;

use crate::id::{EventId, ReplayId, SiteId, SubscriptionId, Timestamp};
use crate::kinds::{ReplayScope, ReplayStatus};

/// Events of a time that are sent to a subscription again.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "replay")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReplayId,
    /// Its site.
    pub site_id: SiteId,
    /// To whom.
    pub subscription_id: SubscriptionId,
    /// Which deliveries.
    pub scope: ReplayScope,
    /// The first instant.
    pub since: Timestamp,
    /// The instant after the last.
    pub until: Timestamp,
    /// How far it is.
    pub status: ReplayStatus,
    /// The last event that was looked at.
    pub cursor: Option<EventId>,
    /// Events looked at.
    pub examined_count: i64,
    /// Deliveries made or made due again.
    pub replayed_count: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
