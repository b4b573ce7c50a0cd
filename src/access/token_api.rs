//! The token endpoint in Wix spelling: JSON and forms, `camelCase` and `snake_case`, answers always `snake_case`, errors as RFC 6749
//! has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use entity::id::{AppId, AppInstanceId, MemberId, OauthClientId};
use poem::http::StatusCode;
use poem::{FromRequest, Request, RequestBody, Response, Result};
use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponses, Registry};
use poem_openapi::types::{Any, ToJSON as _, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use super::authenticator::AuthError;
use super::oauth::{GrantError, Tokens};
use super::tokens::ACCESS_TOKEN_LIFE_S;
use super::{Caller, Scope};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::CallSite;
use crate::http::body::{BODY_BYTES_MAX, read};
use crate::http::client_address::ClientAddress;
use crate::http::problem::{ErrorBody, Problem};
use crate::outages::{self, Outage};

/// The operations.
pub struct TokenApi {
    /// The running service.
    pub app: App,
}

/// What a grant needs; which fields depends on `grant_type`. camelCase is accepted too.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct TokenRequest {
    /// `anonymous`, `refresh_token`, `client_credentials` or `authorized_client`.
    grant_type: String,
    /// The front-end (`anonymous`, `refresh_token`) or the app (`client_credentials`).
    client_id: Option<String>,
    /// The app's secret (`client_credentials`).
    client_secret: Option<String>,
    /// The app's installation (`client_credentials`).
    instance_id: Option<String>,
    /// The refresh token (`refresh_token`).
    refresh_token: Option<String>,
    /// The member (`authorized_client`).
    member_id: Option<String>,
}

/// Tokens.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct TokenResponse {
    /// Send it raw in `Authorization`.
    access_token: String,
    /// Gives new tokens when the access token has ended.
    refresh_token: Option<String>,
    /// Always `Bearer`.
    token_type: String,
    /// Seconds until the access token ends.
    expires_in: i64,
}

impl From<Tokens> for TokenResponse {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access,
            refresh_token: tokens.refresh,
            token_type: "Bearer".to_owned(),
            expires_in: ACCESS_TOKEN_LIFE_S,
        }
    }
}

#[derive(Debug, Object)]
struct AccessTokenKeys {
    /// Public keys (RFC 7517).
    keys: Vec<Any<Value>>,
}

/// A token error (RFC 6749).
#[derive(Debug, Object)]
struct OauthError {
    /// `invalid_request`, `invalid_client`, `invalid_grant`, `unauthorized_client`, `unsupported_grant_type`,
    /// `temporarily_unavailable` or `server_error`.
    error: String,
    /// For people.
    error_description: String,
}

/// A refused token request.
#[derive(Debug, thiserror::Error)]
#[error("{code}")]
pub struct OauthProblem {
    status: StatusCode,
    code: &'static str,
    description: String,
    retry_after_s: Option<u32>,
    cause: Option<String>,
}

impl OauthProblem {
    fn new(status: StatusCode, code: &'static str, description: impl Into<String>) -> Self {
        Self { status, code, description: description.into(), retry_after_s: None, cause: None }
    }

    /// The cause of a 5xx, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        self.cause.clone()
    }

    /// The response on the wire.
    #[must_use]
    pub fn render(&self) -> Response {
        let body = OauthError { error: self.code.to_owned(), error_description: self.description.clone() };
        let mut response = Response::builder()
            .status(self.status)
            .content_type("application/json")
            .body(body.to_json_string());
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        response
    }
}

impl poem::error::ResponseError for OauthProblem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        self.render()
    }
}

impl From<GrantError> for OauthProblem {
    fn from(error: GrantError) -> Self {
        let text = error.to_string();
        match error {
            GrantError::InvalidRequest(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_request", text),
            GrantError::InvalidClient => Self::new(StatusCode::UNAUTHORIZED, "invalid_client", text),
            GrantError::InvalidGrant(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_grant", text),
            GrantError::UnauthorizedClient(_) => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthorized_client", text)
            }
            GrantError::UnsupportedGrantType(_) => {
                Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", text)
            }
            GrantError::Store(sea_orm::DbErr::ConnectionAcquire(_)) => Self::busy(),
            GrantError::Store(cause) if Outage::of(&cause).is_some() => {
                outages::WRITES.note_error(&cause);
                Self { cause: Some(cause.to_string()), ..Self::busy() }
            }
            GrantError::Store(cause) => Self::internal(&cause),
            GrantError::Token => Self::internal(&GrantError::Token),
        }
    }
}

impl OauthProblem {
    fn busy() -> Self {
        let description = "overloaded; try again";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
        Self { retry_after_s: Some(1), ..problem }
    }

    fn internal(cause: &dyn std::error::Error) -> Self {
        let mut problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "");
        problem.cause = Some(cause.to_string());
        problem
    }
}

