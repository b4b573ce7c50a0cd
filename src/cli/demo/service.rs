//! The service itself, on a database of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use followpoints::app::App;
use followpoints::config::{Config, ConfigError, LISTEN_DEFAULT, RATES_DEFAULT};
use followpoints::nets::Nets;
use followpoints::outbound::Guard;
use followpoints::seal::{self, Sealer};
use followpoints::server::Bound;
use followpoints::sources::settings::PlatformSettings;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The demo's receiver is on this machine, so webhooks may go there and nowhere else inside.
const WEBHOOK_NETS: &str = "127.0.0.0/8";

/// A new folder for the database. It is removed with all that is in it when this is dropped.
pub(super) struct Folder {
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn create() -> Result<Self, String> {
        let name = seal::new_secret("followpoints-demo-").map_err(|error| error.to_string())?;
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        // Others on this machine have no business with the keys in it.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .map_err(|error| format!("cannot make the folder {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    fn database_url(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.path.join("demo.db").display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("followpoints: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The running service.
pub(super) struct Service {
    /// Its inside, for what has no API: waiting for its workers and proving its ledger.
    pub(super) app: App,
    /// Where this machine reaches it.
    pub(super) address: SocketAddr,
    /// Where it would be, were the port not taken.
    pub(super) instead_of: Option<SocketAddr>,
    /// The first instance key.
    pub(super) admin_key: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Service {
    pub(super) async fn start(
        folder: &Folder,
        listen: Option<String>,
        once: bool,
        platforms: PlatformSettings,
    ) -> Result<Self, String> {
        let (bound, instead_of) = bind(listen, once).await?;
        let address = reachable(bound.address());
        let admin_key = seal::new_secret("demo-key-").map_err(|error| error.to_string())?;
        let master_key = seal::new_master_key().map_err(|error| error.to_string())?;
        let config = Config {
            listen: bound.address(),
            database_url: folder.database_url(),
            public_url: format!("http://{address}"),
            admin_key: Some(admin_key.clone()),
            sealer: Sealer::new(&master_key).map_err(|error| error.to_string())?,
            guard: Guard::parse(WEBHOOK_NETS).map_err(|error| error.to_string())?,
            extra_roots: Vec::new(),
            webhook_proxy: None,
            rates: RATES_DEFAULT,
            trusted_proxies: Nets::default(),
            retention: followpoints::webhooks::retention::Retention::default(),
            platforms,
            nats: None,
        };
        let app = crate::cli::serve::start(&config, false).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let app = app.clone();
            async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                bound.serve(&app, stopped).await
            }
        });
        Ok(Self { app, address, instead_of, admin_key, stop: Some(stop), task })
    }

    /// Asks it to stop; [`Service::ended`] tells when it has.
    pub(super) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Done when it has stopped, which is a failure unless it was asked to. Not to be called again after that.
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        match (&mut self.task).await {
            Ok(Ok(())) if self.stop.is_none() => Ok(()),
            Ok(Ok(())) => Err("the service stopped by itself".to_owned()),
            Ok(Err(error)) => Err(format!("serving failed: {error}")),
            Err(error) => Err(format!("serving failed: {error}")),
        }
    }
}

/// The value of an environment variable that says something.
pub(super) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Where it was told to listen, else the default port, else a free one; and the default port if that was taken. A story
/// that is played once needs no port that anybody knows.
async fn bind(listen: Option<String>, once: bool) -> Result<(Bound, Option<SocketAddr>), String> {
    let asked = listen.or_else(|| setting("FOLLOWPOINTS_LISTEN"));
    let is_default = asked.is_none();
    let text = asked.unwrap_or_else(|| LISTEN_DEFAULT.to_owned());
    let address: SocketAddr = text.parse().map_err(|_| ConfigError::Listen(text).to_string())?;
    let free = SocketAddr::new(address.ip(), 0);
    let first = if is_default && once { free } else { address };
    match Bound::new(first).await {
        Ok(bound) => Ok((bound, None)),
        Err(_) if is_default => {
            let bound = Bound::new(free).await.map_err(|error| error.to_string())?;
            Ok((bound, Some(address)))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The address to call for a service that listens on `address`, which may stand for all addresses of this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
