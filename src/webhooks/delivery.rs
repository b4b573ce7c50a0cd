//! Claiming due deliveries and writing the outcomes of tries, many at a time.
//!
//! On PostgreSQL a claim takes a lease on the rows (`FOR UPDATE SKIP LOCKED`), so that any number of nodes share the
//! work. On SQLite one process owns everything: a claim writes nothing, and what is on its way is known in memory. On both an
//! outcome counts only if the delivery still has the lease of the job, so a node that slept through its lease cannot
//! overwrite its successor.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entity::id::{AppId, DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::{DeliveryStatus, SubscriptionStatus};
use entity::{delivery, subscription};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseBackend, DbErr, EntityTrait, ExprTrait as _, FromQueryResult, QueryFilter,
    QueryResult, QuerySelect as _, QueryTrait as _,
};
use tokio::sync::OnceCell;

use super::outbox::LEASE_MS;
use super::{Job, Lease, OutgoingEvent, SharedToken, SignedToken};
use crate::db::{Db, Tx};
use crate::outbound::Timings;
use crate::rows::{self, Rows, Write};
use crate::sites::config::{self, Target};

/// Deliveries taken by one claim.
pub const CLAIM_MAX: usize = 256;
/// How long deliveries are held for a subscription that is not enabled, in milliseconds: 30 days.
pub const HELD_MS_MAX: i64 = 30 * 24 * 3_600_000;
/// Held deliveries that one transaction cancels.
pub const EXPIRED_AT_ONCE: u64 = 500;
/// States in which a delivery is still to be sent.
pub const WAITING: [&str; 2] = [DeliveryStatus::Pending.as_str(), DeliveryStatus::Retrying.as_str()];

/// One try, as the log keeps it.
#[derive(Debug, Clone)]
pub struct Try {
    /// When the request went out.
    pub started_at: Timestamp,
    /// Until the answer was read or given up.
    pub duration_ms: i32,
    /// The receiver's status, if one came.
    pub status_code: Option<i32>,
    /// Why no status came.
    pub error_class: Option<String>,
    /// The same in words.
    pub error: Option<String>,
    /// JSON object of the answer's headers.
    pub response_headers: Option<String>,
    /// Up to 16 KiB of the answer.
    pub response_body: Option<String>,
    /// JSON object of the request's headers, secrets masked; none if no request was made.
    pub request_headers: Option<String>,
    /// How long its parts took; none if no request was made.
    pub timings: Option<Timings>,
}

/// What a try led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepted it.
    Delivered,
    /// Try again then.
    Retry(Timestamp),
    /// The schedule has ended.
    Exhausted,
    /// The receiver is gone for good (410): its subscription is disabled.
    Gone,
}

/// The result of one try, to be written.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The job that was tried.
    pub job: Job,
    /// How it went.
    pub attempt: Try,
    /// What follows from it.
    pub verdict: Verdict,
    /// The token that was sent, if it must still be stored.
    pub new_token: Option<SignedToken>,
    /// When the outcome was known.
    pub at: Timestamp,
}

impl Outcome {
    const fn status(&self) -> DeliveryStatus {
        match self.verdict {
            Verdict::Delivered => DeliveryStatus::Delivered,
            Verdict::Retry(_) => DeliveryStatus::Retrying,
            Verdict::Exhausted | Verdict::Gone => DeliveryStatus::Exhausted,
        }
    }

    const fn next_attempt_at(&self) -> Timestamp {
        match self.verdict {
            Verdict::Retry(at) => at,
            Verdict::Delivered | Verdict::Exhausted | Verdict::Gone => self.at,
        }
    }

    const fn finished_at(&self) -> Option<i64> {
        match self.verdict {
            Verdict::Retry(_) => None,
            Verdict::Delivered | Verdict::Exhausted | Verdict::Gone => Some(self.at.0),
        }
    }
}

const JOB_COLUMNS: &str = "d.id AS delivery_id, d.lease_id, d.attempt_count, d.schedule_step, \
     e.id AS event_id, e.event_type, e.data, e.identity, e.occurred_at, \
     t.key_id, t.token, t.expires_at, s.*";

