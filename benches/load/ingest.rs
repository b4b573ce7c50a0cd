//! What a platform tells, from the signed call to everything that comes of it: comments of members by claimed handles, in batches of the
//! largest size that Instagram sends. The other side stores the same things and does nothing with them.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use entity::kinds::Platform;
use followpoints::app::Seams;
use followpoints::db::Db;
use followpoints::inbox::{self, Arrivals, Call, NewItem};
use serde_json::json;

use super::Bench;
use super::create::World;
use super::database::{Database, Kind, block_on};
use super::fill::{self, START_MS, Thing, literal, series};
use super::generator::{self, Plan, Requests, to_f64};
use super::report::{Limit, median};
use super::service::META_SECRET;

/// Updates in Instagram's largest call.
const BATCH_MAX: usize = 1_000;
/// Things of a second of work.
const PER_S: usize = 10_000;
/// Members who comment.
const PEOPLE: i64 = 10_000;
/// Calls of the smaller size whose acknowledgement is timed, and things in each.
const SMALL: (usize, usize) = (200, 100);
/// How much faster than the largest call the queue must drain, each second.
const DRAIN_MIN: f64 = 5.0;
/// How long an acknowledgement may take, in milliseconds.
const ACK_MAX_MS: f64 = 50.0;
/// The brand's account.
const BRAND: &str = "17841400000000001";
/// How long the work may take in all.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== ingest, {} ==", kind.name());
    let world = World::new(bench, kind);
    prepare(&world);
    let mut next = 0;
    warm_up(&world, &mut next);
    let calls = PER_S * usize::try_from(bench.seconds).unwrap_or(1) / BATCH_MAX;
    let (mut done, mut drained, mut stored, mut acks) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.rounds {
        let (small_calls, small) = SMALL;
        let mut run = send(&world, &requests(&mut next, small_calls, small), 1);
        acks.push(run.percentile_ms(0.99));
        wait_until_drained(&world.database);

        let requests = requests(&mut next, calls, BATCH_MAX);
        world.wait_until_quiet();
        let watch = world.service.watch(&world.database);
        let before = watch.sample();
        let started = Instant::now();
        let mut run = send(&world, &requests, 4);
        let sent = Instant::now();
        let waiting = waiting(&world.database);
        wait_until_drained(&world.database);
        let things = calls * BATCH_MAX;
        let rate = to_f64(things) / started.elapsed().as_secs_f64();
        let drain = to_f64(waiting) / sent.elapsed().as_secs_f64().max(1e-9);
        println!(
            "{things} comments: taken in at {:.0}/s (p99 {:.1} ms a call), done at {rate:.0}/s; {waiting} waited then, \
             drained at {drain:.0}/s; {}",
            run.rate() * to_f64(BATCH_MAX),
            run.percentile_ms(0.99),
            watch.since(&before).per_operation(things)
        );
        done.push(rate);
        drained.push(if waiting > BATCH_MAX { drain } else { rate });
        let other = bench.databases.create(kind);
        stored.push(store_only(&other, calls));
    }
    let name = kind.name();
    let largest = to_f64(BATCH_MAX);
    let report = &mut bench.report;
    // The limit is one of the embedded database.
    let ack_limit = if kind == Kind::Sqlite { Limit::AtMost(ACK_MAX_MS) } else { Limit::None };
    report.figure(&format!("ms to acknowledge 100 things, p99, {name}"), median(&acks), ack_limit);
    report.compare(
        &format!("things taken in and done a second, against storing only, {name}"),
        &done,
        &stored,
        Limit::None,
    );
    let batches: Vec<f64> = drained.iter().map(|rate| rate / largest).collect();
    report.figure(
        &format!("largest calls drained a second, {name}"),
        median(&batches),
        Limit::AtLeast(DRAIN_MIN),
    );
}

/// A connected brand, members with handles, and a rule that rewards a comment a day.
fn prepare(world: &World) {
    let (database, site) = (&world.database, world.site);
    let kind = database.kind;
    fill::add_members(database, site, &(1..PEOPLE));
    let (site_id, member) = (literal(kind, site), Thing::Member.sql(kind, "n"));
    let series = series(kind, &(1..PEOPLE));
    let connection = literal(kind, Thing::Site.id(1));
    database.execute(&[
        format!(
            "INSERT INTO member_handle (site_id, member_id, platform, handle, claimed_at) \
             SELECT {site_id}, {member}, 'INSTAGRAM', 'customer.' || n, {START_MS} FROM {series}"
        ),
        format!(
            "INSERT INTO connection (id, site_id, platform, login, external_id, username, missing_permissions, \
             poll_due_at, has_polled, check_due_at, created_at, updated_at) VALUES ({connection}, {site_id}, 'INSTAGRAM', \
             'FACEBOOK', '{BRAND}', 'nordbrew', '[]', {far}, true, {far}, {START_MS}, {START_MS})",
            far = i64::MAX,
        ),
    ]);
    let rule = json!({"activityRule": {
        "type": "COMMENTED_YOU_SOCIAL", "points": 5, "limits": {"perMember": {"count": 1, "every": "P1D"}},
    }});
    world.service.admin("POST", "/admin/v1/activity-rules", Some(site), &rule);
    database.settle();
}

