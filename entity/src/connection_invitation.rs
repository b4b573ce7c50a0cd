//! A one-time link that connects a brand's account.

use sea_orm::entity::prelude::*;

use crate::id::{ConnectionId, InvitationId, SiteId, Timestamp};
use crate::kinds::{ConnectionLogin, InvitationStatus, Platform};

/// A one-time link that connects a brand's account.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "connection_invitation")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: InvitationId,
    /// Its site.
    pub site_id: SiteId,
    /// The platform.
    pub platform: Platform,
    /// The login.
    pub login: ConnectionLogin,
    /// SHA-256 of the token in the link.
    pub token_hash: Vec<u8>,
    /// SHA-256 of the login's state, once it was opened.
    pub state_hash: Option<Vec<u8>>,
    /// How far it is.
    pub status: InvitationStatus,
    /// Why it failed, for people.
    pub problem: Option<String>,
    /// Sealed: the accounts to pick from, while somebody picks.
    pub candidates: Option<Vec<u8>>,
    /// What came of it.
    pub connection_id: Option<ConnectionId>,
    /// Until when it can be opened.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
