//! Two nodes on one PostgreSQL: one award, one event, one delivery, whoever is asked; and a node that slept through its
//! lease changes nothing.

use std::collections::HashMap;

use entity::delivery;
use entity::id::Timestamp;
use entity::kinds::DeliveryStatus;
use followpoints::app::App;
use followpoints::db::Db;
use followpoints::points::verify::{self, Report};
use followpoints::webhooks::delivery::{Outcome, Try, Verdict, claim_due, write_outcomes};
use followpoints::webhooks::{Job, log};
use futures_util::future::join_all;
use sea_orm::{
    ColumnTrait as _, ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _,
};
use serde_json::{Value, json};

use crate::support::client::{Answer, Call, Client};
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Member, Site, text};
use crate::support::{ADMIN_KEY, Backend, ENOUGH, Options, TestApp, TestDatabase};

const PATH: &str = "/loyalty-social-media/v1/followed-channels";
const DELIVERIES: &str = "/admin/v1/webhook-deliveries";

/// A second node beside a first one, on the same database, with the same clock.
struct Second {
    app: App,
    client: Client,
}

/// Two nodes, or `None` where there is no PostgreSQL.
async fn two_nodes() -> Option<(TestApp, Second)> {
    let database = TestDatabase::new(Backend::Postgres).await?;
    let first = TestApp::start(database, Options::default()).await;
    let app = App::start(&first.config, first.seams.clone()).await.unwrap();
    let client = Client::new(&app);
    Some((first, Second { app, client }))
}

impl Second {
    /// Sends everything that is due, on both nodes at once.
    async fn drain_with(&self, first: &TestApp) {
        let own = tokio::time::timeout(ENOUGH, self.app.dispatcher.drain());
        let ((), drained) = tokio::join!(first.drain(), own);
        drained.expect("deliveries come to an end").unwrap();
    }

    async fn stop_with(&self, first: &TestApp) {
        tokio::join!(first.app.stop(), self.app.stop());
    }
}

fn wish(channel: &str) -> Value {
    json!({"followedChannel": {"channel": channel}})
}

async fn members(app: &TestApp, site: &Site, count: usize) -> Vec<Member> {
    let mut members = Vec::with_capacity(count);
    for number in 0..count {
        members.push(app.member(site, &format!("u-{number}")).await);
    }
    members
}

