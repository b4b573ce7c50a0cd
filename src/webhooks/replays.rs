//! Replays: the events of a time, sent to one subscription again, as a job that survives every crash.
//!
//! A replay goes through the site's events in order, `STEP` at a time, each step in a transaction with the place that it has
//! reached. It makes deliveries due and leaves the rest to the dispatcher; while `AHEAD_MAX` deliveries of the
//! subscription wait, it rests. Any node may take the next step.

use entity::id::{DeliveryId, EventId, ReplayId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::{DeliveryStatus, ReplayScope, ReplayStatus, SubscriptionStatus};
use entity::{delivery, event, replay, subscription};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, ExprTrait as _,
    IntoActiveModel, PaginatorTrait as _, QueryFilter, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::delivery::WAITING;
use super::{endpoints, retention};
use crate::db::{Db, Tx};
use crate::rows::{self, Rows};
use crate::sites::config::Target;

/// Events that one step looks at.
const STEP: u64 = 200;
/// Waiting deliveries of the subscription at which a replay rests.
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
    let running: Vec<(ReplayId, SubscriptionId)> = replay::Entity::find()
        .select_only()
        .columns([replay::Column::Id, replay::Column::SubscriptionId])
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
    for (id, subscription) in running {
        if steps == AT_ONCE {
            break;
        }
        let waiting = delivery::Entity::find()
            .filter(delivery::Column::SubscriptionId.eq(subscription))
            .filter(delivery::Column::Status.is_in(WAITING))
            .limit(AHEAD_MAX)
            .count(db.read())
            .await?;
        if waiting < AHEAD_MAX {
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

/// One step of the replay `id`; false if it no longer runs.
async fn step(tx: &Tx, id: ReplayId, subscription: SubscriptionId) -> Result<bool, DbErr> {
    // The endpoint first, as everybody does who changes deliveries.
    endpoints::hold(tx, &[subscription]).await?;
    let running = replay::Entity::find_by_id(id).filter(replay::Column::Status.eq(ReplayStatus::Running));
    let Some(mut row) = running.lock_exclusive().one(tx.conn()).await? else { return Ok(false) };
    let target = subscription::Entity::find_by_id(subscription).one(tx.conn()).await?.map(Target::from);
    row.updated_at = tx.now();
    let events = match &target {
        Some(_) => next_events(tx, &row).await?,
        None => Vec::new(),
    };
    row.cursor = events.last().map(|event| event.id).or(row.cursor);
    row.examined_count += i64::try_from(events.len()).unwrap_or(0);
    if let Some(target) = target {
        let is_wanted = |event: &&event::Model| {
            target.wants(&event.event_type, event.entity_id, &event.data) && !retention::is_expunged(event)
        };
        let wanted: Vec<&event::Model> = events.iter().filter(is_wanted).collect();
        row.replayed_count += replay(tx, &row, &target, &wanted).await?;
    }
    if u64::try_from(events.len()).unwrap_or(0) < STEP {
        row.status = ReplayStatus::Done;
        row.finished_at = Some(tx.now());
    }
    row.into_active_model().reset_all().update(tx.conn()).await?;
    Ok(true)
}

/// The next events of the site. An id begins with its event's instant, so the range is one of keys.
async fn next_events(tx: &Tx, row: &replay::Model) -> Result<Vec<event::Model>, DbErr> {
    let after = match row.cursor {
        Some(cursor) => event::Column::Id.gt(cursor),
        None => event::Column::Id.gte(first_id(row.since)),
    };
    event::Entity::find()
        .filter(event::Column::SiteId.eq(row.site_id))
        .filter(Condition::all().add(after).add(event::Column::Id.lt(first_id(row.until))))
        .order_by_asc(event::Column::Id)
        .limit(STEP)
        .all(tx.conn())
        .await
}

/// The least id that something of this instant can have.
#[must_use]
pub fn first_id(at: Timestamp) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(at.0).unwrap_or(0), &[0; 10]).into_uuid()
}

/// Makes deliveries of `events` due, as the scope says; gives how many.
async fn replay(
    tx: &Tx,
    row: &replay::Model,
    target: &Target,
    events: &[&event::Model],
) -> Result<i64, DbErr> {
    if events.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    let columns = [
        delivery::Column::EventId,
        delivery::Column::Id,
        delivery::Column::Status,
        delivery::Column::NextAttemptAt,
    ];
    let known: Vec<(EventId, DeliveryId, DeliveryStatus, Timestamp)> = delivery::Entity::find()
        .select_only()
        .columns(columns)
        .filter(delivery::Column::SubscriptionId.eq(row.subscription_id))
        .filter(delivery::Column::EventId.is_in(ids))
        .into_tuple()
        .all(tx.conn())
        .await?;
    let is_again = |status, next_attempt_at| match status {
        DeliveryStatus::Exhausted | DeliveryStatus::Cancelled => row.scope != ReplayScope::Missing,
        DeliveryStatus::Delivered => row.scope == ReplayScope::All,
        // A first try is under way or about to be, and so is whatever is due.
        DeliveryStatus::Pending => false,
        DeliveryStatus::Retrying => row.scope != ReplayScope::Missing && next_attempt_at > tx.now(),
    };
    let again: Vec<DeliveryId> =
        known.iter().filter(|(.., status, next)| is_again(*status, *next)).map(|(_, id, ..)| *id).collect();
    let missing: Vec<&event::Model> = events
        .iter()
        .filter(|event| row.scope != ReplayScope::Failed && known.iter().all(|(id, ..)| *id != event.id))
        .copied()
        .collect();
    send_again(tx, row.site_id, &again).await?;
    let new = Rows::new(&missing)
        .uuid("id", |_| tx.new_id())
        .uuid("event_id", |event| event.id.0)
        .uuid_or_null("order_key", |event| target.order_key(event.account_id, event.entity_id))
        .same_uuid("site_id", row.site_id.0)
        .same_uuid("subscription_id", row.subscription_id.0)
        .same_text("status", DeliveryStatus::Pending.as_str())
        .same_int("attempt_count", 0)
        .same_int("schedule_step", 0)
        .same_int("next_attempt_at", tx.now().0)
        .same_int("created_at", tx.now().0)
        .insert("delivery", "");
    rows::write_all(tx.conn(), vec![new]).await?;
    endpoints::poke(tx, &[row.subscription_id]).await?;
    Ok(i64::try_from(again.len() + missing.len()).unwrap_or(i64::MAX))
}

/// Makes the deliveries `ids` of `site` due now, with the whole schedule before them.
async fn send_again(tx: &Tx, site: SiteId, ids: &[DeliveryId]) -> Result<(), DbErr> {
    let tried = Expr::case(Expr::col(delivery::Column::AttemptCount).eq(0), DeliveryStatus::Pending.as_str())
        .finally(DeliveryStatus::Retrying.as_str());
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Status, tried.into())
        .col_expr(delivery::Column::ScheduleStep, Expr::val(0))
        .col_expr(delivery::Column::NextAttemptAt, Expr::val(tx.now().0))
        .col_expr(delivery::Column::FinishedAt, Expr::val(None::<i64>))
        .filter(delivery::Column::SiteId.eq(site))
        .filter(delivery::Column::Id.is_in(ids.iter().copied()))
        .exec(tx.conn())
        .await?;
    Ok(())
}
