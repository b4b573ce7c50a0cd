//! Admin API: API keys, and the trusted issuers of a site's own member tokens.

use entity::id::{ApiKeyId, SiteId};
use entity::{api_key, trusted_issuer};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::issuers::{self, ISSUERS_MAX, IssuerError, IssuerKey, NewIssuer};
use super::{Scope, api_keys};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::{self, Empty};
use crate::seal;

/// The operations.
pub struct AccessApi {
    /// The running service.
    pub app: App,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "Scope", rename = "Scope")]
enum ScopeName {
    /// Read accounts, follows and the program.
    #[oai(rename = "SCOPE.DC-LOYALTY.READ-LOYALTY")]
    ReadLoyalty,
    /// Change them too.
    #[oai(rename = "SCOPE.DC-LOYALTY.MANAGE-LOYALTY")]
    ManageLoyalty,
    /// Everything of the admin API on the site.
    #[oai(rename = "SCOPE.FOLLOWPOINTS.SITE-ADMIN")]
    SiteAdmin,
    /// Everything, on every site.
    #[oai(rename = "SCOPE.FOLLOWPOINTS.INSTANCE-ADMIN")]
    InstanceAdmin,
}

/// An API key; its secret is not kept.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ApiKey {
    /// Its id.
    id: Uuid,
    /// For people.
    name: String,
    /// The site it belongs to; absent for an instance-wide key.
    site_id: Option<Uuid>,
    /// What it may do.
    scopes: Vec<ScopeName>,
    /// When it was made.
    created_date: String,
}

