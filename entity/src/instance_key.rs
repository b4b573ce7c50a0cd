//! A key of this installation.

use sea_orm::entity::prelude::*;

use crate::id::Timestamp;

/// A key of this installation.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "instance_key")]
pub struct Model {
    /// `access-token` …
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// PKCS#8, sealed.
    pub private_key: Vec<u8>,
    /// Raw public key.
    pub public_key: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
