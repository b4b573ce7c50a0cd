//! Admin API: apps, their keys and installations; the key set that verifies webhooks.

use entity::id::{AppId, AppInstanceId};
use entity::{app, app_instance, app_key};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use uuid::Uuid;

use super::keys::{self, AddKeyError, GenerateError, KEY_SET_MAX_AGE_S};
use super::secrets::{self, OVERLAP_S_DEFAULT, RotateError};
use super::{UninstallError, Viewer};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::Empty;
use crate::seal;

/// The operations.
pub struct AppsApi {
    /// The running service.
    pub app: App,
}

/// An app: an external system that receives webhooks and calls the API.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "App", skip_serializing_if_is_none)]
struct AppJson {
    /// Its id: the SDK's `appId`, the `client_id` of `client_credentials`.
    id: Uuid,
    /// Shown to owners.
    name: String,
    /// The newest key's `kid`.
    key_id: String,
    /// The newest public key, SPKI PEM: the SDK's `publicKey`.
    public_key: String,
    /// From when the newest key signs; until then the one before it does.
    key_active_date: String,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

#[derive(Debug, Object)]
struct CreateAppRequest {
    app: AppInput,
}

#[derive(Debug, Object)]
struct AppInput {
    /// Shown to owners.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AppWithSecretResponse {
    app: AppJson,
    /// Shown this once.
    app_secret: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RotateAppSecretRequest {
    /// How long the replaced secret works beside the new one, in seconds; a day by default, a week at most. With 0 it works no
    /// more at all, and neither do those of earlier rotations.
    #[oai(validator(minimum(value = "0"), maximum(value = "604800")))]
    overlap_seconds: Option<i64>,
}

#[derive(Debug, Object)]
struct AppResponse {
    app: AppJson,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListAppsResponse {
    apps: Vec<AppJson>,
    paging_metadata: PagingMetadata,
}

/// An app installed on a site.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", rename = "AppInstance")]
struct AppInstanceJson {
    /// Its id: the SDK's `instanceId`, named in every webhook.
    id: Uuid,
    /// The app.
    app_id: Uuid,
    /// The site.
    site_id: Uuid,
    /// When it was installed.
    created_date: String,
}

impl From<app_instance::Model> for AppInstanceJson {
    fn from(row: app_instance::Model) -> Self {
        Self {
            id: row.id.0,
            app_id: row.app_id.0,
            site_id: row.site_id.0,
            created_date: row.created_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateAppInstanceRequest {
    app_instance: AppInstanceInput,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AppInstanceInput {
    /// The app to install.
    app_id: Uuid,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AppInstanceResponse {
    app_instance: AppInstanceJson,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListAppInstancesResponse {
    app_instances: Vec<AppInstanceJson>,
    paging_metadata: PagingMetadata,
}

/// A public key (RFC 7517).
#[derive(Debug, Object)]
struct Jwk {
    /// `RSA`.
    kty: String,
    /// `sig`.
    #[oai(rename = "use")]
    usage: String,
    /// `RS256`.
    alg: String,
    /// The key's id.
    kid: String,
    /// Modulus.
    n: String,
    /// Exponent.
    e: String,
}

#[derive(Debug, Object)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(ApiResponse)]
enum KeySetResponse {
    /// Every key that may have signed a webhook that is still valid.
    #[oai(status = 200)]
    Ok(
        Json<KeySet>,
        /// How long the set may be kept.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

#[OpenApi]
impl AppsApi {
    /// Get the webhook keys
    ///
    /// The public keys that verify webhooks. A new key is published here well before it signs, and stays for as long as a
    /// webhook that it signed can be valid.
    #[oai(
        path = "/.well-known/jwks.json",
        method = "get",
        operation_id = "getWebhookKeys",
        tag = "Tag::Webhooks"
    )]
    async fn get_webhook_keys(
        &self,
        /// Only the keys of this app.
        #[oai(name = "appId")]
        app_id: Query<Option<Uuid>>,
    ) -> Result<KeySetResponse, Problem> {
        let now = self.app.db.now();
        let keys = keys::published_keys(self.app.db.read(), app_id.0.map(AppId), now).await?;
        let keys = keys
            .into_iter()
            .map(|key| Jwk {
                kty: key.kty.to_owned(),
                usage: key.usage.to_owned(),
                alg: key.alg.to_owned(),
                kid: key.kid,
                n: key.n,
                e: key.e,
            })
            .collect();
        Ok(KeySetResponse::Ok(Json(KeySet { keys }), format!("public, max-age={KEY_SET_MAX_AGE_S}")))
    }

    /// Create an app
    ///
    /// Makes an external system with its RS256 key pair. The secret is shown this once.
    #[oai(path = "/admin/v1/apps", method = "post", operation_id = "createApp", tag = "Tag::Admin")]
    async fn create_app(
        &self,
        caller: AdminCaller,
        body: Body<CreateAppRequest>,
    ) -> Result<Json<AppWithSecretResponse>, Problem> {
        let owner = match caller.viewer()? {
            Viewer::Operator => None,
            Viewer::Site(site) => Some(site),
        };
        let app_secret = seal::new_secret(secrets::PREFIX)?;
        let key = keys::generate().await?;
        let tx = self.app.db.write().await?;
        let row = super::create_app(&tx, owner, body.0.app.name, &app_secret).await?;
        let key = keys::add(&tx, &self.app.sealer, row.id, key, tx.now()).await?;
        tx.commit().await?;
        Ok(Json(AppWithSecretResponse { app: app_json(row, key), app_secret }))
    }

    /// List apps
    ///
    /// Newest first. A key of one site sees the apps that the site made or has installed.
    #[oai(path = "/admin/v1/apps", method = "get", operation_id = "listApps", tag = "Tag::Admin")]
    async fn list_apps(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListAppsResponse>, Problem> {
        let viewer = caller.viewer()?;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListAppsResponse>::default())?;
        let db = self.app.db.read();
        let rows = super::list_apps(db, viewer, page.after.map(AppId), page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let mut apps = Vec::with_capacity(rows.len());
        for row in rows {
            apps.push(self.with_key(row).await?);
        }
        Ok(Json(ListAppsResponse { apps, paging_metadata }))
    }

    /// Get an app
    #[oai(path = "/admin/v1/apps/:id", method = "get", operation_id = "getApp", tag = "Tag::Admin")]
    async fn get_app(
        &self,
        caller: AdminCaller,
        /// The app.
        id: Path<Uuid>,
    ) -> Result<Json<AppResponse>, Problem> {
        let row = super::find_visible_app(self.app.db.read(), caller.viewer()?, AppId(id.0))
            .await?
            .ok_or_else(app_not_found)?;
        Ok(Json(AppResponse { app: self.with_key(row).await? }))
    }

    /// Rotate an app's key
    ///
    /// Makes a new key pair and publishes it at once. It signs events from five minutes later on, when every cached copy of
    /// the key set has it; the old key stays published until nothing that it signed is valid any more.
    #[oai(
        path = "/admin/v1/apps/:id/rotate-key",
        method = "post",
        operation_id = "rotateAppKey",
        tag = "Tag::Admin"
    )]
    async fn rotate_app_key(
        &self,
        caller: AdminCaller,
        /// The app.
        id: Path<Uuid>,
    ) -> Result<Json<AppResponse>, Problem> {
        let viewer = caller.viewer()?;
        let key = keys::generate().await?;
        let tx = self.app.db.write().await?;
        let row = super::find_own_app(tx.conn(), viewer, AppId(id.0)).await?.ok_or_else(app_not_found)?;
        let active_from = tx.now().plus_ms(KEY_SET_MAX_AGE_S * 1000);
        let key = keys::add(&tx, &self.app.sealer, row.id, key, active_from).await?;
        tx.commit().await?;
        Ok(Json(AppResponse { app: app_json(row, key) }))
    }

    /// Rotate an app's secret
    ///
    /// Makes a new secret, which is shown this once. Both it and the replaced one get tokens until the overlap ends. Tokens that were
    /// got with the replaced one go on until they end. At most ten replaced ones work at a time.
    #[oai(
        path = "/admin/v1/apps/:id/rotate-secret",
        method = "post",
        operation_id = "rotateAppSecret",
        tag = "Tag::Admin"
    )]
    async fn rotate_app_secret(
        &self,
        caller: AdminCaller,
        /// The app.
        id: Path<Uuid>,
        body: Body<RotateAppSecretRequest>,
    ) -> Result<Json<AppWithSecretResponse>, Problem> {
        let whose = (caller.viewer()?, AppId(id.0));
        let overlap_s = body.0.overlap_seconds.unwrap_or(OVERLAP_S_DEFAULT);
        let app_secret = seal::new_secret(secrets::PREFIX)?;
        let tx = self.app.db.write().await?;
        let row = secrets::rotate(&tx, whose, &app_secret, overlap_s).await?;
        // Read before the commit: nothing may fail between that and showing the secret.
        let key = keys::newest_key(tx.conn(), row.id).await?;
        let app = app_json(row, key.ok_or_else(|| Problem::internal(GenerateError))?);
        tx.commit().await?;
        Ok(Json(AppWithSecretResponse { app, app_secret }))
    }

    /// Install an app on the site
    ///
    /// An app that is installed already keeps its installation.
    #[oai(
        path = "/admin/v1/app-instances",
        method = "post",
        operation_id = "createAppInstance",
        tag = "Tag::Admin"
    )]
    async fn create_app_instance(
        &self,
        caller: AdminCaller,
        body: Body<CreateAppInstanceRequest>,
    ) -> Result<Json<AppInstanceResponse>, Problem> {
        let site = caller.site()?;
        let app = AppId(body.0.app_instance.app_id);
        let tx = self.app.db.write().await?;
        super::find_visible_app(tx.conn(), caller.viewer()?, app).await?.ok_or_else(app_not_found)?;
        let row = super::install(&tx, site, app).await?;
        tx.commit().await?;
        Ok(Json(AppInstanceResponse { app_instance: row.into() }))
    }

    /// List the site's app instances
    ///
    /// Newest first.
    #[oai(
        path = "/admin/v1/app-instances",
        method = "get",
        operation_id = "listAppInstances",
        tag = "Tag::Admin"
    )]
    async fn list_app_instances(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListAppInstancesResponse>, Problem> {
        let site = caller.site()?;
        let page =
            PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListAppInstancesResponse>::default())?;
        let before = page.after.map(AppInstanceId);
        let rows = super::list_instances(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let app_instances = rows.into_iter().map(AppInstanceJson::from).collect();
        Ok(Json(ListAppInstancesResponse { app_instances, paging_metadata }))
    }

    /// Get an app instance
    #[oai(
        path = "/admin/v1/app-instances/:id",
        method = "get",
        operation_id = "getAppInstance",
        tag = "Tag::Admin"
    )]
    async fn get_app_instance(
        &self,
        caller: AdminCaller,
        /// The app instance.
        id: Path<Uuid>,
    ) -> Result<Json<AppInstanceResponse>, Problem> {
        let row = super::find_instance(self.app.db.read(), caller.site()?, AppInstanceId(id.0))
            .await?
            .ok_or_else(instance_not_found)?;
        Ok(Json(AppInstanceResponse { app_instance: row.into() }))
    }

