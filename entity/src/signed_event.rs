//! The signed token of an event for one app, made once.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, EventId, Timestamp};

/// The signed token of an event for one app, made once.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signed_event")]
pub struct Model {
    /// What happened.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: EventId,
    /// Whose token.
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: AppId,
    /// The key that signed it.
    pub key_id: String,
    /// Compact JWS.
    pub token: String,
    /// After this a resend is signed anew.
    pub expires_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
