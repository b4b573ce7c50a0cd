//! A test event: sent once, at once, to one subscription, and kept nowhere. Receivers that dispatch on the event type do not
//! take it for something that happened. Those that know no other types can be sent a sample of one they know: it is made as a
//! real one is, but about an account that does not exist, and says what it originates from.

use std::sync::Arc;

use entity::id::{
    AccountId, ActivityId, ContactId, DeliveryId, EventId, FollowedChannelId, ItemId, MemberId, SiteId,
    Timestamp,
};
use entity::kinds::{
    ActivityOutcome, ActivityType, Channel, Evidence, FollowSource, MentionType, Platform, SubscriptionStatus,
};
use entity::{account, activity, followed_channel, subscription};
use sea_orm::DbErr;
use serde_json::{Value, json};
use uuid::Uuid;

use super::event::{self, AccountChange};
use super::{EventType, Job, Lease, OutgoingEvent, health};
use crate::access::Identity;
use crate::db::{Db, Tx};
use crate::sites::config::Target;

/// The type of a test event.
pub const TEST_EVENT: &str = "followpoints.webhooks.v1.test";
/// Where the ids in samples begin: those of the document's examples.
const SAMPLE_IDS: u128 = 0x0191_0dc8_1277_7000_8000_0000_0000_0000;
/// The points in samples.
const SAMPLE_POINTS: i64 = 50;

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
    /// It could not be written as JSON.
    #[error("the event cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
}

/// A test event for `subscription`, asked for by `identity`.
#[must_use]
pub fn test_job(db: &Db, subscription: subscription::Model, identity: &Identity) -> Job {
    let (id, now) = (db.new_id(), db.now());
    let body = json!({"message": "This is a test: nothing happened."});
    let data = event::subscription_data(id, "test", subscription.id, &body, (&now.to_rfc3339(), 0));
    job(subscription, (TEST_EVENT, id, data), identity, now)
}

/// A sample of an event of type `kind` for `subscription`, asked for by `identity`.
pub async fn sample_job(
    db: &Db,
    kind: EventType,
    subscription: subscription::Model,
    identity: &Identity,
) -> Result<Job, TrialError> {
    // Events are made in transactions; of this one nothing stays.
    let tx = db.write().await?;
    let now = tx.now();
    let (id, data) = sample(&tx, kind, &subscription, identity)?;
    drop(tx);
    let mut data: Value = serde_json::from_str(&data)?;
    data["originatedFrom"] = json!(TEST_EVENT);
    data["entityEventSequence"] = json!("0");
    Ok(job(subscription, (kind.as_str(), id, data.to_string()), identity, now))
}

fn job(
    subscription: subscription::Model,
    (event_type, id, data): (&str, Uuid, String),
    identity: &Identity,
    occurred_at: Timestamp,
) -> Job {
    let target = Target::from(subscription);
    Job {
        lease: Lease { site_id: target.site_id, delivery_id: DeliveryId(Uuid::nil()), fence: 0 },
        attempt_count: 0,
        schedule_step: 0,
        order_key: None,
        event: Arc::new(OutgoingEvent {
            id: EventId(id),
            event_type: event_type.to_owned(),
            data,
            identity: identity.to_json(),
            occurred_at,
        }),
        token: Arc::default(),
        target: Arc::new(target),
    }
}

/// The id and the JSON text of an event as it would be.
fn sample(
    tx: &Tx,
    kind: EventType,
    subscription: &subscription::Model,
    identity: &Identity,
) -> serde_json::Result<(Uuid, String)> {
    let (site, now) = (subscription.site_id, tx.now());
    let changed =
        |change, points| event::account_changed(tx, change, &mut account(site, points, now), identity);
    let made = match kind {
        EventType::FollowedChannelCreated => {
            event::followed_channel_created(tx, &followed_channel(site, now), identity)
        }
        EventType::AccountCreated => changed(AccountChange::Created, 0),
        EventType::AccountUpdated => changed(AccountChange::Updated, SAMPLE_POINTS),
        EventType::AccountPointsUpdated => changed(AccountChange::PointsUpdated, SAMPLE_POINTS),
        EventType::ActivityRecorded => event::activity_recorded(tx, &activity(site, now), identity),
        EventType::SubscriptionFailing
        | EventType::SubscriptionRecovered
        | EventType::SubscriptionDisabled => {
            let (id, body) = (tx.new_id(), told_of_receiver(kind, subscription.clone(), now));
            let at = (tx.now_text(), 0);
            return Ok((id, event::subscription_data(id, kind.slug(), subscription.id, &body, at)));
        }
    }?;
    Ok((made.id.0, made.data))
}

const fn sample_id(last: u128) -> Uuid {
    Uuid::from_u128(SAMPLE_IDS + last)
}

fn account(site_id: SiteId, points: i64, now: Timestamp) -> account::Model {
    account::Model {
        site_id,
        id: AccountId(sample_id(0x0e)),
        member_id: MemberId(sample_id(0x07)),
        contact_id: ContactId(sample_id(0x08)),
        balance: points,
        earned: points,
        adjusted: 0,
        redeemed: 0,
        expired: 0,
        revision: if points > 0 { 2 } else { 1 },
        event_sequence: 0,
        ledger_sequence: 0,
        last_activity_at: (points > 0).then_some(now),
        created_at: now,
        updated_at: now,
        latest_id_at: now,
    }
}

fn followed_channel(site_id: SiteId, now: Timestamp) -> followed_channel::Model {
    followed_channel::Model {
        id: FollowedChannelId(sample_id(0x10)),
        site_id,
        account_id: AccountId(sample_id(0x0e)),
        channel: Channel::X,
        source: FollowSource::Api,
        evidence: Evidence::Declared,
        idempotency_key: None,
        evidence_item: None,
        evidence_at: None,
        created_at: now,
    }
}

fn activity(site_id: SiteId, now: Timestamp) -> activity::Model {
    activity::Model {
        site_id,
        id: ActivityId(sample_id(0x3e)),
        item_id: ItemId(sample_id(0x3d)),
        activity_type: ActivityType::MentionedYou,
        platform: Platform::Instagram,
        external_id: "17895695668004550".to_owned(),
        mention_type: Some(MentionType::Mention),
        member_id: Some(MemberId(sample_id(0x07))),
        account_id: Some(AccountId(sample_id(0x0e))),
        person: None,
        handle: Some("nordfan".to_owned()),
        properties: json!({"platform": "instagram", "caption": "New mug day #NordBrew"}).to_string(),
        outcome: ActivityOutcome::Awarded,
        reason: None,
        points: SAMPLE_POINTS,
        occurred_at: now,
        created_at: now,
        updated_at: now,
    }
}

/// What would be said of the subscription `row` itself.
fn told_of_receiver(kind: EventType, mut row: subscription::Model, now: Timestamp) -> Value {
    let (failing_ms, reason) = match kind {
        EventType::SubscriptionRecovered => (None, None),
        EventType::SubscriptionDisabled => (Some(health::FAILING_MS_MAX), Some(health::FAILED_FOR_LONG)),
        _ => (Some(health::FAILING_MS_MAX / 2), None),
    };
    row.status = if reason.is_some() { SubscriptionStatus::Disabled } else { SubscriptionStatus::Enabled };
    row.status_reason = reason.map(str::to_owned);
    let failing_since = failing_ms.map(|ms| now.plus_ms(-ms));
    health::told(&row, failing_since, failing_since.and(Some("503")))
}
