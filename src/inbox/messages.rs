//! What came after messages: that they were edited or unsent. Platforms tell it in any order, before the message itself, too; so what a
//! message says by now is read from everything that is stored of it.
//!
//! Keys tell what belongs together: `message:<id>` is a message, `edit:<id>:<version>` an edit of it, `unsend:<id>` its end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use entity::id::{ItemId, RawDeliveryId, Timestamp};
use entity::kinds::Platform;
use entity::{item, raw_delivery};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _};
use serde_json::Value;

use super::CLAIM_MAX;
use crate::db::Tx;
use crate::rows::Rows;

/// A message to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message<'a> {
    platform: Platform,
    account: &'a str,
    id: &'a str,
}

/// How an edit is told from the others of its message: when it was made, and its number.
type Version = (Option<Timestamp>, Option<u64>);

impl<'a> Message<'a> {
    /// The message whose own thing has this key on `account`, if it is one's.
    #[must_use]
    pub fn of_key(platform: Platform, account: &'a str, key: &'a str) -> Option<Self> {
        Some(Self { platform, account, id: key.strip_prefix("message:")? })
    }

    /// The message that `item` is, if it is one.
    #[must_use]
    pub fn of(item: &'a item::Model) -> Option<Self> {
        Self::of_key(item.platform, &item.account, &item.item_key)
    }
}

/// What those of `messages` that have changed say by now: nothing if they were unsent, whatever was edited before or after; otherwise what the
/// last edit says.
pub async fn changed<'a>(
    tx: &Tx,
    messages: &[Message<'a>],
) -> Result<HashMap<Message<'a>, Option<String>>, DbErr> {
    let mut unsent = Vec::new();
    let mut edited: HashMap<Message<'a>, (Version, String)> = HashMap::new();
    let ranges: Vec<_> = messages.iter().flat_map(|message| [unsending(*message), edits(*message)]).collect();
    for (message, found) in within(tx, &ranges).await? {
        if found.key.starts_with("unsend:") {
            unsent.push(message);
        } else if let Some((version, text)) = found.edit() {
            match edited.entry(message) {
                Entry::Vacant(place) => drop(place.insert((version, text))),
                Entry::Occupied(mut last) if last.get().0 <= version => drop(last.insert((version, text))),
                Entry::Occupied(_) => {}
            }
        }
    }
    let edited = edited.into_iter().map(|(message, (_, text))| (message, Some(text)));
    Ok(edited.chain(unsent.into_iter().map(|message| (message, None))).collect())
}

/// Takes the words from the edits of `messages`; gives the calls that brought them.
pub async fn empty_edits(tx: &Tx, messages: &[Message<'_>]) -> Result<Vec<RawDeliveryId>, DbErr> {
    let ranges: Vec<_> = messages.iter().map(|message| edits(*message)).collect();
    let found = within(tx, &ranges).await?;
    for part in found.chunks(CLAIM_MAX) {
        item::Entity::update_many()
            .col_expr(item::Column::Payload, Expr::val("{}"))
            .filter(item::Column::Id.is_in(part.iter().map(|(_, edit)| edit.id)))
            .exec(tx.conn())
            .await?;
    }
    Ok(found.into_iter().filter_map(|(_, edit)| edit.delivery).collect())
}

/// Takes the bytes from `deliveries`, in which something was unsent.
pub async fn empty_deliveries(tx: &Tx, deliveries: Vec<RawDeliveryId>) -> Result<(), DbErr> {
    if deliveries.is_empty() {
        return Ok(());
    }
    raw_delivery::Entity::update_many()
        .col_expr(raw_delivery::Column::Body, Expr::val(None::<Vec<u8>>))
        .filter(raw_delivery::Column::Id.is_in(deliveries))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Keys of things about a message, from the first to the last.
type Range<'a> = (Message<'a>, String, String);

fn unsending(message: Message<'_>) -> Range<'_> {
    let key = format!("unsend:{}", message.id);
    (message, key.clone(), key)
}

/// A semicolon comes after a colon, so that whatever is behind the colon is between them.
fn edits(message: Message<'_>) -> Range<'_> {
    (message, format!("edit:{}:", message.id), format!("edit:{};", message.id))
}

/// A thing about a message.
struct Found {
    id: ItemId,
    key: String,
    payload: String,
    occurred_at: Option<Timestamp>,
    delivery: Option<RawDeliveryId>,
}

impl Found {
    /// Which edit it is, and what it says.
    fn edit(&self) -> Option<(Version, String)> {
        let payload: Value = serde_json::from_str(&self.payload).ok()?;
        let edit = &payload["message_edit"];
        let number = edit["num_edit"].as_u64().or_else(|| edit["num_edit"].as_str()?.parse().ok());
        Some(((self.occurred_at, number), edit["text"].as_str()?.to_owned()))
    }
}

async fn within<'a>(tx: &Tx, ranges: &[Range<'a>]) -> Result<Vec<(Message<'a>, Found)>, DbErr> {
    let mut found = Vec::new();
    let numbered: Vec<(i64, &Range<'a>)> = (0..).zip(ranges).collect();
    for part in numbered.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .int("number", |(number, _)| *number)
            .text("platform", |(_, (message, ..))| message.platform.as_str())
            .text("account", |(_, (message, ..))| message.account)
            .text("first", |(_, (_, first, _))| first.as_str())
            .text("last", |(_, (.., last))| last.as_str())
            .query(
                tx.conn(),
                "SELECT r.number, i.id, i.item_key, i.payload, i.occurred_at, i.delivery_id FROM {rows} r \
                 JOIN item i ON i.platform = r.platform AND i.account = r.account \
                 AND i.item_key >= r.first AND i.item_key <= r.last",
            )
            .await?;
        for row in rows {
            let number: i64 = row.try_get("", "number")?;
            let range = usize::try_from(number).ok().and_then(|number| ranges.get(number));
            let Some((message, ..)) = range else { continue };
            let thing = Found {
                id: row.try_get("", "id")?,
                key: row.try_get("", "item_key")?,
                payload: row.try_get("", "payload")?,
                occurred_at: row.try_get("", "occurred_at")?,
                delivery: row.try_get("", "delivery_id")?,
            };
            found.push((*message, thing));
        }
    }
    Ok(found)
}
