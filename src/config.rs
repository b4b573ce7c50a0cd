//! Settings: environment variables `FOLLOWPOINTS_*`, each with its default and its check. Secrets are never printed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::db::{OpenError, check_url, sqlite_path};
use crate::http::limits::{Rate, Rates};
use crate::nets::{Nets, NetsError};
use crate::outbound::{Guard, Proxy, ProxyError};
use crate::seal::{self, SealError, Sealer};
use crate::sources::settings::{self, PlatformSettings, PlatformSettingsError};
use crate::streams;
use crate::webhooks::retention::Retention;

/// Where it listens by default.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
/// Which database it opens by default.
pub const DATABASE_URL_DEFAULT: &str = "sqlite://followpoints.db?mode=rwc";
/// Characters of the first instance key at the least.
const ADMIN_KEY_MIN: usize = 16;

/// Default rates: a member may do in a burst what a page full of buttons can, an app what a nightly synchronisation needs.
pub const RATES_DEFAULT: Rates = Rates {
    member: Rate { per_second: 100, burst: 1_000 },
    client: Rate { per_second: 10_000, burst: 10_000 },
    address: Rate { per_second: 50, burst: 500 },
};

/// How every name of a setting begins.
const PREFIX: &str = "FOLLOWPOINTS_";
/// What begins so and is not ours to judge: what tests and benchmarks are told.
const OTHERS: [&str; 2] = ["FOLLOWPOINTS_TEST_", "FOLLOWPOINTS_BENCH_"];
/// Every setting but those of the platforms.
const NAMES: [&str; 22] = [
    "FOLLOWPOINTS_LISTEN",
    "FOLLOWPOINTS_DATABASE_URL",
    "FOLLOWPOINTS_PUBLIC_URL",
    "FOLLOWPOINTS_ADMIN_KEY",
    "FOLLOWPOINTS_MASTER_KEY",
    "FOLLOWPOINTS_WEBHOOK_ALLOW_NETS",
    "FOLLOWPOINTS_WEBHOOK_CA_FILE",
    "FOLLOWPOINTS_WEBHOOK_PROXY",
    "FOLLOWPOINTS_WEBHOOK_SECRET",
    "FOLLOWPOINTS_NATS_URL",
    "FOLLOWPOINTS_NATS_CREDENTIALS_FILE",
    "FOLLOWPOINTS_NATS_STREAM",
    "FOLLOWPOINTS_NATS_REPLICAS",
    "FOLLOWPOINTS_RETAIN_ANSWERS_DAYS",
    "FOLLOWPOINTS_RETAIN_DELIVERIES_DAYS",
    "FOLLOWPOINTS_RETAIN_EVENTS_DAYS",
    "FOLLOWPOINTS_RATE_MEMBER",
    "FOLLOWPOINTS_RATE_CLIENT",
    "FOLLOWPOINTS_RATE_ADDRESS",
    "FOLLOWPOINTS_TRUSTED_PROXIES",
    "FOLLOWPOINTS_LOG",
    "FOLLOWPOINTS_THREADS",
];

