//! The attributes that platforms tell about a member, under the names of White Label Loyalty, each with its source and time.

use std::collections::BTreeMap;

use entity::id::Timestamp;
use entity::kinds::Platform;
use entity::member_handle;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One attribute: what it says, who said so, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Text, number or truth value; never null.
    pub value: Value,
    /// What told it: `INSTAGRAM_MESSAGE`, `INSTAGRAM_POST`, `INSTAGRAM_DISCOVERY`, `TIKTOK_POST` …
    pub source: String,
    /// When it was told, in milliseconds since 1970.
    pub at: Timestamp,
}

/// Attributes by name, as a profile stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(pub BTreeMap<String, Attribute>);

/// Whether the member has proven the Instagram handle; made from the handle, never stored.
const VERIFIED: &str = "instagram_verified";
/// The source of what nobody told: it follows from what is known here.
const DERIVED: &str = "FOLLOWPOINTS";

/// What a platform told about a person. What is `None` was not told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Display name.
    pub name: Option<String>,
    /// How many follow the person.
    pub followers: Option<i64>,
    /// How many the person follows.
    pub follows: Option<i64>,
    /// How many posts the person made.
    pub posts: Option<i64>,
    /// Biography.
    pub bio: Option<String>,
    /// URL of the picture.
    pub picture: Option<String>,
    /// Whether the platform has verified the person.
    pub blue_tick: Option<bool>,
    /// Whether the person follows the brand.
    pub follows_brand: Option<bool>,
}

impl Attributes {
    /// Those stored as `text`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// As JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// The value of attribute `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).map(|attribute| &attribute.value)
    }

    /// Sets attribute `name`, unless what it says is older than what is known.
    pub fn set(&mut self, name: &str, value: impl Into<Value>, source: &str, at: Timestamp) {
        if self.0.get(name).is_none_or(|known| known.at <= at) {
            let attribute = Attribute { value: value.into(), source: source.to_owned(), at };
            self.0.insert(name.to_owned(), attribute);
        }
    }

    /// Takes away what `platform` told. Says whether there was anything.
    pub fn forget(&mut self, platform: Platform) -> bool {
        let before = self.0.len();
        let (name, source) = (format!("{}_", prefix(platform)), format!("{platform}_"));
        // `dm_keyword` is known by its source only.
        self.0.retain(|known, attribute| !known.starts_with(&name) && !attribute.source.starts_with(&source));
        self.0.len() < before
    }

    /// Sets what follows from the member's `handles`: absent as long as none is claimed, then false until it is proven.
    pub fn derive(&mut self, handles: &[member_handle::Model]) {
        let claimed = handles.iter().find(|row| row.platform == Platform::Instagram);
        self.0.remove(VERIFIED);
        if let Some(row) = claimed {
            let at = row.proven_at.unwrap_or(row.claimed_at);
            self.set(VERIFIED, row.proven_at.is_some(), DERIVED, at);
        }
    }

    /// Sets what `platform` told at `at` about the person with `handle`.
    pub fn tell(
        &mut self,
        platform: Platform,
        handle: Option<&str>,
        facts: &Facts,
        source: &str,
        at: Timestamp,
    ) {
        let prefix = prefix(platform);
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                self.set(&format!("{prefix}_{name}"), value, source, at);
            }
        };
        set("handle", handle.map(Value::from));
        set("followers", facts.followers.map(Value::from));
        set("follows", facts.follows.map(Value::from));
        set("bio", facts.bio.as_deref().map(Value::from));
        set("profile_image", facts.picture.as_deref().map(Value::from));
        set("follows_you", facts.follows_brand.map(Value::from));
        if platform == Platform::Instagram {
            set("posts", facts.posts.map(Value::from));
            set("blue_tick", facts.blue_tick.map(Value::from));
            let (first, last) = names(facts.name.as_deref());
            set("firstname", first.map(Value::from));
            set("lastname", last.map(Value::from));
        }
    }
}

/// The beginning of the names of a platform's attributes.
#[must_use]
pub const fn prefix(platform: Platform) -> &'static str {
    match platform {
        Platform::Instagram => "instagram",
        Platform::Tiktok => "tiktok",
    }
}

/// The first word of a name, and the rest.
fn names(name: Option<&str>) -> (Option<&str>, Option<&str>) {
    let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else { return (None, None) };
    match name.split_once(char::is_whitespace) {
        Some((first, last)) => (Some(first), Some(last.trim())),
        None => (Some(name), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_told_stays_absent() {
        let mut attributes = Attributes::default();
        let facts =
            Facts { followers: Some(0), name: Some(" Mia  Lindqvist Berg ".to_owned()), ..Facts::default() };
        attributes.tell(
            Platform::Instagram,
            Some("mia.runs.oslo"),
            &facts,
            "INSTAGRAM_MESSAGE",
            Timestamp(5),
        );
        let names: Vec<_> = attributes.0.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["instagram_firstname", "instagram_followers", "instagram_handle", "instagram_lastname"]
        );
        assert_eq!(attributes.get("instagram_lastname"), Some(&Value::from("Lindqvist Berg")));
        assert_eq!(attributes.get("instagram_followers"), Some(&Value::from(0)));
        let later = Facts { followers: Some(7), ..Facts::default() };
        attributes.tell(Platform::Instagram, None, &later, "INSTAGRAM_MESSAGE", Timestamp(4));
        assert_eq!(
            attributes.get("instagram_followers"),
            Some(&Value::from(0)),
            "older news changes nothing"
        );
        assert_eq!(Attributes::parse(&attributes.to_json()), attributes);
    }

    #[test]
    fn what_one_platform_told_is_forgotten_and_the_others_is_not() {
        let mut attributes = Attributes::default();
        let facts = Facts { followers: Some(7), ..Facts::default() };
        attributes.tell(Platform::Instagram, Some("mia"), &facts, "INSTAGRAM_MESSAGE", Timestamp(5));
        attributes.tell(Platform::Tiktok, Some("mia"), &facts, "TIKTOK_POST", Timestamp(5));
        attributes.set("dm_keyword", "NORDBREW", "INSTAGRAM_MESSAGE", Timestamp(5));
        assert!(attributes.forget(Platform::Instagram));
        let names: Vec<_> = attributes.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["tiktok_followers", "tiktok_handle"]);
        assert!(!attributes.forget(Platform::Instagram));
    }

    #[test]
    fn a_name_of_one_word_is_a_first_name() {
        assert_eq!(names(Some("Mia")), (Some("Mia"), None));
        assert_eq!(names(Some("  ")), (None, None));
    }
}
