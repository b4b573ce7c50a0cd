//! Which node serves which subscription.
//!
//! A subscription's endpoint has one owner at a time: the node that queues and sends its deliveries, so that its in-flight cap,
//! its order, its rate and its breaker are facts of one process. Each time an endpoint gets another owner its fence grows, and an
//! outcome counts only with the fence that the endpoint still has: a node that slept through its lease cannot overwrite its
//! successor.
//!
//! A node lives as long as it renews its row, and holds an advisory lock of the database for as long as it is connected.
//! Whoever finds a row that has run out, or one that is silent and without its lock, deletes it and frees what its node
//! owned, in one transaction; so a node that still finds its row owns what it owned. On SQLite there is but one node.
//!
//! `due_at` says when somebody must look at an endpoint. Whoever writes a delivery owns the endpoint or sets `due_at` in the same
//! transaction ([`take`]), and an owner gives an endpoint back together with the time of its next delivery
//! ([`release`]): no delivery waits unknown to everybody.

use std::collections::HashMap;

use entity::id::{SiteId, SubscriptionId, Timestamp};
use entity::{endpoint, node};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DatabaseBackend, DbErr, EntityTrait, FromQueryResult as _,
    QueryFilter, QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait as _, Statement,
};
use uuid::Uuid;

use crate::db::{Db, Tx};
use crate::rows::{self, Rows};

/// How long a node is taken for alive after it last said so, in milliseconds.
pub const LEASE_MS: i64 = 15_000;
/// The same for a node that is no longer connected: a process that ended.
pub const SILENCE_MS: i64 = 3_000;
/// The first half of the advisory locks that nodes hold; the second is their session.
pub const SESSION_LOCKS: i32 = 1_397_050_444;
/// Endpoints that one statement takes.
pub const TAKEN_MAX: usize = 256;
/// When an endpoint is due that has nothing to send.
const NEVER: i64 = i64::MAX;
/// When an endpoint is due whose subscription has changed.
const CHANGED: i64 = 0;
/// The channel on which PostgreSQL tells the nodes that endpoints are due.
pub const CHANNEL: &str = "followpoints_endpoints";

/// An endpoint that this node owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// Whose deliveries.
    pub subscription: SubscriptionId,
    /// What outcomes must carry.
    pub fence: i64,
    /// Whether its last delivery failed.
    pub is_failing: bool,
    /// Whether some of its deliveries have an order.
    pub is_ordered: bool,
    /// Whether its subscription has changed since somebody last looked.
    pub has_changed: bool,
}

/// To insert with a new subscription, which nobody owns.
#[must_use]
pub fn new(site: SiteId, subscription: SubscriptionId, is_ordered: bool) -> endpoint::ActiveModel {
    endpoint::ActiveModel::from(endpoint::Model {
        subscription_id: subscription,
        site_id: site,
        owner: None,
        fence: 0,
        due_at: Timestamp(NEVER),
        is_ordered,
        failing_since: None,
        last_failure: None,
        exhausted_first_at: None,
        exhausted_last_at: None,
        warned_percent: 0,
        told_at: None,
        notice: None,
        check_at: None,
    })
}

/// Takes those of `subscriptions` that nobody owns for `node`, and has the owners of the others look at them. Without a node it
/// only does the latter, for all. Gives those taken.
pub async fn take(
    tx: &Tx,
    node: Option<Uuid>,
    subscriptions: &[SubscriptionId],
) -> Result<Vec<Owned>, DbErr> {
    if subscriptions.is_empty() {
        return Ok(Vec::new());
    }
    let found = hold(tx, subscriptions).await?;
    let mut free = Vec::new();
    let mut others = Vec::new();
    for endpoint in found.into_values() {
        match (endpoint.owner, node) {
            (None, Some(_)) => free.push(endpoint),
            (Some(owner), Some(node)) if owner == node => free.push(endpoint),
            _ if endpoint.due_at > tx.now() => others.push(endpoint.subscription_id),
            _ => {}
        }
    }
    poke(tx, &others).await?;
    let Some(node) = node else { return Ok(Vec::new()) };
    give_to(tx, node, &free).await
}

