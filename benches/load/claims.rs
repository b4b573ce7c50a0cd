//! What a look for due deliveries costs: the statements of the service on stores of different sizes, with their plans. As
//! many deliveries are due in each.

use std::time::Instant;

use followpoints::webhooks::{claims, endpoints as owned};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, QueryResult, Statement};
use serde_json::json;
use uuid::Uuid;

use super::Bench;
use super::create::World;
use super::database::{self, Database, Kind};
use super::endpoints::{self, Fleet, Owner};
use super::fill::{self, Thing, literal};
use super::report::{Limit, median};
use super::service;

/// Subscriptions of the small store.
const SMALL: i64 = 100;
/// Sites with one subscription each.
const SITES: i64 = 10_000;
/// Endpoints that are due in every store.
const DUE: i64 = 50;
/// Looks that are timed.
const LOOKS: i64 = 200;
/// How many deliveries a look brings at the most.
const ROOM: i64 = 9;
/// How much more a look may cost in a large store.
const COST_MAX: f64 = 1.5;

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== claims, {} ==", kind.name());
    let small = look(bench, kind, SMALL, 1);
    let many = SITES.min(bench.subscriptions);
    for (count, sites) in [(bench.subscriptions, 1), (many, many)] {
        let large = look(bench, kind, count, sites);
        for (what, large, small) in
            [("taking endpoints", &large.0, &small.0), ("reading deliveries", &large.1, &small.1)]
        {
            let what = format!("us of {what}, {count} on {sites} site(s) against {SMALL}, {}", kind.name());
            bench.report.compare(&what, large, small, Limit::AtMost(COST_MAX));
        }
    }
}

/// Microseconds of each look for endpoints and of each look for the deliveries of one.
fn look(bench: &mut Bench, kind: Kind, count: i64, sites: i64) -> (Vec<f64>, Vec<f64>) {
    let database = filled(bench, kind, count, sites);
    let backend = match kind {
        Kind::Sqlite => DatabaseBackend::Sqlite,
        Kind::Postgres => DatabaseBackend::Postgres,
    };
    let now = (fill::START_MS + 1).to_string();
    let every = count / DUE;
    let take = with(&owned::due_text(backend), &[now.clone(), literal(kind, Uuid::max()), ROOM.to_string()]);
    let read = |number: i64| {
        let id = literal(kind, Thing::Subscription.id(number % DUE * every));
        let of = [&id, &now, &id, &ROOM.to_string(), &id, &now].map(Clone::clone);
        with(&claims::text(backend, std::iter::once(false)), &of)
    };
    println!("{count} subscriptions on {sites} site(s)");
    for (what, text) in [("taking endpoints", &take), ("reading deliveries", &read(0))] {
        println!("  plan of {what}:");
        for row in database.query(&format!("{} {text}", explain(kind))) {
            println!("    {}", plan_line(kind, &row));
        }
    }
    let taken = timed(&database, (0..LOOKS).map(|_| take.clone()));
    let found = timed(&database, (0..LOOKS).map(read));
    println!("  {:.0} us to take endpoints, {:.0} us to read deliveries", median(&taken), median(&found));
    (taken, found)
}

/// A store of which [`DUE`] endpoints have a delivery that is due, and no service.
fn filled(bench: &mut Bench, kind: Kind, count: i64, sites: i64) -> Database {
    let world = World::new(bench, kind);
    let service = &world.service;
    let app = service.admin("POST", "/admin/v1/apps", None, &json!({"app": {"name": "CRM sync"}}));
    let app = service::id(&app["app"]["id"]);
    let body = json!({"appInstance": {"appId": app}});
    let made = service.admin("POST", "/admin/v1/app-instances", Some(world.site), &body);
    let instance = service::id(&made["appInstance"]["id"]);
    world.probe(bench.token);
    let World { database, service, .. } = world;
    drop(service);
    let fleet = Fleet {
        numbers: 0..count,
        sites,
        urls: ["http://127.0.0.1:9/hook"; 2],
        due_every: (count / DUE).max(1),
    };
    endpoints::add(&database, &Owner { app, instance }, &fleet);
    database.settle();
    database
}

/// `text` with `values` in the places of its parameters.
fn with(text: &str, values: &[String]) -> String {
    let mut text = text.to_owned();
    for (index, value) in values.iter().enumerate() {
        text = text.replace(&format!("${}", index + 1), value).replacen('?', value, 1);
    }
    text
}

const fn explain(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "EXPLAIN QUERY PLAN",
        Kind::Postgres => "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)",
    }
}

fn plan_line(kind: Kind, row: &QueryResult) -> String {
    let line = match kind {
        Kind::Sqlite => row.try_get("", "detail"),
        Kind::Postgres => row.try_get_by_index(0),
    };
    line.expect("a line of a plan")
}

/// Microseconds of each query on a warm connection.
fn timed(database: &Database, queries: impl Iterator<Item = String>) -> Vec<f64> {
    database::block_on(async {
        let connection = database.connect().await;
        let mut times = Vec::new();
        for query in queries {
            let statement = Statement::from_string(connection.get_database_backend(), query);
            let start = Instant::now();
            connection.query_all_raw(statement).await.expect("the query is right");
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        connection.close().await.expect("the connection closes");
        times
    })
}
