//! What becomes of a thing, once everything that can be known of it is known.

use entity::id::{SiteId, Timestamp};
use entity::item;
use entity::kinds::{ActivityType, MentionType, Platform};
use serde_json::{Map, Value};

use super::answers::{Media, Profile, Story};
use super::graph_error::GraphError;
use super::lookups::{Answer, Answers, Question};
use super::meaning::{Commented, Contact, Meaning, StoryMention, occurred_at};
use crate::activities::{Conditions, Fate, NewActivity, Person, Sighting};
use crate::profiles::attributes::Facts;

/// The first pause before another try, in milliseconds; each further one is twice as long.
pub const RETRY_FIRST_MS: i64 = 30_000;
/// The longest pause, in milliseconds.
pub const RETRY_MAX_MS: i64 = 3_600_000;
/// When the tries end, counted from when the thing came, in milliseconds.
pub const GIVE_UP_MS: i64 = 36 * 3_600_000;
/// Tries that everything gets: a thing that had to wait for somebody is old before its first.
pub const TRIES_MIN: i32 = 12;
/// Tries after which a thing is recorded without what is public of its author.
pub const DISCOVERY_TRIES: i32 = 3;

/// Where things are told from.
const MESSAGE: &str = "INSTAGRAM_MESSAGE";
const POST: &str = "INSTAGRAM_POST";
const TAG: &str = "INSTAGRAM_TAG";
const COMMENT: &str = "INSTAGRAM_COMMENT";
const STORY: &str = "INSTAGRAM_STORY";

/// The brand that a thing is about, and what was looked up for it.
pub struct Known<'a> {
    /// Its site.
    pub site: SiteId,
    /// The handle of its account, normalised.
    pub username: Option<&'a str>,
    /// Why nothing could be looked up.
    pub refused: Option<&'a GraphError>,
    /// What was looked up.
    pub answers: &'a Answers,
    /// What time it is.
    pub now: Timestamp,
}

/// What is to be looked up for `meaning`, before anything is known.
#[must_use]
pub fn first_question(meaning: &Meaning) -> Option<Question> {
    match meaning {
        Meaning::Contact(contact) => Some(Question::Profile(contact.person.clone())),
        Meaning::StoryMention(mention) => Some(Question::Profile(mention.person.clone())),
        Meaning::Caption(media) => Some(Question::Media(media.clone())),
        Meaning::CommentMention { comment, .. } => Some(Question::Comment(comment.clone())),
        _ => None,
    }
}

/// What is to be looked up for `meaning` besides, once the first answers are known.
#[must_use]
pub fn second_question(meaning: &Meaning, answers: &Answers) -> Option<Question> {
    match meaning {
        Meaning::StoryMention(mention) if mention.story.is_none() => {
            Some(Question::Story(mention.message.clone()))
        }
        Meaning::Caption(media) => match answers.get(&Question::Media(media.clone())) {
            Some(Ok(Answer::Media(found))) => found.handle.clone().map(Question::Discovery),
            _ => None,
        },
        Meaning::Tag(media) => media.handle.clone().map(Question::Discovery),
        _ => None,
    }
}

/// What becomes of `item`.
#[must_use]
pub fn fate(item: &item::Model, meaning: &Meaning, known: &Known<'_>) -> Fate {
    match meaning {
        Meaning::Contact(contact) => of_contact(item, contact, known),
        Meaning::StoryMention(mention) => of_story_mention(item, mention, known),
        Meaning::Caption(id) => match known.answer(&Question::Media(id.clone())) {
            Ok(Answer::Media(media)) => of_post(item, id, &media, MentionType::Mention, known),
            Ok(_) => ignored(known.site, "the post could not be read"),
            Err(error) => of_error(item, known, &error),
        },
        Meaning::Tag(media) => {
            let id = media.id.clone().unwrap_or_default();
            of_post(item, &id, media, MentionType::Tag, known)
        }
        Meaning::CommentMention { comment, media } => {
            of_comment_mention(item, comment, media.as_deref(), known)
        }
        Meaning::Comment(comment) => of_comment(item, comment, known),
        Meaning::Changed { key, is_unsent } => {
            Fate::Changed { site: known.site, message_key: key.clone(), is_unsent: *is_unsent }
        }
        Meaning::Nothing(reason) => ignored(known.site, reason),
        Meaning::Permission { .. } => ignored(known.site, "a permission of the connection changed"),
        Meaning::Policy(text) => ignored(known.site, text),
    }
}

