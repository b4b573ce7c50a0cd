//! Admin API: a brand's connected accounts.

use entity::id::{ConnectionId, Timestamp};
use entity::{connection, kinds};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::state::{self, Signs, State};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::Empty;

/// The operations.
pub struct ConnectionsApi {
    /// The running service.
    pub app: App,
}

/// A platform that tells what happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::Platform", rename = "ConnectionPlatform", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum PlatformName {
    /// Instagram.
    Instagram,
    /// TikTok.
    Tiktok,
}

/// The login that connects an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::ConnectionLogin", rename = "ConnectionLogin", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum LoginName {
    /// Facebook Login for Business: Instagram through a Facebook page. Mentions in captions need it.
    Facebook,
    /// Instagram Login.
    Instagram,
    /// TikTok API for Business.
    TiktokBusiness,
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ConnectionState", rename_all = "SCREAMING_SNAKE_CASE")]
enum StateName {
    /// All is well.
    Connected,
    /// Permissions were declined; see `missingPermissions`.
    PermissionMissing,
    /// The access ends within seven days and is not renewed by itself.
    TokenExpiring,
    /// The platform no longer accepts the access: connect the account again.
    Revoked,
    /// The platform wants no calls before `limitedUntilDate`.
    RateLimited,
    /// The app at the platform is in development mode.
    DevelopmentMode,
    /// Nothing has arrived for seven days.
    Silent,
}

impl From<&State> for StateName {
    fn from(state: &State) -> Self {
        match state {
            State::Connected => Self::Connected,
            State::PermissionMissing(_) => Self::PermissionMissing,
            State::TokenExpiring(_) => Self::TokenExpiring,
            State::Revoked(_) => Self::Revoked,
            State::RateLimited(_) => Self::RateLimited,
            State::DevelopmentMode => Self::DevelopmentMode,
            State::Silent(_) => Self::Silent,
        }
    }
}

/// A brand's account on a platform.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct Connection {
    /// Its id.
    id: Uuid,
    /// The platform.
    platform: PlatformName,
    /// The login that connected it.
    login: LoginName,
    /// The platform's id of the account.
    external_id: String,
    /// The account's handle.
    username: Option<String>,
    /// The Facebook page that it belongs to.
    page_id: Option<String>,
    /// How it is.
    state: StateName,
    /// The same in a sentence for people.
    state_description: String,
    /// Permissions that were declined.
    missing_permissions: Vec<String>,
    /// What was wrong when it was last looked after, for people.
    problem: Option<String>,
    /// When the access ends; absent if it does not.
    token_expires_date: Option<String>,
    /// The platform wants no calls before.
    limited_until_date: Option<String>,
    /// When something last arrived.
    last_item_date: Option<String>,
    /// When it was connected.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

#[derive(Debug, Object)]
struct ConnectionResponse {
    connection: Connection,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListConnectionsResponse {
    connections: Vec<Connection>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Sources")]
impl ConnectionsApi {
    /// List connected accounts
    ///
    /// Newest first.
    #[oai(path = "/connections", method = "get", operation_id = "listConnections")]
    async fn list_connections(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListConnectionsResponse>, Problem> {
        let site = caller.site()?;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListConnectionsResponse>::default())?;
        let before = page.after.map(ConnectionId);
        let rows = super::list(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let now = self.app.db.now();
        let connections = rows.into_iter().map(|row| self.shown(row, now)).collect();
        Ok(Json(ListConnectionsResponse { connections, paging_metadata }))
    }

    /// Get a connected account
    #[oai(path = "/connections/:id", method = "get", operation_id = "getConnection")]
    async fn get_connection(
        &self,
        caller: AdminCaller,
        /// The connection.
        id: Path<Uuid>,
    ) -> Result<Json<ConnectionResponse>, Problem> {
        let found = super::find(self.app.db.read(), caller.site()?, ConnectionId(id.0)).await?;
        let row = found.ok_or_else(not_found)?;
        Ok(Json(ConnectionResponse { connection: self.shown(row, self.app.db.now()) }))
    }

    /// Disconnect an account
    ///
    /// Its tokens are deleted, and the platform is asked to send no more.
    #[oai(path = "/connections/:id", method = "delete", operation_id = "deleteConnection")]
    async fn delete_connection(
        &self,
        caller: AdminCaller,
        /// The connection.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        if !self.app.connections.delete(caller.site()?, ConnectionId(id.0)).await? {
            return Err(not_found());
        }
        Ok(Json(Empty {}))
    }
}

impl ConnectionsApi {
    fn shown(&self, row: connection::Model, now: Timestamp) -> Connection {
        let how = state::state(&Signs::from(&row), self.app.platforms.meta.is_development, now);
        Connection {
            state: StateName::from(&how),
            state_description: how.sentence(),
            missing_permissions: state::missing_permissions(&row),
            id: row.id.0,
            platform: row.platform.into(),
            login: row.login.into(),
            external_id: row.external_id,
            username: row.username,
            page_id: row.page_id,
            problem: row.problem,
            token_expires_date: row.token_expires_at.map(Timestamp::to_rfc3339),
            limited_until_date: row.limited_until.filter(|until| *until > now).map(Timestamp::to_rfc3339),
            last_item_date: row.last_item_at.map(Timestamp::to_rfc3339),
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

fn not_found() -> Problem {
    Problem::not_found("CONNECTION_NOT_FOUND", "there is no such connection")
}
