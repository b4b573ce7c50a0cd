//! Admin API: invitations to connect a brand's account.

use entity::id::InvitationId;
use entity::{connection_invitation, kinds};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::api::{LoginName, PlatformName};
use super::invitations::{self, InvitationError, Progress};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::Empty;

/// The operations.
pub struct ConnectionInvitationsApi {
    /// The running service.
    pub app: App,
}

/// How far an invitation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ConnectionInvitationStatus", rename_all = "SCREAMING_SNAKE_CASE")]
enum StatusName {
    /// Nobody has opened it.
    Pending,
    /// Its login is under way.
    Opened,
    /// An account was connected.
    Used,
    /// The login failed; the link can be opened again.
    Failed,
    /// Its time is over.
    Expired,
}

impl From<Progress> for StatusName {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Stored(kinds::InvitationStatus::Pending) => Self::Pending,
            Progress::Stored(kinds::InvitationStatus::Opened) => Self::Opened,
            Progress::Stored(kinds::InvitationStatus::Used) => Self::Used,
            Progress::Stored(kinds::InvitationStatus::Failed) => Self::Failed,
            Progress::Expired => Self::Expired,
        }
    }
}

/// A link that connects one account, once.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ConnectionInvitation {
    /// Its id.
    id: Uuid,
    /// The platform.
    platform: PlatformName,
    /// The login that it leads to.
    login: LoginName,
    /// How far it is.
    status: StatusName,
    /// Why the last try failed, for people.
    problem: Option<String>,
    /// The link, for whoever owns the account. Only in the answer that made it.
    url: Option<String>,
    /// What was connected.
    connection_id: Option<Uuid>,
    /// Until when the link can be opened.
    expires_date: String,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

#[derive(Debug, Object)]
struct ConnectionInvitationInput {
    /// The platform.
    platform: PlatformName,
    /// The login; `FACEBOOK` for Instagram and `TIKTOK_BUSINESS` for TikTok by default.
    login: Option<LoginName>,
}

#[derive(Debug, Object)]
struct CreateInvitationRequest {
    invitation: ConnectionInvitationInput,
}

#[derive(Debug, Object)]
struct InvitationResponse {
    invitation: ConnectionInvitation,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListInvitationsResponse {
    invitations: Vec<ConnectionInvitation>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Sources")]
impl ConnectionInvitationsApi {
    /// Invite somebody to connect an account
    ///
    /// The answer has a link for whoever owns the brand's account. It is shown once, can be opened for seven days and connects
    /// one account.
    #[oai(path = "/connection-invitations", method = "post", operation_id = "createConnectionInvitation")]
    async fn create_connection_invitation(
        &self,
        caller: AdminCaller,
        body: Body<CreateInvitationRequest>,
    ) -> Result<Json<InvitationResponse>, Problem> {
        let site = caller.site()?;
        let new = body.0.invitation;
        let platform = new.platform.into();
        let login = new.login.map_or(invitations::default_login(platform), Into::into);
        let tx = self.app.db.write().await?;
        let (row, url) = self.app.connections.invite(&tx, site, (platform, login)).await?;
        tx.commit().await?;
        Ok(Json(InvitationResponse { invitation: self.shown(row, Some(url)) }))
    }

    /// List invitations to connect accounts
    ///
    /// Newest first.
    #[oai(path = "/connection-invitations", method = "get", operation_id = "listConnectionInvitations")]
    async fn list_connection_invitations(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListInvitationsResponse>, Problem> {
        let site = caller.site()?;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListInvitationsResponse>::default())?;
        let before = page.after.map(InvitationId);
        let rows = invitations::list(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let invitations = rows.into_iter().map(|row| self.shown(row, None)).collect();
        Ok(Json(ListInvitationsResponse { invitations, paging_metadata }))
    }

    /// Get an invitation to connect an account
    #[oai(path = "/connection-invitations/:id", method = "get", operation_id = "getConnectionInvitation")]
    async fn get_connection_invitation(
        &self,
        caller: AdminCaller,
        /// The invitation.
        id: Path<Uuid>,
    ) -> Result<Json<InvitationResponse>, Problem> {
        let found = invitations::find(self.app.db.read(), caller.site()?, InvitationId(id.0)).await?;
        Ok(Json(InvitationResponse { invitation: self.shown(found.ok_or_else(not_found)?, None) }))
    }

    /// Revoke an invitation to connect an account
    ///
    /// Its link leads nowhere from now on. What was connected with it stays.
    #[oai(
        path = "/connection-invitations/:id",
        method = "delete",
        operation_id = "deleteConnectionInvitation"
    )]
    async fn delete_connection_invitation(
        &self,
        caller: AdminCaller,
        /// The invitation.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        if !invitations::revoke(&tx, site, InvitationId(id.0)).await? {
            return Err(not_found());
        }
        tx.commit().await?;
        Ok(Json(Empty {}))
    }
}

impl ConnectionInvitationsApi {
    fn shown(&self, row: connection_invitation::Model, url: Option<String>) -> ConnectionInvitation {
        ConnectionInvitation {
            status: invitations::progress(&row, self.app.db.now()).into(),
            id: row.id.0,
            platform: row.platform.into(),
            login: row.login.into(),
            problem: row.problem,
            url,
            connection_id: row.connection_id.map(|id| id.0),
            expires_date: row.expires_at.to_rfc3339(),
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

fn not_found() -> Problem {
    Problem::not_found("CONNECTION_INVITATION_NOT_FOUND", "there is no such invitation")
}

impl From<InvitationError> for Problem {
    fn from(error: InvitationError) -> Self {
        let text = error.to_string();
        match error {
            InvitationError::Login(_) => Self::invalid("invitation.login", "INVALID_ENUM_VALUE", text),
            InvitationError::NotConfigured(_) => Self::precondition("PLATFORM_NOT_CONFIGURED", text),
            InvitationError::TooMany => Self::precondition("TOO_MANY_CONNECTION_INVITATIONS", text),
            InvitationError::Inside(cause) => cause.into(),
        }
    }
}
