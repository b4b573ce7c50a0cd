//! Proof that the ledger is sound: per account the entries are numbered without gaps, each balance is the one before plus
//! the amount, the account's figures are their sums, and every award belongs to a follow.

use entity::id::{AccountId, SiteId};
use entity::kinds::EntryType;
use entity::{account, followed_channel, ledger_entry};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, ExprTrait as _, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};

use crate::db::snapshot;

/// Accounts read at once.
const PAGE: u64 = 500;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An entry does not follow from the one before it.
    #[error("account {account}: entry {entry} (number {sequence}) is wrong: {what}")]
    Entry {
        /// The account.
        account: AccountId,
        /// The entry.
        entry: entity::id::LedgerEntryId,
        /// Its number on the account.
        sequence: i64,
        /// What does not fit.
        what: String,
    },
    /// The account's figures are not the sums of its entries.
    #[error("account {account}: {what}")]
    Account {
        /// The account.
        account: AccountId,
        /// What does not fit.
        what: String,
    },
}

/// What was looked at and what was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Accounts looked at.
    pub accounts: u64,
    /// Entries looked at.
    pub entries: u64,
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
}

/// Looks at every account, each with its entries and follows as they are at one instant; `progress` is called after each page with what
/// was looked at so far.
pub async fn verify(db: &DatabaseConnection, mut progress: impl FnMut(&Report)) -> Result<Report, DbErr> {
    let mut report = Report::default();
    let mut after: Option<(SiteId, AccountId)> = None;
    loop {
        let mut query = account::Entity::find()
            .order_by_asc(account::Column::SiteId)
            .order_by_asc(account::Column::Id)
            .limit(PAGE);
        if let Some((site, id)) = after {
            let key = [account::Column::SiteId, account::Column::Id].map(Expr::col);
            query = query.filter(Expr::tuple(key).gt(Expr::tuple([Expr::val(site), Expr::val(id)])));
        }
        let page = snapshot(db).await?;
        let accounts = query.all(&page).await?;
        let Some(last) = accounts.last() else { break };
        after = Some((last.site_id, last.id));
        let ids: Vec<AccountId> = accounts.iter().map(|account| account.id).collect();
        let entries = ledger_entry::Entity::find()
            .filter(ledger_entry::Column::AccountId.is_in(ids.clone()))
            .order_by_asc(ledger_entry::Column::AccountId)
            .order_by_asc(ledger_entry::Column::Sequence)
            .all(&page)
            .await?;
        let follows = followed_channel::Entity::find()
            .filter(followed_channel::Column::AccountId.is_in(ids))
            .all(&page)
            .await?;
        drop(page);
        for account in &accounts {
            let own: Vec<_> = entries.iter().filter(|entry| entry.account_id == account.id).collect();
            let followed: Vec<_> = follows.iter().filter(|row| row.account_id == account.id).collect();
            report.accounts += 1;
            report.entries += own.len() as u64;
            check(account, &own, &followed, &mut report.faults);
        }
        progress(&report);
    }
    for entry in orphans(db).await? {
        report.entries += 1;
        report.faults.push(Fault::Entry {
            account: entry.account_id,
            entry: entry.id,
            sequence: entry.sequence,
            what: "its site has no such account".to_owned(),
        });
    }
    Ok(report)
}

/// Entries whose site has no such account. The database does not check that an account exists: whoever books has it locked.
async fn orphans(db: &impl ConnectionTrait) -> Result<Vec<ledger_entry::Model>, DbErr> {
    use account::Column::{Id, SiteId};
    let account = account::Entity::find()
        .select_only()
        .column(Id)
        .filter(
            Expr::col((account::Entity, SiteId)).equals((ledger_entry::Entity, ledger_entry::Column::SiteId)),
        )
        .filter(
            Expr::col((account::Entity, Id)).equals((ledger_entry::Entity, ledger_entry::Column::AccountId)),
        )
        .into_query();
    ledger_entry::Entity::find()
        .filter(Expr::exists(account).not())
        .order_by_asc(ledger_entry::Column::AccountId)
        .limit(PAGE)
        .all(db)
        .await
}

fn check(
    account: &account::Model,
    entries: &[&ledger_entry::Model],
    follows: &[&followed_channel::Model],
    faults: &mut Vec<Fault>,
) {
    let mut balance = 0_i64;
    let mut sums = [0_i64; 4];
    for (number, entry) in (1_i64..).zip(entries) {
        let mut wrong = |what: String| {
            faults.push(Fault::Entry {
                account: account.id,
                entry: entry.id,
                sequence: entry.sequence,
                what,
            });
        };
        if entry.sequence != number {
            wrong(format!("entry number {number} is missing before it"));
        }
        if entry.balance_after != balance + entry.amount {
            wrong(format!(
                "balance {balance} before it and amount {} do not give the {} it states",
                entry.amount, entry.balance_after
            ));
        }
        if let Some(channel) = entry.channel
            && entry.entry_type == EntryType::Earn
            && !follows.iter().any(|row| row.channel == channel)
        {
            wrong(format!("it awards points for {channel}, which the account does not follow"));
        }
        let is_same_award = |other: &&&ledger_entry::Model| {
            other.entry_type == EntryType::Earn && other.channel.is_some() && other.channel == entry.channel
        };
        if entry.entry_type == EntryType::Earn
            && let Some(first) = entries.iter().take_while(|other| other.id != entry.id).find(is_same_award)
        {
            wrong(format!("it awards points for a channel that entry {} awarded already", first.id));
        }
        balance = entry.balance_after;
        match entry.entry_type {
            EntryType::Earn => sums[0] += entry.amount,
            EntryType::Adjust | EntryType::Refund => sums[1] += entry.amount,
            EntryType::Redeem => sums[2] -= entry.amount,
            EntryType::Expire => sums[3] -= entry.amount,
        }
    }
    let stated = [
        ("balance", account.balance, balance),
        ("earned", account.earned, sums[0]),
        ("adjusted", account.adjusted, sums[1]),
        ("redeemed", account.redeemed, sums[2]),
        ("expired", account.expired, sums[3]),
        ("number of entries", account.ledger_sequence, i64::try_from(entries.len()).unwrap_or(i64::MAX)),
    ];
    for (name, stated, summed) in stated {
        if stated != summed {
            let what = format!("its {name} is {stated}, its ledger says {summed}");
            faults.push(Fault::Account { account: account.id, what });
        }
    }
}
