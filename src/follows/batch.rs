//! Many follows in one transaction.
//!
//! The accounts concerned are read first and, on PostgreSQL, locked in id order; what happens to them afterwards is decided
//! in memory, in order of arrival; then each table is written once. The unique keys of the database stand behind it:
//! (account, channel) of the follow and (account, award) of the ledger.

use std::collections::HashMap;

use entity::id::{AccountId, ContactId, FollowedChannelId, MemberId, SiteId};
use entity::kinds::{Channel, Evidence, FollowSource, ProgramStatus};
use entity::{account, followed_channel, ledger_entry};
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, FromQueryResult};

use super::{Follow, FollowError, FollowResult, Subject};
use crate::accounts;
use crate::db::Tx;
use crate::points;
use crate::rows::Rows;
use crate::sites::config::{Configs, SiteConfigs};
use crate::webhooks::EventType;
use crate::webhooks::event::{self, NewEvent};
use crate::webhooks::outbox::{self, FreshDeliveries};

/// Everything the batch knows and everything it will write.
#[derive(Default)]
struct Batch {
    accounts: HashMap<AccountId, AccountState>,
    by_member: HashMap<MemberId, AccountId>,
    contacts: HashMap<MemberId, (SiteId, ContactId)>,
    follows: HashMap<(AccountId, Channel), followed_channel::Model>,
    new_accounts: Vec<AccountId>,
    new_follows: Vec<followed_channel::Model>,
    new_entries: Vec<ledger_entry::Model>,
    new_events: Vec<NewEvent>,
}

struct AccountState {
    model: account::Model,
    is_new: bool,
    has_changed: bool,
}

/// Runs `follows` in order and gives one result each.
pub(super) async fn follow_channels(
    tx: &Tx,
    configs: &SiteConfigs,
    follows: &[Follow],
) -> Result<(Vec<FollowResult>, FreshDeliveries), FollowError> {
    let mut sites: Vec<SiteId> = follows.iter().map(|follow| follow.site).collect();
    sites.sort_unstable();
    sites.dedup();
    let configs = configs.load(tx, &sites).await?;
    let mut batch = Batch::default();
    batch.read_accounts(tx, follows).await?;
    batch.read_follows(tx).await?;
    batch.read_contacts(tx, follows).await?;
    let mut results = Vec::with_capacity(follows.len());
    for follow in follows {
        results.push(match batch.decide(tx, &configs, follow) {
            Err(error @ (FollowError::Encode(_) | FollowError::Store(_))) => return Err(error),
            result => result,
        });
    }
    let fresh = batch.write(tx, &configs).await?;
    Ok((results, fresh))
}

impl Batch {
    /// Reads the accounts that exist. On PostgreSQL they are locked in id order, which keeps two nodes from waiting
    /// for each other.
    async fn read_accounts(&mut self, tx: &Tx, follows: &[Follow]) -> Result<(), DbErr> {
        let mut members: Vec<(SiteId, MemberId)> = Vec::new();
        let mut accounts: Vec<(SiteId, AccountId)> = Vec::new();
        for follow in follows {
            match follow.subject {
                Subject::Member(member) => members.push((follow.site, member)),
                Subject::Account(account) => accounts.push((follow.site, account)),
            }
        }
        members.sort_unstable();
        members.dedup();
        accounts.sort_unstable();
        accounts.dedup();
        let lock = match tx.conn().get_database_backend() {
            DatabaseBackend::Postgres => " ORDER BY a.id FOR UPDATE OF a",
            _ => "",
        };
        let mut found = Vec::new();
        if !members.is_empty() {
            let rows = Rows::new(&members)
                .uuid("site_id", |(site, _)| site.0)
                .uuid("member_id", |(_, member)| member.0);
            let sql = format!(
                "SELECT a.* FROM {{rows}} r JOIN account a \
                 ON a.site_id = r.site_id AND a.member_id = r.member_id{lock}"
            );
            found.extend(rows.query(tx.conn(), &sql).await?);
        }
        if !accounts.is_empty() {
            let rows =
                Rows::new(&accounts).uuid("site_id", |(site, _)| site.0).uuid("id", |(_, account)| account.0);
            let sql = format!(
                "SELECT a.* FROM {{rows}} r JOIN account a ON a.id = r.id AND a.site_id = r.site_id{lock}"
            );
            found.extend(rows.query(tx.conn(), &sql).await?);
        }
        for row in found {
            let model = account::Model::from_query_result(&row, "")?;
            self.by_member.insert(model.member_id, model.id);
            self.accounts.insert(model.id, AccountState { model, is_new: false, has_changed: false });
        }
        Ok(())
    }

    async fn read_follows(&mut self, tx: &Tx) -> Result<(), DbErr> {
        let ids: Vec<AccountId> = self.accounts.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let rows = Rows::new(&ids)
            .uuid("id", |id| id.0)
            .query(tx.conn(), "SELECT f.* FROM {rows} r JOIN followed_channel f ON f.account_id = r.id")
            .await?;
        for row in rows {
            let follow = followed_channel::Model::from_query_result(&row, "")?;
            self.follows.insert((follow.account_id, follow.channel), follow);
        }
        Ok(())
    }

    /// Reads the contacts of members who have no account yet.
    async fn read_contacts(&mut self, tx: &Tx, follows: &[Follow]) -> Result<(), DbErr> {
        let mut missing: Vec<(SiteId, MemberId)> = follows
            .iter()
            .filter_map(|follow| match follow.subject {
                Subject::Member(member) => Some((follow.site, member)),
                Subject::Account(_) => None,
            })
            .filter(|(_, member)| !self.by_member.contains_key(member))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        self.contacts = accounts::read_contacts(tx.conn(), &missing).await?;
        Ok(())
    }