/// What is wrong with the settings, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name that nobody reads: most likely misspelt.
    #[error("{0} is not a setting; the closest one is {1}, and the README has them all")]
    Unknown(String, &'static str),
    /// Not an address.
    #[error("FOLLOWPOINTS_LISTEN is {0:?}; it must be an address and a port like 127.0.0.1:8080")]
    Listen(String),
    /// Not a URL.
    #[error(
        "FOLLOWPOINTS_PUBLIC_URL is {0:?}; it must be an http or https URL without a query, like https://points.example"
    )]
    PublicUrl(String),
    /// Neither SQLite nor PostgreSQL.
    #[error("FOLLOWPOINTS_DATABASE_URL must start with sqlite:// or postgres://")]
    DatabaseUrl,
    /// A file that cannot be served from.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// Guessable.
    #[error(
        "FOLLOWPOINTS_ADMIN_KEY must have at least {ADMIN_KEY_MIN} characters, all of them visible ones of ASCII; `openssl rand -hex 32` makes a good one"
    )]
    AdminKey,
    /// Needed with PostgreSQL.
    #[error(
        "FOLLOWPOINTS_MASTER_KEY is required with PostgreSQL, the same on every node; `openssl rand -base64 32` makes one"
    )]
    MasterKeyMissing,
    /// Of the wrong form.
    #[error(transparent)]
    MasterKey(#[from] SealError),
    /// The key file beside the database.
    #[error("cannot use the master key file {}: {source}; set FOLLOWPOINTS_MASTER_KEY or fix the file's permissions", path.display())]
    MasterKeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database is there and its key is not.
    #[error(
        "the master key file {} is missing: without it the secrets in the database cannot be opened; restore it, or set FOLLOWPOINTS_MASTER_KEY", path.display()
    )]
    MasterKeyGone {
        /// The file.
        path: PathBuf,
    },
    /// The key file holds something else.
    #[error(
        "the master key file {} does not hold 32 bytes in base64; restore it, or set FOLLOWPOINTS_MASTER_KEY", path.display()
    )]
    MasterKeyDamaged {
        /// The file.
        path: PathBuf,
    },
    /// Not networks.
    #[error(
        "FOLLOWPOINTS_WEBHOOK_ALLOW_NETS: {0}; it must be a comma-separated list of networks like 10.0.0.0/8,127.0.0.1"
    )]
    AllowNets(NetsError),
    /// Not networks either.
    #[error(
        "FOLLOWPOINTS_TRUSTED_PROXIES: {0}; it must be a comma-separated list of networks like 10.0.0.0/8,127.0.0.1"
    )]
    TrustedProxies(NetsError),
    /// Not a proxy. Its value, which may hold a password, is not shown.
    #[error("FOLLOWPOINTS_WEBHOOK_PROXY: {0}")]
    WebhookProxy(#[from] ProxyError),
    /// Not a number of days.
    #[error("{0} is {1:?}; it must be a number of days from 1 to 3650")]
    Days(&'static str, String),
    /// Not a rate.
    #[error("{0} is {1:?}; it must be requests a second, a slash and a burst, like 100/1000")]
    Rate(&'static str, String),
    /// No app at a platform that could be used.
    #[error(transparent)]
    Platforms(#[from] PlatformSettingsError),
    /// No NATS server that could be used.
    #[error(transparent)]
    Nats(#[from] streams::SettingsError),
    /// Private certificates.
    #[error("FOLLOWPOINTS_WEBHOOK_CA_FILE: cannot read {}: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The settings as given, before they are checked.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `FOLLOWPOINTS_LISTEN`.
    pub listen: Option<String>,
    /// `FOLLOWPOINTS_DATABASE_URL`.
    pub database_url: Option<String>,
    /// `FOLLOWPOINTS_PUBLIC_URL`.
    pub public_url: Option<String>,
}

impl Settings {
    /// The database that is meant.
    pub fn database_url(&self) -> Result<String, ConfigError> {
        let url = self
            .database_url
            .clone()
            .or_else(|| var("FOLLOWPOINTS_DATABASE_URL"))
            .unwrap_or_else(|| DATABASE_URL_DEFAULT.to_owned());
        if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(ConfigError::DatabaseUrl);
        }
        check_url(&url)?;
        Ok(url)
    }
}

/// Checked settings.
#[derive(Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Which database it opens.
    pub database_url: String,
    /// How the outside reaches it, without a slash at the end.
    pub public_url: String,
    /// The first instance key.
    pub admin_key: Option<String>,
    /// Seals secrets at rest.
    pub sealer: Sealer,
    /// Which addresses webhooks and key sets may go to.
    pub guard: Guard,
    /// More certificate authorities for webhooks, PEM.
    pub extra_roots: Vec<u8>,
    /// What webhooks and key sets are called through.
    pub webhook_proxy: Option<Proxy>,
    /// Rate limits.
    pub rates: Rates,
    /// Proxies whose word is taken for the address of a caller.
    pub trusted_proxies: Nets,
    /// How long the log of webhooks is kept.
    pub retention: Retention,
    /// The apps at Instagram and `TikTok`.
    pub platforms: PlatformSettings,
    /// The NATS server, if there is one.
    pub nats: Option<streams::Settings>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads and checks the environment; `settings` go before it.
    ///
    /// | variable | default | |
    /// | --- | --- | --- |
    /// | `FOLLOWPOINTS_LISTEN` | `127.0.0.1:8080` | address and port |
    /// | `FOLLOWPOINTS_DATABASE_URL` | `sqlite://followpoints.db?mode=rwc` | SQLite file or PostgreSQL |
    /// | `FOLLOWPOINTS_PUBLIC_URL` | `http://` + listen | how the outside reaches it |
    /// | `FOLLOWPOINTS_ADMIN_KEY` | none | the first instance key, 16 characters or more |
    /// | `FOLLOWPOINTS_MASTER_KEY` | beside the SQLite file | 32 bytes in base64, seals secrets |
    /// | `FOLLOWPOINTS_WEBHOOK_ALLOW_NETS` | none | private networks that webhooks may reach |
    /// | `FOLLOWPOINTS_WEBHOOK_CA_FILE` | none | more certificate authorities for webhooks, PEM |
    /// | `FOLLOWPOINTS_WEBHOOK_PROXY` | none | forward proxy for webhooks, `http://user:password@host:port` |
    /// | `FOLLOWPOINTS_NATS_URL` | none | NATS servers of subscriptions of type `NATS` |
    /// | `FOLLOWPOINTS_NATS_CREDENTIALS_FILE` | none | what to sign in with there |
    /// | `FOLLOWPOINTS_NATS_STREAM` | `FOLLOWPOINTS` | the JetStream stream |
    /// | `FOLLOWPOINTS_NATS_REPLICAS` | 1 | servers that keep a stream which is made |
    /// | `FOLLOWPOINTS_RETAIN_ANSWERS_DAYS` | 7 | how long headers and bodies of webhook tries are kept |
    /// | `FOLLOWPOINTS_RETAIN_DELIVERIES_DAYS` | 30 | how long deliveries that have ended are |
    /// | `FOLLOWPOINTS_RETAIN_EVENTS_DAYS` | 90 | how long events are |
    /// | `FOLLOWPOINTS_TRUSTED_PROXIES` | none | proxies whose `X-Forwarded-For` is believed |
    /// | `FOLLOWPOINTS_RATE_MEMBER` | `100/1000` | requests a second / burst of a member or visitor |
    /// | `FOLLOWPOINTS_RATE_CLIENT` | `10000/10000` | the same of an app instance or API key |
    /// | `FOLLOWPOINTS_RATE_ADDRESS` | `50/500` | the same of an address at the token endpoint |
    pub fn from_env(settings: Settings) -> Result<Self, ConfigError> {
        check_names()?;
        let database_url = settings.database_url()?;
        let listen = settings
            .listen
            .or_else(|| var("FOLLOWPOINTS_LISTEN"))
            .unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
        let listen: SocketAddr = listen.parse().map_err(|_| ConfigError::Listen(listen))?;
        let public_url = settings
            .public_url
            .or_else(|| var("FOLLOWPOINTS_PUBLIC_URL"))
            .unwrap_or_else(|| format!("http://{listen}"));
        let admin_key = var("FOLLOWPOINTS_ADMIN_KEY");
        if admin_key
            .as_ref()
            .is_some_and(|key| key.len() < ADMIN_KEY_MIN || !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(ConfigError::AdminKey);
        }
        let (guard, extra_roots, webhook_proxy) = outgoing()?;
        Ok(Self {
            listen,
            public_url: checked_url(&public_url)?,
            admin_key,
            sealer: Sealer::new(&master_key(&database_url)?)?,
            guard,
            extra_roots,
            webhook_proxy,
            rates: Rates {
                member: rate("FOLLOWPOINTS_RATE_MEMBER", RATES_DEFAULT.member)?,
                client: rate("FOLLOWPOINTS_RATE_CLIENT", RATES_DEFAULT.client)?,
                address: rate("FOLLOWPOINTS_RATE_ADDRESS", RATES_DEFAULT.address)?,
            },
            trusted_proxies: Nets::parse(&var("FOLLOWPOINTS_TRUSTED_PROXIES").unwrap_or_default())
                .map_err(ConfigError::TrustedProxies)?,
            retention: retention()?,
            platforms: PlatformSettings::from_env()?,
            nats: streams::Settings::new(streams::Given {
                url: var("FOLLOWPOINTS_NATS_URL"),
                credentials_file: var("FOLLOWPOINTS_NATS_CREDENTIALS_FILE").map(PathBuf::from),
                stream: var("FOLLOWPOINTS_NATS_STREAM"),
                replicas: var("FOLLOWPOINTS_NATS_REPLICAS"),
            })?,
            database_url,
        })
    }
}

/// Where outgoing requests may go, more certificate authorities for them in PEM, and what they go through: the settings of a
/// command that needs nothing else.
pub fn outgoing() -> Result<(Guard, Vec<u8>, Option<Proxy>), ConfigError> {
    let guard = Guard::parse(&var("FOLLOWPOINTS_WEBHOOK_ALLOW_NETS").unwrap_or_default());
    let guard = guard.map_err(ConfigError::AllowNets)?;
    let extra_roots = match var("FOLLOWPOINTS_WEBHOOK_CA_FILE").map(PathBuf::from) {
        None => Vec::new(),
        Some(path) => std::fs::read(&path).map_err(|source| ConfigError::CaFile { path, source })?,
    };
    let proxy = var("FOLLOWPOINTS_WEBHOOK_PROXY").map(|url| Proxy::parse(&url)).transpose()?;
    Ok((guard, extra_roots, proxy))
}

/// Fails if the environment has a name that begins like our settings and is none: it was meant, and would have no effect.
pub fn check_names() -> Result<(), ConfigError> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let given = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    let unknown = given.filter(|(name, value)| is_unknown(name, value)).map(|(name, _)| name).min();
    match unknown {
        None => Ok(()),
        Some(name) => {
            let closest = closest(&name);
            Err(ConfigError::Unknown(name, closest))
        }
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(settings::NAMES.into_iter().map(|(name, _)| name))
}

fn is_unknown(name: &str, value: &str) -> bool {
    // Kubernetes tells every container in this way of services whose names begin like ours.
    let is_of_kubernetes = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"));
    name.starts_with(PREFIX)
        && !OTHERS.iter().any(|other| name.starts_with(other))
        && !is_of_kubernetes
        && !known().any(|known| known == name)
}

/// The setting whose name is most like `name`.
fn closest(name: &str) -> &'static str {
    known().min_by_key(|known| distance(known, name)).unwrap_or(PREFIX)
}

/// How many letters have to be put in, left out or exchanged to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut before = i;
        let mut left = i + 1;
        for (b, place) in other.bytes().zip(1..) {
            let exchanged = before + usize::from(a != b);
            before = row[place];
            left = exchanged.min(before + 1).min(left + 1);
            row[place] = left;
        }
        row[0] = i + 1;
    }
    row[other.len()]
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn checked_url(text: &str) -> Result<String, ConfigError> {
    let wrong = || ConfigError::PublicUrl(text.to_owned());
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn retention() -> Result<Retention, ConfigError> {
    let days = |name, default| {
        let Some(text) = var(name) else { return Ok(default) };
        let days = text.parse::<u32>().ok().filter(|days| (1..=3_650).contains(days));
        days.map(|days| Duration::from_hours(24) * days).ok_or(ConfigError::Days(name, text))
    };
    let kept = Retention::default();
    Ok(Retention {
        answers: days("FOLLOWPOINTS_RETAIN_ANSWERS_DAYS", kept.answers)?,
        deliveries: days("FOLLOWPOINTS_RETAIN_DELIVERIES_DAYS", kept.deliveries)?,
        events: days("FOLLOWPOINTS_RETAIN_EVENTS_DAYS", kept.events)?,
    })
}

fn rate(name: &'static str, default: Rate) -> Result<Rate, ConfigError> {
    let Some(text) = var(name) else { return Ok(default) };
    let parse = || {
        let (per_second, burst) = text.split_once('/')?;
        let rate = Rate { per_second: per_second.trim().parse().ok()?, burst: burst.trim().parse().ok()? };
        (rate.per_second > 0 && rate.burst > 0).then_some(rate)
    };
    parse().ok_or_else(|| ConfigError::Rate(name, text.clone()))
}

/// The master key: from the environment, or with SQLite from a file beside the database, made on the first start.
fn master_key(database_url: &str) -> Result<String, ConfigError> {
    if let Some(key) = var("FOLLOWPOINTS_MASTER_KEY") {
        return Ok(key);
    }
    let Some(database) = sqlite_path(database_url) else {
        return Err(ConfigError::MasterKeyMissing);
    };
    let has_database = is_database(&database);
    let mut path = database.into_os_string();
    path.push(".master-key");
    let path = PathBuf::from(path);
    match std::fs::read_to_string(&path) {
        Ok(key) => match Sealer::new(&key) {
            Ok(_) => Ok(key),
            Err(_) => Err(ConfigError::MasterKeyDamaged { path }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && has_database => {
            Err(ConfigError::MasterKeyGone { path })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = seal::new_master_key()?;
            write_private(&path, &key).map_err(|source| ConfigError::MasterKeyFile { path, source })?;
            Ok(key)
        }
        Err(source) => Err(ConfigError::MasterKeyFile { path, source }),
    }
}

/// Whether there is a database at `path`, and not only a file.
fn is_database(path: &std::path::Path) -> bool {
    use std::io::Read as _;
    let mut begin = Vec::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(15).read_to_end(&mut begin)).is_ok() && begin == b"SQLite format 3"
}

fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_reads_is_told_from_what_others_set() {
        for name in ["FOLLOWPOINTS_DATABSE_URL", "FOLLOWPOINTS_", "FOLLOWPOINTS_URL", "FOLLOWPOINTS_PORT"] {
            assert!(is_unknown(name, "8080"), "{name}");
        }
        let kubernetes = "tcp://10.0.0.1:8080";
        for name in [
            "FOLLOWPOINTS_LOG",
            "FOLLOWPOINTS_META_APP_ID",
            "FOLLOWPOINTS_TEST_SEED",
            "FOLLOWPOINTS_BENCH_SECONDS",
            "FOLLOWPOINTS_SERVICE_HOST",
            "FOLLOWPOINTS_DB_SERVICE_PORT_SQL",
            "FOLLOWPOINTS_PORT",
            "FOLLOWPOINTS_PORT_8080_TCP_ADDR",
            "FOLLOWPOINTS",
            "OTHER_DATABSE_URL",
        ] {
            assert!(!is_unknown(name, kubernetes), "{name}");
        }
    }

    #[test]
    fn the_closest_name_takes_the_fewest_changes() {
        for (name, meant) in [
            ("FOLLOWPOINTS_DATABSE_URL", "FOLLOWPOINTS_DATABASE_URL"),
            ("FOLLOWPOINTS_MASTERKEY", "FOLLOWPOINTS_MASTER_KEY"),
            ("FOLLOWPOINTS_TIKTOK_CLIENTKEY", "FOLLOWPOINTS_TIKTOK_CLIENT_KEY"),
        ] {
            assert_eq!(closest(name), meant);
        }
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("kitten", "sitting")), (3, 3, 3));
    }
}
