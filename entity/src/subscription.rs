//! App × event types × URL.

use sea_orm::entity::prelude::*;

use crate::id::{AppId, AppInstanceId, SiteId, SubscriptionId, Timestamp};
use crate::kinds::{DeliveryOrdering, RetryProfile, SubscriptionKind, SubscriptionStatus};

/// App × event types × URL.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "subscription")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SubscriptionId,
    /// Its site.
    pub site_id: SiteId,
    /// Whose key signs.
    pub app_id: AppId,
    /// Named in every event.
    pub app_instance_id: AppInstanceId,
    /// Where events go.
    pub kind: SubscriptionKind,
    /// The receiver of a webhook; empty for the other kinds.
    pub url: String,
    /// JSON array of event types.
    pub event_types: String,
    /// Whether it receives events.
    pub status: SubscriptionStatus,
    /// Why it is disabled, in words.
    pub status_reason: Option<String>,
    /// Since when it is not enabled, and what happens is held for it.
    pub held_since: Option<Timestamp>,
    /// Time limit of one try.
    pub timeout_ms: i32,
    /// How many tries may run at once.
    pub in_flight_max: i32,
    /// Which waits lie between tries.
    pub retry_profile: RetryProfile,
    /// The waits of a profile of its own: JSON array of seconds.
    pub retry_delays: Option<String>,
    /// Client certificate, and its private key sealed.
    pub client_identity: Option<Vec<u8>>,
    /// In which order deliveries are sent.
    pub ordering: DeliveryOrdering,
    /// Tries a second at most.
    pub rate_limit: Option<i32>,
    /// JSON array of the signatures that go into the headers, beside the token.
    pub signature_headers: String,
    /// The public half of the Ed25519 pair that signs now, as receivers take it.
    pub signing_public_key: Option<String>,
    /// What events must say, as JSON; everything passes if there is nothing.
    pub filter: Option<String>,
    /// Names of headers of its own, and their values sealed.
    pub custom_headers: Option<Vec<u8>>,
    /// Grows with every change.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
