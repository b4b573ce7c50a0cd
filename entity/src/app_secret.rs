//! A secret with which an app gets its tokens, hashed.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, AppSecretId, Timestamp};

/// A secret with which an app gets its tokens, hashed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "app_secret")]
pub struct Model {
    /// Whose secret it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: AppId,
    /// Which one; later ones are greater.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AppSecretId,
    /// SHA-256 of the secret.
    pub secret_hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Is worth nothing from this instant on; none while it is the newest.
    pub retired_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