impl Known<'_> {
    fn answer(&self, question: &Question) -> Result<Answer, GraphError> {
        match (self.answers.get(question), self.refused) {
            (Some(answer), _) => answer.clone(),
            (None, Some(refused)) => Err(refused.clone()),
            (None, None) => Err(GraphError::Temporary("it was not asked".to_owned())),
        }
    }

    /// What is public of `handle`. Nobody's award depends on that it can be had; only if it may be had soon it is waited for.
    fn discovered(&self, item: &item::Model, handle: Option<&str>) -> Result<Facts, GraphError> {
        let Some(handle) = handle else { return Ok(Facts::default()) };
        match self.answers.get(&Question::Discovery(handle.to_owned())) {
            Some(Ok(Answer::Discovery(facts))) => Ok(facts.clone()),
            Some(Err(error)) if may_pass(error) && item.attempts <= DISCOVERY_TRIES => Err(error.clone()),
            _ => Ok(Facts::default()),
        }
    }
}

const fn may_pass(error: &GraphError) -> bool {
    matches!(error, GraphError::Temporary(_) | GraphError::Throttled(_) | GraphError::Spread(_))
}

fn ignored(site: SiteId, reason: &str) -> Fate {
    Fate::Ignored { site: Some(site), reason: reason.to_owned() }
}

/// What becomes of `item` when `error` keeps it from being understood.
#[must_use]
pub fn of_error(item: &item::Model, known: &Known<'_>, error: &GraphError) -> Fate {
    let site = known.site;
    match error {
        GraphError::NoConsent => Fate::Parked { site, reason: error.to_string() },
        GraphError::Gone | GraphError::Nobody | GraphError::Unavailable | GraphError::OutsideWindow => {
            ignored(site, &error.to_string())
        }
        GraphError::Throttled(ms) | GraphError::Spread(ms) => later(item, known, error, *ms),
        GraphError::Temporary(_)
        | GraphError::Dead { .. }
        | GraphError::Permission(_)
        | GraphError::MessagesOff
        | GraphError::Blocked
        | GraphError::Refused(_) => later(item, known, error, pause_ms(item.attempts)),
    }
}

/// The pause after this many tries, in milliseconds.
#[must_use]
pub fn pause_ms(attempts: i32) -> i64 {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(20);
    (RETRY_FIRST_MS << doublings).min(RETRY_MAX_MS)
}

fn later(item: &item::Model, known: &Known<'_>, error: &GraphError, after_ms: i64) -> Fate {
    let is_old = item.received_at.plus_ms(GIVE_UP_MS) <= known.now;
    if is_old && item.attempts >= TRIES_MIN {
        return ignored(known.site, &format!("given up after 36 hours: {error}"));
    }
    Fate::Later { site: Some(known.site), reason: error.to_string(), after_ms: after_ms.max(1) }
}

fn of_contact(item: &item::Model, contact: &Contact, known: &Known<'_>) -> Fate {
    let mut profile = match known.answer(&Question::Profile(contact.person.clone())) {
        Ok(Answer::Profile(profile)) => profile,
        // Who wrote has written, whether or not more is told of them.
        Ok(_)
        | Err(
            GraphError::NoConsent
            | GraphError::Permission(_)
            | GraphError::MessagesOff
            | GraphError::Gone
            | GraphError::Nobody
            | GraphError::Unavailable,
        ) => Profile::default(),
        Err(error) => return of_error(item, known, &error),
    };
    if !contact.is_written {
        profile.facts.follows_brand = None;
    }
    let activity = contact.message.as_ref().map(|message| {
        let mut properties = properties();
        properties.insert("message".to_owned(), message.text.as_str().into());
        if let Some(story) = &message.story {
            properties.insert("reply_to_story".to_owned(), story.as_str().into());
        }
        let external_id = message.id.clone();
        NewActivity { kind: ActivityType::DmYou, external_id, mention_type: None, properties }
    });
    seen(Sighting {
        site: known.site,
        source: MESSAGE,
        person: asked(item, &contact.person, profile, known.now),
        activity,
        code_texts: contact.code_texts.clone(),
        is_message: true,
        occurred_at: occurred_at(item),
        conditions: Conditions::default(),
    })
}

fn of_story_mention(item: &item::Model, mention: &StoryMention, known: &Known<'_>) -> Fate {
    let mut profile = match known.answer(&Question::Profile(mention.person.clone())) {
        Ok(Answer::Profile(profile)) => profile,
        Ok(_) => Profile::default(),
        Err(error) => return of_error(item, known, &error),
    };
    // Only a message tells whether somebody follows.
    profile.facts.follows_brand = None;
    // The story may have expired; the mention has happened all the same.
    let story = match known.answers.get(&Question::Story(mention.message.clone())) {
        Some(Ok(Answer::Story(story))) => story.clone(),
        Some(Err(error)) if may_pass(error) && item.attempts <= DISCOVERY_TRIES => {
            return of_error(item, known, error);
        }
        _ => Story::default(),
    };
    let external_id = mention.story.clone().or(story.id).unwrap_or_else(|| mention.message.clone());
    let mut properties = properties();
    properties.insert("caption".to_owned(), "".into());
    if let Some(url) = mention.url.clone().or(story.url) {
        properties.insert("media_url".to_owned(), url.into());
    }
    let activity = mentioned(external_id, MentionType::Mention, "story", properties);
    seen(Sighting {
        site: known.site,
        source: STORY,
        person: asked(item, &mention.person, profile, known.now),
        activity: Some(activity),
        code_texts: Vec::new(),
        is_message: false,
        occurred_at: occurred_at(item),
        conditions: Conditions::default(),
    })
}

