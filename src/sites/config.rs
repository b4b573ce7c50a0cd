//! What follows and activities depend on, per site: program, channels, rules, hashtags, subscriptions. Kept in memory and checked
//! against `site.config_version` inside each transaction, so that a change counts for everything committed after it, on
//! every node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use entity::id::{AccountId, AppId, AppInstanceId, SiteId, SubscriptionId};
use entity::kinds::{
    Channel, DeliveryOrdering, ProgramStatus, SignatureScheme, SubscriptionKind, SubscriptionStatus,
};
use entity::{activity_rule, program, site, site_channel, subscription, tracked_hashtag};
use quick_cache::sync::Cache;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, DbErr, EntityTrait, ExprTrait as _, QueryFilter,
    QueryOrder as _, sea_query::Expr,
};
use uuid::Uuid;

use crate::db::Tx;
use crate::rows::Rows;
use crate::webhooks::filter::Filter;
use crate::webhooks::{EventType, schedule};

/// Sites whose configuration stays in memory.
const SITES_CACHED_MAX: usize = 10_000;

/// What tells the locks of [`take_turns`] from those of configurations.
const TURNS: i64 = 0x5eed_50c1;

/// Where events of one subscription go and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// Its site.
    pub site_id: SiteId,
    /// The app whose key signs.
    pub app_id: AppId,
    /// The installation named in the envelope.
    pub app_instance_id: AppInstanceId,
    /// Where events go.
    pub kind: SubscriptionKind,
    /// The receiver of a webhook.
    pub url: String,
    /// Time limit of one try, in milliseconds.
    pub timeout_ms: u32,
    /// How many tries may run at once.
    pub in_flight_max: usize,
    /// The waits between tries, in milliseconds.
    pub resends_ms: Vec<i64>,
    /// What it subscribes to.
    pub event_types: Vec<EventType>,
    /// In which order deliveries are sent.
    pub ordering: DeliveryOrdering,
    /// Tries a second at most.
    pub rate_limit: Option<u32>,
    /// Whether events are sent; else they are held.
    pub is_enabled: bool,
    /// The certificate that it shows, as it is stored, if it has one.
    pub client_certificate: Option<Arc<[u8]>>,
    /// What events must say.
    pub filter: Filter,
    /// Headers of its own, as they are stored, if it has any.
    pub custom_headers: Option<Arc<[u8]>>,
    /// The signatures that go into the headers.
    pub signature_headers: Vec<SignatureScheme>,
    /// The subscription's revision that this is.
    pub revision: i64,
}

impl Target {
    /// Whether the subscription is to events of this type about this entity that say this, as JSON text.
    #[must_use]
    pub fn wants(&self, event_type: &str, entity: Uuid, data: &str) -> bool {
        self.is_to(event_type) && !self.is(entity) && self.filter.passes(data)
    }

    /// Whether `entity` is the subscription itself: how its receiver does is told to the others.
    #[must_use]
    pub fn is(&self, entity: Uuid) -> bool {
        self.subscription_id.0 == entity
    }

    /// Whether the subscription is to events of this type.
    #[must_use]
    pub fn is_to(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|kind| kind.as_str() == event_type)
    }

    /// What the order of a delivery is kept within: nothing, its account or else its entity, or the subscription.
    #[must_use]
    pub fn order_key(&self, account: Option<AccountId>, entity: Uuid) -> Option<Uuid> {
        match self.ordering {
            DeliveryOrdering::Parallel => None,
            DeliveryOrdering::PerEntity => Some(account.map_or(entity, |account| account.0)),
            DeliveryOrdering::Strict => Some(self.subscription_id.0),
        }
    }
}

