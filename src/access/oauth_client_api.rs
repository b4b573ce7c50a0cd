//! Admin API: front-ends, with the origins that browsers may call from.

use entity::id::OauthClientId;
use entity::oauth_client;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use serde_json::json;
use uuid::Uuid;

use super::oauth_clients::{self, ORIGIN_CHARS_MAX, OauthClientError};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::{Problem, Violation};
use crate::http::wire::{self, Empty};

/// The operations.
pub struct OauthClientsApi {
    /// The running service.
    pub app: App,
}

/// A site's front-end.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OauthClient {
    /// Its id: the `clientId` of the SDK's OAuthStrategy.
    id: Uuid,
    /// For people.
    name: String,
    /// Origins that browsers may call from.
    allowed_origins: Vec<String>,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<oauth_client::Model> for OauthClient {
    fn from(row: oauth_client::Model) -> Self {
        Self {
            allowed_origins: oauth_clients::origins(&row),
            id: row.id.0,
            name: row.name,
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateOauthClientRequest {
    oauth_client: OauthClientInput,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OauthClientInput {
    /// For people.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// Origins that browsers may call from, like `https://shop.example`, each of at most 255 characters.
    #[oai(validator(max_items = 20))]
    allowed_origins: Option<Vec<String>>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateOauthClientRequest {
    oauth_client: OauthClientUpdate,
}

/// What is absent stays.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OauthClientUpdate {
    /// For people.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: Option<String>,
    /// Origins that browsers may call from; of at most 255 characters each. They take the place of those there are;
    /// `null` leaves none.
    #[oai(validator(max_items = 20))]
    allowed_origins: MaybeUndefined<Vec<String>>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OauthClientResponse {
    oauth_client: OauthClient,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListOauthClientsResponse {
    oauth_clients: Vec<OauthClient>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl OauthClientsApi {
    /// Create a front-end
    ///
    /// Its id is the `clientId` of the SDK's OAuthStrategy. A site has at most a hundred.
    #[oai(path = "/oauth-clients", method = "post", operation_id = "createOauthClient")]
    async fn create_oauth_client(
        &self,
        caller: AdminCaller,
        body: Body<CreateOauthClientRequest>,
    ) -> Result<Json<OauthClientResponse>, Problem> {
        let site = caller.site()?;
        let new = body.0.oauth_client;
        let origins = new.allowed_origins.unwrap_or_default();
        check(&origins)?;
        let tx = self.app.db.write().await?;
        let row = oauth_clients::create_oauth_client(&tx, site, new.name, &origins).await?;
        tx.commit().await?;
        self.app.origins.forget();
        Ok(Json(OauthClientResponse { oauth_client: row.into() }))
    }

    /// List front-ends
    ///
    /// Newest first.
    #[oai(path = "/oauth-clients", method = "get", operation_id = "listOauthClients")]
    async fn list_oauth_clients(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListOauthClientsResponse>, Problem> {
        let site = caller.site()?;
        let page =
            PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListOauthClientsResponse>::default())?;
        let before = page.after.map(OauthClientId);
        let rows = oauth_clients::list_oauth_clients(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let oauth_clients = rows.into_iter().map(OauthClient::from).collect();
        Ok(Json(ListOauthClientsResponse { oauth_clients, paging_metadata }))
    }

    /// Get a front-end
    #[oai(path = "/oauth-clients/:id", method = "get", operation_id = "getOauthClient")]
    async fn get_oauth_client(
        &self,
        caller: AdminCaller,
        /// The front-end.
        id: Path<Uuid>,
    ) -> Result<Json<OauthClientResponse>, Problem> {
        let db = self.app.db.read();
        let found = oauth_clients::find_oauth_client_of(db, caller.site()?, OauthClientId(id.0)).await?;
        Ok(Json(OauthClientResponse { oauth_client: found.ok_or_else(not_found)?.into() }))
    }

    /// Update a front-end
    ///
    /// Browsers may call from its new origins, and no longer from others, at once on this node and within five seconds on others.
    #[oai(path = "/oauth-clients/:id", method = "patch", operation_id = "updateOauthClient")]
    async fn update_oauth_client(
        &self,
        caller: AdminCaller,
        /// The front-end.
        id: Path<Uuid>,
        body: Body<UpdateOauthClientRequest>,
    ) -> Result<Json<OauthClientResponse>, Problem> {
        let whose = (caller.site()?, OauthClientId(id.0));
        let update = body.0.oauth_client;
        let origins = wire::emptied(update.allowed_origins);
        check(origins.as_deref().unwrap_or_default())?;
        let tx = self.app.db.write().await?;
        let row = oauth_clients::change_oauth_client(&tx, whose, update.name, origins.as_deref()).await?;
        let row = row.ok_or_else(not_found)?;
        tx.commit().await?;
        self.app.origins.forget();
        Ok(Json(OauthClientResponse { oauth_client: row.into() }))
    }

    /// Delete a front-end
    ///
    /// Visitors cannot get new tokens with it; tokens that it has go on until they end.
    #[oai(path = "/oauth-clients/:id", method = "delete", operation_id = "deleteOauthClient")]
    async fn delete_oauth_client(
        &self,
        caller: AdminCaller,
        /// The front-end.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        if !oauth_clients::delete_oauth_client(&tx, site, OauthClientId(id.0)).await? {
            return Err(not_found());
        }
        tx.commit().await?;
        self.app.origins.forget();
        Ok(Json(Empty {}))
    }
}

/// Fails with what is wrong with each of `origins`.
fn check(origins: &[String]) -> Result<(), Problem> {
    let fault = |(index, origin): (usize, &String)| {
        let field = format!("oauthClient.allowedOrigins[{index}]");
        if origin.chars().count() > ORIGIN_CHARS_MAX {
            let description = format!("has at most {ORIGIN_CHARS_MAX} characters");
            let data = json!({"threshold": ORIGIN_CHARS_MAX});
            return Some(Violation::new(field, "MAX_LENGTH", description).with(data));
        }
        let is_wrong = !oauth_clients::is_origin(origin);
        is_wrong.then(|| Violation::new(field, "FORMAT", "is not an origin like https://shop.example"))
    };
    let violations: Vec<_> = origins.iter().enumerate().filter_map(fault).collect();
    if violations.is_empty() { Ok(()) } else { Err(Problem::validation(violations)) }
}

fn not_found() -> Problem {
    Problem::not_found("OAUTH_CLIENT_NOT_FOUND", "there is no such front-end")
}

impl From<OauthClientError> for Problem {
    fn from(error: OauthClientError) -> Self {
        let text = error.to_string();
        match error {
            OauthClientError::TooMany => Self::precondition("TOO_MANY_OAUTH_CLIENTS", text),
            OauthClientError::Store(cause) => Self::from(cause),
        }
    }
}
