//! Somebody on a platform who has met the brand, by the platform's own id.

use sea_orm::entity::prelude::*;

use crate::id::{MemberId, SiteId, Timestamp};
use crate::kinds::Platform;

/// Somebody on a platform who has met the brand, by the platform's own id.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "person")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// The platform.
    #[sea_orm(primary_key, auto_increment = false)]
    pub platform: Platform,
    /// The platform's id of the person as the brand sees it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub external_id: String,
    /// The handle seen last, normalised.
    pub handle: Option<String>,
    /// Whether the person follows the brand; none as long as the platform has not said.
    pub follows: Option<bool>,
    /// When that was first seen so.
    pub follows_since: Option<Timestamp>,
    /// When the person last wrote.
    pub last_message_at: Option<Timestamp>,
    /// When the platform told what is noted of the person.
    pub told_at: Timestamp,
    /// For which member the follow of this person has counted; it counts for no other.
    pub counted_for: Option<MemberId>,
    /// Whether that member had proven to be the person.
    pub is_count_proven: bool,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
