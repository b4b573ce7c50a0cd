//! The composition root: everything a request or a worker needs, made in one place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use crate::access::authenticator::Authenticator;
use crate::access::issuers::Issuers;
use crate::access::jwks::KeySets;
use crate::access::oauth::{self, Grants};
use crate::access::oauth_clients::Origins;
use crate::access::tokens::{AccessTokens, KeyError};
use crate::activities::record::Recorder;
use crate::apps;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::connections::{Connections, invitations};
use crate::db::{Db, OpenError};
use crate::follows::{Follows, WorkersError, evidence};
use crate::http::limits::Limits;
use crate::ids::{IdGenerator, RandomIds};
use crate::inbox;
use crate::instagram::graph::Graph;
use crate::instagram::tags::{self, TagPoller};
use crate::instagram::understand::Instagram;
use crate::metrics::Metrics;
use crate::nets::Nets;
use crate::outbound::{self, Client, Resolve, Setup, SetupError, SystemResolver};
use crate::profiles::link_codes;
use crate::seal::Sealer;
use crate::sites::config::SiteConfigs;
use crate::sources::intake::Intake;
use crate::sources::settings::PlatformSettings;
use crate::sources::{Sources, Understand};
use crate::streams::{SettingsError, Streams};
use crate::tiktok::Tiktok;
use crate::webhooks::client_certificate::ClientCertificates;
use crate::webhooks::custom_headers::CustomHeaders;
use crate::webhooks::dispatcher::{self, Dispatcher};
use crate::webhooks::sending::Ways;
use crate::webhooks::signing::Signer;
use crate::webhooks::{delivery, partitions, retention, secrets};

/// One deadline for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How often accounts on `TikTok` are looked for whose reading is due.
const READ_EVERY: Duration = Duration::from_secs(30);
/// How often connections are looked at whose check is due.
const CHECK_EVERY: Duration = Duration::from_mins(1);
/// How long everything may take to end at a stop.
const STOP_MAX: Duration = Duration::from_secs(25);
/// There is more urgent work at a start than deleting what has ended.
const CLEAN_UP_FIRST: Duration = Duration::from_mins(5);
/// How often what has ended is deleted.
const CLEAN_UP_EVERY: Duration = Duration::from_hours(1);

/// The seams that tests put something else into.
#[derive(Clone)]
pub struct Seams {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn IdGenerator>,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// How long after the start the work in the background first looks whether there is something to do; else each has its own time.
    pub first_look: Option<Duration>,
    /// How long a request may take.
    pub request_timeout: Duration,
}

