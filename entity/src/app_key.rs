//! A key pair that signs an app's webhooks.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, Timestamp};

/// A key pair that signs an app's webhooks.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "app_key")]
pub struct Model {
    /// The `kid`: RFC 7638 thumbprint of the public key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Its app.
    pub app_id: AppId,
    /// SPKI PEM.
    pub public_key: String,
    /// PKCS#8, sealed.
    pub private_key: Vec<u8>,
    /// Signs events from this instant until a later key does.
    pub active_from: Timestamp,
    /// Leaves the key set then; none while it is the newest.
    pub published_until: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
