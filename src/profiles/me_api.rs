//! The member's own: profile, link codes, and the site's channels as the member sees them.

use entity::id::Timestamp;
use entity::kinds;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::By;
use super::api::{ClaimedHandle, ProfileResponse, UpdateProfileRequest};
use super::link_codes::{self, LinkCodeError};
use super::widget::{self, ChannelState, Way};
use crate::app::App;
use crate::follows::{Followed, Subject};
use crate::http::Tag;
use crate::http::auth::MemberCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;
use crate::http::wire::{ChannelName, EvidenceName, FollowSourceName, ProgramStatusName};

/// The operations.
pub struct MeApi {
    /// The running service.
    pub app: App,
}

/// A channel where a handle can be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::Platform", rename = "LinkChannel", rename_all = "SCREAMING_SNAKE_CASE")]
enum LinkChannelName {
    /// Instagram.
    Instagram,
    /// TikTok.
    Tiktok,
}

/// What to make a code for: `{"linkCode": {"channel": "INSTAGRAM"}}`, or the bare form without `linkCode`.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateLinkCodeRequest {
    /// What to make a code for.
    link_code: Option<LinkCodeInput>,
    /// The channel, where there is no `linkCode`.
    channel: Option<LinkChannelName>,
}

#[derive(Debug, Object)]
struct LinkCodeInput {
    /// Where the member wants to prove a handle.
    channel: LinkChannelName,
}

/// A one-time code, shown this once.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct LinkCode {
    /// What the member sends to the brand as a direct message.
    code: String,
    /// Where.
    channel: LinkChannelName,
    /// Until when it counts.
    expires_date: String,
    /// The page that opens a direct message to the brand and brings the code along; absent where there is none.
    url: Option<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateLinkCodeResponse {
    link_code: LinkCode,
}

/// How a member can follow a channel so that it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "Way", rename = "FollowWay", rename_all = "SCREAMING_SNAKE_CASE")]
enum WayName {
    /// Follow there, then send the brand a direct message with a link code.
    DirectMessage,
    /// Follow there, then create a followed channel here.
    Declare,
}

/// The member's follow of a channel.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct MyFollow {
    /// Its id.
    id: Uuid,
    /// When it was made.
    created_date: String,
    /// Who told us.
    source: FollowSourceName,
    /// How well it is proven.
    evidence: EvidenceName,
    /// When the evidence was seen; absent where nobody but the member or an app said so.
    evidence_date: Option<String>,
}

impl From<Followed> for MyFollow {
    fn from(row: Followed) -> Self {
        Self {
            id: row.id.0,
            created_date: row.created_at.to_rfc3339(),
            source: row.source.into(),
            evidence: row.evidence.into(),
            evidence_date: row.evidence_at.map(Timestamp::to_rfc3339),
        }
    }
}

/// An enabled channel of the site and where the member stands with it.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct MyChannel {
    /// The channel.
    #[oai(rename = "type")]
    channel: ChannelName,
    /// The brand's handle there.
    id: Option<String>,
    /// The brand's page there.
    url: Option<String>,
    /// Points that a follow earns, once for ever.
    points: i64,
    /// Whether the member follows it.
    followed: bool,
    /// The follow, if there is one.
    followed_channel: Option<MyFollow>,
    /// The handle that the member claims there.
    handle: Option<ClaimedHandle>,
    /// How it can be followed now, the best proven way first; in no way unless the program is `ACTIVE`.
    how_to_follow: Vec<WayName>,
}

