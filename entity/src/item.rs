//! One thing that a platform sent: it counts once, however often it is sent.

use sea_orm::entity::prelude::*;

use crate::id::{ItemId, RawDeliveryId, SiteId, Timestamp};
use crate::kinds::{ItemStatus, Platform};

/// One thing that a platform sent: it counts once, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "item")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ItemId,
    /// Who sent it.
    pub platform: Platform,
    /// The platform's id of the brand's account.
    pub account: String,
    /// What makes it the same thing, unique for platform and account.
    pub item_key: String,
    /// What it is, in the words of the parser.
    pub kind: String,
    /// The platform's id of the person who did it.
    pub person: Option<String>,
    /// The person's handle, normalised, where that is known.
    pub handle: Option<String>,
    /// The thing itself as JSON text.
    pub payload: String,
    /// When it happened, says the platform.
    pub occurred_at: Option<Timestamp>,
    /// The call that brought it first; none if we fetched it ourselves.
    pub delivery_id: Option<RawDeliveryId>,
    /// The site, once known.
    pub site_id: Option<SiteId>,
    /// How far the work on it is.
    pub status: ItemStatus,
    /// Why it waits, or why nothing came of it, for people.
    pub reason: Option<String>,
    /// How often the work was begun.
    pub attempts: i32,
    /// When it is worked on next.
    pub due_at: Timestamp,
    /// Until when it waits.
    pub expires_at: Option<Timestamp>,
    /// When it came first.
    pub received_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
