//! A member's loyalty account: points and revision.

use sea_orm::entity::prelude::*;

use crate::id::{AccountId, ContactId, MemberId, SiteId, Timestamp};

/// A member's loyalty account: points and revision.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    /// Its site, the first part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// The second part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AccountId,
    /// Its member, one account each.
    pub member_id: MemberId,
    /// The member's contact.
    pub contact_id: ContactId,
    /// earned + adjusted - redeemed - expired; always the sum of the account's ledger.
    pub balance: i64,
    /// Points earned so far.
    pub earned: i64,
    /// Sum of corrections.
    pub adjusted: i64,
    /// Points spent.
    pub redeemed: i64,
    /// Points that ran out.
    pub expired: i64,
    /// Grows with every change.
    pub revision: i64,
    /// Sequence number of the account's last event.
    pub event_sequence: i64,
    /// Sequence number of the account's last ledger entry.
    pub ledger_sequence: i64,
    /// When points last moved.
    pub last_activity_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The instant of the last id that was given when it changed: ids run ahead of the clock when much happens, and those of whoever
    /// changes it next, on whatever node, have to be greater.
    pub latest_id_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
