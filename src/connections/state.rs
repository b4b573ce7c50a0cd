//! How a connection is, for its owner: worked out from its row, never stored.

use std::collections::BTreeMap;

use entity::connection::{self, Column};
use entity::id::Timestamp;
use entity::kinds::Platform;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult, QuerySelect as _,
};

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

/// What of a connection's row tells how it is.
#[derive(Debug, FromQueryResult)]
pub struct Signs {
    platform: Platform,
    is_renewed: bool,
    token_expires_at: Option<Timestamp>,
    missing_permissions: String,
    dead_since: Option<Timestamp>,
    limited_until: Option<Timestamp>,
    last_item_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<&connection::Model> for Signs {
    fn from(row: &connection::Model) -> Self {
        Self {
            platform: row.platform,
            is_renewed: row.refresh_token.is_some(),
            token_expires_at: row.token_expires_at,
            missing_permissions: row.missing_permissions.clone(),
            dead_since: row.dead_since,
            limited_until: row.limited_until,
            last_item_at: row.last_item_at,
            created_at: row.created_at,
        }
    }
}

/// How the connection with these `signs` is at `now`. `is_development` says that the app at Meta is not live.
#[must_use]
pub fn state(signs: &Signs, is_development: bool, now: Timestamp) -> State {
    if let Some(since) = signs.dead_since {
        return State::Revoked(since);
    }
    // What is renewed by itself is late only when that has not happened.
    let margin = if signs.is_renewed { 0 } else { EXPIRING_MS };
    if let Some(end) = signs.token_expires_at.filter(|end| end.0 <= now.plus_ms(margin).0) {
        return State::TokenExpiring(end);
    }
    if let Some(until) = signs.limited_until.filter(|until| *until > now) {
        return State::RateLimited(until);
    }
    if is_development && signs.platform == Platform::Instagram {
        return State::DevelopmentMode;
    }
    let missing = permissions(&signs.missing_permissions);
    if !missing.is_empty() {
        return State::PermissionMissing(missing);
    }
    let last = signs.last_item_at.unwrap_or(signs.created_at);
    if last.plus_ms(SILENT_MS) <= now { State::Silent(last) } else { State::Connected }
}

/// How many connections of each platform are in each state.
pub async fn count(
    db: &impl ConnectionTrait,
    is_development: bool,
    now: Timestamp,
) -> Result<BTreeMap<(&'static str, &'static str), i64>, DbErr> {
    let all = connection::Entity::find()
        .select_only()
        .columns([
            Column::Platform,
            Column::TokenExpiresAt,
            Column::MissingPermissions,
            Column::DeadSince,
            Column::LimitedUntil,
            Column::LastItemAt,
            Column::CreatedAt,
        ])
        .column_as(Column::RefreshToken.is_not_null(), "is_renewed")
        .into_model::<Signs>()
        .all(db)
        .await?;
    let none = Platform::ALL.iter().flat_map(|of| State::NAMES.map(|name| ((of.as_str(), name), 0)));
    let mut counts: BTreeMap<_, _> = none.collect();
    for signs in &all {
        *counts.entry((signs.platform.as_str(), state(signs, is_development, now).name())).or_default() += 1;
    }
    Ok(counts)
}

/// The permissions that were declined.
#[must_use]
pub fn missing_permissions(row: &connection::Model) -> Vec<String> {
    permissions(&row.missing_permissions)
}

fn permissions(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

impl State {
    /// Every name of a state.
    pub const NAMES: [&str; 7] = [
        "CONNECTED",
        "PERMISSION_MISSING",
        "TOKEN_EXPIRING",
        "REVOKED",
        "RATE_LIMITED",
        "DEVELOPMENT_MODE",
        "SILENT",
    ];

    /// Its name, as the API has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connected => "CONNECTED",
            Self::PermissionMissing(_) => "PERMISSION_MISSING",
            Self::TokenExpiring(_) => "TOKEN_EXPIRING",
            Self::Revoked(_) => "REVOKED",
            Self::RateLimited(_) => "RATE_LIMITED",
            Self::DevelopmentMode => "DEVELOPMENT_MODE",
            Self::Silent(_) => "SILENT",
        }
    }

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
