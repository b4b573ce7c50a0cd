//! The other sides on SQLite, both in process and without HTTP: one transaction per request, as written naively over the
//! service's own pool; and a loop that inserts the same rows, 64 requests a transaction, with prepared statements.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use entity::id::{AccountId, EventId, FollowedChannelId, LedgerEntryId, MemberId, SiteId};
use entity::kinds::{Channel, EntryType, Evidence, FollowSource};
use entity::{account, event, followed_channel, ledger_entry, member, site};
use followpoints::app::Seams;
use followpoints::db::{Db, Tx};
use followpoints::ids::{IdGenerator as _, RandomIds};
use rusqlite::{Connection, Statement, params};
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _};
use uuid::Uuid;

use super::database::{Database, block_on};
use super::event_rows::EventRow;
use super::fill::{self, Thing};
use super::generator::to_f64;
use super::service::POINTS;

/// Requests under way at once.
const TASKS: usize = 64;
/// Requests in one transaction of the loop.
const BATCH: i64 = 64;

/// Brings the schema into `database`, with one site and members.
pub(crate) fn prepare(database: &Database, site: Uuid, members: &Range<i64>) {
    block_on(Db::prepare(&database.url)).expect("the schema can be made");
    fill::add_site(database, site);
    fill::add_members(database, site, members);
    database.settle();
}

