//! How far the clean-up of something has come.

use sea_orm::entity::prelude::*;

/// How far the clean-up of something has come.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "retention")]
pub struct Model {
    /// Of what.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The last key that is done.
    pub reached: Uuid,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