impl From<subscription::Model> for Target {
    fn from(row: subscription::Model) -> Self {
        let names: Vec<String> = serde_json::from_str(&row.event_types).unwrap_or_default();
        let delays: Vec<i64> =
            row.retry_delays.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Self {
            subscription_id: row.id,
            site_id: row.site_id,
            app_id: row.app_id,
            app_instance_id: row.app_instance_id,
            kind: row.kind,
            url: row.url,
            timeout_ms: row.timeout_ms.unsigned_abs(),
            in_flight_max: usize::try_from(row.in_flight_max).unwrap_or(1).max(1),
            ordering: row.ordering,
            rate_limit: row.rate_limit.map(i32::unsigned_abs),
            is_enabled: row.status == SubscriptionStatus::Enabled,
            client_certificate: row.client_identity.map(Arc::from),
            filter: row.filter.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            custom_headers: row.custom_headers.map(Arc::from),
            resends_ms: schedule::resends_ms(row.retry_profile, &delays),
            signature_headers: serde_json::from_str(&row.signature_headers).unwrap_or_default(),
            revision: row.revision,
            event_types: names.iter().flat_map(|pattern| EventType::matching(pattern)).collect(),
        }
    }
}

/// The configuration of one site at one version.
#[derive(Debug)]
pub struct SiteConfig {
    version: i64,
    /// State of the loyalty program.
    pub program: ProgramStatus,
    channels: Vec<site_channel::Model>,
    /// Rules for activities that are in force, the oldest first. What they have awarded in all is that of an earlier moment.
    pub rules: Vec<activity_rule::Model>,
    /// Hashtags whose posts count as mentions, as they are compared.
    pub hashtags: HashSet<String>,
    /// Subscriptions, whether they are enabled or not.
    pub targets: Vec<Arc<Target>>,
}

impl SiteConfig {
    /// The settings of `channel`, if the owner has made any.
    #[must_use]
    pub fn settings(&self, channel: Channel) -> Option<&site_channel::Model> {
        self.channels.iter().find(|settings| settings.channel == channel)
    }

    /// The settings of `channel` if it is enabled.
    #[must_use]
    pub fn enabled(&self, channel: Channel) -> Option<&site_channel::Model> {
        self.settings(channel).filter(|settings| settings.enabled)
    }
}

/// Configurations by site.
pub type Configs = HashMap<SiteId, Arc<SiteConfig>>;

/// The versions of configurations (`site.config_version`) by site.
pub type Versions = HashMap<SiteId, i64>;

/// The configurations kept in memory. Cheap to clone.
#[derive(Clone)]
pub struct SiteConfigs(Arc<Cache<SiteId, Arc<SiteConfig>>>);

impl Default for SiteConfigs {
    fn default() -> Self {
        Self(Arc::new(Cache::new(SITES_CACHED_MAX)))
    }
}

impl SiteConfigs {
    /// The configurations of `sites` as this transaction sees them; on PostgreSQL they stay so until it ends. Unknown
    /// sites are absent from the answer.
    pub async fn load(&self, tx: &Tx, sites: &[SiteId]) -> Result<Configs, DbErr> {
        hold_shared(tx, sites).await?;
        self.at(tx, versions(tx, sites).await?).await
    }

    /// The same, and has one transaction at a time record what platforms told about each of `sites`, as [`take_turns`].
    pub async fn load_in_turn(&self, tx: &Tx, sites: &[SiteId]) -> Result<Configs, DbErr> {
        hold(tx, sites, "pg_advisory_xact_lock(r.turn), pg_advisory_xact_lock_shared(r.key)").await?;
        self.at(tx, versions(tx, sites).await?).await
    }

    /// The configurations of sites at `versions`, which the transaction has read after [`hold_shared`].
    pub async fn at(&self, tx: &Tx, versions: Versions) -> Result<Configs, DbErr> {
        let mut configs = Configs::with_capacity(versions.len());
        for (site, version) in versions {
            let cached = self.0.get(&site).filter(|config| config.version == version);
            let config = match cached {
                Some(config) => config,
                None => self.refresh(tx.conn(), site, version).await?,
            };
            configs.insert(site, config);
        }
        Ok(configs)
    }

