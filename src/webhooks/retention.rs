//! How long the log of webhooks is kept: what receivers answered, the tries, and the events, each for a time of its own; and
//! the end of what the log says about an account, a member or an entity, when that is asked for.
//!
//! An id begins with its instant, so what is too old is a range of keys, which is taken away from its beginning, a little at a
//! time. How far that has come is stored for what is only emptied and stays in the range.

use std::time::Duration;

use entity::id::{AccountId, ActivityId, DeliveryId, MemberId, SiteId, SubscriptionId, Timestamp};
use entity::{attempt, delivery, event, retention, signed_event, site};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DbErr, EntityTrait, QueryFilter, QueryOrder as _,
    QuerySelect as _, Statement, Value,
};
use serde_json::json;
use uuid::Uuid;

use super::endpoints;
use super::event::without_message;
use super::log::EventFilter;
use super::partitions;
use super::replays::first_id;
use crate::db::{Db, Tx};
use crate::rows::Rows;

/// Rows that one transaction takes away, so that nobody waits long for the writer.
const AT_ONCE: u64 = 500;
/// Sites that are looked at together.
const SITES: u64 = 500;
/// Events that one transaction empties.
const EXPUNGED_AT_ONCE: u64 = 200;
/// Who caused an event that was expunged.
const EXPUNGED_IDENTITY: &str = "{}";
/// How long after its delivery was made a try counts as late, in milliseconds: its headers and bodies are kept by its own time. Less
/// than they can be kept for, so that none comes behind the place that the emptying has reached.
pub(super) const LATE_MS: i64 = 12 * 3_600_000;
/// The name of the place that the emptying of answers has reached.
const ANSWERS: &str = "ANSWERS";

/// How long each part of the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Headers and bodies of requests and answers.
    pub answers: Duration,
    /// Deliveries that have ended, with their tries.
    pub deliveries: Duration,
    /// Events, with their tokens.
    pub events: Duration,
}

/// A day, in which times of keeping are given.
const DAY: Duration = Duration::from_hours(24);

impl Default for Retention {
    fn default() -> Self {
        Self { answers: 7 * DAY, deliveries: 30 * DAY, events: 90 * DAY }
    }
}

impl Retention {
    /// Until when what is kept for `kept` is too old at `now`.
    #[must_use]
    pub fn before(self, now: Timestamp, kept: Duration) -> Timestamp {
        now.plus_ms(-i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
    }
}

/// What was taken away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Tries whose headers and bodies were emptied.
    pub answers: u64,
    /// Deliveries, with their tries.
    pub deliveries: u64,
    /// Events, with their tokens, that were deleted one by one.
    pub events: u64,
    /// Tables of PostgreSQL with the events, tokens or tries of a week.
    pub partitions: u64,
}

/// Takes away everything that is too old. Any number of nodes may do so at once. On PostgreSQL events and tries go by the week, as soon
/// as the last of a week is too old.
pub async fn clean_up(db: &Db, retention: Retention) -> Result<Removed, DbErr> {
    let before = |kept| retention.before(db.now(), kept);
    let mut removed =
        Removed { answers: empty_answers(db, before(retention.answers)).await?, ..Removed::default() };
    removed.answers += empty_late(db, before(retention.answers)).await?;
    let mut after = Uuid::nil();
    loop {
        let sites: Vec<Uuid> = site::Entity::find()
            .select_only()
            .column(site::Column::Id)
            .filter(site::Column::Id.gt(after))
            .order_by_asc(site::Column::Id)
            .limit(SITES)
            .into_tuple()
            .all(db.read())
            .await?;
        let Some(last) = sites.last() else { break };
        after = *last;
        for site in sites {
            removed.deliveries += delete_deliveries(db, site, before(retention.deliveries)).await?;
            removed.events += delete_events(db, site, before(retention.events)).await?;
        }
    }
    // When the deliveries that needed them are gone.
    removed.partitions = partitions::drop_old(db, retention).await?;
    Ok(removed)
}

/// Runs `sql` with `values`, whose parameters are numbered, and says how many rows it changed.
async fn run(tx: &Tx, sql: &str, values: &[Value]) -> Result<u64, DbErr> {
    let backend = tx.conn().get_database_backend();
    let sql = if backend == DatabaseBackend::Postgres { sql.to_owned() } else { sql.replace('$', "?") };
    let statement = Statement::from_sql_and_values(backend, sql, values.iter().cloned());
    Ok(tx.conn().execute_raw(statement).await?.rows_affected())
}

