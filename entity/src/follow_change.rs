//! A change of whether a person follows the brand, as the platform told it.

use sea_orm::entity::prelude::*;

use crate::id::{ItemId, MemberId, SiteId, Timestamp};
use crate::kinds::Platform;

/// A change of whether a person follows the brand, as the platform told it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "follow_change")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Its site.
    pub site_id: SiteId,
    /// The platform.
    pub platform: Platform,
    /// The platform's id of the person.
    pub person: String,
    /// The member, where that was known.
    pub member_id: Option<MemberId>,
    /// What it is from then on.
    pub follows: bool,
    /// What said so.
    pub item_id: ItemId,
    /// When we saw it.
    pub seen_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
