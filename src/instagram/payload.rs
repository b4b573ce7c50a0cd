//! From a webhook's bytes to the things in it. Whatever the bytes are, something comes of them: what is not understood is kept
//! as it came, because an answer other than 200 makes Meta send it again for a day and a half, and then nothing any more.

use std::collections::HashSet;

use entity::id::Timestamp;
use entity::kinds::Platform;
use serde_json::value::RawValue;

use super::json::{self, Fields, Json};
use super::keys::{hash, hashed, key};
use super::kinds::Kind;
use super::messaging;
use crate::inbox::NewItem;
use crate::profiles::handles;

/// Things of one call. Meta sends up to 1,000; of what is beyond this only the beginning of the text is kept as a thing.
pub const ITEMS_MAX: usize = 10_000;
/// Bytes of the text of something that is not understood.
pub const UNKNOWN_BYTES_MAX: usize = 64 * 1024;
/// The account of the dashboard's test button.
const TEST_ACCOUNT: &str = "0";
/// Senders, recipients, media and comments of the dashboard's test button.
const TEST_IDS: [&str; 4] = ["12334", "23245", "17887498072083520", "17865799348089039"];

/// What a delivery is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Instagram,
    Permissions,
    Other,
}

/// Where something stands.
struct Place {
    subject: Subject,
    /// The account, or nothing.
    account: String,
    /// When it was sent.
    time: Option<Timestamp>,
}

/// The things in the body of a webhook, each once, in the order in which they stand there. Their keys depend on nothing but the
/// things themselves: sent again, alone, in another order or beside others they are the same.
#[must_use]
pub fn split(body: &[u8]) -> Vec<NewItem> {
    let text = json::mended(body);
    let text = text.trim_start_matches('\u{feff}');
    let mut items = Items::default();
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => match json::list(value.get()) {
            Some(deliveries) => {
                for delivery in deliveries {
                    items.delivery(delivery.get());
                }
            }
            None => items.delivery(value.get()),
        },
        Err(_) => items.unknown(&Place::nowhere(), text),
    }
    items.finish(text)
}

impl Place {
    const fn nowhere() -> Self {
        Self { subject: Subject::Other, account: String::new(), time: None }
    }

    fn of(subject: Subject, entry: &Fields<'_>) -> Self {
        let read = |name: &str| entry.get(name).and_then(|value| Json::read(value.get()));
        let account = read("id").and_then(|id| id.id_at(&[]).map(str::to_owned)).unwrap_or_default();
        Self { subject, account, time: read("time").and_then(|time| time.time_at(&[])) }
    }

    /// Whether it comes from the test button.
    fn is_test(&self, ids: &[Option<&str>]) -> bool {
        self.account == TEST_ACCOUNT || ids.iter().flatten().any(|id| TEST_IDS.contains(id))
    }
}

/// What was found so far.
#[derive(Default)]
struct Items {
    found: Vec<NewItem>,
    seen: HashSet<(String, String)>,
    has_more: bool,
}

impl Items {
    fn finish(mut self, text: &str) -> Vec<NewItem> {
        if self.has_more {
            self.found.truncate(ITEMS_MAX - 1);
            self.has_more = false;
            self.unknown(&Place::nowhere(), text);
        }
        self.found
    }

    fn push(&mut self, place: &Place, kind: Kind, key: String, payload: String) -> Option<&mut NewItem> {
        if !self.seen.insert((place.account.clone(), key.clone())) {
            return None;
        }
        if self.found.len() >= ITEMS_MAX {
            self.has_more = true;
            return None;
        }
        self.found.push(NewItem {
            platform: Platform::Instagram,
            account: place.account.clone(),
            key,
            kind: kind.as_str().to_owned(),
            person: None,
            handle: None,
            site: None,
            occurred_at: place.time,
            payload,
        });
        self.found.last_mut()
    }

    /// Text that means nothing to us.
    fn unknown(&mut self, place: &Place, text: &str) {
        let key = key(Kind::Unknown.as_str(), &[&hash(text)]);
        self.push(place, Kind::Unknown, key, cut(text));
    }

    /// Something that is JSON and means nothing to us.
    fn unknown_json(&mut self, place: &Place, text: &str) {
        let Some(json @ Json::Object(_)) = Json::read(text).filter(|_| text.len() <= UNKNOWN_BYTES_MAX)
        else {
            return self.unknown(place, text);
        };
        let kind = if place.is_test(&[]) { Kind::DashboardTest } else { Kind::Unknown };
        self.push(place, kind, hashed(kind, &json), text.to_owned());
    }

    /// `{"object": …, "entry": […]}`.
    fn delivery(&mut self, text: &str) {
        if self.has_more {
            return;
        }
        let fields = json::fields(text);
        let entries = fields.as_ref().and_then(|fields| json::list(fields.get("entry")?.get()));
        let (Some(fields), Some(entries)) = (fields, entries) else {
            return self.unknown_json(&Place::nowhere(), text);
        };
        let object =
            fields.get("object").and_then(|object| serde_json::from_str::<String>(object.get()).ok());
        let subject = match object.as_deref() {
            Some("instagram") => Subject::Instagram,
            Some("permissions") => Subject::Permissions,
            _ => Subject::Other,
        };
        for entry in entries {
            if self.has_more {
                return;
            }
            self.entry(subject, entry.get());
        }
    }