    /// Remove an app from the site
    ///
    /// Its webhook subscriptions must be deleted first. Its tokens stop working.
    #[oai(
        path = "/admin/v1/app-instances/:id",
        method = "delete",
        operation_id = "deleteAppInstance",
        tag = "Tag::Admin"
    )]
    async fn delete_app_instance(
        &self,
        caller: AdminCaller,
        /// The app instance.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        super::uninstall(&tx, site, AppInstanceId(id.0)).await?;
        tx.commit().await?;
        self.app.authenticator.forget();
        Ok(Json(Empty {}))
    }
}

impl AppsApi {
    async fn with_key(&self, row: app::Model) -> Result<AppJson, Problem> {
        let key = keys::newest_key(self.app.db.read(), row.id).await?;
        Ok(app_json(row, key.ok_or_else(|| Problem::internal(GenerateError))?))
    }
}

fn app_json(row: app::Model, key: app_key::Model) -> AppJson {
    AppJson {
        id: row.id.0,
        name: row.name,
        key_id: key.id,
        public_key: key.public_key,
        key_active_date: key.active_from.to_rfc3339(),
        created_date: row.created_at.to_rfc3339(),
        updated_date: row.updated_at.to_rfc3339(),
    }
}

fn app_not_found() -> Problem {
    Problem::not_found("APP_NOT_FOUND", "there is no such app")
}

fn instance_not_found() -> Problem {
    Problem::not_found("APP_INSTANCE_NOT_FOUND", "there is no such app instance")
}

impl From<GenerateError> for Problem {
    fn from(error: GenerateError) -> Self {
        Self::internal(error)
    }
}

impl From<AddKeyError> for Problem {
    fn from(error: AddKeyError) -> Self {
        Self::internal(error)
    }
}

impl From<RotateError> for Problem {
    fn from(error: RotateError) -> Self {
        let text = error.to_string();
        match error {
            RotateError::NotFound => app_not_found(),
            RotateError::TooMany => Self::precondition("TOO_MANY_APP_SECRETS", text),
            RotateError::Store(cause) => Self::from(cause),
        }
    }
}

impl From<UninstallError> for Problem {
    fn from(error: UninstallError) -> Self {
        let text = error.to_string();
        match error {
            UninstallError::NotFound => instance_not_found(),
            UninstallError::HasSubscriptions => Self::precondition("HAS_SUBSCRIPTIONS", text),
            UninstallError::Store(cause) => Self::from(cause),
        }
    }
}
