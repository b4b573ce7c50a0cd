//! Many follows in one transaction.
//!
//! The accounts concerned are read first and, on PostgreSQL, locked in id order; what happens to them afterwards is decided
//! in memory, in order of arrival; then each table is written once. The unique keys of the database stand behind it:
//! (account, channel) of the follow and (account, award) of the ledger.

use std::collections::{HashMap, HashSet};

use entity::id::{AccountId, ContactId, FollowedChannelId, ItemId, MemberId, SiteId};
use entity::kinds::{Channel, Evidence, ProgramStatus};
use entity::{account, followed_channel, ledger_entry};
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, FromQueryResult};

use super::{FOLLOW, Follow, FollowError, FollowResult, Subject, read_follow};
use crate::access::Identity;
use crate::accounts;
use crate::db::Tx;
use crate::points::{self, Booking};
use crate::rows::{Rows, Write};
use crate::sites::config::{self, Configs, SiteConfigs, Versions};
use crate::webhooks::dispatcher::Dispatcher;
use crate::webhooks::event::{self, AccountChange, NewEvent};
use crate::webhooks::outbox::{self, FreshDeliveries};

/// Everything the batch knows and everything it will write.
#[derive(Default)]
pub struct Batch {
    accounts: HashMap<AccountId, AccountState>,
    by_member: HashMap<MemberId, AccountId>,
    contacts: HashMap<MemberId, (SiteId, ContactId)>,
    follows: HashMap<(AccountId, Channel), followed_channel::Model>,
    changed_follows: HashSet<(AccountId, Channel)>,
    new_accounts: Vec<AccountId>,
    new_follows: Vec<(AccountId, Channel)>,
    new_entries: Vec<ledger_entry::Model>,
    new_events: Vec<NewEvent>,
}

struct AccountState {
    model: account::Model,
    is_new: bool,
    has_changed: bool,
}

/// What a batch comes to.
pub(super) struct Plan {
    /// One result for each follow, in order.
    pub(super) results: Vec<FollowResult>,
    /// What is to be written for them.
    pub(super) writes: Vec<Write>,
    /// What is to be sent after the commit.
    pub(super) fresh: FreshDeliveries,
}

/// Decides about `follows` in order.
pub(super) async fn plan(
    tx: &Tx,
    configs: &SiteConfigs,
    dispatcher: &Dispatcher,
    follows: &[Follow],
) -> Result<Plan, FollowError> {
    let mut sites: Vec<SiteId> = follows.iter().map(|follow| follow.site).collect();
    sites.sort_unstable();
    sites.dedup();
    config::hold_shared(tx, &sites).await?;
    let mut batch = Batch::default();
    let subjects: Vec<(SiteId, Subject)> =
        follows.iter().map(|follow| (follow.site, follow.subject)).collect();
    let versions = batch.read(tx, &subjects).await?;
    let configs = configs.at(tx, versions).await?;
    let mut results = Vec::with_capacity(follows.len());
    for follow in follows {
        results.push(match batch.decide(tx, &configs, follow) {
            Err(error @ (FollowError::Encode(_) | FollowError::Store(_))) => return Err(error),
            result => result,
        });
    }
    let (writes, fresh) = batch.into_writes(tx, &configs, dispatcher).await?;
    Ok(Plan { results, writes, fresh })
}

impl Batch {
    /// Reads what exists of `subjects`: their accounts, and what these follow. Gives the versions of the configurations of their
    /// sites, of each site at least one of whose subjects exists. To be called once.
    pub async fn read(&mut self, tx: &Tx, subjects: &[(SiteId, Subject)]) -> Result<Versions, DbErr> {
        let versions = self.read_accounts(tx, subjects).await?;
        self.read_follows(tx).await?;
        Ok(versions)
    }

