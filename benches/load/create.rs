//! Follows by distinct members, each for the first time: member, account, follow, points and events in one transaction.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::Bench;
use super::database::{Database, Kind};
use super::event_rows::{self, EventRow};
use super::fill;
use super::generator::{self, Plan, Requests, Run};
use super::report::Limit;
use super::service::{self, Service};
use super::tokens::{Mint, Token};
use super::{baseline, pgbench};

/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 64;
/// Accounts that are there before: PostgreSQL plans for the tables that it sees, and empty ones mislead it.
const ACCOUNTS_BEFORE: Range<i64> = 1..20_000;
/// Members kept ready for a second of load; when they run out the round ends early.
const MEMBERS_PER_S: i64 = 30_000;
/// Transactions a second that one client of pgbench may reach.
const PGBENCH_PER_S: i64 = 1_500;

pub(crate) const PATH: &str = "/loyalty-social-media/v1/followed-channels";

/// A service on a database with one site.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) service: Service,
    pub(crate) site: Uuid,
    patience: Duration,
}

impl World {
    pub(crate) fn new(bench: &mut Bench, kind: Kind) -> Self {
        let database = bench.databases.create(kind);
        let service = Service::start(&database);
        let site = service::create_site(&service);
        Self { database, service, site, patience: bench.patience }
    }

    /// Waits a while for the host to be quiet, so that no side is measured beside something else.
    pub(crate) fn wait_until_quiet(&self) {
        self.service.watch(&self.database).wait_until_quiet(self.patience);
    }

    /// Requests of the members with `numbers` to follow `channel`.
    pub(crate) fn follow_requests(
        &self,
        token: Token,
        numbers: impl Iterator<Item = i64>,
        channel: &str,
    ) -> Rc<Requests> {
        let mint = Mint::new(token, &self.database, self.site);
        let body = format!(r#"{{"followedChannel":{{"channel":"{channel}"}}}}"#);
        let mut requests = Requests::default();
        for number in numbers {
            requests.push("POST", PATH, &[&mint.header(number)], &body);
        }
        Rc::new(requests)
    }

    /// Sends `requests` as fast as they are answered, and says what each cost.
    pub(crate) fn load(&self, what: &str, requests: &Rc<Requests>, plan: Plan) -> Run {
        self.wait_until_quiet();
        let watch = self.service.watch(&self.database);
        let before = watch.sample();
        let mut run = generator::run(requests, plan).expect("the load runs");
        let usage = watch.since(&before);
        let (p50, p99) = (run.percentile_ms(0.5), run.percentile_ms(0.99));
        println!(
            "{what}: {:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {:?}; {}",
            run.rate(),
            run.statuses,
            usage.per_operation(run.latencies_us.len())
        );
        if let Some(odd) = &run.odd {
            println!("  NOT 200: {odd}");
        }
        run
    }

    /// Runs pgbench on the same database.
    pub(crate) fn pgbench(&self, script: &str, duration: Duration, numbers: (i64, i64)) -> f64 {
        self.wait_until_quiet();
        let watch = self.service.watch(&self.database);
        let before = watch.sample();
        let rate = pgbench::run(&self.database, script, duration, numbers);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = (rate * duration.as_secs_f64()) as usize;
        println!("pgbench: {rate:.0}/s; {}", watch.since(&before).per_operation(count));
        rate
    }

    pub(crate) fn plan(&self, duration: Duration) -> Plan {
        Plan {
            address: self.service.address,
            connections: CONNECTIONS,
            duration,
            repeat: false,
            rate: None,
            keep_bodies: false,
        }
    }

    /// The first follow of the member with number 0, and the events that it left.
    pub(crate) fn probe(&self, token: Token) -> Vec<EventRow> {
        fill::add_members(&self.database, self.site, &(0..1));
        let run =
            self.load("probe", &self.follow_requests(token, 0..1, "X"), self.plan(Duration::from_secs(1)));
        assert!(run.good() == 1, "the first follow succeeds");
        event_rows::read(&self.database)
    }
}

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== create, {} ==", kind.name());
    let world = World::new(bench, kind);
    let events = world.probe(bench.token);
    let (duration, rounds) = (bench.duration(), i64::from(bench.rounds));
    let per_round = MEMBERS_PER_S * i64::from(bench.seconds);
    let ours = ACCOUNTS_BEFORE.end..ACCOUNTS_BEFORE.end + per_round * rounds;
    let span = PGBENCH_PER_S * i64::from(bench.seconds);
    let others = ours.end..ours.end + span * pgbench::CLIENTS * (rounds + 1);
    let last = if kind == Kind::Postgres { others.end } else { ours.end };
    println!("filling {last} members");
    fill::add_members(&world.database, world.site, &(ACCOUNTS_BEFORE.start..last));
    fill::add_accounts(&world.database, world.site, &ACCOUNTS_BEFORE, &["X"]);
    let mut sides = match kind {
        Kind::Sqlite => Sides::sqlite(bench, world.site, &ours),
        Kind::Postgres => Sides::default(),
    };
    world.database.settle();
    println!("filled");
    let mut rates = Vec::new();
    let mut next = ours.start;
    let mut first = others.start;
    for _ in 0..bench.rounds {
        let requests = world.follow_requests(bench.token, next..next + per_round, "X");
        let run = world.load("followpoints", &requests, world.plan(duration));
        next += i64::try_from(run.used).unwrap_or(0);
        rates.push(run.rate());
        match kind {
            Kind::Sqlite => sides.run_sqlite(&world, &events, duration),
            Kind::Postgres => {
                let script = pgbench::create_script(world.site, &events, true);
                sides.others.push(world.pgbench(&script, duration, (first, span)));
                first += span * pgbench::CLIENTS;
            }
        }
    }
    report(bench, &world, &rates, &sides);
    if kind == Kind::Postgres {
        let script = pgbench::create_script(world.site, &events, false);
        let unlocked = world.pgbench(&script, duration, (first, span));
        let what = "create, PostgreSQL, against pgbench that does not lock the site";
        bench.report.compare(what, &rates, &[unlocked], Limit::None);
    }
}

