//! What `TikTok`'s words mean: for each thing its fate.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;

use entity::id::SiteId;
use entity::kinds::{ActivityType, ConnectionLogin, MentionType, Platform};
use entity::{connection, item};
use futures_util::future::join_all;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _};
use serde_json::{Map, Value};

use super::adapters::business::Business;
use super::calls::CallError;
use super::post::{self, Author, Post};
use super::webhook::kinds;
use super::{Tiktok, logins, words};
use crate::activities::{Conditions, Fate, NewActivity, Person, Sighting, Understood};
use crate::profiles::attributes::Facts;
use crate::profiles::handles;
use crate::sources::Understand;

/// Kind of a video that mentions the brand, from the list of mentions.
pub const MENTION: &str = "mention";
/// Kind of the proof that a member has logged in.
pub const LOGIN: &str = "login";
/// What posts say they are, in the word of White Label Loyalty.
const MEDIA_TYPE: &str = "tiktok video";
/// Lookups under way at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Lookups of one batch of things: together they take less than its lease.
const LOOKUPS_MAX: usize = 32;
/// After how long a lookup is tried again, in milliseconds.
const AGAIN_MS: i64 = 5 * 60_000;
/// How long `TikTok` answers what it has told in a webhook, in milliseconds: 48 hours.
const LOOKUP_UNTIL_MS: i64 = 48 * 3_600_000;
/// Characters of a message or comment that are kept.
const TEXT_MAX: usize = 10_000;

/// What is known about the things of a batch.
struct Known {
    connections: HashMap<String, connection::Model>,
}

impl Understand for Tiktok {
    fn platform(&self) -> Platform {
        Platform::Tiktok
    }

    fn is_clear(&self, item: &item::Model) -> bool {
        ![kinds::BRAND_MENTION, kinds::AUTHORIZATION_REMOVED].contains(&item.kind.as_str())
    }

    fn understand<'a>(
        &'a self,
        items: Vec<item::Model>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Understood>, DbErr>> + Send + 'a>> {
        Box::pin(self.fates(items))
    }
}

impl Tiktok {
    async fn fates(&self, items: Vec<item::Model>) -> Result<Vec<Understood>, DbErr> {
        let known = self.known(&items).await?;
        let (mentions, rest): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.kind == kinds::BRAND_MENTION);
        let mut understood = Vec::with_capacity(mentions.len() + rest.len());
        for item in rest {
            let fate = if item.kind == kinds::AUTHORIZATION_REMOVED {
                self.unlink(&item).await?
            } else {
                known.fate(&item)
            };
            understood.push((item, fate));
        }
        // What is over the limit is taken again when its lease ends.
        for some in mentions.chunks(LOOKUPS_AT_ONCE).take(LOOKUPS_MAX / LOOKUPS_AT_ONCE) {
            let fates = some.iter().map(|item| self.look_up(&known, item));
            understood.extend(some.iter().cloned().zip(join_all(fates).await));
        }
        Ok(understood)
    }

    async fn known(&self, items: &[item::Model]) -> Result<Known, DbErr> {
        let accounts: HashSet<&str> =
            items.iter().map(|item| item.account.as_str()).filter(|account| !account.is_empty()).collect();
        Ok(Known { connections: self.connections(accounts).await? })
    }

    async fn connections(
        &self,
        accounts: HashSet<&str>,
    ) -> Result<HashMap<String, connection::Model>, DbErr> {
        if accounts.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = connection::Entity::find()
            .filter(connection::Column::Platform.eq(Platform::Tiktok))
            .filter(connection::Column::Login.eq(ConnectionLogin::TiktokBusiness))
            .filter(connection::Column::ExternalId.is_in(accounts))
            .all(self.db.read())
            .await?;
        Ok(rows.into_iter().map(|row| (row.external_id.clone(), row)).collect())
    }

    /// A member has taken back what the login allowed.
    async fn unlink(&self, item: &item::Model) -> Result<Fate, DbErr> {
        let (Some(person), Some(at)) = (&item.person, item.occurred_at) else {
            return Ok(ignored(item.site_id, "it does not say whose login it is about, or when it ended"));
        };
        let tx = self.db.write().await?;
        let sites = logins::end(&tx, person, at).await?;
        tx.commit().await?;
        let reason =
            if sites.is_empty() { "nobody is logged in with it" } else { "the member's login has ended" };
        Ok(ignored(sites.first().copied(), reason))
    }

    /// What a mention is of which only the id was told.
    async fn look_up(&self, known: &Known, item: &item::Model) -> Fate {
        let Some(connection) = known.connections.get(&item.account) else { return not_connected() };
        let site = connection.site_id;
        let content = content(item);
        let Some(business) = Business::open(self, connection) else {
            return ignored(
                Some(site),
                "the connection of the brand's account has no token; connect it again",
            );
        };
        let found = match words::thing(&content["comment_id"]) {
            Some(comment) => {
                business.comment(&comment).await.map(|value| comment_mention(item, site, &comment, &value))
            }
            None => {
                let video = words::thing(&content["video_id"]).unwrap_or_default();
                business.video(&video).await.map(|value| match Post::read(&value) {
                    Ok(post) => mention(item, site, &post),
                    Err(reason) => ignored(Some(site), &format!("what TikTok says of the video {reason}")),
                })
            }
        };
        found.unwrap_or_else(|error| {
            let is_over = self.db.now() > item.received_at.plus_ms(LOOKUP_UNTIL_MS);
            match error {
                CallError::Limited | CallError::Unavailable(_) | CallError::Dead(_) if !is_over => {
                    Fate::Later { site: Some(site), reason: error.to_string(), after_ms: AGAIN_MS }
                }
                error => ignored(Some(site), &error.to_string()),
            }
        })
    }
}

