//! An issuer of a site's own member tokens.

use sea_orm::entity::prelude::*;

use crate::id::{SiteId, Timestamp, TrustedIssuerId};

/// An issuer of a site's own member tokens.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "trusted_issuer")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TrustedIssuerId,
    /// Its site.
    pub site_id: SiteId,
    /// The `iss` claim.
    pub issuer: String,
    /// Must be among the `aud` claim.
    pub audience: String,
    /// Where its keys are published.
    pub jwks_url: Option<String>,
    /// Or its one key, SPKI PEM.
    pub public_key: Option<String>,
    /// Or a shared secret, sealed.
    pub hmac_secret: Option<Vec<u8>>,
    /// The claim that names the member.
    pub member_id_claim: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
