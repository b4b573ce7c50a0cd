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
    /// The advisory lock that it holds for as long as it is connected.
    pub session: i32,
    /// When others may take it for dead, connected or not.
    pub alive_until: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