    /// Finds the members, and reads the accounts that exist. On PostgreSQL these are locked in id order, which keeps two nodes
    /// from waiting for each other.
    async fn read_accounts(&mut self, tx: &Tx, subjects: &[(SiteId, Subject)]) -> Result<Versions, DbErr> {
        let mut versions = Versions::new();
        let mut members: Vec<(SiteId, MemberId)> = Vec::new();
        let mut accounts: Vec<(SiteId, AccountId)> = Vec::new();
        for (site, subject) in subjects {
            match subject {
                Subject::Member(member) => members.push((*site, *member)),
                Subject::Account(account) => accounts.push((*site, *account)),
            }
        }
        members.sort_unstable();
        members.dedup();
        accounts.extend(self.read_members(tx, &members, &mut versions).await?);
        accounts.sort_unstable_by_key(|(site, account)| (*account, *site));
        accounts.dedup();
        let found = lock_accounts(tx, &accounts, &mut versions).await?;
        // Whoever held the accounts before may have begun later, or have a clock that is ahead.
        if let Some(before) = found.iter().map(|account| account.updated_at).max()
            && let Some(latest_id_at) = found.iter().map(|account| account.latest_id_at).max()
            && tx.conn().get_database_backend() == DatabaseBackend::Postgres
        {
            tx.come_after(before, latest_id_at);
        }
        for model in found {
            self.by_member.insert(model.member_id, model.id);
            self.accounts.insert(model.id, AccountState { model, is_new: false, has_changed: false });
        }
        Ok(versions)
    }

