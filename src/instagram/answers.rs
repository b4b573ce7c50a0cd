//! What the Graph API answers, read leniently: ids are text whatever they were, numbers may be quoted, and what is missing stays
//! absent.

use chrono::DateTime;
use entity::id::Timestamp;
use serde_json::Value;

use crate::profiles::attributes::Facts;
use crate::profiles::handles;

/// Characters of an id that a platform gives; message ids have up to 200.
const ID_MAX: usize = 400;
/// Characters of a text that is kept.
const TEXT_MAX: usize = 10_000;
/// Characters of a URL that is kept.
const URL_MAX: usize = 4_000;

/// Somebody who wrote to the brand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Their handle, normalised.
    pub handle: Option<String>,
    /// What else was told.
    pub facts: Facts,
}

/// A post, reel or tagged media.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    /// Its id.
    pub id: Option<String>,
    /// Its text.
    pub caption: Option<String>,
    /// Its author's handle, normalised.
    pub handle: Option<String>,
    /// Where the picture or film is.
    pub url: Option<String>,
    /// Where people see it.
    pub permalink: Option<String>,
    /// When it was posted.
    pub posted_at: Option<Timestamp>,
    /// `IMAGE`, `VIDEO`, `CAROUSEL_ALBUM`.
    pub kind: Option<String>,
    /// `FEED`, `REELS`, `STORY`, `AD`.
    pub product: Option<String>,
}

/// A comment that mentions the brand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comment {
    /// Its text.
    pub text: Option<String>,
    /// Its author's handle, normalised; not documented, and rarely there.
    pub handle: Option<String>,
    /// What it was written below.
    pub media_id: Option<String>,
    /// When it was written.
    pub posted_at: Option<Timestamp>,
}

/// The story that a message mentions the brand in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// Its id.
    pub id: Option<String>,
    /// Where it is, until it expires.
    pub url: Option<String>,
}

/// A page of tagged media.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TagsPage {
    /// The media objects as they came.
    pub media: Vec<Value>,
    /// Where the next page begins.
    pub after: Option<String>,
}

/// The account that a token belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnAccount {
    /// Its id as webhooks name it.
    pub id: Option<String>,
    /// Its handle, normalised.
    pub username: Option<String>,
}

impl Profile {
    /// Reads `GET /{person}`.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        let facts = Facts {
            name: line(&answer["name"]),
            followers: count(&answer["follower_count"]),
            picture: url(&answer["profile_pic"]),
            blue_tick: answer["is_verified_user"].as_bool(),
            follows_brand: answer["is_user_follow_business"].as_bool(),
            ..Facts::default()
        };
        Self { handle: handle(&answer["username"]), facts }
    }
}

/// Reads `business_discovery`.
#[must_use]
pub fn discovered(answer: &Value) -> Facts {
    Facts {
        name: line(&answer["name"]),
        followers: count(&answer["followers_count"]),
        follows: count(&answer["follows_count"]),
        posts: count(&answer["media_count"]),
        bio: line(&answer["biography"]),
        picture: url(&answer["profile_picture_url"]),
        blue_tick: None,
        follows_brand: None,
    }
}

impl Media {
    /// Reads a media object.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        Self {
            id: id(&answer["id"]),
            caption: text(&answer["caption"]),
            handle: handle(&answer["username"]),
            url: url(&answer["media_url"]),
            permalink: url(&answer["permalink"]),
            posted_at: instant(&answer["timestamp"]),
            kind: line(&answer["media_type"]),
            product: line(&answer["media_product_type"]),
        }
    }

    /// What White Label Loyalty calls it: `post`, `reel` or `story`.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        let is_reel = match (self.product.as_deref(), &self.permalink) {
            (Some("STORY"), _) => return "story",
            (Some(product), _) => product == "REELS",
            (None, Some(permalink)) => permalink.contains("/reel/"),
            (None, None) => self.kind.as_deref() == Some("VIDEO"),
        };
        if is_reel { "reel" } else { "post" }
    }
}

impl Comment {
    /// Reads `mentioned_comment`.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        Self {
            text: text(&answer["text"]),
            handle: handle(&answer["username"]),
            media_id: id(&answer["media"]["id"]),
            posted_at: instant(&answer["timestamp"]),
        }
    }
}

impl Story {
    /// Reads `GET /{message}?fields=story`.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        let mention = &answer["story"]["mention"];
        Self { id: id(&mention["id"]), url: url(&mention["link"]) }
    }
}

impl TagsPage {
    /// Reads a page of `/tags`; one without media is the last.
    #[must_use]
    pub fn read(answer: Value) -> Self {
        let after = line(&answer["paging"]["cursors"]["after"]);
        let media = match answer {
            Value::Object(mut answer) => answer.remove("data"),
            _ => None,
        };
        let media = media.and_then(|media| media.as_array().cloned()).unwrap_or_default();
        let after = after.filter(|_| !media.is_empty());
        Self { media, after }
    }
}

