//! Admin API: answering those who mention the brand on Instagram.

use entity::id::ActivityId;
use poem::http::StatusCode;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::graph_error::GraphError;
use super::mentions::ReplyError;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::Problem;

/// The operations.
pub struct InstagramApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ReplyToMentionRequest {
    /// What to say. The brand's account says it as a comment, which everybody can read.
    #[oai(validator(min_length = 1, max_length = 2200))]
    message: String,
}

/// An answer to a mention.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct MentionReply {
    /// Instagram's id of the comment.
    id: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ReplyToMentionResponse {
    reply: MentionReply,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Sources")]
impl InstagramApi {
    /// Reply to a mention on Instagram
    ///
    /// The activity is a mention in the text of a post or reel, or in a comment. Asking twice replies twice.
    #[oai(path = "/instagram/mentions/:id/reply", method = "post", operation_id = "replyToInstagramMention")]
    async fn reply_to_instagram_mention(
        &self,
        caller: AdminCaller,
        /// The activity.
        id: Path<Uuid>,
        body: Body<ReplyToMentionRequest>,
    ) -> Result<Json<ReplyToMentionResponse>, Problem> {
        let site = caller.site()?;
        let id = self.app.instagram.reply(site, ActivityId(id.0), &body.0.message).await?;
        Ok(Json(ReplyToMentionResponse { reply: MentionReply { id } }))
    }
}

impl From<ReplyError> for Problem {
    fn from(error: ReplyError) -> Self {
        let text = error.to_string();
        match error {
            ReplyError::NotFound => Self::not_found("ACTIVITY_NOT_FOUND", text),
            ReplyError::NotAMention => Self::conflict("ACTIVITY_NOT_A_MENTION", text),
            ReplyError::NotConnected => Self::conflict("CONNECTION_NOT_FOUND", text),
            ReplyError::WrongLogin => Self::conflict("CONNECTION_LOGIN_NOT_SUPPORTED", text),
            ReplyError::Graph(error) => of_graph(&error, text),
            ReplyError::Store(cause) => Self::from(cause),
        }
    }
}

/// Instagram's refusals are not our faults, and never a 500.
fn of_graph(error: &GraphError, text: String) -> Problem {
    let code = match error {
        GraphError::Throttled(ms) | GraphError::Spread(ms) => {
            let seconds = ms.saturating_add(999) / 1000;
            return Problem::too_many(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        GraphError::Temporary(_) => {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "INSTAGRAM_UNAVAILABLE", text);
        }
        GraphError::Dead { .. } => "CONNECTION_DEAD",
        GraphError::Permission(_) | GraphError::MessagesOff => "CONNECTION_PERMISSION_MISSING",
        GraphError::Blocked => "CONNECTION_BLOCKED",
        GraphError::NoConsent
        | GraphError::Gone
        | GraphError::Nobody
        | GraphError::Unavailable
        | GraphError::OutsideWindow => "MENTION_NOT_AVAILABLE",
        GraphError::Refused(_) => "INSTAGRAM_REFUSED",
    };
    Problem::conflict(code, text)
}
