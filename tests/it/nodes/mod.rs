//! Two nodes on one PostgreSQL: one award, one event, one delivery, whoever is asked; and a node that slept through its
//! lease changes nothing.

mod clocks;
mod connections;
mod leases;

use std::collections::HashMap;
use std::sync::Arc;

use entity::id::Timestamp;
use followpoints::app::{App, Seams};
use followpoints::clock::ManualClock;
use followpoints::ids::{IdGenerator, RandomIds};
use followpoints::points::verify::{self, Report};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::recovery::drive::CHANNELS;
use crate::support::client::Client;
use crate::support::process::LOOK;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{ALL_EVENTS, InstalledApp, Member, Site, text};
use crate::support::{ADMIN_KEY, Backend, ENOUGH, Options, START, TestApp, TestDatabase, until};

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

/// A subscription to follows that sends one event at a time; gives its id.
async fn one_at_a_time(app: &TestApp, site: &Site, installed: &InstalledApp, receiver: &Receiver) -> String {
    let body = json!({"webhookSubscription": {
        "appId": installed.id, "eventTypes": &ALL_EVENTS[..1], "url": receiver.url,
        "maxInFlight": 1, "timeoutMs": 15_000,
    }});
    let call = app.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body);
    text(&call.ok().await["webhookSubscription"]["id"])
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

/// Ids that run ahead of the clock, as those of a node do that makes thousands in a millisecond.
struct Hasty(RandomIds);

impl IdGenerator for Hasty {
    fn next_id(&self, at: Timestamp) -> Uuid {
        self.0.next_id(at.plus_ms(5))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_what_two_nodes_do_to_one_account_by_turns_has_ids_in_that_order() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let first = TestApp::start(database, Options::default()).await;
    let seams = Seams { ids: Arc::new(Hasty(RandomIds::default())), ..first.seams.clone() };
    let app = App::start(&first.config, seams).await.unwrap();
    let hasty = Second { client: Client::new(&app), app };
    let site = first.site().await;
    let member = first.member(&site, "u-1").await;
    let body = json!({"socialMediaSettings": {"channels": CHANNELS.map(
        |channel| json!({"type": channel, "enabled": true, "id": "nordbrew", "points": 50}),
    )}});
    let settings = first.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id);
    settings.json(&body).ok().await;

    let mut follows = Vec::new();
    for (turn, channel) in CHANNELS.into_iter().enumerate() {
        let call = if turn % 2 == 0 { hasty.client.call("POST", PATH) } else { first.call("POST", PATH) };
        let made = call.auth(&member.token).json(&wish(channel)).ok().await;
        follows.push(text(&made["followedChannel"]["id"]));
    }

    let mut sorted = follows.clone();
    sorted.sort();
    assert_eq!(sorted, follows, "the follows");
    let events = first.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
    let told: Vec<_> = events
        .iter()
        .rev()
        .filter(|event| event["eventType"] == ALL_EVENTS[0])
        .map(|event| text(&event["entityId"]))
        .collect();
    assert_eq!(told, follows, "their events, which are listed by id");
    hasty.stop_with(&first).await;
}

/// Deliveries that either node has in memory.
fn in_memory(first: &TestApp, second: &Second) -> usize {
    first.app.dispatcher.health().held + second.app.dispatcher.health().held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_what_is_cancelled_through_any_node_is_not_sent_by_the_one_that_has_it_in_memory() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    for is_second in [true, false] {
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer([Reply::status(200).behind(&gate)]);
        let subscription = one_at_a_time(&first, &site, &installed, &receiver).await;
        for number in 0..3 {
            let member = first.member(&site, &format!("u-{is_second}-{number}")).await;
            first.call("POST", PATH).auth(&member.token).json(&wish("X")).ok().await;
        }
        receiver.wait_for(1).await;
        until("the owner has all", async || (in_memory(&first, &second) == 3).then_some(())).await;

        let query = format!("subscriptionId={subscription}");
        let path = format!("{DELIVERIES}/{}/cancel", text(&deliveries(&first, &site, &query).await[0]["id"]));
        let call = if is_second { second.client.call("POST", &path) } else { first.call("POST", &path) };
        call.key(ADMIN_KEY, &site.id).ok().await;
        until("the owner hears of it", async || (in_memory(&first, &second) < 3).then_some(())).await;
        gate.open();
        second.drain_with(&first).await;

        let rows = deliveries(&first, &site, &query).await;
        let states: Vec<_> = rows.iter().map(|row| text(&row["status"])).collect();
        assert_eq!(states, ["CANCELLED", "DELIVERED", "DELIVERED"], "through the second node: {is_second}");
        assert_eq!(receiver.count(), 2, "through the second node: {is_second}");
        let body = json!({"webhookSubscription": {"status": "PAUSED"}});
        let path = format!("/admin/v1/webhook-subscriptions/{subscription}");
        first.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    }
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
    let of = |number: usize| events[number]["id"].clone();
    assert_eq!(told, [of(0), of(1), of(2)], "the second was held meanwhile");
    assert_eq!(receiver.count(), 3);
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_node_that_stops_ends_its_try_and_leaves_the_queue_to_the_other() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.answer([Reply::status(200).behind(&gate)]);
    one_at_a_time(&first, &site, &installed, &receiver).await;
    for member in members(&first, &site, 5).await {
        first.follow(&member, "X").await;
    }
    receiver.wait_for(1).await;

    let stopping = tokio::spawn({
        let dispatcher = first.app.dispatcher.clone();
        async move { dispatcher.stop().await }
    });
    second.app.dispatcher.drain().await.unwrap();
    assert!(!stopping.is_finished(), "it waits for the try under way");
    assert_eq!(receiver.count(), 1, "one at a time, whichever node sends");
    gate.open();
    stopping.await.unwrap();
    second.drain_with(&first).await;

    let rows = deliveries(&first, &site, "status=DELIVERED").await;
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row["attemptCount"] == 1));
    assert_eq!(receiver.count(), 5);
    second.stop_with(&first).await;
}