/// Empties the tries of deliveries that were made before `end`.
async fn empty_answers(db: &Db, end: Timestamp) -> Result<u64, DbErr> {
    let mut emptied = 0;
    loop {
        let tx = db.write().await?;
        let row = retention::Entity::find_by_id(ANSWERS.to_owned()).one(tx.conn()).await?;
        let from = row.map_or(Uuid::nil(), |row| row.reached);
        let part: Vec<Uuid> = attempt::Entity::find()
            .select_only()
            .column(attempt::Column::DeliveryId)
            .filter(attempt::Column::DeliveryId.gt(from))
            .filter(attempt::Column::DeliveryId.lt(first_id(end)))
            .order_by_asc(attempt::Column::DeliveryId)
            .limit(AT_ONCE)
            .into_tuple()
            .all(tx.conn())
            .await?;
        let Some(reached) = part.last().copied() else { return Ok(emptied) };
        emptied += run(
            &tx,
            "UPDATE attempt SET response_headers = NULL, response_body = NULL, request_headers = NULL, late_at = NULL \
             WHERE delivery_id > $1 AND delivery_id <= $2",
            &[from.into(), reached.into()],
        )
        .await?;
        let place = retention::ActiveModel::from(retention::Model { name: ANSWERS.to_owned(), reached });
        let other = sea_orm::sea_query::OnConflict::column(retention::Column::Name)
            .update_column(retention::Column::Reached)
            .to_owned();
        retention::Entity::insert(place).on_conflict(other).exec_without_returning(tx.conn()).await?;
        tx.commit().await?;
    }
}

/// Empties the late tries that were made before `end`.
async fn empty_late(db: &Db, end: Timestamp) -> Result<u64, DbErr> {
    let mut emptied = 0;
    loop {
        let tx = db.write().await?;
        let some = run(
            &tx,
            "UPDATE attempt SET response_headers = NULL, response_body = NULL, request_headers = NULL, late_at = NULL \
             WHERE late_at < $1 AND (delivery_id, number) IN \
             (SELECT delivery_id, number FROM attempt WHERE late_at < $1 ORDER BY late_at LIMIT $2)",
            &[end.0.into(), i64::try_from(AT_ONCE).unwrap_or(0).into()],
        )
        .await?;
        tx.commit().await?;
        emptied += some;
        if some < AT_ONCE {
            return Ok(emptied);
        }
    }
}

/// Deletes the deliveries of `site` that have ended before `end`, with their tries. None has ended before it was made, so that the
/// ids say where to look.
async fn delete_deliveries(db: &Db, site: Uuid, end: Timestamp) -> Result<u64, DbErr> {
    let mut deleted = 0;
    loop {
        let tx = db.write().await?;
        let old = "SELECT id FROM delivery WHERE site_id = $1 AND id < $2 AND finished_at < $4 ORDER BY id LIMIT $3";
        let limit = i64::try_from(AT_ONCE).unwrap_or(0);
        let values: [Value; 4] = [site.into(), first_id(end).into(), limit.into(), end.0.into()];
        let attempts = partitions::rest(db.backend(), "attempt");
        run(&tx, &format!("DELETE FROM {attempts} WHERE delivery_id IN ({old})"), &values).await?;
        let some =
            run(&tx, &format!("DELETE FROM delivery WHERE site_id = $1 AND id IN ({old})"), &values).await?;
        tx.commit().await?;
        deleted += some;
        if some < AT_ONCE {
            return Ok(deleted);
        }
    }
}

/// Deletes the events of `site` from before `end`, unless a delivery of them is still there.
async fn delete_events(db: &Db, site: Uuid, end: Timestamp) -> Result<u64, DbErr> {
    let mut deleted = 0;
    loop {
        let tx = db.write().await?;
        let [events, tokens] = ["event", "signed_event"].map(|table| partitions::rest(db.backend(), table));
        let old = format!(
            "SELECT id FROM {events} e WHERE site_id = $1 AND id < $2 AND NOT EXISTS \
             (SELECT 1 FROM delivery d WHERE d.event_id = e.id) ORDER BY id LIMIT $3"
        );
        let values: [Value; 3] =
            [site.into(), first_id(end).into(), i64::try_from(AT_ONCE).unwrap_or(0).into()];
        run(&tx, &format!("DELETE FROM {tokens} WHERE event_id IN ({old})"), &values).await?;
        let some =
            run(&tx, &format!("DELETE FROM {events} WHERE site_id = $1 AND id IN ({old})"), &values).await?;
        tx.commit().await?;
        deleted += some;
        if some < AT_ONCE {
            return Ok(deleted);
        }
    }
}

/// Whose events are emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What happened to this account.
    Account(AccountId),
    /// What this member did, with an account or without.
    Member(MemberId),
    /// This entity.
    Entity(Uuid),
}

impl From<About> for EventFilter {
    fn from(about: About) -> Self {
        match about {
            About::Account(account) => Self { account: Some(account), ..Self::default() },
            About::Member(member) => Self { member: Some(member), ..Self::default() },
            About::Entity(entity) => Self { entity: Some(entity), ..Self::default() },
        }
    }
}

