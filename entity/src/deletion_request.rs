//! A platform's demand to delete what is known of somebody.

use sea_orm::entity::prelude::*;

use crate::id::Timestamp;
use crate::kinds::Platform;

/// A platform's demand to delete what is known of somebody.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deletion_request")]
pub struct Model {
    /// What the person may look it up by.
    #[sea_orm(primary_key, auto_increment = false)]
    pub code: String,
    /// Who demands it.
    pub platform: Platform,
    /// The app's id of the person.
    pub owner_id: String,
    /// Connections that were deleted.
    pub deleted_count: i32,
    /// The platform's ids of the accounts whose things are still to be emptied, as a JSON list.
    pub accounts: String,
    /// When it came.
    pub created_at: Timestamp,
    /// When it was done.
    pub done_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
