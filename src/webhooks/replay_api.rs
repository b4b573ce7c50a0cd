//! Admin API: replays, started, listed, read and cancelled.

use entity::id::{ReplayId, SubscriptionId, Timestamp};
use entity::{kinds, replay};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::replays::{self, NewReplay, ReplayError};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire;

/// The operations.
pub struct WebhookReplaysApi {
    /// The running service.
    pub app: App,
}

/// Which deliveries a replay is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ReplayScope", rename = "ReplayScope", rename_all = "SCREAMING_SNAKE_CASE")]
enum ReplayScopeName {
    /// Those that were exhausted or cancelled, and those that wait for their next try.
    Failed,
    /// Those that there are not: the subscription is newer than the event, or meant other events then.
    Missing,
    /// Both, and those that were accepted. In an order, those that there are not come after the others.
    All,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ReplayStatus", rename = "ReplayStatus", rename_all = "SCREAMING_SNAKE_CASE")]
enum ReplayStatusName {
    /// It goes through the events.
    Running,
    /// It has been through all of them.
    Done,
    /// It was ended before, or its subscription was deleted or had what it held cancelled.
    Cancelled,
}

/// Events of a time that are sent to a subscription again, under the same event ids.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct WebhookReplay {
    /// Its id.
    id: Uuid,
    /// The subscription.
    subscription_id: Uuid,
    /// Which deliveries.
    scope: ReplayScopeName,
    /// The first instant.
    since: String,
    /// The instant after the last.
    until: String,
    /// How far it is.
    status: ReplayStatusName,
    /// How much of the time it has been through, 0 to 100.
    progress_percent: i32,
    /// Events that it has looked at.
    examined_count: i64,
    /// Deliveries that it has made due.
    replayed_count: i64,
    /// When it was asked for.
    created_date: String,
    /// When it last went on.
    updated_date: String,
    /// When it ended.
    finished_date: Option<String>,
}

impl From<replay::Model> for WebhookReplay {
    fn from(row: replay::Model) -> Self {
        Self {
            progress_percent: progress_percent(&row),
            id: row.id.0,
            subscription_id: row.subscription_id.0,
            scope: row.scope.into(),
            since: row.since.to_rfc3339(),
            until: row.until.to_rfc3339(),
            status: row.status.into(),
            examined_count: row.examined_count,
            replayed_count: row.replayed_count,
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
            finished_date: row.finished_at.map(Timestamp::to_rfc3339),
        }
    }
}

/// An id begins with its event's instant.
fn progress_percent(row: &replay::Model) -> i32 {
    if row.status == kinds::ReplayStatus::Done {
        return 100;
    }
    let Some(cursor) = row.cursor else { return 0 };
    let (high, _) = cursor.0.as_u64_pair();
    let reached = i64::try_from(high >> 16).unwrap_or(0) - row.since.0;
    let percent = i128::from(reached) * 100 / i128::from((row.until.0 - row.since.0).max(1));
    i32::try_from(percent.clamp(0, 99)).unwrap_or(0)
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ReplayResponse {
    webhook_replay: WebhookReplay,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListReplaysResponse {
    webhook_replays: Vec<WebhookReplay>,
    paging_metadata: PagingMetadata,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct StartReplayRequest {
    /// From this instant on, RFC 3339.
    #[oai(validator(max_length = 40))]
    since: String,
    /// Before this instant, RFC 3339; the present unless given.
    #[oai(validator(max_length = 40))]
    until: Option<String>,
    /// Which deliveries; `FAILED` by default.
    scope: Option<ReplayScopeName>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReplayCursor {
    subscription: Option<Uuid>,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookReplaysApi {
    /// Replay events to a webhook subscription
    ///
    /// A job goes through the site's events of that time, in order, and makes deliveries due. With scope `MISSING` or `ALL`, which make
    /// new ones, it rests while 1000 are due; with `FAILED` it does not. It rests while the subscription is not enabled, and goes on
    /// after a restart. Receivers know what they have had by the event ids.
    #[oai(
        path = "/webhook-subscriptions/:id/replay",
        method = "post",
        operation_id = "replayWebhookSubscription"
    )]
    async fn replay_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
        body: Body<StartReplayRequest>,
    ) -> Result<Json<ReplayResponse>, Problem> {
        let site = caller.site()?;
        let new = NewReplay {
            scope: body.0.scope.map_or(kinds::ReplayScope::Failed, Into::into),
            since: wire::instant(&body.0.since, "since")?,
            until: body.0.until.as_deref().map(|text| wire::instant(text, "until")).transpose()?,
        };
        let tx = self.app.db.write().await?;
        let row = replays::start(&tx, (site, SubscriptionId(id.0)), new).await?;
        tx.commit().await?;
        self.app.dispatcher.wake();
        Ok(Json(ReplayResponse { webhook_replay: row.into() }))
    }

    /// List webhook replays
    ///
    /// Newest first.
    #[oai(path = "/webhook-replays", method = "get", operation_id = "listWebhookReplays")]
    async fn list_webhook_replays(
        &self,
        caller: AdminCaller,
        /// Only to this subscription.
        #[oai(name = "subscriptionId")]
        subscription_id: Query<Option<Uuid>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListReplaysResponse>, Problem> {
        let site = caller.site()?;
        let filter = ReplayCursor { subscription: subscription_id.0 };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, filter)?;
        let (subscription, before) = (page.filter.subscription.map(SubscriptionId), page.after.map(ReplayId));
        let rows = replays::list(self.app.db.read(), site, subscription, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let webhook_replays = rows.into_iter().map(WebhookReplay::from).collect();
        Ok(Json(ListReplaysResponse { webhook_replays, paging_metadata }))
    }

    /// Get a webhook replay
    #[oai(path = "/webhook-replays/:id", method = "get", operation_id = "getWebhookReplay")]
    async fn get_webhook_replay(
        &self,
        caller: AdminCaller,
        /// The replay.
        id: Path<Uuid>,
    ) -> Result<Json<ReplayResponse>, Problem> {
        let found = replays::find(self.app.db.read(), caller.site()?, ReplayId(id.0)).await?;
        Ok(Json(ReplayResponse { webhook_replay: found.ok_or(ReplayError::NotFound)?.into() }))
    }

    /// Cancel a webhook replay
    ///
    /// It goes no further; what it has made due is still sent. One that has ended stays as it is.
    #[oai(path = "/webhook-replays/:id/cancel", method = "post", operation_id = "cancelWebhookReplay")]
    async fn cancel_webhook_replay(
        &self,
        caller: AdminCaller,
        /// The replay.
        id: Path<Uuid>,
    ) -> Result<Json<ReplayResponse>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        let row = replays::cancel(&tx, site, ReplayId(id.0)).await?;
        tx.commit().await?;
        Ok(Json(ReplayResponse { webhook_replay: row.into() }))
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        let text = error.to_string();
        match error {
            ReplayError::NotFound => Self::not_found("WEBHOOK_REPLAY_NOT_FOUND", text),
            ReplayError::SubscriptionNotFound => Self::not_found("WEBHOOK_SUBSCRIPTION_NOT_FOUND", text),
            ReplayError::SubscriptionNotEnabled => {
                Self::precondition("WEBHOOK_SUBSCRIPTION_NOT_ENABLED", text)
            }
            ReplayError::Range => Self::invalid("since", "FORMAT", text),
            ReplayError::Running => Self::precondition("WEBHOOK_REPLAY_RUNNING", text),
            ReplayError::Store(cause) => Self::from(cause),
        }
    }
}