/// Things come before they count, so that PostgreSQL plans for tables that are in use.
fn warm_up(world: &World, next: &mut usize) {
    send(world, &requests(next, 10, BATCH_MAX), 1);
    wait_until_drained(&world.database);
    world.database.settle();
}

fn change(number: usize) -> serde_json::Value {
    let person = number % usize::try_from(PEOPLE - 1).unwrap_or(1) + 1;
    json!({"field": "comments", "value": {
        "from": {"id": format!("55120{person:08}"), "username": format!("customer.{person}")},
        "media": {"id": "17990055566677788", "media_product_type": "FEED"},
        "id": format!("1799{number:012}"),
        "text": "Best flat white in town",
    }})
}

/// Signed calls with comments that were not made before.
fn requests(next: &mut usize, calls: usize, size: usize) -> Rc<Requests> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, META_SECRET.as_bytes());
    let mut requests = Requests::default();
    for _ in 0..calls {
        let changes: Vec<_> = (*next..*next + size).map(change).collect();
        *next += size;
        let entry = json!([{"id": BRAND, "time": START_MS / 1000, "changes": changes}]);
        let body = json!({"object": "instagram", "entry": entry}).to_string();
        let mut header = "x-hub-signature-256: sha256=".to_owned();
        for byte in hmac::sign(&key, body.as_bytes()).as_ref() {
            let _ = write!(header, "{byte:02x}");
        }
        requests.push("POST", "/ingest/instagram/facebook-login", &[&header], &body);
    }
    Rc::new(requests)
}

fn send(world: &World, requests: &Rc<Requests>, connections: usize) -> generator::Run {
    let plan = Plan { connections, duration: PATIENCE, ..world.plan(PATIENCE) };
    let run = generator::run(requests, plan).expect("the load runs");
    if let Some(odd) = &run.odd {
        println!("  NOT 200: {odd}");
    }
    run
}

fn waiting(database: &Database) -> usize {
    let rows = database.query("SELECT count(*) AS waiting FROM item WHERE status <> 'DONE'");
    let count: i64 = rows.first().and_then(|row| row.try_get("", "waiting").ok()).unwrap_or(0);
    usize::try_from(count).unwrap_or(0)
}

fn wait_until_drained(database: &Database) {
    let started = Instant::now();
    let is_any = || !database.query("SELECT 1 AS any FROM item WHERE status <> 'DONE' LIMIT 1").is_empty();
    while is_any() && started.elapsed() < PATIENCE {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Things stored a second by the same function in process, one call after the other, and nothing else done with them.
fn store_only(database: &Database, calls: usize) -> f64 {
    block_on(async {
        Db::prepare(&database.url).await.expect("the schema can be made");
        let seams = Seams::default();
        let db = Db::open_beside(&database.url, seams.clock, seams.ids).await.expect("the database opens");
        let started = Instant::now();
        for call in 0..calls {
            let items: Vec<NewItem> = (call * BATCH_MAX..(call + 1) * BATCH_MAX).map(item).collect();
            let body = json!(items.iter().map(|item| &item.payload).collect::<Vec<_>>()).to_string();
            let call = Call { source: "benchmark", body: body.into(), items };
            inbox::store(&db, &Arrivals::of(&db, vec![call])).await.expect("it is stored");
        }
        let rate = to_f64(calls * BATCH_MAX) / started.elapsed().as_secs_f64();
        db.close().await.expect("the database closes");
        rate
    })
}

fn item(number: usize) -> NewItem {
    NewItem {
        platform: Platform::Instagram,
        account: BRAND.to_owned(),
        key: format!("comment:1799{number:012}"),
        kind: "comment".to_owned(),
        person: Some(format!("55120{number:08}")),
        handle: None,
        site: None,
        occurred_at: None,
        payload: change(number).to_string(),
    }
}
