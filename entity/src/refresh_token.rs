//! One refresh token, hashed.

use sea_orm::entity::prelude::*;

use crate::id::{MemberId, OauthClientId, RefreshTokenId, SiteId, Timestamp, TokenFamilyId, VisitorId};

/// One refresh token, hashed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refresh_token")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RefreshTokenId,
    /// All that descend from one sign-in.
    pub family_id: TokenFamilyId,
    /// Its site.
    pub site_id: SiteId,
    /// The member, or
    pub member_id: Option<MemberId>,
    /// the anonymous visitor.
    pub visitor_id: Option<VisitorId>,
    /// The front-end it was issued to.
    pub client_id: Option<OauthClientId>,
    /// SHA-256 of the token.
    pub token_hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When a successor replaced it.
    pub rotated_at: Option<Timestamp>,
    /// That successor.
    pub successor_id: Option<RefreshTokenId>,
    /// When its family was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
