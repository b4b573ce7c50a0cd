//! What `TikTok` calls us with: one thing a call, whose content is JSON in a text.
//!
//! The developer platform tells that a member has withdrawn; API for Business tells messages, comments and mentions of the brand's account.
//! Names of events are not documented for all of them, so what a mention is, its content says.

use entity::id::Timestamp;
use entity::kinds::Platform;
use serde_json::{Value, json};

use super::words::{self, digest, field, instant, thing};
use crate::inbox::{KEY_MAX, NewItem};
use crate::profiles::handles;

/// Things of one call. `TikTok` sends one; a list of a few is taken as well.
pub const ITEMS_MAX: usize = 100;
/// Bytes of a call's body.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Characters of an event's name that are kept.
const EVENT_MAX: usize = 100;

/// Which of `TikTok`'s platforms calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// The developer platform, about the app's users.
    Developer,
    /// API for Business, about the brand's account.
    Business,
}

impl Entrance {
    /// As raw deliveries name it.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Developer => "tiktok/webhook",
            Self::Business => "tiktok/business-webhook",
        }
    }
}

/// What kinds of things there are, as items name them.
pub mod kinds {
    /// A direct message to the brand.
    pub const MESSAGE: &str = "message";
    /// One from a place where `TikTok` does not say who wrote what.
    pub const MESSAGE_EU: &str = "message_eu";
    /// A message that the brand sent.
    pub const MESSAGE_ECHO: &str = "message_echo";
    /// The person has read a message.
    pub const MESSAGE_READ: &str = "message_read";
    /// A comment on the brand's videos, or what became of one.
    pub const COMMENT: &str = "comment";
    /// A video or comment that mentions the brand, by its id only.
    pub const BRAND_MENTION: &str = "brand_mention";
    /// A member has taken back what the login allowed.
    pub const AUTHORIZATION_REMOVED: &str = "authorization_removed";
    /// News of the app's own uploads and downloads.
    pub const NOTICE: &str = "notice";
    /// Anything else.
    pub const UNKNOWN: &str = "unknown";
}

/// The things in `body`, which was signed; none if it cannot be read.
#[must_use]
pub fn items(entrance: Entrance, body: &[u8]) -> Vec<NewItem> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    match words::scrubbed(value) {
        Value::Array(calls) => calls.iter().take(ITEMS_MAX).filter_map(|call| item(entrance, call)).collect(),
        call => item(entrance, &call).into_iter().collect(),
    }
}

fn item(entrance: Entrance, call: &Value) -> Option<NewItem> {
    if !call.is_object() {
        return None;
    }
    let event = words::text(&call["event"], EVENT_MAX).unwrap_or_default();
    let user = words::id(&call["user_openid"]);
    let content = content(&call["content"]);
    let sent_at = instant(&call["create_time"]);
    let kind = kind(entrance, &event, &content);
    let (account, person, handle, occurred_at) = match entrance {
        Entrance::Developer => (words::id(&call["client_key"]), user.clone(), None, sent_at),
        Entrance::Business => {
            // The one that comments have as well comes first, so that who wrote both is one person.
            let person = words::id(&content["unique_identifier"])
                .or_else(|| words::id(field(&content["from_user"], &["id"])));
            let handle = content["from"].as_str().and_then(handles::normalised);
            let said_at = instant(&content["timestamp"]).or(sent_at);
            (user.clone(), person, handle, said_at)
        }
    };
    let payload = json!({
        "event": event, "client_key": words::id(&call["client_key"]), "user_openid": user,
        "create_time": sent_at, "content": content,
    });
    Some(NewItem {
        platform: Platform::Tiktok,
        account: account.unwrap_or_default(),
        key: key(kind, call, &event, user.as_deref().unwrap_or_default(), sent_at, &content),
        kind: kind.to_owned(),
        person: person.filter(|_| !matches!(kind, kinds::MESSAGE_ECHO | kinds::UNKNOWN)),
        handle: handle.filter(|_| kind == kinds::MESSAGE),
        site: None,
        occurred_at,
        payload: payload.to_string(),
    })
}

