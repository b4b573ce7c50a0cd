//! Admin API: test events, which are sent at once and kept nowhere.

use entity::id::SubscriptionId;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use serde_json::json;
use uuid::Uuid;

use super::EventType;
use super::log_api::Attempt;
use super::subscriptions::{self, SubscriptionError};
use super::trial::{self, TEST_EVENT, TrialError};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::OptionalBody;
use crate::http::problem::{Problem, Violation};

/// The operation.
pub struct WebhookTestsApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase")]
struct TestSubscriptionRequest {
    /// The type of which a sample is sent: any that the service sends, whether or not the subscription names it.
    /// `followpoints.webhooks.v1.test` by default.
    #[oai(validator(min_length = 1, max_length = 100))]
    event_type: Option<String>,
}

/// What became of a test event.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct WebhookTest {
    /// The id of the test event.
    event_id: Uuid,
    /// Whether the receiver accepted it: any status from 200 to 299, or with type `NATS` an acknowledgement.
    accepted: bool,
    /// The one try.
    attempt: Attempt,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TestSubscriptionResponse {
    webhook_test: WebhookTest,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookTestsApi {
    /// Send a test event
    ///
    /// At once and once, also to a subscription that is not enabled: an event of type `followpoints.webhooks.v1.test`, or a
    /// sample of another type, signed like every other. A sample is about an account that does not exist, and its
    /// `originatedFrom` is `followpoints.webhooks.v1.test`. It is not kept and not sent again.
    #[oai(
        path = "/webhook-subscriptions/:id/test",
        method = "post",
        operation_id = "testWebhookSubscription"
    )]
    async fn test_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
        body: OptionalBody<TestSubscriptionRequest>,
    ) -> Result<Json<TestSubscriptionResponse>, Problem> {
        let (site, id) = (caller.site()?, SubscriptionId(id.0));
        let kind = wanted(body.0.event_type.as_deref())?;
        let App { db, dispatcher, .. } = &self.app;
        let row = subscriptions::find_subscription(db.read(), site, id).await?;
        let (row, identity) = (row.ok_or(SubscriptionError::NotFound)?, caller.identity());
        let job = match kind {
            None => trial::test_job(db, row, &identity),
            Some(kind) => trial::sample_job(db, kind, row, &identity).await?,
        };
        let (tried, accepted) = dispatcher.test(&job).await?;
        let event_id = job.event.id.0;
        let webhook_test = WebhookTest { event_id, accepted, attempt: Attempt::first(tried) };
        Ok(Json(TestSubscriptionResponse { webhook_test }))
    }
}

/// The type of which a sample is wanted; none means the test event's own.
fn wanted(name: Option<&str>) -> Result<Option<EventType>, Problem> {
    let Some(name) = name.filter(|name| *name != TEST_EVENT) else { return Ok(None) };
    let kind = EventType::ALL.into_iter().find(|kind| kind.as_str() == name);
    kind.map(Some).ok_or_else(|| {
        let allowed: Vec<&str> =
            EventType::ALL.into_iter().map(EventType::as_str).chain([TEST_EVENT]).collect();
        let violation = Violation::new("eventType", "INVALID_ENUM_VALUE", "is not a type of event");
        Problem::validation(vec![violation.with(json!({"allowed": allowed}))])
    })
}

impl From<TrialError> for Problem {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Store(cause) => Self::from(cause),
            TrialError::Encode(cause) => Self::internal(cause),
        }
    }
}
