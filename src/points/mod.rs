//! Points: an append-only ledger whose sum is the balance.
//!
//! This is the only writer of `ledger_entry`. Every entry has its number on the account and the balance after it, so
//! that [`verify`] can name the entry that is wrong; `award_key` is unique per account, so that nothing is awarded twice.

pub mod verify;

use entity::id::{AccountId, LedgerEntryId};
use entity::kinds::{Channel, EntryType};
use entity::{account, ledger_entry};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use crate::db::Tx;
use crate::rows::{Rows, Write};

/// Points that one entry may move at the most, as Wix limits them.
pub const AMOUNT_MAX: i64 = 9_999_999;

/// What points are booked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// How many; less than zero takes them away.
    pub amount: i64,
    /// For people.
    pub description: String,
    /// The followed channel, if it is about one.
    pub channel: Option<Channel>,
    /// Unique on the account: the same is booked once for ever.
    pub key: String,
}

impl Booking {
    /// The award for following `channel`.
    #[must_use]
    pub fn follow(channel: Channel, points: i64) -> Self {
        Self {
            amount: points,
            description: format!("Followed on {channel}"),
            channel: Some(channel),
            key: follow_key(channel),
        }
    }

    /// Takes `points` for `channel` back, as it is no longer followed.
    #[must_use]
    pub fn unfollow(channel: Channel, points: i64) -> Self {
        Self {
            amount: -points,
            description: format!("No longer follows on {channel}"),
            channel: Some(channel),
            key: format!("unfollow:{channel}"),
        }
    }
}

/// What `account` still has of the award for following `channel`, also by those of its entries that are `unwritten`: zero once it
/// was taken back.
pub async fn follow_award(
    db: &impl ConnectionTrait,
    account: AccountId,
    channel: Channel,
    unwritten: &[&ledger_entry::Model],
) -> Result<i64, DbErr> {
    let keys = [Booking::follow(channel, 0).key, Booking::unfollow(channel, 0).key];
    let written = ledger_entry::Entity::find()
        .filter(ledger_entry::Column::AccountId.eq(account))
        .filter(ledger_entry::Column::AwardKey.is_in(keys.clone()))
        .all(db)
        .await?;
    let is_about =
        |entry: &&&ledger_entry::Model| entry.award_key.as_ref().is_some_and(|key| keys.contains(key));
    let entries: Vec<&ledger_entry::Model> =
        written.iter().chain(unwritten.iter().filter(is_about).copied()).collect();
    Ok(if let [award] = entries.as_slice() { award.amount.max(0) } else { 0 })
}

/// The key of the award for following `channel`.
#[must_use]
pub fn follow_key(channel: Channel) -> String {
    format!("follow:{channel}")
}

/// Books points on `account`: gives the entry to insert and changes the account, which is to be written too. What is given is
/// earned, what is taken an adjustment. The caller sees to it that the balance stays zero or more.
pub fn book(tx: &Tx, account: &mut account::Model, booking: Booking) -> ledger_entry::Model {
    let Booking { amount, description, channel, key } = booking;
    account.balance += amount;
    let entry_type = if amount > 0 {
        account.earned += amount;
        EntryType::Earn
    } else {
        account.adjusted += amount;
        EntryType::Adjust
    };
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
        entry_type,
        description,
        channel,
        award_key: Some(key),
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
