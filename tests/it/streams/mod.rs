//! Subscriptions of type `NATS`, against real servers: what arrives in the stream, and that nothing is lost (G3).

mod cluster;
mod messages;
mod outages;
mod refusals;
mod sign_in;
mod subscriptions;

use serde_json::{Value, json};

use crate::support::nats::{Observer, Server};
use crate::support::until;
use crate::support::world::{InstalledApp, Member, Site, text};
use crate::support::{ADMIN_KEY, Options, TestApp, TestDatabase};

/// The stream unless the settings say otherwise.
const STREAM: &str = "FOLLOWPOINTS";
const SUBSCRIPTIONS: &str = "/admin/v1/webhook-subscriptions";
const DELIVERIES: &str = "/admin/v1/webhook-deliveries";
const PATIENT: i32 = 15_000;

/// A service that uses `server`.
async fn service(database: TestDatabase, server: &Server) -> TestApp {
    TestApp::start(database, Options { nats: server.given(), ..Options::default() }).await
}

/// An active site with an app installed on it.
async fn installed_site(app: &TestApp) -> (Site, InstalledApp) {
    let site = app.site().await;
    let installed = app.installed_app(&site).await;
    (site, installed)
}

/// Subscribes to everything; gives the subscription's id.
async fn subscribe(app: &TestApp, site: &Site, installed: &InstalledApp, timeout_ms: i32) -> String {
    let new = json!({"appId": installed.id, "eventTypes": ["*"], "type": "NATS", "timeoutMs": timeout_ms});
    let body = json!({"webhookSubscription": new});
    let made = app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    text(&made["webhookSubscription"]["id"])
}

async fn patch(app: &TestApp, site: &Site, id: &str, change: &Value) {
    let body = json!({"webhookSubscription": change});
    app.call("PATCH", &format!("{SUBSCRIPTIONS}/{id}")).key(ADMIN_KEY, &site.id).json(&body).ok().await;
}

/// Every delivery of the site, oldest first.
async fn deliveries(app: &TestApp, site: &Site) -> Vec<Value> {
    all(app, site, DELIVERIES, "webhookDeliveries").await
}

/// The ids of every event of the site, oldest first.
async fn event_ids(app: &TestApp, site: &Site) -> Vec<String> {
    all(app, site, "/admin/v1/events", "events").await.iter().map(|event| text(&event["id"])).collect()
}

async fn all(app: &TestApp, site: &Site, path: &str, name: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}?limit=100{cursor}");
        let page = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        found.extend(page[name].as_array().unwrap().clone());
        match page["pagingMetadata"]["cursors"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    found.reverse();
    found
}

/// The attempts of a delivery, without how long they took.
async fn attempts(app: &TestApp, site: &Site, delivery: &Value) -> Vec<Value> {
    let path = format!("{DELIVERIES}/{}", text(&delivery["id"]));
    let body = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
    let mut attempts = body["webhookDelivery"]["attempts"].as_array().unwrap().clone();
    for attempt in &mut attempts {
        assert!(attempt.as_object_mut().unwrap().remove("durationMs").unwrap().is_u64());
    }
    attempts
}

/// Class and text of the last failure of every delivery, each once.
async fn failures(app: &TestApp, site: &Site) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for delivery in deliveries(app, site).await {
        let last = attempts(app, site, &delivery).await.pop().unwrap();
        found.push((text(&last["errorClass"]), text(&last["error"])));
    }
    found.sort();
    found.dedup();
    found
}

/// How many deliveries there are in each state.
async fn states(app: &TestApp, site: &Site) -> Vec<(String, usize)> {
    let mut counted = std::collections::BTreeMap::<_, usize>::new();
    for delivery in deliveries(app, site).await {
        *counted.entry(text(&delivery["status"])).or_default() += 1;
    }
    counted.into_iter().collect()
}

/// New members of the site.
async fn members(app: &TestApp, site: &Site, count: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for number in 0..count {
        members.push(app.member(site, &format!("u-{number}")).await);
    }
    members
}

/// Fails unless the stream has every event of the site exactly once, and nothing else.
async fn assert_each_once(app: &TestApp, site: &Site, observer: &Observer) {
    let stored = observer.messages(STREAM).await;
    let mut stored: Vec<_> = stored.iter().map(|message| message.header("Nats-Msg-Id").to_owned()).collect();
    stored.sort();
    assert_eq!(stored, event_ids(app, site).await);
}

/// Tries again whatever failed, until everything is delivered.
async fn deliver_everything(app: &TestApp, site: &Site) {
    let streams = app.app.streams.as_ref().unwrap();
    for _ in 0..12 {
        until("the service is connected", async || streams.is_ready().then_some(())).await;
        app.drain().await;
        let states = states(app, site).await;
        if let [(state, _)] = states.as_slice()
            && state == "DELIVERED"
        {
            return;
        }
        app.clock.advance_ms(24 * 3_600_000);
    }
    panic!("not delivered: {:?}, {:?}", states(app, site).await, failures(app, site).await);
}
