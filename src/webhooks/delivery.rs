//! Writing the outcomes of tries, many at a time, and ending what was held too long.
//!
//! An outcome counts only if this node still owns the endpoint and nothing else has happened to the delivery: a node that slept
//! through its lease cannot overwrite its successor.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use entity::id::{DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::DeliveryStatus;
use entity::{delivery, endpoint, event, subscription};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect as _, QueryTrait as _};

use super::{Job, Signature, SignedToken, endpoints, health, retention};
use crate::db::{Db, Tx};
use crate::ids::instant_of;
use crate::outbound::Timings;
use crate::rows::{self, Rows, Write};

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
    /// The receiver is gone for good (410): its subscription will be disabled.
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

/// What came of writing outcomes.
#[derive(Debug, Default)]
pub struct Written {
    /// The deliveries whose outcome counts.
    pub counted: HashSet<DeliveryId>,
    /// Those at which a receiver said that it is gone whose subscription has changed meanwhile, perhaps to another receiver: they
    /// are tried again at once.
    pub superseded: HashSet<DeliveryId>,
    /// Subscriptions that are there no more.
    pub deleted: HashSet<SubscriptionId>,
}

/// Writes `outcomes` in one transaction. Those of endpoints that are no longer this node's change nothing; whoever owns them now is
/// told to look. A delivery that was cancelled meanwhile stays so, and has its try in the log; without words if its event was expunged.
pub async fn write_outcomes(db: &Db, outcomes: &[Outcome]) -> Result<Written, DbErr> {
    let tx = db.write().await?;
    let mut subscriptions: Vec<SubscriptionId> =
        outcomes.iter().map(|outcome| outcome.job.target.subscription_id).collect();
    subscriptions.sort_unstable();
    subscriptions.dedup();
    let endpoints = endpoints::hold(&tx, &subscriptions).await?;
    // Whoever changes a subscription holds its endpoint, too.
    let superseded = superseded(&tx, outcomes).await?;
    let outcomes = &*with_another_try(outcomes, &superseded);
    let is_ours = |outcome: &&Outcome| {
        let endpoint = endpoints.get(&outcome.job.target.subscription_id);
        endpoint.is_some_and(|endpoint| endpoint.fence == outcome.job.lease.fence)
    };
    let (ours, late): (Vec<&Outcome>, Vec<&Outcome>) = outcomes.iter().partition(is_ours);
    let mut missed: Vec<SubscriptionId> =
        late.iter().map(|outcome| outcome.job.target.subscription_id).collect();
    missed.sort_unstable();
    missed.dedup();
    endpoints::poke(&tx, &missed).await?;
    let counted = settle(&tx, &ours).await?;
    let accepted: Vec<&Outcome> =
        ours.into_iter().filter(|outcome| counted.contains(&outcome.job.lease.delivery_id)).collect();
    let is_gone = |outcome: &&Outcome| !endpoints.contains_key(&outcome.job.target.subscription_id);
    let uncounted = |outcome: &&Outcome| !counted.contains(&outcome.job.lease.delivery_id);
    let cancelled: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| uncounted(outcome) && (is_ours(outcome) || is_gone(outcome)))
        .collect();
    let cancelled = settle_cancelled(&tx, &cancelled).await?;
    let cancelled = without_expunged_words(&tx, &cancelled).await?;
    let deleted: HashSet<SubscriptionId> =
        subscriptions.into_iter().filter(|subscription| !endpoints.contains_key(subscription)).collect();
    let is_of_now = |outcome: &&&Outcome| !superseded.contains(&outcome.job.lease.delivery_id);
    let of_now: Vec<&Outcome> = accepted.iter().filter(is_of_now).copied().collect();
    let health = health::write(&changed(endpoints, &of_now));
    let tried: Vec<&Outcome> = cancelled.iter().chain(accepted.iter().copied()).collect();
    rows::write_all(tx.conn(), vec![attempts_write(&tried), signatures_write(&accepted), health]).await?;
    tx.commit().await?;
    Ok(Written { counted, superseded, deleted })
}

