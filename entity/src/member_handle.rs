//! A handle that a member claims, and whether it is proven.

use sea_orm::entity::prelude::*;

use crate::id::{ItemId, MemberId, SiteId, Timestamp};
use crate::kinds::Platform;

/// A handle that a member claims, and whether it is proven.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "member_handle")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub member_id: MemberId,
    /// Where.
    #[sea_orm(primary_key, auto_increment = false)]
    pub platform: Platform,
    /// The handle, normalised.
    pub handle: String,
    /// The platform's id of the person who proved it; unique on the site.
    pub person: Option<String>,
    /// The brand's account to which `person` is the id, as platforms know a person by another id for each; empty for that of the
    /// member's own login. There if `person` is.
    pub person_account: Option<String>,
    /// When it was proven.
    pub proven_at: Option<Timestamp>,
    /// What the platform sent that proved it.
    pub proven_by: Option<ItemId>,
    /// When the member claimed it.
    pub claimed_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