/// Makes `node` the owner of `endpoints`, which the transaction holds.
async fn give_to(tx: &Tx, node: Uuid, endpoints: &[endpoint::Model]) -> Result<Vec<Owned>, DbErr> {
    let taken: Vec<Owned> = endpoints.iter().map(|endpoint| taken_by(node, endpoint)).collect();
    let write = Rows::new(&taken)
        .uuid("id", |owned| owned.subscription.0)
        .int("fence", |owned| owned.fence)
        .same_uuid("node", node)
        .same_int("never", NEVER)
        .write(
            "UPDATE endpoint SET owner = r.node, fence = r.fence, due_at = r.never FROM {rows} AS r \
             WHERE endpoint.subscription_id = r.id",
        );
    rows::write_all(tx.conn(), vec![write]).await?;
    Ok(taken)
}

fn taken_by(node: Uuid, endpoint: &endpoint::Model) -> Owned {
    Owned {
        subscription: endpoint.subscription_id,
        fence: if endpoint.owner == Some(node) { endpoint.fence } else { endpoint.fence + 1 },
        is_failing: endpoint.failing_since.is_some(),
        is_ordered: endpoint.is_ordered,
        has_changed: endpoint.due_at.0 == CHANGED,
    }
}

/// Has whoever owns `subscriptions`, or will, look for deliveries at once.
pub async fn poke(tx: &Tx, subscriptions: &[SubscriptionId]) -> Result<(), DbErr> {
    make_due(tx, subscriptions, tx.now().0).await
}

/// Has whoever owns `subscription`, which has changed, forget what it knew of it. Once some of its deliveries have an order, they
/// are looked for ever after.
pub async fn changed(tx: &Tx, subscription: SubscriptionId, is_ordered: bool) -> Result<(), DbErr> {
    if is_ordered {
        endpoint::Entity::update_many()
            .col_expr(endpoint::Column::IsOrdered, Expr::val(true))
            .filter(endpoint::Column::SubscriptionId.eq(subscription))
            .exec(tx.conn())
            .await?;
    }
    make_due(tx, &[subscription], CHANGED).await
}

/// Deletes the endpoint of `subscription`, and tells its owner.
pub async fn delete(tx: &Tx, subscription: SubscriptionId) -> Result<(), DbErr> {
    endpoint::Entity::delete_by_id(subscription).exec(tx.conn()).await?;
    if tx.conn().get_database_backend() == DatabaseBackend::Postgres {
        tx.conn().execute_unprepared(&format!("NOTIFY {CHANNEL}, '{subscription}'")).await?;
    }
    Ok(())
}

/// The subscription that was deleted, if that is what a notification says.
#[must_use]
pub fn deleted_by(said: &str) -> Option<SubscriptionId> {
    Uuid::try_parse(said).ok().map(SubscriptionId)
}

async fn make_due(tx: &Tx, subscriptions: &[SubscriptionId], at: i64) -> Result<(), DbErr> {
    if subscriptions.is_empty() {
        return Ok(());
    }
    let due = Rows::new(subscriptions).uuid("id", |id| id.0).same_int("at", at).write(
        "UPDATE endpoint SET due_at = r.at FROM {rows} AS r \
             WHERE endpoint.subscription_id = r.id AND endpoint.due_at > r.at",
    );
    rows::write_all(tx.conn(), vec![due]).await?;
    notify(tx).await
}

/// Tells every node at the commit that endpoints are due.
async fn notify(tx: &Tx) -> Result<(), DbErr> {
    if tx.conn().get_database_backend() == DatabaseBackend::Postgres {
        tx.conn().execute_unprepared(&format!("NOTIFY {CHANNEL}")).await?;
    }
    Ok(())
}

/// The query of endpoints that are due and nobody else's. Its parameters: now, the node, how many.
#[must_use]
pub fn due_text(backend: DatabaseBackend) -> String {
    let postgres = backend == DatabaseBackend::Postgres;
    let (now, me, limit) = if postgres { ("$1", "$2", "$3") } else { ("?", "?", "?") };
    // The sign keeps SQLite from going through all endpoints that nobody owns, due or not.
    let owner = if postgres { "owner" } else { "+owner" };
    format!(
        "SELECT * FROM endpoint WHERE due_at <= {now} AND ({owner} IS NULL OR {owner} = {me}) \
         ORDER BY due_at LIMIT {limit}"
    )
}

