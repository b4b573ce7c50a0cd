//! A secret that signs a subscription's webhooks in their headers.

use sea_orm::entity::prelude::*;

use crate::id::{SigningSecretId, SiteId, SubscriptionId, Timestamp};
use crate::kinds::SignatureScheme;

/// A secret that signs a subscription's webhooks in their headers.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscription_secret")]
pub struct Model {
    /// Its site.
    pub site_id: SiteId,
    /// Whose webhooks it signs.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subscription_id: SubscriptionId,
    /// Which one; later ones are greater.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SigningSecretId,
    /// What it is for.
    pub kind: SignatureScheme,
    /// 32 bytes, sealed: the key of the HMAC or the seed of the Ed25519 pair.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Signs no more from this instant on; none while it is the newest.
    pub retired_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