/// Empties what the log of `site` says about somebody or something: the events keep their place and lose their content,
/// their tokens are deleted, what receivers answered too, and what still waits is cancelled. Gives how many events that were.
pub async fn expunge(db: &Db, site: SiteId, about: About) -> Result<u64, DbErr> {
    let mut expunged = 0;
    let filter = EventFilter::from(about);
    let mut before = None;
    loop {
        let tx = db.write().await?;
        let events = super::log::list_events(tx.conn(), site, &filter, before, EXPUNGED_AT_ONCE).await?;
        let Some(last) = events.last() else { return Ok(expunged) };
        before = Some(last.id);
        expunge_some(&tx, &events).await?;
        expunged += u64::try_from(events.len()).unwrap_or(0);
        tx.commit().await?;
    }
}

/// Empties what the log of `site` says about `entity`, in the caller's transaction: see [`expunge`].
pub async fn expunge_entity(tx: &Tx, site: SiteId, entity: Uuid) -> Result<(), DbErr> {
    let events = event::Entity::find()
        .filter(event::Column::EntityId.eq(entity))
        .filter(event::Column::SiteId.eq(site))
        .all(tx.conn())
        .await?;
    expunge_some(tx, &events).await
}

/// Takes what the activity `id` says in words from its events, as the message was unsent. What is still to be sent is sent without.
pub async fn forget_message(tx: &Tx, site: SiteId, id: ActivityId) -> Result<(), DbErr> {
    let events = event::Entity::find()
        .filter(event::Column::EntityId.eq(id.0))
        .filter(event::Column::SiteId.eq(site))
        .all(tx.conn())
        .await?;
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    take_back(tx, &ids).await?;
    for event in events {
        event::Entity::update_many()
            .col_expr(event::Column::Data, Expr::val(without_message(&event.data)))
            .filter(event::Column::SiteId.eq(site))
            .filter(event::Column::Id.eq(event.id))
            .exec(tx.conn())
            .await?;
        // It is signed anew if it is sent again.
        signed_event::Entity::delete_many()
            .filter(signed_event::Column::EventId.eq(event.id))
            .exec(tx.conn())
            .await?;
    }
    Ok(())
}

/// Has the nodes that serve deliveries of `events` forget what they have queued; gives these deliveries. The endpoints are held, as
/// by everybody who changes deliveries.
async fn take_back(tx: &Tx, events: &[Uuid]) -> Result<Vec<DeliveryId>, DbErr> {
    let deliveries: Vec<(DeliveryId, SubscriptionId)> = delivery::Entity::find()
        .select_only()
        .columns([delivery::Column::Id, delivery::Column::SubscriptionId])
        .filter(delivery::Column::EventId.is_in(events.iter().copied()))
        .into_tuple()
        .all(tx.conn())
        .await?;
    let mut subscriptions: Vec<_> = deliveries.iter().map(|(_, subscription)| *subscription).collect();
    subscriptions.sort_unstable();
    subscriptions.dedup();
    endpoints::hold(tx, &subscriptions).await?;
    for subscription in &subscriptions {
        endpoints::changed(tx, *subscription, false).await?;
    }
    Ok(deliveries.into_iter().map(|(id, _)| id).collect())
}

async fn expunge_some(tx: &Tx, events: &[event::Model]) -> Result<(), DbErr> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    let deliveries = take_back(tx, &ids).await?;
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Status, Expr::val("CANCELLED"))
        .col_expr(delivery::Column::FinishedAt, Expr::val(tx.now().0))
        .filter(delivery::Column::EventId.is_in(ids.iter().copied()))
        .filter(delivery::Column::FinishedAt.is_null())
        .exec(tx.conn())
        .await?;
    signed_event::Entity::delete_many()
        .filter(signed_event::Column::EventId.is_in(ids.iter().copied()))
        .exec(tx.conn())
        .await?;
    let answers = Rows::new(&deliveries).uuid("id", |id| id.0).write(
        "UPDATE attempt SET response_headers = NULL, response_body = NULL, request_headers = NULL FROM {rows} AS r \
         WHERE attempt.delivery_id = r.id",
    );
    let emptied = Rows::new(events)
        .uuid("site_id", |event| event.site_id.0)
        .uuid("id", |event| event.id.0)
        .text("data", emptied)
        .same_text("identity", EXPUNGED_IDENTITY)
        .write(
            "UPDATE event SET data = r.data, identity = r.identity FROM {rows} AS r \
             WHERE event.site_id = r.site_id AND event.id = r.id",
        );
    crate::rows::write_all(tx.conn(), vec![answers, emptied]).await
}

/// Whether `event` was expunged: there is nothing left of it to send.
#[must_use]
pub fn is_expunged(event: &event::Model) -> bool {
    let says_so =
        || serde_json::from_str::<serde_json::Value>(&event.data).is_ok_and(|data| data["expunged"] == true);
    event.identity == EXPUNGED_IDENTITY && says_so()
}

/// What is left of an event: that it was.
fn emptied(event: &event::Model) -> String {
    json!({
        "id": event.id,
        "entityId": event.entity_id,
        "eventTime": event.occurred_at.to_rfc3339(),
        "entityEventSequence": event.sequence.to_string(),
        "expunged": true,
    })
    .to_string()
}
