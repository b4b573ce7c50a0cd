//! An app installed on one site.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, AppInstanceId, SiteId, Timestamp};

/// An app installed on one site.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "app_instance")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AppInstanceId,
    /// Where.
    pub site_id: SiteId,
    /// What.
    pub app_id: AppId,
    /// When.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
