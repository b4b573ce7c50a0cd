//! Replays: the events of a time, sent to one subscription again, as a job that survives every crash.
//!
//! A replay goes through the site's events in order, each step in a transaction with the place that it has reached. It makes
//! deliveries due and leaves the rest to the dispatcher. It rests while the subscription is not enabled, and one that makes new
//! deliveries while `AHEAD_MAX` of the subscription are due. One of what failed makes none, and may be what has others go on that
//! are due and stand behind. Any node may take the next step.

use std::collections::HashMap;

use entity::id::{DeliveryId, EventId, ReplayId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::{DeliveryStatus, ReplayScope, ReplayStatus, SubscriptionStatus};
use entity::{delivery, event, replay, subscription};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait as _, QueryFilter, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::delivery::WAITING;
use super::{endpoints, retention};
use crate::db::{Db, Tx};
use crate::rows::{self, Rows, Write};
use crate::sites::config::Target;

/// Events that one step looks at.
const EXAMINED_MAX: u64 = 1_000;
/// Deliveries that one step makes due, so that nobody waits long for the writer.
const STEP: usize = 200;
/// Deliveries of the subscription that are due at which a replay rests.
const AHEAD_MAX: u64 = 1_000;
/// Replays of which a look takes a step.
const AT_ONCE: usize = 20;
/// Replays at which a look has a look: those that rest keep no other from going on.
const LOOKED_AT: u64 = 200;

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The site has no such replay.
    #[error("there is no such replay")]
    NotFound,
    /// The site has no such subscription.
    #[error("there is no such webhook subscription")]
    SubscriptionNotFound,
    /// The subscription is not enabled.
    #[error("the webhook subscription is not enabled")]
    SubscriptionNotEnabled,
    /// The time has no length.
    #[error("is before until, which is the present unless given")]
    Range,
    /// One is running.
    #[error("another replay to this subscription is running; wait for it or cancel it")]
    Running,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// What is to be replayed.
#[derive(Debug, Clone, Copy)]
pub struct NewReplay {
    /// Which deliveries.
    pub scope: ReplayScope,
    /// The first instant.
    pub since: Timestamp,
    /// The instant after the last; the present unless given, and at the latest.
    pub until: Option<Timestamp>,
}

/// Starts a replay to the subscription `id` of `site`.
pub async fn start(
    tx: &Tx,
    (site, id): (SiteId, SubscriptionId),
    new: NewReplay,
) -> Result<replay::Model, ReplayError> {
    // Two that are started at once see each other.
    endpoints::hold(tx, &[id]).await?;
    let row = subscription::Entity::find_by_id(id).filter(subscription::Column::SiteId.eq(site));
    let row = row.one(tx.conn()).await?.ok_or(ReplayError::SubscriptionNotFound)?;
    if row.status != SubscriptionStatus::Enabled {
        return Err(ReplayError::SubscriptionNotEnabled);
    }
    let end = tx.now().plus_ms(1);
    let until = new.until.filter(|until| *until < end).unwrap_or(end);
    if new.since >= until {
        return Err(ReplayError::Range);
    }
    let running = replay::Entity::find()
        .filter(replay::Column::SubscriptionId.eq(id))
        .filter(replay::Column::Status.eq(ReplayStatus::Running));
    if running.one(tx.conn()).await?.is_some() {
        return Err(ReplayError::Running);
    }
    let model = replay::Model {
        id: ReplayId(tx.new_id()),
        site_id: site,
        subscription_id: id,
        scope: new.scope,
        since: new.since,
        until,
        status: ReplayStatus::Running,
        cursor: None,
        examined_count: 0,
        replayed_count: 0,
        created_at: tx.now(),
        updated_at: tx.now(),
        finished_at: None,
    };
    replay::Entity::insert(replay::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(model)
}

/// Ends the replay `id` of `site` if it is running; what it has made due stays so.
pub async fn cancel(tx: &Tx, site: SiteId, id: ReplayId) -> Result<replay::Model, ReplayError> {
    let mut row = replay::Entity::find_by_id(id)
        .filter(replay::Column::SiteId.eq(site))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .ok_or(ReplayError::NotFound)?;
    if row.status != ReplayStatus::Running {
        return Ok(row);
    }
    row.status = ReplayStatus::Cancelled;
    row.updated_at = tx.now();
    row.finished_at = Some(tx.now());
    row.clone().into_active_model().reset_all().update(tx.conn()).await?;
    Ok(row)
}

/// Ends the replay that is running to `subscription`, which the transaction holds: its owner wants nothing of what waits.
pub(super) async fn cancel_all(tx: &Tx, subscription: SubscriptionId) -> Result<(), DbErr> {
    replay::Entity::update_many()
        .col_expr(replay::Column::Status, Expr::val(ReplayStatus::Cancelled.as_str()))
        .col_expr(replay::Column::UpdatedAt, Expr::val(tx.now().0))
        .col_expr(replay::Column::FinishedAt, Expr::val(tx.now().0))
        .filter(replay::Column::SubscriptionId.eq(subscription))
        .filter(replay::Column::Status.eq(ReplayStatus::Running))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// The replay `id` of `site`.
pub async fn find(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: ReplayId,
) -> Result<Option<replay::Model>, DbErr> {
    replay::Entity::find_by_id(id).filter(replay::Column::SiteId.eq(site)).one(db).await
}

/// Replays of `site` from the newest, after `before`, of one subscription or all.
pub async fn list(
    db: &impl ConnectionTrait,
    site: SiteId,
    subscription: Option<SubscriptionId>,
    before: Option<ReplayId>,
    limit: u64,
) -> Result<Vec<replay::Model>, DbErr> {
    let mut query = replay::Entity::find().filter(replay::Column::SiteId.eq(site));
    if let Some(subscription) = subscription {
        query = query.filter(replay::Column::SubscriptionId.eq(subscription));
    }
    if let Some(before) = before {
        query = query.filter(replay::Column::Id.lt(before));
    }
    query.order_by_desc(replay::Column::Id).limit(limit).all(db).await
}

/// Takes a step of each running replay that may go on, of [`AT_ONCE`] at the most, and says whether there was any.
pub(super) async fn go_on(db: &Db) -> Result<bool, DbErr> {
    let running: Vec<(ReplayId, SubscriptionId, ReplayScope)> = replay::Entity::find()
        .select_only()
        .columns([replay::Column::Id, replay::Column::SubscriptionId, replay::Column::Scope])
        .filter(replay::Column::Status.eq(ReplayStatus::Running))
        .order_by_asc(replay::Column::UpdatedAt)
        .limit(LOOKED_AT)
        .into_tuple()
        .all(db.read())
        .await?;
    let are_all = u64::try_from(running.len()).is_ok_and(|count| count < LOOKED_AT);
    let mut steps = 0;
    let mut has_gone_on = false;
    let mut resting = Vec::new();
    for (id, subscription, scope) in running {
        if steps == AT_ONCE {
            break;
        }
        if may_go_on(db, subscription, scope).await? {
            let tx = db.write().await?;
            has_gone_on |= step(&tx, id, subscription).await?;
            tx.commit().await?;
            steps += 1;
        } else {
            resting.push(id);
        }
    }
    if !are_all && !resting.is_empty() {
        // They go to the back, or others would never be looked at.
        let tx = db.write().await?;
        replay::Entity::update_many()
            .col_expr(replay::Column::UpdatedAt, Expr::val(tx.now().0))
            .filter(replay::Column::Id.is_in(resting))
            .exec(tx.conn())
            .await?;
        tx.commit().await?;
    }
    Ok(has_gone_on)
}

/// Whether a replay of this scope need not rest: the subscription is enabled, and not too much is due for it. What waits for its next
/// try is not ahead of it.
async fn may_go_on(db: &Db, subscription: SubscriptionId, scope: ReplayScope) -> Result<bool, DbErr> {
    let enabled = subscription::Entity::find_by_id(subscription)
        .filter(subscription::Column::Status.eq(SubscriptionStatus::Enabled));
    if enabled.one(db.read()).await?.is_none() {
        return Ok(false);
    }
    if scope == ReplayScope::Failed {
        return Ok(true);
    }
    let due = delivery::Entity::find()
        .filter(delivery::Column::SubscriptionId.eq(subscription))
        .filter(delivery::Column::Status.is_in(WAITING))
        .filter(delivery::Column::NextAttemptAt.lte(db.now()))
        .limit(AHEAD_MAX)
        .count(db.read())
        .await?;
    Ok(due < AHEAD_MAX)
}

/// One step of the replay `id`; false if it no longer runs, or has to rest.
async fn step(tx: &Tx, id: ReplayId, subscription: SubscriptionId) -> Result<bool, DbErr> {
    // The endpoint first, as everybody does who changes deliveries.
    endpoints::hold(tx, &[subscription]).await?;
    let running = replay::Entity::find_by_id(id).filter(replay::Column::Status.eq(ReplayStatus::Running));
    let Some(mut row) = running.lock_exclusive().one(tx.conn()).await? else { return Ok(false) };
    let found = subscription::Entity::find_by_id(subscription).one(tx.conn()).await?;
    let Some(target) = found.map(Target::from).filter(|target| target.is_enabled) else { return Ok(false) };
    let events = next_events(tx, &row).await?;
    let mut meant = meant(tx, &row, &events).await?;
    let is_cut = meant.len() > STEP;
    meant.truncate(STEP);
    let reached = if is_cut { meant.last().map(|meant| &meant.event) } else { events.last() };
    row.cursor = reached.copied().or(row.cursor);
    let examined = events.partition_point(|event| row.cursor.is_some_and(|cursor| *event <= cursor));
    row.examined_count += i64::try_from(examined).unwrap_or(0);
    row.replayed_count += replay(tx, &row, &target, &meant).await?;
    row.updated_at = tx.now();
    if !is_cut && u64::try_from(events.len()).unwrap_or(0) < EXAMINED_MAX {
        row.status = ReplayStatus::Done;
        row.finished_at = Some(tx.now());
    }
    row.into_active_model().reset_all().update(tx.conn()).await?;
    Ok(true)
}

/// The next events of the site. An id begins with its event's instant, so the range is one of keys.
async fn next_events(tx: &Tx, row: &replay::Model) -> Result<Vec<EventId>, DbErr> {
    let after = match row.cursor {
        Some(cursor) => event::Column::Id.gt(cursor),
        None => event::Column::Id.gte(first_id(row.since)),
    };
    event::Entity::find()
        .select_only()
        .column(event::Column::Id)
        .filter(event::Column::SiteId.eq(row.site_id))
        .filter(Condition::all().add(after).add(event::Column::Id.lt(first_id(row.until))))
        .order_by_asc(event::Column::Id)
        .limit(EXAMINED_MAX)
        .into_tuple()
        .all(tx.conn())
        .await
}

/// The least id that something of this instant can have.
#[must_use]
pub fn first_id(at: Timestamp) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(at.0).unwrap_or(0), &[0; 10]).into_uuid()
}

/// An event that the scope of a replay means.
struct Meant {
    event: EventId,
    /// The delivery that there is of it.
    delivery: Option<DeliveryId>,
}

/// Those of `events` that the scope means, in order.
async fn meant(tx: &Tx, row: &replay::Model, events: &[EventId]) -> Result<Vec<Meant>, DbErr> {
    let rows = Rows::new(events)
        .uuid("event_id", |event| event.0)
        .same_uuid("subscription_id", row.subscription_id.0)
        .query(
            tx.conn(),
            "SELECT d.event_id, d.id, d.status, d.next_attempt_at FROM {rows} r \
             JOIN delivery d ON d.event_id = r.event_id AND d.subscription_id = r.subscription_id",
        )
        .await?;
    let mut known = HashMap::with_capacity(rows.len());
    for found in &rows {
        let event: EventId = found.try_get("", "event_id")?;
        let is_again = is_again(
            row.scope,
            found.try_get("", "status")?,
            found.try_get("", "next_attempt_at")?,
            tx.now(),
        );
        known.insert(event, (found.try_get("", "id")?, is_again));
    }
    let meant = |event: &EventId| match known.get(event) {
        Some((delivery, is_again)) => is_again.then_some(Meant { event: *event, delivery: Some(*delivery) }),
        None => (row.scope != ReplayScope::Failed).then_some(Meant { event: *event, delivery: None }),
    };
    Ok(events.iter().filter_map(meant).collect())
}

/// Whether the scope means a delivery in this state.
fn is_again(scope: ReplayScope, status: DeliveryStatus, next_attempt_at: Timestamp, now: Timestamp) -> bool {
    match status {
        DeliveryStatus::Exhausted | DeliveryStatus::Cancelled => scope != ReplayScope::Missing,
        DeliveryStatus::Delivered => scope == ReplayScope::All,
        // A first try is under way or about to be, and so is whatever is due.
        DeliveryStatus::Pending => false,
        DeliveryStatus::Retrying => scope != ReplayScope::Missing && next_attempt_at > now,
    }
}

/// Makes deliveries of those of `meant` due that the subscription is to, in the order that it has now; gives how many.
async fn replay(tx: &Tx, row: &replay::Model, target: &Target, meant: &[Meant]) -> Result<i64, DbErr> {
    if meant.is_empty() {
        return Ok(0);
    }
    let events = event::Entity::find()
        .filter(event::Column::SiteId.eq(row.site_id))
        .filter(event::Column::Id.is_in(meant.iter().map(|meant| meant.event.0)))
        .order_by_asc(event::Column::Id)
        .all(tx.conn())
        .await?;
    let deliveries: HashMap<EventId, DeliveryId> =
        meant.iter().filter_map(|meant| Some((meant.event, meant.delivery?))).collect();
    let (mut again, mut missing) = (Vec::new(), Vec::new());
    for event in &events {
        if !target.wants(&event.event_type, event.entity_id, &event.data) || retention::is_expunged(event) {
            continue;
        }
        let order_key = target.order_key(event.account_id, event.entity_id);
        match deliveries.get(&event.id) {
            Some(delivery) => again.push((*delivery, order_key)),
            None => missing.push((event.id, order_key)),
        }
    }
    if again.is_empty() && missing.is_empty() {
        return Ok(0);
    }
    let new = Rows::new(&missing)
        .uuid("id", |_| tx.new_id())
        .uuid("event_id", |(event, _)| event.0)
        .uuid_or_null("order_key", |(_, order_key)| *order_key)
        .same_uuid("site_id", row.site_id.0)
        .same_uuid("subscription_id", row.subscription_id.0)
        .same_text("status", DeliveryStatus::Pending.as_str())
        .same_int("attempt_count", 0)
        .same_int("schedule_step", 0)
        .same_int("next_attempt_at", tx.now().0)
        .same_int("created_at", tx.now().0)
        .insert("delivery", "");
    rows::write_all(tx.conn(), vec![send_again(tx, row.site_id, &again), new]).await?;
    endpoints::poke(tx, &[row.subscription_id]).await?;
    Ok(i64::try_from(again.len() + missing.len()).unwrap_or(i64::MAX))
}

/// To make deliveries of `site` due now, each in its order, with the whole schedule before them.
fn send_again(tx: &Tx, site: SiteId, deliveries: &[(DeliveryId, Option<Uuid>)]) -> Write {
    Rows::new(deliveries)
        .uuid("id", |(id, _)| id.0)
        .uuid_or_null("order_key", |(_, order_key)| *order_key)
        .same_uuid("site_id", site.0)
        .same_int("now", tx.now().0)
        .write(
            "UPDATE delivery SET status = CASE WHEN attempt_count = 0 THEN 'PENDING' ELSE 'RETRYING' END, \
             schedule_step = 0, next_attempt_at = r.now, order_key = r.order_key, finished_at = NULL \
             FROM {rows} AS r WHERE delivery.site_id = r.site_id AND delivery.id = r.id",
        )
}
