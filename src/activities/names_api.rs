//! The JSON of activities and of what platforms sent, and the words in it.

use entity::id::Timestamp;
use entity::{activity, item, kinds};
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use super::rules::Period;
use crate::http::wire::PlatformName;

/// What a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ActivityType", rename = "ActivityType")]
#[expect(clippy::enum_variant_names, reason = "they are called so")]
pub(super) enum ActivityTypeName {
    /// A post, reel, story or video mentions or tags the brand, or has a tracked hashtag.
    #[oai(rename = "MENTIONED_YOU_SOCIAL")]
    MentionedYou,
    /// The person follows the brand.
    #[oai(rename = "FOLLOWED_YOU_SOCIAL")]
    FollowedYou,
    /// The person sent the brand a direct message.
    #[oai(rename = "DM_YOU_SOCIAL")]
    DmYou,
    /// The person commented on the brand's media.
    #[oai(rename = "COMMENTED_YOU_SOCIAL")]
    CommentedYou,
    /// The person mentions the brand in a comment elsewhere.
    #[oai(rename = "COMMENT_MENTIONED_YOU_SOCIAL")]
    CommentMentionedYou,
}

/// How a post mentions the brand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::MentionType", rename = "MentionType")]
pub(super) enum MentionTypeName {
    /// By `@name` in its text, or by a sticker in a story.
    #[oai(rename = "mention")]
    Mention,
    /// By a tag on the picture.
    #[oai(rename = "tag")]
    Tag,
    /// By a tracked hashtag.
    #[oai(rename = "hashtag")]
    Hashtag,
}

/// What came of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ActivityOutcome", rename = "ActivityOutcome", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ActivityOutcomeName {
    /// Points were awarded.
    Awarded,
    /// This very thing has earned before.
    AlreadyEarned,
    /// A limit of its rule is reached.
    Capped,
    /// It waits for the member to prove that the handle is theirs.
    Held,
    /// Nobody on the site has this handle.
    Unmatched,
    /// It earns nothing; the reason says why.
    Ignored,
}

/// How far the work on something that a platform sent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ItemStatus", rename = "SourceItemStatus", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ItemStatusName {
    /// It is worked on when it is due.
    Waiting,
    /// It waits for something that may never come, until it expires.
    Parked,
    /// Nothing more comes of it.
    Done,
}

/// The time within which awards of a member are counted, backwards from each award.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "Period", rename = "ActivityRulePeriod")]
pub(super) enum PeriodName {
    /// An hour.
    #[oai(rename = "PT1H")]
    Hour,
    /// A day.
    #[oai(rename = "P1D")]
    Day,
    /// Seven days.
    #[oai(rename = "P7D")]
    Week,
    /// Thirty days.
    #[oai(rename = "P30D")]
    Month,
    /// 365 days.
    #[oai(rename = "P365D")]
    Year,
    /// For ever.
    #[oai(rename = "EVER")]
    Ever,
}

/// Something that a person did on a social platform (`followpoints.social.v1.activity`).
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Activity {
    /// Its id.
    id: Uuid,
    /// What was done.
    #[oai(rename = "type")]
    kind: ActivityTypeName,
    /// Where.
    platform: PlatformName,
    /// The platform's id of the thing: media, message, comment, person.
    external_id: String,
    /// How a post mentions the brand.
    mention_type: Option<MentionTypeName>,
    /// Who did it, where that is known.
    member_id: Option<Uuid>,
    /// Their account.
    account_id: Option<Uuid>,
    /// The person's handle, without `@`.
    handle: Option<String>,
    /// What else is known: `caption`, `platform`, `media_url`, `mention_type` …
    properties: Any<Value>,
    /// What came of it.
    outcome: ActivityOutcomeName,
    /// Why, for people.
    reason: Option<String>,
    /// Points awarded for it.
    points: i64,
    /// When it happened.
    occurred_date: String,
    /// When it was recorded.
    created_date: String,
    /// When its outcome last changed; events do not say.
    updated_date: Option<String>,
}

impl From<activity::Model> for Activity {
    fn from(row: activity::Model) -> Self {
        Self {
            id: row.id.0,
            kind: row.activity_type.into(),
            platform: row.platform.into(),
            external_id: row.external_id,
            mention_type: row.mention_type.map(Into::into),
            member_id: row.member_id.map(|id| id.0),
            account_id: row.account_id.map(|id| id.0),
            handle: row.handle,
            properties: Any(serde_json::from_str(&row.properties).unwrap_or_default()),
            outcome: row.outcome.into(),
            reason: row.reason,
            points: row.points,
            occurred_date: row.occurred_at.to_rfc3339(),
            created_date: row.created_at.to_rfc3339(),
            updated_date: Some(row.updated_at.to_rfc3339()),
        }
    }
}

/// Something that a platform sent, or that was fetched from it, and how far the work on it is.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct SourceItem {
    /// Its id.
    id: Uuid,
    /// Who sent it.
    platform: PlatformName,
    /// The platform's id of the brand's account; empty where there is none.
    platform_account_id: String,
    /// What it is: `mention`, `message`, `comment` …
    kind: String,
    /// The person's handle, without `@`, where that is known.
    handle: Option<String>,
    /// How far the work on it is.
    status: ItemStatusName,
    /// Why it waits, or why nothing came of it, for people.
    reason: Option<String>,
    /// How often the work was begun.
    attempts: i32,
    /// When it is worked on next; absent once it is done.
    due_date: Option<String>,
    /// Until when it waits.
    expires_date: Option<String>,
    /// When it happened, says the platform.
    occurred_date: Option<String>,
    /// When it came first.
    received_date: String,
    /// What the platform sent, with its activity only; absent once it is too old.
    payload: Option<Any<Value>>,
}

impl SourceItem {
    /// With what the platform sent.
    pub(super) fn with_payload(row: item::Model) -> Self {
        let payload = serde_json::from_str(&row.payload).ok().map(Any);
        Self { payload, ..row.into() }
    }
}

impl From<item::Model> for SourceItem {
    fn from(row: item::Model) -> Self {
        Self {
            id: row.id.0,
            platform: row.platform.into(),
            platform_account_id: row.account,
            kind: row.kind,
            handle: row.handle,
            status: row.status.into(),
            reason: row.reason,
            attempts: row.attempts,
            due_date: (row.status != kinds::ItemStatus::Done).then(|| row.due_at.to_rfc3339()),
            expires_date: row
                .expires_at
                .filter(|_| row.status != kinds::ItemStatus::Done)
                .map(Timestamp::to_rfc3339),
            occurred_date: row.occurred_at.map(Timestamp::to_rfc3339),
            received_date: row.received_at.to_rfc3339(),
            payload: None,
        }
    }
}
