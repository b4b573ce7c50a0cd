//! What an owner asks for and what the service is in the middle of, when the process is killed, another answer comes
//! first, or a notification does not: replays, holding, rotated secrets, lost notifications.

use std::collections::HashSet;

use followpoints::clock::{Clock as _, SystemClock};
use followpoints::webhooks::endpoints::SESSION_LOCKS;
use followpoints::webhooks::standard::{Headers, HeadersError, VerifyingKey};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{check_attempts, connect, until};
use crate::on_both_databases;
use crate::recovery::drive::{Drive, Shop};
use crate::recovery::{check_events, check_everything, check_received, set_up, settled};
use crate::support::process::{Installation, Process};
use crate::support::receiver::{Gate, Received, Receiver, Reply};
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{Backend, TestDatabase};

const FOLLOWED: &[&str] = &[ALL_EVENTS[0]];

/// Kills the service and starts it again.
async fn killed(process: Process, installation: &Installation, shop: &Shop) -> Process {
    shop.is_away();
    process.kill();
    let process = installation.serve().await;
    shop.is_at(&process.url);
    process
}

/// Makes so many follows and waits until all were answered.
async fn followed(shop: Shop, count: usize) -> Drive {
    let drive = Drive::start_with(shop, count);
    drive.wait_for(count).await;
    drive.stop().await;
    drive
}

/// The subscription's deliveries.
async fn deliveries(shop: &Shop, subscription: &str) -> Vec<Value> {
    let mut path = format!("/admin/v1/webhook-deliveries?limit=100&subscriptionId={subscription}");
    let first = path.clone();
    let mut rows = Vec::new();
    loop {
        let page = shop.admin("GET", &path, None).await;
        rows.extend(page["webhookDeliveries"].as_array().unwrap().clone());
        let Some(next) = page["pagingMetadata"]["cursors"]["next"].as_str() else { return rows };
        path = format!("{first}&cursor={next}");
    }
}

on_both_databases! {
    async fn g3_a_replay_whose_process_is_killed_goes_on_and_sends_every_event_under_one_delivery(database: TestDatabase) {
        let installation = Installation::new(database);
        let mut process = installation.serve().await;
        let drive = followed(Shop::open(&process.url).await, 400).await;
        let shop = &drive.shop;
        // While nothing is answered, the replay rests before its end.
        let (late, gate) = (Receiver::start().await, Gate::closed());
        late.answer((0..64).map(|_| Reply::status(200).behind(&gate)));
        let made = shop.subscribe_with(&ALL_EVENTS, &late.url, json!({"timeoutMs": 15_000})).await;
        let subscription = text(&made["webhookSubscription"]["id"]);
        let body = json!({"since": "2024-01-01T00:00:00Z", "scope": "MISSING"});
        let path = format!("/admin/v1/webhook-subscriptions/{subscription}/replay");
        let replay = text(&shop.admin("POST", &path, Some(&body)).await["webhookReplay"]["id"]);
        let path = format!("/admin/v1/webhook-replays/{replay}");
        let read = async || shop.admin("GET", &path, None).await["webhookReplay"].clone();

        for examined in [200, 600] {
            until("the replay goes on", async || read().await["examinedCount"].as_u64().unwrap() >= examined).await;
            assert_eq!(read().await["status"], "RUNNING");
            process = killed(process, &installation, shop).await;
        }
        gate.open();
        until("the replay ends", async || read().await["status"] == "DONE").await;
        settled(shop).await;

        let events: HashSet<String> = check_events(shop, &drive.acknowledged()).await.into_keys().collect();
        let done = read().await;
        assert_eq!((&done["examinedCount"], &done["replayedCount"]), (&json!(events.len()), &json!(events.len())));
        assert_eq!(check_received(&late).into_keys().collect::<HashSet<_>>(), events);
        let rows = deliveries(shop, &subscription).await;
        assert_eq!(rows.len(), events.len(), "one delivery for each event");
        assert_eq!(rows.iter().map(|row| text(&row["eventId"])).collect::<HashSet<_>>(), events);
        check_attempts(&connect(&installation.database.url).await).await;
        assert!(process.terminate().await.success());
    }
}

