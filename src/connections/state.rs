//! How a connection is, for its owner: worked out from its row, never stored.

use entity::connection;
use entity::id::Timestamp;

/// A token that cannot be renewed by itself is said to end so long before, in milliseconds: 7 days.
pub const EXPIRING_MS: i64 = 7 * 24 * 3_600_000;
/// A connection is silent when nothing came for so long, in milliseconds: 7 days.
pub const SILENT_MS: i64 = 7 * 24 * 3_600_000;

/// How a connection is. The first that holds, in this order, is what its owner should look at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The platform no longer accepts the token.
    Revoked(Timestamp),
    /// The token ends, or has ended.
    TokenExpiring(Timestamp),
    /// The platform wants no calls before this.
    RateLimited(Timestamp),
    /// The platform's app is in development mode.
    DevelopmentMode,
    /// Permissions were declined.
    PermissionMissing(Vec<String>),
    /// Nothing has come since.
    Silent(Timestamp),
    /// All is well.
    Connected,
}

/// How the connection is at `now`. `is_development` says that the app it was made with is not live.
#[must_use]
pub fn state(row: &connection::Model, is_development: bool, now: Timestamp) -> State {
    if let Some(since) = row.dead_since {
        return State::Revoked(since);
    }
    // What is renewed by itself is late only when that has not happened.
    let margin = if row.refresh_token.is_some() { 0 } else { EXPIRING_MS };
    if let Some(end) = row.token_expires_at.filter(|end| end.0 <= now.plus_ms(margin).0) {
        return State::TokenExpiring(end);
    }
    if let Some(until) = row.limited_until.filter(|until| *until > now) {
        return State::RateLimited(until);
    }
    if is_development {
        return State::DevelopmentMode;
    }
    let missing = missing_permissions(row);
    if !missing.is_empty() {
        return State::PermissionMissing(missing);
    }
    let last = row.last_item_at.unwrap_or(row.created_at);
    if last.plus_ms(SILENT_MS) <= now { State::Silent(last) } else { State::Connected }
}

/// The permissions that were declined.
#[must_use]
pub fn missing_permissions(row: &connection::Model) -> Vec<String> {
    serde_json::from_str(&row.missing_permissions).unwrap_or_default()
}

impl State {
    /// The same in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Revoked(since) => format!(
                "The platform has not accepted the access since {}. Reconnect the account with a new invitation.",
                since.to_rfc3339()
            ),
            Self::TokenExpiring(end) => format!(
                "The access ends at {} and was not renewed. Reconnect the account with a new invitation.",
                end.to_rfc3339()
            ),
            Self::RateLimited(until) => format!(
                "The platform wants fewer calls; what needs them goes on after {}.",
                until.to_rfc3339()
            ),
            Self::DevelopmentMode => {
                "The app at the platform is in development mode, so that only what its own testers do \
                                      arrives. The operator must switch it to live mode."
                    .to_owned()
            }
            Self::PermissionMissing(missing) => format!(
                "Not all permissions were granted: {} is missing, and what needs it does not work. Reconnect the account and \
                 leave everything ticked.",
                missing.join(", ")
            ),
            Self::Silent(since) => format!(
                "Nothing has arrived since {}. If people are active, check that the app is subscribed at the platform, that the \
                 account is public, and that access to messages is allowed in the Instagram app.",
                since.to_rfc3339()
            ),
            Self::Connected => "The account is connected.".to_owned(),
        }
    }
}
