//! The log is kept for a while: answers, deliveries and events each for a time of their own; and no longer for an account whose
//! events are expunged.

use std::time::Duration;

use entity::{attempt, delivery, event, signed_event};
use followpoints::webhooks::retention::{Removed, Retention, clean_up};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::{Value, json};

use super::{DELIVERIES, deliveries, installed_site, new_follower, patch_subscription, subscribe_with};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{ADMIN_KEY, TestApp};

const DAY: Duration = Duration::from_hours(24);
const KEPT: Retention =
    Retention { answers: DAY, deliveries: Duration::from_hours(48), events: Duration::from_hours(72) };

async fn counts(app: &TestApp) -> [u64; 4] {
    let db = app.app.db.read();
    [
        attempt::Entity::find().count(db).await.unwrap(),
        delivery::Entity::find().count(db).await.unwrap(),
        event::Entity::find().count(db).await.unwrap(),
        signed_event::Entity::find().count(db).await.unwrap(),
    ]
}

fn removed(answers: u64, deliveries: u64, events: u64) -> Removed {
    Removed { answers, deliveries, events }
}

on_both! {
    async fn answers_deliveries_and_events_go_one_after_the_other_and_what_waits_stays(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let held = subscribe_with(app, &site, &installed, &receiver.url, &json!({"status": "PAUSED"})).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let begin = counts(app).await;
        assert_eq!(begin, [4, 5, 4, 4]);
        let db = &app.app.db;

        app.clock.advance_ms(24 * 3_600_000);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 0), "to the very millisecond");
        app.clock.advance_ms(1);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(4, 0, 0));
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 0), "nothing is done twice");
        for row in attempt::Entity::find().all(db.read()).await.unwrap() {
            assert_eq!((row.status_code, row.response_headers, row.request_headers), (Some(200), None, None));
        }
        app.clock.advance_ms(24 * 3_600_000);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 4, 0));
        assert_eq!(counts(app).await, [0, 1, 4, 4]);
        app.clock.advance_ms(24 * 3_600_000);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 3), "one event still waits to be sent");
        assert_eq!(counts(app).await, [0, 1, 1, 1]);

        patch_subscription(app, &site, &text(&held["id"]), &json!({"status": "ENABLED"})).await;
        app.drain().await;
        assert_eq!(receiver.count(), 5);
        assert_eq!(deliveries(app, &site).await[0]["status"], "DELIVERED");
    }
}

on_both! {
    async fn what_the_log_says_of_an_account_is_expunged_and_nothing_else(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(200).body("hello u-1"), Reply::status(500)]);
        app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let member = new_follower(app, &site, "u-1").await;
        app.drain().await;
        app.follow(&member, "INSTAGRAM").await;
        app.drain().await;
        let other = new_follower(app, &site, "u-2").await;
        app.drain().await;
        let account = text(&app.account(&member).await["id"]);
        let body = json!({"accountId": account});
        let expunge = async || {
            app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await
        };
        assert_eq!(expunge().await, json!({"expungedCount": 7}));

        let events = app.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
        let (gone, kept): (Vec<&Value>, Vec<&Value>) =
            events.iter().partition(|event| event["accountId"] == account.as_str());
        assert_eq!((gone.len(), kept.len()), (7, 4));
        for event in gone {
            let names: Vec<&str> = event["data"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(names, ["entityEventSequence", "entityId", "eventTime", "expunged", "id"]);
            assert_eq!(event["identity"], json!({}));
        }
        assert!(kept.iter().all(|event| event["data"].get("expunged").is_none()));
        let states: Vec<Value> = deliveries(app, &site).await.iter().map(|row| row["status"].clone()).collect();
        assert_eq!(states, [json!("DELIVERED"), json!("CANCELLED"), json!("DELIVERED")], "newest first");
        let first = text(&deliveries(app, &site).await[2]["id"]);
        let path = format!("{DELIVERIES}/{first}");
        let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        let tried = &read["webhookDelivery"]["attempts"][0];
        assert_eq!((&tried["statusCode"], tried.get("responseBody")), (&json!(200), None));
        assert_eq!(signed_event::Entity::find().count(app.app.db.read()).await.unwrap(), 1);

        app.clock.advance_ms(66_000);
        app.drain().await;
        assert_eq!(receiver.count(), 3, "what waited is not sent");
        assert_eq!(app.account(&member).await["points"]["balance"], 80);
        assert_eq!(app.account(&other).await["points"]["balance"], 50);
    }
}