impl From<api_key::Model> for ApiKey {
    fn from(row: api_key::Model) -> Self {
        Self {
            scopes: api_keys::scopes(&row).into_iter().map(ScopeName::from).collect(),
            id: row.id.0,
            name: row.name,
            site_id: row.site_id.map(|site| site.0),
            created_date: row.created_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateApiKeyRequest {
    api_key: ApiKeyInput,
}

#[derive(Debug, Object)]
struct ApiKeyInput {
    /// For people.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// What it may do. By default everything on the site, or everywhere for an instance-wide key.
    #[oai(validator(min_items = 1, max_items = 10))]
    scopes: Option<Vec<ScopeName>>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateApiKeyResponse {
    api_key: ApiKey,
    /// Shown this once.
    secret: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListApiKeysResponse {
    api_keys: Vec<ApiKey>,
    paging_metadata: PagingMetadata,
}

/// An issuer of the site's own member tokens.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct TrustedIssuer {
    /// The `iss` claim.
    issuer: String,
    /// What `aud` must contain.
    audience: String,
    /// Where its keys are published.
    jwks_url: Option<String>,
    /// Its one public key.
    public_key_pem: Option<String>,
    /// Whether tokens are verified with a shared secret, which is never shown.
    has_hmac_secret: bool,
    /// The claim that names the member.
    member_id_claim: String,
}

impl From<trusted_issuer::Model> for TrustedIssuer {
    fn from(row: trusted_issuer::Model) -> Self {
        Self {
            issuer: row.issuer,
            audience: row.audience,
            jwks_url: row.jwks_url,
            public_key_pem: row.public_key,
            has_hmac_secret: row.hmac_secret.is_some(),
            member_id_claim: row.member_id_claim,
        }
    }
}

/// How a site's own member tokens are recognised.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SiteAuth {
    /// Grows with every change; a number as text.
    revision: String,
    /// The issuers that the site trusts.
    trusted_issuers: Vec<TrustedIssuer>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SiteAuthResponse {
    site_auth: SiteAuth,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SiteAuthRequest {
    site_auth: SiteAuthUpdate,
}

/// The list is replaced as a whole.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SiteAuthUpdate {
    /// The revision that was read; a newer one answers 409.
    #[oai(validator(max_length = 20))]
    revision: Option<String>,
    /// The issuers to trust.
    #[oai(validator(max_items = 10))]
    trusted_issuers: Vec<TrustedIssuerInput>,
}

/// Exactly one of `jwksUrl`, `publicKeyPem` and `hmacSecret`; an issuer whose secret is stored may leave it out.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TrustedIssuerInput {
    /// The `iss` claim.
    #[oai(validator(min_length = 1, max_length = 512))]
    issuer: String,
    /// What `aud` must contain.
    #[oai(validator(min_length = 1, max_length = 512))]
    audience: String,
    /// Where its keys are published.
    #[oai(validator(max_length = 2048))]
    jwks_url: Option<String>,
    /// Its one public key: RSA, EC P-256 or P-384, or Ed25519, SPKI PEM.
    #[oai(validator(max_length = 10000))]
    public_key_pem: Option<String>,
    /// A shared secret of at least 32 bytes, for HS256.
    #[oai(validator(max_length = 1024))]
    hmac_secret: Option<String>,
    /// The claim that names the member; `sub` by default.
    #[oai(validator(min_length = 1, max_length = 100))]
    member_id_claim: Option<String>,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl AccessApi {
    /// Create an API key
    ///
    /// With `wix-site-id` a key of that site, without it an instance-wide key. The secret is shown this once.
    #[oai(path = "/api-keys", method = "post", operation_id = "createApiKey")]
    async fn create_api_key(
        &self,
        caller: AdminCaller,
        body: Body<CreateApiKeyRequest>,
    ) -> Result<Json<CreateApiKeyResponse>, Problem> {
        let site = key_site(&caller)?;
        let default = if site.is_some() { Scope::SiteAdmin } else { Scope::InstanceAdmin };
        let scopes: Vec<Scope> = match body.0.api_key.scopes {
            None => vec![default],
            Some(names) => names.into_iter().map(Scope::from).collect(),
        };
        if site.is_some() && scopes.contains(&Scope::InstanceAdmin) {
            let description = "a key of one site cannot administer the instance";
            return Err(Problem::invalid("apiKey.scopes", "FIELD_NOT_ALLOWED", description));
        }
        let secret = seal::new_secret(api_keys::PREFIX)?;
        let tx = self.app.db.write().await?;
        let row = api_keys::create_api_key(&tx, site, body.0.api_key.name, &scopes, &secret).await?;
        tx.commit().await?;
        Ok(Json(CreateApiKeyResponse { api_key: row.into(), secret }))
    }

    /// List API keys
    ///
    /// Newest first: those of the site, or without `wix-site-id` the instance-wide ones.
    #[oai(path = "/api-keys", method = "get", operation_id = "listApiKeys")]
    async fn list_api_keys(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListApiKeysResponse>, Problem> {
        let site = key_site(&caller)?;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListApiKeysResponse>::default())?;
        let before = page.after.map(ApiKeyId);
        let rows = api_keys::list_api_keys(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let api_keys = rows.into_iter().map(ApiKey::from).collect();
        Ok(Json(ListApiKeysResponse { api_keys, paging_metadata }))
    }

    /// Delete an API key
    ///
    /// It stops working at once on this node, and within five seconds on others.
    #[oai(path = "/api-keys/:id", method = "delete", operation_id = "deleteApiKey")]
    async fn delete_api_key(
        &self,
        caller: AdminCaller,
        /// The key.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = key_site(&caller)?;
        let tx = self.app.db.write().await?;
        if !api_keys::delete_api_key(&tx, site, ApiKeyId(id.0)).await? {
            return Err(Problem::not_found("API_KEY_NOT_FOUND", "there is no such API key"));
        }
        tx.commit().await?;
        self.app.authenticator.forget();
        Ok(Json(Empty {}))
    }

    /// Get the trusted issuers
    #[oai(path = "/site-auth", method = "get", operation_id = "getSiteAuth")]
    async fn get_site_auth(&self, caller: AdminCaller) -> Result<Json<SiteAuthResponse>, Problem> {
        self.respond(caller.site()?).await
    }

    /// Replace the trusted issuers
    ///
    /// A member's token from one of these issuers is accepted like our own, and makes the member known on first sight.
    #[oai(path = "/site-auth", method = "patch", operation_id = "updateSiteAuth")]
    async fn update_site_auth(
        &self,
        caller: AdminCaller,
        body: Body<SiteAuthRequest>,
    ) -> Result<Json<SiteAuthResponse>, Problem> {
        let site = caller.site()?;
        let update = body.0.site_auth;
        let revision = wire::revision(update.revision.as_deref(), "siteAuth.revision")?;
        debug_assert!(update.trusted_issuers.len() <= ISSUERS_MAX, "the schema limits the list");
        let issuers = update
            .trusted_issuers
            .into_iter()
            .enumerate()
            .map(|(index, new)| new_issuer(index, new))
            .collect::<Result<Vec<_>, Problem>>()?;
        let tx = self.app.db.write().await?;
        let guard = self.app.client.guard();
        issuers::replace_issuers(&tx, &self.app.sealer, guard, site, (revision, issuers)).await?;
        tx.commit().await?;
        self.app.authenticator.forget();
        self.respond(site).await
    }
}

impl AccessApi {
    async fn respond(&self, site: SiteId) -> Result<Json<SiteAuthResponse>, Problem> {
        let (revision, rows) = issuers::list_issuers(self.app.db.read(), site).await?;
        let trusted_issuers = rows.into_iter().map(TrustedIssuer::from).collect();
        let site_auth = SiteAuth { revision: revision.to_string(), trusted_issuers };
        Ok(Json(SiteAuthResponse { site_auth }))
    }
}

/// The site whose keys are meant; none means the instance-wide ones, which only the operator may see.
fn key_site(caller: &AdminCaller) -> Result<Option<SiteId>, Problem> {
    let site = caller.optional_site();
    if site.is_none() {
        caller.operator()?;
    }
    Ok(site)
}

fn new_issuer(index: usize, new: TrustedIssuerInput) -> Result<NewIssuer, Problem> {
    let key = match (new.jwks_url, new.public_key_pem, new.hmac_secret) {
        (Some(url), None, None) => IssuerKey::JwksUrl(url),
        (None, Some(pem), None) => IssuerKey::PublicKeyPem(pem),
        (None, None, Some(secret)) => IssuerKey::HmacSecret(secret),
        (None, None, None) => IssuerKey::KeepSecret,
        _ => return Err(one_key_only(index)),
    };
    Ok(NewIssuer {
        issuer: new.issuer,
        audience: new.audience,
        key,
        member_id_claim: new.member_id_claim.unwrap_or_else(|| "sub".to_owned()),
    })
}

fn one_key_only(index: usize) -> Problem {
    Problem::invalid(
        format!("siteAuth.trustedIssuers[{index}]"),
        "ONE_OF_ALIGNMENT",
        "exactly one of jwksUrl, publicKeyPem and hmacSecret is needed",
    )
}

impl From<IssuerError> for Problem {
    fn from(error: IssuerError) -> Self {
        let text = error.to_string();
        let field = |index: usize, name: &str| format!("siteAuth.trustedIssuers[{index}].{name}");
        match error {
            IssuerError::StaleRevision => Self::stale_revision(),
            IssuerError::ReservedName(index) => {
                Self::invalid(field(index, "issuer"), "FIELD_NOT_ALLOWED", text)
            }
            IssuerError::Duplicate(index) => Self::invalid(field(index, "issuer"), "VALIDATION", text),
            IssuerError::Url(index, _) => Self::invalid(field(index, "jwksUrl"), "FORMAT", text),
            IssuerError::PublicKey(index) => Self::invalid(field(index, "publicKeyPem"), "FORMAT", text),
            IssuerError::Secret(index) => Self::invalid(field(index, "hmacSecret"), "MIN_LENGTH", text),
            IssuerError::NoKey(index) => one_key_only(index),
            IssuerError::Store(cause) => Self::from(cause),
            IssuerError::Seal(cause) => Self::internal(cause),
        }
    }
}
