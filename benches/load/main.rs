//! Load on the release binary, side by side with what it must be compared to, in one run: `cargo bench --bench load -- create`.
//!
//! Everything is on loopback: the service is a process of its own on a new database, this program is the load and the
//! receiver of webhooks. Sides alternate and medians are compared, because the machine may be busy. Nothing is asserted.

mod baseline;
mod claims;
mod create;
mod database;
mod dead;
mod deliver;
mod endpoints;
mod event_rows;
mod fill;
mod generator;
mod ingest;
mod list;
mod pgbench;
mod process;
mod report;
mod scale;
mod service;
mod sink;
mod start;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::database::{Databases, Kind};
use self::report::Report;
use self::tokens::Token;

/// Measures followpoints.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    options: Options,
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// Follows by distinct members over 64 connections.
    Create,
    /// Lists over 64 connections.
    List,
    /// From the follow to the delivered webhook.
    Deliver,
    /// Start-up time and memory at rest.
    Start,
    /// The same requests with 10,000 and with 1,000,000 accounts.
    Scale,
    /// From the follow to the webhook of one subscription, alone and beside 10,000 whose receivers are dead.
    Dead,
    /// What a look for due deliveries costs with 100 and with 100,000 subscriptions.
    Claims,
    /// Webhooks of 100 messages, until they are acknowledged.
    Ingest,
    /// All of these.
    All,
}

#[derive(clap::Args)]
struct Options {
    /// Which database; both unless given.
    #[arg(long, global = true)]
    database: Option<Kind>,
    /// A PostgreSQL server to use instead of a throw-away one: `postgres://user@host:port/any`.
    #[arg(long, global = true)]
    postgres_url: Option<String>,
    /// Where databases are made; it should be a disk.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Seconds of load on each side and in each round.
    #[arg(long, global = true, default_value_t = 4)]
    seconds: u32,
    /// Rounds; medians are compared.
    #[arg(long, global = true, default_value_t = 3)]
    rounds: u32,
    /// Which token members show.
    #[arg(long, global = true, default_value = "hs256")]
    token: Token,
    /// Seconds to wait for a quiet host before each side.
    #[arg(long, global = true, default_value_t = 30)]
    patience: u64,
    /// Accounts of the larger store of `scale`.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    accounts: i64,
    /// Subscriptions of `dead` whose receivers are dead.
    #[arg(long, global = true, default_value_t = 10_000)]
    dead: i64,
    /// Subscriptions of the larger store of `claims`.
    #[arg(long, global = true, default_value_t = 100_000)]
    subscriptions: i64,
}

/// What every measurement needs.
struct Bench {
    databases: Databases,
    report: Report,
    seconds: u32,
    rounds: u32,
    token: Token,
    accounts: i64,
    dead: i64,
    subscriptions: i64,
    patience: Duration,
}

impl Bench {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    fn measure(&mut self, what: What, kind: Kind) {
        match what {
            What::Create => create::measure(self, kind),
            What::List => list::measure(self, kind),
            What::Deliver => deliver::measure(self, kind),
            What::Start => start::measure(self, kind),
            What::Scale => scale::measure(self, kind),
            What::Dead => dead::measure(self, kind),
            What::Claims => claims::measure(self, kind),
            What::Ingest => ingest::measure(self, kind),
            What::All => {
                let parts = [What::Start, What::Create, What::List, What::Deliver, What::Scale];
                for what in parts.into_iter().chain([What::Dead, What::Claims, What::Ingest]) {
                    self.measure(what, kind);
                }
            }
        }
    }
}

fn main() {
    let Arguments { what, options, bench: _ } = Arguments::parse();
    let parent = options.dir.unwrap_or_else(std::env::temp_dir);
    let mut bench = Bench {
        databases: Databases::new(parent, options.postgres_url),
        report: Report::default(),
        seconds: options.seconds.max(1),
        rounds: options.rounds.max(1),
        token: options.token,
        accounts: options.accounts,
        dead: options.dead.max(1),
        subscriptions: options.subscriptions.max(1),
        patience: Duration::from_secs(options.patience),
    };
    for kind in [Kind::Sqlite, Kind::Postgres] {
        if options.database.is_none_or(|wanted| wanted == kind) {
            bench.measure(what, kind);
        }
    }
    bench.report.print();
}
