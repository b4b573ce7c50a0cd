//! The loyalty program of a site.

use sea_orm::entity::prelude::*;

use crate::id::{SiteId, Timestamp};
use crate::kinds::ProgramStatus;

/// The loyalty program of a site.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "program")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// 2 to 50 characters.
    pub name: String,
    /// What the points are called, up to 20 characters.
    pub point_name: Option<String>,
    /// Members earn only while it is active.
    pub status: ProgramStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
