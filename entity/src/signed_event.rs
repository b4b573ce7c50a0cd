//! The signature of an event's token for one app, made once.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, EventId, Timestamp};

/// The signature of an event's token for one app, made once. The rest of the token is made again of the event.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signed_event")]
pub struct Model {
    /// What happened.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: EventId,
    /// For whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: AppId,
    /// The key that signed it.
    pub key_id: String,
    /// The third part of the compact JWS.
    pub signature: String,
    /// The first eight bytes of the SHA-256 of the other two parts.
    pub input_hash: i64,
    /// After this a resend is signed anew.
    pub expires_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
