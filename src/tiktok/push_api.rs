//! The entrance for providers of posts.

use entity::id::SiteId;
use poem::Request;
use poem_openapi::auth::ApiKey;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi, SecurityScheme};
use serde_json::Value;
use uuid::Uuid;

use super::push::{self, Pushed};
use super::signature;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::{ManagerCaller, SITE_HEADER};
use crate::http::body::Raw;
use crate::http::problem::Problem;
use crate::sites;
use crate::sources::intake::IntakeError;

/// The operations.
pub struct TiktokPostsApi {
    /// The running service.
    pub app: App,
}

/// Who pushes: by a key, or by a signature.
#[derive(SecurityScheme)]
enum Provider {
    Signed(Signed),
    Caller(ManagerCaller),
}

/// `t=<seconds>,s=<hex>`, as `TikTok` signs: HMAC-SHA256 over the time, a dot and the body under the developer app's client secret.
/// Together with `wix-site-id`, and without `Authorization`.
#[derive(SecurityScheme)]
#[oai(
    rename = "tiktokSignature",
    ty = "api_key",
    key_name = "TikTok-Signature",
    key_in = "header",
    checker = "signed"
)]
struct Signed(Signature);

/// A signature that is still to be checked: that takes the body.
struct Signature {
    header: String,
    site: Option<String>,
}

async fn signed(request: &Request, key: ApiKey) -> Option<Signature> {
    if request.headers().contains_key("authorization") {
        return None;
    }
    let site = request.headers().get(SITE_HEADER).and_then(|value| value.to_str().ok());
    Some(Signature { header: key.key, site: site.map(str::to_owned) })
}

/// Posts that a provider has collected.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct PushTiktokPostsRequest {
    /// The provider: `apify-tiktok-hashtag`.
    #[oai(validator(max_length = 200))]
    source: Option<String>,
    /// The provider's id of this call; comes back in the answer.
    #[oai(validator(max_length = 200))]
    batch_id: Option<String>,
    /// When they were collected.
    #[oai(validator(max_length = 40))]
    collected_at: Option<String>,
    /// The posts. Of each: `external_id`, `author_handle`, `posted_at` (RFC 3339 or seconds), `caption`, and as far as they are known
    /// `hashtags`, `url`, `like_count`, `comment_count`, `author {followers, following, bio, avatar_url, verified}`. The names of Apify's
    /// scrapers do as well: `id`, `authorMeta {name, fans, following, signature, avatar}`, `createTimeISO`, `text`, `hashtags[].name`,
    /// `webVideoUrl`, `diggCount`, `commentCount`. Each is judged by itself.
    #[oai(validator(max_items = 500))]
    items: Vec<Any<Value>>,
}

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "push::Status", rename = "TiktokPostStatus", rename_all = "snake_case")]
enum TiktokPostStatus {
    /// It is new, and a member has the handle.
    Accepted,
    /// It was known before; its counts may have changed, and nothing is awarded again.
    Duplicate,
    /// It is new, and nobody on the site has the handle, or nobody had it in time; it waits for 30 days for somebody who does.
    Unmatched,
    /// It does not count: it is more than 30 days old, older than the claim of the member who has proven the handle, or its id is of
    /// another time.
    TooOld,
    /// It cannot be read.
    Invalid,
}

/// What became of one post.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct TiktokPostResult {
    /// Its id, as far as it could be read.
    external_id: Option<String>,
    /// What became of it.
    status: TiktokPostStatus,
    /// What was stored of it; absent unless it is new.
    event_id: Option<String>,
    /// Why it does not count.
    reason: Option<String>,
}

/// What became of each post, in their order.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct PushTiktokPostsResponse {
    /// As it was given.
    batch_id: Option<String>,
    /// One for each post.
    results: Vec<TiktokPostResult>,
}

impl From<Pushed> for TiktokPostResult {
    fn from(pushed: Pushed) -> Self {
        let event_id = pushed.item.filter(|_| pushed.status == push::Status::Accepted);
        Self {
            external_id: pushed.external_id,
            status: pushed.status.into(),
            event_id: event_id.map(|id| id.0.to_string()),
            reason: pushed.reason,
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Busy(_) => Self::busy(),
            IntakeError::Store(cause) => Self::from(cause),
        }
    }
}

#[OpenApi(tag = "Tag::Sources")]
impl TiktokPostsApi {
    /// Push TikTok posts
    ///
    /// Up to 500 posts that a provider found, stored before this answers. The caller is an app or a key that may manage loyalty on the
    /// site, or signs as TikTok does. A post counts once, however often and in whatever batch it comes; a later one may
    /// only change its counts.
    #[oai(path = "/ingest/tiktok/posts", method = "post", operation_id = "pushTiktokPosts")]
    async fn push_tiktok_posts(
        &self,
        caller: Provider,
        body: Raw<PushTiktokPostsRequest>,
    ) -> Result<Json<PushTiktokPostsResponse>, Problem> {
        let site = match caller {
            Provider::Caller(caller) => caller.0.site,
            Provider::Signed(Signed(signature)) => self.signed_site(&signature, &body.bytes).await?,
        };
        let request = body.parse()?;
        let posts: Vec<Value> = request.items.into_iter().map(|item| item.0).collect();
        let sent = (body.bytes, posts.as_slice());
        let results = self.app.tiktok.push(&self.app.intake, site, sent).await?;
        let results = results.into_iter().map(TiktokPostResult::from).collect();
        Ok(Json(PushTiktokPostsResponse { batch_id: request.batch_id, results }))
    }

    /// The site that a signed call names, if the signature holds.
    async fn signed_site(&self, signature: &Signature, body: &[u8]) -> Result<SiteId, Problem> {
        let secrets = &self.app.tiktok.settings().developer.secrets;
        let now = self.app.db.now();
        signature::verify(&signature.header, body, secrets, now, signature::AGE_MAX_MS).map_err(|error| {
            tracing::warn!(source = push::SOURCE, %error, "a webhook was refused");
            Problem::forbidden(error.to_string())
        })?;
        let Some(site) = signature.site.as_deref() else {
            return Err(Problem::invalid(SITE_HEADER, "REQUIRED_FIELD", "must say which site is meant"));
        };
        let site =
            Uuid::try_parse(site).map_err(|_| Problem::invalid(SITE_HEADER, "FORMAT", "is not a GUID"))?;
        let found = sites::find_site(self.app.db.read(), SiteId(site)).await?;
        found.map(|site| site.id).ok_or_else(|| Problem::not_found("SITE_NOT_FOUND", "there is no such site"))
    }
}