/// Takes up to [`TAKEN_MAX`] endpoints for `node` that are due and nobody else's.
pub async fn take_due(db: &Db, node: Uuid) -> Result<Vec<Owned>, DbErr> {
    let backend = db.backend();
    let due = due_text(backend);
    let limit = i64::try_from(TAKEN_MAX).unwrap_or(i64::MAX);
    let values = [db.now().0.into(), node.into(), limit.into()];
    let statement = |sql: &str| Statement::from_sql_and_values(backend, sql, values.clone());
    // Most often there is nothing, and then nothing is written.
    if db.read().query_one_raw(statement(&due)).await?.is_none() {
        return Ok(Vec::new());
    }
    let lock = if backend == DatabaseBackend::Postgres { " FOR UPDATE SKIP LOCKED" } else { "" };
    let tx = db.write().await?;
    let rows = tx.conn().query_all_raw(statement(&format!("{due}{lock}"))).await?;
    let found: Vec<endpoint::Model> = rows.iter().map(from_row).collect::<Result<_, _>>()?;
    let taken = give_to(&tx, node, &found).await?;
    tx.commit().await?;
    Ok(taken)
}

/// Up to `max` of the endpoints that `node` owns, in the order of their ids from `after` on.
pub async fn owned_by(
    db: &Db,
    node: Uuid,
    after: Option<SubscriptionId>,
    max: usize,
) -> Result<Vec<Owned>, DbErr> {
    let rows = endpoint::Entity::find()
        .filter(endpoint::Column::Owner.eq(node))
        .apply_if(after, |query, after| query.filter(endpoint::Column::SubscriptionId.gt(after)))
        .order_by_asc(endpoint::Column::SubscriptionId)
        .limit(u64::try_from(max).unwrap_or(u64::MAX))
        .all(db.read())
        .await?;
    Ok(rows.iter().map(|endpoint| taken_by(node, endpoint)).collect())
}

/// Gives endpoints of `node` back, due when their next delivery is: those of `idle` that `confirm` still gives once nobody
/// else can take them, and then no longer counts as this node's.
pub async fn release(
    db: &Db,
    node: Uuid,
    idle: &[SubscriptionId],
    confirm: impl FnOnce(&[SubscriptionId]) -> Vec<SubscriptionId> + Send,
) -> Result<(), DbErr> {
    if idle.is_empty() {
        return Ok(());
    }
    let tx = db.write().await?;
    hold(&tx, idle).await?;
    let idle = confirm(idle);
    let least = if db.backend() == DatabaseBackend::Postgres { "least" } else { "min" };
    let freed =
        Rows::new(&idle).uuid("id", |id| id.0).same_uuid("node", node).same_int("never", NEVER).write(
            &format!(
                "UPDATE endpoint SET owner = NULL, due_at = {least}(endpoint.due_at, coalesce((\
               SELECT min(d.next_attempt_at) FROM delivery d JOIN subscription s ON s.id = d.subscription_id \
               WHERE d.subscription_id = endpoint.subscription_id AND d.status IN ('PENDING', 'RETRYING') \
                 AND s.status = 'ENABLED'), r.never)) \
             FROM {{rows}} AS r WHERE endpoint.subscription_id = r.id AND endpoint.owner = r.node",
            ),
        );
    rows::write_all(tx.conn(), vec![freed]).await?;
    notify(&tx).await?;
    tx.commit().await
}

/// Removes `node`, which stops, and gives back what it owns.
pub async fn leave(db: &Db, node: Uuid) -> Result<(), DbErr> {
    let tx = db.write().await?;
    node::Entity::delete_by_id(node).exec(tx.conn()).await?;
    free_orphans(&tx).await?;
    notify(&tx).await?;
    tx.commit().await
}

/// Enters `node`, which owns nothing yet; gives when its life ends unless it is renewed.
pub async fn enter(db: &Db, node: Uuid, session: i32) -> Result<Timestamp, DbErr> {
    let tx = db.write().await?;
    // On SQLite nobody else could take it for dead.
    let is_alone = db.backend() == DatabaseBackend::Sqlite;
    let alive_until = if is_alone { Timestamp(i64::MAX) } else { tx.now().plus_ms(LEASE_MS) };
    let row = node::ActiveModel::from(node::Model { id: node, session, alive_until });
    node::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    tx.commit().await?;
    Ok(alive_until)
}

/// Prolongs the life of `node`; gives until when, or `None` if it was taken for dead and owns nothing any more.
pub async fn renew(db: &Db, node: Uuid) -> Result<Option<Timestamp>, DbErr> {
    let tx = db.write().await?;
    let alive_until = tx.now().plus_ms(LEASE_MS);
    let renewed = node::Entity::update_many()
        .col_expr(node::Column::AliveUntil, Expr::val(alive_until.0))
        .filter(node::Column::Id.eq(node))
        .exec(tx.conn())
        .await?;
    tx.commit().await?;
    Ok((renewed.rows_affected == 1).then_some(alive_until))
}

