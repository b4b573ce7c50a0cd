//! What happens, in the words and JSON of the Wix events, fixed as text at commit time.

use std::borrow::Cow;

use entity::id::{AccountId, EventId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::MentionType;
use entity::{account, activity, followed_channel};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::Identity;
use crate::db::Tx;

/// The kind of entity that subscriptions are.
pub const SUBSCRIPTION_FQDN: &str = "followpoints.webhooks.v1.subscription";

/// The closed list of event types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// An account followed a channel.
    FollowedChannelCreated,
    /// An account was made.
    AccountCreated,
    /// An account changed; also on every change of points.
    AccountUpdated,
    /// The points of an account changed.
    AccountPointsUpdated,
    /// Somebody did something on a social platform.
    ActivityRecorded,
    /// A receiver has failed for long.
    SubscriptionFailing,
    /// A receiver that failed for long works again.
    SubscriptionRecovered,
    /// A subscription was disabled because of its receiver.
    SubscriptionDisabled,
}

impl EventType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::FollowedChannelCreated,
        Self::AccountCreated,
        Self::AccountUpdated,
        Self::AccountPointsUpdated,
        Self::ActivityRecorded,
        Self::SubscriptionFailing,
        Self::SubscriptionRecovered,
        Self::SubscriptionDisabled,
    ];

    /// Those about members and their points: every first follow makes one of each.
    pub const LOYALTY: [Self; 4] = [
        Self::FollowedChannelCreated,
        Self::AccountCreated,
        Self::AccountUpdated,
        Self::AccountPointsUpdated,
    ];

    /// Those about what is done on social platforms.
    pub const SOCIAL: [Self; 1] = [Self::ActivityRecorded];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FollowedChannelCreated => "wix.loyalty.socialmedia.v1.followed_channel_created",
            Self::AccountCreated => "wix.loyalty.v1.account_created",
            Self::AccountUpdated => "wix.loyalty.v1.account_updated",
            Self::AccountPointsUpdated => "wix.loyalty.v1.account_points_updated",
            Self::ActivityRecorded => "followpoints.social.v1.activity_recorded",
            Self::SubscriptionFailing => "followpoints.webhooks.v1.subscription_failing",
            Self::SubscriptionRecovered => "followpoints.webhooks.v1.subscription_recovered",
            Self::SubscriptionDisabled => "followpoints.webhooks.v1.subscription_disabled",
        }
    }

    /// The types that `pattern` means: one by its name, those whose names begin so with `name.*`, all with `*`.
    #[must_use]
    pub fn matching(pattern: &str) -> Vec<Self> {
        let means = |kind: &Self| match pattern.strip_suffix('*') {
            Some(start) => (start.is_empty() || start.ends_with('.')) && kind.as_str().starts_with(start),
            None => kind.as_str() == pattern,
        };
        Self::ALL.into_iter().filter(means).collect()
    }

    const fn entity_fqdn(self) -> &'static str {
        match self {
            Self::FollowedChannelCreated => "wix.loyalty.socialmedia.v1.followed_channel",
            Self::AccountCreated | Self::AccountUpdated | Self::AccountPointsUpdated => {
                "wix.loyalty.v1.account"
            }
            Self::ActivityRecorded => "followpoints.social.v1.activity",
            Self::SubscriptionFailing | Self::SubscriptionRecovered | Self::SubscriptionDisabled => {
                SUBSCRIPTION_FQDN
            }
        }
    }

    /// What happened, in one word.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::FollowedChannelCreated | Self::AccountCreated => "created",
            Self::AccountUpdated => "updated",
            Self::AccountPointsUpdated => "points_updated",
            Self::ActivityRecorded => "recorded",
            Self::SubscriptionFailing => "failing",
            Self::SubscriptionRecovered => "recovered",
            Self::SubscriptionDisabled => "disabled",
        }
    }
}

/// What happens to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// It was made.
    Created,
    /// Something of it changed.
    Updated,
    /// Its points changed.
    PointsUpdated,
}

/// An event about to be recorded.
#[derive(Debug)]
pub struct NewEvent {
    /// Its id: the receiver's key against duplicates.
    pub id: EventId,
    /// Its site.
    pub site_id: SiteId,
    /// Its type.
    pub kind: EventType,
    /// The entity it is about.
    pub entity_id: Uuid,
    /// The account concerned, if one is.
    pub account_id: Option<AccountId>,
    /// Grows per entity.
    pub sequence: i64,
    /// The event as JSON text.
    pub data: String,
    /// Who caused it, as JSON text.
    pub identity: String,
}

/// A followed channel as the wire knows it (`wix.loyalty.socialmedia.v1.followed_channel`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FollowedChannelJson<'a> {
    id: Uuid,
    account_id: Uuid,
    channel: &'static str,
    created_date: Cow<'a, str>,
}

