//! Entries of `messaging`, and of the fields that send the same as a change: messages and what happens to them.

use std::collections::BTreeMap;

use url::Url;

use super::json::Json;
use super::keys::{hash, hashed, key, message_key};
use super::kinds::Kind;

/// The fields whose changes are messaging entries.
pub(super) const FIELDS: [&str; 12] = [
    "messages",
    "message_echoes",
    "message_edit",
    "message_reactions",
    "messaging_handover",
    "messaging_optins",
    "messaging_policy_enforcement",
    "messaging_postbacks",
    "messaging_referral",
    "messaging_seen",
    "response_feedback",
    "standby",
];
/// What a conversation's passing between apps is called.
const HANDOVERS: [&str; 4] =
    ["pass_thread_control", "take_thread_control", "request_thread_control", "app_roles"];
/// Story mentions in one message; each becomes a thing with the whole entry but for the other mentions.
const STORY_MENTIONS_MAX: usize = 32;
/// What a story mention's attachment is called.
const STORY_MENTION: &str = "story_mention";

/// What was understood of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sorted {
    pub(super) kind: Kind,
    pub(super) key: String,
    /// Whether the sender did it, and not the brand.
    pub(super) is_inbound: bool,
    /// The entry as it is to be stored, if not as it came.
    pub(super) payload: Option<String>,
}

impl Sorted {
    fn inbound(kind: Kind, key: String) -> Self {
        Self { kind, key, is_inbound: true, payload: None }
    }
}

/// Sorts an entry about the brand's `account`.
pub(super) fn sort(account: &str, entry: &Json) -> Vec<Sorted> {
    let is = |name: &str| matches!(entry.at(&[name]), Some(Json::Object(_)));
    if is("message") {
        return message(account, entry);
    }
    let by_hash = |kind: Kind| Sorted::inbound(kind, hashed(kind, entry));
    let sorted = if is("message_edit") {
        edit(entry)
    } else if is("reaction") {
        reaction(entry)
    } else if is("read") {
        match entry.word_at(&["read", "mid"]) {
            Some(mid) => Sorted::inbound(Kind::Seen, key("seen", &[mid, sender(entry)])),
            None => by_hash(Kind::Seen),
        }
    } else if is("postback") {
        match entry.word_at(&["postback", "mid"]) {
            Some(mid) => Sorted::inbound(Kind::Postback, key("postback", &[mid])),
            None => by_hash(Kind::Postback),
        }
    } else {
        by_hash(if is("referral") {
            Kind::Referral
        } else if is("optin") {
            Kind::Optin
        } else if is("policy_enforcement") || is("policy-enforcement") {
            Kind::PolicyEnforcement
        } else if is("response_feedback") {
            Kind::ResponseFeedback
        } else if HANDOVERS.into_iter().any(is) {
            Kind::Handover
        } else {
            Kind::Unknown
        })
    };
    let is_inbound = entry.id_at(&["sender", "id"]) != Some(account);
    vec![Sorted { is_inbound, ..sorted }]
}

fn sender(entry: &Json) -> &str {
    entry.id_at(&["sender", "id"]).unwrap_or_default()
}

/// A message, its echo or its end.
fn message(account: &str, entry: &Json) -> Vec<Sorted> {
    let is_marked = |name| entry.is_true(&["message", name]);
    // What comes from the brand is no member's message, whether or not it is marked as an echo.
    let is_own =
        is_marked("is_echo") || is_marked("is_self") || (sender(entry) == account && !account.is_empty());
    let mid = entry.word_at(&["message", "mid"]);
    let by_mid = |kind: Kind, name: &str| match mid {
        Some(mid) => key(name, &[mid]),
        None => hashed(kind, entry),
    };
    let one = |kind, key| vec![Sorted { kind, key, is_inbound: !is_own, payload: None }];
    if is_marked("is_deleted") {
        return one(Kind::MessageUnsend, by_mid(Kind::MessageUnsend, "unsend"));
    }
    if is_own {
        return one(Kind::MessageEcho, by_mid(Kind::MessageEcho, "echo"));
    }
    let mentions = story_mentions(entry);
    match (mentions.is_empty(), mid) {
        (false, _) => mentions,
        (true, Some(mid)) => one(Kind::Message, message_key(mid)),
        (true, None) => one(Kind::Message, hashed(Kind::Message, entry)),
    }
}

/// A thing for each story mention of a message.
fn story_mentions(entry: &Json) -> Vec<Sorted> {
    let Some(Json::List(attachments)) = entry.at(&["message", "attachments"]) else { return Vec::new() };
    let is_mention = |attachment: &&Json| attachment.text_at(&["type"]) == Some(STORY_MENTION);
    let mentions: Vec<_> = attachments.iter().filter(is_mention).take(STORY_MENTIONS_MAX).collect();
    let mut nameless = 0;
    let mut sorted = Vec::new();
    for mention in &mentions {
        let key = match asset(mention) {
            Some(asset) => key(STORY_MENTION, &[&asset]),
            None => {
                nameless += 1;
                let mid = entry.word_at(&["message", "mid"]);
                match (mid, nameless) {
                    (Some(mid), 1) => key(STORY_MENTION, &[mid]),
                    (Some(mid), number) => key(STORY_MENTION, &[mid, &number.to_string()]),
                    (None, _) => hashed(Kind::StoryMention, &with_only(entry, mention)),
                }
            }
        };
        let payload = (mentions.len() > 1).then(|| with_only(entry, mention).canonical());
        sorted.push(Sorted { payload, ..Sorted::inbound(Kind::StoryMention, key) });
    }
    sorted
}

/// Which story a mention is in: the URL says it, and nothing else does.
fn asset(mention: &Json) -> Option<String> {
    let url = Url::parse(mention.text_at(&["payload", "url"])?).ok()?;
    let (_, asset) = url.query_pairs().find(|(name, _)| name == "asset_id")?;
    let is_number = !asset.is_empty() && asset.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| asset.into_owned())
}

/// The entry with `mention` as its message's only attachment.
fn with_only(entry: &Json, mention: &Json) -> Json {
    let put = |object: &Json, name: &str, value: Json| {
        let mut fields = match object {
            Json::Object(fields) => fields.clone(),
            _ => BTreeMap::new(),
        };
        fields.insert(name.to_owned(), value);
        Json::Object(fields)
    };
    let message = entry.at(&["message"]).unwrap_or(&Json::Null);
    put(entry, "message", put(message, "attachments", Json::List(vec![mention.clone()])))
}

fn edit(entry: &Json) -> Sorted {
    let at = |name| entry.word_at(&["message_edit", name]);
    let Some(mid) = at("mid") else {
        return Sorted::inbound(Kind::MessageEdit, hashed(Kind::MessageEdit, entry));
    };
    let version = at("num_edit").map_or_else(|| hash(at("text").unwrap_or_default()), str::to_owned);
    Sorted::inbound(Kind::MessageEdit, key("edit", &[mid, &version]))
}

fn reaction(entry: &Json) -> Sorted {
    let at = |name| entry.word_at(&["reaction", name]);
    let Some(mid) = at("mid") else {
        return Sorted::inbound(Kind::Reaction, hashed(Kind::Reaction, entry));
    };
    let parts = [
        mid,
        sender(entry),
        at("action").unwrap_or_default(),
        at("reaction").unwrap_or_default(),
        entry.word_at(&["timestamp"]).unwrap_or_default(),
    ];
    Sorted::inbound(Kind::Reaction, key("reaction", &parts))
}