on_both_databases! {
    async fn g3_a_subscription_that_is_disabled_during_flight_holds_its_events_through_a_kill(database: TestDatabase) {
        let installation = Installation::new(database);
        let mut process = installation.serve().await;
        let shop = Shop::open(&process.url).await;
        let (receiver, beside) = (Receiver::start().await, Receiver::start().await);
        let gate = Gate::closed();
        receiver.answer((0..8).map(|_| Reply::status(200).behind(&gate)));
        let made = shop.subscribe_with(FOLLOWED, &receiver.url, json!({"timeoutMs": 15_000})).await;
        let subscription = text(&made["webhookSubscription"]["id"]);
        shop.subscribe(FOLLOWED, &beside.url).await;
        let drive = followed(shop, 8).await;
        let shop = &drive.shop;
        receiver.wait_for(8).await;

        let path = format!("/admin/v1/webhook-subscriptions/{subscription}");
        let change = async |status: &str| {
            let body = json!({"webhookSubscription": {"status": status}});
            shop.admin("PATCH", &path, Some(&body)).await;
        };
        change("DISABLED").await;
        drive.go_on(10).await;
        gate.open();
        beside.wait_for(18).await;
        let delivered = async || {
            let rows = deliveries(shop, &subscription).await;
            rows.iter().filter(|row| row["status"] == "DELIVERED").count()
        };
        until("what was under way ends", async || delivered().await == 8).await;
        assert_eq!(receiver.count(), 8, "what came after is held");
        process = killed(process, &installation, shop).await;
        drive.go_on(10).await;
        beside.wait_for(28).await;
        assert_eq!((receiver.count(), delivered().await), (8, 8), "and is held after the kill");

        for _ in 0..3 {
            change("ENABLED").await;
            change("DISABLED").await;
        }
        change("ENABLED").await;
        until("what was held is sent", async || delivered().await == 28).await;
        let counts = check_received(&receiver);
        assert_eq!((counts.len(), receiver.count()), (28, 28), "each event came once");
        check_attempts(&connect(&installation.database.url).await).await;
        assert!(process.terminate().await.success());
    }
}

/// What a receiver that has only `secret` says of the request.
fn accepts(secret: &str, request: &Received) -> Result<(), HeadersError> {
    let header = |name: &str| request.headers.get(name).unwrap().to_str().unwrap();
    let headers = Headers {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let now = SystemClock::default().now();
    VerifyingKey::parse(secret).unwrap().verify(headers, request.body.as_bytes(), now)
}

on_both_databases! {
    async fn g3_a_secret_that_is_rotated_between_tries_signs_the_next_one_after_a_kill_too(database: TestDatabase) {
        let installation = Installation::new(database);
        let mut process = installation.serve().await;
        let shop = Shop::open(&process.url).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500), Reply::status(500)]);
        let more = json!({
            "timeoutMs": 15_000, "signatureHeaders": ["V1"], "retryProfile": "CUSTOM",
            "retryDelaysSeconds": [3, 3, 3, 3],
        });
        let made = shop.subscribe_with(FOLLOWED, &receiver.url, more).await;
        let first = text(&made["signingSecret"]);
        let path =
            format!("/admin/v1/webhook-subscriptions/{}/rotate-secret", text(&made["webhookSubscription"]["id"]));
        let drive = followed(shop, 1).await;
        let shop = &drive.shop;
        let rotated = async |overlap: i64| {
            let body = json!({"overlapSeconds": overlap});
            text(&shop.admin("POST", &path, Some(&body)).await["signingSecret"])
        };

        assert_eq!(accepts(&first, &receiver.wait_for(1).await[0]), Ok(()));
        let second = rotated(3_600).await;
        process = killed(process, &installation, shop).await;
        let request = receiver.wait_for(2).await[1].clone();
        assert_eq!((accepts(&first, &request), accepts(&second, &request)), (Ok(()), Ok(())), "both sign meanwhile");
        let third = rotated(0).await;
        let request = receiver.wait_for(3).await[2].clone();
        assert_eq!(accepts(&third, &request), Ok(()));
        for replaced in [&first, &second] {
            assert!(accepts(replaced, &request).is_err(), "without an overlap nothing of before signs any more");
        }
        settled(shop).await;
        assert_eq!(check_received(&receiver).into_values().collect::<Vec<_>>(), [3]);
        check_attempts(&connect(&installation.database.url).await).await;
        assert!(process.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_deliveries_come_although_every_notification_is_lost() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let installation = Installation::new(database);
    let first = installation.serve().await;
    let (drive, all, some) = set_up(&first).await;
    let second = installation.serve().await;
    let database = connect(&installation.database.url).await;
    // Whoever listens holds this lock.
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = {SESSION_LOCKS} \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );

    // All follows now go through the node that owns nothing.
    drive.wait_for(20).await;
    drive.shop.is_at(&second.url);
    let count = all.count();
    until("deliveries come", async || {
        database.execute_unprepared(&cut).await.unwrap();
        all.count() >= count + 60
    })
    .await;
    drive.stop().await;

    check_everything(&installation, &drive, [&all, &some]).await;
    check_attempts(&database).await;
    assert!(second.terminate().await.success());
    assert!(first.terminate().await.success());
}
