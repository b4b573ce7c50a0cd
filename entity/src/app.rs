//! An external system.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, SiteId, Timestamp};

/// An external system.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "app")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AppId,
    /// The site that made it; none when the operator did.
    pub owner_site_id: Option<SiteId>,
    /// Shown to owners.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
