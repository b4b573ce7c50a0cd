//! An API key, hashed.

use sea_orm::entity::prelude::*;

use crate::id::{ApiKeyId, SiteId, Timestamp};

/// An API key, hashed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApiKeyId,
    /// Its site; none for an instance-wide key.
    pub site_id: Option<SiteId>,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// JSON array of scopes.
    pub scopes: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
