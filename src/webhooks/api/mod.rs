//! Admin API: webhook subscriptions, deliveries and events.

mod log;
mod subscriptions;

use poem_openapi::Enum;

pub use self::log::WebhookLogApi;
pub use self::subscriptions::WebhookSubscriptionsApi;
use super::EventType;

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "EventType", rename = "EventType")]
enum EventTypeName {
    /// An account followed a channel.
    #[oai(rename = "wix.loyalty.socialmedia.v1.followed_channel_created")]
    FollowedChannelCreated,
    /// An account was made.
    #[oai(rename = "wix.loyalty.v1.account_created")]
    AccountCreated,
    /// An account changed; also on every change of points.
    #[oai(rename = "wix.loyalty.v1.account_updated")]
    AccountUpdated,
    /// The points of an account changed.
    #[oai(rename = "wix.loyalty.v1.account_points_updated")]
    AccountPointsUpdated,
}
