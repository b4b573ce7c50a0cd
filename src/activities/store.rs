//! The rows of activities and of what belongs to them.

use std::collections::HashMap;

use entity::id::{ActivityId, ItemId};
use entity::kinds::{ActivityOutcome, ActivityType, MentionType, Platform};
use entity::{activity, follow_change, item};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, FromQueryResult as _, QueryFilter};
use serde_json::Value;

use super::{NewActivity, Sighting};
use crate::db::Tx;
use crate::inbox::messages::{self, Message};
use crate::rows::{Rows, Write};
use crate::webhooks::retention;

/// Rows that one query looks up.
const PART_MAX: usize = 256;

/// An activity to write: whether it is new, and as it now is.
pub type Written = (bool, activity::Model);

/// What is known of the things of a batch from before.
#[derive(Default)]
pub struct Known {
    activities: HashMap<(ItemId, ActivityType), activity::Model>,
    /// Messages that were unsent (`None`) or edited before their own item was worked on.
    changed: HashMap<ItemId, Option<String>>,
}

impl Known {
    /// Reads what is known of `items`: what was recorded of them, if they are worked on `again`, and what has changed in them.
    pub async fn read(tx: &Tx, items: &[&item::Model], again: bool) -> Result<Self, DbErr> {
        let mut known = Self::default();
        for part in items.chunks(PART_MAX).filter(|_| again) {
            let rows = Rows::new(part)
                .uuid("id", |item| item.id.0)
                .query(tx.conn(), "SELECT a.* FROM {rows} r JOIN activity a ON a.item_id = r.id")
                .await?;
            for row in rows {
                let row = activity::Model::from_query_result(&row, "")?;
                known.activities.insert((row.item_id, row.activity_type), row);
            }
        }
        let messages: Vec<(ItemId, Message<'_>)> =
            items.iter().filter_map(|item| Some((item.id, Message::of(item)?))).collect();
        let changed =
            messages::changed(tx, &messages.iter().map(|(_, message)| *message).collect::<Vec<_>>()).await?;
        for (item, message) in messages {
            known.changed.extend(changed.get(&message).map(|text| (item, text.clone())));
        }
        Ok(known)
    }

    /// The activity of this kind that `item` led to before.
    #[must_use]
    pub fn activity(&self, item: ItemId, kind: ActivityType) -> Option<activity::Model> {
        self.activities.get(&(item, kind)).cloned()
    }

    /// What the message `item` says by now, if it was edited or unsent before it was worked on.
    #[must_use]
    pub fn changed_text(&self, item: &item::Model) -> Option<Option<String>> {
        self.changed.get(&item.id).cloned()
    }
}

/// What an activity says in words: its caption, message or text.
#[must_use]
pub fn text(properties: &str) -> String {
    let properties: Value = serde_json::from_str(properties).unwrap_or_default();
    let found = ["caption", "message", "text"].iter().find_map(|name| properties.get(name)?.as_str());
    found.unwrap_or_default().to_owned()
}

/// `properties` with another message.
#[must_use]
pub fn with_message(properties: &str, message: &str) -> String {
    let mut properties: Value = serde_json::from_str(properties).unwrap_or_default();
    if let Some(said) = properties.get_mut("message") {
        *said = message.into();
    }
    properties.to_string()
}

/// Has the message with this key say what it says by now, or nothing if it was unsent, wherever it is stored: platforms tell edits late and in
/// any order.
pub async fn change_message(tx: &Tx, (platform, account, key): (Platform, &str, &str)) -> Result<(), DbErr> {
    let Some(message) = Message::of_key(platform, account, key) else { return Ok(()) };
    let Some(text) = messages::changed(tx, &[message]).await?.remove(&message) else { return Ok(()) };
    let mut deliveries = Vec::new();
    if text.is_none() {
        deliveries = messages::empty_edits(tx, &[message]).await?;
    }
    let own = item::Entity::find()
        .filter(item::Column::Platform.eq(platform))
        .filter(item::Column::Account.eq(account))
        .filter(item::Column::ItemKey.eq(key));
    if let Some(row) = own.one(tx.conn()).await? {
        deliveries.extend(row.delivery_id.filter(|_| text.is_none()));
        change_item(tx, &row, text.as_deref()).await?;
    }
    messages::empty_deliveries(tx, deliveries).await
}

async fn change_item(tx: &Tx, row: &item::Model, text: Option<&str>) -> Result<(), DbErr> {
    item::Entity::update_many()
        .col_expr(item::Column::Payload, Expr::val(with_text(&row.payload, text)))
        .filter(item::Column::Id.eq(row.id))
        .exec(tx.conn())
        .await?;
    for activity in
        activity::Entity::find().filter(activity::Column::ItemId.eq(row.id)).all(tx.conn()).await?
    {
        activity::Entity::update_many()
            .col_expr(
                activity::Column::Properties,
                Expr::val(with_message(&activity.properties, text.unwrap_or_default())),
            )
            .filter(activity::Column::SiteId.eq(activity.site_id))
            .filter(activity::Column::Id.eq(activity.id))
            .exec(tx.conn())
            .await?;
        if text.is_none() {
            retention::forget_message(tx, activity.site_id, activity.id).await?;
        }
    }
    Ok(())
}

/// The stored message with another text; without one it loses all that it said, and keeps who sent it and when.
fn with_text(payload: &str, text: Option<&str>) -> String {
    let mut payload: Value = serde_json::from_str(payload).unwrap_or_default();
    if let Some(message) = payload.get_mut("message").and_then(Value::as_object_mut) {
        match text {
            Some(text) => drop(message.insert("text".to_owned(), text.into())),
            None => message.retain(|name, _| name == "mid"),
        }
    }
    payload.to_string()
}

/// To write activities: new ones whole, of the others what can change.
#[must_use]
pub fn activities_writes(written: &[Written]) -> Vec<Write> {
    let of = |wanted: bool| -> Vec<&activity::Model> {
        written.iter().filter(|(is_new, _)| *is_new == wanted).map(|(_, row)| row).collect()
    };
    let (new, old) = (of(true), of(false));
    let insert = Rows::new(&new)
        .uuid("site_id", |row| row.site_id.0)
        .uuid("id", |row| row.id.0)
        .uuid("item_id", |row| row.item_id.0)
        .text("activity_type", |row| row.activity_type.as_str())
        .text("platform", |row| row.platform.as_str())
        .text("external_id", |row| row.external_id.as_str())
        .text_or_null("mention_type", |row| row.mention_type.map(MentionType::as_str))
        .uuid_or_null("member_id", |row| row.member_id.map(|id| id.0))
        .uuid_or_null("account_id", |row| row.account_id.map(|id| id.0))
        .text_or_null("person", |row| row.person.as_deref())
        .text_or_null("handle", |row| row.handle.as_deref())
        .text("properties", |row| row.properties.as_str())
        .text("outcome", |row| row.outcome.as_str())
        .text_or_null("reason", |row| row.reason.as_deref())
        .int("points", |row| row.points)
        .int("occurred_at", |row| row.occurred_at.0)
        .int("created_at", |row| row.created_at.0)
        .int("updated_at", |row| row.updated_at.0)
        .insert("activity", "");
    let update = Rows::new(&old)
        .uuid("site_id", |row| row.site_id.0)
        .uuid("id", |row| row.id.0)
        .uuid_or_null("member_id", |row| row.member_id.map(|id| id.0))
        .uuid_or_null("account_id", |row| row.account_id.map(|id| id.0))
        .text("outcome", |row| row.outcome.as_str())
        .text_or_null("reason", |row| row.reason.as_deref())
        .int("points", |row| row.points)
        .int("updated_at", |row| row.updated_at.0)
        .write(
            "UPDATE activity SET member_id = r.member_id, account_id = r.account_id, outcome = r.outcome, \
             reason = r.reason, points = r.points, updated_at = r.updated_at FROM {rows} AS r \
             WHERE activity.site_id = r.site_id AND activity.id = r.id",
        );
    vec![insert, update]
}

/// To write that persons began or ceased to follow.
#[must_use]
pub fn follow_changes_write(rows: &[follow_change::Model]) -> Write {
    Rows::new(rows)
        .uuid("id", |row| row.id)
        .uuid("site_id", |row| row.site_id.0)
        .text("platform", |row| row.platform.as_str())
        .text("person", |row| row.person.as_str())
        .uuid_or_null("member_id", |row| row.member_id.map(|id| id.0))
        .int("follows_flag", |row| i64::from(row.follows))
        .uuid("item_id", |row| row.item_id.0)
        .int("seen_at", |row| row.seen_at.0)
        .write(
            "INSERT INTO follow_change (id, site_id, platform, person, member_id, follows, item_id, seen_at) \
             SELECT id, site_id, platform, person, member_id, follows_flag = 1, item_id, seen_at \
             FROM {rows} AS r WHERE true",
        )
}

/// The activity `new`, as `item` tells it, before anything has come of it.
pub(super) fn new_row(
    tx: &Tx,
    item: &item::Model,
    sighting: &Sighting,
    new: &NewActivity,
) -> activity::Model {
    activity::Model {
        site_id: sighting.site,
        id: ActivityId(tx.new_id()),
        item_id: item.id,
        activity_type: new.kind,
        platform: sighting.person.platform,
        external_id: new.external_id.clone(),
        mention_type: new.mention_type,
        member_id: None,
        account_id: None,
        person: sighting.person.external_id.clone(),
        handle: sighting.person.handle.clone(),
        properties: Value::Object(new.properties.clone()).to_string(),
        outcome: ActivityOutcome::Unmatched,
        reason: None,
        points: 0,
        occurred_at: sighting.occurred_at,
        created_at: tx.now(),
        updated_at: tx.now(),
    }
}
