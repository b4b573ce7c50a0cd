//! Receivers that fail for long: their owner is told in time, and then nothing more is sent to them.

use serde_json::{Value, json};

use super::{
    FOLLOWED, SUBSCRIPTIONS, advance_to, deliveries, installed_site, millis, new_follower,
    patch_subscription, subscribe_with, unfold,
};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A subscription whose receiver fails, and another one that is told of it.
struct Failing {
    site: Site,
    subscription: String,
    receiver: Receiver,
    operator: Receiver,
    began: i64,
}

impl Failing {
    async fn new(app: &TestApp) -> Self {
        let (site, installed) = installed_site(app).await;
        let (receiver, operator) = (Receiver::start().await, Receiver::start().await);
        receiver.answer((0..200).map(|_| Reply::status(500)));
        let all = json!({"eventTypes": [FOLLOWED, "followpoints.webhooks.*"]});
        // What stands in the query is the app's own, and others are not told it.
        let url = format!("{}?token=secret", receiver.url);
        let made = subscribe_with(app, &site, &installed, &url, &all).await;
        let told = json!({"eventTypes": ["followpoints.webhooks.v1.*"]});
        subscribe_with(app, &site, &installed, &operator.url, &told).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let began = app.app.db.now().0;
        Self { site, subscription: text(&made["id"]), receiver, operator, began }
    }

    /// Moves the clock to so long after the first failure, and lets happen what is due then.
    async fn after(&self, app: &TestApp, ms: i64) {
        app.clock.advance_ms(self.began + ms - app.app.db.now().0);
        app.drain().await;
    }

    async fn subscription(&self, app: &TestApp) -> Value {
        let path = format!("{SUBSCRIPTIONS}/{}", self.subscription);
        app.call("GET", &path).key(ADMIN_KEY, &self.site.id).ok().await["webhookSubscription"].clone()
    }

    /// What the operator was told so far: types and bodies.
    fn told(&self) -> Vec<(String, Value)> {
        let events = self.operator.bodies().into_iter().map(|body| {
            let envelope = unfold(&body)["data"].clone();
            (text(&envelope["eventType"]), envelope["data"]["actionEvent"]["body"]["subscription"].clone())
        });
        events.collect()
    }
}

/// The type of the event that says so.
fn about(slug: &str) -> String {
    format!("followpoints.webhooks.v1.subscription_{slug}")
}

on_both! {
    async fn its_owner_is_warned_at_half_and_nine_tenths_of_five_days_and_then_it_is_disabled(app: &TestApp) {
        let failing = Failing::new(app).await;
        let metrics = app.call("GET", "/metrics").send().await.text;
        assert!(metrics.contains("\nfollowpoints_webhook_failing_receivers 1\n"), "{metrics}");
        let since = failing.subscription(app).await["failingSinceDate"].clone();
        assert_eq!(millis(&since), failing.began);
        failing.after(app, 60 * HOUR_MS - 1).await;
        assert_eq!(failing.told(), []);
        failing.after(app, 60 * HOUR_MS).await;
        let told = failing.told();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, about("failing"));
        let until = &told[0].1["disabledFromDate"];
        assert_eq!(millis(until), failing.began + 5 * DAY_MS);
        let mut expected = json!({"id": failing.subscription, "url": failing.receiver.url, "status": "ENABLED",
            "failingSinceDate": since, "disabledFromDate": until, "lastStatusCode": 500});
        expected["appId"] = failing.subscription(app).await["appId"].clone();
        assert_eq!(told[0].1, expected);

        failing.after(app, 108 * HOUR_MS - 1).await;
        assert_eq!(failing.told().len(), 1);
        new_follower(app, &failing.site, "u-2").await;
        failing.after(app, 108 * HOUR_MS).await;
        assert_eq!(failing.told()[1].0, about("failing"));

        // Only one delivery is exhausted so far: that may be bad luck.
        failing.after(app, 5 * DAY_MS).await;
        assert_eq!((failing.told().len(), &failing.subscription(app).await["status"]), (2, &json!("ENABLED")));
        while deliveries(app, &failing.site).await.iter().filter(|row| row["status"] == "EXHAUSTED").count() < 2 {
            let rows = deliveries(app, &failing.site).await;
            let next = rows.iter().find(|row| row["status"] == "RETRYING").expect("one goes on");
            advance_to(app, &next["nextAttemptDate"]);
            app.drain().await;
        }
        app.clock.advance_ms(600_000);
        app.drain().await;
        let disabled = failing.subscription(app).await;
        assert_eq!(
            (&disabled["status"], &disabled["statusReason"]),
            (&json!("DISABLED"), &json!("the receiver has accepted nothing for 5 days"))
        );
        let told = failing.told();
        assert_eq!((told.len(), &told[2].0), (3, &about("disabled")));
        assert_eq!(told[2].1["status"], "DISABLED");
        let count = failing.receiver.count();
        new_follower(app, &failing.site, "u-3").await;
        failing.after(app, 9 * DAY_MS).await;
        assert_eq!((failing.receiver.count(), failing.told().len()), (count, 3), "nothing more is sent or told");
    }
}