const ORPHANED: &str = "owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = endpoint.owner)";

/// Which nodes but `me` may be dead: their life has run out, or they are silent. A life that ends far ahead was entered before
/// the clock was set back: its node may be gone for long.
fn suspect(me: Uuid, now: Timestamp) -> String {
    let (silent, ahead) = (now.plus_ms(LEASE_MS - SILENCE_MS).0, now.plus_ms(2 * LEASE_MS).0);
    format!("id <> '{me}' AND (alive_until <= {silent} OR alive_until > {ahead})")
}

/// Which of those are dead. Whoever ends, however suddenly, is disconnected by the system and loses its lock.
fn dead(me: Uuid, now: Timestamp) -> String {
    let (over, ahead) = (now.0, now.plus_ms(2 * LEASE_MS).0);
    format!(
        "{} AND (alive_until <= {over} OR alive_until > {ahead} \
         OR pg_try_advisory_xact_lock({SESSION_LOCKS}, session))",
        suspect(me, now)
    )
}

/// Removes the nodes that are dead, and frees what is owned by no living node. `me`, which does this, is not, although its clock
/// may have jumped since it last renewed its life: burying itself would only have its tries repeated.
pub async fn bury_dead(db: &Db, me: Uuid) -> Result<(), DbErr> {
    let look = format!(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM node WHERE {}) OR EXISTS (SELECT 1 FROM endpoint WHERE {ORPHANED})",
        suspect(me, db.now())
    );
    if db.read().query_one_raw(Statement::from_string(db.backend(), look)).await?.is_none() {
        return Ok(());
    }
    let tx = db.write().await?;
    node::Entity::delete_many().filter(Expr::cust(dead(me, tx.now()))).exec(tx.conn()).await?;
    free_orphans(&tx).await?;
    tx.commit().await
}

/// On SQLite, frees what an earlier process owned: this one is alone, so that one is dead. Called once at the start, so that
/// what a crash interrupted goes on at once.
pub async fn recover(db: &Db) -> Result<(), DbErr> {
    if db.backend() == DatabaseBackend::Postgres {
        return Ok(());
    }
    let tx = db.write().await?;
    node::Entity::delete_many().exec(tx.conn()).await?;
    free_orphans(&tx).await?;
    tx.commit().await
}

/// Frees what no node owns; somebody must look at it now. A node that was taken for dead may own something anew that it was
/// taking at that moment, so the dead are not told by their names.
async fn free_orphans(tx: &Tx) -> Result<(), DbErr> {
    endpoint::Entity::update_many()
        .col_expr(endpoint::Column::Owner, Expr::val(None::<Uuid>))
        .col_expr(endpoint::Column::DueAt, Expr::val(tx.now().0))
        .filter(Expr::cust(ORPHANED))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// The endpoints of `subscriptions` as they are; on PostgreSQL they get no other owner until the transaction ends. They are
/// always locked in the same order, so that two transactions cannot wait for each other.
pub async fn hold(
    tx: &Tx,
    subscriptions: &[SubscriptionId],
) -> Result<HashMap<SubscriptionId, endpoint::Model>, DbErr> {
    let lock = if tx.conn().get_database_backend() == DatabaseBackend::Postgres {
        " ORDER BY e.subscription_id FOR UPDATE OF e"
    } else {
        ""
    };
    let sql = format!("SELECT e.* FROM {{rows}} r JOIN endpoint e ON e.subscription_id = r.id{lock}");
    let rows = Rows::new(subscriptions).uuid("id", |id| id.0).query(tx.conn(), &sql).await?;
    rows.iter().map(|row| from_row(row).map(|endpoint| (endpoint.subscription_id, endpoint))).collect()
}

/// When the endpoint became due that nobody has looked at for longest.
pub async fn oldest_due(db: &Db) -> Result<Option<Timestamp>, DbErr> {
    endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::DueAt)
        .filter(endpoint::Column::DueAt.between(CHANGED + 1, db.now().0))
        .order_by_asc(endpoint::Column::DueAt)
        .into_tuple()
        .one(db.read())
        .await
}

fn from_row(row: &QueryResult) -> Result<endpoint::Model, DbErr> {
    endpoint::Model::from_query_result(row, "")
}
