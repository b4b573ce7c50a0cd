//! Admin API: social-media settings, in the names of Wix's `SocialMediaSettings`.

use entity::id::SiteId;
use entity::kinds::Channel;
use entity::{kinds, site_channel};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object, OpenApi};

use super::{ChangeError, ChannelChange, LINK_REPLY_MAX};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::{Problem, Violation};
use crate::http::wire::{self, ChannelName};

/// The operations.
pub struct ChannelsApi {
    /// The running service.
    pub app: App,
}

/// What becomes of a follow's award when a platform says that the member no longer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::UnfollowPolicy", rename = "UnfollowPolicy", rename_all = "SCREAMING_SNAKE_CASE")]
enum UnfollowPolicyName {
    /// Nothing.
    Keep,
    /// The follow is marked as withdrawn.
    Flag,
    /// It is marked, and its points are taken back if it is not older than `reverseWithinDays`.
    Reverse,
}

/// The settings of one channel.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "SocialMediaChannel", skip_serializing_if_is_none)]
struct ChannelSettings {
    /// The channel.
    #[oai(rename = "type")]
    channel: ChannelName,
    /// Whether members may follow it.
    enabled: bool,
    /// The brand's handle there.
    id: Option<String>,
    /// The brand's page there.
    url: Option<String>,
    /// Points for a follow; absent leaves it to the earning rule.
    points: Option<i64>,
    /// What becomes of the award when a member no longer follows; `KEEP` unless changed.
    unfollow_policy: UnfollowPolicyName,
    /// With `REVERSE`, until how many days after the follow its points are taken back; 30 unless changed.
    reverse_within_days: i32,
    /// Whether a follow that a message from a claimed handle shows earns at once, before the member has proven the handle;
    /// true unless changed.
    claimed_handle_earns: bool,
    /// Instagram only: what a member is answered whose message with a link code has proven their handle. Absent: no answer.
    link_reply: Option<String>,
}

impl From<site_channel::Model> for ChannelSettings {
    fn from(row: site_channel::Model) -> Self {
        Self {
            channel: row.channel.into(),
            enabled: row.enabled,
            id: row.handle,
            url: row.url,
            points: row.points,
            unfollow_policy: row.unfollow_policy.into(),
            reverse_within_days: row.reverse_within_days,
            claimed_handle_earns: row.claimed_handle_earns,
            link_reply: row.link_reply,
        }
    }
}

