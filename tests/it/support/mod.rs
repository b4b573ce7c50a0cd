//! What every test stands on: the whole service on a database of its own, a clock that moves when told to, and a client that
//! speaks to it in process.

pub mod brand;
pub mod broken;
pub mod callers;
pub mod certificates;
pub mod client;
pub mod delivered;
pub mod dice;
pub mod document;
pub mod dump;
pub mod graph;
pub mod keys;
pub mod nats;
pub mod postgres;
pub mod process;
pub mod receiver;
pub mod sources;
pub mod tiktok;
pub mod wire;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use entity::id::Timestamp;
use followpoints::app::{App, Seams, StartError};
use followpoints::clock::ManualClock;
use followpoints::config::{Config, RATES_DEFAULT};
use followpoints::db::{Db, OpenError};
use followpoints::http::limits::Rates;
use followpoints::ids::SequentialIds;
use followpoints::nets::Nets;
use followpoints::outbound::{Guard, Proxy, Resolve, SystemResolver};
use followpoints::seal::{self, Sealer};
use followpoints::sources::settings::PlatformSettings;
use followpoints::streams;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use self::process::LOOK;

/// 2024-08-01T11:51:41.431Z.
pub const START: Timestamp = Timestamp(1_722_513_101_431);
/// The instance key of every test.
pub const ADMIN_KEY: &str = "test-admin-key-0123456789";
/// How long a test waits for what must happen.
pub const ENOUGH: Duration = Duration::from_mins(1);

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A database of its own, removed at the end.
pub struct TestDatabase {
    pub url: String,
    pub backend: Backend,
    _dir: Option<TempDir>,
    _postgres: Option<postgres::Database>,
}

impl TestDatabase {
    /// An empty, migrated database, or `None` where there is no PostgreSQL to be had and that is allowed.
    pub async fn new(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/test.db?mode=rwc", dir.path().display());
                Db::prepare(&url).await.unwrap();
                Some(Self { url, backend, _dir: Some(dir), _postgres: None })
            }
            Backend::Postgres => {
                let database = postgres::create_database()?;
                let url = database.url.clone();
                Some(Self { url, backend, _dir: None, _postgres: Some(database) })
            }
        }
    }
}

impl TestDatabase {
    /// One on PostgreSQL that sorts texts as they are sorted in English, where there is a server that knows languages.
    pub async fn in_english() -> Option<Self> {
        let database = postgres::create_english_database()?;
        let url = database.url.clone();
        Db::prepare(&url).await.unwrap();
        Some(Self { url, backend: Backend::Postgres, _dir: None, _postgres: Some(database) })
    }

    /// A migrated database that somebody else keeps.
    pub async fn at(url: &str) -> Self {
        Db::prepare(url).await.unwrap();
        let backend = if url.starts_with("sqlite:") { Backend::Sqlite } else { Backend::Postgres };
        Self { url: url.to_owned(), backend, _dir: None, _postgres: None }
    }
}

/// What a test wants otherwise than usual.
#[derive(Clone)]
pub struct Options {
    pub rates: Rates,
    /// Networks of proxies that are believed.
    pub trusted_proxies: &'static str,
    pub allow_nets: &'static str,
    pub resolver: Arc<dyn Resolve>,
    pub extra_roots: &'static [u8],
    pub proxy: Option<Proxy>,
    pub nats: streams::Given,
    /// The apps at Instagram and TikTok, by the names of their settings.
    pub platforms: Vec<(&'static str, String)>,
}

/// Options of a service whose Instagram and TikTok are stand-ins.
pub async fn platforms_stood_in() -> Options {
    let mut options = graph::Graph::options().await;
    options.platforms.extend(tiktok::options().await.platforms);
    options
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rates: RATES_DEFAULT,
            trusted_proxies: "",
            allow_nets: "127.0.0.0/8",
            resolver: Arc::new(SystemResolver),
            extra_roots: &[],
            proxy: None,
            nats: streams::Given::default(),
            platforms: unreachable_platforms(),
        }
    }
}

/// Apps at both platforms, at an address where nobody answers.
fn unreachable_platforms() -> Vec<(&'static str, String)> {
    let apps = [
        ("FOLLOWPOINTS_META_APP_ID", "FOLLOWPOINTS_META_APP_SECRETS"),
        ("FOLLOWPOINTS_META_INSTAGRAM_APP_ID", "FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS"),
        ("FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID", "FOLLOWPOINTS_TIKTOK_BUSINESS_SECRETS"),
    ];
    let addresses = [
        "FOLLOWPOINTS_META_GRAPH_URL",
        "FOLLOWPOINTS_META_INSTAGRAM_GRAPH_URL",
        "FOLLOWPOINTS_META_INSTAGRAM_API_URL",
        "FOLLOWPOINTS_TIKTOK_API_URL",
        "FOLLOWPOINTS_TIKTOK_BUSINESS_URL",
    ];
    let apps = apps.into_iter().flat_map(|(id, secret)| {
        [(id, "1122334455667788".to_owned()), (secret, "test-app-secret-0123456789".to_owned())]
    });
    apps.chain(addresses.map(|name| (name, "http://127.0.0.1:9".to_owned()))).collect()
}

/// The running service.
pub struct TestApp {
    pub app: App,
    pub clock: Arc<ManualClock>,
    pub config: Config,
    pub seams: Seams,
    client: client::Client,
    database: TestDatabase,
    apart: Apart,
}

