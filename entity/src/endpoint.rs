//! Who serves a subscription, and how its receiver does.

use sea_orm::entity::prelude::*;

use crate::id::{SiteId, SubscriptionId, Timestamp};
use crate::kinds::EndpointNotice;

/// Who serves a subscription, and how its receiver does.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoint")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subscription_id: SubscriptionId,
    /// Its site.
    pub site_id: SiteId,
    /// The node that serves it.
    pub owner: Option<Uuid>,
    /// Grows with every change of the owner.
    pub fence: i64,
    /// When somebody must look at it.
    pub due_at: Timestamp,
    /// Whether some of its deliveries have an order to be kept.
    pub is_ordered: bool,
    /// The first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// What the last failure was: a status code, or the class of an error.
    pub last_failure: Option<String>,
    /// When deliveries were first exhausted since the last success …
    pub exhausted_first_at: Option<Timestamp>,
    /// … and last.
    pub exhausted_last_at: Option<Timestamp>,
    /// How much of the time until it is disabled was over when its owner was last told of this failure, in percent.
    pub warned_percent: i32,
    /// When its owner was last told that it fails, unless it has been told since that it works again.
    pub told_at: Option<Timestamp>,
    /// What its owner is still to be told.
    pub notice: Option<EndpointNotice>,
    /// When its health must be looked at.
    pub check_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