/// A subscription with three events in the queue of the second node, of which the first is under way until the gate opens; the first node
/// is asked by `method` to do with it what `body` says, and what comes of that is known in the queue.
async fn interrupted(
    first: &TestApp,
    second: &Second,
    (method, body): (&str, &Value),
) -> (Vec<String>, usize) {
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.answer([Reply::status(200).behind(&gate)]);
    let subscription = one_at_a_time(first, &site, &installed, &receiver).await;
    for member in members(first, &site, 3).await {
        second.client.call("POST", PATH).auth(&member.token).json(&wish("X")).ok().await;
    }
    receiver.wait_for(1).await;

    let path = format!("/admin/v1/webhook-subscriptions/{subscription}");
    first.call(method, &path).key(ADMIN_KEY, &site.id).json(body).ok().await;
    // A node may look every now and then, or right before it sends: give it the time for the former.
    let mut looks = tokio::time::interval(LOOK);
    for _ in 0..100 {
        looks.tick().await;
        if second.app.dispatcher.health().held == 1 {
            break;
        }
    }
    gate.open();
    second.drain_with(first).await;
    let rows = deliveries(first, &site, "").await;
    (rows.iter().rev().map(|row| text(&row["status"])).collect(), receiver.count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_disabled_on_one_node_is_soon_left_alone_by_the_queue_of_the_other() {
    let Some((first, second)) = two_nodes().await else { return };
    let disabled = json!({"webhookSubscription": {"status": "DISABLED"}});
    let (states, sent) = interrupted(&first, &second, ("PATCH", &disabled)).await;
    assert_eq!(states, ["DELIVERED", "PENDING", "PENDING"]);
    assert_eq!(sent, 1, "nothing is sent to a disabled subscription");
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_deleted_on_one_node_gets_nothing_more_from_the_queue_of_the_other() {
    let Some((first, second)) = two_nodes().await else { return };
    let (states, sent) = interrupted(&first, &second, ("DELETE", &Value::Null)).await;
    assert_eq!(states, ["CANCELLED"; 3]);
    assert_eq!(sent, 1, "nothing more is sent");
    second.stop_with(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_an_account_is_in_order_although_a_clock_is_ahead() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let first = TestApp::start(database, Options::default()).await;
    let ahead = Seams {
        clock: Arc::new(ManualClock::new(START.plus_ms(80))),
        ids: Arc::new(RandomIds::default()),
        ..first.seams.clone()
    };
    let app = App::start(&first.config, ahead).await.unwrap();
    let second = Second { client: Client::new(&app), app };
    let site = first.site().await;
    let member = first.member(&site, "u-1").await;
    for (number, channel) in ["X", "INSTAGRAM", "FACEBOOK"].into_iter().enumerate() {
        let call = if number % 2 == 0 { second.client.call("POST", PATH) } else { first.call("POST", PATH) };
        call.auth(&member.token).json(&wish(channel)).ok().await;
    }
    let account = first.account(&member).await["id"].clone();
    let events = first.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
    let of_account = events.iter().filter(|event| event["entityId"] == account).rev();
    let sequences: Vec<String> =
        of_account.map(|event| text(&event["data"]["entityEventSequence"])).collect();
    let in_order: Vec<String> = (1..=sequences.len()).map(|number| number.to_string()).collect();
    assert!(sequences.len() > 4, "{sequences:?}");
    assert_eq!(sequences, in_order);
    second.stop_with(&first).await;
}