on_both! {
    async fn one_success_ends_it_and_is_told_if_the_failure_was(app: &TestApp) {
        let failing = Failing::new(app).await;
        failing.after(app, 60 * HOUR_MS).await;
        assert_eq!(failing.told().len(), 1);
        failing.receiver.recover();
        new_follower(app, &failing.site, "u-2").await;
        app.drain().await;
        let told = failing.told();
        assert_eq!((told.len(), &told[1].0), (2, &about("recovered")));
        assert_eq!(["failingSinceDate", "lastStatusCode"].map(|name| told[1].1.get(name)), [None, None]);
        assert_eq!(failing.subscription(app).await.get("failingSinceDate"), None);
        failing.after(app, 20 * DAY_MS).await;
        assert_eq!(failing.told().len(), 2);
    }
}

on_both! {
    async fn a_short_failure_is_told_to_nobody(app: &TestApp) {
        let failing = Failing::new(app).await;
        failing.receiver.recover();
        failing.after(app, 2 * HOUR_MS).await;
        assert_eq!(failing.subscription(app).await.get("failingSinceDate"), None);
        failing.after(app, 20 * DAY_MS).await;
        assert_eq!(failing.told(), []);
    }
}

on_both! {
    async fn enabling_it_again_gives_it_all_the_time_anew(app: &TestApp) {
        let failing = Failing::new(app).await;
        failing.after(app, 60 * HOUR_MS).await;
        let id = &failing.subscription;
        patch_subscription(app, &failing.site, id, &json!({"status": "PAUSED"})).await;
        failing.after(app, 30 * DAY_MS).await;
        assert_eq!((failing.told().len(), &failing.subscription(app).await["status"]), (1, &json!("PAUSED")));
        patch_subscription(app, &failing.site, id, &json!({"status": "ENABLED"})).await;
        new_follower(app, &failing.site, "u-2").await;
        app.drain().await;
        let again = app.app.db.now().0;
        assert_eq!(millis(&failing.subscription(app).await["failingSinceDate"]), again);
        failing.after(app, again - failing.began + 60 * HOUR_MS - 1).await;
        assert_eq!(failing.told().len(), 1);
        failing.after(app, again - failing.began + 60 * HOUR_MS).await;
        assert_eq!(failing.told().len(), 2);
    }
}

on_both! {
    async fn another_url_is_another_receiver(app: &TestApp) {
        let failing = Failing::new(app).await;
        let id = &failing.subscription;
        let same = failing.subscription(app).await["url"].clone();
        patch_subscription(app, &failing.site, id, &json!({"url": same})).await;
        assert!(failing.subscription(app).await.get("failingSinceDate").is_some(), "it is the same");
        let other = Receiver::start().await;
        patch_subscription(app, &failing.site, id, &json!({"url": other.url})).await;
        assert_eq!(failing.subscription(app).await.get("failingSinceDate"), None);
        failing.after(app, 20 * DAY_MS).await;
        assert_eq!(failing.told(), []);
    }
}

on_both! {
    async fn who_was_told_of_a_failure_is_told_of_its_end_whatever_the_owner_did_meanwhile(app: &TestApp) {
        for is_other_url in [true, false] {
            let failing = Failing::new(app).await;
            failing.after(app, 60 * HOUR_MS).await;
            let other = Receiver::start().await;
            let (site, id) = (&failing.site, &failing.subscription);
            if is_other_url {
                patch_subscription(app, site, id, &json!({"url": other.url})).await;
            } else {
                for status in ["PAUSED", "ENABLED"] {
                    patch_subscription(app, site, id, &json!({"status": status})).await;
                }
            }
            let receiver = if is_other_url { &other } else { &failing.receiver };
            // A new failure, too short to be told, changes nothing of it.
            failing.receiver.recover();
            receiver.answer([Reply::status(500)]);
            new_follower(app, site, "u-2").await;
            app.drain().await;
            assert!(failing.subscription(app).await.get("failingSinceDate").is_some());
            let kinds = || failing.told().into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
            assert_eq!(kinds(), [about("failing")]);
            for name in ["u-3", "u-4"] {
                new_follower(app, site, name).await;
                app.drain().await;
                assert_eq!(kinds(), ["failing", "recovered"].map(about), "once");
            }
            failing.after(app, 20 * DAY_MS).await;
            assert_eq!(kinds().len(), 2);
        }
    }
}

