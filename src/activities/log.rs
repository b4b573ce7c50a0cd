//! What owners and members see of activities, and what each has caused.

use entity::id::{ActivityId, MemberId, SiteId, Timestamp};
use entity::kinds::{ActivityOutcome, ActivityType, Platform};
use entity::{activity, activity_award, event, follow_change, item};
use sea_orm::sea_query::Value;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DbErr, EntityTrait, FromQueryResult as _, QueryFilter,
    QueryOrder, QuerySelect, Statement,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::inbox::items;
use crate::webhooks::replays::first_id;

/// Events about one activity that are named with it.
const EVENTS_MAX: u64 = 100;

/// Which activities to list.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct ActivityFilter {
    /// Of this type.
    pub kind: Option<ActivityType>,
    /// On this platform.
    pub platform: Option<Platform>,
    /// Of which this came.
    pub outcome: Option<ActivityOutcome>,
    /// By this member.
    pub member: Option<MemberId>,
    /// By whoever has this handle, normalised.
    pub handle: Option<String>,
    /// Recorded not earlier.
    pub since: Option<Timestamp>,
    /// Recorded earlier.
    pub until: Option<Timestamp>,
}

impl ActivityFilter {
    /// What SQLite is told to search by: left to itself it walks through all the activities of the site. The filter that leaves
    /// the least comes first.
    const fn index(&self) -> &'static str {
        if self.member.is_some() {
            " INDEXED BY activity_member"
        } else if self.handle.is_some() {
            " INDEXED BY activity_handle"
        } else if self.outcome.is_some() {
            " INDEXED BY activity_outcome"
        } else if self.kind.is_some() {
            " INDEXED BY activity_type"
        } else if self.platform.is_some() {
            " INDEXED BY activity_platform"
        } else {
            ""
        }
    }
}

/// Activities of `site` from the newest, after `before`.
pub async fn list_activities(
    db: &impl ConnectionTrait,
    site: SiteId,
    filter: &ActivityFilter,
    before: Option<ActivityId>,
    limit: u64,
) -> Result<Vec<activity::Model>, DbErr> {
    let backend = db.get_database_backend();
    let (mark, index) = match backend {
        DatabaseBackend::Postgres => ('$', ""),
        _ => ('?', filter.index()),
    };
    let wanted: [(&str, Option<Value>); 8] = [
        ("member_id =", filter.member.map(|id| id.0.into())),
        ("handle =", filter.handle.clone().map(Into::into)),
        ("outcome =", filter.outcome.map(|outcome| outcome.as_str().into())),
        ("activity_type =", filter.kind.map(|kind| kind.as_str().into())),
        ("platform =", filter.platform.map(|platform| platform.as_str().into())),
        // An id begins with its instant.
        ("id >=", filter.since.map(|at| first_id(at).into())),
        ("id <", filter.until.map(|at| first_id(at).into())),
        ("id <", before.map(|id| id.0.into())),
    ];
    let mut conditions = vec![format!("site_id = {mark}1")];
    let mut values: Vec<Value> = vec![site.0.into()];
    for (condition, value) in wanted {
        if let Some(value) = value {
            values.push(value);
            conditions.push(format!("{condition} {mark}{}", values.len()));
        }
    }
    let conditions = conditions.join(" AND ");
    let sql = format!("SELECT * FROM activity{index} WHERE {conditions} ORDER BY id DESC LIMIT {limit}");
    let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    rows.iter().map(|row| activity::Model::from_query_result(row, "")).collect()
}

/// An activity with where it came from and what it has caused.
#[derive(Debug, Clone)]
pub struct Story {
    /// The activity.
    pub activity: activity::Model,
    /// What the platform sent, unless that is too old to be kept.
    pub item: Option<item::Model>,
    /// What rules have awarded for it.
    pub awards: Vec<activity_award::Model>,
    /// The change of following that came with it.
    pub follow_change: Option<follow_change::Model>,
    /// Events about it, the newest first.
    pub events: Vec<Uuid>,
}

/// The activity `id` of `site` with all that belongs to it.
pub async fn find_activity(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: ActivityId,
) -> Result<Option<Story>, DbErr> {
    let Some(activity) = activity::Entity::find_by_id((site, id)).one(db).await? else {
        return Ok(None);
    };
    let awards = activity_award::Entity::find()
        .filter(activity_award::Column::ActivityId.eq(id))
        .filter(activity_award::Column::SiteId.eq(site))
        .order_by_asc(activity_award::Column::RuleId)
        .all(db)
        .await?;
    let follow_change = follow_change::Entity::find()
        .filter(follow_change::Column::ItemId.eq(activity.item_id))
        .filter(follow_change::Column::SiteId.eq(site))
        .order_by_desc(follow_change::Column::Id)
        .one(db)
        .await?;
    // By the entity alone, whose id nothing else has: with the site SQLite would walk through all its events.
    let events: Vec<(SiteId, Uuid)> = event::Entity::find()
        .select_only()
        .columns([event::Column::SiteId, event::Column::Id])
        .filter(event::Column::EntityId.eq(id.0))
        .order_by_desc(event::Column::Id)
        .limit(EVENTS_MAX)
        .into_tuple()
        .all(db)
        .await?;
    Ok(Some(Story {
        item: items::find_item(db, site, activity.item_id).await?,
        awards,
        follow_change,
        events: events.into_iter().filter(|(of, _)| *of == site).map(|(_, event)| event).collect(),
        activity,
    }))
}
