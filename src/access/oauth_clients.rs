//! A site's front-ends: the `clientId` of the SDK's OAuthStrategy, and the origins that browsers may call from.

use std::sync::{Arc, PoisonError, RwLock};

use entity::id::{OauthClientId, SiteId, Timestamp};
use entity::oauth_client;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Tx};

/// Origins of one front-end.
pub const ORIGINS_MAX: usize = 20;
/// How long the origins are used before they are read again, in milliseconds.
const ORIGINS_FRESH_MS: i64 = 5_000;

/// Makes a front-end of `site`.
pub async fn create_oauth_client(
    tx: &Tx,
    site: SiteId,
    name: String,
    origins: &[String],
) -> Result<oauth_client::Model, DbErr> {
    let model = oauth_client::Model {
        id: OauthClientId(tx.new_id()),
        site_id: site,
        name,
        allowed_origins: serde_json::Value::from(origins.to_vec()).to_string(),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    oauth_client::Entity::insert(oauth_client::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(model)
}

/// The front-end `id`, of whichever site.
pub async fn find_oauth_client(
    db: &impl ConnectionTrait,
    id: OauthClientId,
) -> Result<Option<oauth_client::Model>, DbErr> {
    oauth_client::Entity::find_by_id(id).one(db).await
}

/// Front-ends of `site` from the newest, after `before`.
pub async fn list_oauth_clients(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<OauthClientId>,
    limit: u64,
) -> Result<Vec<oauth_client::Model>, DbErr> {
    let mut query = oauth_client::Entity::find().filter(oauth_client::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(oauth_client::Column::Id.lt(before));
    }
    query.order_by_desc(oauth_client::Column::Id).limit(limit).all(db).await
}

/// Deletes a front-end of `site`; says whether there was one.
pub async fn delete_oauth_client(tx: &Tx, site: SiteId, id: OauthClientId) -> Result<bool, DbErr> {
    let deleted = oauth_client::Entity::delete_many()
        .filter(oauth_client::Column::SiteId.eq(site))
        .filter(oauth_client::Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected == 1)
}

/// The origins of a front-end.
#[must_use]
pub fn origins(client: &oauth_client::Model) -> Vec<String> {
    serde_json::from_str(&client.allowed_origins).unwrap_or_default()
}

/// Whether `text` is an origin as browsers send it: scheme, host and port, nothing else.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.origin().ascii_serialization() == text
            && !text.contains('*')
    })
}

/// When the origins were read, and each site's.
type Known = (Timestamp, Arc<Vec<(SiteId, Vec<String>)>>);

/// The origins of all sites, kept for a few seconds: a preflight has no credentials that would name a site.
#[derive(Clone)]
pub struct Origins {
    db: Db,
    known: Arc<RwLock<Option<Known>>>,
}

impl Origins {
    /// Origins read from `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, known: Arc::default() }
    }

    /// Forgets what is known, after a change on this node.
    pub fn forget(&self) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether browsers may call from `origin`: on `site` if the call names one, else on any.
    pub async fn allow(&self, origin: &str, site: Option<SiteId>) -> Result<bool, DbErr> {
        let known = self.load().await?;
        Ok(known.iter().any(|(of, origins)| {
            site.is_none_or(|site| site == *of) && origins.iter().any(|allowed| allowed == origin)
        }))
    }

    async fn load(&self) -> Result<Arc<Vec<(SiteId, Vec<String>)>>, DbErr> {
        let now = self.db.now();
        if let Some((at, known)) = &*self.known.read().unwrap_or_else(PoisonError::into_inner)
            && (0..ORIGINS_FRESH_MS).contains(&(now.0 - at.0))
        {
            return Ok(Arc::clone(known));
        }
        let clients = oauth_client::Entity::find().all(self.db.read()).await?;
        let known =
            Arc::new(clients.iter().map(|client| (client.site_id, origins(client))).collect::<Vec<_>>());
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&known)));
        Ok(known)
    }
}
