//! A running process that serves subscriptions.

use sea_orm::entity::prelude::*;

use crate::id::Timestamp;

/// A running process that serves subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "node")]
pub struct Model {
    /// Chosen at its start.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// When others may take it for dead.
    pub alive_until: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
