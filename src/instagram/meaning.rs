//! What the things in Instagram's webhooks are, before anything is looked up.

use entity::id::Timestamp;
use entity::item;
use serde_json::Value;

use super::answers::{Media, handle, id, text, url};

/// What a thing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing comes of it; why, for people.
    Nothing(&'static str),
    /// Somebody wrote, tapped a button, or came by a link.
    Contact(Contact),
    /// Somebody mentions the brand in a story.
    StoryMention(StoryMention),
    /// A post or reel mentions the brand in its text: its id.
    Caption(String),
    /// A comment elsewhere mentions the brand.
    CommentMention {
        /// Its id.
        comment: String,
        /// What it was written below.
        media: Option<String>,
    },
    /// Somebody commented on the brand's media.
    Comment(Commented),
    /// The brand is tagged on a medium.
    Tag(Media),
    /// A message was unsent, or says something else now.
    Changed {
        /// The key of the message.
        key: String,
        /// Whether it was unsent.
        is_unsent: bool,
    },
    /// A permission was given or taken.
    Permission {
        /// Its name.
        name: String,
        /// Whether it was taken.
        is_revoked: bool,
        /// The accounts that it is about.
        accounts: Vec<String>,
    },
    /// Meta has taken a measure against the brand; what it says of it.
    Policy(String),
}

/// Somebody who turned to the brand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Who, as the brand sees them.
    pub person: String,
    /// The message, if it is one.
    pub message: Option<Message>,
    /// Where a link code may be.
    pub code_texts: Vec<String>,
    /// Whether they wrote or tapped; who only came by a link has not turned to the brand themselves.
    pub is_written: bool,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// What it says; empty for pictures and the like.
    pub text: String,
    /// The brand's story that it answers.
    pub story: Option<String>,
}

/// A mention in a story, which comes as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryMention {
    /// Who, as the brand sees them.
    pub person: String,
    /// The message's id.
    pub message: String,
    /// The story's id.
    pub story: Option<String>,
    /// Where it is, until it expires.
    pub url: Option<String>,
}

/// A comment on the brand's media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commented {
    /// Its id.
    pub id: String,
    /// Who, as the brand sees them.
    pub person: Option<String>,
    /// Their handle, normalised.
    pub handle: Option<String>,
    /// What it says.
    pub text: String,
    /// What it was written below.
    pub media: Option<String>,
    /// What that is.
    pub media_type: Option<&'static str>,
}

/// What `item` is. Whatever its payload holds, this is an answer.
#[must_use]
pub fn read(item: &item::Model) -> Meaning {
    let payload: Value = serde_json::from_str(&item.payload).unwrap_or_default();
    // A change is `{"field", "value"}`; what is a message is its own value.
    let value = if payload["value"].is_object() { &payload["value"] } else { &payload };
    match item.kind.as_str() {
        "message" | "story_mention" => message(item, value),
        "postback" => postback(item, value),
        "referral" => referral(item, value),
        "message_edit" => edit(value),
        "message_unsend" => unsend(value),
        "mention_caption" => match id(&value["media_id"]) {
            Some(media) => Meaning::Caption(media),
            None => Meaning::Nothing("the mention names no post"),
        },
        "mention_comment" => match id(&value["comment_id"]) {
            Some(comment) => Meaning::CommentMention { comment, media: id(&value["media_id"]) },
            None => Meaning::Nothing("the mention names no comment"),
        },
        "comment" | "live_comment" => comment(item, value),
        "tag" => tag(value),
        "permissions" => permission(&payload),
        "policy_enforcement" => Meaning::Policy(policy(&value["policy_enforcement"])),
        kind => Meaning::Nothing(nothing(kind)),
    }
}

/// Why nothing comes of a kind.
fn nothing(kind: &str) -> &'static str {
    match kind {
        "message_echo" => "the brand sent it itself",
        "reaction" => "reactions are not tracked",
        "seen" => "that a message was seen is not tracked",
        "optin" => "opt-ins are not tracked",
        "handover" => "which app has a conversation is not tracked",
        "response_feedback" => "feedback on answers is not tracked",
        "story_insights" => "figures of a story are about nobody",
        "dashboard_test" => "a test from Meta's dashboard",
        _ => "it is not known what this is",
    }
}

fn sender(item: &item::Model, value: &Value) -> Result<String, &'static str> {
    let person = item.person.clone().or_else(|| id(&value["sender"]["id"]));
    match person {
        None => Err("it does not say who sent it"),
        Some(person) if person == item.account => Err("the brand sent it itself"),
        Some(person) => Ok(person),
    }
}

fn message(item: &item::Model, value: &Value) -> Meaning {
    let message = &value["message"];
    if message["is_echo"] == true || message["is_self"] == true {
        return Meaning::Nothing("the brand sent it itself");
    }
    if message["is_deleted"] == true {
        return unsend(value);
    }
    let person = match sender(item, value) {
        Ok(person) => person,
        Err(reason) => return Meaning::Nothing(reason),
    };
    let Some(mid) = id(&message["mid"]) else { return Meaning::Nothing("the message has no id") };
    let attachments = message["attachments"].as_array().into_iter().flatten();
    if let Some(mention) = attachments.into_iter().find(|one| one["type"] == "story_mention") {
        let url = url(&mention["payload"]["url"]);
        let story = url.as_deref().and_then(asset_id);
        return Meaning::StoryMention(StoryMention { person, message: mid, story, url });
    }
    let said = text(&message["text"]).unwrap_or_default();
    let mut code_texts = vec![said.clone()];
    code_texts.extend(text(&message["quick_reply"]["payload"]));
    code_texts.extend(text(&message["referral"]["ref"]));
    code_texts.extend(text(&value["referral"]["ref"]));
    code_texts.retain(|text| !text.is_empty());
    let story = id(&message["reply_to"]["story"]["id"]);
    let message = Some(Message { id: mid, text: said, story });
    Meaning::Contact(Contact { person, message, code_texts, is_written: true })
}

