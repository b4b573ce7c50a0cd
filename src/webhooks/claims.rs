//! Reading what is due of the endpoints that this node owns. A claim writes nothing: what is on its way is known in memory, and
//! nobody else sends what belongs to these endpoints.
//!
//! Each endpoint is read by itself, along an index of what waits for it, so a claim costs what it brings: neither what waits for
//! others nor what is not due yet is looked at.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use entity::id::{AppId, DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use entity::subscription;
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, FromQueryResult as _, QueryResult, Statement};
use uuid::Uuid;

use super::queues::Want;
use super::{Job, Lease, OutgoingEvent, SharedToken, Signature, orders};
use crate::db::Db;
use crate::rows::Rows;
use crate::sites::config::Target;

/// Endpoints that one statement reads, and fewer: a few lengths, so that statements stay prepared.
const SIZES: [usize; 3] = [ENDPOINTS_MAX, 8, 1];
/// Endpoints that are read at once.
pub(super) const ENDPOINTS_MAX: usize = 64;
/// Events that are read at once.
const EVENTS_MAX: usize = 256;
/// Waiting deliveries of an ordered endpoint that a look goes through; if there are more, it goes on order by order ([`orders`]).
pub(super) const ORDERED_MAX: i64 = 4_096;

/// What a look into the database has found.
#[derive(Default)]
pub(super) struct Found {
    /// Deliveries that are due, with all that sending them needs.
    pub(super) jobs: Vec<Job>,
    /// What lies ahead of each endpoint, in order.
    pub(super) ahead: Vec<Ahead>,
}

/// What a look has left of an endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    /// Whether there is more that is due, or may be.
    pub(super) has_more: bool,
    /// When the next is due that is not due yet.
    pub(super) next_due: Option<Timestamp>,
    /// Whether it was read order by order, so that something may wait behind each that was found.
    pub(super) has_many: bool,
    /// The last order that was read, when orders are left.
    pub(super) order: Option<Uuid>,
}

/// A delivery that is due.
pub(super) struct Due {
    lease: Lease,
    subscription: SubscriptionId,
    event: EventId,
    attempt_count: i32,
    schedule_step: i32,
    order_key: Option<Uuid>,
}

impl Due {
    fn read(row: &QueryResult, want: &Want) -> Result<Self, DbErr> {
        let (site_id, delivery_id) = (row.try_get("", "site_id")?, row.try_get("", "id")?);
        Ok(Self {
            lease: Lease { site_id, delivery_id, fence: want.fence },
            subscription: want.subscription,
            event: row.try_get("", "event_id")?,
            attempt_count: row.try_get("", "attempt_count")?,
            schedule_step: row.try_get("", "schedule_step")?,
            order_key: row.try_get("", "order_key")?,
        })
    }

    /// Which it is.
    pub(super) const fn delivery(&self) -> DeliveryId {
        self.lease.delivery_id
    }
}

/// Due deliveries of the endpoints in `wants`, but for those in memory, which `drop_held` takes out.
pub(super) async fn read_due(
    db: &Db,
    wants: &[Want],
    drop_held: impl FnOnce(&mut Vec<Due>) + Send,
) -> Result<Found, DbErr> {
    let mut found = Found { jobs: Vec::new(), ahead: vec![Ahead::default(); wants.len()] };
    let places: HashMap<SubscriptionId, usize> =
        wants.iter().enumerate().map(|(place, want)| (want.subscription, place)).collect();
    let mut due: Vec<Due> = Vec::new();
    let mut counts = vec![0_usize; wants.len()];
    for row in look(db, wants).await? {
        let subscription: SubscriptionId = row.try_get("", "subscription_id")?;
        let Some(place) = places.get(&subscription).copied() else { continue };
        let (Some(want), Some(ahead), Some(count)) =
            (wants.get(place), found.ahead.get_mut(place), counts.get_mut(place))
        else {
            continue;
        };
        if row.try_get::<Option<DeliveryId>>("", "id")?.is_none() {
            ahead.next_due = Some(row.try_get("", "next_attempt_at")?);
            continue;
        }
        *count += 1;
        // Whether or not this one is in memory: the limit of the statement was reached, and what lies behind it is not known.
        if *count > want.room + want.held {
            ahead.has_more = true;
        } else {
            due.push(Due::read(&row, want)?);
        }
    }
    for ((want, ahead), count) in wants.iter().zip(&mut found.ahead).zip(counts) {
        if want.is_ordered && !ahead.has_more && orders::are_many(db, want.subscription).await? {
            read_orders(db, want, (want.room + want.held).saturating_sub(count), ahead, &mut due).await?;
        }
    }
    drop_held(&mut due);
    if !due.is_empty() {
        found.jobs = jobs(db, due).await?;
    }
    Ok(found)
}