async fn deliveries(app: &TestApp, site: &Site, query: &str) -> Vec<Value> {
    app.admin_list(site, &format!("{DELIVERIES}?limit=100&{query}"), "webhookDeliveries").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_two_hundred_follows_of_one_channel_through_two_nodes_make_one_award() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let member = first.member(&site, "u-1").await;

    let calls = (0..200).map(|number| {
        let call = if number % 2 == 0 { first.call("POST", PATH) } else { second.client.call("POST", PATH) };
        call.auth(&member.token).json(&wish("X")).send()
    });
    let answers = join_all(calls).await;

    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status.as_u16() == 200);
    assert_eq!((won.len(), lost.len()), (1, 199));
    let row = won[0].json()["followedChannel"].clone();
    for answer in lost {
        assert_eq!(answer.error(), (409, "ALREADY_EXISTS".to_owned()), "{}", answer.text);
        assert_eq!(answer.json()["details"]["applicationError"]["data"], json!({"followedChannel": row}));
    }
    let listed = second.client.call("GET", PATH).auth(&member.token).ok().await;
    assert_eq!(listed, json!({"followedChannels": [row]}));
    assert_eq!(first.account(&member).await["points"]["balance"], 50);
    let events = first.admin_list(&site, "/admin/v1/events", "events").await;
    let types: Vec<_> = events.iter().map(|event| text(&event["eventType"])).collect();
    assert_eq!(types, [ALL_EVENTS[2], ALL_EVENTS[3], ALL_EVENTS[0], ALL_EVENTS[1]]);
    let ledger = verify::verify(first.app.db.read(), |_| {}).await.unwrap();
    assert_eq!(ledger, Report { accounts: 1, entries: 1, faults: Vec::new() });
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_follows_of_the_same_members_through_two_nodes_all_count_once() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
    let members = members(&first, &site, 40).await;

    let calls = members.iter().flat_map(|member| {
        [(first.call("POST", PATH), "X"), (second.client.call("POST", PATH), "INSTAGRAM")]
            .map(|(call, channel)| call.auth(&member.token).json(&wish(channel)).send())
    });
    let answers = join_all(calls).await;
    second.drain_with(&first).await;

    assert!(answers.iter().all(|answer| answer.status.as_u16() == 200), "{answers:?}");
    for member in &members {
        let account = first.account(member).await;
        assert_eq!((&account["points"]["balance"], &account["revision"]), (&json!(80), &json!("3")));
    }
    let rows = deliveries(&first, &site, "status=DELIVERED").await;
    assert_eq!(rows.len(), 80);
    assert!(rows.iter().all(|row| row["attemptCount"] == 1));
    let mut sent = receiver.bodies();
    sent.sort();
    sent.dedup();
    assert_eq!((sent.len(), receiver.count()), (80, 80), "nothing failed, so nothing is sent twice");
    let ledger = verify::verify(first.app.db.read(), |_| {}).await.unwrap();
    assert_eq!(ledger, Report { accounts: 40, entries: 80, faults: Vec::new() });
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resends_that_are_due_on_two_nodes_are_each_sent_once() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    receiver.answer((0..60).map(|_| Reply::status(500)));
    first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
    for member in members(&first, &site, 60).await {
        first.follow(&member, "X").await;
    }
    first.drain().await;
    assert_eq!(deliveries(&first, &site, "status=RETRYING").await.len(), 60);

    first.clock.advance_ms(66_000);
    second.drain_with(&first).await;

    let rows = deliveries(&first, &site, "status=DELIVERED").await;
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| row["attemptCount"] == 2));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for body in receiver.bodies() {
        *counts.entry(body).or_default() += 1;
    }
    assert_eq!((counts.len(), counts.values().all(|count| *count == 2)), (60, true), "{:?}", counts.values());
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_change_of_subscriptions_on_one_node_counts_for_the_next_follow_on_the_other() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    let members = members(&first, &site, 4).await;
    let follow =
        |number: usize| second.client.call("POST", PATH).auth(&members[number].token).json(&wish("X")).ok();
    follow(0).await;
    let subscription = first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
    follow(1).await;
    second.drain_with(&first).await;
    let path = format!("/admin/v1/webhook-subscriptions/{subscription}");
    let body = json!({"webhookSubscription": {"status": "DISABLED"}});
    first.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    follow(2).await;
    let body = json!({"webhookSubscription": {"status": "ENABLED"}});
    first.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    follow(3).await;
    second.drain_with(&first).await;

    let told: Vec<Value> =
        deliveries(&first, &site, "").await.into_iter().map(|row| row["eventId"].clone()).collect();
    let events = first
        .admin_list(
            &site,
            "/admin/v1/events?type=wix.loyalty.socialmedia.v1.followed_channel_created",
            "events",
        )
        .await;
    assert_eq!(told, [events[0]["id"].clone(), events[2]["id"].clone()]);
    assert_eq!(receiver.count(), 2);
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_node_that_stops_gives_its_queue_to_the_other_at_once() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.answer([Reply::status(200).behind(&gate)]);
    let body = json!({"webhookSubscription": {
        "appId": installed.id, "eventTypes": &ALL_EVENTS[..1], "url": receiver.url,
        "maxInFlight": 1, "timeoutMs": 15_000,
    }});
    first.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body).ok().await;
    for member in members(&first, &site, 5).await {
        first.follow(&member, "X").await;
    }
    receiver.wait_for(1).await;

    let stopping = tokio::spawn({
        let dispatcher = first.app.dispatcher.clone();
        async move { dispatcher.stop().await }
    });
    receiver.wait_for(5).await;
    assert!(!stopping.is_finished(), "it waits for the try under way");
    gate.open();
    stopping.await.unwrap();
    second.drain_with(&first).await;

    let rows = deliveries(&first, &site, "status=DELIVERED").await;
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row["attemptCount"] == 1));
    assert_eq!(receiver.count(), 5);
    second.stop_with(&first).await;
}