/// Takes up to [`CLAIM_MAX`] due deliveries of enabled subscriptions other than `busy`. `held` are those that this
/// process already has.
pub async fn claim_due<S: std::hash::BuildHasher>(
    db: &Db,
    busy: &[SubscriptionId],
    held: &HashMap<DeliveryId, Lease, S>,
) -> Result<Vec<Job>, DbErr> {
    let rows = if db.backend() == DatabaseBackend::Postgres {
        claim_with_leases(db, busy).await?
    } else {
        claim_in_memory(db, busy, held).await?
    };
    jobs(&rows)
}

const JOB_TABLES: &str = "JOIN event e ON e.site_id = d.site_id AND e.id = d.event_id \
     JOIN subscription s ON s.id = d.subscription_id \
     LEFT JOIN signed_event t ON t.event_id = d.event_id AND t.app_id = s.app_id";

/// When a delivery may be claimed, as the index `delivery_due` has it: what is due but leased is not even looked at.
const fn claimable(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Sqlite => "max(d.next_attempt_at, d.lease_until)",
        _ => "greatest(d.next_attempt_at, d.lease_until)",
    }
}

/// Finds up to `{2}` deliveries that can be claimed at `{1}`, but for subscriptions in `{rows}`, the oldest first.
fn due(backend: DatabaseBackend, columns: &str) -> String {
    let claimable = claimable(backend);
    format!(
        "SELECT {columns} FROM delivery d JOIN subscription s ON s.id = d.subscription_id \
         WHERE d.status IN ('PENDING', 'RETRYING') AND {claimable} <= {{1}} \
           AND s.status = 'ENABLED' AND d.subscription_id NOT IN (SELECT id FROM {{rows}} AS apart) \
         ORDER BY {claimable} LIMIT {{2}}"
    )
}

async fn claim_with_leases(db: &Db, busy: &[SubscriptionId]) -> Result<Vec<QueryResult>, DbErr> {
    let due = due(DatabaseBackend::Postgres, "d.site_id, d.id");
    let sql = format!(
        "WITH due AS ({due} FOR UPDATE OF d SKIP LOCKED), \
         d AS (UPDATE delivery SET lease_id = {{3}}, lease_until = {{4}} FROM due \
           WHERE delivery.site_id = due.site_id AND delivery.id = due.id RETURNING delivery.*) \
         SELECT {JOB_COLUMNS} FROM d {JOB_TABLES}"
    );
    let limit = i64::try_from(CLAIM_MAX).unwrap_or(i64::MAX);
    let tx = db.write().await?;
    let now = tx.now();
    let values = [now.0.into(), limit.into(), tx.new_id().into(), now.plus_ms(LEASE_MS).0.into()];
    let claimed = Rows::new(busy).uuid("id", |id| id.0).query_with(tx.conn(), &sql, &values).await?;
    tx.commit().await?;
    Ok(claimed)
}

async fn claim_in_memory<S: std::hash::BuildHasher>(
    db: &Db,
    busy: &[SubscriptionId],
    held: &HashMap<DeliveryId, Lease, S>,
) -> Result<Vec<QueryResult>, DbErr> {
    let limit = i64::try_from(CLAIM_MAX + held.len()).unwrap_or(i64::MAX);
    let values = [db.now().0.into(), limit.into()];
    let due = Rows::new(busy)
        .uuid("id", |id| id.0)
        .query_with(db.read(), &due(db.backend(), "d.site_id, d.id"), &values)
        .await?;
    let due: Vec<(SiteId, DeliveryId)> =
        due.iter().map(|row| Ok((row.try_get_by(0)?, row.try_get_by(1)?))).collect::<Result<_, DbErr>>()?;
    let due: Vec<_> = due.into_iter().filter(|(_, id)| !held.contains_key(id)).take(CLAIM_MAX).collect();
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {JOB_COLUMNS} FROM {{rows}} r JOIN delivery d ON d.site_id = r.site_id AND d.id = r.id {JOB_TABLES}"
    );
    let rows = Rows::new(&due).uuid("site_id", |(site, _)| site.0).uuid("id", |(_, id)| id.0);
    rows.query(db.read(), &sql).await
}

