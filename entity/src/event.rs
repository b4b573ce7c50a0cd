//! What happened, exactly as it is told to the outside.

use sea_orm::entity::prelude::*;

use crate::id::{AccountId, EventId, SiteId, Timestamp};

/// What happened, exactly as it is told to the outside.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// Key within the site; unique everywhere.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    /// `wix.loyalty.socialmedia.v1.followed_channel_created` …
    pub event_type: String,
    /// The entity it is about.
    pub entity_id: Uuid,
    /// The account concerned, if one is.
    pub account_id: Option<AccountId>,
    /// Grows per entity.
    pub sequence: i64,
    /// The event as JSON text, byte for byte as signed.
    pub data: String,
    /// Who caused it, as JSON text.
    pub identity: String,
    /// The commit's instant.
    pub occurred_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
