//! Activities: what persons do on social platforms, normalised, matched with members, and rewarded by rules.
//!
//! A platform's words become [`Sighting`]s. [`record`] takes many of them together and writes everything that follows from
//! them in one transaction: the person, the proof of a handle, the follow, the activity, its awards, its events, and that the
//! thing is done.

pub mod api;
pub mod awarding;
mod conditions;
pub mod direct_replies;
pub mod follow;
pub mod log;
pub mod matching;
mod names_api;
pub mod profiles;
pub mod record;
pub mod rule_api;
pub mod rule_store;
pub mod rules;
mod settling;
pub mod store;

use entity::id::{SiteId, Timestamp};
use entity::item;
use entity::kinds::{ActivityType, MentionType, Platform};
use serde_json::{Map, Value};

pub use self::conditions::Conditions;
use crate::profiles::attributes::Facts;

/// Something that a platform sent, understood.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The site whose brand it is about.
    pub site: SiteId,
    /// Who told it: `INSTAGRAM_MESSAGE`, `INSTAGRAM_POST`, `INSTAGRAM_TAG`, `INSTAGRAM_COMMENT`, `TIKTOK_POST`, `TIKTOK_MESSAGE` …
    pub source: &'static str,
    /// Who did it.
    pub person: Person,
    /// What was done, if it is an activity.
    pub activity: Option<NewActivity>,
    /// Texts in which the person may have sent a link code: a message, the payload of a button, the `ref` of a link.
    pub code_texts: Vec<String>,
    /// Whether the person wrote to the brand: only then is the platform's id proven to be theirs, and the flag says whether they follow.
    pub is_message: bool,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// What must be so for it to count.
    pub conditions: Conditions,
}

/// Somebody on a platform.
#[derive(Debug, Clone)]
pub struct Person {
    /// The platform.
    pub platform: Platform,
    /// The platform's id of the brand's account.
    pub account: String,
    /// The platform's id of the person, where it told one.
    pub external_id: Option<String>,
    /// The handle, normalised, where it told one.
    pub handle: Option<String>,
    /// Whether the platform itself says whose handle it is: a member's own login did.
    pub is_signed_in: bool,
    /// What else it told.
    pub facts: Facts,
    /// When it told handle and facts: with the thing itself, or later when it was asked.
    pub told_at: Timestamp,
}

/// An activity, before it is recorded.
#[derive(Debug, Clone)]
pub struct NewActivity {
    /// What was done.
    pub kind: ActivityType,
    /// The platform's id of the thing: media for posts, message id, comment id. One post is one thing however it came to us.
    pub external_id: String,
    /// How it mentions the brand.
    pub mention_type: Option<MentionType>,
    /// What else is known, in the names of White Label Loyalty: `caption`, `platform`, `media_url`, `mention_type`, `media_type` …
    pub properties: Map<String, Value>,
}

/// What is to become of something that a platform sent.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It was understood.
    Seen(Box<Sighting>),
    /// Nothing comes of it; why, for people.
    Ignored {
        /// The site, if it is known.
        site: Option<SiteId>,
        /// Why.
        reason: String,
    },
    /// It is tried again later; why, for people.
    Later {
        /// The site, if it is known.
        site: Option<SiteId>,
        /// Why.
        reason: String,
        /// After how many milliseconds.
        after_ms: i64,
    },
    /// It waits until its person writes to the brand; why, for people.
    Parked {
        /// The site.
        site: SiteId,
        /// Why.
        reason: String,
    },
    /// A message was unsent or edited: what is stored of it changes with everything that is known of it by then.
    Changed {
        /// The site.
        site: SiteId,
        /// The key of the message's own item on the same account.
        message_key: String,
        /// Whether it was unsent.
        is_unsent: bool,
    },
}

impl Fate {
    /// What was understood, if it is that.
    #[must_use]
    pub fn sighting(&self) -> Option<&Sighting> {
        match self {
            Self::Seen(sighting) => Some(sighting),
            _ => None,
        }
    }

    /// The site on which more is written than how far the work on the thing itself is: one transaction at a time does that.
    fn changes_site(&self) -> Option<SiteId> {
        match self {
            Self::Seen(sighting) => Some(sighting.site),
            Self::Changed { site, .. } => Some(*site),
            Self::Ignored { .. } | Self::Later { .. } | Self::Parked { .. } => None,
        }
    }
}

/// Something that a platform sent, and what is to become of it.
pub type Understood = (item::Model, Fate);