/// Reads up to `room` deliveries of the next orders of an endpoint of which much waits.
async fn read_orders(
    db: &Db,
    want: &Want,
    room: usize,
    ahead: &mut Ahead,
    due: &mut Vec<Due>,
) -> Result<(), DbErr> {
    let orders = orders::read(db, want.subscription, want.order, db.now()).await?;
    (ahead.has_many, ahead.has_more) = (true, orders.has_more);
    let mut left = room;
    for row in orders.rows {
        if row.try_get::<Option<DeliveryId>>("", "id")?.is_some() {
            if left == 0 {
                ahead.has_more = true;
                return Ok(());
            }
            left -= 1;
            due.push(Due::read(&row, want)?);
        }
        ahead.order = Some(row.try_get("", "order_key")?);
    }
    if !ahead.has_more {
        ahead.order = None;
    }
    Ok(())
}

/// Rows of what is due, one more than has room; and without a site and a delivery the time of the next that is not due.
async fn look(db: &Db, wants: &[Want]) -> Result<Vec<QueryResult>, DbErr> {
    let mut rows = Vec::new();
    let mut rest = wants;
    while !rest.is_empty() {
        let size = SIZES.into_iter().find(|size| rest.len() >= *size).unwrap_or(1);
        let (part, after) = rest.split_at(size);
        rest = after;
        rows.extend(db.read().query_all_raw(statement(db, part)).await?);
    }
    Ok(rows)
}

fn statement(db: &Db, wants: &[Want]) -> Statement {
    let now = db.now().0;
    let mut values: Vec<Value> = Vec::new();
    for want in wants {
        let limit = i64::try_from(want.room + want.held + 1).unwrap_or(i64::MAX);
        let id = || Value::from(want.subscription.0);
        values.extend([id(), now.into(), id(), limit.into()]);
        if want.is_ordered {
            values.extend([id(), ORDERED_MAX.into(), now.into(), now.into(), id(), limit.into()]);
        }
        values.extend([id(), now.into()]);
    }
    let text = text(db.backend(), wants.iter().map(|want| want.is_ordered));
    Statement::from_sql_and_values(db.backend(), text, values)
}

/// The statement that reads what is due of as many endpoints as there are answers to whether they are ordered. The parameters of one
/// that is not: subscription, now, subscription, limit, subscription, now.
pub fn text(backend: DatabaseBackend, are_ordered: impl Iterator<Item = bool>) -> String {
    let mut text = String::new();
    for is_ordered in are_ordered {
        if !text.is_empty() {
            text.push_str(" UNION ALL ");
        }
        text.push_str(PARALLEL);
        if is_ordered {
            text.push_str(ORDERED);
        }
        text.push_str(NEXT);
    }
    if backend == DatabaseBackend::Postgres { numbered(&text) } else { text }
}

/// What is due of an endpoint, the oldest first. SQLite plans a statement anew whenever it gets another value for a bare `LIMIT ?`,
/// and this one takes milliseconds to plan.
const PARALLEL: &str = "SELECT * FROM (SELECT subscription_id, site_id, id, next_attempt_at, event_id, \
       attempt_count, schedule_step, order_key FROM delivery \
     WHERE subscription_id = ? AND status IN ('PENDING', 'RETRYING') AND next_attempt_at <= ? \
       AND order_key IS NULL AND EXISTS (SELECT 1 FROM subscription s WHERE s.id = ? AND s.status = 'ENABLED') \
     ORDER BY next_attempt_at LIMIT +?) AS due";

/// What is due of an ordered endpoint and not behind anything that is not, in the order in which it was made.
const ORDERED: &str = " UNION ALL SELECT * FROM (SELECT d.subscription_id, d.site_id, d.id, d.next_attempt_at, \
       d.event_id, d.attempt_count, d.schedule_step, d.order_key \
     FROM (SELECT * FROM delivery WHERE subscription_id = ? AND status IN ('PENDING', 'RETRYING') \
       AND order_key IS NOT NULL ORDER BY id LIMIT +?) AS d \
     WHERE d.next_attempt_at <= ? AND NOT EXISTS (SELECT 1 FROM delivery p \
       WHERE p.subscription_id = d.subscription_id AND p.order_key = d.order_key AND p.id < d.id \
         AND p.status IN ('PENDING', 'RETRYING') AND p.order_key IS NOT NULL AND p.next_attempt_at > ?) \
       AND EXISTS (SELECT 1 FROM subscription s WHERE s.id = ? AND s.status = 'ENABLED') \
     ORDER BY d.id LIMIT +?) AS due";

/// When the next is due that is not.
const NEXT: &str = " UNION ALL SELECT * FROM (SELECT subscription_id, NULL AS site_id, NULL AS id, next_attempt_at, \
       NULL AS event_id, NULL AS attempt_count, NULL AS schedule_step, NULL AS order_key FROM delivery WHERE subscription_id = ? AND status IN ('PENDING', 'RETRYING') AND next_attempt_at > ? \
     ORDER BY next_attempt_at LIMIT 1) AS ahead";