fn postback(item: &item::Model, value: &Value) -> Meaning {
    let postback = &value["postback"];
    let code_texts =
        [&postback["payload"], &postback["referral"]["ref"]].into_iter().filter_map(text).collect();
    match sender(item, value) {
        Ok(person) => Meaning::Contact(Contact { person, message: None, code_texts, is_written: true }),
        Err(reason) => Meaning::Nothing(reason),
    }
}

fn referral(item: &item::Model, value: &Value) -> Meaning {
    let referral = &value["referral"];
    if referral["source"] == "STORY_MENTION" {
        return Meaning::Nothing("a hint of a mention in a story, which comes as a message of its own");
    }
    let Some(code) = text(&referral["ref"]).filter(|code| !code.is_empty()) else {
        return Meaning::Nothing("the link that was followed says nothing");
    };
    match sender(item, value) {
        Ok(person) => {
            Meaning::Contact(Contact { person, message: None, code_texts: vec![code], is_written: false })
        }
        Err(reason) => Meaning::Nothing(reason),
    }
}

fn edit(value: &Value) -> Meaning {
    let edit = &value["message_edit"];
    match (id(&edit["mid"]), text(&edit["text"])) {
        (Some(mid), Some(_)) => Meaning::Changed { key: message_key(&mid), is_unsent: false },
        _ => Meaning::Nothing("the edit does not say what it changes"),
    }
}

fn unsend(value: &Value) -> Meaning {
    match id(&value["message"]["mid"]) {
        Some(mid) => Meaning::Changed { key: message_key(&mid), is_unsent: true },
        None => Meaning::Nothing("it does not say which message was unsent"),
    }
}

/// The key of a message's own item.
fn message_key(mid: &str) -> String {
    format!("message:{mid}")
}

fn comment(item: &item::Model, value: &Value) -> Meaning {
    let from = &value["from"];
    let person = item.person.clone().or_else(|| id(&from["id"]));
    let is_own = person.as_deref() == Some(item.account.as_str())
        || !matches!(from["self_ig_scoped_id"], Value::Null | Value::Bool(false));
    if is_own {
        return Meaning::Nothing("the brand commented itself");
    }
    // What live deliveries call `id` some samples of the documentation call `comment_id`.
    let Some(comment) = id(&value["id"]).or_else(|| id(&value["comment_id"])) else {
        return Meaning::Nothing("the comment has no id");
    };
    let handle = handle(&from["username"]).or_else(|| item.handle.clone());
    if person.is_none() && handle.is_none() {
        return Meaning::Nothing("it does not say who commented");
    }
    let media = &value["media"];
    Meaning::Comment(Commented {
        id: comment,
        person,
        handle,
        text: text(&value["text"]).unwrap_or_default(),
        media: id(&media["id"]),
        media_type: media["media_product_type"].as_str().and_then(product),
    })
}

/// What White Label Loyalty calls a product of Instagram's.
fn product(product: &str) -> Option<&'static str> {
    Some(match product {
        "FEED" => "post",
        "REELS" => "reel",
        "STORY" => "story",
        "AD" => "ad",
        "LIVE" => "live",
        _ => return None,
    })
}

fn tag(value: &Value) -> Meaning {
    let media = Media::read(value);
    if media.id.is_none() { Meaning::Nothing("the tagged media has no id") } else { Meaning::Tag(media) }
}

fn permission(payload: &Value) -> Meaning {
    let value = &payload["value"];
    let accounts = value["target_ids"].as_array().into_iter().flatten().filter_map(id).collect();
    let Some(name) = id(&payload["field"]) else {
        return Meaning::Nothing("it does not say which permission changed");
    };
    Meaning::Permission { name, is_revoked: value["verb"] != "granted", accounts }
}

/// Characters of Meta's own words that are shown.
const POLICY_MAX: usize = 200;

fn policy(policy: &Value) -> String {
    let word = |name: &str| {
        let word = policy[name].as_str().unwrap_or_default();
        word.chars().filter(|c| !c.is_control()).take(POLICY_MAX).collect::<String>()
    };
    let (action, reason) = (word("action"), word("reason"));
    let action = if action.is_empty() { "a measure".to_owned() } else { action };
    format!("Meta has taken a measure against the account ({action}): {reason}")
        .trim_end_matches([':', ' '])
        .to_owned()
}

/// The id of the thing that a URL of Instagram's messages shows.
fn asset_id(address: &str) -> Option<String> {
    let address = url::Url::parse(address).ok()?;
    let asset = address.query_pairs().find(|(name, _)| name == "asset_id")?.1.into_owned();
    id(&Value::String(asset))
}

/// When `item` happened; when it came, if it does not say.
#[must_use]
pub fn occurred_at(item: &item::Model) -> Timestamp {
    item.occurred_at.unwrap_or(item.received_at)
}
