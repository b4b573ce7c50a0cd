//! One healthy receiver beside many that are dead: half refuse connections, half accept them and never answer. All of
//! these fail and are due again and again.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Bench;
use super::database::{self, Kind};
use super::deliver::Course;
use super::endpoints::{self, Fleet, Owner};
use super::report::{Limit, median};
use super::service;

/// Follows a second.
const RATE: u32 = 100;
/// Dead subscriptions on one site.
const PER_SITE: i64 = 10;
/// How much of alone the delay may be.
const RATIO_MAX: f64 = 2.0;
/// How long the dead may take until each has failed once.
const PATIENCE: Duration = Duration::from_mins(2);
/// Connections that the silent receiver keeps: more than the service opens at once.
const KEPT: usize = 600;
const SETTLED_EVERY: Duration = Duration::from_millis(500);

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== dead, {} ==", kind.name());
    let members = i64::from(RATE * bench.seconds * bench.rounds) * 2 + 1_000;
    let mut course = Course::new(bench, kind, members);
    let app = course.add_app();
    course.add_subscriber(&app, 1);
    let alone = rounds(bench, &mut course);
    add_dead(bench, &course, service::id(&app));
    let beside = rounds(bench, &mut course);

    let name = kind.name();
    let what = |what: &str| format!("ms from acknowledgement to webhook, {RATE}/s, {what}, {name}");
    let report = &mut bench.report;
    report.figure(&what("p50 alone"), median(&alone.0), Limit::None);
    report.figure(&what("p99 alone"), median(&alone.1), Limit::None);
    let what = |what: &str| format!("  {what} beside {} dead, other is alone, {name}", bench.dead);
    report.compare(&what("p50"), &beside.0, &alone.0, Limit::None);
    report.compare(&what("p99"), &beside.1, &alone.1, Limit::AtMost(RATIO_MAX));
}

/// The 50th and the 99th percentile of each round.
fn rounds(bench: &Bench, course: &mut Course) -> (Vec<f64>, Vec<f64>) {
    (0..bench.rounds).map(|_| course.round(bench, RATE)).map(|delays| (delays.p50, delays.p99)).unzip()
}

/// Adds the dead and waits until each has failed.
fn add_dead(bench: &Bench, course: &Course, app: uuid::Uuid) {
    let world = &course.world;
    let installed = world.service.admin("GET", "/admin/v1/app-instances", Some(world.site), &json!(null));
    let instance = service::id(&installed["appInstances"][0]["id"]);
    let closed = format!("http://127.0.0.1:{}/hook", database::free_port());
    let silent = format!("http://{}/hook", listen_silently());
    let fleet = Fleet {
        numbers: 0..bench.dead,
        sites: (bench.dead / PER_SITE).max(1),
        urls: [&closed, &silent],
        due_every: 1,
    };
    endpoints::add(&world.database, &Owner { app, instance }, &fleet);
    let deadline = Instant::now() + PATIENCE;
    let mut failing = 0;
    while failing < bench.dead && Instant::now() < deadline {
        std::thread::sleep(SETTLED_EVERY);
        let query = "SELECT count(*) AS failing FROM endpoint WHERE failing_since IS NOT NULL";
        failing = world.database.query(query)[0].try_get("", "failing").expect("a number");
    }
    println!("{failing} of {} dead receivers have failed", bench.dead);
}

/// A listener that accepts and never answers, on a thread of its own until the process ends.
fn listen_silently() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut kept = VecDeque::with_capacity(KEPT + 1);
        for stream in listener.incoming().flatten() {
            kept.push_back(stream);
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
    });
    address
}
