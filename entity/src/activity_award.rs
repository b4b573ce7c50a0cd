//! What a rule awarded for an activity: once per rule, account and thing.

use sea_orm::entity::prelude::*;

use crate::id::{AccountId, ActivityId, ActivityRuleId, SiteId, Timestamp};

/// What a rule awarded for an activity: once per rule, account and thing.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "activity_award")]
pub struct Model {
    /// The rule.
    #[sea_orm(primary_key, auto_increment = false)]
    pub rule_id: ActivityRuleId,
    /// Whose account.
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: AccountId,
    /// The platform's id of the thing.
    #[sea_orm(primary_key, auto_increment = false)]
    pub external_id: String,
    /// Its site.
    pub site_id: SiteId,
    /// The rule as it then was.
    pub rule_version: i64,
    /// The activity.
    pub activity_id: ActivityId,
    /// Points.
    pub points: i64,
    /// When.
    pub awarded_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
