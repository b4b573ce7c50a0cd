//! The inbox: what platforms send is stored, with every thing in it by itself, before it is acknowledged. A thing that comes
//! again, alone or in another batch, is known by its key and counts once.
//!
//! A thing that is not done has a time at which it is worked on next. Whoever takes it moves that time ahead by a lease, so that a
//! crash leads to another try. What comes of it is written in the transaction that marks it done ([`settle`]).

pub mod clean_up;
pub mod items;
pub mod messages;
pub mod waiting;

use std::collections::HashSet;

use entity::id::{ItemId, RawDeliveryId, SiteId, Timestamp};
use entity::kinds::{ItemStatus, Platform};
use entity::{item, raw_delivery};
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, FromQueryResult as _, Statement};

use crate::db::{Db, Tx};
use crate::rows::{self, Rows, Write};

/// Things that one claim takes.
pub const CLAIM_MAX: usize = 256;
/// How long a claim lasts, in milliseconds: longer than every lookup of its things may take together.
pub const LEASE_MS: i64 = 60_000;
/// How long something that nobody on the site is known for waits, in milliseconds: 30 days.
pub const PARKED_MS: i64 = 30 * 24 * 3_600_000;
/// Characters of a key; longer ones are hashed by whoever makes them.
pub const KEY_MAX: usize = 512;

/// Something that a platform sent, before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// Who sent it.
    pub platform: Platform,
    /// The platform's id of the brand's account; empty where there is none.
    pub account: String,
    /// What makes it the same thing, for platform and account.
    pub key: String,
    /// What it is.
    pub kind: String,
    /// The platform's id of the person who did it.
    pub person: Option<String>,
    /// The person's handle, normalised.
    pub handle: Option<String>,
    /// The site, where the entrance tells.
    pub site: Option<SiteId>,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// The thing itself as JSON text.
    pub payload: String,
}

/// What was stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Keys of the things that were new, for platform and account.
    pub new: Vec<(String, ItemId)>,
}

/// What a platform sent in one request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it came in.
    pub source: &'static str,
    /// Its body as it came.
    pub body: Vec<u8>,
    /// The things in it.
    pub items: Vec<NewItem>,
}

/// Calls with everything in them, as they are stored.
#[derive(Debug)]
pub struct Arrivals {
    /// The things of all calls, in their order. Each is to be worked on at once.
    pub items: Vec<item::Model>,
    deliveries: Vec<raw_delivery::Model>,
}

impl Arrivals {
    /// What `calls` have brought, at this moment and with ids of it.
    #[must_use]
    pub fn of(db: &Db, calls: Vec<Call>) -> Self {
        let now = db.now();
        let mut arrivals = Self { items: Vec::new(), deliveries: Vec::with_capacity(calls.len()) };
        for call in calls {
            let id = RawDeliveryId(db.new_id());
            arrivals.deliveries.push(raw_delivery::Model {
                id,
                source: call.source.to_owned(),
                body: Some(call.body),
                item_count: i32::try_from(call.items.len()).unwrap_or(i32::MAX),
                received_at: now,
            });
            let items = call.items.into_iter();
            arrivals.items.extend(items.map(|item| item.model(ItemId(db.new_id()), Some(id), now)));
        }
        arrivals
    }

    /// Stores the things; those that are known already are left as they are. Says which are new: of a thing that is in several calls,
    /// the first one is. When `tx` is committed, with [`Self::deliveries_write`], the calls may be acknowledged.
    pub async fn insert_items(&self, tx: &Tx) -> Result<HashSet<ItemId>, DbErr> {
        insert(tx, &self.items).await
    }

    /// To store the calls as they came.
    #[must_use]
    pub fn deliveries_write(&self) -> Write {
        Rows::new(&self.deliveries)
            .uuid("id", |delivery| delivery.id.0)
            .text("source", |delivery| delivery.source.as_str())
            .bytes("body", |delivery| delivery.body.clone().unwrap_or_default())
            .int("item_count", |delivery| i64::from(delivery.item_count))
            .int("received_at", |delivery| delivery.received_at.0)
            .insert("raw_delivery", "")
    }

    /// Those of each call by itself.
    #[must_use]
    pub fn apart(self) -> Vec<Self> {
        let mut items = self.items.into_iter().peekable();
        let alone = |delivery: raw_delivery::Model| {
            let own = std::iter::from_fn(|| items.next_if(|item| item.delivery_id == Some(delivery.id)));
            Self { items: own.collect(), deliveries: vec![delivery] }
        };
        self.deliveries.into_iter().map(alone).collect()
    }

    /// How many calls these are.
    #[must_use]
    pub const fn calls(&self) -> usize {
        self.deliveries.len()
    }

    /// What was stored of each call, in their order, when `new` are the things that were not known.
    #[must_use]
    pub fn stored(&self, new: &HashSet<ItemId>) -> Vec<Stored> {
        let mut rest = self.items.as_slice();
        let stored_of = |delivery: &raw_delivery::Model| {
            let own = rest.iter().take_while(|item| item.delivery_id == Some(delivery.id)).count();
            let (own, after) = rest.split_at(own);
            rest = after;
            Stored::of(own, new)
        };
        self.deliveries.iter().map(stored_of).collect()
    }
}

