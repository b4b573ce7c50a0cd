//! A site's front-ends: the `clientId` of the SDK's OAuthStrategy, and the origins that browsers may call from.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use entity::id::{OauthClientId, SiteId, Timestamp};
use entity::oauth_client;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnAcquireErr, ConnectionTrait, DbErr, EntityTrait,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::db::{Db, Tx};
use crate::sites::config;

/// Front-ends of a site.
pub const CLIENTS_MAX: u64 = 100;
/// Origins of one front-end.
pub const ORIGINS_MAX: usize = 20;
/// Characters of an origin.
pub const ORIGIN_CHARS_MAX: usize = 255;
/// How long the origins are used before they are read again, in milliseconds.
const ORIGINS_FRESH_MS: i64 = 5_000;
/// How long a caller waits while another reads them.
const READING_MAX: Duration = Duration::from_secs(5);

/// Why there is no front-end.
#[derive(Debug, thiserror::Error)]
pub enum OauthClientError {
    /// The site has too many.
    #[error("a site can have at most {CLIENTS_MAX} front-ends; delete some")]
    TooMany,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Makes a front-end of `site`.
pub async fn create_oauth_client(
    tx: &Tx,
    site: SiteId,
    name: String,
    origins: &[String],
) -> Result<oauth_client::Model, OauthClientError> {
    config::hold_alone(tx, site).await?;
    let of_site = oauth_client::Entity::find().filter(oauth_client::Column::SiteId.eq(site));
    if of_site.count(tx.conn()).await? >= CLIENTS_MAX {
        return Err(OauthClientError::TooMany);
    }
    let model = oauth_client::Model {
        id: OauthClientId(tx.new_id()),
        site_id: site,
        name,
        allowed_origins: stored(origins),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    oauth_client::Entity::insert(oauth_client::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(model)
}

/// Changes what is given of the front-end `id` of `site`; `None` for an unknown one.
pub async fn change_oauth_client(
    tx: &Tx,
    (site, id): (SiteId, OauthClientId),
    name: Option<String>,
    origins: Option<&[String]>,
) -> Result<Option<oauth_client::Model>, DbErr> {
    // Held, so that of two changes at the same moment neither takes back the other's field.
    let query = oauth_client::Entity::find_by_id(id).filter(oauth_client::Column::SiteId.eq(site));
    let Some(earlier) = query.lock_exclusive().one(tx.conn()).await? else { return Ok(None) };
    let row = oauth_client::Model {
        name: name.unwrap_or(earlier.name),
        allowed_origins: origins.map_or(earlier.allowed_origins, stored),
        updated_at: tx.now(),
        ..earlier
    };
    row.into_active_model().reset_all().update(tx.conn()).await.map(Some)
}

/// Origins as the column has them.
fn stored(origins: &[String]) -> String {
    serde_json::Value::from(origins.to_vec()).to_string()
}

/// The front-end `id`, of whichever site.
pub async fn find_oauth_client(
    db: &impl ConnectionTrait,
    id: OauthClientId,
) -> Result<Option<oauth_client::Model>, DbErr> {
    oauth_client::Entity::find_by_id(id).one(db).await
}

/// The front-end `id` of `site`.
pub async fn find_oauth_client_of(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: OauthClientId,
) -> Result<Option<oauth_client::Model>, DbErr> {
    oauth_client::Entity::find_by_id(id).filter(oauth_client::Column::SiteId.eq(site)).one(db).await
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
    parsed(&client.allowed_origins)
}

fn parsed(stored: &str) -> Vec<String> {
    serde_json::from_str(stored).unwrap_or_default()
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

/// The origins of all sites as they were read.
struct Known {
    at: Timestamp,
    /// How often this node had changed some by then.
    changes: u64,
    sites: HashMap<String, HashSet<SiteId>>,
}

impl Known {
    /// Whether browsers may call from `origin`: on `site` if the call names one, else on any.
    fn allows(&self, origin: &str, site: Option<SiteId>) -> bool {
        self.sites.get(origin).is_some_and(|sites| site.is_none_or(|site| sites.contains(&site)))
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        (0..ORIGINS_FRESH_MS).contains(&(now.0 - self.at.0))
    }
}

/// The origins of all sites, kept for a few seconds: a preflight has no credentials that would name a site. Cheap to clone.
#[derive(Clone)]
pub struct Origins(Arc<Inner>);

struct Inner {
    db: Db,
    known: RwLock<Option<Arc<Known>>>,
    changes: AtomicU64,
    /// Held by whoever reads them.
    reading: Mutex<()>,
}

impl Origins {
    /// Origins read from `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        let (known, changes, reading) = (RwLock::default(), AtomicU64::default(), Mutex::default());
        Self(Arc::new(Inner { db, known, changes, reading }))
    }

    /// Forgets what is known, and what is being read at this moment, after a change on this node.
    pub fn forget(&self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether browsers may call from `origin`: on `site` if the call names one, else on any.
    pub async fn allow(&self, origin: &str, site: Option<SiteId>) -> Result<bool, DbErr> {
        Ok(self.load().await?.allows(origin, site))
    }

    /// What is known. What is no longer fresh one caller reads anew, while the others use what there is; they wait only for
    /// what was forgotten.
    async fn load(&self) -> Result<Arc<Known>, DbErr> {
        let reading = match self.known() {
            Some(known) if known.is_fresh(self.0.db.now()) => return Ok(known),
            Some(known) => match self.0.reading.try_lock() {
                Ok(reading) => reading,
                Err(_) => return Ok(known),
            },
            None => tokio::time::timeout(READING_MAX, self.0.reading.lock())
                .await
                .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?,
        };
        // Somebody else may have read them before the lock was had.
        match self.known().filter(|known| known.is_fresh(self.0.db.now())) {
            Some(known) => Ok(known),
            None => self.read(&reading).await,
        }
    }

    /// What was read and not forgotten since.
    fn known(&self) -> Option<Arc<Known>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(|known| known.changes == self.0.changes.load(Ordering::SeqCst))
    }

    async fn read(&self, _reading: &MutexGuard<'_, ()>) -> Result<Arc<Known>, DbErr> {
        // Looked at first: what changes while they are read is read again.
        let (at, changes) = (self.0.db.now(), self.0.changes.load(Ordering::SeqCst));
        let clients: Vec<(SiteId, String)> = oauth_client::Entity::find()
            .select_only()
            .column(oauth_client::Column::SiteId)
            .column(oauth_client::Column::AllowedOrigins)
            .into_tuple()
            .all(self.0.db.read())
            .await?;
        let mut sites = HashMap::<String, HashSet<SiteId>>::new();
        for (site, origins) in clients {
            for origin in parsed(&origins) {
                sites.entry(origin).or_default().insert(site);
            }
        }
        let known = Arc::new(Known { at, changes, sites });
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&known));
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_origin_is_that_of_its_sites_and_of_any_where_none_is_named() {
        let (one, two, three) = (SiteId(Uuid::nil()), SiteId(Uuid::max()), SiteId(Uuid::from_u128(3)));
        let sites = HashMap::from([
            ("https://shop.example".to_owned(), HashSet::from([one, two])),
            ("https://other.example".to_owned(), HashSet::from([three])),
        ]);
        let known = Known { at: Timestamp(0), changes: 0, sites };
        let allowed =
            |origin| [Some(one), Some(two), Some(three), None].map(|site| known.allows(origin, site));
        assert_eq!(allowed("https://shop.example"), [true, true, false, true]);
        assert_eq!(allowed("https://other.example"), [false, false, true, true]);
        assert_eq!(allowed("https://evil.example"), [false; 4]);
    }
}
