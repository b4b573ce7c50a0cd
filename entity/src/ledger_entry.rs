//! An immutable signed change of points. The database refuses updates and deletes.

use sea_orm::entity::prelude::*;

use crate::id::{AccountId, LedgerEntryId, SiteId, Timestamp};
use crate::kinds::{Channel, EntryType};

/// An immutable signed change of points. The database refuses updates and deletes.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger_entry")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: LedgerEntryId,
    /// Its site.
    pub site_id: SiteId,
    /// Whose points.
    pub account_id: AccountId,
    /// 1, 2, 3 … per account, without gaps.
    pub sequence: i64,
    /// Signed points.
    pub amount: i64,
    /// The running sum, which names the entry that is wrong if one is.
    pub balance_after: i64,
    /// What kind of change.
    pub entry_type: EntryType,
    /// For people.
    pub description: String,
    /// The followed channel that earned it.
    pub channel: Option<Channel>,
    /// What was awarded, unique per account: one award for ever.
    pub award_key: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
