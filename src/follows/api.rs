//! The Wix social-media service: list and create followed channels.

use entity::id::{AccountId, SiteId};
use poem::Request;
use poem_openapi::param::{Header, Query};
use poem_openapi::types::ToJSON as _;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Follow, FollowError, Proof, Subject};
use crate::access::{Caller, Identity, Scope};
use crate::accounts::{self, AccountKey};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::{FollowerCaller, OnSite, SiteCaller};
use crate::http::body::{BODY_BYTES_MAX, Raw};
use crate::http::problem::{Problem, Violation};
use crate::http::wire::{ChannelName, FollowedChannel};
use crate::http::written::Written;

/// The header that makes a repeat of a call the same call.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Characters of an idempotency key.
pub const IDEMPOTENCY_KEY_MAX: usize = 256;

/// The service's operations.
pub struct FollowsApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateFollowedChannelRequest {
    /// What to follow.
    followed_channel: FollowedChannelInput,
}

/// A channel to follow. Other fields of a followed channel are read-only and ignored.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", example, skip_serializing_if_is_none)]
struct FollowedChannelInput {
    /// The channel; the owner must have enabled it.
    channel: ChannelName,
    /// The account, for apps and API keys; ignored for members, who follow for themselves.
    account_id: Option<String>,
}

/// The same as far as it counts when a member calls.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct FollowChannelMyselfRequest {
    followed_channel: MyFollowedChannelInput,
}

#[derive(Debug, Object)]
struct MyFollowedChannelInput {
    channel: ChannelName,
}

/// Of a request that may be wrong otherwise, whose account is meant.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NamesAccount {
    followed_channel: NamedAccount,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NamedAccount {
    account_id: Uuid,
}

type CreateBody = Raw<CreateFollowedChannelRequest, BODY_BYTES_MAX>;

impl poem_openapi::types::Example for FollowedChannelInput {
    fn example() -> Self {
        Self { channel: ChannelName::X, account_id: None }
    }
}

#[derive(Debug, Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct CreateFollowedChannelResponse {
    followed_channel: FollowedChannel,
}

#[derive(Debug, Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct ListFollowedChannelsResponse {
    /// Newest first; at most one per channel.
    #[oai(validator(max_items = 5))]
    followed_channels: Vec<FollowedChannel>,
}

#[OpenApi(prefix_path = "/loyalty-social-media/v1", tag = "Tag::SocialMedia")]
impl FollowsApi {
    /// List followed channels
    ///
    /// The channels that an account follows, newest first. A member sees its own, a visitor an empty list; apps and API
    /// keys name the account.
    #[oai(path = "/followed-channels", method = "get", operation_id = "listFollowedChannels")]
    async fn list_followed_channels(
        &self,
        caller: SiteCaller,
        /// The account, for apps and API keys.
        #[oai(name = "accountId")]
        account_id: Query<Option<String>>,
    ) -> Result<Written<ListFollowedChannelsResponse>, Problem> {
        let rows = match *caller.0 {
            Caller::Visitor { .. } => Vec::new(),
            Caller::Member { site, member } => self.app.follows.list(site, Subject::Member(member)).await?,
            Caller::App { .. } | Caller::ApiKey { .. } => {
                let site = caller.on_site(Scope::ReadLoyalty)?.site;
                let account = named_account(account_id.0.as_deref(), "accountId")?;
                self.app.follows.list(site, Subject::Account(account)).await?
            }
        };
        let followed_channels = rows.into_iter().map(FollowedChannel::from).collect();
        Ok(Written(ListFollowedChannelsResponse { followed_channels }))
    }

    /// Follow a channel
    ///
    /// Records that an account follows a channel and awards the points that the owner set for it, once for ever. The
    /// account is made if the member has none. With `Idempotency-Key`, the same call gets the same answer again.
    #[oai(path = "/followed-channels", method = "post", operation_id = "createFollowedChannel")]
    async fn create_followed_channel(
        &self,
        caller: FollowerCaller,
        /// A repeat of the call with the same key gets the first answer again.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        request: &Request,
        body: CreateBody,
    ) -> Result<Written<CreateFollowedChannelResponse>, Problem> {
        let (OnSite { site, identity }, member) = caller.0;
        let (subject, channel) = match member {
            Some(member) => {
                let new: FollowChannelMyselfRequest = body.parse_as()?;
                (Subject::Member(member), new.followed_channel.channel)
            }
            // Boxed, so that the request of a member need not have room for it.
            None => Box::pin(self.named(site, &body)).await?,
        };
        let follow = Follow {
            site,
            subject,
            channel: channel.into(),
            identity,
            idempotency_key: checked_key(&identity, idempotency_key.0, request)?,
            proof: Proof::DECLARED,
        };
        let row = self.app.follows.create(follow).await?;
        Ok(Written(CreateFollowedChannelResponse { followed_channel: row.into() }))
    }
}

