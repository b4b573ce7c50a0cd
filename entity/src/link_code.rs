//! A one-time code by which a member proves a handle.

use sea_orm::entity::prelude::*;

use crate::id::{MemberId, SiteId, Timestamp};
use crate::kinds::Platform;

/// A one-time code by which a member proves a handle.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "link_code")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// SHA-256 of the code as it is compared.
    #[sea_orm(primary_key, auto_increment = false)]
    pub code_hash: Vec<u8>,
    /// Who proves.
    pub member_id: MemberId,
    /// Where.
    pub platform: Platform,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it counts.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// The platform's id of the person who used it.
    pub used_by: Option<String>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
