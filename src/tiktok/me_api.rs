//! The member's own `TikTok`: links to posts, and the login.

use entity::id::SiteId;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use url::Url;

use super::links::LinkError;
use super::logins::LoginError;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::MemberCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;
use crate::http::wire::Empty;

/// The operations.
pub struct MyTiktokApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
struct HandInTiktokPostRequest {
    /// The address of the post, as `TikTok`'s share button gives it.
    #[oai(validator(max_length = 500))]
    url: String,
}

/// A post on `TikTok`.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TiktokPost {
    /// The platform's id of it.
    external_id: String,
    /// Who made it.
    handle: String,
    /// What it says.
    caption: String,
    /// When it was made.
    posted_date: String,
    /// Whether it was known before.
    is_known: bool,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct HandInTiktokPostResponse {
    tiktok_post: TiktokPost,
}

/// A login that the member may begin.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TiktokLogin {
    /// Where the member logs in, in their browser.
    authorize_url: String,
    /// Until when that works.
    expires_date: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TiktokLoginResponse {
    tiktok_login: TiktokLogin,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct BeginTiktokLoginRequest {
    /// The page of the site that the member comes back to; its origin must be one of the site's `allowedOrigins`.
    #[oai(validator(max_length = 500))]
    return_url: String,
}

/// What came back to the page.
#[derive(Debug, Object)]
struct CompleteTiktokLoginRequest {
    /// The parameter `tiktokState`.
    #[oai(validator(min_length = 1, max_length = 2000))]
    state: String,
    /// The parameter `tiktokCode`.
    #[oai(validator(min_length = 1, max_length = 2000))]
    code: String,
}

#[OpenApi(prefix_path = "/me/v1", tag = "Tag::Sources")]
impl MyTiktokApi {
    /// Hand in a TikTok post
    ///
    /// TikTok is asked whose it is: it counts if it was made by the handle that the member claims, is not older than 30 days, and has a
    /// tracked hashtag. What it earns shows a moment later. A post counts once, also when it is found in another way. At most 20 at once
    /// and 20 an hour, with ends of logins.
    #[oai(path = "/tiktok-posts", method = "post", operation_id = "handInTiktokPost")]
    async fn hand_in_tiktok_post(
        &self,
        caller: MemberCaller,
        body: Body<HandInTiktokPostRequest>,
    ) -> Result<Json<HandInTiktokPostResponse>, Problem> {
        let (site, member) = caller.0;
        self.app.limits.check_lookup(member).map_err(Problem::too_many)?;
        let (post, item) = self.app.tiktok.hand_in(&self.app.intake, (site, member), &body.0.url).await?;
        Ok(Json(HandInTiktokPostResponse {
            tiktok_post: TiktokPost {
                external_id: post.external_id,
                handle: post.author_handle,
                caption: post.caption,
                posted_date: post.posted_at.to_rfc3339(),
                is_known: item.is_none(),
            },
        }))
    }

    /// Log in with TikTok
    ///
    /// The member opens the address in a browser, allows there that their profile and posts are read, and comes back to `returnUrl`
    /// with the parameters `tiktokState` and `tiktokCode`, or `tiktokError`. The page ends the login with both, in the member's
    /// name: so nobody can be talked into giving their TikTok account to somebody else.
    #[oai(path = "/tiktok-login", method = "post", operation_id = "beginTiktokLogin")]
    async fn begin_tiktok_login(
        &self,
        caller: MemberCaller,
        body: Body<BeginTiktokLoginRequest>,
    ) -> Result<Json<TiktokLoginResponse>, Problem> {
        let (site, member) = caller.0;
        let return_url = self.return_url(site, &body.0.return_url).await?;
        let (authorize_url, expires_at) = self.app.tiktok.begin_login(site, member, &return_url)?;
        Ok(Json(TiktokLoginResponse {
            tiktok_login: TiktokLogin { authorize_url, expires_date: expires_at.to_rfc3339() },
        }))
    }

    /// End a login with TikTok
    ///
    /// By the member who began it. From then on the handle is proven, and the member's posts are found by themselves.
    #[oai(path = "/tiktok-login/complete", method = "post", operation_id = "completeTiktokLogin")]
    async fn complete_tiktok_login(
        &self,
        caller: MemberCaller,
        body: Body<CompleteTiktokLoginRequest>,
    ) -> Result<Json<Empty>, Problem> {
        self.app.limits.check_lookup(caller.0.1).map_err(Problem::too_many)?;
        self.app.tiktok.finish_login(caller.0, &body.0.state, &body.0.code).await?;
        Ok(Json(Empty {}))
    }
}

impl MyTiktokApi {
    async fn return_url(&self, site: SiteId, text: &str) -> Result<Url, Problem> {
        let wrong = |text: &str| Problem::invalid("returnUrl", "FORMAT", text);
        let url = Url::parse(text).map_err(|_| wrong("is not a URL"))?;
        if !self.app.origins.allow(&url.origin().ascii_serialization(), Some(site)).await? {
            return Err(wrong("is not on one of the site's allowed origins"));
        }
        Ok(url)
    }
}

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        let text = error.to_string();
        match error {
            LinkError::NotAPost => Self::invalid("url", "FORMAT", text),
            LinkError::NoHandle => Self::precondition("TIKTOK_HANDLE_MISSING", text),
            LinkError::NotVisible => Self::precondition("TIKTOK_POST_NOT_VISIBLE", text),
            LinkError::Unavailable => Self::precondition("TIKTOK_UNAVAILABLE", text),
            LinkError::SomebodyElses => Self::precondition("TIKTOK_POST_OF_SOMEBODY_ELSE", text),
            LinkError::TooOld(_) => Self::precondition("TIKTOK_POST_TOO_OLD", text),
            LinkError::Store(cause) => Self::from(cause),
            LinkError::Intake(cause) => Self::from(cause),
        }
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let text = error.to_string();
        match error {
            LoginError::NotConfigured => Self::precondition("TIKTOK_NOT_CONFIGURED", text),
            LoginError::State => Self::invalid("state", "FORMAT", text),
            LoginError::Call(_) => Self::precondition("TIKTOK_UNAVAILABLE", text),
            LoginError::Seal(cause) => Self::internal(cause),
            LoginError::Store(cause) => Self::from(cause),
        }
    }
}
