//! Admin API: the end of what the log says about an account.

use entity::id::AccountId;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::retention;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;

/// The operation.
pub struct ExpungeApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ExpungeEventsRequest {
    /// The account whose events are emptied.
    account_id: Uuid,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ExpungeEventsResponse {
    /// Events that were emptied.
    expunged_count: u64,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl ExpungeApi {
    /// Expunge the events of an account
    ///
    /// For privacy: the events keep their ids and times and lose their content and who caused them; their signed tokens and
    /// what receivers answered are deleted, and what still waits to be sent is cancelled. The account and its ledger stay.
    #[oai(path = "/events/expunge", method = "post", operation_id = "expungeEvents")]
    async fn expunge_events(
        &self,
        caller: AdminCaller,
        body: Body<ExpungeEventsRequest>,
    ) -> Result<Json<ExpungeEventsResponse>, Problem> {
        let account = AccountId(body.0.account_id);
        let expunged_count = retention::expunge(&self.app.db, caller.site()?, account).await?;
        self.app.dispatcher.wake();
        Ok(Json(ExpungeEventsResponse { expunged_count }))
    }
}
