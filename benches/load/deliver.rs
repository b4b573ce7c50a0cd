//! From the follow to the delivered webhook, signed with RS256, on the receiver's own clock.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::Bench;
use super::create::World;
use super::database::Kind;
use super::fill;
use super::generator::{self, Plan, Requests, Run, percentile, to_f64};
use super::report::{Limit, median};
use super::service;
use super::sink::{self, Arrival, Sink};

/// Connections of the load.
const CONNECTIONS: usize = 64;
/// Subscribers in the second part.
const MANY: usize = 5;
/// Follows a second at which the delay is measured.
const STEADY_RATE: u32 = 400;
/// Members kept ready for a second of load.
const MEMBERS_PER_S: i64 = 20_000;
/// Accounts that are there before.
const ACCOUNTS_BEFORE: i64 = 20_000;
/// How long deliveries may come after the last follow.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a webhook's body, about.
const BODY_BYTES: usize = 2_000;
const EVENT: &str = "wix.loyalty.socialmedia.v1.followed_channel_created";

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== deliver, {} ==", kind.name());
    let count = MEMBERS_PER_S * i64::from(bench.seconds) * i64::from(bench.rounds) * 2 + 100_000;
    let mut course = Course::new(bench, kind, count);
    let app = course.add_app();
    course.add_subscriber(&app, 1);
    course.steady(bench);
    course.closed(bench, 1, 2_500.0);
    for subscriber in 2..=MANY {
        course.add_subscriber(&app, subscriber);
    }
    course.closed(bench, MANY, 6_000.0);
    let name = kind.name();
    let ceiling = median(&course.ceilings);
    bench.report.figure(&format!("the receiver's own ceiling/s, beside {name}"), ceiling, Limit::None);
    let what = format!("MiB resident at the most while delivering, {name}");
    bench.report.figure(&what, course.world.service.memory().peak_mib, Limit::AtMost(80.0));
}

/// A service with a receiver, and members who have not followed yet.
pub(crate) struct Course {
    pub(crate) world: World,
    sink: Sink,
    /// The next member who has not followed yet.
    next: i64,
    ceilings: Vec<f64>,
}

/// Of a round at a steady rate, in milliseconds.
pub(crate) struct Delays {
    /// From the acknowledgement to the webhook.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// To the acknowledgement.
    acknowledged: f64,
}

impl Course {
    /// With `count` members.
    pub(crate) fn new(bench: &mut Bench, kind: Kind, count: i64) -> Self {
        let sink = Sink::start();
        let world = World::new(bench, kind);
        fill::add_members(&world.database, world.site, &(0..ACCOUNTS_BEFORE + count));
        fill::add_accounts(&world.database, world.site, &(0..ACCOUNTS_BEFORE), &["X"]);
        world.database.settle();
        println!("filled");
        Self { world, sink, next: ACCOUNTS_BEFORE, ceilings: Vec::new() }
    }

    /// An app that is installed; gives its id.
    pub(crate) fn add_app(&self) -> Value {
        let service = &self.world.service;
        let made = service.admin("POST", "/admin/v1/apps", None, &json!({"app": {"name": "CRM sync"}}));
        let app = made["app"]["id"].clone();
        let instance = json!({"appInstance": {"appId": app}});
        service.admin("POST", "/admin/v1/app-instances", Some(self.world.site), &instance);
        app
    }

    pub(crate) fn add_subscriber(&self, app: &Value, number: usize) {
        let url = format!("http://{}/hook/{number}", self.sink.address);
        let subscription = json!({"webhookSubscription": {"appId": app, "eventTypes": [EVENT], "url": url}});
        let site = Some(self.world.site);
        self.world.service.admin("POST", "/admin/v1/webhook-subscriptions", site, &subscription);
    }

    fn requests(&mut self, bench: &Bench, count: i64) -> Rc<Requests> {
        let numbers: Range<i64> = self.next..self.next + count;
        self.world.follow_requests(bench.token, numbers, "X")
    }

    /// Follows at a steady rate: how long after the acknowledgement the webhook comes.
    pub(crate) fn round(&mut self, bench: &Bench, rate: u32) -> Delays {
        let requests = self.requests(bench, i64::from(rate * bench.seconds));
        let plan = Plan {
            rate: Some(rate),
            keep_bodies: true,
            ..self.world.plan(bench.duration() + Duration::from_secs(1))
        };
        let mut run = self.world.load(&format!("{rate} follows/s"), &requests, plan);
        let arrivals = self.await_deliveries(&run, 1);
        let mut delays = delays_us(&run, &arrivals);
        self.next += i64::try_from(run.used).unwrap_or(0);
        Delays {
            p50: percentile(&mut delays, 0.5) / 1000.0,
            p99: percentile(&mut delays, 0.99) / 1000.0,
            acknowledged: run.percentile_ms(0.5),
        }
    }

