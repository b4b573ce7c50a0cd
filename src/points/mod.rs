//! Points: an append-only ledger whose sum is the balance.
//!
//! This is the only writer of `ledger_entry`. Every entry has its number on the account and the balance after it, so
//! that [`verify`] can name the entry that is wrong; `award_key` is unique per account, so that nothing is awarded twice.

pub mod verify;

use entity::id::LedgerEntryId;
use entity::kinds::{Channel, EntryType};
use entity::{account, ledger_entry};

use crate::db::Tx;
use crate::rows::{Rows, Write};

/// Points that one entry may move at the most, as Wix limits them.
pub const AMOUNT_MAX: i64 = 9_999_999;

/// Books `amount` points on `account` for following `channel`: gives the entry to insert and changes the account, which is to
/// be written too.
pub fn earn(tx: &Tx, account: &mut account::Model, amount: i64, channel: Channel) -> ledger_entry::Model {
    account.balance += amount;
    account.earned += amount;
    account.ledger_sequence += 1;
    account.revision += 1;
    account.last_activity_at = Some(tx.now());
    account.updated_at = tx.now();
    ledger_entry::Model {
        id: LedgerEntryId(tx.new_id()),
        site_id: account.site_id,
        account_id: account.id,
        sequence: account.ledger_sequence,
        amount,
        balance_after: account.balance,
        entry_type: EntryType::Earn,
        description: format!("Followed on {channel}"),
        channel: Some(channel),
        award_key: Some(format!("follow:{channel}")),
        created_at: tx.now(),
    }
}

/// To append `entries`, made in `tx`.
#[must_use]
pub fn insertion(tx: &Tx, entries: &[ledger_entry::Model]) -> Write {
    Rows::new(entries)
        .uuid("id", |entry| entry.id.0)
        .uuid("site_id", |entry| entry.site_id.0)
        .uuid("account_id", |entry| entry.account_id.0)
        .int("sequence", |entry| entry.sequence)
        .int("amount", |entry| entry.amount)
        .int("balance_after", |entry| entry.balance_after)
        .text("entry_type", |entry| entry.entry_type.as_str())
        .text("description", |entry| entry.description.as_str())
        .text_or_null("channel", |entry| entry.channel.map(Channel::as_str))
        .text_or_null("award_key", |entry| entry.award_key.as_deref())
        .same_int("created_at", tx.now().0)
        .insert("ledger_entry", "")
}