    async fn refresh(
        &self,
        db: &impl ConnectionTrait,
        site: SiteId,
        version: i64,
    ) -> Result<Arc<SiteConfig>, DbErr> {
        let program = program::Entity::find_by_id(site).one(db).await?;
        let channels =
            site_channel::Entity::find().filter(site_channel::Column::SiteId.eq(site)).all(db).await?;
        let rules = activity_rule::Entity::find()
            .filter(activity_rule::Column::SiteId.eq(site))
            .filter(activity_rule::Column::IsEnabled.eq(true))
            .order_by_asc(activity_rule::Column::Id)
            .all(db)
            .await?;
        let hashtags =
            tracked_hashtag::Entity::find().filter(tracked_hashtag::Column::SiteId.eq(site)).all(db).await?;
        let targets =
            subscription::Entity::find().filter(subscription::Column::SiteId.eq(site)).all(db).await?;
        let config = Arc::new(SiteConfig {
            version,
            program: program.map_or(ProgramStatus::Draft, |program| program.status),
            channels,
            rules,
            hashtags: hashtags.into_iter().map(|row| row.folded).collect(),
            targets: targets.into_iter().map(|row| Arc::new(Target::from(row))).collect(),
        });
        self.0.insert(site, Arc::clone(&config));
        Ok(config)
    }
}

async fn versions(tx: &Tx, sites: &[SiteId]) -> Result<Versions, DbErr> {
    let rows = Rows::new(sites)
        .uuid("id", |site| site.0)
        .query(tx.conn(), "SELECT s.id, s.config_version FROM {rows} r JOIN site s ON s.id = r.id")
        .await?;
    rows.iter().map(|row| Ok((row.try_get_by(0)?, row.try_get_by(1)?))).collect()
}

/// Keeps the configurations of `sites` as they are until the transaction ends. Read their versions after this.
pub async fn hold_shared(tx: &Tx, sites: &[SiteId]) -> Result<(), DbErr> {
    hold(tx, sites, "pg_advisory_xact_lock_shared(r.key)").await
}

/// Has one transaction at a time change what an owner sets on `site`: whoever decides by what it reads calls this first.
pub async fn hold_alone(tx: &Tx, site: SiteId) -> Result<(), DbErr> {
    hold(tx, &[site], "pg_advisory_xact_lock(r.key)").await
}

/// Marks the configuration of `site` as changed. Every write to what is part of it calls this in its transaction, before it reads what
/// it decides by: [`hold_alone`] is part of it.
pub async fn touch(tx: &Tx, site: SiteId) -> Result<(), DbErr> {
    hold_alone(tx, site).await?;
    site::Entity::update_many()
        .col_expr(site::Column::ConfigVersion, Expr::col(site::Column::ConfigVersion).add(1))
        .filter(site::Column::Id.eq(site))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Has one transaction at a time record what platforms told about each of `sites`. Only PostgreSQL has several writers.
pub async fn take_turns(tx: &Tx, sites: &[SiteId]) -> Result<(), DbErr> {
    hold(tx, sites, "pg_advisory_xact_lock(r.turn)").await
}

/// Takes `locks` of each of `sites` until the transaction ends: of its configuration (`r.key`), of its turn (`r.turn`). A lock on
/// the row of the site would be written to the table by every follow; SQLite's writer is alone anyway.
async fn hold(tx: &Tx, sites: &[SiteId], locks: &str) -> Result<(), DbErr> {
    if tx.conn().get_database_backend() != DatabaseBackend::Postgres {
        return Ok(());
    }
    let mut keys: Vec<i64> = sites.iter().map(lock_key).collect();
    // Always in the same order, so that two transactions cannot wait for each other.
    keys.sort_unstable();
    let sql = format!("SELECT {locks} FROM {{rows}} r");
    Rows::new(&keys).int("key", |key| *key).int("turn", |key| key ^ TURNS).query(tx.conn(), &sql).await?;
    Ok(())
}

/// The random half of the id. Two sites with the same key would wait for each other, no more.
fn lock_key(site: &SiteId) -> i64 {
    let (_, random) = site.0.as_u64_pair();
    i64::from_ne_bytes(random.to_ne_bytes())
}
