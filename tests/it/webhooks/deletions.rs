//! Deleting a subscription cancels what waits for it, and nothing brings it back.

use serde_json::{Value, json};

use super::{
    FOLLOWED, SUBSCRIPTIONS, advance_to, deliveries, delivery_of, installed_site, new_follower,
    subscribe_with,
};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const AT: &str = "2024-08-01T11:51:41.431Z";

async fn delete(app: &TestApp, site: &Site, subscription: &str) {
    let path = format!("{SUBSCRIPTIONS}/{subscription}");
    assert_eq!(app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await, json!({}));
}

on_both! {
    async fn deleting_cancels_what_waits_and_keeps_the_log(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        receiver.answer([Reply::status(500)]);
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        let [waiting, done] = <[Value; 2]>::try_from(deliveries(app, &site).await).unwrap();
        assert_eq!((&waiting["status"], &done["status"]), (&json!("RETRYING"), &json!("DELIVERED")));

        app.clock.advance_ms(1_000);
        delete(app, &site, &subscription).await;
        let cancelled = json!({
            "id": waiting["id"], "subscriptionId": subscription, "eventId": waiting["eventId"],
            "eventType": FOLLOWED, "status": "CANCELLED", "attemptCount": 1, "lastStatusCode": 500, "createdDate": AT,
            "finishedDate": "2024-08-01T11:51:42.431Z",
        });
        assert_eq!(deliveries(app, &site).await, [cancelled.clone(), done.clone()]);

        advance_to(app, &waiting["nextAttemptDate"]);
        app.clock.advance_ms(3_600_000);
        new_follower(app, &site, "u-3").await;
        app.drain().await;
        assert_eq!(deliveries(app, &site).await, [cancelled, done]);
        assert_eq!(receiver.count(), 2);
        let path = format!("{SUBSCRIPTIONS}/{subscription}");
        for method in ["GET", "DELETE"] {
            let answer = app.call(method, &path).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(answer.error(), (404, "WEBHOOK_SUBSCRIPTION_NOT_FOUND".to_owned()));
        }
        assert_eq!(app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await, Vec::<Value>::new());
    }
}

on_both! {
    async fn a_success_that_comes_after_the_deletion_does_not_bring_the_delivery_back(app: &TestApp) {
        for status in [200, 500, 410] {
            let (site, installed) = installed_site(app).await;
            let receiver = Receiver::start().await;
            let gate = Gate::closed();
            receiver.answer([Reply::status(status).behind(&gate)]);
            let more = json!({"timeoutMs": 15_000});
            let id = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
            new_follower(app, &site, "u-1").await;
            receiver.wait_for(1).await;

            delete(app, &site, &id).await;
            let cancelled = delivery_of(app, &site, &id).await;
            assert_eq!(cancelled["status"], "CANCELLED");
            app.clock.advance_ms(1_000);
            gate.open();
            app.drain().await;

            let delivery = delivery_of(app, &site, &id).await;
            for field in ["status", "finishedDate", "nextAttemptDate"] {
                assert_eq!(delivery.get(field), cancelled.get(field), "{field} after {status}");
            }
            assert_eq!((&delivery["attemptCount"], &delivery["attempts"][0]["statusCode"]), (&json!(1), &json!(status)));
            app.clock.advance_ms(86_400_000);
            app.drain().await;
            assert_eq!(receiver.count(), 1);
            assert_eq!(delivery_of(app, &site, &id).await, delivery);
        }
    }
}

on_both! {
    async fn what_is_queued_behind_a_delivery_under_way_is_not_sent_after_the_deletion(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(200).behind(&gate)]);
        let more = json!({"maxInFlight": 1, "timeoutMs": 15_000});
        let id = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
        new_follower(app, &site, "u-1").await;
        new_follower(app, &site, "u-2").await;
        receiver.wait_for(1).await;

        delete(app, &site, &id).await;
        gate.open();
        app.drain().await;

        let states: Vec<_> = deliveries(app, &site).await.iter().map(|row| row["status"].clone()).collect();
        assert_eq!(states, ["CANCELLED", "CANCELLED"]);
        assert_eq!(receiver.count(), 1, "what was cancelled is not sent");
    }
}