    /// Finds the accounts of `members` and notes the contacts of those who have none.
    async fn read_members(
        &mut self,
        tx: &Tx,
        members: &[(SiteId, MemberId)],
        versions: &mut Versions,
    ) -> Result<Vec<(SiteId, AccountId)>, DbErr> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let rows = Rows::new(members)
            .uuid("site_id", |(site, _)| site.0)
            .uuid("id", |(_, member)| member.0)
            .query(
                tx.conn(),
                // The keys are NULL where there is nothing to look for.
                "SELECT r.site_id, (SELECT config_version FROM site WHERE id = r.site_id), r.id, a.id, m.contact_id \
                 FROM {rows} r \
                 LEFT JOIN account a ON a.site_id = r.site_id AND a.member_id = r.id \
                 LEFT JOIN member m ON m.site_id = CASE WHEN a.id IS NULL THEN r.site_id END AND m.id = r.id",
            )
            .await?;
        let mut accounts = Vec::new();
        for row in rows {
            let site: SiteId = row.try_get_by(0)?;
            let Some(version) = row.try_get_by(1)? else { continue };
            versions.insert(site, version);
            if let Some(account) = row.try_get_by(3)? {
                accounts.push((site, account));
            } else if let Some(contact) = row.try_get_by(4)? {
                self.contacts.insert(row.try_get_by(2)?, (site, contact));
            }
        }
        Ok(accounts)
    }

    async fn read_follows(&mut self, tx: &Tx) -> Result<(), DbErr> {
        let ids: Vec<AccountId> = self.accounts.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let rows = Rows::new(&ids)
            .uuid("id", |id| id.0)
            .query(
                tx.conn(),
                &format!("SELECT {FOLLOW} FROM {{rows}} r JOIN followed_channel f ON f.account_id = r.id"),
            )
            .await?;
        for row in rows {
            if let Some(follow) = read_follow(&row)? {
                self.follows.insert((follow.account_id, follow.channel), follow);
            }
        }
        Ok(())
    }

    /// The rule, in its order: account, program, channel, repeat, award.
    pub fn decide(&mut self, tx: &Tx, configs: &Configs, follow: &Follow) -> FollowResult {
        let existing = self.existing_account(follow.site, follow.subject);
        let contact = self.contact(follow.site, follow.subject);
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
            (None, Some((member, contact))) => {
                self.open_account(tx, follow.site, (member, contact), &follow.identity)?
            }
            (None, None) => return Err(FollowError::AccountNotFound),
        };
        self.award(tx, follow, account, settings.points.unwrap_or(0))
    }

    /// The account meant, if it exists on the site of the call: the batch serves many sites at once.
    fn existing_account(&self, site: SiteId, subject: Subject) -> Option<AccountId> {
        let account = match subject {
            Subject::Account(account) => account,
            Subject::Member(member) => *self.by_member.get(&member)?,
        };
        self.accounts.get(&account).filter(|state| state.model.site_id == site).map(|state| state.model.id)
    }

    /// The contact of a member without an account.
    fn contact(&self, site: SiteId, subject: Subject) -> Option<(MemberId, ContactId)> {
        let Subject::Member(member) = subject else { return None };
        let (_, contact) = self.contacts.get(&member).filter(|(of_site, _)| *of_site == site)?;
        Some((member, *contact))
    }

    /// The account of `member`, made if it is absent; `None` if the site has no such member.
    pub fn account_of(
        &mut self,
        tx: &Tx,
        site: SiteId,
        member: MemberId,
        identity: &Identity,
    ) -> serde_json::Result<Option<AccountId>> {
        let subject = Subject::Member(member);
        match (self.existing_account(site, subject), self.contact(site, subject)) {
            (Some(account), _) => Ok(Some(account)),
            (None, Some(contact)) => self.open_account(tx, site, contact, identity).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The account of `member`, if there is one by now.
    #[must_use]
    pub fn existing(&self, site: SiteId, member: MemberId) -> Option<AccountId> {
        self.existing_account(site, Subject::Member(member))
    }

    /// The balance of `account`.
    #[must_use]
    pub fn balance(&self, account: AccountId) -> i64 {
        self.accounts.get(&account).map_or(0, |state| state.model.balance)
    }

    /// What `account` still has of the award for following `channel`, with what this batch books.
    pub async fn follow_award(&self, tx: &Tx, account: AccountId, channel: Channel) -> Result<i64, DbErr> {
        let own: Vec<&ledger_entry::Model> =
            self.new_entries.iter().filter(|entry| entry.account_id == account).collect();
        points::follow_award(tx.conn(), account, channel, &own).await
    }

    /// What `account` follows on `channel`.
    #[must_use]
    pub fn follow(&self, account: AccountId, channel: Channel) -> Option<&followed_channel::Model> {
        self.follows.get(&(account, channel))
    }

    /// Notes other evidence for a follow that exists.
    pub fn prove(&mut self, tx: &Tx, account: AccountId, channel: Channel, evidence: Evidence, item: ItemId) {
        if let Some(row) = self.follows.get_mut(&(account, channel)) {
            row.evidence = evidence;
            row.evidence_item = Some(item);
            row.evidence_at = Some(tx.now());
            self.changed_follows.insert((account, channel));
        }
    }

    /// Has `event` recorded with the rest.
    pub fn tell(&mut self, event: NewEvent) {
        self.new_events.push(event);
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
        site: SiteId,
        (member, contact): (MemberId, ContactId),
        identity: &Identity,
    ) -> serde_json::Result<AccountId> {
        let mut model = accounts::new_account(tx, site, member, contact);
        let event = event::account_changed(tx, AccountChange::Created, &mut model, identity)?;
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
            source: follow.proof.source,
            evidence: follow.proof.evidence,
            idempotency_key: follow.idempotency_key.clone(),
            created_at: tx.now(),
            evidence_item: follow.proof.item,
            evidence_at: follow.proof.item.map(|_| tx.now()),
        };
        self.new_events.push(event::followed_channel_created(tx, &row, &follow.identity)?);
        if points > 0 {
            self.book(tx, account, Booking::follow(follow.channel, points), &follow.identity)?;
        }
        self.follows.insert((account, follow.channel), row.clone());
        self.new_follows.push((account, follow.channel));
        Ok(row)
    }

    /// Books points on an account and has it told.
    pub fn book(
        &mut self,
        tx: &Tx,
        account: AccountId,
        booking: Booking,
        identity: &Identity,
    ) -> serde_json::Result<()> {
        let Some(state) = self.accounts.get_mut(&account) else { return Ok(()) };
        self.new_entries.push(points::book(tx, &mut state.model, booking));
        state.has_changed = true;
        for change in [AccountChange::PointsUpdated, AccountChange::Updated] {
            self.new_events.push(event::account_changed(tx, change, &mut state.model, identity)?);
        }
        Ok(())
    }

    /// To write each table once.
    pub async fn into_writes(
        self,
        tx: &Tx,
        configs: &Configs,
        dispatcher: &Dispatcher,
    ) -> Result<(Vec<Write>, FreshDeliveries), DbErr> {
        let mut new: Vec<&account::Model> = self
            .new_accounts
            .iter()
            .filter_map(|id| self.accounts.get(id))
            .map(|state| &state.model)
            .collect();
        // Two nodes that open the same accounts wait for each other in one direction only.
        new.sort_unstable_by_key(|account| (account.site_id, account.member_id));
        let changed: Vec<&account::Model> = self
            .accounts
            .values()
            .filter(|state| state.has_changed && !state.is_new)
            .map(|state| &state.model)
            .collect();
        let new_follows: Vec<&followed_channel::Model> =
            self.new_follows.iter().filter_map(|key| self.follows.get(key)).collect();
        let is_old = |key: &&(AccountId, Channel)| !self.new_follows.contains(*key);
        let proven: Vec<&followed_channel::Model> =
            self.changed_follows.iter().filter(is_old).filter_map(|key| self.follows.get(key)).collect();
        let (mut writes, fresh) = outbox::prepare(tx, configs, dispatcher, self.new_events).await?;
        writes.extend([
            accounts::insertion(tx, &new),
            accounts::points_update(tx, &changed),
            insertion(tx, &new_follows),
            evidence_update(&proven),
            points::insertion(tx, &self.new_entries),
        ]);
        Ok((writes, fresh))
    }
}

