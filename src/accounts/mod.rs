//! Loyalty accounts: one per member, made by the first follow or on request while the program is active.

pub mod api;

use entity::id::{AccountId, ContactId, MemberId, SiteId};
use entity::kinds::ProgramStatus;
use entity::{account, member};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use crate::access::Identity;
use crate::db::{self, Db, Tx};
use crate::rows::{self, Rows, Write};
use crate::sites::config::SiteConfigs;
use crate::webhooks::dispatcher::Dispatcher;
use crate::webhooks::event::{self, AccountChange};
use crate::webhooks::outbox::{self, FreshDeliveries};

/// Why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateAccountError {
    /// The site has no such contact.
    #[error("there is no contact {0}")]
    ContactNotFound(ContactId),
    /// Accounts are made only while the program is active.
    #[error("the loyalty program is {0}")]
    ProgramNotActive(ProgramStatus),
    /// The contact has one already.
    #[error("contact already has account {}", .0.id)]
    AlreadyExists(Box<account::Model>),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
    /// The event could not be written as JSON.
    #[error("the event could not be encoded")]
    Encode(#[from] serde_json::Error),
}

/// How an account is named.
#[derive(Debug, Clone, Copy)]
pub enum AccountKey {
    /// By its own id.
    Id(AccountId),
    /// By its member.
    Member(MemberId),
    /// By its contact.
    Contact(ContactId),
}

/// The account of `site` that `key` names.
pub async fn find_account(
    db: &impl ConnectionTrait,
    site: SiteId,
    key: AccountKey,
) -> Result<Option<account::Model>, DbErr> {
    let query = account::Entity::find().filter(account::Column::SiteId.eq(site));
    let query = match key {
        AccountKey::Id(id) => query.filter(account::Column::Id.eq(id)),
        AccountKey::Member(member) => query.filter(account::Column::MemberId.eq(member)),
        AccountKey::Contact(contact) => {
            // The contact is the member's, and known by index there.
            let members = member::Entity::find()
                .select_only()
                .column(member::Column::Id)
                .filter(member::Column::SiteId.eq(site))
                .filter(member::Column::ContactId.eq(contact));
            query.filter(account::Column::MemberId.in_subquery(members.into_query()))
        }
    };
    query.one(db).await
}

/// Makes the account of the member behind `contact`, and has it told.
pub async fn create_account(
    database: &Db,
    configs: &SiteConfigs,
    dispatcher: &Dispatcher,
    site: SiteId,
    contact: ContactId,
    identity: &Identity,
) -> Result<account::Model, CreateAccountError> {
    let mut tries = 1;
    loop {
        match create_once(database, configs, dispatcher, site, contact, identity).await {
            // A first follow made the account meanwhile; looking again finds it.
            Err(CreateAccountError::Store(error)) if db::lost_a_race(&error) && tries < db::TRIES_MAX => {
                tries += 1;
            }
            created => {
                let (model, fresh) = created?;
                dispatcher.offer(fresh);
                return Ok(model);
            }
        }
    }
}

async fn create_once(
    db: &Db,
    configs: &SiteConfigs,
    dispatcher: &Dispatcher,
    site: SiteId,
    contact: ContactId,
    identity: &Identity,
) -> Result<(account::Model, FreshDeliveries), CreateAccountError> {
    let tx = db.write().await?;
    let configs = configs.load(&tx, &[site]).await?;
    let program = configs.get(&site).map_or(ProgramStatus::Draft, |config| config.program);
    let member = member::Entity::find()
        .filter(member::Column::SiteId.eq(site))
        .filter(member::Column::ContactId.eq(contact))
        .one(tx.conn())
        .await?
        .ok_or(CreateAccountError::ContactNotFound(contact))?;
    if program != ProgramStatus::Active {
        return Err(CreateAccountError::ProgramNotActive(program));
    }
    if let Some(existing) = find_account(tx.conn(), site, AccountKey::Member(member.id)).await? {
        return Err(CreateAccountError::AlreadyExists(Box::new(existing)));
    }
    let mut model = new_account(&tx, site, member.id, contact);
    let event = event::account_changed(&tx, AccountChange::Created, &mut model, identity)?;
    let (mut writes, fresh) = outbox::prepare(&tx, &configs, dispatcher, vec![event]).await?;
    writes.push(insertion(&tx, &[&model]));
    rows::write_all(tx.conn(), writes).await?;
    tx.commit().await?;
    Ok((model, fresh))
}

/// A new, empty account, not stored yet.
#[must_use]
pub fn new_account(tx: &Tx, site: SiteId, member: MemberId, contact: ContactId) -> account::Model {
    account::Model {
        id: AccountId(tx.new_id()),
        site_id: site,
        member_id: member,
        contact_id: contact,
        balance: 0,
        earned: 0,
        adjusted: 0,
        redeemed: 0,
        expired: 0,
        revision: 1,
        event_sequence: 0,
        ledger_sequence: 0,
        last_activity_at: None,
        created_at: tx.now(),
        updated_at: tx.now(),
        latest_id_at: tx.now(),
    }
}

/// To store new accounts, made in `tx`: what they have earned may have been taken back already.
#[must_use]
pub fn insertion(tx: &Tx, accounts: &[&account::Model]) -> Write {
    Rows::new(accounts)
        .uuid("id", |account| account.id.0)
        .uuid("site_id", |account| account.site_id.0)
        .uuid("member_id", |account| account.member_id.0)
        .uuid("contact_id", |account| account.contact_id.0)
        .int("balance", |account| account.balance)
        .int("earned", |account| account.earned)
        .int("adjusted", |account| account.adjusted)
        .same_int("redeemed", 0)
        .same_int("expired", 0)
        .int("revision", |account| account.revision)
        .int("event_sequence", |account| account.event_sequence)
        .int("ledger_sequence", |account| account.ledger_sequence)
        .int_or_null("last_activity_at", |account| account.last_activity_at.map(|at| at.0))
        .same_int("created_at", tx.now().0)
        .same_int("updated_at", tx.now().0)
        .same_int("latest_id_at", tx.latest_id_at().0)
        .insert("account", "")
}

/// To store what accounts have earned in `tx`, with their revision and sequences.
#[must_use]
pub fn points_update(tx: &Tx, accounts: &[&account::Model]) -> Write {
    Rows::new(accounts)
        .uuid("site_id", |account| account.site_id.0)
        .uuid("id", |account| account.id.0)
        .int("balance", |account| account.balance)
        .int("earned", |account| account.earned)
        .int("adjusted", |account| account.adjusted)
        .int("revision", |account| account.revision)
        .int("event_sequence", |account| account.event_sequence)
        .int("ledger_sequence", |account| account.ledger_sequence)
        .same_int("updated_at", tx.now().0)
        .same_int("latest_id_at", tx.latest_id_at().0)
        .write(
            "UPDATE account SET balance = r.balance, earned = r.earned, adjusted = r.adjusted, \
             revision = r.revision, \
             event_sequence = r.event_sequence, ledger_sequence = r.ledger_sequence, \
             last_activity_at = r.updated_at, updated_at = r.updated_at, latest_id_at = r.latest_id_at \
             FROM {rows} AS r WHERE account.site_id = r.site_id AND account.id = r.id",
        )
}