impl Default for Seams {
    fn default() -> Self {
        Self {
            clock: Arc::<SystemClock>::default(),
            ids: Arc::new(RandomIds::default()),
            resolver: Arc::new(SystemResolver),
            first_look: None,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The installation's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The outgoing client.
    #[error(transparent)]
    Outbound(#[from] SetupError),
    /// The NATS server's settings.
    #[error(transparent)]
    Nats(#[from] SettingsError),
    /// The metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The workers that create follows.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// The sending of webhooks.
    #[error(transparent)]
    Dispatcher(#[from] dispatcher::StartError),
}

/// The running service. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub db: Db,
    /// Seals secrets.
    pub sealer: Sealer,
    /// Recognises callers.
    pub authenticator: Authenticator,
    /// The token endpoint's grants.
    pub grants: Grants,
    /// Our own tokens.
    pub tokens: AccessTokens,
    /// Browser origins.
    pub origins: Origins,
    /// Rate limits.
    pub limits: Limits,
    /// Proxies whose word is taken for the address of a caller.
    pub trusted_proxies: Nets,
    /// Site configurations.
    pub configs: SiteConfigs,
    /// Follows.
    pub follows: Follows,
    /// Webhooks on their way.
    pub dispatcher: Dispatcher,
    /// Stores what platforms send.
    pub intake: Intake,
    /// The work on what platforms sent.
    pub sources: Sources,
    /// Instagram, as the connected accounts show it.
    pub instagram: Instagram,
    /// Reads what the brands are tagged on.
    pub tags: TagPoller,
    /// Outgoing requests.
    pub client: Client,
    /// `TikTok`.
    pub tiktok: Tiktok,
    /// The operator's NATS server, if there is one.
    pub streams: Option<Streams>,
    /// Metrics.
    pub metrics: Metrics,
    /// The operator's apps at Instagram and `TikTok`.
    pub platforms: Arc<PlatformSettings>,
    /// How the outside reaches the service, without a slash at the end.
    pub public_url: Arc<str>,
    /// Brands' accounts on platforms.
    pub connections: Connections,
    /// How long a request may take.
    pub request_timeout: Duration,
    upkeep: Arc<Mutex<JoinSet<()>>>,
}

impl App {
    /// Opens the database, which must be migrated, and starts the workers.
    pub async fn start(config: &Config, seams: Seams) -> Result<Self, StartError> {
        let db = Db::open(&config.database_url, Arc::clone(&seams.clock), seams.ids).await?;
        db.check_schema().await?;
        db.keep_time().await.map_err(OpenError::Unreachable)?;
        partitions::make(&db, partitions::AT_START_MS).await.map_err(OpenError::Unreachable)?;
        let sealer = config.sealer.clone();
        let tokens = AccessTokens::load(&db, &sealer).await?;
        let client = Client::new(Setup {
            guard: config.guard.clone(),
            resolver: seams.resolver,
            clock: Arc::clone(&seams.clock),
            extra_roots: &config.extra_roots,
            proxy: config.webhook_proxy.clone(),
        })?;
        let metrics = Metrics::new()?;
        let signer = Signer::start(db.clone(), sealer.clone()).map_err(WorkersError::Thread)?;
        let streams = streams(config).await?;
        let ways = Ways {
            signer,
            headers: CustomHeaders::new(sealer.clone()),
            certificates: ClientCertificates::new(sealer.clone()),
            client: client.clone(),
            streams: streams.clone(),
        };
        let configs = SiteConfigs::default();
        let dispatcher =
            Box::pin(Dispatcher::start(db.clone(), configs.clone(), ways, metrics.clone())).await?;
        let first_look = seams.first_look;
        let mut upkeep = JoinSet::new();
        upkeep.spawn(clean_up(db.clone(), config.retention, first_look.unwrap_or(CLEAN_UP_FIRST)));
        let ground = Ground { db: &db, sealer: &sealer, client: &client, clock: &seams.clock, first_look };
        let social = Social::start(
            config,
            &ground,
            Recorder::new(db.clone(), configs.clone(), dispatcher.clone()),
            &mut upkeep,
        );
        let kept = db.clone();
        upkeep.spawn(async move { kept.keep_in_shape().await });
        let issuers = Issuers::new(db.clone(), sealer.clone(), KeySets::new(client.clone(), seams.clock));
        let admin_key = config.admin_key.as_deref();
        Ok(Self {
            follows: Follows::start(&db, &configs, &dispatcher).await?,
            intake: Intake::start(&social.sources).await?,
            authenticator: Authenticator::new(db.clone(), tokens.clone(), issuers, admin_key),
            grants: Grants::new(db.clone(), tokens.clone()),
            origins: Origins::new(db.clone()),
            limits: Limits::new(config.rates),
            trusted_proxies: config.trusted_proxies.clone(),
            db,
            sealer,
            tokens,
            configs,
            dispatcher,
            sources: social.sources,
            instagram: social.instagram,
            tags: social.tags,
            tiktok: social.tiktok,
            connections: social.connections,
            client,
            streams,
            metrics,
            platforms: Arc::new(config.platforms.clone()),
            public_url: config.public_url.as_str().into(),
            request_timeout: seams.request_timeout,
            upkeep: Arc::new(Mutex::new(upkeep)),
        })
    }

    /// Stops the workers and closes the database. Call it when no request is running any more. What does not end in time is left: all that
    /// matters is in the database.
    pub async fn stop(&self) {
        if timeout(STOP_MAX, self.end()).await.is_err() {
            tracing::warn!("the database did not let go in time; what it still holds ends with the process");
        }
    }

    async fn end(&self) {
        // What the others still write meanwhile is sent by another node, or at the next start.
        self.dispatcher.stop().await;
        if let Some(streams) = &self.streams {
            streams.close().await;
        }
        let mut upkeep = std::mem::take(&mut *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner));
        upkeep.shutdown().await;
        if let Err(error) = self.db.close().await {
            tracing::warn!(%error, "the database could not be closed cleanly");
        }
    }
}

/// The operator's NATS server, if there is one.
async fn streams(config: &Config) -> Result<Option<Streams>, StartError> {
    Ok(match &config.nats {
        Some(settings) => Some(Streams::connect(settings, outbound::trust(&config.extra_roots)?).await?),
        None => None,
    })
}

/// What everything stands on.
struct Ground<'a> {
    db: &'a Db,
    sealer: &'a Sealer,
    client: &'a Client,
    clock: &'a Arc<dyn Clock>,
    first_look: Option<Duration>,
}

/// What deals with social platforms.
struct Social {
    sources: Sources,
    instagram: Instagram,
    tags: TagPoller,
    tiktok: Tiktok,
    connections: Connections,
}

impl Social {
    /// Starts their workers.
    fn start(config: &Config, ground: &Ground<'_>, recorder: Recorder, upkeep: &mut JoinSet<()>) -> Self {
        let Ground { db, sealer, client, clock, first_look } = *ground;
        let PlatformSettings { meta, tiktok } = config.platforms.clone();
        let graph = Graph::new(client.clone(), meta, Arc::clone(clock));
        let instagram = Instagram::new(db.clone(), sealer.clone(), graph);
        let tiktok = Tiktok::new(db.clone(), sealer.clone(), client.clone(), tiktok, &config.public_url);
        let platforms: Vec<Box<dyn Understand>> = vec![Box::new(instagram.clone()), Box::new(tiktok.clone())];
        let sources = Sources::new(db.clone(), recorder, platforms);
        upkeep.spawn(sources.clone().run());
        let tags = TagPoller::new(instagram.clone(), config.platforms.meta.tags_minutes);
        upkeep.spawn(tags.clone().run(first_look.unwrap_or(tags::TICK)));
        upkeep.spawn(instagram.clone().answer());
        upkeep.spawn(read_tiktok(tiktok.clone(), first_look.unwrap_or(READ_EVERY)));
        let settings = config.platforms.clone();
        let connections =
            Connections::new(db.clone(), sealer.clone(), client.clone(), settings, &config.public_url);
        upkeep.spawn(check_connections(connections.clone(), first_look.unwrap_or(CHECK_EVERY)));
        Self { sources, instagram, tags, tiktok, connections }
    }
}

/// Reads posts on `TikTok`, now and then.
async fn read_tiktok(tiktok: Tiktok, first: Duration) {
    let mut ticks = interval_at(Instant::now() + first, READ_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = tiktok.poll_due().await {
            tracing::warn!(%error, "posts on TikTok could not be read; the next tick tries again");
        }
    }
}

/// Looks how connections are, and forgets what is to be forgotten, now and then.
async fn check_connections(connections: Connections, first: Duration) {
    let mut ticks = interval_at(Instant::now() + first, CHECK_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = connections.check_due().await {
            tracing::warn!(%error, "connections could not be checked; the next tick tries again");
        }
        if let Err(error) = connections.forget_due().await {
            tracing::warn!(%error, "what is to be forgotten could not be; the next tick tries again");
        }
    }
}

/// Takes away what has ended, now and then. Any number of nodes may do so at once.
async fn clean_up(db: Db, kept: retention::Retention, first: Duration) {
    let mut ticks = interval_at(Instant::now() + first, CLEAN_UP_EVERY);
    loop {
        ticks.tick().await;
        let done = async {
            let tx = db.write().await?;
            let tokens = oauth::delete_expired(&tx).await?;
            evidence::make_stale(&tx).await?;
            secrets::delete_expired(&tx).await?;
            apps::secrets::delete_expired(&tx).await?;
            link_codes::delete_expired(&tx).await?;
            invitations::delete_expired(&tx).await?;
            tx.commit().await?;
            let held = delivery::expire_held(&db).await?;
            partitions::make(&db, partitions::AHEAD_MS).await?;
            let removed = retention::clean_up(&db, kept).await?;
            Ok::<_, DbErr>((tokens, held, removed, inbox::clean_up::clean_up(&db, kept.events).await?))
        };
        match done.await {
            Ok((0, 0, removed, sources))
                if removed == retention::Removed::default()
                    && sources == inbox::clean_up::Removed::default() => {}
            Ok((tokens, held, removed, sources)) => {
                tracing::info!(tokens, held, ?removed, ?sources, "what is too old was taken away");
            }
            Err(error) => tracing::warn!(%error, "the clean-up failed; it is tried again"),
        }
    }
}
