//! A person signed in on the site.

use sea_orm::entity::prelude::*;

use crate::id::{ContactId, MemberId, SiteId, Timestamp};

/// A person signed in on the site.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "member")]
pub struct Model {
    /// Its site, the first part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// The second part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MemberId,
    /// The site's own id of the person, unique on the site.
    pub external_id: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Display name.
    pub name: Option<String>,
    /// The contact that Wix calls address it by.
    pub contact_id: ContactId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