fn report(bench: &mut Bench, world: &World, rates: &[f64], sides: &Sides) {
    match world.database.kind {
        Kind::Sqlite => {
            let what = "create/s, SQLite, against one transaction per request";
            bench.report.compare(what, rates, &sides.others, Limit::AtLeast(4.0));
            let what = "create/s, SQLite, against a loop of 64 a transaction";
            bench.report.compare(what, rates, &sides.loops, Limit::AtLeast(0.5));
        }
        Kind::Postgres => {
            let what = "create/s, PostgreSQL, against pgbench, 16 clients";
            bench.report.compare(what, rates, &sides.others, Limit::AtLeast(2.5));
        }
    }
    let what = format!("MiB resident at the most while creating, {}", world.database.kind.name());
    bench.report.figure(&what, world.service.memory().peak_mib, Limit::AtMost(80.0));
}

/// What ours is compared with.
#[derive(Default)]
struct Sides {
    naive: Option<(Database, Range<i64>)>,
    batched: Option<(Database, Range<i64>)>,
    others: Vec<f64>,
    loops: Vec<f64>,
}

impl Sides {
    fn sqlite(bench: &mut Bench, site: Uuid, members: &Range<i64>) -> Self {
        let mut prepared = || {
            let database = bench.databases.create(Kind::Sqlite);
            baseline::prepare(&database, site, members);
            Some((database, members.clone()))
        };
        Self { naive: prepared(), batched: prepared(), ..Self::default() }
    }

    fn run_sqlite(&mut self, world: &World, events: &[EventRow], duration: Duration) {
        let site = world.site;
        world.wait_until_quiet();
        let (database, members) = self.naive.as_mut().expect("prepared for SQLite");
        let (rate, used) = baseline::naive(database, site, events, members.clone(), duration);
        members.start += used;
        println!("one transaction per request, in process: {rate:.0}/s");
        self.others.push(rate);
        world.wait_until_quiet();
        let (database, members) = self.batched.as_mut().expect("prepared for SQLite");
        let (rate, used) = baseline::batched_loop(database, site, events, members.clone(), duration);
        members.start += used;
        println!("loop, 64 a transaction, in process: {rate:.0}/s");
        self.loops.push(rate);
    }
}