impl<'a> FollowedChannelJson<'a> {
    fn new(tx: &'a Tx, row: &followed_channel::Model) -> Self {
        Self {
            id: row.id.0,
            account_id: row.account_id.0,
            channel: row.channel.as_str(),
            created_date: date(tx, row.created_at),
        }
    }
}

/// An account as the wire knows it (`wix.loyalty.v1.account`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountJson<'a> {
    id: Uuid,
    contact_id: Uuid,
    member_id: Uuid,
    points: PointsJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activity_date: Option<Cow<'a, str>>,
    created_date: Cow<'a, str>,
    updated_date: Cow<'a, str>,
    revision: String,
}

#[derive(Serialize)]
struct PointsJson {
    balance: i64,
    earned: i64,
    adjusted: i64,
    redeemed: i64,
    expired: i64,
}

impl<'a> AccountJson<'a> {
    fn new(tx: &'a Tx, row: &account::Model) -> Self {
        Self {
            id: row.id.0,
            contact_id: row.contact_id.0,
            member_id: row.member_id.0,
            points: PointsJson {
                balance: row.balance,
                earned: row.earned,
                adjusted: row.adjusted,
                redeemed: row.redeemed,
                expired: row.expired,
            },
            last_activity_date: row.last_activity_at.map(|at| date(tx, at)),
            created_date: date(tx, row.created_at),
            updated_date: date(tx, row.updated_at),
            revision: row.revision.to_string(),
        }
    }
}

/// An activity as the wire knows it (`followpoints.social.v1.activity`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActivityJson<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    kind: &'static str,
    platform: &'static str,
    external_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mention_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<&'a str>,
    properties: &'a RawValue,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    points: i64,
    occurred_date: Cow<'a, str>,
    created_date: Cow<'a, str>,
}

impl<'a> ActivityJson<'a> {
    fn new(tx: &'a Tx, row: &'a activity::Model) -> serde_json::Result<Self> {
        Ok(Self {
            id: row.id.0,
            kind: row.activity_type.as_str(),
            platform: row.platform.as_str(),
            external_id: &row.external_id,
            mention_type: row.mention_type.map(MentionType::as_str),
            member_id: row.member_id.map(|id| id.0),
            account_id: row.account_id.map(|id| id.0),
            handle: row.handle.as_deref(),
            properties: serde_json::from_str(&row.properties)?,
            outcome: row.outcome.as_str(),
            reason: row.reason.as_deref(),
            points: row.points,
            occurred_date: date(tx, row.occurred_at),
            created_date: date(tx, row.created_at),
        })
    }
}

/// Most dates in an event are the instant of its transaction, written once.
fn date(tx: &Tx, at: Timestamp) -> Cow<'_, str> {
    if at == tx.now() { Cow::Borrowed(tx.now_text()) } else { Cow::Owned(at.to_rfc3339()) }
}

/// Exactly one of the three is there.
#[derive(Serialize)]
struct Body<T> {
    #[serde(rename = "createdEvent", skip_serializing_if = "Option::is_none")]
    created: Option<Created<T>>,
    #[serde(rename = "updatedEvent", skip_serializing_if = "Option::is_none")]
    updated: Option<Updated<T>>,
    #[serde(rename = "actionEvent", skip_serializing_if = "Option::is_none")]
    action: Option<Action<T>>,
}

impl<T> Default for Body<T> {
    fn default() -> Self {
        Self { created: None, updated: None, action: None }
    }
}

