//! API for Business, with the token of the brand's account: videos with a hashtag that the brand tracks there, and videos and comments that mention it.

use entity::connection;
use serde_json::Value;

use super::{Page, Poll};
use crate::connections::TOKEN_PURPOSE;
use crate::tiktok::calls::CallError;
use crate::tiktok::post::Post;
use crate::tiktok::{Tiktok, words};

/// Videos of a page; the most that `TikTok` gives.
const PAGE_SIZE: &str = "100";
/// How far back lists go: two days, though they are read every few minutes, so that what shows up late is seen.
const DAYS: &str = "2";
/// Characters of a cursor.
const CURSOR_MAX: usize = 200;

/// The brand's account.
#[derive(Clone)]
pub struct Business<'a> {
    tiktok: &'a Tiktok,
    id: &'a str,
    token: String,
}

impl<'a> Business<'a> {
    /// The account of `connection`, if it has a token that opens.
    #[must_use]
    pub fn open(tiktok: &'a Tiktok, connection: &'a connection::Model) -> Option<Self> {
        let token = tiktok.sealer.open(TOKEN_PURPOSE, connection.token.as_deref()?).ok()?;
        Some(Self { tiktok, id: &connection.external_id, token: String::from_utf8(token).ok()? })
    }

    /// What `TikTok` says of a video that mentions the brand.
    pub async fn video(&self, id: &str) -> Result<Value, CallError> {
        self.get("video/get/", &[("item_id", id)]).await
    }

    /// What `TikTok` says of a comment that mentions the brand.
    pub async fn comment(&self, id: &str) -> Result<Value, CallError> {
        let data = self.get("comment/get/", &[("comment_id", id)]).await?;
        // As a list of one, or alone.
        let listed = data["comments"].as_array();
        let is_it = |value: &&Value| words::thing(&value["comment_id"]).as_deref() == Some(id);
        match listed {
            None => Ok(data),
            Some(comments) => comments
                .iter()
                .find(is_it)
                .cloned()
                .ok_or_else(|| CallError::Refused("the comment is not there".to_owned())),
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, CallError> {
        let url = format!("{}/open_api/v1.3/business/mention/{path}", self.tiktok.settings.urls.business);
        let query: Vec<_> = [("business_id", self.id)].into_iter().chain(query.iter().copied()).collect();
        self.tiktok.calls.business(&url, &query, &self.token).await
    }

    async fn list(&self, path: &str, cursor: Option<&str>) -> Result<Page, CallError> {
        let mut query = vec![("max_count", PAGE_SIZE), ("number_of_days", DAYS), ("sort_by", "CREATE_TIME")];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let data = self.get(path, &query).await?;
        let videos = data["videos"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Page {
            posts: videos
                .iter()
                .filter_map(|video| Post::read(&words::scrubbed(video.clone())).ok())
                .collect(),
            next: words::id(&data["cursor"]).filter(|cursor| cursor.len() <= CURSOR_MAX),
            has_more: data["has_more"] == true,
        })
    }
}

/// Videos with a hashtag that the brand tracks there.
pub struct HashtagVideos<'a>(pub Business<'a>);

impl Poll for HashtagVideos<'_> {
    async fn poll(&self, cursor: Option<&str>) -> Result<Page, CallError> {
        self.0.list("hashtag/video/list/", cursor).await
    }
}

/// Videos that mention the brand.
pub struct MentionVideos<'a>(pub Business<'a>);

impl Poll for MentionVideos<'_> {
    async fn poll(&self, cursor: Option<&str>) -> Result<Page, CallError> {
        self.0.list("video/list/", cursor).await
    }
}