impl Known {
    fn fate(&self, item: &item::Model) -> Fate {
        match item.kind.as_str() {
            post::KIND => post(item),
            MENTION => match (item.site_id, stored_post(item)) {
                (Some(site), Some(post)) => mention(item, site, &post),
                (site, _) => ignored(site, "it cannot be read"),
            },
            LOGIN => login(item),
            kinds::NOTICE => ignored(None, "news of the app's own uploads and downloads earn nothing"),
            kinds::UNKNOWN => ignored(None, "nobody here knows what this is"),
            kind => match self.connections.get(&item.account) {
                None => not_connected(),
                Some(connection) => of_account(kind, item, connection.site_id),
            },
        }
    }
}

fn post(item: &item::Model) -> Fate {
    let (Some(site), Some(post)) = (item.site_id, stored_post(item)) else {
        return ignored(item.site_id, "it cannot be read");
    };
    if let Some(reason) = post.is_too_old(item.received_at) {
        return ignored(Some(site), reason);
    }
    let sighting = sighting_of(item, site, &post, "TIKTOK_POST", MentionType::Hashtag);
    let conditions =
        Conditions { hashtags: Some(post.all_hashtags()), claimed_until: Some(post.claimed_until()) };
    Fate::Seen(Box::new(Sighting { conditions, ..sighting }))
}

fn ignored(site: Option<SiteId>, reason: &str) -> Fate {
    Fate::Ignored { site, reason: reason.to_owned() }
}

fn not_connected() -> Fate {
    ignored(None, "no site has connected this account")
}

fn stored_post(item: &item::Model) -> Option<Post> {
    serde_json::from_str(&item.payload).ok()
}

fn content(item: &item::Model) -> Value {
    let mut payload: Value = serde_json::from_str(&item.payload).unwrap_or_default();
    payload.get_mut("content").map(Value::take).unwrap_or_default()
}

/// What happened on the brand's account.
fn of_account(kind: &str, item: &item::Model, site: SiteId) -> Fate {
    match kind {
        kinds::MESSAGE => message(item, site),
        kinds::COMMENT => comment(item, site),
        kinds::MESSAGE_EU => ignored(
            Some(site),
            "TikTok does not say who wrote messages in the EEA, Switzerland and the United Kingdom",
        ),
        kinds::MESSAGE_ECHO => ignored(Some(site), "echo: the brand wrote it"),
        kinds::MESSAGE_READ => ignored(Some(site), "read receipts earn nothing"),
        _ => ignored(Some(site), "nobody here knows what this is"),
    }
}

fn seen(
    item: &item::Model,
    site: SiteId,
    source: &'static str,
    person: Person,
    activity: NewActivity,
) -> Sighting {
    Sighting {
        site,
        source,
        person,
        activity: Some(activity),
        code_texts: Vec::new(),
        is_message: false,
        occurred_at: item.occurred_at.unwrap_or(item.received_at),
        conditions: Conditions::default(),
    }
}

fn somebody(item: &item::Model) -> Person {
    Person {
        platform: Platform::Tiktok,
        account: item.account.clone(),
        external_id: item.person.clone(),
        handle: item.handle.clone(),
        is_signed_in: false,
        facts: Facts::default(),
        told_at: item.occurred_at.unwrap_or(item.received_at),
    }
}

fn properties<const LENGTH: usize>(fields: [(&str, Option<Value>); LENGTH]) -> Map<String, Value> {
    let known = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.chain([("platform".to_owned(), "tiktok".into())]).collect()
}

