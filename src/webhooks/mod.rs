//! Events told to external systems, at least once, never lost.
//!
//! - [`event`] fixes what happened as text, in the transaction that made it happen.
//! - [`outbox`] stores the event and one delivery per subscription in that same transaction.
//! - [`dispatcher`] sends: fresh deliveries straight after the commit, due ones found by a tick. Each subscription has
//!   its own queue and in-flight cap, so that a hanging receiver delays nobody else.
//! - [`delivery`] claims due deliveries and writes outcomes in batches. A claim is a lease: an outcome counts only while
//!   its lease does.
//! - A subscription's kind says where its events go: to a URL, or to the stream of the operator's NATS server.
//! - [`signing`] makes one RS256 token per event and app; [`schedule`] says when to try again.
//! - [`subscriptions`] and [`log`] are what owners see and change; [`api`] is their HTTP.
//!
//! A crash between a request and its outcome leads to the same event again, with the same id: receivers drop
//! duplicates by it.

mod answer;
pub mod api;
pub mod delivery;
pub mod destination;
pub mod dispatcher;
pub mod event;
pub mod log;
pub mod log_api;
pub mod outbox;
mod queues;
pub mod schedule;
pub mod signing;
mod stream;
pub mod subscriptions;
pub mod trial;

use std::sync::Arc;

use bytes::Bytes;
use entity::id::{DeliveryId, EventId, SiteId, Timestamp};
pub use event::EventType;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::sites::config::Target;

/// An event with what its envelope needs.
#[derive(Debug)]
pub struct OutgoingEvent {
    /// The event's id.
    pub id: EventId,
    /// Its type's name.
    pub event_type: String,
    /// The event as JSON text.
    pub data: String,
    /// Who caused it, as JSON text.
    pub identity: String,
    /// When it happened.
    pub occurred_at: Timestamp,
}

/// The signed token of one event for one app, made by whoever needs it first.
#[derive(Debug, Default)]
pub struct SharedToken(OnceCell<SignedToken>);

/// A signed token.
#[derive(Debug, Clone)]
pub struct SignedToken {
    /// The key that signed it.
    pub key_id: String,
    /// Compact JWS, the request's body.
    pub token: Bytes,
    /// When it stops being valid.
    pub expires_at: Timestamp,
    /// Whether the database already has it.
    pub stored: bool,
}

/// A delivery that this process may try: nobody else's outcome counts while the lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The delivery's site.
    pub site_id: SiteId,
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// What the delivery's row has to say still.
    pub lease_id: Uuid,
}

/// One delivery on its way.
#[derive(Debug, Clone)]
pub struct Job {
    /// The delivery, and the lease that its outcome must carry.
    pub lease: Lease,
    /// Tries before this one.
    pub attempt_count: i32,
    /// Resends of the schedule used up.
    pub schedule_step: i32,
    /// What to tell.
    pub event: Arc<OutgoingEvent>,
    /// The event's token for the target's app.
    pub token: Arc<SharedToken>,
    /// Whom to tell.
    pub target: Arc<Target>,
}