/// It lists the statuses for the document.
#[derive(ApiResponse)]
#[expect(dead_code, reason = "never made, only described")]
enum OauthProblemDoc {
    /// The grant is refused.
    #[oai(status = 400)]
    Refused(Json<OauthError>),
    /// The client or its key is not known.
    #[oai(status = 401)]
    UnknownClient(Json<OauthError>),
    /// The path has no such method.
    #[oai(status = 405)]
    MethodNotAllowed(Json<ErrorBody>),
    /// The body did not come in time.
    #[oai(status = 408)]
    TooSlow(Json<OauthError>),
    /// The body is too large.
    #[oai(status = 413)]
    TooLarge(Json<OauthError>),
    /// The body is neither JSON nor a form.
    #[oai(status = 415)]
    UnsupportedMediaType(Json<OauthError>),
    /// Too many requests; wait for `Retry-After` seconds.
    #[oai(status = 429)]
    TooManyRequests(Json<OauthError>),
    /// Our fault.
    #[oai(status = 500)]
    Internal(Json<OauthError>),
    /// Overloaded; wait for `Retry-After` seconds.
    #[oai(status = 503)]
    Unavailable(Json<OauthError>),
    /// It took too long.
    #[oai(status = 504)]
    TimedOut(Json<OauthError>),
}

impl ApiResponse for OauthProblem {
    fn meta() -> MetaResponses {
        OauthProblemDoc::meta()
    }

    fn register(registry: &mut Registry) {
        OauthProblemDoc::register(registry);
    }
}

/// That a token request was counted against the limit of its address, before its body is read.
struct Counted;

impl<'a> FromRequest<'a> for Counted {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> Result<Self> {
        let client = <ClientAddress as FromRequest>::from_request(request, body).await?;
        let app: &Arc<App> = request.data().ok_or_else(|| Problem::internal(std::fmt::Error))?;
        app.limits.check_address(&client).map_err(|seconds| {
            let description = "too many token requests; slow down";
            let problem =
                OauthProblem::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", description);
            OauthProblem { retry_after_s: Some(seconds), ..problem }
        })?;
        Ok(Self)
    }
}

/// The fields of a token request under their `snake_case` names, with what else the grants look at.
struct Fields {
    values: BTreeMap<String, String>,
    authorization: String,
}

impl<'a> ApiExtractor<'a> for Fields {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        TokenRequest::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let media = |content_type| MetaMediaType { content_type, schema: TokenRequest::schema_ref() };
        Some(MetaRequest {
            description: None,
            content: vec![media("application/json"), media("application/x-www-form-urlencoded")],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let text = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
        };
        let kind = text("content-type").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let bytes =
            read(body.take()?, BODY_BYTES_MAX).await.map_err(|problem| OauthProblem::from(&problem))?;
        let pairs: Vec<(String, String)> = match kind.as_str() {
            "application/json" | "" => json_fields(&bytes)?,
            "application/x-www-form-urlencoded" => url::form_urlencoded::parse(&bytes).into_owned().collect(),
            _ => {
                let description = "send the body as application/json or application/x-www-form-urlencoded";
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(OauthProblem::new(status, "invalid_request", description).into());
            }
        };
        let values = pairs.into_iter().map(|(name, value)| (snake_case(&name), value)).collect();
        Ok(Self { values, authorization: text("authorization") })
    }
}

fn json_fields(bytes: &[u8]) -> std::result::Result<Vec<(String, String)>, OauthProblem> {
    let wrong =
        |description: String| OauthProblem::new(StatusCode::BAD_REQUEST, "invalid_request", description);
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("the body is not JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(wrong("the body must be an object".to_owned()));
    };
    Ok(fields
        .into_iter()
        .filter_map(|(name, value)| match value {
            Value::String(text) => Some((name, text)),
            _ => None,
        })
        .collect())
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        if char.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(char.to_ascii_lowercase());
    }
    out
}

impl Fields {
    fn text(&self, name: &str) -> std::result::Result<&str, GrantError> {
        // `value.is_empty()` would be the framework's, which is about types.
        let value = self.values.get(name).map(String::as_str).filter(|value| !str::is_empty(value));
        value.ok_or_else(|| GrantError::InvalidRequest(format!("{name} is missing")))
    }

    fn id(&self, name: &str) -> std::result::Result<Uuid, GrantError> {
        Uuid::try_parse(self.text(name)?)
            .map_err(|_| GrantError::InvalidRequest(format!("{name} is not a GUID")))
    }
}

