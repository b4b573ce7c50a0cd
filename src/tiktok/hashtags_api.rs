//! Admin API: the hashtags whose posts count as mentions.

use entity::tracked_hashtag;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::tracked::{self, TrackError};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::Empty;

/// The operations.
pub struct TiktokHashtagsApi {
    /// The running service.
    pub app: App,
}

/// A hashtag whose posts on `TikTok` count as mentions of the brand.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TiktokHashtag {
    /// Its id.
    #[oai(read_only)]
    id: Uuid,
    /// As it was written: `#NordbrewCoffee`.
    hashtag: String,
    /// As captions are searched for it: without `#`, in lower case.
    #[oai(read_only)]
    matches: String,
    /// Since when it is tracked.
    #[oai(read_only)]
    created_date: String,
}

impl From<tracked_hashtag::Model> for TiktokHashtag {
    fn from(row: tracked_hashtag::Model) -> Self {
        Self {
            id: row.id,
            hashtag: row.hashtag,
            matches: row.folded,
            created_date: row.created_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateTiktokHashtagRequest {
    /// What to track.
    tiktok_hashtag: TiktokHashtagInput,
}

#[derive(Debug, Object)]
struct TiktokHashtagInput {
    /// One word of letters, digits and `_` in any script, with or without `#`.
    #[oai(validator(min_length = 1, max_length = 120))]
    hashtag: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TiktokHashtagResponse {
    tiktok_hashtag: TiktokHashtag,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListTiktokHashtagsResponse {
    tiktok_hashtags: Vec<TiktokHashtag>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Sources")]
impl TiktokHashtagsApi {
    /// Track a TikTok hashtag
    ///
    /// Posts with it in their caption count as mentions from now on. One that is tracked already, in whatever case it is written, is
    /// answered as it is. A site tracks at most 100.
    #[oai(path = "/tiktok-hashtags", method = "post", operation_id = "createTiktokHashtag")]
    async fn create_tiktok_hashtag(
        &self,
        caller: AdminCaller,
        body: Body<CreateTiktokHashtagRequest>,
    ) -> Result<Json<TiktokHashtagResponse>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        let row = tracked::add(&tx, site, &body.0.tiktok_hashtag.hashtag).await?;
        tx.commit().await?;
        Ok(Json(TiktokHashtagResponse { tiktok_hashtag: row.into() }))
    }

    /// List tracked TikTok hashtags
    ///
    /// Newest first.
    #[oai(path = "/tiktok-hashtags", method = "get", operation_id = "listTiktokHashtags")]
    async fn list_tiktok_hashtags(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListTiktokHashtagsResponse>, Problem> {
        let site = caller.site()?;
        let page =
            PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListTiktokHashtagsResponse>::default())?;
        let rows = tracked::list(self.app.db.read(), site, page.after, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id);
        let tiktok_hashtags = rows.into_iter().map(TiktokHashtag::from).collect();
        Ok(Json(ListTiktokHashtagsResponse { tiktok_hashtags, paging_metadata }))
    }

    /// Stop tracking a TikTok hashtag
    ///
    /// What was recorded for it stays.
    #[oai(path = "/tiktok-hashtags/:id", method = "delete", operation_id = "deleteTiktokHashtag")]
    async fn delete_tiktok_hashtag(
        &self,
        caller: AdminCaller,
        /// The hashtag.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        if !tracked::remove(&tx, site, id.0).await? {
            return Err(Problem::not_found("TIKTOK_HASHTAG_NOT_FOUND", "there is no such hashtag"));
        }
        tx.commit().await?;
        Ok(Json(Empty {}))
    }
}

impl From<TrackError> for Problem {
    fn from(error: TrackError) -> Self {
        let text = error.to_string();
        match error {
            TrackError::NotAHashtag => Self::invalid("tiktokHashtag.hashtag", "FORMAT", text),
            TrackError::TooMany => Self::precondition("TOO_MANY_TIKTOK_HASHTAGS", text),
            TrackError::Store(cause) => Self::from(cause),
        }
    }
}