/// `outcomes` as the log keeps them: those of events that were expunged without headers and bodies.
async fn without_expunged_words(tx: &Tx, outcomes: &[&Outcome]) -> Result<Vec<Outcome>, DbErr> {
    let ids: Vec<EventId> = outcomes.iter().map(|outcome| outcome.job.event.id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let events = event::Entity::find().filter(event::Column::Id.is_in(ids)).all(tx.conn()).await?;
    let expunged: HashSet<EventId> =
        events.iter().filter(|event| retention::is_expunged(event)).map(|event| event.id).collect();
    let logged = |outcome: &&Outcome| {
        let mut outcome = Outcome::clone(outcome);
        if expunged.contains(&outcome.job.event.id) {
            outcome.attempt.request_headers = None;
            outcome.attempt.response_headers = None;
            outcome.attempt.response_body = None;
        }
        outcome
    };
    Ok(outcomes.iter().map(logged).collect())
}

/// `outcomes`, but that those of `deliveries` are tried again at once.
fn with_another_try<'a>(outcomes: &'a [Outcome], deliveries: &HashSet<DeliveryId>) -> Cow<'a, [Outcome]> {
    let mut outcomes = Cow::Borrowed(outcomes);
    if !deliveries.is_empty() {
        let superseded = |outcome: &&mut Outcome| deliveries.contains(&outcome.job.lease.delivery_id);
        for outcome in outcomes.to_mut().iter_mut().filter(superseded) {
            outcome.verdict = Verdict::Retry(outcome.at);
        }
    }
    outcomes
}

/// The deliveries of `outcomes` whose receiver said that it is gone, and whose subscription is no longer what the job knew.
async fn superseded(tx: &Tx, outcomes: &[Outcome]) -> Result<HashSet<DeliveryId>, DbErr> {
    let mut superseded = HashSet::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Gone) {
        let target = &outcome.job.target;
        let revision: Option<i64> = subscription::Entity::find_by_id(target.subscription_id)
            .select_only()
            .column(subscription::Column::Revision)
            .into_tuple()
            .one(tx.conn())
            .await?;
        if revision.is_some_and(|revision| revision != target.revision) {
            superseded.insert(outcome.job.lease.delivery_id);
        }
    }
    Ok(superseded)
}

/// Those of `endpoints` of whose health `outcomes` say something new.
fn changed(
    mut endpoints: HashMap<SubscriptionId, endpoint::Model>,
    outcomes: &[&Outcome],
) -> Vec<endpoint::Model> {
    let before = endpoints.clone();
    for outcome in outcomes {
        if let Some(endpoint) = endpoints.get_mut(&outcome.job.target.subscription_id) {
            health::note(endpoint, outcome);
        }
    }
    endpoints.into_values().filter(|now| before.get(&now.subscription_id) != Some(now)).collect()
}

