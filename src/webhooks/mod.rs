//! Events told to external systems, at least once, never lost.
//!
//! - [`event`] fixes what happened as text, in the transaction that made it happen.
//! - [`outbox`] stores the event and one delivery per subscription in that same transaction.
//! - [`endpoints`] says which node serves which subscription; [`claims`] reads what is due of those that this node serves.
//! - [`dispatcher`] sends: fresh deliveries straight after the commit, due ones when its `keeper` finds them. Each endpoint
//!   has its own queue and in-flight cap, so that a hanging receiver delays nobody else.
//! - `postponed` brings forward what a wrong clock has put off.
//! - [`delivery`] writes outcomes in batches. They count only while this node owns the endpoint.
//! - [`health`] says how receivers do, tells their owners, and disables the subscriptions of those that are gone.
//! - A subscription's kind says where its events go: to a URL, or to the stream of the operator's NATS server.
//! - [`signing`] makes one RS256 token per event and app; [`schedule`] says when to try again.
//! - [`client_certificate`] is by what a receiver may know us.
//! - [`standard`] knows the signatures of Standard Webhooks; [`secrets`] makes, keeps and rotates what they are made with;
//!   [`signature_headers`] puts them into a try.
//! - [`subscriptions`] and [`log`] are what owners see and change, [`by_hand`] is what they do with one delivery; [`api`] is their HTTP.
//!
//! A crash between a request and its outcome leads to the same event again, with the same id: receivers drop
//! duplicates by it.

mod agenda;
mod answer;
pub mod api;
pub mod by_hand;
pub mod by_hand_api;
pub mod claims;
pub mod client_certificate;
pub mod custom_headers;
pub mod delivery;
pub mod destination;
pub mod dispatcher;
pub mod dry_run_api;
pub mod endpoints;
pub mod event;
pub mod export_api;
pub mod expunge_api;
pub mod filter;
pub mod health;
mod keeper;
mod kept;
pub mod log;
pub mod log_api;
mod orders;
pub mod outbox;
mod outcomes;
mod pace;
pub mod partitions;
mod postponed;
mod queue;
mod queues;
pub mod replay_api;
pub mod replays;
pub mod retention;
pub mod schedule;
pub mod secret_api;
pub mod secrets;
pub mod sending;
pub mod signature_headers;
pub mod signing;
mod slots;
pub mod standard;
mod stream;
mod subscription_api;
pub mod subscriptions;
pub mod trial;
pub mod trial_api;

use std::sync::Arc;

use bytes::Bytes;
use entity::id::{DeliveryId, EventId, SiteId, Timestamp};
use entity::signed_event;
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

impl From<entity::event::Model> for OutgoingEvent {
    fn from(row: entity::event::Model) -> Self {
        let entity::event::Model { id, event_type, data, identity, occurred_at, .. } = row;
        Self { id, event_type, data, identity, occurred_at }
    }
}

/// The signed token of one event for one app, made by whoever needs it first.
#[derive(Debug, Default)]
pub struct SharedToken {
    token: OnceCell<SignedToken>,
    /// What the database has of it.
    stored: Option<Signature>,
}

/// What is stored of a token: the rest is made again of its event.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The key that signed it.
    pub key_id: String,
    /// The third part of the compact JWS.
    pub signature: String,
    /// What was signed, in short.
    pub input_hash: i64,
    /// When the token stops being valid.
    pub expires_at: Timestamp,
}

impl From<signed_event::Model> for Signature {
    fn from(row: signed_event::Model) -> Self {
        let signed_event::Model { key_id, signature, input_hash, expires_at, .. } = row;
        Self { key_id, signature, input_hash, expires_at }
    }
}

/// A signed token.
#[derive(Debug, Clone)]
pub struct SignedToken {
    /// Compact JWS, the request's body.
    pub token: Bytes,
    /// Its signature.
    pub signature: Arc<Signature>,
    /// Whether the database already has that.
    pub stored: bool,
}

/// A delivery that this node may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The delivery's site.
    pub site_id: SiteId,
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// What its endpoint has to say still when the outcome is written.
    pub fence: i64,
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
    /// What its order is kept within, if it is.
    pub order_key: Option<Uuid>,
    /// What to tell.
    pub event: Arc<OutgoingEvent>,
    /// The event's token for the target's app.
    pub token: Arc<SharedToken>,
    /// Whom to tell.
    pub target: Arc<Target>,
}
