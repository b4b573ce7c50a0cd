//! A site (tenant) and the versions of its settings.

use sea_orm::entity::prelude::*;

use crate::id::{SiteId, Timestamp};

/// A site (tenant) and the versions of its settings.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "site")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SiteId,
    /// Shown to the owner.
    pub name: String,
    /// Grows with every change of what a follow depends on: program, channels, subscriptions, installations.
    pub config_version: i64,
    /// Revision of the social-media settings, for optimistic updates.
    pub settings_revision: i64,
    /// Revision of the trusted issuers, for optimistic updates.
    pub auth_revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