/// Stores `arrivals` in one transaction; says of each call what was new. When this returns, they may be acknowledged.
pub async fn store(db: &Db, arrivals: &Arrivals) -> Result<Vec<Stored>, DbErr> {
    let tx = db.write().await?;
    let new = arrivals.insert_items(&tx).await?;
    rows::write_all(tx.conn(), vec![arrivals.deliveries_write()]).await?;
    tx.commit().await?;
    Ok(arrivals.stored(&new))
}

/// Adds things that a poller has found, in the caller's transaction.
pub async fn add(tx: &Tx, items: &[NewItem]) -> Result<Stored, DbErr> {
    let model = |item: &NewItem| item.clone().model(ItemId(tx.new_id()), None, tx.now());
    let items: Vec<item::Model> = items.iter().map(model).collect();
    let new = insert(tx, &items).await?;
    Ok(Stored::of(&items, &new))
}

impl NewItem {
    /// As it is stored: to be worked on at once.
    fn model(self, id: ItemId, delivery_id: Option<RawDeliveryId>, now: Timestamp) -> item::Model {
        item::Model {
            id,
            platform: self.platform,
            account: self.account,
            item_key: self.key,
            kind: self.kind,
            person: self.person,
            handle: self.handle,
            payload: self.payload,
            occurred_at: self.occurred_at,
            delivery_id,
            site_id: self.site,
            status: ItemStatus::Waiting,
            reason: None,
            attempts: 0,
            due_at: now,
            expires_at: None,
            received_at: now,
        }
    }
}

impl Stored {
    /// Those of `items` that are in `new`.
    fn of(items: &[item::Model], new: &HashSet<ItemId>) -> Self {
        let is_new = items.iter().filter(|item| new.contains(&item.id));
        Self { new: is_new.map(|item| (item.item_key.clone(), item.id)).collect() }
    }
}

/// Inserts those of `items` that are not known; gives the ids of these.
async fn insert(tx: &Tx, items: &[item::Model]) -> Result<HashSet<ItemId>, DbErr> {
    let mut sorted: Vec<&item::Model> = items.iter().collect();
    // Transactions that store the same things wait for each other in one direction only.
    sorted.sort_by(|a, b| (a.platform, &a.account, &a.item_key).cmp(&(b.platform, &b.account, &b.item_key)));
    let mut new = HashSet::with_capacity(items.len());
    for part in sorted.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .uuid("id", |item| item.id.0)
            .text("platform", |item| item.platform.as_str())
            .text("account", |item| item.account.as_str())
            .text("item_key", |item| item.item_key.as_str())
            .text("kind", |item| item.kind.as_str())
            .text_or_null("person", |item| item.person.as_deref())
            .text_or_null("handle", |item| item.handle.as_deref())
            .text("payload", |item| item.payload.as_str())
            .int_or_null("occurred_at", |item| item.occurred_at.map(|at| at.0))
            .uuid_or_null("delivery_id", |item| item.delivery_id.map(|id| id.0))
            .uuid_or_null("site_id", |item| item.site_id.map(|id| id.0))
            .text("status", |item| item.status.as_str())
            .int("attempts", |item| i64::from(item.attempts))
            .int("due_at", |item| item.due_at.0)
            .int("received_at", |item| item.received_at.0)
            .query(
                tx.conn(),
                "INSERT INTO item (id, platform, account, item_key, kind, person, handle, payload, occurred_at, \
                 delivery_id, site_id, status, attempts, due_at, received_at) \
                 SELECT id, platform, account, item_key, kind, person, handle, payload, occurred_at, delivery_id, \
                 site_id, status, attempts, due_at, received_at FROM {rows} AS r WHERE true \
                 ON CONFLICT (platform, account, item_key) DO NOTHING RETURNING id",
            )
            .await?;
        for row in rows {
            new.insert(row.try_get("", "id")?);
        }
    }
    Ok(new)
}

