//! Identifiers and instants as they are stored: newtypes, so that an account id cannot be passed for a member id.

use sea_orm::{DbErr, DeriveValueType, TryFromU64};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, DeriveValueType)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )+};
}

ids! {
    /// A site (tenant).
    SiteId,
    /// A member of a site.
    MemberId,
    /// The contact behind a member; Wix addresses accounts by it too.
    ContactId,
    /// A member's loyalty account.
    AccountId,
    /// One followed channel.
    FollowedChannelId,
    /// One ledger entry (Wix: loyalty transaction).
    LedgerEntryId,
    /// An external system.
    AppId,
    /// One secret with which an app gets its tokens.
    AppSecretId,
    /// An app installed on one site.
    AppInstanceId,
    /// App × event types × URL.
    SubscriptionId,
    /// One secret that signs a subscription's webhooks.
    SigningSecretId,
    /// Something that happened.
    EventId,
    /// One event for one subscription.
    DeliveryId,
    /// Events that are sent again.
    ReplayId,
    /// What a platform sent in one call.
    RawDeliveryId,
    /// One thing in it.
    ItemId,
    /// One social thing seen, normalised.
    ActivityId,
    /// What earns points for activities.
    ActivityRuleId,
    /// A brand's account on a platform.
    ConnectionId,
    /// An invitation to connect one.
    InvitationId,
    /// A member's own login on a platform.
    MemberLoginId,
    /// An API key's public id.
    ApiKeyId,
    /// A site's front-end (the SDK's `clientId`).
    OauthClientId,
    /// A trusted issuer of a site's own member tokens.
    TrustedIssuerId,
    /// One refresh token.
    RefreshTokenId,
    /// All refresh tokens that descend from one sign-in.
    TokenFamilyId,
    /// An anonymous visitor; lives in its token only.
    VisitorId,
}

/// An instant: milliseconds since 1970-01-01T00:00:00Z. Stored as an integer on both back ends, so that it
/// orders, compares and travels alike on both.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, DeriveValueType,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant moved by `ms` milliseconds, saturating.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Whole seconds since the epoch, as JWT claims want them.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// RFC 3339 in UTC with milliseconds: `2024-08-01T11:51:41.431Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        chrono::DateTime::from_timestamp_millis(self.0)
            .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }
}
