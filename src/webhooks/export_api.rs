//! Admin API: the delivery log as a table for spreadsheets.

use std::fmt::Write as _;

use entity::delivery;
use entity::id::{AccountId, DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use futures_util::stream;
use poem::{Body, IntoResponse, Response};
use poem_openapi::param::Query;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::{ApiResponse, OpenApi};
use sea_orm::DbErr;
use uuid::Uuid;

use super::log::{self, DeliveryFilter, Details};
use super::log_api::DeliveryStatusName;
use crate::app::App;
use crate::db::Db;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::problem::Problem;
use crate::http::wire;

/// Deliveries that are read at once.
const PAGE: u64 = 500;

const HEAD: &str = "id,subscriptionId,eventId,eventType,status,attemptCount,createdDate,nextAttemptDate,finishedDate,\
                    lastStatusCode,lastErrorClass,held\r\n";

/// The operation.
pub struct WebhookExportApi {
    /// The running service.
    pub app: App,
}

/// A table, sent as it is read.
struct Csv(Body);

impl Payload for Csv {
    const CONTENT_TYPE: &'static str = "text/csv";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
    }
}

impl IntoResponse for Csv {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("text/csv; charset=utf-8")
            .header("content-disposition", "attachment; filename=\"webhook-deliveries.csv\"")
            .body(self.0)
    }
}

impl ApiResponse for Csv {
    fn meta() -> MetaResponses {
        let content = MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() };
        let response = MetaResponse {
            description: "One line for each delivery, newest first, after a line with the names of the columns.",
            status: Some(200),
            status_range: None,
            content: vec![content],
            headers: Vec::new(),
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookExportApi {
    /// Export webhook deliveries
    ///
    /// As CSV, newest first: all of them, sent as they are read.
    #[oai(path = "/webhook-deliveries/export", method = "get", operation_id = "exportWebhookDeliveries")]
    async fn export_webhook_deliveries(
        &self,
        caller: AdminCaller,
        /// Only for this subscription.
        #[oai(name = "subscriptionId")]
        subscription_id: Query<Option<Uuid>>,
        /// Only of this event.
        #[oai(name = "eventId")]
        event_id: Query<Option<Uuid>>,
        /// Only in this state.
        status: Query<Option<DeliveryStatusName>>,
        /// Only about what happened to this account.
        #[oai(name = "accountId")]
        account_id: Query<Option<Uuid>>,
        /// Only about this entity: an account, a followed channel, a subscription.
        #[oai(name = "entityId")]
        entity_id: Query<Option<Uuid>>,
        /// Only those made from this instant on, RFC 3339.
        since: Query<Option<String>>,
        /// Only those made before this instant, RFC 3339.
        until: Query<Option<String>>,
    ) -> Result<Csv, Problem> {
        let filter = DeliveryFilter {
            subscription: subscription_id.0.map(SubscriptionId),
            event: event_id.0.map(EventId),
            account: account_id.0.map(AccountId),
            entity: entity_id.0,
            status: status.0.map(Into::into),
            since: since.0.as_deref().map(|text| wire::instant(text, "since")).transpose()?,
            until: until.0.as_deref().map(|text| wire::instant(text, "until")).transpose()?,
        };
        let export = Export {
            db: self.app.db.clone(),
            site: caller.site()?,
            filter,
            after: None,
            is_over: false,
            head: HEAD,
        };
        let pages =
            stream::try_unfold(
                export,
                |export| async move { export.next().await.map_err(std::io::Error::other) },
            );
        Ok(Csv(Body::from_bytes_stream(pages)))
    }
}

/// An export under way.
struct Export {
    db: Db,
    site: SiteId,
    filter: DeliveryFilter,
    after: Option<DeliveryId>,
    is_over: bool,
    head: &'static str,
}

impl Export {
    /// The next lines, and what remains; nothing at the end.
    async fn next(mut self) -> Result<Option<(Vec<u8>, Self)>, DbErr> {
        if self.is_over {
            return Ok(None);
        }
        let db = self.db.read();
        let rows = log::list_deliveries(db, self.site, self.filter, self.after, PAGE).await?;
        self.is_over = rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        let mut details = log::details(db, &rows).await?;
        let mut text = std::mem::take(&mut self.head).to_owned();
        for row in &rows {
            write_line(&mut text, row, details.remove(&row.id).unwrap_or_default());
        }
        self.after = rows.last().map(|row| row.id);
        Ok(Some((text.into_bytes(), self)))
    }
}

/// None of the values has a comma or a quotation mark in it.
fn write_line(text: &mut String, row: &delivery::Model, details: Details) {
    let date = |at: Option<Timestamp>| at.map(Timestamp::to_rfc3339).unwrap_or_default();
    let next = details.next_attempt_at(row);
    let held = if details.is_held(row) { "true" } else { "" };
    let event_type = details.event_type.unwrap_or_default();
    let code = details.status_code.map(|code| code.to_string()).unwrap_or_default();
    let class = details.error_class.unwrap_or_default();
    let _ = write!(
        text,
        "{},{},{},{event_type},{},{},{},{},{},{code},{class},{held}\r\n",
        row.id,
        row.subscription_id,
        row.event_id,
        row.status,
        row.attempt_count,
        row.created_at.to_rfc3339(),
        date(next),
        date(row.finished_at),
    );
}