impl FollowsApi {
    /// Whose account is to follow what. An account that is not there is refused before anything else in `body` is.
    async fn named(&self, site: SiteId, body: &CreateBody) -> Result<(Subject, ChannelName), Problem> {
        let new = match body.parse() {
            Ok(request) => request.followed_channel,
            Err(problem) => {
                if let Ok(names) = body.parse_as::<NamesAccount>() {
                    let account = AccountKey::Id(AccountId(names.followed_channel.account_id));
                    let found = accounts::find_account(self.app.db.read(), site, account).await?;
                    found.ok_or(FollowError::AccountNotFound)?;
                }
                return Err(problem);
            }
        };
        let account = named_account(new.account_id.as_deref(), "followedChannel.accountId")?;
        Ok((Subject::Account(account), new.channel))
    }
}

/// The account that an app or a key names in `field`: it has none of its own.
fn named_account(named: Option<&str>, field: &'static str) -> Result<AccountId, Problem> {
    let Some(named) = named else {
        let description = "must name the account: the caller is not a member";
        return Err(Problem::invalid(field, "REQUIRED_FIELD", description));
    };
    let id = Uuid::try_parse(named).map_err(|_| Problem::invalid(field, "FORMAT", "is not a GUID"))?;
    Ok(AccountId(id))
}

/// The key of `request` as it is stored: apps and members do not share theirs.
fn checked_key(
    identity: &Identity,
    key: Option<String>,
    request: &Request,
) -> Result<Option<String>, Problem> {
    let refused = |rule, description: String| {
        Problem::validation(vec![Violation::new(IDEMPOTENCY_KEY, rule, description)])
    };
    let Some(key) = key else {
        // The framework takes what it cannot read for absent.
        let is_sent = request.headers().contains_key(IDEMPOTENCY_KEY);
        let unreadable = refused("FORMAT", "has other characters than those of ASCII".to_owned());
        return if is_sent { Err(unreadable) } else { Ok(None) };
    };
    let long = |rule| refused(rule, format!("has 1 to {IDEMPOTENCY_KEY_MAX} characters"));
    if key.is_empty() {
        return Err(long("MIN_LENGTH"));
    }
    if key.chars().count() > IDEMPOTENCY_KEY_MAX {
        return Err(long("MAX_LENGTH"));
    }
    Ok(Some(format!("{key}\n{}", identity.to_json())))
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        let text = error.to_string();
        match error {
            FollowError::AccountNotFound => Self::not_found("ACCOUNT_NOT_FOUND", text),
            FollowError::ProgramNotActive(status) => {
                Self::precondition("PROGRAM_NOT_ACTIVE", text).with(json!({"status": status.as_str()}))
            }
            FollowError::ChannelNotEnabled(channel) => {
                Self::precondition("CHANNEL_NOT_ENABLED", text).with(json!({"channel": channel.as_str()}))
            }
            FollowError::AlreadyFollowed(row) => Self::conflict("ALREADY_EXISTS", text)
                .with(json!({"followedChannel": FollowedChannel::from(*row).to_json()})),
            FollowError::IdempotencyKeyReused => Self::conflict("IDEMPOTENCY_KEY_REUSED", text),
            FollowError::Busy(_) => Self::busy(),
            FollowError::Store(cause) => Self::from(cause),
            FollowError::Encode(cause) => Self::internal(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::to_value;

    use super::*;

    #[test]
    fn what_is_written_is_what_the_document_says() {
        for channel in [
            ChannelName::Facebook,
            ChannelName::Instagram,
            ChannelName::Linkedin,
            ChannelName::X,
            ChannelName::Tiktok,
        ] {
            let followed_channel = || FollowedChannel {
                id: Uuid::from_u128(1),
                account_id: Uuid::from_u128(2),
                channel,
                created_date: "2024-08-01T11:51:41.431Z".to_owned(),
            };
            let made = CreateFollowedChannelResponse { followed_channel: followed_channel() };
            assert_eq!(to_value(&made).ok(), made.to_json());
            let listed = ListFollowedChannelsResponse { followed_channels: vec![followed_channel()] };
            assert_eq!(to_value(&listed).ok(), listed.to_json());
        }
        let nothing = ListFollowedChannelsResponse { followed_channels: Vec::new() };
        assert_eq!(to_value(&nothing).ok(), nothing.to_json());
    }
}
