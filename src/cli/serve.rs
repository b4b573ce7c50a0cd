//! `serve`, `migrate` and `verify`.

use std::sync::Arc;

use followpoints::app::{App, Seams};
use followpoints::clock::SystemClock;
use followpoints::config::Config;
use followpoints::db::{self, Db};
use followpoints::ids::RandomIds;
use followpoints::points::verify;
use followpoints::seal;
use followpoints::server::{self, Bound};
use tracing_subscriber::EnvFilter;

/// What is logged unless the operator says otherwise.
const LOG_DEFAULT: &str = "info,sqlx=warn,async_nats=warn";

/// The log to standard error: one JSON object a line, or plain text on a terminal. Lines that cannot be written are lost: whoever
/// asked for something gets an answer all the same.
pub(super) fn start_log() -> Result<(), String> {
    let given = std::env::var("FOLLOWPOINTS_LOG").unwrap_or_default();
    let text = if given.trim().is_empty() { LOG_DEFAULT } else { given.trim() };
    let filter = EnvFilter::try_new(text).map_err(|error| {
        format!("FOLLOWPOINTS_LOG is {text:?}: {error}; it must be a filter like info,followpoints=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second call, as in a test, keeps the first log.
    let _ = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        builder.compact().try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    Ok(())
}

pub(super) async fn serve(config: Config, no_migrate: bool) -> Result<(), String> {
    start_log()?;
    let bound = Bound::new(config.listen).await.map_err(|error| error.to_string())?;
    if config.admin_key.is_none() {
        tracing::warn!(
            "FOLLOWPOINTS_ADMIN_KEY is not set: only keys that are already stored can use the admin API"
        );
    }
    let app = start(&config, no_migrate).await?;
    tracing::info!(address = %bound.address(), public_url = %config.public_url, "serving");
    bound.serve(&app, server::stop_signal()).await.map_err(|error| format!("serving failed: {error}"))?;
    tracing::info!("stopped");
    Ok(())
}

/// Migrates unless told not to, and starts the service.
pub(super) async fn start(config: &Config, no_migrate: bool) -> Result<App, String> {
    // The first random number of a process takes tens of milliseconds: they pass while the database is made ready, and not while
    // somebody waits for an answer.
    tokio::task::spawn_blocking(seal::random::<1>);
    if !no_migrate {
        Db::prepare(&config.database_url).await.map_err(|error| error.to_string())?;
    }
    App::start(config, Seams::default()).await.map_err(|error| error.to_string())
}

pub(super) async fn migrate(config: Config) -> Result<(), String> {
    Db::prepare(&config.database_url).await.map_err(|error| error.to_string())?;
    println!("the schema is up to date");
    Ok(())
}

/// Fails when `url` names a SQLite file that is not there: a command that reads must not make one.
pub(super) fn must_exist(url: &str) -> Result<(), String> {
    match db::sqlite_path(url) {
        Some(path) if !path.exists() => Err(format!(
            "there is no database {}; check FOLLOWPOINTS_DATABASE_URL, or make one with `followpoints migrate`",
            path.display()
        )),
        _ => Ok(()),
    }
}

/// The database for a command that runs beside the service.
pub(super) async fn open(url: &str) -> Result<Db, String> {
    let (clock, ids) = (Arc::<SystemClock>::default(), Arc::new(RandomIds::default()));
    let db = Db::open_beside(url, clock, ids).await.map_err(|error| error.to_string())?;
    db.check_schema().await.map_err(|error| error.to_string())?;
    Ok(db)
}

pub(super) async fn verify(url: &str) -> Result<(), String> {
    let db = open(url).await?;
    let report = verify::verify(db.read(), |so_far| {
        if so_far.accounts.is_multiple_of(50_000) {
            eprintln!("accounts {}, entries {} …", so_far.accounts, so_far.entries);
        }
    })
    .await
    .map_err(|error| format!("reading the ledger failed: {error}"))?;
    println!("accounts: {}, ledger entries: {}", report.accounts, report.entries);
    if report.faults.is_empty() {
        println!("every balance is the sum of its entries");
        return Ok(());
    }
    for fault in &report.faults {
        println!("{fault}");
    }
    Err(format!("{} fault(s) in the ledger", report.faults.len()))
}