    fn steady(&mut self, bench: &mut Bench) {
        let (mut p50, mut p99, mut acknowledged) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let delays = self.round(bench, STEADY_RATE);
            p50.push(delays.p50);
            p99.push(delays.p99);
            acknowledged.push(delays.acknowledged);
        }
        let name = self.world.database.kind.name();
        let what = |what: &str| format!("ms from acknowledgement to webhook, 400/s, {what}, {name}");
        bench.report.figure(&what("p50"), median(&p50), Limit::AtMost(1.0));
        bench.report.figure(&what("p99"), median(&p99), Limit::AtMost(5.0));
        let what = format!("ms to the acknowledgement, 400/s, p50, {name}");
        bench.report.figure(&what, median(&acknowledged), Limit::None);
    }

    /// Follows as fast as they are answered: deliveries a second until the last has come.
    fn closed(&mut self, bench: &mut Bench, subscribers: usize, limit: f64) {
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let ceiling = self.ceiling(Duration::from_secs(1));
            self.ceilings.push(ceiling);
            let requests = self.requests(bench, MEMBERS_PER_S * i64::from(bench.seconds));
            let plan =
                Plan { connections: CONNECTIONS, keep_bodies: true, ..self.world.plan(bench.duration()) };
            let watch = self.world.service.watch(&self.world.database);
            let before = watch.sample();
            let run = self.world.load(&format!("{subscribers} subscriber(s)"), &requests, plan);
            self.next += i64::try_from(run.used).unwrap_or(0);
            let arrivals = self.await_deliveries(&run, subscribers);
            let (Some(first), Some(last)) = (run.started, arrivals.iter().map(|arrival| arrival.at).max())
            else {
                continue;
            };
            let rate = to_f64(distinct(&arrivals)) / (last - first).as_secs_f64();
            println!(
                "  {rate:.0} deliveries/s, the last {:.2} s after the last follow; {} per delivery",
                (last - first).as_secs_f64() - run.elapsed.as_secs_f64(),
                watch.since(&before).per_operation(arrivals.len())
            );
            rates.push(rate);
            ratios.push(ceiling);
        }
        let what = format!("deliveries/s, {subscribers} subscriber(s), {}", self.world.database.kind.name());
        bench.report.figure(&what, median(&rates), Limit::AtLeast(limit));
        bench.report.compare("  against the receiver's own ceiling", &rates, &ratios, Limit::None);
    }

    /// Waits until every follow has come to every subscriber.
    fn await_deliveries(&self, run: &Run, subscribers: usize) -> Vec<Arrival> {
        let expected = run.good() * subscribers;
        let deadline = Instant::now() + PATIENCE;
        while self.sink.count() < expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        // One that comes twice comes soon after.
        std::thread::sleep(Duration::from_millis(50));
        let arrivals = self.sink.take();
        let distinct = distinct(&arrivals);
        if distinct != expected || arrivals.len() != expected {
            println!("  expected {expected}, came {distinct}, with repeats {}", arrivals.len());
        }
        arrivals
    }

    /// Requests a second that the receiver answers when nothing else is done.
    fn ceiling(&self, duration: Duration) -> f64 {
        let mut requests = Requests::default();
        requests.push("POST", "/hook/0", &[], &"x".repeat(BODY_BYTES));
        let plan = Plan {
            address: self.sink.address,
            connections: CONNECTIONS,
            duration,
            repeat: true,
            rate: None,
            keep_bodies: false,
        };
        let rate = generator::run(&Rc::new(requests), plan).expect("the receiver answers").rate();
        drop(self.sink.take());
        rate
    }
}

fn distinct(arrivals: &[Arrival]) -> usize {
    let ids = arrivals.iter().filter_map(|arrival| Some((arrival.subscriber, sink::ids(&arrival.body)?.0)));
    ids.collect::<HashSet<_>>().len()
}

/// Microseconds from the acknowledgement of each follow to its webhook; one that came earlier counts as zero.
fn delays_us(run: &Run, arrivals: &[Arrival]) -> Vec<u32> {
    let acknowledged: HashMap<Uuid, Instant> = run
        .bodies
        .iter()
        .filter_map(|(at, body)| {
            let body: Value = serde_json::from_slice(body).ok()?;
            Some((service::id(&body["followedChannel"]["id"]), *at))
        })
        .collect();
    let delays = arrivals.iter().filter_map(|arrival| {
        let since = acknowledged.get(&sink::ids(&arrival.body)?.1)?;
        let delay = arrival.at.saturating_duration_since(*since);
        Some(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX))
    });
    delays.collect()
}
