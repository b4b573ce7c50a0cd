//! Nodes go by the database's clock: one whose own is a day wrong does no harm.

use std::sync::Arc;

use entity::id::Timestamp;
use entity::{delivery, node};
use followpoints::app::{App, Seams};
use followpoints::clock::{Clock as _, SystemClock};
use followpoints::ids::RandomIds;
use followpoints::webhooks::endpoints::LEASE_MS;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::PATH;
use crate::support::client::Client;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{ADMIN_KEY, Backend, Options, TestDatabase, config};

const DAY_MS: i64 = 24 * 3_600_000;

fn now() -> Timestamp {
    SystemClock::default().now()
}

/// A site with a subscription to follows, and the token of a member, all made through one node; both are told by id.
async fn prepared(client: &Client, receiver: &Receiver) -> (String, String) {
    let body = json!({"site": {"name": "Nordbrew"}});
    let created = client.call("POST", "/admin/v1/sites").auth(ADMIN_KEY).json(&body).ok().await;
    let site = text(&created["site"]["id"]);
    let post = async |path: &str, body: Value| {
        client.call("POST", path).key(ADMIN_KEY, &site).json(&body).ok().await
    };
    let channels = json!({"channels": [{"type": "X", "enabled": true, "id": "nordbrew", "points": 50}]});
    let settings = client.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site);
    settings.json(&json!({"socialMediaSettings": channels})).ok().await;
    post("/loyalty-programs/v1/program/activate", json!({})).await;
    let app = text(&post("/admin/v1/apps", json!({"app": {"name": "CRM sync"}})).await["app"]["id"]);
    post("/admin/v1/app-instances", json!({"appInstance": {"appId": app}})).await;
    let new = json!({"appId": app, "eventTypes": &ALL_EVENTS[..1], "url": receiver.url});
    post("/admin/v1/webhook-subscriptions", json!({"webhookSubscription": new})).await;
    let member =
        text(&post("/admin/v1/members", json!({"member": {"externalId": "u-1"}})).await["member"]["id"]);
    let token = text(&post(&format!("/admin/v1/members/{member}/tokens"), json!({})).await["access_token"]);
    (site, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_nodes_whose_clocks_are_a_day_wrong_agree_on_the_time_and_lose_nothing() {
    for error_ms in [DAY_MS, -DAY_MS] {
        let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
        let configured = config(&database.url, &Options::default());
        let seams = |error_ms| Seams {
            clock: Arc::new(SystemClock::ahead_by(error_ms)),
            ids: Arc::new(RandomIds::default()),
            ..Seams::default()
        };
        let wrong = App::start(&configured, seams(error_ms)).await.unwrap();
        let right = App::start(&configured, seams(0)).await.unwrap();
        let skew = wrong.db.now().0 - now().0;
        assert!(skew.abs() < 1_000, "{skew} ms off");

        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let (first, second) = (Client::new(&wrong), Client::new(&right));
        let (site, token) = prepared(&first, &receiver).await;
        let body = json!({"followedChannel": {"channel": "X"}});
        second.call("POST", PATH).auth(&token).json(&body).ok().await;
        receiver.wait_for(1).await;
        wrong.dispatcher.drain().await.unwrap();
        right.dispatcher.drain().await.unwrap();

        let row = delivery::Entity::find().one(right.db.read()).await.unwrap().unwrap();
        let wait = row.next_attempt_at.0 - now().0;
        assert!((55_000..=67_000).contains(&wait), "the resend is in a minute, not in a day: {wait}");
        for node in node::Entity::find().all(right.db.read()).await.unwrap() {
            let life = node.alive_until.0 - now().0;
            assert!((1..=LEASE_MS + 1_000).contains(&life), "{life}");
        }
        let events = first.call("GET", "/admin/v1/events").key(ADMIN_KEY, &site).ok().await;
        assert_eq!(events["events"].as_array().unwrap().len(), 4);
        tokio::join!(wrong.stop(), right.stop());
    }
}
