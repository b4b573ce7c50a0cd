//! Admin API: the end of what the log says about an account, a member or an entity.

use entity::id::{AccountId, MemberId};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::retention::{self, About};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;
use crate::profiles::erasure;

/// The operation.
pub struct ExpungeApi {
    /// The running service.
    pub app: App,
}

/// Exactly one of the three.
#[derive(Debug, Object)]
struct ExpungeEventsRequest {
    /// The account whose events are emptied.
    #[oai(rename = "accountId")]
    account: Option<Uuid>,
    /// The member whose events are emptied, and of whom is erased what social platforms told.
    #[oai(rename = "memberId")]
    member: Option<Uuid>,
    /// The entity whose events are emptied: a followed channel, an activity, an account.
    #[oai(rename = "entityId")]
    entity: Option<Uuid>,
}

impl ExpungeEventsRequest {
    fn about(&self) -> Result<About, Problem> {
        let wish = "name exactly one of accountId, memberId and entityId";
        match (self.account, self.member, self.entity) {
            (Some(id), None, None) => Ok(About::Account(AccountId(id))),
            (None, Some(id), None) => Ok(About::Member(MemberId(id))),
            (None, None, Some(id)) => Ok(About::Entity(id)),
            (None, None, None) => Err(Problem::invalid("accountId", "REQUIRED_FIELD", wish)),
            _ => Err(Problem::invalid("body", "FORMAT", wish)),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ExpungeEventsResponse {
    /// Events that were emptied.
    expunged_count: u64,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl ExpungeApi {
    /// Expunge the events of an account, a member or an entity
    ///
    /// For privacy: the events keep their ids and times and lose their content and who caused them; their signed tokens and
    /// what receivers answered are deleted, and what still waits to be sent is cancelled. The account and its ledger stay.
    ///
    /// Of a member this also erases what is known from social platforms: profile attributes, handles, link codes, logins, and the
    /// content of activities.
    #[oai(path = "/events/expunge", method = "post", operation_id = "expungeEvents")]
    async fn expunge_events(
        &self,
        caller: AdminCaller,
        body: Body<ExpungeEventsRequest>,
    ) -> Result<Json<ExpungeEventsResponse>, Problem> {
        let (site, about) = (caller.site()?, body.0.about()?);
        if let About::Member(member) = about {
            // First, so that nothing more is told of a member whom nobody knows any longer.
            erasure::erase(&self.app.db, site, member).await?;
        }
        let expunged_count = retention::expunge(&self.app.db, site, about).await?;
        self.app.dispatcher.wake();
        Ok(Json(ExpungeEventsResponse { expunged_count }))
    }
}
