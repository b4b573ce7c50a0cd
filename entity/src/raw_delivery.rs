//! What a platform or provider sent in one call, byte for byte.

use sea_orm::entity::prelude::*;

use crate::id::{RawDeliveryId, Timestamp};

/// What a platform or provider sent in one call, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "raw_delivery")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RawDeliveryId,
    /// Which entrance it came through: `instagram/facebook-login` …
    pub source: String,
    /// The bytes that were signed; none once something in them had to be erased, or they grew old.
    pub body: Option<Vec<u8>>,
    /// How many things were in it.
    pub item_count: i32,
    /// When it came.
    pub received_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
