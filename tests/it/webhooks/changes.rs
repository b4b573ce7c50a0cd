//! What a change of a subscription means for what is waiting: disabled holds, enabled sends, a new URL counts for the
//! next try, whether the delivery waits in the database or in memory behind one that is under way.

use entity::id::Timestamp;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, advance_to, deliveries, delivery, delivery_of, installed_site,
    new_follower, patch_subscription, subscribe_with, unfold,
};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{InstalledApp, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

on_both! {
    async fn g3_a_disabled_subscription_keeps_what_waits_and_sends_it_once_enabled_again(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let waiting = delivery_of(app, &site, &subscription).await;
        assert_eq!(waiting["status"], "RETRYING");

        let disabled = patch_subscription(app, &site, &subscription, &json!({"status": "DISABLED"})).await;
        assert_eq!(
            (&disabled["status"], &disabled["statusReason"], &disabled["revision"]),
            (&json!("DISABLED"), &json!("disabled by the owner"), &json!("2"))
        );
        advance_to(app, &waiting["nextAttemptDate"]);
        app.clock.advance_ms(3_600_000);
        app.drain().await;
        let mut held = waiting.clone();
        held.as_object_mut().unwrap().remove("nextAttemptDate");
        held["held"] = json!(true);
        assert_eq!(delivery_of(app, &site, &subscription).await, held);
        assert_eq!(receiver.count(), 1);

        patch_subscription(app, &site, &subscription, &json!({"status": "ENABLED"})).await;
        receiver.wait_for(2).await;
        app.drain().await;
        let sent = delivery_of(app, &site, &subscription).await;
        assert_eq!((&sent["status"], &sent["attemptCount"]), (&json!("DELIVERED"), &json!(2)));
        let bodies = receiver.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
    }
}

on_both! {
    async fn a_new_url_counts_for_the_next_try(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        old.answer([Reply::status(500)]);
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &old.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        patch_subscription(app, &site, &subscription, &json!({"url": new.url})).await;
        advance_to(app, &delivery_of(app, &site, &subscription).await["nextAttemptDate"]);
        app.drain().await;
        assert_eq!((old.count(), new.count()), (1, 1));
        assert_eq!(old.bodies(), new.bodies());

        new_follower(app, &site, "u-2").await;
        app.drain().await;
        assert_eq!((old.count(), new.count()), (1, 2));
    }
}

/// When an endpoint is due whose subscription has changed.
const CHANGED: Timestamp = Timestamp(0);

/// A subscription that sends one event at a time, and three events: the first is under way until the gate opens and is
/// then answered with `status`, the others are queued in memory.
struct Queued {
    site: Site,
    installed: InstalledApp,
    subscription: String,
    receiver: Receiver,
    gate: Gate,
}

impl Queued {
    async fn new(app: &TestApp, status: u16) -> Self {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(status).behind(&gate)]);
        let more = json!({"maxInFlight": 1, "timeoutMs": 15_000});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
        for number in 1..=3 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        receiver.wait_for(1).await;
        Self { site, installed, subscription, receiver, gate }
    }

    /// Lets the first one be answered and waits until nothing is under way or about to be.
    async fn settle(&self, app: &TestApp) {
        self.gate.open();
        app.drain().await;
    }

    /// States from the oldest delivery to the newest.
    async fn states(&self, app: &TestApp) -> Vec<String> {
        let rows = deliveries(app, &self.site).await;
        rows.iter().rev().map(|row| text(&row["status"])).collect()
    }

    /// The events received, in order of arrival.
    fn received(&self) -> Vec<Value> {
        self.receiver.bodies().iter().map(|body| unfold(body)["jti"].clone()).collect()
    }

    /// The events of the deliveries, oldest first.
    async fn events(&self, app: &TestApp) -> Vec<Value> {
        deliveries(app, &self.site).await.iter().rev().map(|row| row["eventId"].clone()).collect()
    }
}

on_both! {
    async fn disabling_also_holds_what_is_queued_behind_a_delivery_under_way(app: &TestApp) {
        let queued = Queued::new(app, 200).await;
        patch_subscription(app, &queued.site, &queued.subscription, &json!({"status": "DISABLED"})).await;
        queued.settle(app).await;
        assert_eq!(queued.states(app).await, ["DELIVERED", "PENDING", "PENDING"]);
        assert_eq!(queued.receiver.count(), 1, "nothing is sent to a disabled subscription");

        app.clock.advance_ms(15_000);
        patch_subscription(app, &queued.site, &queued.subscription, &json!({"status": "ENABLED"})).await;
        app.drain().await;
        assert_eq!(queued.states(app).await, ["DELIVERED", "DELIVERED", "DELIVERED"]);
        assert_eq!(queued.receiver.count(), 3);
    }
}

