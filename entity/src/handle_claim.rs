//! A handle that a member has claimed on a platform, once: together they are the history of the member's claims.

use sea_orm::entity::prelude::*;

use crate::id::{MemberId, SiteId, Timestamp};
use crate::kinds::Platform;

/// A handle that a member has claimed on a platform, once: together they are the history of the member's claims.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "handle_claim")]
pub struct Model {
    /// The site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// The member.
    #[sea_orm(primary_key, auto_increment = false)]
    pub member_id: MemberId,
    /// Where.
    #[sea_orm(primary_key, auto_increment = false)]
    pub platform: Platform,
    /// Which of the member's claims there; later ones are greater.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The handle, normalised; none once what is known of the member was erased.
    pub handle: Option<String>,
    /// When.
    pub claimed_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
