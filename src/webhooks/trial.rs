//! A test event: sent once, at once, to one subscription, and kept nowhere. Receivers that dispatch on the event type do not
//! take it for something that happened.

use std::sync::Arc;

use entity::id::{DeliveryId, EventId};
use entity::subscription;
use serde_json::json;
use uuid::Uuid;

use super::{Job, Lease, OutgoingEvent, event};
use crate::access::Identity;
use crate::db::Db;
use crate::sites::config::Target;

/// The type of a test event.
pub const TEST_EVENT: &str = "followpoints.webhooks.v1.test";

/// A test event for `subscription`, asked for by `identity`.
#[must_use]
pub fn test_job(db: &Db, subscription: subscription::Model, identity: &Identity) -> Job {
    let (id, now) = (db.new_id(), db.now());
    let body = json!({"message": "This is a test: nothing happened."});
    let data = event::subscription_data(id, "test", subscription.id, &body, (&now.to_rfc3339(), 0));
    let target = Target::from(subscription);
    Job {
        lease: Lease { site_id: target.site_id, delivery_id: DeliveryId(Uuid::nil()), fence: 0 },
        attempt_count: 0,
        schedule_step: 0,
        order_key: None,
        event: Arc::new(OutgoingEvent {
            id: EventId(id),
            event_type: TEST_EVENT.to_owned(),
            data,
            identity: identity.to_json(),
            occurred_at: now,
        }),
        token: Arc::default(),
        target: Arc::new(target),
    }
}
