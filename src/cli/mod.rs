//! The command line: one file per group of commands.

mod admin;
mod demo;
mod serve;
mod webhooks;

use std::env;
use std::io::{ErrorKind, Write as _};
use std::num::NonZeroUsize;

use clap::{Parser, Subcommand};
use followpoints::config::{self, Config, Settings};
use followpoints::http::openapi;
use followpoints::threads;
use tokio::runtime::Runtime;

/// Says how many threads serve requests.
const THREADS: &str = "FOLLOWPOINTS_THREADS";

/// Reward a site's members for following its social channels.
///
/// Every setting is an environment variable FOLLOWPOINTS_* (a .env file is read); the flags below go before theirs.
#[derive(Parser)]
#[command(name = "followpoints", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct SettingsArguments {
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        help = "Address and port to listen on [env: FOLLOWPOINTS_LISTEN] [default: 127.0.0.1:8080]"
    )]
    listen: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "Database, but for demo [env: FOLLOWPOINTS_DATABASE_URL] [default: sqlite://followpoints.db?mode=rwc]"
    )]
    database_url: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "How the outside reaches this service, but for demo [env: FOLLOWPOINTS_PUBLIC_URL] [default: http:// and --listen]"
    )]
    public_url: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; the schema is brought up to date first
    Serve {
        /// Refuse to start on an old schema instead of migrating it
        #[arg(long)]
        no_migrate: bool,
    },
    /// Try it out: a seeded site, curl lines with working tokens, and a receiver that verifies the webhooks
    Demo {
        /// Play the whole story unattended and check every step of it
        #[arg(long)]
        once: bool,
    },
    /// Bring the database schema up to date
    Migrate,
    /// Print the OpenAPI document
    Openapi,
    /// Prove the ledger: every balance is the sum of its entries, and if not, which entry is wrong
    Verify,
    /// For authors of receivers: check a webhook
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Sites, keys, members and tokens without HTTP
    #[command(subcommand)]
    Admin(admin::AdminCommand),
}

/// A thread less than there are cores serves requests, unless the operator says otherwise: batches, signatures and the embedded
/// database have threads of their own, and on few cores all of them get in each other's way.
fn runtime() -> Result<Runtime, String> {
    let threads = match env::var(THREADS) {
        Ok(text) => {
            text.parse::<NonZeroUsize>().map_err(|_| format!("{THREADS} must be a number from 1 on"))?.get()
        }
        Err(_) => threads::cores().saturating_sub(1).max(1),
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().map_err(|error| format!("cannot start: {error}"))
}

/// Writes `text` to standard output. Whoever reads only its beginning, as `head` does, has what it wanted.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> Result<(), String> {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::Openapi) {
        return print(&openapi::document_text());
    }
    let settings = Settings {
        listen: arguments.settings.listen,
        database_url: arguments.settings.database_url,
        public_url: arguments.settings.public_url,
    };
    runtime()?.block_on(async {
        let config = |settings| Config::from_env(settings).map_err(|error| error.to_string());
        // What only reads or writes plain rows needs no key.
        let database = |settings: &Settings| {
            config::check_names().map_err(|error| error.to_string())?;
            let url = settings.database_url().map_err(|error| error.to_string())?;
            serve::must_exist(&url).map(|()| url)
        };
        match arguments.command {
            Command::Serve { no_migrate } => serve::serve(config(settings)?, no_migrate).await,
            Command::Demo { once } => Box::pin(demo::run(settings, once)).await,
            Command::Migrate => serve::migrate(config(settings)?).await,
            Command::Openapi => Ok(()),
            Command::Verify => serve::verify(&database(&settings)?).await,
            Command::Webhooks(command) => webhooks::run(command).await,
            Command::Admin(command) => {
                let url = database(&settings)?;
                admin::run(&url, || config(settings), command).await
            }
        }
    })
}