on_both! {
    async fn what_is_about_to_be_told_is_not_forgotten_when_the_url_changes(app: &TestApp) {
        use entity::endpoint;
        use entity::id::SubscriptionId;
        use entity::kinds::EndpointNotice;
        use sea_orm::sea_query::Expr;
        use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

        let failing = Failing::new(app).await;
        failing.after(app, 60 * HOUR_MS).await;
        let tx = app.app.db.write().await.unwrap();
        // As an outcome leaves it, but a little later, so that nobody looks before the change.
        endpoint::Entity::update_many()
            .col_expr(endpoint::Column::FailingSince, Expr::val(None::<i64>))
            .col_expr(endpoint::Column::WarnedPercent, Expr::val(0))
            .col_expr(endpoint::Column::Notice, Expr::val(EndpointNotice::Recovered.as_str()))
            .col_expr(endpoint::Column::CheckAt, Expr::val(tx.now().plus_ms(1_000).0))
            .filter(endpoint::Column::SubscriptionId.eq(SubscriptionId(failing.subscription.parse().unwrap())))
            .exec(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let other = Receiver::start().await;
        patch_subscription(app, &failing.site, &failing.subscription, &json!({"url": other.url})).await;
        app.drain().await;
        assert_eq!(failing.told().len(), 1);
        app.clock.advance_ms(1_000);
        app.drain().await;
        let kinds: Vec<String> = failing.told().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["failing", "recovered"].map(about));
    }
}

on_both! {
    async fn a_410_is_told_at_once(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (gone, operator) = (Receiver::start().await, Receiver::start().await);
        gone.answer([Reply::status(410)]);
        let subscription = text(&subscribe_with(app, &site, &installed, &gone.url, &json!({})).await["id"]);
        let all = json!({"eventTypes": ["followpoints.webhooks.v1.subscription_disabled"]});
        subscribe_with(app, &site, &installed, &operator.url, &all).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let told = unfold(&operator.bodies()[0])["data"]["data"].clone();
        assert_eq!((operator.count(), &told["entityId"], &told["slug"]), (1, &json!(subscription), &json!("disabled")));
        assert_eq!(told["actionEvent"]["body"]["subscription"]["statusReason"], "the receiver answered 410 Gone");
    }
}

on_both! {
    async fn how_a_receiver_does_is_never_told_to_itself(app: &TestApp) {
        let failing = Failing::new(app).await;
        failing.after(app, 60 * HOUR_MS).await;
        failing.receiver.recover();
        let post = async |what: &str, body: Value| {
            let path = format!("{SUBSCRIPTIONS}/{}/{what}", failing.subscription);
            app.call("POST", &path).key(ADMIN_KEY, &failing.site.id).json(&body).ok().await
        };
        let tried = post("dry-run", json!({"limit": 1})).await;
        let newest = &tried["events"][0];
        assert_eq!(
            (&newest["eventType"], &newest["matches"], &newest["refusedBy"], &tried["matchCount"]),
            (&json!(about("failing")), &json!(false), &json!("ITSELF"), &json!(0))
        );

        let started = post("replay", json!({"since": "2024-08-01T00:00:00Z", "scope": "ALL"})).await;
        app.drain().await;
        let path = format!("/admin/v1/webhook-replays/{}", text(&started["webhookReplay"]["id"]));
        let done = app.call("GET", &path).key(ADMIN_KEY, &failing.site.id).ok().await["webhookReplay"].clone();
        assert_eq!((&done["status"], &done["examinedCount"], &done["replayedCount"]), (&json!("DONE"), &json!(5), &json!(1)));
        let kinds = failing.receiver.bodies().into_iter().map(|body| text(&unfold(&body)["data"]["eventType"]));
        assert_eq!(kinds.collect::<Vec<_>>(), [FOLLOWED; 3]);
        let told: Vec<String> = failing.told().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(told, ["failing", "recovered"].map(about));
    }
}
