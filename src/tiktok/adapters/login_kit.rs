//! Login Kit, with the token of a member: who they are, and their own videos.

use serde_json::{Value, json};

use super::{Page, Poll};
use crate::profiles::handles;
use crate::tiktok::calls::CallError;
use crate::tiktok::post::{Author, Post};
use crate::tiktok::{Tiktok, words};

/// Fields of a person by the scope that shows them.
const USER_FIELDS: [(&str, &str); 3] = [
    ("user.info.basic", "open_id,avatar_url,display_name"),
    ("user.info.profile", "username,bio_description,is_verified"),
    ("user.info.stats", "follower_count,following_count"),
];
const VIDEO_FIELDS: &str = "id,create_time,video_description,title,share_url,like_count,comment_count";
/// Videos of a page; the most that `TikTok` gives.
const PAGE_SIZE: u32 = 20;

/// A member who has logged in.
pub struct Member<'a> {
    tiktok: &'a Tiktok,
    token: String,
}

/// What `TikTok` says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id of them.
    pub open_id: String,
    /// Their handle, normalised, where the login may see it.
    pub handle: Option<String>,
    /// What else it says.
    pub author: Author,
}

impl<'a> Member<'a> {
    /// Somebody with an access token.
    #[must_use]
    pub const fn new(tiktok: &'a Tiktok, token: String) -> Self {
        Self { tiktok, token }
    }

    /// Who it is; `scopes` say what may be asked for.
    pub async fn user(&self, scopes: &str) -> Result<User, CallError> {
        let has = |scope: &str| scopes.split(',').any(|one| one.trim() == scope);
        let fields: Vec<&str> =
            USER_FIELDS.iter().filter(|(scope, _)| has(scope)).map(|(_, fields)| *fields).collect();
        let url = format!("{}/v2/user/info/?fields={}", self.tiktok.settings.urls.api, fields.join(","));
        let data = words::scrubbed(self.tiktok.calls.display(&url, None, &self.token).await?);
        let user = &data["user"];
        Ok(User {
            open_id: words::id(&user["open_id"])
                .ok_or_else(|| CallError::Unavailable("the answer has no open_id".to_owned()))?,
            handle: user["username"].as_str().and_then(handles::normalised),
            author: Author::read(user),
        })
    }
}

/// The videos of a member.
pub struct Videos<'a> {
    /// Whose.
    pub member: &'a Member<'a>,
    /// Who that is.
    pub user: &'a User,
}

impl Poll for Videos<'_> {
    async fn poll(&self, cursor: Option<&str>) -> Result<Page, CallError> {
        let tiktok = self.member.tiktok;
        let url = format!("{}/v2/video/list/?fields={VIDEO_FIELDS}", tiktok.settings.urls.api);
        let mut body = json!({"max_count": PAGE_SIZE});
        if let Some(cursor) = cursor.and_then(|cursor| cursor.parse::<i64>().ok()) {
            body["cursor"] = cursor.into();
        }
        let data = tiktok.calls.display(&url, Some(&body), &self.member.token).await?;
        let videos = data["videos"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Page {
            posts: videos.iter().filter_map(|video| self.post(video)).collect(),
            next: words::id(&data["cursor"]),
            has_more: data["has_more"] == true,
        })
    }
}

impl Videos<'_> {
    fn post(&self, video: &Value) -> Option<Post> {
        let mut video = words::scrubbed(video.clone());
        if let (Some(handle), Some(fields)) = (&self.user.handle, video.as_object_mut()) {
            fields.insert("author_handle".to_owned(), handle.as_str().into());
        }
        let mut post = Post::read(&video).ok()?;
        post.author = self.user.author.clone();
        Some(post)
    }
}
