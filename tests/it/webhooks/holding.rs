//! A subscription that is paused or disabled loses nothing: its events are held, then sent or cancelled as the owner says.

use followpoints::webhooks::delivery;
use serde_json::{Value, json};

use super::{
    DELIVERIES, FOLLOWED, deliveries, installed_site, millis, new_follower, patch_subscription,
    subscribe_with, unfold,
};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const DAY_MS: i64 = 24 * 3_600_000;

/// A subscription in this state, and two events that are held for it.
struct Held {
    site: Site,
    subscription: String,
    receiver: Receiver,
}

impl Held {
    async fn new(app: &TestApp, status: &str) -> Self {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let more = json!({"status": status});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
        for number in 1..=2 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        app.drain().await;
        let held = Self { site, subscription, receiver };
        assert_eq!((held.states(app).await, held.receiver.count()), (vec!["PENDING".to_owned(); 2], 0));
        held
    }

    async fn states(&self, app: &TestApp) -> Vec<String> {
        deliveries(app, &self.site).await.iter().map(|row| text(&row["status"])).collect()
    }

    async fn backlog(&self, app: &TestApp) -> Value {
        let path = format!("/admin/v1/webhook-subscriptions/{}/backlog", self.subscription);
        app.call("GET", &path).key(ADMIN_KEY, &self.site.id).ok().await["webhookBacklog"].clone()
    }

    async fn change(&self, app: &TestApp, change: Value) -> Value {
        patch_subscription(app, &self.site, &self.subscription, &change).await
    }
}

on_both! {
    async fn g3_what_is_held_while_paused_or_disabled_is_sent_once_enabled(app: &TestApp) {
        for status in ["PAUSED", "DISABLED"] {
            let held = Held::new(app, status).await;
            let since = deliveries(app, &held.site).await[1]["createdDate"].clone();
            assert_eq!(held.backlog(app).await, json!({"deliveries": 2, "hasMore": false, "oldestDate": since}));
            app.clock.advance_ms(29 * DAY_MS);
            delivery::expire_held(&app.app.db).await.unwrap();
            held.change(app, json!({"status": "ENABLED"})).await;
            app.drain().await;

            assert_eq!(held.states(app).await, ["DELIVERED"; 2], "{status}");
            assert_eq!(held.backlog(app).await, json!({"deliveries": 0, "hasMore": false}));
            let mut sent: Vec<Value> =
                held.receiver.bodies().iter().map(|body| unfold(body)["jti"].clone()).collect();
            let mut events: Vec<Value> =
                deliveries(app, &held.site).await.iter().map(|row| row["eventId"].clone()).collect();
            sent.sort_by_key(Value::to_string);
            events.sort_by_key(Value::to_string);
            assert_eq!(sent, events, "{status}");
        }
    }
}

on_both! {
    async fn a_pause_stops_what_waits_and_says_why(app: &TestApp) {
        let held = Held::new(app, "PAUSED").await;
        let paused = held.change(app, json!({"status": "PAUSED"})).await;
        assert_eq!(
            (&paused["status"], &paused["statusReason"]),
            (&json!("PAUSED"), &json!("paused by the owner"))
        );
        let id = text(&deliveries(app, &held.site).await[0]["id"]);
        let path = format!("{DELIVERIES}/{id}/redeliver");
        let refused = app.call("POST", &path).key(ADMIN_KEY, &held.site.id).send().await;
        assert_eq!(refused.error(), (428, "WEBHOOK_SUBSCRIPTION_NOT_ENABLED".to_owned()));
        app.drain().await;
        assert_eq!(held.receiver.count(), 0);
    }
}

on_both! {
    async fn what_is_held_says_so_and_not_when_it_is_tried(app: &TestApp) {
        let held = Held::new(app, "PAUSED").await;
        let export = async || {
            let path = format!("{DELIVERIES}/export");
            app.call("GET", &path).key(ADMIN_KEY, &held.site.id).send().await.text
        };
        let row = deliveries(app, &held.site).await[0].clone();
        let of = |name: &str| text(&row[name]);
        let expected = json!({
            "id": row["id"], "subscriptionId": held.subscription, "eventId": row["eventId"], "eventType": FOLLOWED,
            "status": "PENDING", "attemptCount": 0, "held": true, "createdDate": row["createdDate"],
        });
        assert_eq!(row, expected);
        let mut read = crate::webhooks::delivery(app, &held.site, &of("id")).await;
        assert_eq!(read.as_object_mut().unwrap().remove("attempts"), Some(json!([])));
        assert_eq!(read, expected);
        let line = |next: &str, is_held: &str| {
            let begins = [of("id"), of("subscriptionId"), of("eventId"), FOLLOWED.to_owned()].join(",");
            format!("{begins},PENDING,0,{},{next},,,,{is_held}", of("createdDate"))
        };
        assert_eq!(export().await.lines().nth(1), Some(line("", "true").as_str()));

        // Whatever is due once it is enabled again may be tried: nothing is held any more.
        held.change(app, json!({"status": "ENABLED"})).await;
        app.drain().await;
        for row in deliveries(app, &held.site).await {
            assert_eq!((&row["status"], row.get("held")), (&json!("DELIVERED"), None));
        }
        assert!(export().await.lines().skip(1).all(|line| line.ends_with(",200,,")));
    }
}

