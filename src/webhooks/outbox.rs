//! The transactional outbox: events and their deliveries, written with the change that they report.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use entity::id::{DeliveryId, SubscriptionId};
use entity::kinds::DeliveryStatus;
use sea_orm::DbErr;

use super::dispatcher::{Dispatcher, Pins, Reserved};
use super::endpoints::{self, Owned};
use super::event::NewEvent;
use super::{Job, Lease, OutgoingEvent, SharedToken};
use crate::db::Tx;
use crate::rows::{Rows, Write};
use crate::sites::config::{Configs, Target};

/// Deliveries of a transaction that is about to commit. Give them to the dispatcher after the commit; if that never
/// happens, they are found when their node is taken for dead or looks for them.
#[must_use = "hand these to the dispatcher after the commit"]
pub struct FreshDeliveries {
    /// Those that it had room for.
    pub jobs: Vec<Job>,
    /// Subscriptions of this node with deliveries that have to be read from the database.
    pub behind: Vec<SubscriptionId>,
    /// Endpoints that the transaction has taken for this node.
    pub taken: Vec<Owned>,
    /// Keeps the endpoints with this node until then.
    pub(super) pins: Pins,
}

/// To record `events`, which happen now, and for each one delivery per subscription of its site and type.
pub async fn prepare(
    tx: &Tx,
    configs: &Configs,
    dispatcher: &Dispatcher,
    events: Vec<NewEvent>,
) -> Result<(Vec<Write>, FreshDeliveries), DbErr> {
    let events_write = Rows::new(&events)
        .uuid("site_id", |event| event.site_id.0)
        .uuid("id", |event| event.id.0)
        .text("event_type", |event| event.kind.as_str())
        .uuid("entity_id", |event| event.entity_id)
        .uuid_or_null("account_id", |event| event.account_id.map(|id| id.0))
        .int("sequence", |event| event.sequence)
        .text("data", |event| event.data.as_str())
        .text("identity", |event| event.identity.as_str())
        .same_int("occurred_at", tx.now().0)
        .insert("event", "");
    let jobs = fan_out(tx, configs, events);
    let (deliveries, fresh) = deliveries_write(tx, dispatcher, jobs).await?;
    Ok((vec![events_write, deliveries], fresh))
}

fn fan_out(tx: &Tx, configs: &Configs, events: Vec<NewEvent>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for event in events {
        let Some(config) = configs.get(&event.site_id) else {
            continue;
        };
        let kind = event.kind.as_str();
        let is_meant = |target: &&Arc<Target>| target.wants(kind, event.entity_id, &event.data);
        let targets: Vec<&Arc<Target>> = config.targets.iter().filter(is_meant).collect();
        if targets.is_empty() {
            continue;
        }
        let outgoing = Arc::new(OutgoingEvent {
            id: event.id,
            event_type: kind.to_owned(),
            data: event.data,
            identity: event.identity,
            occurred_at: tx.now(),
        });
        let mut tokens: HashMap<_, Arc<SharedToken>> = HashMap::new();
        for target in targets {
            jobs.push(Job {
                lease: Lease { site_id: target.site_id, delivery_id: DeliveryId(tx.new_id()), fence: 0 },
                attempt_count: 0,
                schedule_step: 0,
                order_key: target.order_key(event.account_id, event.entity_id),
                event: Arc::clone(&outgoing),
                token: Arc::clone(tokens.entry(target.app_id).or_default()),
                target: Arc::clone(target),
            });
        }
    }
    jobs
}

/// To record `jobs`. Those that may be sent, and for which this node has room in memory, are given back to be sent after the
/// commit; what has an order is read from the database, where it can be seen whether something comes before it.
async fn deliveries_write(
    tx: &Tx,
    dispatcher: &Dispatcher,
    jobs: Vec<Job>,
) -> Result<(Write, FreshDeliveries), DbErr> {
    let now = tx.now();
    let write = Rows::new(&jobs)
        .uuid("id", |job| job.lease.delivery_id.0)
        .uuid("site_id", |job| job.lease.site_id.0)
        .uuid("subscription_id", |job| job.target.subscription_id.0)
        .uuid("event_id", |job| job.event.id.0)
        .uuid_or_null("order_key", |job| job.order_key)
        .same_text("status", DeliveryStatus::Pending.as_str())
        .same_int("attempt_count", 0)
        .same_int("schedule_step", 0)
        .same_int("next_attempt_at", now.0)
        .same_int("created_at", now.0)
        .insert("delivery", "");
    let mut subscriptions: Vec<SubscriptionId> = Vec::new();
    let mut seen = HashSet::new();
    for job in jobs.iter().filter(|job| job.target.is_enabled) {
        if seen.insert(job.target.subscription_id) {
            subscriptions.push(job.target.subscription_id);
        }
    }
    let Reserved { mut rooms, pins, strangers, node, room_of_new } = dispatcher.reserve(&subscriptions);
    let taken = endpoints::take(tx, node, &strangers).await?;
    rooms.extend(taken.iter().map(|owned| (owned.subscription, (owned.fence, room_of_new))));
    let mut fresh = FreshDeliveries { jobs: Vec::new(), behind: Vec::new(), taken, pins };
    for mut job in jobs {
        let subscription = job.target.subscription_id;
        let Some((fence, room)) = rooms.get_mut(&subscription).filter(|_| job.target.is_enabled) else {
            continue;
        };
        if *room > 0 && job.order_key.is_none() {
            *room -= 1;
            job.lease.fence = *fence;
            fresh.jobs.push(job);
        } else if fresh.behind.last() != Some(&subscription) {
            fresh.behind.push(subscription);
        }
    }
    Ok((write, fresh))
}