/// On SQLite, forgets the leases of an earlier process: this one is alone, so they can only be left over. Called once
/// at the start, so that what a crash interrupted goes on at once.
pub async fn recover(db: &Db) -> Result<(), DbErr> {
    if db.backend() == DatabaseBackend::Postgres {
        return Ok(());
    }
    let tx = db.write().await?;
    delivery::Entity::update_many()
        .col_expr(delivery::Column::LeaseUntil, Expr::val(0))
        .filter(delivery::Column::Status.is_in(WAITING))
        .exec(tx.conn())
        .await?;
    tx.commit().await
}

fn jobs(rows: &[QueryResult]) -> Result<Vec<Job>, DbErr> {
    let mut targets: HashMap<SubscriptionId, Arc<Target>> = HashMap::new();
    let mut events: HashMap<EventId, Arc<OutgoingEvent>> = HashMap::new();
    let mut tokens: HashMap<(EventId, AppId), Arc<SharedToken>> = HashMap::new();
    let mut jobs = Vec::with_capacity(rows.len());
    for row in rows {
        let subscription = subscription::Model::from_query_result(row, "")?;
        let target = targets.entry(subscription.id).or_insert_with(|| Arc::new(Target::from(subscription)));
        let event_id: EventId = row.try_get("", "event_id")?;
        let event = match events.entry(event_id) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::new(outgoing_event(event_id, row)?))),
        };
        let token = match tokens.entry((event_id, target.app_id)) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::new(stored_token(row)?))),
        };
        jobs.push(Job {
            lease: Lease {
                site_id: target.site_id,
                delivery_id: row.try_get("", "delivery_id")?,
                lease_id: row.try_get("", "lease_id")?,
            },
            attempt_count: row.try_get("", "attempt_count")?,
            schedule_step: row.try_get("", "schedule_step")?,
            event,
            token,
            target: Arc::clone(target),
        });
    }
    Ok(jobs)
}

fn outgoing_event(id: EventId, row: &QueryResult) -> Result<OutgoingEvent, DbErr> {
    Ok(OutgoingEvent {
        id,
        event_type: row.try_get("", "event_type")?,
        data: row.try_get("", "data")?,
        identity: row.try_get("", "identity")?,
        occurred_at: row.try_get("", "occurred_at")?,
    })
}

fn stored_token(row: &QueryResult) -> Result<SharedToken, DbErr> {
    let Some(token) = row.try_get::<Option<String>>("", "token")? else {
        return Ok(SharedToken::default());
    };
    Ok(SharedToken(OnceCell::new_with(Some(SignedToken {
        key_id: row.try_get("", "key_id")?,
        token: Bytes::from(token),
        expires_at: row.try_get("", "expires_at")?,
        stored: true,
    }))))
}

/// Writes `outcomes` in one transaction. Those whose lease is no longer theirs change nothing.
pub async fn write_outcomes(db: &Db, outcomes: &[Outcome]) -> Result<(), DbErr> {
    let tx = db.write().await?;
    let accepted = settle(&tx, outcomes).await?;
    let accepted: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| accepted.contains(&outcome.job.lease.delivery_id)).collect();
    rows::write_all(tx.conn(), vec![attempts_write(&accepted), tokens_write(outcomes)]).await?;
    let gone: HashSet<(SubscriptionId, SiteId)> = accepted
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Gone)
        .map(|outcome| (outcome.job.target.subscription_id, outcome.job.target.site_id))
        .collect();
    for (subscription, site) in gone {
        disable(&tx, subscription, site).await?;
    }
    tx.commit().await
}

