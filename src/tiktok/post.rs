//! A post as it is stored, whoever told it: a provider, one of `TikTok`'s APIs, a member.

use entity::id::{SiteId, Timestamp};
use entity::kinds::Platform;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{hashtags, words};
use crate::inbox::NewItem;
use crate::profiles::attributes::Facts;
use crate::profiles::handles;

/// What items of posts are called.
pub const KIND: &str = "post";
/// How old a post may be, in milliseconds: 30 days.
pub const AGE_MAX_MS: i64 = 30 * 24 * 3_600_000;
/// How long before the member claimed the handle a post may have been made, in milliseconds: a day. Who posts first and signs up
/// then has not done so for the points of somebody else.
pub const GRACE_MS: i64 = 24 * 3_600_000;
/// How far the time of a post may be from the one that its id holds, in milliseconds: 3 days.
const ID_TIME_MS: i64 = 3 * 24 * 3_600_000;
/// Ids from here on begin with the second at which they were made; there are older ones of another form.
const ID_WITH_TIME: u64 = 1_000_000_000_000_000_000;
/// How far ahead of ours the clock of who told a post may be, in milliseconds: an hour.
const AHEAD_MAX_MS: i64 = 3_600_000;
/// Characters of a post's id.
const ID_MAX: usize = 64;
/// Characters of a caption that are kept; `TikTok` allows 4,000.
pub const CAPTION_MAX: usize = 5_000;
/// Hashtags of a post that are kept.
const HASHTAGS_MAX: usize = 100;
/// Characters of a URL or biography that are kept; a longer URL is left out.
const TEXT_MAX: usize = 2_000;

/// A post on `TikTok`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The platform's id of it.
    pub external_id: String,
    /// Who made it: a handle, normalised.
    pub author_handle: String,
    /// When, in milliseconds since 1970.
    pub posted_at: Timestamp,
    /// What it says.
    pub caption: String,
    /// Its hashtags where they were told apart from the caption, as they are compared.
    #[serde(default)]
    pub hashtags: Vec<String>,
    /// Where it is.
    pub url: Option<String>,
    /// How many like it.
    pub like_count: Option<i64>,
    /// How many comments it has.
    pub comment_count: Option<i64>,
    /// What else is known of who made it.
    #[serde(default)]
    pub author: Author,
    /// The platform's id of who made it, where their own login told the post.
    pub open_id: Option<String>,
}

/// What a source told of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Display name.
    pub name: Option<String>,
    /// How many follow them.
    pub followers: Option<i64>,
    /// How many they follow.
    pub following: Option<i64>,
    /// Biography.
    pub bio: Option<String>,
    /// URL of the picture.
    pub avatar_url: Option<String>,
    /// Whether the platform has verified them.
    pub verified: Option<bool>,
}

impl Author {
    /// Reads what `value` says, in our names, those of Apify's scrapers and those of Login Kit.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        let field = |names: &[&str]| words::field(value, names);
        Self {
            name: words::text(field(&["display_name", "nickName"]), TEXT_MAX),
            followers: words::count(field(&["followers", "fans", "follower_count"])),
            following: words::count(field(&["following", "following_count"])),
            bio: words::text(field(&["bio", "signature", "bio_description"]), TEXT_MAX),
            avatar_url: web_address(field(&["avatar_url", "avatar"])),
            verified: field(&["verified", "is_verified"]).as_bool(),
        }
    }

    /// The same as a member's profile takes it.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            name: self.name.clone(),
            followers: self.followers,
            follows: self.following,
            bio: self.bio.clone(),
            picture: self.avatar_url.clone(),
            blue_tick: self.verified,
            ..Facts::default()
        }
    }
}

/// A URL of http or https.
#[must_use]
pub fn web_address(value: &Value) -> Option<String> {
    let text = words::text(value, TEXT_MAX + 1)?;
    let fits =
        text.len() <= TEXT_MAX && ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
    fits.then_some(text)
}

