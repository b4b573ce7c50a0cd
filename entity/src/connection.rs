//! A brand's account on a platform, with sealed tokens.

use sea_orm::entity::prelude::*;

use crate::id::{ConnectionId, SiteId, Timestamp};
use crate::kinds::{ConnectionLogin, Platform};

/// A brand's account on a platform, with sealed tokens.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "connection")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ConnectionId,
    /// Its site.
    pub site_id: SiteId,
    /// The platform.
    pub platform: Platform,
    /// The login that connected it.
    pub login: ConnectionLogin,
    /// The platform's id of the account, as its webhooks name it; unique for the platform.
    pub external_id: String,
    /// The account's handle.
    pub username: Option<String>,
    /// The Facebook page that it belongs to.
    pub page_id: Option<String>,
    /// The app's id of the person who connected it.
    pub owner_id: Option<String>,
    /// Sealed access token.
    pub token: Option<Vec<u8>>,
    /// Sealed refresh token.
    pub refresh_token: Option<Vec<u8>>,
    /// When the token was given.
    pub token_issued_at: Option<Timestamp>,
    /// When it ends; none if it does not.
    pub token_expires_at: Option<Timestamp>,
    /// Permissions that were declined, as a JSON array.
    pub missing_permissions: String,
    /// Since when the token is refused: connect anew.
    pub dead_since: Option<Timestamp>,
    /// What is wrong, for people.
    pub problem: Option<String>,
    /// The platform wants no calls before.
    pub limited_until: Option<Timestamp>,
    /// When the platform last sent something.
    pub last_item_at: Option<Timestamp>,
    /// When its tags or mentions are read next.
    pub poll_due_at: Timestamp,
    /// Whether they were read before: the first time marks what was there before the connection.
    pub has_polled: bool,
    /// When its health is checked next.
    pub check_due_at: Timestamp,
    /// When it was connected.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
