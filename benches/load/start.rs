//! From the start of the process to readiness, memory at rest, and what the load itself can do.

use std::rc::Rc;
use std::time::Duration;

use super::Bench;
use super::create::World;
use super::database::Kind;
use super::generator::{Plan, Requests};
use super::report::{Limit, median};
use super::service::Service;

/// Starts that are measured.
const STARTS: usize = 5;
/// How long the service rests before its memory is read.
const REST: Duration = Duration::from_secs(2);

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== start, {} ==", kind.name());
    let (mut fresh, mut again, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let database = bench.databases.create(kind);
        fresh.push(milliseconds(Service::start(&database).ready_after));
        let service = Service::start(&database);
        again.push(milliseconds(service.ready_after));
        std::thread::sleep(REST);
        resident.push(service.memory().now_mib);
    }
    let name = kind.name();
    let report = &mut bench.report;
    report.figure(&format!("ms to ready, new database, {name}"), median(&fresh), Limit::AtMost(300.0));
    report.figure(&format!("ms to ready, {name}"), median(&again), Limit::AtMost(300.0));
    report.figure(&format!("MiB resident at rest, {name}"), median(&resident), Limit::AtMost(40.0));
    let world = World::new(bench, kind);
    let mut requests = Requests::default();
    requests.push("GET", "/healthz", &[], "");
    let plan = Plan { repeat: true, ..world.plan(bench.duration()) };
    let ceiling = world.load("generator's ceiling, /healthz", &Rc::new(requests), plan).rate();
    bench.report.figure(&format!("/healthz a second, beside {name}"), ceiling, Limit::None);
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