on_both! {
    async fn a_410_also_holds_what_is_queued_behind_it(app: &TestApp) {
        let queued = Queued::new(app, 410).await;
        queued.settle(app).await;
        assert_eq!(queued.states(app).await, ["EXHAUSTED", "PENDING", "PENDING"]);
        assert_eq!(queued.receiver.count(), 1, "nothing is sent to a receiver that is gone");
    }
}

on_both! {
    async fn g3_a_410_to_what_was_cancelled_meanwhile_holds_nothing_back(app: &TestApp) {
        let queued = Queued::new(app, 410).await;
        let cancel = json!({"heldDeliveries": "CANCEL"});
        patch_subscription(app, &queued.site, &queued.subscription, &cancel).await;
        let endpoint = || entity::endpoint::Entity::find().one(app.app.db.read());
        while endpoint().await.unwrap().unwrap().due_at == CHANGED {
            // The keeper has been woken, and knows of the change before the answer comes.
            tokio::task::yield_now().await;
        }
        queued.settle(app).await;
        assert_eq!(queued.states(app).await, ["CANCELLED"; 3]);
        new_follower(app, &queued.site, "u-4").await;
        app.drain().await;
        assert_eq!(queued.states(app).await, ["CANCELLED", "CANCELLED", "CANCELLED", "DELIVERED"]);
        assert_eq!(queued.receiver.count(), 2);
    }
}

on_both! {
    async fn g3_a_410_from_the_receiver_before_does_not_disable_the_one_after(app: &TestApp) {
        let queued = Queued::new(app, 410).await;
        let new = Receiver::start().await;
        patch_subscription(app, &queued.site, &queued.subscription, &json!({"url": new.url})).await;
        queued.settle(app).await;
        app.clock.advance_ms(15_000);
        app.drain().await;
        assert_eq!(queued.states(app).await, ["DELIVERED"; 3]);
        assert_eq!((queued.receiver.count(), new.count()), (1, 3));
        let path = format!("{SUBSCRIPTIONS}/{}", queued.subscription);
        let read = app.call("GET", &path).key(ADMIN_KEY, &queued.site.id).ok().await;
        assert_eq!(read["webhookSubscription"]["status"], "ENABLED");
    }
}

on_both! {
    async fn a_new_url_also_counts_for_what_is_queued_behind_a_delivery_under_way(app: &TestApp) {
        let queued = Queued::new(app, 200).await;
        let new = Receiver::start().await;
        patch_subscription(app, &queued.site, &queued.subscription, &json!({"url": new.url})).await;
        queued.settle(app).await;
        app.clock.advance_ms(15_000);
        app.drain().await;
        assert_eq!(queued.states(app).await, ["DELIVERED", "DELIVERED", "DELIVERED"]);
        assert_eq!((queued.receiver.count(), new.count()), (1, 2));
    }
}

on_both! {
    async fn deliveries_of_a_subscription_with_one_in_flight_arrive_in_order(app: &TestApp) {
        let queued = Queued::new(app, 200).await;
        assert_eq!(queued.receiver.count(), 1);
        queued.settle(app).await;
        assert_eq!(queued.received(), queued.events(app).await);
        assert_eq!(queued.states(app).await, ["DELIVERED", "DELIVERED", "DELIVERED"]);
        assert_eq!(queued.installed.id, text(&unfold(&queued.receiver.bodies()[2])["aud"]));
    }
}

on_both! {
    async fn g3_a_failed_delivery_does_not_hold_back_the_events_after_it(app: &TestApp) {
        let queued = Queued::new(app, 500).await;
        queued.settle(app).await;
        assert_eq!(queued.states(app).await, ["RETRYING", "DELIVERED", "DELIVERED"]);
        let first = text(
            &app.admin_list(&queued.site, &format!("{DELIVERIES}?status=RETRYING"), "webhookDeliveries")
                .await[0]["id"],
        );
        advance_to(app, &delivery(app, &queued.site, &first).await["nextAttemptDate"]);
        app.drain().await;
        assert_eq!(queued.states(app).await, ["DELIVERED", "DELIVERED", "DELIVERED"]);
        let received = queued.received();
        assert_eq!((received.len(), &received[0]), (4, &received[3]));
    }
}