/// The content: JSON in a text, or, should that ever change, as it is. What cannot be read stays a text.
fn content(value: &Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(text).map_or_else(|_| value.clone(), words::scrubbed),
        other => other.clone(),
    }
}

fn kind(entrance: Entrance, event: &str, content: &Value) -> &'static str {
    match (entrance, event) {
        (Entrance::Developer, "authorization.removed") => kinds::AUTHORIZATION_REMOVED,
        (
            Entrance::Developer,
            "video.upload.failed" | "video.publish.completed" | "portability.download.ready",
        ) => kinds::NOTICE,
        (Entrance::Developer, _) => kinds::UNKNOWN,
        (Entrance::Business, "im_receive_msg") => kinds::MESSAGE,
        (Entrance::Business, "im_receive_msg_eu") => kinds::MESSAGE_EU,
        (Entrance::Business, "im_send_msg") => kinds::MESSAGE_ECHO,
        (Entrance::Business, "im_mark_read_msg") => kinds::MESSAGE_READ,
        (Entrance::Business, event) => {
            let has = |name: &str| thing(&content[name]).is_some();
            if event == "comment.update" || content.get("comment_action").is_some() {
                kinds::COMMENT
            } else if (has("video_id") || has("comment_id"))
                && !has("message_id")
                && !event.starts_with("post.")
            {
                kinds::BRAND_MENTION
            } else {
                kinds::UNKNOWN
            }
        }
    }
}

/// What makes it the same thing when it is sent again.
fn key(
    kind: &str,
    call: &Value,
    event: &str,
    user: &str,
    sent_at: Option<Timestamp>,
    content: &Value,
) -> String {
    let id = |name: &str| thing(&content[name]);
    let named = match kind {
        kinds::MESSAGE | kinds::MESSAGE_EU | kinds::MESSAGE_ECHO | kinds::MESSAGE_READ => id("message_id"),
        kinds::COMMENT => {
            let action = words::text(&content["comment_action"], EVENT_MAX).unwrap_or_default();
            id("comment_id").map(|comment| format!("{comment}:{action}"))
        }
        kinds::BRAND_MENTION => {
            id("comment_id").map(|comment| format!("comment:{comment}")).or_else(|| id("video_id"))
        }
        _ => None,
    };
    named.map(|id| format!("{kind}:{id}")).filter(|key| key.len() <= KEY_MAX).unwrap_or_else(|| {
        // A member may come, go, come back and go again for the same reason: the time tells the two apart.
        let at = sent_at.map(|at| at.0.to_string()).unwrap_or_default();
        format!("{kind}:{}", digest(&[event, user, &call["content"].to_string(), &at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(entrance: Entrance, body: &str) -> String {
        items(entrance, body.as_bytes()).remove(0).key
    }

    #[test]
    fn who_leaves_twice_leaves_twice() {
        let removed = |at: i64| {
            let body = format!(
                r#"{{"event":"authorization.removed","create_time":{at},"user_openid":"x","content":"{{\"reason\":1}}"}}"#
            );
            key_of(Entrance::Developer, &body)
        };
        assert_eq!(removed(5), removed(5));
        assert_ne!(removed(5), removed(6));
    }

    #[test]
    fn nul_goes_no_further() {
        let body = r#"{"event":"im_receive_msg","user_openid":"b\u0000","content":"{\"message_id\":\"m\\u0000\",\"from\":\"mia\\u0000\",\"text\":{\"body\":\"a\\u0000b\"}}"}"#;
        let item = items(Entrance::Business, body.as_bytes()).remove(0);
        assert_eq!((item.account.as_str(), item.key.as_str()), ("b", "message:m"));
        assert_eq!(item.handle.as_deref(), Some("mia"));
        assert!(item.payload.contains(r#""body":"ab""#), "{}", item.payload);
    }
}
