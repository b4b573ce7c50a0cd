//! A site's front-end: the `clientId` of the SDK's OAuthStrategy.

use sea_orm::entity::prelude::*;

use crate::id::{OauthClientId, SiteId, Timestamp};

/// A site's front-end: the `clientId` of the SDK's OAuthStrategy.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "oauth_client")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: OauthClientId,
    /// Its site.
    pub site_id: SiteId,
    /// For people.
    pub name: String,
    /// JSON array of origins that browsers may call from.
    pub allowed_origins: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
