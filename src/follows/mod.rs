//! A member follows a channel: once for ever, with its award, its ledger entry and its events, all in one
//! transaction.
//!
//! Concurrent calls are gathered: one transaction with a handful of set-based statements serves them all, each with its
//! own outcome (`batch.rs`). A lone call is a batch of one and takes the same path.

pub mod api;
pub mod batch;
pub mod evidence;
pub mod evidence_api;
mod list;

use std::io;
use std::sync::Arc;

use entity::followed_channel;
use entity::id::{AccountId, FollowedChannelId, ItemId, MemberId, SiteId, Timestamp};
use entity::kinds::{Channel, Evidence, FollowSource, ProgramStatus};
use quick_cache::sync::Cache;
use sea_orm::{DbErr, QueryResult};

use self::batch::Plan;
use crate::access::Identity;
use crate::db::{self, Db, OpenError};
use crate::gather::{Gather, GatherError, GatherLimits};
use crate::outages::Outage;
use crate::rows;
use crate::sites::config::SiteConfigs;
use crate::webhooks::dispatcher::Dispatcher;

/// Follows in one transaction, lists in one query; and how many calls may wait, beyond which callers are told to come back.
const LIMITS: GatherLimits = GatherLimits { batch_max: 256, queue_max: 2_048 };
/// Members whose accounts are remembered.
const ACCOUNTS_MAX: usize = 20_000;

/// Whose account is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The account of this member, made if it is absent.
    Member(MemberId),
    /// This account, which must exist.
    Account(AccountId),
}

/// A wish to follow.
#[derive(Debug, Clone)]
pub struct Follow {
    /// The site.
    pub site: SiteId,
    /// Whose account.
    pub subject: Subject,
    /// What to follow.
    pub channel: Channel,
    /// Who asks.
    pub identity: Identity,
    /// The same key with the same wish gets the first answer again.
    pub idempotency_key: Option<String>,
    /// How we know.
    pub proof: Proof,
}

/// How we know of a follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Who told us.
    pub source: FollowSource,
    /// How well it is proven.
    pub evidence: Evidence,
    /// What the platform sent that proves it.
    pub item: Option<ItemId>,
}

impl Proof {
    /// The member or an app said so.
    pub const DECLARED: Self = Self { source: FollowSource::Api, evidence: Evidence::Declared, item: None };
}

/// Why a follow was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FollowError {
    /// The site has no such account, or no such member.
    #[error("there is no such account")]
    AccountNotFound,
    /// Nothing can be earned now.
    #[error("the loyalty program is {0}")]
    ProgramNotActive(ProgramStatus),
    /// The owner did not enable the channel.
    #[error("channel {0} is not enabled")]
    ChannelNotEnabled(Channel),
    /// It was followed before; nothing changed.
    #[error("channel {} is already followed", .0.channel)]
    AlreadyFollowed(Box<followed_channel::Model>),
    /// The idempotency key was used for another channel.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// Too much to do, or stopping.
    #[error(transparent)]
    Busy(#[from] GatherError),
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] Arc<DbErr>),
    /// The event could not be written as JSON.
    #[error("the event could not be encoded")]
    Encode(#[source] Arc<serde_json::Error>),
}

impl From<DbErr> for FollowError {
    fn from(error: DbErr) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<serde_json::Error> for FollowError {
    fn from(error: serde_json::Error) -> Self {
        Self::Encode(Arc::new(error))
    }
}

/// Why the workers could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// Their database connections.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Their threads.
    #[error("cannot start a thread: {0}; check the limit on processes")]
    Thread(#[from] io::Error),
}

/// The outcome of one follow.
pub type FollowResult = Result<followed_channel::Model, FollowError>;

/// What a list tells of a followed channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its id.
    pub id: FollowedChannelId,
    /// Whose follow it is.
    pub account_id: AccountId,
    /// What is followed.
    pub channel: Channel,
    /// Who told us.
    pub source: FollowSource,
    /// How well it is proven.
    pub evidence: Evidence,
    /// When the evidence was seen.
    pub evidence_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<followed_channel::Model> for Followed {
    fn from(row: followed_channel::Model) -> Self {
        Self {
            id: row.id,
            account_id: row.account_id,
            channel: row.channel,
            source: row.source,
            evidence: row.evidence,
            evidence_at: row.evidence_at,
            created_at: row.created_at,
        }
    }
}

/// What one account follows, newest first; `None` where the account does not exist.
type ListResult = Result<Option<Vec<Followed>>, FollowError>;

/// The gathered operations of this feature. Cheap to clone.
#[derive(Clone)]
pub struct Follows {
    /// The accounts of members seen lately: an account is its member's for ever.
    accounts: Arc<Cache<(SiteId, MemberId), AccountId>>,
    creates: Gather<Follow, FollowResult>,
    lists: Gather<(SiteId, Subject), ListResult>,
}

impl Follows {
    /// Starts the workers.
    pub async fn start(
        db: &Db,
        configs: &SiteConfigs,
        dispatcher: &Dispatcher,
    ) -> Result<Self, WorkersError> {
        let writer =
            Writer { db: db.for_worker(1).await?, configs: configs.clone(), dispatcher: dispatcher.clone() };
        let create = move |follows| {
            let writer = writer.clone();
            async move { writer.create_batch(follows).await }
        };
        let creates = Gather::start_on_thread(LIMITS, "follows", create)?;
        let list_db = db.for_worker(1).await?;
        let list = move |asked: Vec<(SiteId, Subject)>| {
            let db = list_db.clone();
            async move { list::list_followed_channels(&db, &asked).await }
        };
        let lists = Gather::start_on_thread(LIMITS, "lists", list)?;
        Ok(Self { accounts: Arc::new(Cache::new(ACCOUNTS_MAX)), creates, lists })
    }

