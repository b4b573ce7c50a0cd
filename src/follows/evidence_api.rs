//! Admin API: followed channels with their evidence.

use std::collections::HashMap;

use entity::followed_channel;
use entity::id::{AccountId, FollowedChannelId, MemberId, Timestamp};
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::evidence::{self, FollowFilter};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::paging::{PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::{ChannelName, EvidenceName, FollowSourceName};

/// The operation.
pub struct FollowEvidenceApi {
    /// The running service.
    pub app: App,
}

/// A followed channel as the owner sees it.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "ProvenFollowedChannel", skip_serializing_if_is_none)]
struct ProvenFollow {
    /// Its id.
    id: Uuid,
    /// The account that follows.
    account_id: Uuid,
    /// The member behind the account.
    member_id: Option<Uuid>,
    /// What it follows.
    channel: ChannelName,
    /// When it was made.
    created_date: String,
    /// Who told us.
    source: FollowSourceName,
    /// How well it is proven.
    evidence: EvidenceName,
    /// When the evidence was seen; absent where nobody but the member or an app said so.
    evidence_date: Option<String>,
}

impl ProvenFollow {
    fn new(row: &followed_channel::Model, members: &HashMap<AccountId, MemberId>) -> Self {
        Self {
            id: row.id.0,
            account_id: row.account_id.0,
            member_id: members.get(&row.account_id).map(|member| member.0),
            channel: row.channel.into(),
            created_date: row.created_at.to_rfc3339(),
            source: row.source.into(),
            evidence: row.evidence.into(),
            evidence_date: row.evidence_at.map(Timestamp::to_rfc3339),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListFollowsResponse {
    followed_channels: Vec<ProvenFollow>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl FollowEvidenceApi {
    /// List the followed channels of the site
    ///
    /// With who told of each and how well it is proven. Newest first.
    #[oai(path = "/followed-channels", method = "get", operation_id = "listFollowedChannelsOfSite")]
    async fn list_followed_channels_of_site(
        &self,
        caller: AdminCaller,
        /// Only of this account.
        #[oai(name = "accountId")]
        account_id: Query<Option<Uuid>>,
        /// Only of this channel.
        channel: Query<Option<ChannelName>>,
        /// Only those that are so well proven.
        evidence: Query<Option<EvidenceName>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListFollowsResponse>, Problem> {
        let site = caller.site()?;
        let filter = FollowFilter {
            account: account_id.0.map(AccountId),
            channel: channel.0.map(Into::into),
            evidence: evidence.0.map(Into::into),
        };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, filter)?;
        let (db, before) = (self.app.db.read(), page.after.map(FollowedChannelId));
        let rows = evidence::list(db, site, page.filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let members = evidence::members(db, site, &rows).await?;
        let followed_channels = rows.iter().map(|row| ProvenFollow::new(row, &members)).collect();
        Ok(Json(ListFollowsResponse { followed_channels, paging_metadata }))
    }
}