/// Takes what is due, the oldest first, for [`LEASE_MS`].
pub async fn claim(db: &Db) -> Result<Vec<item::Model>, DbErr> {
    let backend = db.backend();
    let (now, limit) = (db.now().0, i64::try_from(CLAIM_MAX).unwrap_or(i64::MAX));
    let due = |mark: [&str; 2], tail: &str| {
        format!(
            "SELECT id FROM item WHERE status <> 'DONE' AND due_at <= {} ORDER BY due_at LIMIT {}{tail}",
            mark[0], mark[1]
        )
    };
    let postgres = backend == DatabaseBackend::Postgres;
    let marks = if postgres { ["$1", "$2"] } else { ["?", "?"] };
    // Most often there is nothing, and then nothing is written.
    let look = Statement::from_sql_and_values(backend, due(marks, ""), [now.into(), 1_i64.into()]);
    if db.read().query_one_raw(look).await?.is_none() {
        return Ok(Vec::new());
    }
    let tx = db.write().await?;
    let lease = tx.now().plus_ms(LEASE_MS).0;
    let (sql, values): (String, Vec<Value>) = if postgres {
        let due = due(["$2", "$3"], " FOR UPDATE SKIP LOCKED");
        let sql =
            format!("UPDATE item SET due_at = $1, attempts = attempts + 1 WHERE id IN ({due}) RETURNING *");
        (sql, vec![lease.into(), now.into(), limit.into()])
    } else {
        let due = due(["?", "?"], "");
        let sql =
            format!("UPDATE item SET due_at = ?, attempts = attempts + 1 WHERE id IN ({due}) RETURNING *");
        (sql, vec![lease.into(), now.into(), limit.into()])
    };
    let rows = tx.conn().query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    tx.commit().await?;
    let mut items: Vec<item::Model> =
        rows.iter().map(|row| item::Model::from_query_result(row, "")).collect::<Result<_, _>>()?;
    items.sort_by_key(|item| item.id);
    Ok(items)
}

/// Which of the `things`, each with what it means, are still to be worked on: since they were claimed they may have been done elsewhere, or
/// been forgotten. They stay so until the transaction ends.
pub async fn hold_open<T>(tx: &Tx, things: &[&(item::Model, T)]) -> Result<HashSet<ItemId>, DbErr> {
    let mut open = HashSet::with_capacity(things.len());
    for part in things.chunks(CLAIM_MAX) {
        // In one order, as by everybody who holds many.
        let lock = match tx.conn().get_database_backend() {
            DatabaseBackend::Postgres => " ORDER BY i.platform, i.account, i.item_key FOR UPDATE OF i",
            _ => "",
        };
        let sql =
            format!("SELECT i.id FROM {{rows}} r JOIN item i ON i.id = r.id WHERE i.status <> 'DONE'{lock}");
        for row in Rows::new(part).uuid("id", |(item, _)| item.id.0).query(tx.conn(), &sql).await? {
            open.insert(row.try_get("", "id")?);
        }
    }
    Ok(open)
}

/// What becomes of a thing that was worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub id: ItemId,
    /// Its site, if that is known now.
    pub site: Option<SiteId>,
    /// The person's handle, if that is known now.
    pub handle: Option<String>,
    /// How far it is.
    pub status: ItemStatus,
    /// Why.
    pub reason: Option<String>,
    /// When it is worked on next; for one that is parked the time at which it is given up.
    pub due_at: Timestamp,
    /// Until when it waits.
    pub expires_at: Option<Timestamp>,
}

/// To write what becomes of `settled`.
#[must_use]
pub fn settle(settled: &[Settled]) -> Write {
    Rows::new(settled)
        .uuid("id", |item| item.id.0)
        .uuid_or_null("site_id", |item| item.site.map(|site| site.0))
        .text_or_null("handle", |item| item.handle.as_deref())
        .text("status", |item| item.status.as_str())
        .text_or_null("reason", |item| item.reason.as_deref())
        .int("due_at", |item| item.due_at.0)
        .int_or_null("expires_at", |item| item.expires_at.map(|at| at.0))
        .write(
            "UPDATE item SET site_id = coalesce(r.site_id, item.site_id), handle = coalesce(r.handle, item.handle), \
             status = r.status, reason = r.reason, due_at = r.due_at, expires_at = r.expires_at \
             FROM {rows} AS r WHERE item.id = r.id",
        )
}

/// To work again on what waits for `people` of an account to write: platform, account, person. Where the handle is known, something else
/// is waited for.
#[must_use]
pub fn unpark_people(tx: &Tx, people: &[(Platform, String, String)]) -> Write {
    Rows::new(people)
        .text("platform", |(platform, ..)| platform.as_str())
        .text("account", |(_, account, _)| account.as_str())
        .text("person", |(.., person)| person.as_str())
        .same_int("now", tx.now().0)
        .write(
            "UPDATE item SET due_at = r.now FROM {rows} AS r WHERE item.platform = r.platform \
             AND item.account = r.account AND item.person = r.person AND item.handle IS NULL \
             AND item.status = 'PARKED'",
        )
}

/// Works again on what waits for somebody on `site` to have this handle, or to prove it.
pub async fn unpark_handle(tx: &Tx, site: SiteId, platform: Platform, handle: &str) -> Result<(), DbErr> {
    let write = Rows::new(&[()])
        .text("platform", |()| platform.as_str())
        .text("handle", |()| handle)
        .same_uuid("site_id", site.0)
        .same_int("now", tx.now().0)
        .write(
            "UPDATE item SET due_at = r.now FROM {rows} AS r WHERE item.site_id = r.site_id \
             AND item.platform = r.platform AND item.handle = r.handle AND item.status = 'PARKED'",
        );
    rows::write_all(tx.conn(), vec![write]).await
}