async fn settle(tx: &Tx, outcomes: &[Outcome]) -> Result<HashSet<DeliveryId>, DbErr> {
    let rows = Rows::new(outcomes)
        .uuid("site_id", |outcome| outcome.job.lease.site_id.0)
        .uuid("id", |outcome| outcome.job.lease.delivery_id.0)
        .uuid("lease_id", |outcome| outcome.job.lease.lease_id)
        .text("status", |outcome| outcome.status().as_str())
        .int("schedule_step", |outcome| i64::from(outcome.job.schedule_step) + 1)
        .int("next_attempt_at", |outcome| outcome.next_attempt_at().0)
        .int_or_null("finished_at", Outcome::finished_at)
        .query(
            tx.conn(),
            "UPDATE delivery SET status = r.status, attempt_count = attempt_count + 1, \
             schedule_step = r.schedule_step, next_attempt_at = r.next_attempt_at, lease_until = 0, \
             finished_at = r.finished_at FROM {rows} AS r \
             WHERE delivery.site_id = r.site_id AND delivery.id = r.id AND delivery.lease_id = r.lease_id \
             AND delivery.status IN ('PENDING', 'RETRYING') RETURNING delivery.id",
        )
        .await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

fn attempts_write(outcomes: &[&Outcome]) -> Write {
    Rows::new(outcomes)
        .uuid("delivery_id", |outcome| outcome.job.lease.delivery_id.0)
        .int("number", |outcome| i64::from(outcome.job.attempt_count) + 1)
        .uuid("site_id", |outcome| outcome.job.lease.site_id.0)
        .int("started_at", |outcome| outcome.attempt.started_at.0)
        .int("duration_ms", |outcome| i64::from(outcome.attempt.duration_ms))
        .int_or_null("status_code", |outcome| outcome.attempt.status_code.map(i64::from))
        .text_or_null("error_class", |outcome| outcome.attempt.error_class.clone())
        .text_or_null("error", |outcome| outcome.attempt.error.clone())
        .text_or_null("response_headers", |outcome| outcome.attempt.response_headers.clone())
        .text_or_null("response_body", |outcome| outcome.attempt.response_body.clone())
        .int_or_null("dns_us", |outcome| outcome.attempt.timings.and_then(|t| micros(t.dns)))
        .int_or_null("connect_us", |outcome| outcome.attempt.timings.and_then(|t| micros(t.connect)))
        .int_or_null("tls_us", |outcome| outcome.attempt.timings.and_then(|t| micros(t.tls)))
        .int_or_null("first_byte_us", |outcome| outcome.attempt.timings.and_then(|t| micros(t.first_byte)))
        .int_or_null("total_us", |outcome| outcome.attempt.timings.and_then(|t| micros(Some(t.total))))
        .text_or_null("request_headers", |outcome| outcome.attempt.request_headers.clone())
        .insert("attempt", "")
}

fn micros(part: Option<Duration>) -> Option<i64> {
    part.map(|part| i64::try_from(part.as_micros()).unwrap_or(i64::MAX))
}

fn tokens_write(outcomes: &[Outcome]) -> Write {
    let mut seen = HashSet::new();
    let tokens: Vec<(&Job, &SignedToken)> = outcomes
        .iter()
        .filter_map(|outcome| outcome.new_token.as_ref().map(|token| (&outcome.job, token)))
        .filter(|(job, _)| seen.insert((job.event.id, job.target.app_id)))
        .collect();
    Rows::new(&tokens)
        .uuid("event_id", |(job, _)| job.event.id.0)
        .uuid("app_id", |(job, _)| job.target.app_id.0)
        .text("key_id", |(_, token)| token.key_id.as_str())
        .text("token", |(_, token)| String::from_utf8_lossy(&token.token))
        .int("expires_at", |(_, token)| token.expires_at.0)
        .insert(
            "signed_event",
            " ON CONFLICT (event_id, app_id) DO UPDATE SET key_id = excluded.key_id, \
             token = excluded.token, expires_at = excluded.expires_at \
             WHERE signed_event.expires_at < excluded.expires_at",
        )
}

async fn disable(tx: &Tx, subscription: SubscriptionId, site: SiteId) -> Result<(), DbErr> {
    let reason = "the receiver answered 410 Gone";
    subscription::Entity::update_many()
        .col_expr(subscription::Column::Status, Expr::val(SubscriptionStatus::Disabled.as_str()))
        .col_expr(subscription::Column::StatusReason, Expr::val(reason))
        .col_expr(subscription::Column::UpdatedAt, Expr::val(tx.now().0))
        .col_expr(subscription::Column::Revision, Expr::col(subscription::Column::Revision).add(1))
        .filter(subscription::Column::Id.eq(subscription))
        .filter(subscription::Column::Status.eq(SubscriptionStatus::Enabled))
        .exec(tx.conn())
        .await?;
    config::touch(tx, site).await
}

/// Prolongs the leases of what this process holds, or gives them back when `until` is zero.
pub async fn set_leases(db: &Db, held: &[Lease], until: Timestamp) -> Result<(), DbErr> {
    if held.is_empty() {
        return Ok(());
    }
    let tx = db.write().await?;
    let leases = Rows::new(held)
        .uuid("site_id", |lease| lease.site_id.0)
        .uuid("id", |lease| lease.delivery_id.0)
        .uuid("lease_id", |lease| lease.lease_id)
        .same_int("until", until.0)
        .write(
            "UPDATE delivery SET lease_until = r.until FROM {rows} AS r \
             WHERE delivery.site_id = r.site_id AND delivery.id = r.id AND delivery.lease_id = r.lease_id",
        );
    rows::write_all(tx.conn(), vec![leases]).await?;
    tx.commit().await
}

/// Cancels the deliveries that have been held for [`HELD_MS_MAX`], up to [`EXPIRED_AT_ONCE`] in a transaction, so that nobody
/// waits long for the writer; says how many.
pub async fn expire_held(db: &Db) -> Result<usize, DbErr> {
    let mut cancelled = 0;
    loop {
        let tx = db.write().await?;
        let some = expire_some(&tx).await?;
        tx.commit().await?;
        cancelled += some;
        if some == 0 {
            return Ok(cancelled);
        }
    }
}

async fn expire_some(tx: &Tx) -> Result<usize, DbErr> {
    let not_enabled = subscription::Entity::find()
        .select_only()
        .column(subscription::Column::Id)
        .filter(subscription::Column::Status.ne(SubscriptionStatus::Enabled));
    let held: Vec<(SiteId, DeliveryId)> = delivery::Entity::find()
        .select_only()
        .columns([delivery::Column::SiteId, delivery::Column::Id])
        .filter(delivery::Column::Status.is_in(WAITING))
        .filter(delivery::Column::CreatedAt.lte(tx.now().plus_ms(-HELD_MS_MAX)))
        .filter(delivery::Column::SubscriptionId.in_subquery(not_enabled.into_query()))
        .limit(EXPIRED_AT_ONCE)
        .into_tuple()
        .all(tx.conn())
        .await?;
    let cancelled = Rows::new(&held)
        .uuid("site_id", |(site, _)| site.0)
        .uuid("id", |(_, delivery)| delivery.0)
        .same_int("now", tx.now().0)
        .write(
            "UPDATE delivery SET status = 'CANCELLED', finished_at = r.now FROM {rows} AS r \
             WHERE delivery.site_id = r.site_id AND delivery.id = r.id \
             AND delivery.status IN ('PENDING', 'RETRYING')",
        );
    rows::write_all(tx.conn(), vec![cancelled]).await?;
    Ok(held.len())
}

/// Which of the subscriptions are no longer enabled at the URL given.
pub async fn changed_subscriptions(
    db: &Db,
    queued: &[(SubscriptionId, String)],
) -> Result<Vec<SubscriptionId>, DbErr> {
    if queued.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Rows::new(queued)
        .uuid("id", |(id, _)| id.0)
        .text("url", |(_, url)| url.as_str())
        .query(
            db.read(),
            "SELECT r.id FROM {rows} r WHERE NOT EXISTS (SELECT 1 FROM subscription s \
             WHERE s.id = r.id AND s.url = r.url AND s.status = 'ENABLED')",
        )
        .await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

/// When the oldest due delivery became due that nobody has taken, apart from subscriptions that are `troubled`.
pub async fn oldest_untaken(db: &Db, troubled: &[SubscriptionId]) -> Result<Option<Timestamp>, DbErr> {
    let sql = due(db.backend(), "d.next_attempt_at");
    let values = [db.now().0.into(), 1_i64.into()];
    let rows = Rows::new(troubled).uuid("id", |id| id.0).query_with(db.read(), &sql, &values).await?;
    rows.first().map(|row| row.try_get("", "next_attempt_at")).transpose()
}