/// The social-media settings of a site.
#[derive(Debug, Object)]
struct SocialMediaSettings {
    /// Grows with every change; a number as text.
    revision: String,
    /// All five channels.
    channels: Vec<ChannelSettings>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SocialMediaSettingsResponse {
    social_media_settings: SocialMediaSettings,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SocialMediaSettingsRequest {
    social_media_settings: SocialMediaSettingsUpdate,
}

/// Named channels change, the others stay.
#[derive(Debug, Object)]
struct SocialMediaSettingsUpdate {
    /// The revision that was read; a newer one answers 409.
    #[oai(validator(max_length = 20))]
    revision: Option<String>,
    /// The channels to change.
    #[oai(validator(max_items = 5))]
    channels: Vec<ChannelUpdate>,
}

/// What is absent stays.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "SocialMediaChannelUpdate")]
struct ChannelUpdate {
    /// The channel.
    #[oai(rename = "type")]
    channel: ChannelName,
    /// Whether members may follow it; needs a handle or URL.
    enabled: Option<bool>,
    /// The brand's handle there, with or without `@`; `null` takes it away.
    #[oai(validator(min_length = 1, max_length = 255))]
    id: MaybeUndefined<String>,
    /// The brand's page there, derived from the handle unless another is given; `null` for that one.
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: MaybeUndefined<String>,
    /// Points for a follow; `null` for none of the channel's own.
    #[oai(validator(minimum(value = "0"), maximum(value = "9999999")))]
    points: MaybeUndefined<i64>,
    /// What becomes of the award when a member no longer follows.
    unfollow_policy: Option<UnfollowPolicyName>,
    /// With `REVERSE`, until how many days after the follow its points are taken back.
    #[oai(validator(minimum(value = "1"), maximum(value = "365")))]
    reverse_within_days: Option<i32>,
    /// Whether a follow seen from a handle that is only claimed earns at once.
    claimed_handle_earns: Option<bool>,
    /// Instagram only: what a member is answered, within 24 hours, whose message with a link code has proven their handle; at
    /// most 1,000 bytes of UTF-8. Empty: no answer.
    link_reply: Option<String>,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl ChannelsApi {
    /// Get the social-media settings
    #[oai(path = "/social-media-settings", method = "get", operation_id = "getSocialMediaSettings")]
    async fn get_social_media_settings(
        &self,
        caller: AdminCaller,
    ) -> Result<Json<SocialMediaSettingsResponse>, Problem> {
        self.respond(caller.site()?).await
    }

    /// Update the social-media settings
    ///
    /// Named channels only. A handle gives the page's URL unless one is given.
    #[oai(path = "/social-media-settings", method = "patch", operation_id = "updateSocialMediaSettings")]
    async fn update_social_media_settings(
        &self,
        caller: AdminCaller,
        body: Body<SocialMediaSettingsRequest>,
    ) -> Result<Json<SocialMediaSettingsResponse>, Problem> {
        let site = caller.site()?;
        let update = body.0.social_media_settings;
        let revision = wire::revision(update.revision.as_deref(), "socialMediaSettings.revision")?;
        let changes = update
            .channels
            .into_iter()
            .enumerate()
            .map(|(index, update)| {
                if let MaybeUndefined::Value(url) = &update.url {
                    check_page(url, index)?;
                }
                if let Some(reply) = &update.link_reply {
                    check_link_reply(reply, update.channel.into(), index)?;
                }
                Ok(ChannelChange {
                    channel: update.channel.into(),
                    enabled: update.enabled,
                    handle: wire::change(update.id),
                    url: wire::change(update.url),
                    points: wire::change(update.points),
                    unfollow_policy: update.unfollow_policy.map(Into::into),
                    reverse_within_days: update.reverse_within_days,
                    claimed_handle_earns: update.claimed_handle_earns,
                    link_reply: update.link_reply,
                })
            })
            .collect::<Result<Vec<_>, Problem>>()?;
        let tx = self.app.db.write().await?;
        super::change_settings(&tx, site, revision, &changes).await?;
        tx.commit().await?;
        self.respond(site).await
    }
}

impl ChannelsApi {
    async fn respond(&self, site: SiteId) -> Result<Json<SocialMediaSettingsResponse>, Problem> {
        let (revision, channels) = super::read_settings(self.app.db.read(), site)
            .await?
            .ok_or_else(|| Problem::not_found("SITE_NOT_FOUND", "there is no such site"))?;
        Ok(Json(SocialMediaSettingsResponse {
            social_media_settings: SocialMediaSettings {
                revision: revision.to_string(),
                channels: channels.into_iter().map(ChannelSettings::from).collect(),
            },
        }))
    }
}

fn check_page(page: &str, index: usize) -> Result<(), Problem> {
    let is_page = url::Url::parse(page).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_page {
        return Ok(());
    }
    let violation = Violation::new(
        format!("socialMediaSettings.channels[{index}].url"),
        "FORMAT",
        "is not an http or https URL",
    );
    Err(Problem::validation(vec![violation.with(serde_json::json!({"expected": "WEB_URL"}))]))
}

fn check_link_reply(reply: &str, channel: Channel, index: usize) -> Result<(), Problem> {
    let field = format!("socialMediaSettings.channels[{index}].linkReply");
    if channel != Channel::Instagram && !reply.is_empty() {
        return Err(Problem::invalid(field, "FIELD_NOT_ALLOWED", "only messages on Instagram are answered"));
    }
    if reply.len() > LINK_REPLY_MAX {
        let violation =
            Violation::new(field, "MAX_LENGTH", format!("must have at most {LINK_REPLY_MAX} bytes"));
        return Err(Problem::validation(vec![
            violation.with(serde_json::json!({"threshold": LINK_REPLY_MAX})),
        ]));
    }
    Ok(())
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let text = error.to_string();
        match error {
            ChangeError::SiteNotFound => Self::not_found("SITE_NOT_FOUND", text),
            ChangeError::StaleRevision => Self::stale_revision(),
            ChangeError::NoHandle(index, _) => {
                Self::invalid(format!("socialMediaSettings.channels[{index}].id"), "REQUIRED_FIELD", text)
            }
            ChangeError::NotAHandle(index) => {
                Self::invalid(format!("socialMediaSettings.channels[{index}].id"), "FORMAT", text)
            }
            ChangeError::Twice(index) => {
                Self::invalid(format!("socialMediaSettings.channels[{index}].type"), "FORMAT", text)
            }
            ChangeError::Store(cause) => Self::from(cause),
        }
    }
}