impl OwnAccount {
    /// Reads `GET /me` of Instagram Login, or `GET /{ig-user}`. The former calls the id of webhooks `user_id`.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        Self {
            id: id(&answer["user_id"]).or_else(|| id(&answer["id"])),
            username: handle(&answer["username"]),
        }
    }
}

/// An id as text, if it is one that can stand in a table.
#[must_use]
pub fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        // Above 2^53, so never by way of a float.
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => return None,
    };
    let fits = |c: char| !c.is_control() && !c.is_whitespace();
    (!text.is_empty() && text.len() <= ID_MAX && text.chars().all(fits)).then_some(text)
}

/// A whole number, quoted or not.
#[must_use]
pub fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// How many there are of something.
fn count(value: &Value) -> Option<i64> {
    number(value).filter(|number| *number >= 0)
}

/// A text of people, cut to what is kept.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    Some(text.chars().filter(|c| *c != '\0').take(TEXT_MAX).collect())
}

/// A text that is not empty.
fn line(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.trim().is_empty())
}

/// A URL that is not too long.
#[must_use]
pub fn url(value: &Value) -> Option<String> {
    line(value).filter(|url| url.len() <= URL_MAX && url.starts_with("http"))
}

/// A handle as handles are compared.
#[must_use]
pub fn handle(value: &Value) -> Option<String> {
    value.as_str().and_then(handles::normalised)
}

/// An instant: `2026-11-18T09:29:41+0000`, with or without a colon.
#[must_use]
pub fn instant(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    let at =
        DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%z").or_else(|_| DateTime::parse_from_rfc3339(text));
    at.ok().map(|at| Timestamp(at.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn g7_what_is_not_plainly_true_is_not_known() {
        for flag in [json!(null), json!("true"), json!(1), json!({}), json!([true])] {
            let profile = Profile::read(&json!({"username": "Mia", "is_user_follow_business": flag}));
            assert_eq!(profile.facts.follows_brand, None, "{flag}");
            assert_eq!(profile.handle.as_deref(), Some("mia"));
        }
        assert_eq!(Profile::read(&json!({"name": "Mia"})).facts.follows_brand, None);
        let told = |flag| Profile::read(&json!({"is_user_follow_business": flag})).facts.follows_brand;
        assert_eq!((told(true), told(false)), (Some(true), Some(false)));
    }

    #[test]
    fn what_is_missing_or_odd_stays_absent() {
        let odd = json!({
            "username": "not a handle!", "name": " ", "follower_count": "12480", "profile_pic": "javascript:1",
            "is_verified_user": null,
        });
        let expected = Facts { followers: Some(12480), ..Facts::default() };
        assert_eq!(Profile::read(&odd), Profile { handle: None, facts: expected });
        assert_eq!(Profile::read(&json!({"follower_count": -1})), Profile::default());
        for value in [json!(null), json!([]), json!("x"), json!(7)] {
            assert_eq!(Profile::read(&value), Profile::default());
            assert_eq!(Media::read(&value), Media::default());
            assert_eq!(Comment::read(&value), Comment::default());
            assert_eq!(Story::read(&value), Story::default());
            assert_eq!(TagsPage::read(value.clone()), TagsPage::default());
            assert_eq!(OwnAccount::read(&value), OwnAccount::default());
            assert_eq!(discovered(&value), Facts::default());
        }
    }

    #[test]
    fn ids_are_text_and_instants_need_no_colon() {
        assert_eq!(id(&json!(17_841_460_998_877_001_u64)).as_deref(), Some("17841460998877001"));
        for odd in [json!(1.5), json!(-1), json!(""), json!("a b"), json!("a\u{0}"), json!("x".repeat(401))] {
            assert_eq!(id(&odd), None, "{odd}");
        }
        for text in ["2026-11-18T09:29:41+0000", "2026-11-18T09:29:41+00:00", "2026-11-18T09:29:41Z"] {
            assert_eq!(instant(&json!(text)), Some(Timestamp(1_794_994_181_000)), "{text}");
        }
        assert_eq!(instant(&json!("yesterday")), None);
    }

    #[test]
    fn the_product_decides_then_the_permalink_then_the_kind() {
        let of = |media: Value| Media::read(&media).media_type();
        assert_eq!(of(json!({"media_type": "VIDEO", "media_product_type": "FEED"})), "post");
        assert_eq!(of(json!({"media_type": "VIDEO", "media_product_type": "REELS"})), "reel");
        assert_eq!(of(json!({"media_type": "VIDEO", "permalink": "https://www.instagram.com/p/D/"})), "post");
        assert_eq!(
            of(json!({"media_type": "IMAGE", "permalink": "https://www.instagram.com/reel/D/"})),
            "reel"
        );
        assert_eq!(of(json!({"media_type": "VIDEO"})), "reel");
        assert_eq!(of(json!({"media_type": "CAROUSEL_ALBUM"})), "post");
        assert_eq!(of(json!({})), "post");
    }
}
