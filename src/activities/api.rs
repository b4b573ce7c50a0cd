//! Activities, as owners and members see them, and the inbox behind them.

use entity::id::{ActivityId, ItemId, MemberId};
use entity::{activity_award, follow_change};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::log::{self, ActivityFilter, Story};
use super::names_api::{Activity, ActivityOutcomeName, ActivityTypeName, ItemStatusName, SourceItem};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::{AdminCaller, MemberCaller};
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::{self, PlatformName};
use crate::inbox::items::{self, ItemFilter};
use crate::profiles::handles;

/// The operations.
pub struct ActivitiesApi {
    /// The running service.
    pub app: App,
}

/// What a rule has awarded for an activity.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ActivityAward {
    /// The rule; it may have been deleted since.
    rule_id: Uuid,
    /// Its `revision` then.
    rule_revision: String,
    /// Points.
    points: i64,
    /// When.
    awarded_date: String,
}

impl From<activity_award::Model> for ActivityAward {
    fn from(row: activity_award::Model) -> Self {
        Self {
            rule_id: row.rule_id.0,
            rule_revision: row.rule_version.to_string(),
            points: row.points,
            awarded_date: row.awarded_at.to_rfc3339(),
        }
    }
}

/// What a platform told of whether a person follows the brand.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct FollowChange {
    /// What it is from then on.
    follows: bool,
    /// The member, where that was known.
    member_id: Option<Uuid>,
    /// When we saw it.
    seen_date: String,
}

impl From<follow_change::Model> for FollowChange {
    fn from(row: follow_change::Model) -> Self {
        Self {
            follows: row.follows,
            member_id: row.member_id.map(|id| id.0),
            seen_date: row.seen_at.to_rfc3339(),
        }
    }
}

/// What an activity has caused.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ActivityEffects {
    /// What rules have awarded for it.
    awards: Vec<ActivityAward>,
    /// The change of following that came with it.
    follow_change: Option<FollowChange>,
    /// The events about it, the newest first.
    event_ids: Vec<Uuid>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ActivityResponse {
    activity: Activity,
    /// What the platform sent; absent once it is too old.
    source_item: Option<SourceItem>,
    effects: ActivityEffects,
}

impl From<Story> for ActivityResponse {
    fn from(story: Story) -> Self {
        Self {
            activity: story.activity.into(),
            source_item: story.item.map(SourceItem::with_payload),
            effects: ActivityEffects {
                awards: story.awards.into_iter().map(Into::into).collect(),
                follow_change: story.follow_change.map(Into::into),
                event_ids: story.events,
            },
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListActivitiesResponse {
    activities: Vec<Activity>,
    paging_metadata: PagingMetadata,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListSourceItemsResponse {
    source_items: Vec<SourceItem>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(tag = "Tag::Sources")]
impl ActivitiesApi {
    /// List activities
    ///
    /// Newest first: what persons did on social platforms, whether or not anything came of it.
    #[oai(path = "/admin/v1/activities", method = "get", operation_id = "listActivities")]
    async fn list_activities(
        &self,
        caller: AdminCaller,
        /// Only of this type.
        #[oai(name = "type")]
        kind: Query<Option<ActivityTypeName>>,
        /// Only on this platform.
        platform: Query<Option<PlatformName>>,
        /// Only those of which this came.
        outcome: Query<Option<ActivityOutcomeName>>,
        /// Only by this member.
        #[oai(name = "memberId")]
        member_id: Query<Option<Uuid>>,
        /// Only by whoever has this handle, with or without `@`.
        handle: Query<Option<String>>,
        /// Only those recorded from this instant on, RFC 3339.
        since: Query<Option<String>>,
        /// Only those recorded before this instant, RFC 3339.
        until: Query<Option<String>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListActivitiesResponse>, Problem> {
        let site = caller.site()?;
        let not_a_handle = || Problem::invalid("handle", "FORMAT", "is not a handle");
        let filter = ActivityFilter {
            kind: kind.0.map(Into::into),
            platform: platform.0.map(Into::into),
            outcome: outcome.0.map(Into::into),
            member: member_id.0.map(MemberId),
            handle: handle.0.map(|text| handles::normalised(&text).ok_or_else(not_a_handle)).transpose()?,
            since: since.0.as_deref().map(|text| wire::instant(text, "since")).transpose()?,
            until: until.0.as_deref().map(|text| wire::instant(text, "until")).transpose()?,
        };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, filter)?;
        let before = page.after.map(ActivityId);
        let rows = log::list_activities(self.app.db.read(), site, &page.filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let activities = rows.into_iter().map(Activity::from).collect();
        Ok(Json(ListActivitiesResponse { activities, paging_metadata }))
    }

    /// Get an activity
    ///
    /// With what the platform sent, and what it has caused.
    #[oai(path = "/admin/v1/activities/:id", method = "get", operation_id = "getActivity")]
    async fn get_activity(
        &self,
        caller: AdminCaller,
        /// The activity.
        id: Path<Uuid>,
    ) -> Result<Json<ActivityResponse>, Problem> {
        let found = log::find_activity(self.app.db.read(), caller.site()?, ActivityId(id.0)).await?;
        let story =
            found.ok_or_else(|| Problem::not_found("ACTIVITY_NOT_FOUND", "there is no such activity"))?;
        Ok(Json(story.into()))
    }

    /// List what platforms sent
    ///
    /// Newest first: everything that came for the site, or was fetched, and why nothing came of it or what it waits for.
    #[oai(path = "/admin/v1/source-items", method = "get", operation_id = "listSourceItems")]
    async fn list_source_items(
        &self,
        caller: AdminCaller,
        /// Only what is so far.
        status: Query<Option<ItemStatusName>>,
        /// Only of this kind.
        #[oai(validator(max_length = 100))]
        kind: Query<Option<String>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListSourceItemsResponse>, Problem> {
        let site = caller.site()?;
        let filter = ItemFilter { status: status.0.map(Into::into), kind: kind.0 };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, filter)?;
        let before = page.after.map(ItemId);
        let rows = items::list_items(self.app.db.read(), site, &page.filter, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let source_items = rows.into_iter().map(SourceItem::from).collect();
        Ok(Json(ListSourceItemsResponse { source_items, paging_metadata }))
    }

    /// List the current member's activities
    ///
    /// Newest first.
    #[oai(path = "/me/v1/activities", method = "get", operation_id = "listMyActivities")]
    async fn list_my_activities(
        &self,
        caller: MemberCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListActivitiesResponse>, Problem> {
        let (site, member) = caller.0;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListActivitiesResponse>::default())?;
        // Whose they are says the token, never the cursor.
        let own = ActivityFilter { member: Some(member), ..ActivityFilter::default() };
        let before = page.after.map(ActivityId);
        let rows = log::list_activities(self.app.db.read(), site, &own, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let activities = rows.into_iter().map(Activity::from).collect();
        Ok(Json(ListActivitiesResponse { activities, paging_metadata }))
    }
}
