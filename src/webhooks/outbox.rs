//! The transactional outbox: events and their deliveries, written with the change that they report.

use std::collections::HashMap;
use std::sync::Arc;

use entity::id::DeliveryId;
use entity::kinds::DeliveryStatus;
use uuid::Uuid;

use super::event::NewEvent;
use super::{Job, OutgoingEvent, SharedToken};
use crate::db::Tx;
use crate::rows::{Rows, Write};
use crate::sites::config::Configs;

/// How long a node owns the deliveries that it wrote or claimed, in milliseconds.
pub const LEASE_MS: i64 = 15_000;

/// Deliveries of a transaction that is about to commit. Give them to the dispatcher after the commit; if that never
/// happens, they are found when their lease ends.
#[derive(Debug, Default)]
#[must_use = "hand these to the dispatcher after the commit"]
pub struct FreshDeliveries(pub Vec<Job>);

/// To record `events`, and for each one delivery per enabled subscription of its site and type.
pub fn prepare(tx: &Tx, configs: &Configs, events: Vec<NewEvent>) -> (Vec<Write>, FreshDeliveries) {
    let events_write = Rows::new(&events)
        .uuid("site_id", |event| event.site_id.0)
        .uuid("id", |event| event.id.0)
        .text("event_type", |event| event.kind.as_str())
        .uuid("entity_id", |event| event.entity_id)
        .uuid("account_id", |event| event.account_id.0)
        .int("sequence", |event| event.sequence)
        .text("data", |event| event.data.as_str())
        .text("identity", |event| event.identity.as_str())
        .int("occurred_at", |event| event.occurred_at.0)
        .insert("event", "");
    let jobs = fan_out(tx, configs, events);
    (vec![events_write, deliveries_write(tx, &jobs)], FreshDeliveries(jobs))
}

fn fan_out(tx: &Tx, configs: &Configs, events: Vec<NewEvent>) -> Vec<Job> {
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
            occurred_at: event.occurred_at,
        });
        let mut tokens: HashMap<_, Arc<SharedToken>> = HashMap::new();
        for target in targets {
            jobs.push(Job {
                delivery_id: DeliveryId(tx.new_id()),
                lease_id: Uuid::nil(),
                attempt_count: 0,
                schedule_step: 0,
                event: Arc::clone(&outgoing),
                token: Arc::clone(tokens.entry(target.app_id).or_default()),
                target: Arc::clone(target),
            });
        }
    }
    let lease = tx.new_id();
    for job in &mut jobs {
        job.lease_id = lease;
    }
    jobs
}

fn deliveries_write(tx: &Tx, jobs: &[Job]) -> Write {
    let now = tx.now();
    Rows::new(jobs)
        .uuid("id", |job| job.delivery_id.0)
        .uuid("site_id", |job| job.target.site_id.0)
        .uuid("subscription_id", |job| job.target.subscription_id.0)
        .uuid("event_id", |job| job.event.id.0)
        .text("status", |_| DeliveryStatus::Pending.as_str())
        .int("attempt_count", |_| 0)
        .int("schedule_step", |_| 0)
        .int("next_attempt_at", |_| now.0)
        .uuid("lease_id", |job| job.lease_id)
        .int("lease_until", |_| now.plus_ms(LEASE_MS).0)
        .int("created_at", |_| now.0)
        .insert("delivery", "")
}