/// Follows a second, one transaction each, by 64 tasks at once; and how many members that took.
pub(crate) fn naive(
    database: &Database,
    site: Uuid,
    events: &[EventRow],
    members: Range<i64>,
    duration: Duration,
) -> (f64, i64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let events: Arc<[EventRow]> = events.into();
    runtime.block_on(async {
        let seams = Seams::default();
        let db = Db::open_beside(&database.url, seams.clock, seams.ids).await.expect("the database opens");
        let (next, done) = (Arc::new(AtomicI64::new(members.start)), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let mut tasks = Vec::with_capacity(TASKS);
        for _ in 0..TASKS {
            let (db, events, next, done) = (db.clone(), events.clone(), next.clone(), done.clone());
            let end = members.end;
            tasks.push(tokio::spawn(async move {
                while started.elapsed() < duration {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return;
                    }
                    let tx = db.write().await.expect("a transaction");
                    let followed = follow(&tx, SiteId(site), MemberId(Thing::Member.id(number)), &events);
                    followed.await.expect("the follow");
                    tx.commit().await.expect("the commit");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for task in tasks {
            task.await.expect("the task ends well");
        }
        let rate = to_f64(done.load(Ordering::Relaxed)) / started.elapsed().as_secs_f64();
        db.close().await.expect("the database closes");
        (rate, next.load(Ordering::Relaxed).min(members.end) - members.start)
    })
}

async fn follow(tx: &Tx, site_id: SiteId, member: MemberId, events: &[EventRow]) -> Result<(), DbErr> {
    let (conn, now) = (tx.conn(), tx.now());
    site::Entity::find_by_id(site_id).one(conn).await?;
    let existing = account::Entity::find()
        .filter(account::Column::SiteId.eq(site_id))
        .filter(account::Column::MemberId.eq(member))
        .one(conn)
        .await?;
    assert!(existing.is_none(), "every member follows for the first time");
    let member = member::Entity::find_by_id((site_id, member)).one(conn).await?.expect("the member exists");
    let account_id = AccountId(tx.new_id());
    let account = account::Model {
        id: account_id,
        site_id,
        member_id: member.id,
        contact_id: member.contact_id,
        balance: POINTS,
        earned: POINTS,
        adjusted: 0,
        redeemed: 0,
        expired: 0,
        revision: 2,
        event_sequence: 3,
        ledger_sequence: 1,
        last_activity_at: Some(now),
        created_at: now,
        updated_at: now,
        latest_id_at: now,
    };
    account::Entity::insert(account::ActiveModel::from(account)).exec_without_returning(conn).await?;
    let follow = followed_channel::Model {
        id: FollowedChannelId(tx.new_id()),
        site_id,
        account_id,
        channel: Channel::X,
        source: FollowSource::Api,
        evidence: Evidence::Declared,
        idempotency_key: None,
        evidence_item: None,
        evidence_at: None,
        created_at: now,
    };
    let follow = followed_channel::ActiveModel::from(follow);
    followed_channel::Entity::insert(follow).exec_without_returning(conn).await?;
    let entry = ledger_entry::Model {
        id: LedgerEntryId(tx.new_id()),
        site_id,
        account_id,
        sequence: 1,
        amount: POINTS,
        balance_after: POINTS,
        entry_type: EntryType::Earn,
        description: "Followed on X".to_owned(),
        channel: Some(Channel::X),
        award_key: Some("follow:X".to_owned()),
        created_at: now,
    };
    ledger_entry::Entity::insert(ledger_entry::ActiveModel::from(entry)).exec_without_returning(conn).await?;
    insert_events(tx, site_id, account_id, events).await
}

async fn insert_events(
    tx: &Tx,
    site_id: SiteId,
    account_id: AccountId,
    events: &[EventRow],
) -> Result<(), DbErr> {
    for (sequence, event) in (1..).zip(events) {
        let model = event::Model {
            id: EventId(tx.new_id()),
            site_id,
            event_type: event.kind.clone(),
            entity_id: account_id.0,
            account_id: Some(account_id),
            sequence,
            data: event.data.clone(),
            identity: event.identity.clone(),
            occurred_at: tx.now(),
        };
        event::Entity::insert(event::ActiveModel::from(model)).exec_without_returning(tx.conn()).await?;
    }
    Ok(())
}

/// Follows a second of the loop over prepared statements: nothing but the inserts; and how many members that took.
pub(crate) fn batched_loop(
    database: &Database,
    site: Uuid,
    events: &[EventRow],
    members: Range<i64>,
    duration: Duration,
) -> (f64, i64) {
    let path = followpoints::db::sqlite_path(&database.url).expect("a file");
    let connection = Connection::open(path).expect("the file opens");
    for (name, value) in [("foreign_keys", "ON"), ("cache_size", "-8000"), ("wal_autocheckpoint", "8000")] {
        connection.pragma_update(None, name, value).expect("a pragma");
    }
    connection.pragma_update(None, "synchronous", "FULL").expect("a pragma");
    let mut inserts = Inserts::new(&connection, site).expect("the statements are right");
    let ids = RandomIds::default();
    let clock = Seams::default().clock;
    let started = Instant::now();
    let mut next = members.start;
    while started.elapsed() < duration && next < members.end {
        let end = (next + BATCH).min(members.end);
        let now = clock.now();
        let new_id = || ids.next_id(now).into_bytes();
        connection.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        for number in next..end {
            inserts.follow(number, events, now.0, new_id).expect("the follow is stored");
        }
        connection.execute_batch("COMMIT").expect("the commit");
        next = end;
    }
    let done = next - members.start;
    (to_f64(usize::try_from(done).unwrap_or(0)) / started.elapsed().as_secs_f64(), done)
}

/// The prepared statements of the loop.
struct Inserts<'a> {
    site: [u8; 16],
    account: Statement<'a>,
    follow: Statement<'a>,
    entry: Statement<'a>,
    event: Statement<'a>,
}

impl<'a> Inserts<'a> {
    fn new(connection: &'a Connection, site: Uuid) -> rusqlite::Result<Self> {
        Ok(Self {
            site: site.into_bytes(),
            account: connection.prepare(
                "INSERT INTO account (id, site_id, member_id, contact_id, balance, earned, adjusted, redeemed, \
                 expired, revision, event_sequence, ledger_sequence, last_activity_at, created_at, updated_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5, 0, 0, 0, 2, 3, 1, ?6, ?6, ?6)",
            )?,
            follow: connection.prepare(
                "INSERT INTO followed_channel (id, site_id, account_id, channel, source, evidence, created_at) \
                 VALUES (?1, ?2, ?3, 'X', 'API', 'DECLARED', ?4)",
            )?,
            entry: connection.prepare(
                "INSERT INTO ledger_entry (id, site_id, account_id, sequence, amount, balance_after, entry_type, \
                 description, channel, award_key, created_at) \
                 VALUES (?1, ?2, ?3, 1, ?4, ?4, 'EARN', 'Followed on X', 'X', 'follow:X', ?5)",
            )?,
            event: connection.prepare(
                "INSERT INTO event (id, site_id, event_type, entity_id, account_id, sequence, data, identity, \
                 occurred_at) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8)",
            )?,
        })
    }

    fn follow(
        &mut self,
        number: i64,
        events: &[EventRow],
        now: i64,
        new_id: impl Fn() -> [u8; 16],
    ) -> rusqlite::Result<()> {
        let (site, account) = (self.site, new_id());
        let (member, contact) = (Thing::Member.id(number), Thing::Contact.id(number));
        let (member, contact) = (member.into_bytes(), contact.into_bytes());
        self.account.execute(params![account, site, member, contact, POINTS, now])?;
        self.follow.execute(params![new_id(), site, account, now])?;
        self.entry.execute(params![new_id(), site, account, POINTS, now])?;
        for (sequence, event) in (1_i64..).zip(events) {
            let EventRow { kind, data, identity } = event;
            self.event.execute(params![new_id(), site, kind, account, sequence, data, identity, now])?;
        }
        Ok(())
    }
}