/// What [`NEXT`] has nothing to say of, and what PostgreSQL has to be told that it is.
const ABSENT: [(&str, &str); 6] = [
    ("site_id", "uuid"),
    ("id", "uuid"),
    ("event_id", "uuid"),
    ("attempt_count", "integer"),
    ("schedule_step", "integer"),
    ("order_key", "uuid"),
];

/// The same with PostgreSQL's parameters, whose type a sign would leave open.
pub(super) fn numbered(text: &str) -> String {
    let text = text.replace("LIMIT +?", "LIMIT ?");
    let mut numbered = String::with_capacity(text.len() + 64);
    for (index, part) in text.split('?').enumerate() {
        if index > 0 {
            let _ = write!(numbered, "${index}");
        }
        numbered.push_str(part);
    }
    for (column, of) in ABSENT {
        numbered = numbered.replace(&format!("NULL AS {column}"), &format!("NULL::{of} AS {column}"));
    }
    numbered
}

/// What is told of an event to an app.
type Told = (Arc<OutgoingEvent>, Arc<SharedToken>);

/// Reads whom `due` go to and what they tell, each subscription and event once, however many deliveries it has.
async fn jobs(db: &Db, due: Vec<Due>) -> Result<Vec<Job>, DbErr> {
    let subscriptions: HashSet<SubscriptionId> = due.iter().map(|due| due.subscription).collect();
    let targets = read_targets(db, &Vec::from_iter(subscriptions)).await?;
    let mut seen = HashSet::new();
    let wanted: Vec<(SiteId, EventId, AppId)> = due
        .iter()
        .filter_map(|due| Some((due.lease.site_id, due.event, targets.get(&due.subscription)?.app_id)))
        .filter(|wanted| seen.insert(*wanted))
        .collect();
    let mut told = HashMap::with_capacity(wanted.len());
    for part in wanted.chunks(EVENTS_MAX) {
        read_events(db, part, &mut told).await?;
    }
    let job = |due: Due| {
        let target = targets.get(&due.subscription)?;
        let (event, token) = told.get(&(due.event, target.app_id))?;
        Some(Job {
            lease: due.lease,
            attempt_count: due.attempt_count,
            schedule_step: due.schedule_step,
            order_key: due.order_key,
            event: Arc::clone(event),
            token: Arc::clone(token),
            target: Arc::clone(target),
        })
    };
    Ok(due.into_iter().filter_map(job).collect())
}

async fn read_targets(
    db: &Db,
    subscriptions: &[SubscriptionId],
) -> Result<HashMap<SubscriptionId, Arc<Target>>, DbErr> {
    let rows = Rows::new(subscriptions)
        .uuid("id", |id| id.0)
        .query(db.read(), "SELECT s.* FROM {rows} r JOIN subscription s ON s.id = r.id")
        .await?;
    let target = |row| {
        let subscription = subscription::Model::from_query_result(row, "")?;
        Ok((subscription.id, Arc::new(Target::from(subscription))))
    };
    rows.iter().map(target).collect()
}

async fn read_events(
    db: &Db,
    wanted: &[(SiteId, EventId, AppId)],
    told: &mut HashMap<(EventId, AppId), Told>,
) -> Result<(), DbErr> {
    let rows = Rows::new(wanted)
        .uuid("site_id", |(site, ..)| site.0)
        .uuid("event_id", |(_, event, _)| event.0)
        .uuid("app_id", |(.., app)| app.0)
        .query(db.read(), EVENTS)
        .await?;
    for row in &rows {
        let id: EventId = row.try_get("", "event_id")?;
        let token = SharedToken { stored: stored_signature(row)?, ..SharedToken::default() };
        let said = (Arc::new(outgoing_event(id, row)?), Arc::new(token));
        told.insert((id, row.try_get("", "app_id")?), said);
    }
    Ok(())
}

const EVENTS: &str = "SELECT r.event_id, r.app_id, e.event_type, e.data, e.identity, e.occurred_at, \
     t.key_id, t.signature, t.input_hash, t.expires_at \
     FROM {rows} r JOIN event e ON e.site_id = r.site_id AND e.id = r.event_id \
     LEFT JOIN signed_event t ON t.event_id = r.event_id AND t.app_id = r.app_id";

fn outgoing_event(id: EventId, row: &QueryResult) -> Result<OutgoingEvent, DbErr> {
    Ok(OutgoingEvent {
        id,
        event_type: row.try_get("", "event_type")?,
        data: row.try_get("", "data")?,
        identity: row.try_get("", "identity")?,
        occurred_at: row.try_get("", "occurred_at")?,
    })
}

fn stored_signature(row: &QueryResult) -> Result<Option<Signature>, DbErr> {
    let Some(signature) = row.try_get("", "signature")? else { return Ok(None) };
    Ok(Some(Signature {
        key_id: row.try_get("", "key_id")?,
        signature,
        input_hash: row.try_get("", "input_hash")?,
        expires_at: row.try_get("", "expires_at")?,
    }))
}
