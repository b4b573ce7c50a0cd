//! A message to somebody who wrote to the brand, not yet sent.

use sea_orm::entity::prelude::*;

use crate::id::{ItemId, SiteId, Timestamp};

/// A message to somebody who wrote to the brand, not yet sent.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "direct_reply")]
pub struct Model {
    /// What it answers.
    #[sea_orm(primary_key, auto_increment = false)]
    pub item_id: ItemId,
    /// Its site.
    pub site_id: SiteId,
    /// The platform's id of the brand's account.
    pub account: String,
    /// The platform's id of whom it is for.
    pub person: String,
    /// What it says.
    pub message: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it is tried next.
    pub due_at: Timestamp,
    /// From when on the platform takes it no more.
    pub expires_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