/// The runtime of a service that a test cuts off; none when it runs on the test's own.
#[derive(Default)]
struct Apart(Option<Runtime>);

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestApp {
    pub async fn start(database: TestDatabase, options: Options) -> Self {
        let (config, clock, seams) = parts(&database, options);
        let app = App::start(&config, seams.clone()).await.unwrap();
        let client = client::Client::new(&app);
        Self { app, clock, config, seams, client, database, apart: Apart::default() }
    }

    /// The same on a runtime of its own, so that `restart` can cut it off.
    pub async fn start_apart(database: TestDatabase) -> Self {
        Self::start_apart_with(database, Options::default()).await
    }

    /// The same with options.
    pub async fn start_apart_with(database: TestDatabase, options: Options) -> Self {
        let (config, clock, seams) = parts(&database, options);
        let (app, apart) = boot_apart(&config, &seams).await;
        let client = client::Client::new(&app);
        Self { app, clock, config, seams, client, database, apart }
    }

    /// Ends a service that runs apart and starts it again on the same database, with the same clock. Unless it was
    /// stopped before, whatever was under way is cut off, as in a crash.
    pub async fn restart(self) -> Self {
        let Self { app, clock, config, seams, client, database, mut apart } = self;
        drop((app, client));
        let runtime = apart.0.take().expect("it was started apart");
        tokio::task::spawn_blocking(|| runtime.shutdown_timeout(ENOUGH)).await.unwrap();
        let (app, apart) = boot_apart(&config, &seams).await;
        let client = client::Client::new(&app);
        Self { app, clock, config, seams, client, database, apart }
    }

    /// The same, and the work in the background begins at once.
    pub async fn restart_at_work(mut self) -> Self {
        self.seams.first_look = Some(Duration::ZERO);
        self.restart().await
    }

    /// Starts it again on the same database, after it was stopped, with `config` as it now is.
    pub async fn again(self) -> Self {
        let Self { app, clock, config, seams, client, database, apart } = self;
        drop((app, client));
        let app = App::start(&config, seams.clone()).await.unwrap();
        let client = client::Client::new(&app);
        Self { app, clock, config, seams, client, database, apart }
    }

    pub fn backend(&self) -> Backend {
        self.database.backend
    }

    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// Starts a request.
    pub fn call(&self, method: &str, path: &str) -> client::Call<'_> {
        self.client.call(method, path)
    }

    /// Sends everything that is due.
    pub async fn drain(&self) {
        let drained = tokio::time::timeout(ENOUGH, self.app.dispatcher.drain()).await;
        drained.expect("deliveries come to an end").unwrap();
    }
}

/// Looks now and then until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK);
    let found = async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(ENOUGH, found).await.unwrap_or_else(|_| panic!("{what}: in vain"))
}

fn parts(database: &TestDatabase, options: Options) -> (Config, Arc<ManualClock>, Seams) {
    let config = config(&database.url, &options);
    let clock = Arc::new(ManualClock::new(START));
    let ids = Arc::new(SequentialIds::default());
    let seams = Seams { clock: clock.clone(), ids, resolver: options.resolver, ..Seams::default() };
    (config, clock, seams)
}

async fn boot_apart(config: &Config, seams: &Seams) -> (App, Apart) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (config, seams) = (config.clone(), seams.clone());
    let app = runtime.spawn(async move {
        loop {
            match App::start(&config, seams.clone()).await {
                // The threads of the one that was cut off end a moment later.
                Err(StartError::Open(OpenError::InUse(_))) => tokio::task::yield_now().await,
                started => return started.unwrap(),
            }
        }
    });
    let app = app.await.unwrap();
    (app, Apart(Some(runtime)))
}

fn platforms(given: &[(&'static str, String)]) -> PlatformSettings {
    let given = given.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
    PlatformSettings::new(&given).unwrap()
}

pub fn config(url: &str, options: &Options) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: url.to_owned(),
        public_url: "http://127.0.0.1".to_owned(),
        admin_key: Some(ADMIN_KEY.to_owned()),
        sealer: Sealer::new(&seal::new_master_key().unwrap()).unwrap(),
        guard: Guard::parse(options.allow_nets).unwrap(),
        extra_roots: options.extra_roots.to_vec(),
        webhook_proxy: options.proxy.clone(),
        rates: options.rates,
        trusted_proxies: Nets::parse(options.trusted_proxies).unwrap(),
        retention: followpoints::webhooks::retention::Retention::default(),
        nats: streams::Settings::new(options.nats.clone()).unwrap(),
        platforms: platforms(&options.platforms),
    }
}

/// Runs a test on both databases: `on_both!(async fn name(app: &TestApp) { … })`. With `options: expression` before the
/// function the service starts with these options.
#[macro_export]
macro_rules! on_both {
    ($(#[$doc:meta])* async fn $name:ident($app:ident: &TestApp $(,)?) $body:block) => {
        $crate::on_both!(options: $crate::support::Options::default(), $(#[$doc])* async fn $name($app: &TestApp) $body);
    };
    (options: $options:expr, $(#[$doc:meta])* async fn $name:ident($app:ident: &TestApp $(,)?) $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn scenario($app: &$crate::support::TestApp) $body

            async fn on(backend: $crate::support::Backend) {
                let Some(database) = $crate::support::TestDatabase::new(backend).await else { return };
                let app = $crate::support::TestApp::start(database, $options).await;
                scenario(&app).await;
                app.app.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                on($crate::support::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                on($crate::support::Backend::Postgres).await;
            }
        }
    };
}