#[OpenApi(tag = "Tag::Tokens")]
impl TokenApi {
    /// Get tokens
    ///
    /// Grants: `anonymous` (a visitor of a front-end), `refresh_token`, `client_credentials` (an app on one site),
    /// `authorized_client` (a member, for a back end that holds an API key: `Authorization: <visitor token>,<API key>`).
    #[oai(path = "/oauth2/token", method = "post", operation_id = "createToken")]
    async fn create_token(
        &self,
        request: &Request,
        _counted: Counted,
        fields: Fields,
    ) -> std::result::Result<Json<TokenResponse>, OauthProblem> {
        self.grant(request, &fields).await
    }

    /// Get tokens (older path)
    ///
    /// The same as `/oauth2/token`.
    #[oai(path = "/oauth/access", method = "post", operation_id = "createAccessToken")]
    async fn create_access_token(
        &self,
        request: &Request,
        _counted: Counted,
        fields: Fields,
    ) -> std::result::Result<Json<TokenResponse>, OauthProblem> {
        self.grant(request, &fields).await
    }

    /// Get the keys of access tokens
    #[oai(path = "/oauth2/jwks", method = "get", operation_id = "getAccessTokenKeys")]
    async fn get_access_token_keys(&self) -> std::result::Result<Json<AccessTokenKeys>, Problem> {
        let keys = self.app.tokens.key_set();
        let keys = keys["keys"].as_array().cloned().unwrap_or_default();
        Ok(Json(AccessTokenKeys { keys: keys.into_iter().map(Any).collect() }))
    }
}

impl TokenApi {
    async fn grant(
        &self,
        request: &Request,
        fields: &Fields,
    ) -> std::result::Result<Json<TokenResponse>, OauthProblem> {
        let grants = &self.app.grants;
        let tokens = match fields.text("grant_type")? {
            "anonymous" => grants.anonymous(OauthClientId(fields.id("client_id")?)).await?,
            "refresh_token" => {
                let client = match fields.values.get("client_id") {
                    Some(_) => Some(OauthClientId(fields.id("client_id")?)),
                    None => None,
                };
                grants.refresh(fields.text("refresh_token")?, client).await?
            }
            "client_credentials" => {
                let (app, instance) =
                    (AppId(fields.id("client_id")?), AppInstanceId(fields.id("instance_id")?));
                grants.client_credentials(app, fields.text("client_secret")?, instance).await?
            }
            "authorized_client" => self.authorized_client(fields).await?,
            other => return Err(GrantError::UnsupportedGrantType(other.chars().take(100).collect()).into()),
        };
        if let Some(CallSite(noted)) = request.data::<CallSite>() {
            // Only a browser of this very site may read them.
            let claims = self.app.authenticator.own_claims(&tokens.access);
            if let Some(site) = claims.and_then(|claims| claims.caller()?.site()) {
                let _ = noted.set(site);
            }
        }
        Ok(Json(tokens.into()))
    }

    /// A member's tokens for whoever holds an API key of the visitor's site.
    async fn authorized_client(&self, fields: &Fields) -> std::result::Result<Tokens, GrantError> {
        const REFUSED: GrantError = GrantError::UnauthorizedClient(
            "the Authorization header must be `<visitor token>,<API key>` of one site",
        );
        let member = MemberId(fields.id("member_id")?);
        let (visitor, key) = fields.authorization.split_once(',').ok_or(REFUSED)?;
        let claims = self.app.authenticator.own_claims(visitor.trim()).ok_or(REFUSED)?;
        let Some(Caller::Visitor { site, client, .. }) = claims.caller() else {
            return Err(REFUSED);
        };
        let key =
            self.app.authenticator.authenticate(key, Some(site.0)).await.map_err(|error| match error {
                AuthError::Store(error) => GrantError::Store(error),
                AuthError::Missing | AuthError::Invalid | AuthError::UnknownSite => REFUSED,
            })?;
        if !matches!(*key, Caller::ApiKey { .. }) || !key.has(Scope::ManageLoyalty) {
            return Err(REFUSED);
        }
        self.app.grants.member(site, member, Some(client)).await
    }
}

/// What was refused before the operation, in the words of this endpoint.
impl From<&Problem> for OauthProblem {
    fn from(problem: &Problem) -> Self {
        let status = problem.status_code();
        let code = if status.is_client_error() { "invalid_request" } else { "server_error" };
        let description = problem.body()["message"].as_str().unwrap_or_default().to_owned();
        Self { cause: problem.cause_chain(), ..Self::new(status, code, description) }
    }
}

/// Whether the operation at `path` answers as RFC 6749 has it.
#[must_use]
pub fn is_at(path: &str) -> bool {
    matches!(path, "/oauth2/token" | "/oauth/access")
}

/// The cause that a failed token request leaves in the log, and its response.
#[must_use]
pub fn render(error: &poem::Error) -> Option<(Response, Option<String>)> {
    error.downcast_ref::<OauthProblem>().map(|problem| (problem.render(), problem.cause()))
}