    fn entry(&mut self, subject: Subject, text: &str) {
        let Some(fields) = json::fields(text) else {
            return self.unknown_json(&Place::nowhere(), text);
        };
        let place = Place::of(subject, &fields);
        let mut is_understood = false;
        for name in ["changes", "messaging", "standby"] {
            let Some(parts) = fields.get(name).and_then(|value| json::list(value.get())) else { continue };
            is_understood = true;
            for part in parts {
                if self.has_more {
                    return;
                }
                if name == "changes" {
                    self.change(&place, part.get());
                } else {
                    self.messaging(&place, part.get());
                }
            }
        }
        if let (Some(field), Some(value)) = (fields.get("field"), fields.get("value")) {
            is_understood = true;
            self.change(&place, &format!(r#"{{"field":{field},"value":{value}}}"#));
        }
        if !is_understood && subject == Subject::Permissions {
            self.permissions(&place, text);
        } else if !is_understood {
            self.unknown_json(&place, text);
        }
    }

    /// `{"field": …, "value": {…}}`.
    fn change(&mut self, place: &Place, text: &str) {
        if place.subject == Subject::Permissions && place.account != TEST_ACCOUNT {
            return self.permissions(place, text);
        }
        let Some(json @ Json::Object(_)) = Json::read(text).filter(|_| place.subject == Subject::Instagram)
        else {
            return self.unknown_json(place, text);
        };
        let field = json.text_at(&["field"]).unwrap_or_default();
        let value = |name: &str| json.id_at(&["value", name]);
        if messaging::FIELDS.contains(&field)
            && let Some(value) = json::fields(text).and_then(|fields| fields.get("value").copied())
            && value.get().starts_with('{')
        {
            return self.messaging(place, value.get());
        }
        if place.is_test(&[value("media_id"), value("comment_id"), value("id")]) {
            let kind = Kind::DashboardTest;
            self.push(place, kind, hashed(kind, &json), text.to_owned());
            return;
        }
        let comment = value("id").or(value("comment_id"));
        let (kind, key) = match (field, comment, value("media_id")) {
            ("mentions", _, _) if value("comment_id").is_some() => {
                let comment = value("comment_id").unwrap_or_default();
                (Kind::MentionComment, key("comment_mention", &[comment]))
            }
            ("mentions", _, Some(media)) => (Kind::MentionCaption, key("mention", &[media])),
            ("comments", Some(comment), _) => (Kind::Comment, key("comment", &[comment])),
            ("live_comments", Some(comment), _) => (Kind::LiveComment, key("comment", &[comment])),
            ("story_insights", ..) => (Kind::StoryInsights, hashed(Kind::StoryInsights, &json)),
            _ => return self.unknown_json(place, text),
        };
        let Some(item) = self.push(place, kind, key, text.to_owned()) else { return };
        // A comment by the brand itself is nobody's, as an echo is.
        let from = json.id_at(&["value", "from", "id"]);
        let is_own =
            json.at(&["value", "from", "self_ig_scoped_id"]).is_some() || from == Some(&place.account);
        if !is_own {
            item.person = from.map(str::to_owned);
            item.handle = json.text_at(&["value", "from", "username"]).and_then(handles::normalised);
        }
    }

    /// Permissions that were granted or revoked. The same may happen twice, so that the time counts.
    fn permissions(&mut self, place: &Place, text: &str) {
        let Some(json @ Json::Object(_)) = Json::read(text) else {
            return self.unknown_json(place, text);
        };
        let time = place.time.map_or(0, |time| time.0);
        let key = key(Kind::Permissions.as_str(), &[&hash(&format!("{time}:{}", json.canonical()))]);
        self.push(place, Kind::Permissions, key, text.to_owned());
    }

    /// `{"sender": …, "recipient": …, "timestamp": …, "message": {…}}` and the like.
    fn messaging(&mut self, place: &Place, text: &str) {
        let Some(entry @ Json::Object(_)) = Json::read(text).filter(|_| place.subject == Subject::Instagram)
        else {
            return self.unknown_json(place, text);
        };
        let occurred_at = entry.time_at(&["timestamp"]).or(place.time);
        let sender = entry.id_at(&["sender", "id"]);
        if place.is_test(&[sender, entry.id_at(&["recipient", "id"])]) {
            let kind = Kind::DashboardTest;
            if let Some(item) = self.push(place, kind, hashed(kind, &entry), text.to_owned()) {
                item.occurred_at = occurred_at;
            }
            return;
        }
        for sorted in messaging::sort(&place.account, &entry) {
            if sorted.kind == Kind::Unknown {
                self.unknown_json(place, text);
                continue;
            }
            let payload = sorted.payload.unwrap_or_else(|| text.to_owned());
            if let Some(item) = self.push(place, sorted.kind, sorted.key, payload) {
                item.occurred_at = occurred_at;
                item.person = sender.filter(|_| sorted.is_inbound).map(str::to_owned);
            }
        }
    }
}

/// `text` as JSON, its beginning if it is long.
fn cut(text: &str) -> String {
    serde_json::Value::from(&text[..text.floor_char_boundary(UNKNOWN_BYTES_MAX)]).to_string()
}