#[derive(Serialize)]
struct Created<T> {
    entity: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Updated<T> {
    current_entity: T,
}

#[derive(Serialize)]
struct Action<T> {
    body: ActionBody<T>,
}

#[derive(Serialize)]
struct ActionBody<T> {
    account: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a, T> {
    id: Uuid,
    entity_fqdn: &'static str,
    slug: &'static str,
    entity_id: Uuid,
    #[serde(flatten)]
    body: &'a Body<T>,
    event_time: &'a str,
    triggered_by_anonymize_request: bool,
    originated_from: Option<&'static str>,
    entity_event_sequence: String,
}

/// `wix.loyalty.socialmedia.v1.followed_channel_created` for `row`.
pub fn followed_channel_created(
    tx: &Tx,
    row: &followed_channel::Model,
    identity: &Identity,
) -> serde_json::Result<NewEvent> {
    let body =
        Body { created: Some(Created { entity: FollowedChannelJson::new(tx, row) }), ..Body::default() };
    let subject =
        Subject { site_id: row.site_id, entity_id: row.id.0, account_id: Some(row.account_id), sequence: 1 };
    event(tx, EventType::FollowedChannelCreated, &subject, &body, identity)
}

/// `followpoints.social.v1.activity_recorded` for `row`, whose properties are JSON. Once for each activity: its sequence is 1.
pub fn activity_recorded(
    tx: &Tx,
    row: &activity::Model,
    identity: &Identity,
) -> serde_json::Result<NewEvent> {
    let body = Body { created: Some(Created { entity: ActivityJson::new(tx, row)? }), ..Body::default() };
    let subject =
        Subject { site_id: row.site_id, entity_id: row.id.0, account_id: row.account_id, sequence: 1 };
    event(tx, EventType::ActivityRecorded, &subject, &body, identity)
}

/// `data` of an `activity_recorded` without what the activity says in words, if it says anything.
#[must_use]
pub fn without_message(data: &str) -> String {
    let mut data: Value = serde_json::from_str(data).unwrap_or_default();
    if let Some(said) = data.pointer_mut("/createdEvent/entity/properties/message") {
        *said = "".into();
    }
    data.to_string()
}

/// `wix.loyalty.v1.account_created`, `account_updated` or `account_points_updated` for `row` as it now is. Takes the
/// account's next sequence number.
pub fn account_changed(
    tx: &Tx,
    change: AccountChange,
    row: &mut account::Model,
    identity: &Identity,
) -> serde_json::Result<NewEvent> {
    row.event_sequence += 1;
    let subject = Subject {
        site_id: row.site_id,
        entity_id: row.id.0,
        account_id: Some(row.id),
        sequence: row.event_sequence,
    };
    let json = AccountJson::new(tx, row);
    let (kind, body) = match change {
        AccountChange::Created => {
            (EventType::AccountCreated, Body { created: Some(Created { entity: json }), ..Body::default() })
        }
        AccountChange::Updated => (
            EventType::AccountUpdated,
            Body { updated: Some(Updated { current_entity: json }), ..Body::default() },
        ),
        AccountChange::PointsUpdated => {
            let body = ActionBody { account: json };
            let action = Some(Action { body });
            (EventType::AccountPointsUpdated, Body { action, ..Body::default() })
        }
    };
    event(tx, kind, &subject, &body, identity)
}

/// An event about `subscription` as JSON text: `slug` happened to it, and `body` says what.
#[must_use]
pub fn subscription_data(
    id: Uuid,
    slug: &str,
    subscription: SubscriptionId,
    body: &Value,
    (at, sequence): (&str, i64),
) -> String {
    json!({
        "id": id,
        "entityFqdn": SUBSCRIPTION_FQDN,
        "slug": slug,
        "entityId": subscription,
        "actionEvent": {"body": body},
        "eventTime": at,
        "triggeredByAnonymizeRequest": false,
        "originatedFrom": null,
        "entityEventSequence": sequence.to_string(),
    })
    .to_string()
}

struct Subject {
    site_id: SiteId,
    entity_id: Uuid,
    account_id: Option<AccountId>,
    sequence: i64,
}

fn event<T: Serialize>(
    tx: &Tx,
    kind: EventType,
    subject: &Subject,
    body: &Body<T>,
    identity: &Identity,
) -> serde_json::Result<NewEvent> {
    let id = tx.new_id();
    let data = serde_json::to_string(&Data {
        id,
        entity_fqdn: kind.entity_fqdn(),
        slug: kind.slug(),
        entity_id: subject.entity_id,
        body,
        event_time: tx.now_text(),
        triggered_by_anonymize_request: false,
        originated_from: None,
        entity_event_sequence: subject.sequence.to_string(),
    })?;
    Ok(NewEvent {
        id: EventId(id),
        site_id: subject.site_id,
        kind,
        entity_id: subject.entity_id,
        account_id: subject.account_id,
        sequence: subject.sequence,
        data,
        identity: identity.to_json(),
    })
}

#[cfg(test)]
mod tests {
    use super::EventType::{
        self, AccountCreated, AccountPointsUpdated, AccountUpdated, ActivityRecorded, FollowedChannelCreated,
        SubscriptionDisabled, SubscriptionFailing, SubscriptionRecovered,
    };

    #[test]
    fn a_pattern_means_one_type_or_those_that_begin_so_at_a_dot() {
        assert_eq!(EventType::matching("wix.loyalty.v1.account_created"), [AccountCreated]);
        let of_accounts = [AccountCreated, AccountUpdated, AccountPointsUpdated];
        assert_eq!(EventType::matching("wix.loyalty.v1.*"), of_accounts);
        assert_eq!(EventType::matching("wix.loyalty.socialmedia.*"), [FollowedChannelCreated]);
        assert_eq!(EventType::matching("wix.loyalty.*"), EventType::LOYALTY);
        let of_receivers = [SubscriptionFailing, SubscriptionRecovered, SubscriptionDisabled];
        assert_eq!(EventType::matching("followpoints.webhooks.*"), of_receivers);
        assert_eq!(EventType::matching("followpoints.social.*"), EventType::SOCIAL);
        assert_eq!(EventType::matching("followpoints.social.v1.activity_recorded"), [ActivityRecorded]);
        assert_eq!(EventType::matching("*"), EventType::ALL);
        for none in
            ["", ".*", "wix.loyalty.v1", "wix.loyalty.v1.acc*", "wix.*.v1", "Wix.*", "wix.loyalty.v2.*"]
        {
            assert_eq!(EventType::matching(none), [], "{none}");
        }
    }
}