    /// The rule, in its order: account, program, channel, repeat, award.
    fn decide(&mut self, tx: &Tx, configs: &Configs, follow: &Follow) -> FollowResult {
        let existing = self.existing_account(follow);
        let contact = match follow.subject {
            Subject::Member(member) => self.contacts.get(&member).map(|(_, contact)| (member, *contact)),
            Subject::Account(_) => None,
        };
        let config = configs.get(&follow.site).ok_or(FollowError::AccountNotFound)?;
        if existing.is_none() && contact.is_none() {
            return Err(FollowError::AccountNotFound);
        }
        if let Some(answer) = existing.and_then(|account| self.earlier_answer(account, follow)) {
            return answer;
        }
        if config.program != ProgramStatus::Active {
            return Err(FollowError::ProgramNotActive(config.program));
        }
        let settings =
            config.enabled(follow.channel).ok_or(FollowError::ChannelNotEnabled(follow.channel))?;
        if let Some(row) = existing.and_then(|account| self.follows.get(&(account, follow.channel))) {
            return Err(FollowError::AlreadyFollowed(Box::new(row.clone())));
        }
        let account = match (existing, contact) {
            (Some(account), _) => account,
            (None, Some((member, contact))) => self.open_account(tx, follow, member, contact)?,
            (None, None) => return Err(FollowError::AccountNotFound),
        };
        self.award(tx, follow, account, settings.points.unwrap_or(0))
    }

    /// The account meant, if it exists on the site of the call: the batch serves many sites at once.
    fn existing_account(&self, follow: &Follow) -> Option<AccountId> {
        let account = match follow.subject {
            Subject::Account(account) => account,
            Subject::Member(member) => *self.by_member.get(&member)?,
        };
        self.accounts
            .get(&account)
            .filter(|state| state.model.site_id == follow.site)
            .map(|state| state.model.id)
    }

    /// The answer that an earlier call with the same idempotency key got.
    fn earlier_answer(&self, account: AccountId, follow: &Follow) -> Option<FollowResult> {
        let key = follow.idempotency_key.as_deref()?;
        let row = Channel::ALL.iter().find_map(|channel| {
            let row = self.follows.get(&(account, *channel))?;
            (row.idempotency_key.as_deref() == Some(key)).then_some(row)
        })?;
        Some(if row.channel == follow.channel {
            Ok(row.clone())
        } else {
            Err(FollowError::IdempotencyKeyReused)
        })
    }

    fn open_account(
        &mut self,
        tx: &Tx,
        follow: &Follow,
        member: MemberId,
        contact: ContactId,
    ) -> Result<AccountId, FollowError> {
        let mut model = accounts::new_account(tx, follow.site, member, contact);
        let event = event::account_changed(tx, EventType::AccountCreated, &mut model, &follow.identity)?;
        self.new_events.push(event);
        let id = model.id;
        self.by_member.insert(member, id);
        self.new_accounts.push(id);
        self.accounts.insert(id, AccountState { model, is_new: true, has_changed: false });
        Ok(id)
    }
    /// The follow, and with points the ledger entry, the balance and the account's events.
    fn award(&mut self, tx: &Tx, follow: &Follow, account: AccountId, points: i64) -> FollowResult {
        let row = followed_channel::Model {
            id: FollowedChannelId(tx.new_id()),
            site_id: follow.site,
            account_id: account,
            channel: follow.channel,
            source: FollowSource::Api,
            evidence: Evidence::Declared,
            idempotency_key: follow.idempotency_key.clone(),
            created_at: tx.now(),
        };
        self.new_events.push(event::followed_channel_created(tx, &row, &follow.identity)?);
        if points > 0
            && let Some(state) = self.accounts.get_mut(&account)
        {
            let entry = points::earn(tx, &mut state.model, points, follow.channel);
            state.has_changed = true;
            self.new_entries.push(entry);
            for kind in [EventType::AccountPointsUpdated, EventType::AccountUpdated] {
                self.new_events.push(event::account_changed(tx, kind, &mut state.model, &follow.identity)?);
            }
        }
        self.follows.insert((account, follow.channel), row.clone());
        self.new_follows.push(row.clone());
        Ok(row)
    }

    /// Writes each table once.
    async fn write(self, tx: &Tx, configs: &Configs) -> Result<FreshDeliveries, DbErr> {
        let new: Vec<&account::Model> = self
            .new_accounts
            .iter()
            .filter_map(|id| self.accounts.get(id))
            .map(|state| &state.model)
            .collect();
        accounts::insert(tx, &new).await?;
        let changed: Vec<&account::Model> = self
            .accounts
            .values()
            .filter(|state| state.has_changed && !state.is_new)
            .map(|state| &state.model)
            .collect();
        accounts::update_points(tx, &changed).await?;
        insert_follows(tx, &self.new_follows).await?;
        points::insert(tx, &self.new_entries).await?;
        outbox::record(tx, configs, self.new_events).await
    }
}

async fn insert_follows(tx: &Tx, rows: &[followed_channel::Model]) -> Result<(), DbErr> {
    if rows.is_empty() {
        return Ok(());
    }
    Rows::new(rows)
        .uuid("id", |row| row.id.0)
        .uuid("site_id", |row| row.site_id.0)
        .uuid("account_id", |row| row.account_id.0)
        .text("channel", |row| row.channel.as_str())
        .text("source", |row| row.source.as_str())
        .text("evidence", |row| row.evidence.as_str())
        .text_or_null("idempotency_key", |row| row.idempotency_key.as_deref())
        .int("created_at", |row| row.created_at.0)
        .insert(tx.conn(), "followed_channel", "")
        .await
}