impl From<ChannelState> for MyChannel {
    fn from(state: ChannelState) -> Self {
        Self {
            channel: state.settings.channel.into(),
            id: state.settings.handle,
            url: state.settings.url,
            points: state.settings.points.unwrap_or(0),
            followed: state.follow.is_some(),
            followed_channel: state.follow.map(MyFollow::from),
            handle: state.handle.as_ref().map(ClaimedHandle::from),
            how_to_follow: state.ways.into_iter().map(WayName::from).collect(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListMyChannelsResponse {
    /// Whether members earn; follows are refused unless it is `ACTIVE`.
    program_status: ProgramStatusName,
    /// The enabled ones, in the order of the settings.
    #[oai(validator(max_items = 5))]
    channels: Vec<MyChannel>,
}

#[OpenApi(prefix_path = "/me/v1", tag = "Tag::Me")]
impl MeApi {
    /// Get my profile
    ///
    /// What is known of the member on social platforms: the handles that the member wrote, and what platforms told.
    #[oai(path = "/profile", method = "get", operation_id = "getMyProfile")]
    async fn get_my_profile(&self, caller: MemberCaller) -> Result<Json<ProfileResponse>, Problem> {
        let (site, member) = caller.0;
        Ok(Json(super::read(self.app.db.read(), site, member).await?.into()))
    }

    /// Update my profile
    ///
    /// Sets the handles that the member claims. Whoever claims a handle has not proven it yet: a link code does. A member changes to another
    /// handle at most five times in 30 days on each platform.
    #[oai(path = "/profile", method = "patch", operation_id = "updateMyProfile")]
    async fn update_my_profile(
        &self,
        caller: MemberCaller,
        body: Body<UpdateProfileRequest>,
    ) -> Result<Json<ProfileResponse>, Problem> {
        let (site, member) = caller.0;
        Ok(Json(body.0.apply(&self.app.db, By::Member, (site, member)).await?))
    }

    /// Create a link code
    ///
    /// A one-time code for half an hour, at most five an hour. The member sends it to the brand as a direct message, and
    /// whoever sends it from a handle has the handle.
    #[oai(path = "/link-codes", method = "post", operation_id = "createLinkCode")]
    async fn create_link_code(
        &self,
        caller: MemberCaller,
        body: Body<CreateLinkCodeRequest>,
    ) -> Result<Json<CreateLinkCodeResponse>, Problem> {
        let (site, member) = caller.0;
        let CreateLinkCodeRequest { link_code, channel } = body.0;
        let channel = link_code
            .map(|new| new.channel)
            .or(channel)
            .ok_or_else(|| Problem::invalid("linkCode.channel", "REQUIRED_FIELD", "must not be empty"))?;
        let db = &self.app.db;
        let tx = db.write().await?;
        let made = link_codes::create(&tx, site, member, channel.into()).await;
        let (code, expires_at) = made.map_err(|error| refusal(error, tx.now()))?;
        tx.commit().await?;
        let url = match channel {
            LinkChannelName::Instagram => widget::message_page(db.read(), site, &code).await?,
            LinkChannelName::Tiktok => None,
        };
        let link_code = LinkCode { code, channel, expires_date: expires_at.to_rfc3339(), url };
        Ok(Json(CreateLinkCodeResponse { link_code }))
    }

    /// List the channels as I see them
    ///
    /// What a page needs to show them: whether the program runs, the enabled channels with their points, and for each whether
    /// the member follows it, how well that is proven, the handle claimed there, and how it can be followed.
    #[oai(path = "/channels", method = "get", operation_id = "listMyChannels")]
    async fn list_my_channels(&self, caller: MemberCaller) -> Result<Json<ListMyChannelsResponse>, Problem> {
        let (site, member) = caller.0;
        let follows = self.app.follows.list(site, Subject::Member(member)).await?;
        let offer = widget::offer(self.app.db.read(), site, member, &follows).await?;
        Ok(Json(ListMyChannelsResponse {
            program_status: offer.program.into(),
            channels: offer.channels.into_iter().map(MyChannel::from).collect(),
        }))
    }
}

/// What the member gets instead of a code, at `now`.
fn refusal(error: LinkCodeError, now: Timestamp) -> Problem {
    match error {
        LinkCodeError::TooMany { again_at } => {
            let seconds = again_at.0.saturating_sub(now.0).max(0).unsigned_abs().div_ceil(1_000);
            Problem::too_many(u32::try_from(seconds).unwrap_or(u32::MAX))
        }
        LinkCodeError::Random(cause) => Problem::from(cause),
        LinkCodeError::Store(cause) => Problem::from(cause),
    }
}
