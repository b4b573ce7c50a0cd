//! From the `Authorization` header to a [`Caller`]. What was verified is remembered for a short time, by hash, never past
//! the token's end, and forgotten when keys or issuers change on this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use entity::id::{ApiKeyId, SiteId, Timestamp};
use entity::{app_instance, site};
use quick_cache::sync::Cache;
use sea_orm::{DbErr, EntityTrait};
use uuid::Uuid;

use super::issuers::Issuers;
use super::tokens::{AccessTokens, Claims};
use super::{Caller, Scope, api_keys};
use crate::db::Db;
use crate::seal;

/// Longer tokens are refused unread.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Callers remembered.
const CALLERS_MAX: usize = 20_000;
/// How long a signed token is remembered.
const TOKEN_FRESH_MS: i64 = 60_000;
/// How long a key or an installation, which can be deleted on another node, is remembered.
const KEY_FRESH_MS: i64 = 5_000;

/// Why nobody could be recognised.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No credentials.
    #[error("the Authorization header is missing")]
    Missing,
    /// Credentials that prove nothing.
    #[error("the token or key is not valid")]
    Invalid,
    /// `wix-site-id` is not a site that the key may use.
    #[error("there is no such site")]
    UnknownSite,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

#[derive(Clone)]
struct Known {
    caller: Arc<Caller>,
    until: Timestamp,
    epoch: u64,
}

/// Recognises callers. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    db: Db,
    tokens: AccessTokens,
    issuers: Issuers,
    admin_key: Option<[u8; 32]>,
    known: Cache<[u8; 32], Known>,
    epoch: AtomicU64,
}

impl Authenticator {
    /// An authenticator; `admin_key` is the first instance key.
    #[must_use]
    pub fn new(db: Db, tokens: AccessTokens, issuers: Issuers, admin_key: Option<&str>) -> Self {
        Self(Arc::new(Inner {
            db,
            tokens,
            issuers,
            admin_key: admin_key.map(seal::hash),
            known: Cache::new(CALLERS_MAX),
            epoch: AtomicU64::new(0),
        }))
    }

    /// Forgets everybody, after a change that takes rights away.
    pub fn forget(&self) {
        self.0.issuers.forget();
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The caller behind `authorization`, the header's text, on the site that `site` names if the credentials do not
    /// name one themselves.
    pub async fn authenticate(
        &self,
        authorization: &str,
        site: Option<Uuid>,
    ) -> Result<Arc<Caller>, AuthError> {
        let secret = credentials(authorization).ok_or(AuthError::Missing)?;
        if secret.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Invalid);
        }
        let site = site.map(SiteId);
        let key = match site {
            Some(site) => seal::hash(&format!("{secret}\n{site}")),
            None => seal::hash(secret),
        };
        let now = self.0.db.now();
        let epoch = self.0.epoch.load(Ordering::SeqCst);
        if let Some(known) = self.0.known.get(&key)
            && known.epoch == epoch
            && now < known.until
        {
            return Ok(known.caller);
        }
        // Boxed, for it is large and rare: without it every request would carry its room along.
        let (caller, until) = self.0.db.in_time(Box::pin(self.recognise(secret, site, now))).await?;
        let caller = Arc::new(caller);
        self.0.known.insert(key, Known { caller: Arc::clone(&caller), until, epoch });
        Ok(caller)
    }

    /// The claims of one of our own access or refresh tokens.
    #[must_use]
    pub fn own_claims(&self, token: &str) -> Option<Claims> {
        self.0.tokens.verify(token, self.0.db.now())
    }

    async fn recognise(
        &self,
        secret: &str,
        site: Option<SiteId>,
        now: Timestamp,
    ) -> Result<(Caller, Timestamp), AuthError> {
        if self.0.admin_key.is_some_and(|admin| seal::same(&admin, &seal::hash(secret))) {
            let caller =
                self.key_caller(None, ApiKeyId(Uuid::nil()), vec![Scope::InstanceAdmin], site).await?;
            return Ok((caller, now.plus_ms(KEY_FRESH_MS)));
        }
        if secret.starts_with(api_keys::PREFIX) {
            let key = api_keys::find_by_secret(self.0.db.read(), secret).await?.ok_or(AuthError::Invalid)?;
            let caller = self.key_caller(key.site_id, key.id, api_keys::scopes(&key), site).await?;
            return Ok((caller, now.plus_ms(KEY_FRESH_MS)));
        }
        if let Some(claims) = self.0.tokens.verify(secret, now) {
            let caller = claims.caller().ok_or(AuthError::Invalid)?;
            let ends = Timestamp(claims.exp.saturating_mul(1000));
            if let Caller::App { instance, .. } = &caller {
                let installed = app_instance::Entity::find_by_id(*instance).one(self.0.db.read()).await?;
                installed.ok_or(AuthError::Invalid)?;
                return Ok((caller, ends.min(now.plus_ms(KEY_FRESH_MS))));
            }
            return Ok((caller, ends.min(now.plus_ms(TOKEN_FRESH_MS))));
        }
        let proven = self.0.issuers.verify(secret, site).await?.ok_or(AuthError::Invalid)?;
        Ok((proven.caller, proven.expires_at.min(now.plus_ms(TOKEN_FRESH_MS))))
    }

    async fn key_caller(
        &self,
        own: Option<SiteId>,
        key: ApiKeyId,
        scopes: Vec<Scope>,
        named: Option<SiteId>,
    ) -> Result<Caller, AuthError> {
        let site = match (own, named) {
            (Some(own), Some(named)) if own != named => return Err(AuthError::UnknownSite),
            (None, Some(named)) => {
                site::Entity::find_by_id(named).one(self.0.db.read()).await?.ok_or(AuthError::UnknownSite)?;
                Some(named)
            }
            (own, _) => own,
        };
        Ok(Caller::ApiKey { site, key, is_instance: own.is_none(), scopes })
    }
}

/// The token or key in the header's text: raw as the Wix SDK sends it, or behind `Bearer`. An empty header counts as none.
fn credentials(authorization: &str) -> Option<&str> {
    let text = authorization.trim();
    let is_bearer = text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer "));
    let text = if is_bearer { text[7..].trim() } else { text };
    (!text.is_empty()).then_some(text)
}
