//! A member's account × channel, unique.

use sea_orm::entity::prelude::*;

use crate::id::{AccountId, FollowedChannelId, ItemId, SiteId, Timestamp};
use crate::kinds::{Channel, Evidence, FollowSource};

/// A member's account × channel, unique.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "followed_channel")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FollowedChannelId,
    /// Its site.
    pub site_id: SiteId,
    /// Whose follow it is.
    pub account_id: AccountId,
    /// What is followed.
    pub channel: Channel,
    /// Who told us.
    pub source: FollowSource,
    /// How well it is proven.
    pub evidence: Evidence,
    /// The key of the call that made it: the same key gets the same answer again.
    pub idempotency_key: Option<String>,
    /// What the platform sent that proves it; always there where the evidence is more than a claim.
    pub evidence_item: Option<ItemId>,
    /// When the evidence was seen.
    pub evidence_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
