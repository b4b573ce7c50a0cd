//! A hashtag whose posts count as mentions.

use sea_orm::entity::prelude::*;

use crate::id::{SiteId, Timestamp};

/// A hashtag whose posts count as mentions.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tracked_hashtag")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// As it is compared: without `#`, case-folded.
    #[sea_orm(primary_key, auto_increment = false)]
    pub folded: String,
    /// For the API.
    pub id: Uuid,
    /// As the owner wrote it.
    pub hashtag: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