/// Gives the deliveries whose outcome counts: those that had as many tries as the job knew of.
async fn settle(tx: &Tx, outcomes: &[&Outcome]) -> Result<HashSet<DeliveryId>, DbErr> {
    if outcomes.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = Rows::new(outcomes)
        .uuid("site_id", |outcome| outcome.job.lease.site_id.0)
        .uuid("id", |outcome| outcome.job.lease.delivery_id.0)
        .int("tries", |outcome| i64::from(outcome.job.attempt_count))
        .text("status", |outcome| outcome.status().as_str())
        .int("schedule_step", |outcome| i64::from(outcome.job.schedule_step) + 1)
        .int("next_attempt_at", |outcome| outcome.next_attempt_at().0)
        .int_or_null("finished_at", |outcome| outcome.finished_at())
        .query(
            tx.conn(),
            "UPDATE delivery SET status = r.status, attempt_count = attempt_count + 1, \
             schedule_step = r.schedule_step, next_attempt_at = r.next_attempt_at, \
             finished_at = r.finished_at FROM {rows} AS r \
             WHERE delivery.site_id = r.site_id AND delivery.id = r.id AND delivery.attempt_count = r.tries \
             AND delivery.status IN ('PENDING', 'RETRYING') RETURNING delivery.id",
        )
        .await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

/// Counts the tries of those deliveries of `outcomes` that were cancelled meanwhile, and gives them.
async fn settle_cancelled<'a>(tx: &Tx, outcomes: &[&'a Outcome]) -> Result<Vec<&'a Outcome>, DbErr> {
    if outcomes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Rows::new(outcomes)
        .uuid("site_id", |outcome| outcome.job.lease.site_id.0)
        .uuid("id", |outcome| outcome.job.lease.delivery_id.0)
        .int("tries", |outcome| i64::from(outcome.job.attempt_count))
        .query(
            tx.conn(),
            "UPDATE delivery SET attempt_count = attempt_count + 1 FROM {rows} AS r \
             WHERE delivery.site_id = r.site_id AND delivery.id = r.id AND delivery.attempt_count = r.tries \
             AND delivery.status = 'CANCELLED' RETURNING delivery.id",
        )
        .await?;
    let cancelled: HashSet<DeliveryId> =
        rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
    let is_cancelled = |outcome: &&&Outcome| cancelled.contains(&outcome.job.lease.delivery_id);
    Ok(outcomes.iter().filter(is_cancelled).copied().collect())
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
        .int_or_null("late_at", |outcome| {
            let made_at = instant_of(outcome.job.lease.delivery_id.0);
            let started_at = outcome.attempt.started_at.0;
            (started_at - made_at.0 > retention::LATE_MS).then_some(started_at)
        })
        .insert("attempt", "")
}

fn micros(part: Option<Duration>) -> Option<i64> {
    part.map(|part| i64::try_from(part.as_micros()).unwrap_or(i64::MAX))
}

fn signatures_write(outcomes: &[&Outcome]) -> Write {
    let mut seen = HashSet::new();
    let tokens: Vec<(&Job, &Signature)> = outcomes
        .iter()
        .filter_map(|outcome| outcome.new_token.as_ref().map(|token| (&outcome.job, &*token.signature)))
        .filter(|(job, _)| seen.insert((job.event.id, job.target.app_id)))
        .collect();
    Rows::new(&tokens)
        .uuid("event_id", |(job, _)| job.event.id.0)
        .uuid("app_id", |(job, _)| job.target.app_id.0)
        .text("key_id", |(_, signature)| signature.key_id.as_str())
        .text("signature", |(_, signature)| signature.signature.as_str())
        .int("input_hash", |(_, signature)| signature.input_hash)
        .int("expires_at", |(_, signature)| signature.expires_at.0)
        .insert(
            "signed_event",
            " ON CONFLICT (event_id, app_id) DO UPDATE SET key_id = excluded.key_id, \
             signature = excluded.signature, input_hash = excluded.input_hash, expires_at = excluded.expires_at \
             WHERE signed_event.expires_at <= excluded.expires_at",
        )
}

/// Cancels the deliveries that have been held for [`HELD_MS_MAX`], counted from when they would have been sent, up to [`EXPIRED_AT_ONCE`] in a transaction, so that nobody
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
    let since = tx.now().plus_ms(-HELD_MS_MAX);
    // Absent while it is enabled.
    let not_enabled = subscription::Entity::find()
        .select_only()
        .column(subscription::Column::Id)
        .filter(subscription::Column::HeldSince.lte(since));
    let held: Vec<(SiteId, DeliveryId)> = delivery::Entity::find()
        .select_only()
        .columns([delivery::Column::SiteId, delivery::Column::Id])
        .filter(delivery::Column::Status.is_in(WAITING))
        .filter(delivery::Column::NextAttemptAt.lte(since))
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