/// The accounts as they are now, on PostgreSQL locked in the order given.
async fn lock_accounts(
    tx: &Tx,
    accounts: &[(SiteId, AccountId)],
    versions: &mut Versions,
) -> Result<Vec<account::Model>, DbErr> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let lock = match tx.conn().get_database_backend() {
        DatabaseBackend::Postgres => " ORDER BY a.id FOR UPDATE OF a",
        _ => "",
    };
    let sql = format!(
        "SELECT (SELECT config_version FROM site WHERE id = r.site_id), a.* \
         FROM {{rows}} r JOIN account a ON a.id = r.id AND a.site_id = r.site_id{lock}"
    );
    let rows = Rows::new(accounts).uuid("site_id", |(site, _)| site.0).uuid("id", |(_, account)| account.0);
    let mut found = Vec::with_capacity(accounts.len());
    for row in rows.query(tx.conn(), &sql).await? {
        let account = account::Model::from_query_result(&row, "")?;
        versions.insert(account.site_id, row.try_get_by(0)?);
        found.push(account);
    }
    Ok(found)
}

fn evidence_update(rows: &[&followed_channel::Model]) -> Write {
    Rows::new(rows)
        .uuid("account_id", |row| row.account_id.0)
        .text("channel", |row| row.channel.as_str())
        .text("evidence", |row| row.evidence.as_str())
        .uuid_or_null("evidence_item", |row| row.evidence_item.map(|id| id.0))
        .int_or_null("evidence_at", |row| row.evidence_at.map(|at| at.0))
        .write(
            "UPDATE followed_channel SET evidence = r.evidence, evidence_item = r.evidence_item, \
             evidence_at = r.evidence_at FROM {rows} AS r \
             WHERE followed_channel.account_id = r.account_id AND followed_channel.channel = r.channel",
        )
}

fn insertion(tx: &Tx, rows: &[&followed_channel::Model]) -> Write {
    Rows::new(rows)
        .uuid("id", |row| row.id.0)
        .uuid("site_id", |row| row.site_id.0)
        .uuid("account_id", |row| row.account_id.0)
        .text("channel", |row| row.channel.as_str())
        .text("source", |row| row.source.as_str())
        .text("evidence", |row| row.evidence.as_str())
        .text_or_null("idempotency_key", |row| row.idempotency_key.as_deref())
        .uuid_or_null("evidence_item", |row| row.evidence_item.map(|id| id.0))
        .int_or_null("evidence_at", |row| row.evidence_at.map(|at| at.0))
        .same_int("created_at", tx.now().0)
        .insert("followed_channel", "")
}
