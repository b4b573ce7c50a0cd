//! Words that several features speak on the wire.

use entity::id::Timestamp;
use entity::{account, followed_channel, kinds};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object};
use serde::Serialize;
use uuid::Uuid;

use crate::change::Change;
use crate::follows::Followed;

/// A social channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(remote = "kinds::Channel", rename = "Channel")]
#[serde(rename_all = "UPPERCASE")]
pub enum ChannelName {
    /// Facebook.
    #[oai(rename = "FACEBOOK")]
    Facebook,
    /// Instagram.
    #[oai(rename = "INSTAGRAM")]
    Instagram,
    /// LinkedIn.
    #[oai(rename = "LINKEDIN")]
    Linkedin,
    /// X.
    #[oai(rename = "X")]
    X,
    /// TikTok.
    #[oai(rename = "TIKTOK")]
    Tiktok,
}

/// Who told us of a follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::FollowSource", rename = "FollowSource", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FollowSourceName {
    /// A call of the API.
    Api,
    /// Instagram.
    Instagram,
    /// TikTok.
    Tiktok,
}

/// A social platform that tells what happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::Platform", rename = "Platform", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlatformName {
    /// Instagram.
    Instagram,
    /// TikTok.
    Tiktok,
}

/// State of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ProgramStatus", rename = "ProgramStatus", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProgramStatusName {
    /// Set up, never started.
    Draft,
    /// Members earn points.
    Active,
    /// Members earn nothing for now.
    Paused,
}

/// How well a follow is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::Evidence", rename = "Evidence", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EvidenceName {
    /// The member or an app said so.
    Declared,
    /// A message came from a handle that the member claims.
    ClaimedHandle,
    /// The platform confirmed it.
    Verified,
    /// It was verified long ago.
    Stale,
    /// The platform says that it is over.
    Withdrawn,
}

/// A followed channel (`wix.loyalty.socialmedia.v1.followed_channel`).
#[derive(Debug, Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct FollowedChannel {
    /// Its id.
    #[oai(read_only)]
    pub id: Uuid,
    /// The account that follows.
    pub account_id: Uuid,
    /// What it follows.
    pub channel: ChannelName,
    /// When it was made: `2024-08-01T11:51:41.431Z`.
    #[oai(read_only)]
    pub created_date: String,
}

impl From<Followed> for FollowedChannel {
    fn from(row: Followed) -> Self {
        Self {
            id: row.id.0,
            account_id: row.account_id.0,
            channel: row.channel.into(),
            created_date: row.created_at.to_rfc3339(),
        }
    }
}

impl From<followed_channel::Model> for FollowedChannel {
    fn from(row: followed_channel::Model) -> Self {
        Followed::from(row).into()
    }
}

/// The points of an account. `balance = earned + adjusted - redeemed - expired`.
#[derive(Debug, Object)]
pub struct Points {
    /// Points that can be spent.
    pub balance: i64,
    /// Points earned so far.
    pub earned: i64,
    /// Sum of corrections.
    pub adjusted: i64,
    /// Points spent.
    pub redeemed: i64,
    /// Points that ran out.
    pub expired: i64,
}

/// A loyalty account (`wix.loyalty.v1.account`).
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct Account {
    /// Its id.
    pub id: Uuid,
    /// The contact behind it.
    pub contact_id: Uuid,
    /// The member behind it.
    pub member_id: Uuid,
    /// Its points.
    pub points: Points,
    /// When points last moved.
    pub last_activity_date: Option<String>,
    /// When it was made.
    pub created_date: String,
    /// When it last changed.
    pub updated_date: String,
    /// Grows with every change; a number as text.
    pub revision: String,
}

impl From<account::Model> for Account {
    fn from(row: account::Model) -> Self {
        Self {
            id: row.id.0,
            contact_id: row.contact_id.0,
            member_id: row.member_id.0,
            points: Points {
                balance: row.balance,
                earned: row.earned,
                adjusted: row.adjusted,
                redeemed: row.redeemed,
                expired: row.expired,
            },
            last_activity_date: row.last_activity_at.map(Timestamp::to_rfc3339),
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
            revision: row.revision.to_string(),
        }
    }
}

/// Nothing to say: `{}`.
#[derive(Debug, Object)]
pub struct Empty {}

/// Reads a revision, a number as text, from `field`.
pub fn revision(text: Option<&str>, field: &'static str) -> Result<Option<i64>, super::problem::Problem> {
    text.map(|text| {
        text.parse().map_err(|_| {
            super::problem::Problem::invalid(field, "FORMAT", "must be a whole number as text, like \"1\"")
        })
    })
    .transpose()
}

/// What a field of an update asks for: `null` takes away, an absent one stays.
pub fn change<T>(field: MaybeUndefined<T>) -> Change<T> {
    match field {
        MaybeUndefined::Undefined => Change::Keep,
        MaybeUndefined::Null => Change::Remove,
        MaybeUndefined::Value(value) => Change::Set(value),
    }
}

/// The same of a field whose empty value means that there is none.
pub fn emptied<T: Default>(field: MaybeUndefined<T>) -> Option<T> {
    match field {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(T::default()),
        MaybeUndefined::Value(value) => Some(value),
    }
}

/// Reads an instant in RFC 3339; `field` is where it stands.
pub fn instant(text: &str, field: &'static str) -> Result<Timestamp, super::problem::Problem> {
    chrono::DateTime::parse_from_rfc3339(text).map(|at| Timestamp(at.timestamp_millis())).map_err(|_| {
        super::problem::Problem::invalid(field, "FORMAT", "is not an instant like 2024-08-01T11:51:41.431Z")
    })
}
