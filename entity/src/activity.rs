//! One social thing seen, normalised, and what came of it.

use sea_orm::entity::prelude::*;

use crate::id::{AccountId, ActivityId, ItemId, MemberId, SiteId, Timestamp};
use crate::kinds::{ActivityOutcome, ActivityType, MentionType, Platform};

/// One social thing seen, normalised, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "activity")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// Key within the site; unique everywhere.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ActivityId,
    /// What the platform sent.
    pub item_id: ItemId,
    /// What was done.
    pub activity_type: ActivityType,
    /// Where.
    pub platform: Platform,
    /// The platform's id of the thing: media, message, comment, person.
    pub external_id: String,
    /// How a post mentions the brand.
    pub mention_type: Option<MentionType>,
    /// Who did it, where that is known.
    pub member_id: Option<MemberId>,
    /// Their account.
    pub account_id: Option<AccountId>,
    /// The platform's id of the person.
    pub person: Option<String>,
    /// The person's handle.
    pub handle: Option<String>,
    /// What else is known of it, as JSON text.
    pub properties: String,
    /// What came of it.
    pub outcome: ActivityOutcome,
    /// Why, for people.
    pub reason: Option<String>,
    /// Points awarded for it.
    pub points: i64,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When its outcome last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