    /// Follows a channel.
    pub async fn create(&self, follow: Follow) -> FollowResult {
        let (site, subject) = (follow.site, follow.subject);
        let shortcut = self.shortcut(site, subject);
        let mut result = self.creates.call(Follow { subject: shortcut, ..follow.clone() }).await?;
        if shortcut != subject && matches!(result, Err(FollowError::AccountNotFound)) {
            self.forget(site, subject);
            result = self.creates.call(follow).await?;
        }
        match &result {
            Ok(row) => self.remember(site, shortcut, row.account_id),
            Err(FollowError::AlreadyFollowed(row)) => self.remember(site, shortcut, row.account_id),
            Err(_) => {}
        }
        result
    }

    /// What the subject follows, newest first. A member without an account follows nothing; an unknown account is
    /// [`FollowError::AccountNotFound`].
    pub async fn list(&self, site: SiteId, subject: Subject) -> Result<Vec<Followed>, FollowError> {
        let shortcut = self.shortcut(site, subject);
        match (self.lists.call((site, shortcut)).await??, subject) {
            (Some(channels), _) => {
                if let Some(first) = channels.first() {
                    self.remember(site, shortcut, first.account_id);
                }
                Ok(channels)
            }
            (None, Subject::Member(_)) => Ok(Vec::new()),
            (None, Subject::Account(_)) => Err(FollowError::AccountNotFound),
        }
    }

    /// A member by its account where that is known: one index less to look at.
    fn shortcut(&self, site: SiteId, subject: Subject) -> Subject {
        match subject {
            Subject::Member(member) => self.accounts.get(&(site, member)).map_or(subject, Subject::Account),
            Subject::Account(_) => subject,
        }
    }

    fn remember(&self, site: SiteId, subject: Subject, account: AccountId) {
        if let Subject::Member(member) = subject {
            self.accounts.insert((site, member), account);
        }
    }

    fn forget(&self, site: SiteId, subject: Subject) {
        if let Subject::Member(member) = subject {
            self.accounts.remove(&(site, member));
        }
    }
}

/// The columns of a followed channel `f`, from which [`read_follow`] makes one when they come first.
const FOLLOW: &str = "f.id, f.site_id, f.account_id, f.channel, f.source, f.evidence, f.idempotency_key, f.created_at, \
     f.evidence_item, f.evidence_at";

/// The followed channel in `row`, or `None` where an outer join found none. By position: finding ten names in every row
/// costs more than reading them.
fn read_follow(row: &QueryResult) -> Result<Option<followed_channel::Model>, DbErr> {
    let Some(id) = row.try_get_by(0)? else { return Ok(None) };
    Ok(Some(followed_channel::Model {
        id,
        site_id: row.try_get_by(1)?,
        account_id: row.try_get_by(2)?,
        channel: row.try_get_by(3)?,
        source: row.try_get_by(4)?,
        evidence: row.try_get_by(5)?,
        idempotency_key: row.try_get_by(6)?,
        created_at: row.try_get_by(7)?,
        evidence_item: row.try_get_by(8)?,
        evidence_at: row.try_get_by(9)?,
    }))
}

/// Writes follows, one transaction at a time.
#[derive(Clone)]
struct Writer {
    db: Db,
    configs: SiteConfigs,
    dispatcher: Dispatcher,
}

impl Writer {
    /// Creates `follows` in one transaction. When that fails as a whole, each is created alone, so that one that cannot be stored
    /// spoils only itself; unless the database is out of order, which trying alone does not help.
    async fn create_batch(&self, follows: Vec<Follow>) -> Vec<FollowResult> {
        match self.create_together(&follows).await {
            Ok(results) => results,
            Err(error) if follows.len() == 1 => vec![Err(error)],
            Err(FollowError::Store(error)) if Outage::of(&error).is_some() => {
                tracing::warn!(%error, follows = follows.len(), "the database is out of order; a batch of follows is refused");
                follows.iter().map(|_| Err(FollowError::Store(Arc::clone(&error)))).collect()
            }
            Err(error) => {
                tracing::warn!(%error, follows = follows.len(), "a batch of follows failed; each is tried alone");
                let mut results = Vec::with_capacity(follows.len());
                for follow in follows {
                    let alone = self.create_together(std::slice::from_ref(&follow)).await;
                    results.push(alone.and_then(|mut results| {
                        results.pop().unwrap_or(Err(FollowError::Busy(GatherError::Stopped)))
                    }));
                }
                results
            }
        }
    }

    async fn create_together(&self, follows: &[Follow]) -> Result<Vec<FollowResult>, FollowError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let done = async {
                let tx = self.db.write().await?;
                let Plan { results, writes, fresh } =
                    batch::plan(&tx, &self.configs, &self.dispatcher, follows).await?;
                rows::write_all(tx.conn(), writes).await?;
                tx.commit().await?;
                Ok::<_, FollowError>((results, fresh))
            };
            match self.db.in_time(done).await {
                Ok((results, fresh)) => {
                    self.dispatcher.offer(fresh);
                    return Ok(results);
                }
                Err(FollowError::Store(error)) if db::lost_a_race(&error) && tries < db::TRIES_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }
}
