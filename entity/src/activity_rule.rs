//! What earns points for activities.

use sea_orm::entity::prelude::*;

use crate::id::{ActivityRuleId, SiteId, Timestamp};
use crate::kinds::{ActivityType, MentionType, Platform};

/// What earns points for activities.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "activity_rule")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ActivityRuleId,
    /// Its site.
    pub site_id: SiteId,
    /// Grows with every change; an award names it.
    pub version: i64,
    /// Which activities.
    pub activity_type: ActivityType,
    /// On which platform; on any if absent.
    pub platform: Option<Platform>,
    /// How they mention the brand; in any way if absent.
    pub mention_type: Option<MentionType>,
    /// Points for one.
    pub points: i64,
    /// How often and how much, as JSON text.
    pub limits: String,
    /// What must be so, as JSON text.
    pub requires: String,
    /// Whether it counts.
    pub is_enabled: bool,
    /// From when on it counts.
    pub starts_at: Option<Timestamp>,
    /// Until when it counts.
    pub ends_at: Option<Timestamp>,
    /// Points it has awarded in all.
    pub awarded_points: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