impl Post {
    /// Reads a post in our names, those of Apify's scrapers, API for Business or Login Kit; or says why it is none.
    pub fn read(value: &Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err("is not an object".to_owned());
        }
        if let Some(error) = words::text(words::field(value, &["error", "errorCode"]), ID_MAX) {
            return Err(format!("is an error of the provider: {error}"));
        }
        let field = |names: &[&str]| words::field(value, names);
        if field(&["platform"]).as_str().is_some_and(|platform| !platform.eq_ignore_ascii_case("tiktok")) {
            return Err("platform is not tiktok".to_owned());
        }
        let external_id = external_id(value).ok_or("external_id is missing, or is not an id")?;
        let author = field(&["author", "authorMeta"]);
        let url = web_address(field(&["url", "webVideoUrl", "video_link", "share_url"]));
        let named =
            field(&["author_handle", "creator_handle_name"]).as_str().or_else(|| author["name"].as_str());
        let handle = named.map(str::to_owned).or_else(|| handle_of(url.as_deref()?));
        let author_handle = handle.ok_or("author_handle is missing")?;
        let author_handle = handles::normalised(&author_handle).ok_or("author_handle is not a handle")?;
        let posted_at = field(&["posted_at", "createTimeISO", "createTime", "create_time"]);
        let posted_at = words::instant(posted_at).ok_or("posted_at is missing, or is not an instant")?;
        let mut hashtags: Vec<String> = Vec::new();
        let told = field(&["hashtags", "matched_hashtags"]).as_array().into_iter().flatten();
        for hashtag in told.take(HASHTAGS_MAX) {
            let name = hashtag.as_str().or_else(|| hashtag["name"].as_str());
            hashtags.extend(name.and_then(hashtags::fold));
        }
        Ok(Self {
            external_id,
            author_handle,
            posted_at,
            caption: caption(value),
            hashtags,
            url,
            like_count: words::count(field(&["like_count", "diggCount", "likes"])),
            comment_count: words::count(field(&[
                "comment_count",
                "commentCount",
                "comments_count",
                "comments",
            ])),
            author: Author::read(author),
            open_id: None,
        })
    }

    /// What makes it the same post for `site`, however it came.
    #[must_use]
    pub fn key(&self, site: SiteId) -> String {
        key(site, &self.external_id)
    }

    /// To be stored for `site`.
    #[must_use]
    pub fn item(&self, site: SiteId) -> NewItem {
        NewItem {
            platform: Platform::Tiktok,
            account: String::new(),
            key: self.key(site),
            kind: KIND.to_owned(),
            person: self.open_id.clone(),
            handle: Some(self.author_handle.clone()),
            site: Some(site),
            occurred_at: Some(self.posted_at),
            payload: serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// Why it is too old to count at `now`, or cannot be as old as it says.
    #[must_use]
    pub fn is_too_old(&self, now: Timestamp) -> Option<&'static str> {
        if self.posted_at < now.plus_ms(-AGE_MAX_MS) {
            return Some("it was posted more than 30 days ago");
        }
        if self.posted_at > now.plus_ms(AHEAD_MAX_MS) {
            return Some("it says that it was posted in the future");
        }
        let of_id = time_of_id(&self.external_id);
        if of_id.is_some_and(|at| at.0.abs_diff(self.posted_at.0) > ID_TIME_MS.unsigned_abs()) {
            return Some("its id was made at another time");
        }
        None
    }

    /// Whether it was posted before the member who has the handle claimed it at `claimed_at`.
    #[must_use]
    pub fn is_before_claim(&self, claimed_at: Timestamp) -> bool {
        claimed_at > self.claimed_until()
    }

    /// Until when a member must have claimed the handle for it to count.
    #[must_use]
    pub const fn claimed_until(&self) -> Timestamp {
        self.posted_at.plus_ms(GRACE_MS)
    }

    /// The hashtags told beside it and those in its caption, folded.
    #[must_use]
    pub fn all_hashtags(&self) -> Vec<String> {
        let mut all = self.hashtags.clone();
        all.extend(hashtags::extract(&self.caption));
        all
    }
}

/// The key of post `external_id` for `site`.
#[must_use]
pub fn key(site: SiteId, external_id: &str) -> String {
    format!("post:{}:{external_id}", site.0)
}

/// The id of the post that `value` is about.
#[must_use]
pub fn external_id(value: &Value) -> Option<String> {
    let id = words::id(words::field(value, &["external_id", "id", "item_id"]))?;
    let is_id =
        id.len() <= ID_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    is_id.then_some(id)
}

/// The caption. Login Kit cuts the description at 150 characters and may say more in the title.
fn caption(value: &Value) -> String {
    let said = |name: &str| words::text(&value[name], CAPTION_MAX);
    if let Some(caption) = said("caption").or_else(|| said("text")) {
        return caption;
    }
    match (said("video_description"), said("title")) {
        (Some(description), Some(title)) if description.starts_with(&title) => description,
        (Some(description), Some(title)) if title.starts_with(&description) => title,
        (Some(description), Some(title)) => format!("{title}\n{description}"),
        (description, title) => description.or(title).unwrap_or_default(),
    }
}

/// The handle in the address of a post: `https://www.tiktok.com/@handle/video/7…`.
#[must_use]
pub fn handle_of(url: &str) -> Option<String> {
    let (_, after) = url.split_once("/@")?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    handles::normalised(&after[..end])
}

/// When the post `external_id` was made, as far as its id tells.
#[must_use]
pub fn time_of_id(external_id: &str) -> Option<Timestamp> {
    let id: u64 = external_id.parse().ok().filter(|id| *id >= ID_WITH_TIME)?;
    Some(Timestamp(i64::try_from(id >> 32).ok()?.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_id_of_a_post_tells_its_time() {
        assert_eq!(time_of_id("7709406013564211501"), Some(Timestamp(1_794_985_964_000)));
        assert_eq!(time_of_id("99"), None);
        assert_eq!(time_of_id("abc"), None);
    }

    #[test]
    fn the_caption_is_the_longer_of_description_and_title() {
        let caption = |description: &str, title: &str| {
            caption(&json!({"video_description": description, "title": title}))
        };
        assert_eq!(caption("Cortado", "Cortado #oslo"), "Cortado #oslo");
        assert_eq!(caption("Cortado #oslo", "Cortado"), "Cortado #oslo");
        assert_eq!(caption("", "Cortado"), "Cortado");
        assert_eq!(caption("two", "one"), "one\ntwo");
    }

    #[test]
    fn the_handle_is_taken_from_the_address() {
        for (url, handle) in [
            ("https://www.tiktok.com/@MiaRunsOslo/video/7709406013564211501", Some("miarunsoslo")),
            ("https://www.tiktok.com/@someoneelse.42?lang=en", Some("someoneelse.42")),
            ("https://www.tiktok.com/@/video/1", None),
            ("https://www.tiktok.com/video/1", None),
        ] {
            assert_eq!(handle_of(url).as_deref(), handle, "{url}");
        }
    }
}