fn of_post(item: &item::Model, id: &str, media: &Media, how: MentionType, known: &Known<'_>) -> Fate {
    if media.handle.is_some() && media.handle.as_deref() == known.username {
        return ignored(known.site, "the brand posted it itself");
    }
    let facts = match known.discovered(item, media.handle.as_deref()) {
        Ok(facts) => facts,
        Err(error) => return of_error(item, known, &error),
    };
    let mut properties = properties();
    if let Some(caption) = &media.caption {
        properties.insert("caption".to_owned(), caption.as_str().into());
    }
    if let Some(url) = media.url.as_ref().or(media.permalink.as_ref()) {
        properties.insert("media_url".to_owned(), url.as_str().into());
    }
    let activity = mentioned(id.to_owned(), how, media.media_type(), properties);
    seen(Sighting {
        site: known.site,
        source: if how == MentionType::Tag { TAG } else { POST },
        person: person(item, None, media.handle.clone(), facts),
        activity: Some(activity),
        code_texts: Vec::new(),
        is_message: false,
        occurred_at: media.posted_at.unwrap_or_else(|| occurred_at(item)),
        conditions: Conditions::default(),
    })
}

fn of_comment_mention(item: &item::Model, id: &str, media: Option<&str>, known: &Known<'_>) -> Fate {
    let comment = match known.answer(&Question::Comment(id.to_owned())) {
        Ok(Answer::Comment(comment)) => comment,
        Ok(_) => return ignored(known.site, "the comment could not be read"),
        Err(error) => return of_error(item, known, &error),
    };
    if comment.handle.is_some() && comment.handle.as_deref() == known.username {
        return ignored(known.site, "the brand commented itself");
    }
    let mut properties = properties();
    properties.insert("text".to_owned(), comment.text.unwrap_or_default().into());
    if let Some(media) = media.map(str::to_owned).or(comment.media_id) {
        properties.insert("media_id".to_owned(), media.into());
    }
    let (kind, external_id) = (ActivityType::CommentMentionedYou, id.to_owned());
    seen(Sighting {
        site: known.site,
        source: COMMENT,
        person: person(item, None, comment.handle, Facts::default()),
        activity: Some(NewActivity { kind, external_id, mention_type: None, properties }),
        code_texts: Vec::new(),
        is_message: false,
        occurred_at: comment.posted_at.unwrap_or_else(|| occurred_at(item)),
        conditions: Conditions::default(),
    })
}

fn of_comment(item: &item::Model, comment: &Commented, known: &Known<'_>) -> Fate {
    let mut properties = properties();
    properties.insert("text".to_owned(), comment.text.as_str().into());
    if let Some(media) = &comment.media {
        properties.insert("media_id".to_owned(), media.as_str().into());
    }
    if let Some(media_type) = comment.media_type {
        properties.insert("media_type".to_owned(), media_type.into());
    }
    let (kind, external_id) = (ActivityType::CommentedYou, comment.id.clone());
    seen(Sighting {
        site: known.site,
        source: COMMENT,
        person: person(item, comment.person.clone(), comment.handle.clone(), Facts::default()),
        activity: Some(NewActivity { kind, external_id, mention_type: None, properties }),
        code_texts: Vec::new(),
        is_message: false,
        occurred_at: occurred_at(item),
        conditions: Conditions::default(),
    })
}

fn properties() -> Map<String, Value> {
    Map::from_iter([("platform".to_owned(), Value::from("instagram"))])
}

fn mentioned(
    external_id: String,
    how: MentionType,
    media_type: &str,
    mut properties: Map<String, Value>,
) -> NewActivity {
    properties.insert("mention_type".to_owned(), how.as_str().into());
    properties.insert("media_type".to_owned(), media_type.into());
    NewActivity { kind: ActivityType::MentionedYou, external_id, mention_type: Some(how), properties }
}

/// Somebody of whom the thing itself tells.
fn person(item: &item::Model, external_id: Option<String>, handle: Option<String>, facts: Facts) -> Person {
    Person {
        platform: Platform::Instagram,
        account: item.account.clone(),
        external_id,
        handle,
        is_signed_in: false,
        facts,
        told_at: occurred_at(item),
    }
}

/// Somebody of whom the platform was asked.
fn asked(item: &item::Model, external_id: &str, profile: Profile, now: Timestamp) -> Person {
    let person = person(item, Some(external_id.to_owned()), profile.handle, profile.facts);
    Person { told_at: now, ..person }
}

fn seen(sighting: Sighting) -> Fate {
    Fate::Seen(Box::new(sighting))
}
