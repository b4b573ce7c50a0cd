//! A member's own login on a platform, with sealed tokens.

use sea_orm::entity::prelude::*;

use crate::id::{MemberId, MemberLoginId, SiteId, Timestamp};
use crate::kinds::Platform;

/// A member's own login on a platform, with sealed tokens.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "member_login")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MemberLoginId,
    /// Its site.
    pub site_id: SiteId,
    /// Whose.
    pub member_id: MemberId,
    /// Where.
    pub platform: Platform,
    /// The platform's id of the person (TikTok: `open_id`).
    pub person: String,
    /// The handle, normalised.
    pub handle: Option<String>,
    /// Sealed access token.
    pub token: Option<Vec<u8>>,
    /// Sealed refresh token.
    pub refresh_token: Option<Vec<u8>>,
    /// When the access token ends.
    pub token_expires_at: Timestamp,
    /// When the refresh token ends.
    pub refresh_expires_at: Timestamp,
    /// What was granted, separated by commas.
    pub scopes: String,
    /// Since when it no longer works.
    pub dead_since: Option<Timestamp>,
    /// When posts are read next.
    pub poll_due_at: Timestamp,
    /// Whether they were read before.
    pub has_polled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