/// Two handles on one database with a delivery whose resend is due, and nobody who works on it by himself.
struct Lease {
    first: TestApp,
    second: Db,
    site: Site,
}

impl Lease {
    async fn new() -> Option<Self> {
        let database = TestDatabase::new(Backend::Postgres).await?;
        let first = TestApp::start(database, Options::default()).await;
        let site = first.site().await;
        let installed = first.installed_app(&site).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let member = first.member(&site, "u-1").await;
        first.follow(&member, "X").await;
        first.drain().await;
        first.app.dispatcher.stop().await;
        first.clock.advance_ms(66_000);
        let seams = first.seams.clone();
        let second = Db::open(first.database_url(), seams.clock, seams.ids).await.unwrap();
        Some(Self { first, second, site })
    }

    async fn claim(&self, db: &Db) -> Vec<Job> {
        claim_due(db, &[], &HashMap::new()).await.unwrap()
    }

    /// The row and its attempts as they are stored.
    async fn stored(&self) -> (delivery::Model, Vec<(i32, Option<i32>)>) {
        let row = delivery::Entity::find().one(self.second.read()).await.unwrap().unwrap();
        let (row, attempts) =
            log::find_delivery(self.second.read(), row.site_id, row.id).await.unwrap().unwrap();
        assert_eq!(row.site_id.to_string(), self.site.id);
        (row, attempts.iter().map(|attempt| (attempt.number, attempt.status_code)).collect())
    }
}

