//! The transactional outbox: events and their deliveries, written with the change that they report.

use std::collections::HashMap;
use std::sync::Arc;

use entity::id::{DeliveryId, SubscriptionId};
use entity::kinds::DeliveryStatus;
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::event::NewEvent;
use super::{Job, Lease, OutgoingEvent, SharedToken};
use crate::db::Tx;
use crate::rows::{Rows, Write};
use crate::sites::config::Configs;

/// How long a node owns the deliveries that it wrote or claimed, in milliseconds.
pub const LEASE_MS: i64 = 15_000;

/// Deliveries of a transaction that is about to commit. Give them to the dispatcher after the commit; if that never
/// happens, they are found when their lease ends.
#[derive(Debug, Default)]
#[must_use = "hand these to the dispatcher after the commit"]
pub struct FreshDeliveries {
    /// Those that it had room for.
    pub jobs: Vec<Job>,
    /// Subscriptions with deliveries that it had no room for: they are in the database, free to be claimed.
    pub behind: Vec<SubscriptionId>,
}

/// To record `events`, which happen now, and for each one delivery per subscription of its site and type.
pub fn prepare(
    tx: &Tx,
    configs: &Configs,
    dispatcher: &Dispatcher,
    events: Vec<NewEvent>,
) -> (Vec<Write>, FreshDeliveries) {
    let events_write = Rows::new(&events)
        .uuid("site_id", |event| event.site_id.0)
        .uuid("id", |event| event.id.0)
        .text("event_type", |event| event.kind.as_str())
        .uuid("entity_id", |event| event.entity_id)
        .uuid("account_id", |event| event.account_id.0)
        .int("sequence", |event| event.sequence)
        .text("data", |event| event.data.as_str())
        .text("identity", |event| event.identity.as_str())
        .same_int("occurred_at", tx.now().0)
        .insert("event", "");
    let lease_id = tx.new_id();
    let jobs = fan_out(tx, configs, events, lease_id);
    let (deliveries, fresh) = deliveries_write(tx, dispatcher, jobs, lease_id);
    (vec![events_write, deliveries], fresh)
}

fn fan_out(tx: &Tx, configs: &Configs, events: Vec<NewEvent>, lease_id: Uuid) -> Vec<Job> {
    let mut jobs = Vec::new();
    for event in events {
        let Some(config) = configs.get(&event.site_id) else {
            continue;
        };
        let kind = event.kind;
        let mut targets =
            config.targets.iter().filter(|target| target.event_types.contains(&kind)).peekable();
        if targets.peek().is_none() {
            continue;
        }
        let outgoing = Arc::new(OutgoingEvent {
            id: event.id,
            event_type: kind.as_str().to_owned(),
            data: event.data,
            identity: event.identity,
            occurred_at: tx.now(),
        });
        let mut tokens: HashMap<_, Arc<SharedToken>> = HashMap::new();
        for target in targets {
            jobs.push(Job {
                lease: Lease { site_id: target.site_id, delivery_id: DeliveryId(tx.new_id()), lease_id },
                attempt_count: 0,
                schedule_step: 0,
                event: Arc::clone(&outgoing),
                token: Arc::clone(tokens.entry(target.app_id).or_default()),
                target: Arc::clone(target),
            });
        }
    }
    jobs
}

/// To record `jobs`, with a lease as far as they may be sent and there is room for them in memory.
fn deliveries_write(
    tx: &Tx,
    dispatcher: &Dispatcher,
    jobs: Vec<Job>,
    lease_id: Uuid,
) -> (Write, FreshDeliveries) {
    let now = tx.now();
    let mut rooms: HashMap<SubscriptionId, usize> = HashMap::new();
    let mut fits = |job: &Job| {
        let subscription = job.target.subscription_id;
        if !job.target.is_enabled {
            return false;
        }
        let room = rooms.entry(subscription).or_insert_with(|| dispatcher.room(subscription));
        let fits = *room > 0;
        *room = room.saturating_sub(1);
        fits
    };
    let with_room = |job| {
        let fits = fits(&job);
        (job, fits)
    };
    let jobs: Vec<(Job, bool)> = jobs.into_iter().map(with_room).collect();
    let write = Rows::new(&jobs)
        .uuid("id", |(job, _)| job.lease.delivery_id.0)
        .uuid("site_id", |(job, _)| job.lease.site_id.0)
        .uuid("subscription_id", |(job, _)| job.target.subscription_id.0)
        .uuid("event_id", |(job, _)| job.event.id.0)
        .int("lease_until", |(_, fits)| if *fits { now.plus_ms(LEASE_MS).0 } else { 0 })
        .same_text("status", DeliveryStatus::Pending.as_str())
        .same_int("attempt_count", 0)
        .same_int("schedule_step", 0)
        .same_int("next_attempt_at", now.0)
        .same_uuid("lease_id", lease_id)
        .same_int("created_at", now.0)
        .insert("delivery", "");
    let mut fresh = FreshDeliveries::default();
    for (job, fits) in jobs {
        if fits {
            fresh.jobs.push(job);
        } else if job.target.is_enabled && fresh.behind.last() != Some(&job.target.subscription_id) {
            fresh.behind.push(job.target.subscription_id);
        }
    }
    (write, fresh)
}
