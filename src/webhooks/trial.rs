//! A test event: sent once, at once, to one subscription, and kept nowhere. Receivers that dispatch on the event type do not
//! take it for something that happened.

use std::sync::Arc;

use entity::id::{DeliveryId, EventId};
use entity::subscription;
use serde_json::json;
use uuid::Uuid;

use super::{Job, Lease, OutgoingEvent};
use crate::access::Identity;
use crate::db::Db;
use crate::sites::config::Target;

/// The type of a test event.
pub const TEST_EVENT: &str = "followpoints.webhooks.v1.test";

/// A test event for `subscription`, asked for by `identity`.
#[must_use]
pub fn test_job(db: &Db, subscription: subscription::Model, identity: &Identity) -> Job {
    let (id, now) = (db.new_id(), db.now());
    let data = json!({
        "id": id,
        "entityFqdn": "followpoints.webhooks.v1.subscription",
        "slug": "test",
        "entityId": subscription.id,
        "actionEvent": {"body": {"message": "This is a test: nothing happened."}},
        "eventTime": now.to_rfc3339(),
        "triggeredByAnonymizeRequest": false,
        "originatedFrom": null,
        "entityEventSequence": "0",
    });
    let target = Target::from(subscription);
    Job {
        lease: Lease { site_id: target.site_id, delivery_id: DeliveryId(Uuid::nil()), lease_id: Uuid::nil() },
        attempt_count: 0,
        schedule_step: 0,
        event: Arc::new(OutgoingEvent {
            id: EventId(id),
            event_type: TEST_EVENT.to_owned(),
            data: data.to_string(),
            identity: identity.to_json(),
            occurred_at: now,
        }),
        token: Arc::default(),
        target: Arc::new(target),
    }
}