fn outcome(job: &Job, at: Timestamp, status: i32, verdict: Verdict) -> Outcome {
    let attempt = Try {
        started_at: at,
        duration_ms: 5,
        status_code: Some(status),
        error_class: None,
        error: None,
        response_headers: None,
        response_body: None,
    };
    Outcome { job: job.clone(), attempt, verdict, new_token: None, at }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_lease_that_ran_out_is_claimed_by_another_node_and_the_late_outcome_changes_nothing() {
    let Some(lease) = Lease::new().await else { return };
    let (a, b) = (&lease.first.app.db, &lease.second);
    let slow = lease.claim(a).await;
    assert_eq!((slow.len(), slow[0].attempt_count, slow[0].schedule_step), (1, 1, 1));
    assert!(lease.claim(b).await.is_empty(), "the lease of the first holds");
    lease.first.clock.advance_ms(14_999);
    assert!(lease.claim(b).await.is_empty());
    lease.first.clock.advance_ms(1);
    let quick = lease.claim(b).await;
    assert_eq!((quick.len(), quick[0].delivery_id), (1, slow[0].delivery_id));
    assert_ne!(quick[0].lease_id, slow[0].lease_id);
    assert!(lease.claim(a).await.is_empty());

    // The sleeper wakes before its successor is done: nothing changes.
    let before = lease.stored().await;
    let late = outcome(&slow[0], a.now(), 500, Verdict::Retry(a.now().plus_ms(600_000)));
    write_outcomes(a, std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(lease.stored().await, before);
    assert_eq!(before.1, [(1, Some(500))]);

    write_outcomes(b, &[outcome(&quick[0], b.now(), 202, Verdict::Delivered)]).await.unwrap();
    let delivered = lease.stored().await;
    assert_eq!((delivered.0.status.as_str(), delivered.0.attempt_count), ("DELIVERED", 2));
    assert_eq!(delivered.1, [(1, Some(500)), (2, Some(202))]);

    // And after it: neither a failure nor a 410 of the sleeper counts.
    for verdict in [late.verdict, Verdict::Exhausted, Verdict::Gone] {
        write_outcomes(a, &[outcome(&slow[0], a.now(), 410, verdict)]).await.unwrap();
        assert_eq!(lease.stored().await, delivered);
    }
    let subscriptions =
        lease.first.admin_list(&lease.site, "/admin/v1/webhook-subscriptions", "webhookSubscriptions").await;
    assert_eq!(subscriptions[0]["status"], "ENABLED");
    lease.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_claim_that_many_nodes_make_at_once_goes_to_one_of_them() {
    let Some(lease) = Lease::new().await else { return };
    for _ in 0..20 {
        let claims = (0..8).map(|number| {
            let db = if number % 2 == 0 { &lease.first.app.db } else { &lease.second };
            lease.claim(db)
        });
        let jobs: Vec<Job> = join_all(claims).await.into_iter().flatten().collect();
        assert_eq!(jobs.len(), 1);
        lease.first.clock.advance_ms(15_000);
    }
    lease.first.app.stop().await;
}

/// A connection of the test's own, which cuts all others.
async fn cutter(app: &TestApp) -> DatabaseConnection {
    let mut options = ConnectOptions::new(app.database_url());
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn delivered(database: &DatabaseConnection) -> u64 {
    let delivered = delivery::Column::Status.eq(DeliveryStatus::Delivered);
    delivery::Entity::find().filter(delivered).count(database).await.unwrap()
}

/// Calls until the answer is no failure of the node; every pooled connection that was cut fails once.
async fn insist<'a>(call: impl Fn() -> Call<'a>) -> Answer {
    for _ in 0..50 {
        let answer = call().send().await;
        if answer.status.as_u16() != 500 {
            return answer;
        }
        assert_eq!(answer.json(), json!({"message": "", "details": {}}));
    }
    panic!("the node does not recover");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_connections_that_the_database_cuts_lose_nothing_that_was_answered() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
    let members = members(&first, &site, 60).await;
    let cutter = cutter(&first).await;

    let mut followed = Vec::new();
    for (number, group) in members.chunks(10).enumerate() {
        let calls = group.iter().map(|member| {
            let call =
                if number % 2 == 0 { first.call("POST", PATH) } else { second.client.call("POST", PATH) };
            call.auth(&member.token).json(&wish("X")).send()
        });
        let (answers, cut) = tokio::join!(join_all(calls), cutter.execute_unprepared(CUT));
        cut.unwrap();
        for (member, answer) in group.iter().zip(answers) {
            match answer.status.as_u16() {
                200 => followed.push((member, answer.json()["followedChannel"].clone())),
                status => assert_eq!((status, answer.json()), (500, json!({"message": "", "details": {}}))),
            }
        }
    }
    for member in &members {
        let answer = insist(|| first.call("POST", PATH).auth(&member.token).json(&wish("X"))).await;
        assert!([200, 409].contains(&answer.status.as_u16()), "{}", answer.text);
    }

    for (member, row) in followed {
        let listed = insist(|| first.call("GET", PATH).auth(&member.token)).await;
        assert_eq!(listed.json(), json!({"followedChannels": [row]}));
    }
    let ledger = verify::verify(&cutter, |_| {}).await.unwrap();
    assert_eq!(ledger, Report { accounts: 60, entries: 60, faults: Vec::new() });
    for _ in 0..50 {
        if delivered(&cutter).await == 60 {
            break;
        }
        first.clock.advance_ms(15_000);
        // A cut connection fails here too, once.
        let drains = async { tokio::join!(first.app.dispatcher.drain(), second.app.dispatcher.drain()) };
        let _ = tokio::time::timeout(ENOUGH, drains).await.expect("deliveries come to an end");
    }
    assert_eq!(delivered(&cutter).await, 60);
    let mut sent = receiver.bodies();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 60, "what came twice was the same");
    second.stop_with(&first).await;
}