on_both! {
    async fn the_owner_may_cancel_what_is_held_and_go_on_from_there(app: &TestApp) {
        let held = Held::new(app, "PAUSED").await;
        held.change(app, json!({"status": "ENABLED", "heldDeliveries": "CANCEL"})).await;
        new_follower(app, &held.site, "u-3").await;
        app.drain().await;

        assert_eq!(held.states(app).await, ["DELIVERED", "CANCELLED", "CANCELLED"], "newest first");
        assert_eq!(held.receiver.count(), 1);
    }
}

on_both! {
    async fn thirty_days_count_from_when_it_would_have_been_sent(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500), Reply::status(500)]);
        let once = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": []});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &once).await["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let held = Held { site, subscription, receiver };
        held.change(app, json!({"retryDelaysSeconds": [86_400]})).await;
        app.clock.advance_ms(29 * DAY_MS);
        let id = text(&deliveries(app, &held.site).await[0]["id"]);
        let path = format!("{DELIVERIES}/{id}/redeliver");
        app.call("POST", &path).key(ADMIN_KEY, &held.site.id).ok().await;
        app.drain().await;
        assert_eq!(held.states(app).await, ["RETRYING"]);
        let next = millis(&deliveries(app, &held.site).await[0]["nextAttemptDate"]);

        // It was made 29 days ago, and its next try is a day ahead.
        held.change(app, json!({"status": "PAUSED"})).await;
        for (now, expired) in [(next + DAY_MS, 0), (next + 30 * DAY_MS - 1, 0), (next + 30 * DAY_MS, 1)] {
            app.clock.advance_ms(now - app.app.db.now().0);
            // Neither another change nor another reason not to send begins it anew.
            held.change(app, json!({"status": "DISABLED", "timeoutMs": 500})).await;
            assert_eq!(delivery::expire_held(&app.app.db).await.unwrap(), expired);
        }
        assert_eq!(held.states(app).await, ["CANCELLED"]);
    }
}

on_both! {
    async fn what_has_waited_long_for_an_enabled_subscription_has_thirty_days_from_its_pause_on(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &json!({})).await["id"]);
        app.waiting_delivery(&site, &subscription).await;
        let held = Held { site, subscription, receiver };
        app.clock.advance_ms(29 * DAY_MS);
        held.change(app, json!({"status": "PAUSED"})).await;
        let paused = app.app.db.now().0;
        for (now, expired) in [(paused + 30 * DAY_MS - 1, 0), (paused + 30 * DAY_MS, 1)] {
            app.clock.advance_ms(now - app.app.db.now().0);
            assert_eq!(delivery::expire_held(&app.app.db).await.unwrap(), expired);
        }
    }
}

on_both! {
    async fn what_was_held_for_thirty_days_is_cancelled_and_nothing_else(app: &TestApp) {
        for status in ["DISABLED", "PAUSED"] {
            let held = Held::new(app, status).await;
            let made = millis(&deliveries(app, &held.site).await[0]["createdDate"]);
            app.clock.advance_ms(made + 30 * DAY_MS - app.app.db.now().0 - 1);
            assert_eq!(delivery::expire_held(&app.app.db).await.unwrap(), 0, "{status}");
            new_follower(app, &held.site, "u-3").await;
            app.clock.advance_ms(1);
            assert_eq!(delivery::expire_held(&app.app.db).await.unwrap(), 2, "{status}");

            let rows = deliveries(app, &held.site).await;
            assert_eq!(held.states(app).await, ["PENDING", "CANCELLED", "CANCELLED"], "{status}");
            assert_eq!(millis(&rows[1]["finishedDate"]), app.app.db.now().0);
            held.change(app, json!({"status": "ENABLED"})).await;
            app.drain().await;
            assert_eq!((held.states(app).await[0].as_str(), held.receiver.count()), ("DELIVERED", 1), "{status}");
        }
    }
}

on_both! {
    async fn g3_what_waits_for_an_enabled_subscription_is_never_too_old(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        subscribe_with(app, &site, &installed, &receiver.url, &json!({"timeoutMs": 15_000})).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        receiver.answer([Reply::status(200).behind(&gate)]);
        let id = text(&deliveries(app, &site).await[0]["id"]);
        let path = format!("{DELIVERIES}/{id}/redeliver");
        app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        receiver.wait_for(2).await;
        app.clock.advance_ms(31 * DAY_MS);

        assert_eq!(delivery::expire_held(&app.app.db).await.unwrap(), 0);
        assert_eq!(deliveries(app, &site).await[0]["status"], "RETRYING");
        gate.open();
        app.drain().await;
        assert_eq!(deliveries(app, &site).await[0]["status"], "DELIVERED");
    }
}