fn message(item: &item::Model, site: SiteId) -> Fate {
    let content = content(item);
    let role = content["from_user"]["role"].as_str().unwrap_or_default();
    if role.eq_ignore_ascii_case("business_account") {
        return ignored(Some(site), "echo: the brand wrote it");
    }
    let Some(external_id) = words::thing(&content["message_id"]) else {
        return ignored(Some(site), "the message has no id");
    };
    let text = words::text(&content["text"]["body"], TEXT_MAX).unwrap_or_default();
    let mut person = somebody(item);
    // Absent or null is unknown, never no.
    person.facts.follows_brand = content["is_follower"].as_bool();
    let activity = NewActivity {
        kind: ActivityType::DmYou,
        external_id,
        mention_type: None,
        properties: properties([("message", Some(text.as_str().into()))]),
    };
    let mut sighting = seen(item, site, "TIKTOK_MESSAGE", person, activity);
    sighting.code_texts = vec![text];
    sighting.is_message = true;
    Fate::Seen(Box::new(sighting))
}

fn comment(item: &item::Model, site: SiteId) -> Fate {
    let content = content(item);
    match content["comment_action"].as_str() {
        Some("insert") => {}
        Some("delete") => return ignored(Some(site), "comment deleted"),
        action => {
            let action: String = action.unwrap_or("unknown").chars().take(40).collect();
            return ignored(Some(site), &format!("comment {}", action.replace('_', " ")));
        }
    }
    let Some(external_id) = words::thing(&content["comment_id"]) else {
        return ignored(Some(site), "the comment has no id");
    };
    let text = words::text(&content["text"], TEXT_MAX).unwrap_or_default();
    let activity = NewActivity {
        kind: ActivityType::CommentedYou,
        external_id,
        mention_type: None,
        properties: properties([
            ("text", Some(text.into())),
            ("video_id", words::thing(&content["video_id"]).map(Value::from)),
        ]),
    };
    Fate::Seen(Box::new(seen(item, site, "TIKTOK_COMMENT", somebody(item), activity)))
}

/// A comment elsewhere that mentions the brand, as API for Business tells it.
fn comment_mention(item: &item::Model, site: SiteId, comment: &str, value: &Value) -> Fate {
    let text = words::text(&value["comment_text"], TEXT_MAX).unwrap_or_default();
    let activity = NewActivity {
        kind: ActivityType::CommentMentionedYou,
        external_id: comment.to_owned(),
        mention_type: None,
        properties: properties([
            ("text", Some(text.into())),
            ("video_id", words::thing(&value["item_id"]).map(Value::from)),
        ]),
    };
    let mut person = somebody(item);
    person.handle = value["commenter_handle_name"].as_str().and_then(handles::normalised);
    let mut sighting = seen(item, site, "TIKTOK_MENTION", person, activity);
    sighting.occurred_at = words::instant(&value["comment_create_time"]).unwrap_or(sighting.occurred_at);
    Fate::Seen(Box::new(sighting))
}

fn mention(item: &item::Model, site: SiteId, post: &Post) -> Fate {
    Fate::Seen(Box::new(sighting_of(item, site, post, "TIKTOK_MENTION", MentionType::Mention)))
}

fn sighting_of(
    item: &item::Model,
    site: SiteId,
    post: &Post,
    source: &'static str,
    mention_type: MentionType,
) -> Sighting {
    let activity = NewActivity {
        kind: ActivityType::MentionedYou,
        external_id: post.external_id.clone(),
        mention_type: Some(mention_type),
        properties: properties([
            ("caption", Some(post.caption.as_str().into())),
            ("like_count", post.like_count.map(Value::from)),
            ("comments_count", post.comment_count.map(Value::from)),
            ("mention_type", Some(mention_type.as_str().into())),
            ("media_type", Some(MEDIA_TYPE.into())),
        ]),
    };
    let person = Person {
        external_id: post.open_id.clone(),
        handle: Some(post.author_handle.clone()),
        is_signed_in: post.open_id.is_some(),
        facts: post.author.facts(),
        told_at: item.received_at,
        ..somebody(item)
    };
    let mut sighting = seen(item, site, source, person, activity);
    sighting.occurred_at = post.posted_at;
    sighting
}

/// Who logged in: nothing was done, but what `TikTok` says of them is news.
fn login(item: &item::Model) -> Fate {
    let Some(site) = item.site_id else { return ignored(None, "it cannot be read") };
    let payload: Value = serde_json::from_str(&item.payload).unwrap_or_default();
    let person =
        Person { is_signed_in: true, facts: Author::read(&payload["author"]).facts(), ..somebody(item) };
    Fate::Seen(Box::new(Sighting {
        site,
        source: "TIKTOK_LOGIN",
        person,
        activity: None,
        code_texts: Vec::new(),
        is_message: false,
        occurred_at: item.occurred_at.unwrap_or(item.received_at),
        conditions: Conditions::default(),
    }))
}
