//! Cancelling one delivery that waits.

use serde_json::{Value, json};

use super::{DELIVERIES, FOLLOWED, deliveries, delivery, installed_site, new_follower, subscribe_with};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::client::Answer;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const AT: &str = "2024-08-01T11:51:41.431Z";

async fn cancel(app: &TestApp, site: &Site, delivery: &str) -> Answer {
    app.call("POST", &format!("{DELIVERIES}/{delivery}/cancel")).key(ADMIN_KEY, &site.id).send().await
}

/// The states of all deliveries of the site, oldest first.
async fn states(app: &TestApp, site: &Site) -> Vec<String> {
    deliveries(app, site).await.iter().rev().map(|row| text(&row["status"])).collect()
}

on_both! {
    async fn g3_what_stands_behind_a_cancelled_delivery_goes_on_at_once(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let strict = json!({"ordering": "STRICT"});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &strict).await["id"]);
        for name in ["u-1", "u-2", "u-3"] {
            new_follower(app, &site, name).await;
            app.drain().await;
        }
        assert_eq!(states(app, &site).await, ["RETRYING", "PENDING", "PENDING"]);
        let rows = deliveries(app, &site).await;

        // One in the middle, then the first.
        for (row, left) in [(&rows[1], 1), (&rows[2], 2)] {
            let answer = cancel(app, &site, &text(&row["id"])).await;
            let mut expected = json!({
                "id": row["id"], "subscriptionId": subscription, "eventId": row["eventId"], "eventType": FOLLOWED,
                "status": "CANCELLED", "attemptCount": left - 1, "createdDate": AT, "finishedDate": AT,
            });
            if left == 2 {
                expected["lastStatusCode"] = json!(500);
            }
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"webhookDelivery": expected})));
            app.drain().await;
            assert_eq!(receiver.count(), left);
        }
        assert_eq!(states(app, &site).await, ["CANCELLED", "CANCELLED", "DELIVERED"]);
    }
}

on_both! {
    async fn what_has_ended_cannot_be_cancelled_and_what_was_cancelled_can_be_sent_again(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500), Reply::status(200), Reply::status(500)]);
        let once = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": []});
        subscribe_with(app, &site, &installed, &receiver.url, &once).await;
        let patient = text(&subscribe_with(app, &site, &installed, &receiver.url, &json!({"status": "PAUSED"})).await["id"]);
        for name in ["u-1", "u-2"] {
            new_follower(app, &site, name).await;
            app.drain().await;
        }
        let rows = deliveries(app, &site).await;
        let (held, sent): (Vec<&Value>, Vec<&Value>) =
            rows.iter().partition(|row| row["subscriptionId"] == patient.as_str());
        assert_eq!(cancel(app, &site, &text(&held[0]["id"])).await.status.as_u16(), 200);
        for (row, status) in [(held[0], "CANCELLED"), (sent[0], "DELIVERED"), (sent[1], "EXHAUSTED")] {
            let before = delivery(app, &site, &text(&row["id"])).await;
            assert_eq!(before["status"], status);
            let refused = cancel(app, &site, &text(&row["id"])).await;
            let what = format!("the delivery has ended: it is {status}");
            let body = json!({"message": what, "details": {"applicationError": {
                "code": "WEBHOOK_DELIVERY_ENDED", "description": what, "data": {},
            }}});
            assert_eq!((refused.status.as_u16(), refused.json()), (428, body));
            assert_eq!(delivery(app, &site, &text(&row["id"])).await, before);
        }
        let body = json!({"webhookSubscription": {"status": "ENABLED"}});
        let path = format!("/admin/v1/webhook-subscriptions/{patient}");
        receiver.recover();
        app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let path = format!("{DELIVERIES}/{}/redeliver", text(&held[0]["id"]));
        app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        app.drain().await;
        assert_eq!(delivery(app, &site, &text(&held[0]["id"])).await["status"], "DELIVERED");
    }
}

on_both! {
    async fn what_is_queued_is_not_sent_and_what_is_under_way_comes_into_the_log(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer([Reply::status(200).behind(&gate)]);
        let more = json!({"maxInFlight": 1, "timeoutMs": 15_000});
        subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        for name in ["u-1", "u-2", "u-3"] {
            new_follower(app, &site, name).await;
        }
        receiver.wait_for(1).await;
        let ids: Vec<String> = deliveries(app, &site).await.iter().rev().map(|row| text(&row["id"])).collect();
        let tried = text(&deliveries(app, &site).await[2]["eventId"]);
        for id in &ids[..2] {
            assert_eq!(cancel(app, &site, id).await.status.as_u16(), 200);
        }
        gate.open();
        app.drain().await;
        assert_eq!(states(app, &site).await, ["CANCELLED", "CANCELLED", "DELIVERED"]);
        assert_eq!(receiver.count(), 2);
        let first = delivery(app, &site, &ids[0]).await;
        assert_eq!((&first["eventId"], &first["attemptCount"]), (&json!(tried), &json!(1)));
        assert_eq!(first["attempts"][0]["statusCode"], 200);
    }
}

on_both! {
    async fn an_unknown_delivery_and_another_sites_are_answered_alike(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let stranger = app.site().await;
        let held = json!({"status": "PAUSED"});
        subscribe_with(app, &site, &installed, "http://127.0.0.1:1/closed", &held).await;
        new_follower(app, &site, "u-1").await;
        let id = text(&deliveries(app, &site).await[0]["id"]);
        let what = "there is no such delivery";
        let body = json!({"message": what, "details": {"applicationError": {
            "code": "WEBHOOK_DELIVERY_NOT_FOUND", "description": what, "data": {},
        }}});
        for answer in [cancel(app, &stranger, &id).await, cancel(app, &site, UNKNOWN_ID).await] {
            assert_eq!((answer.status.as_u16(), answer.json()), (404, body.clone()));
        }
        let unreadable = cancel(app, &site, "seventeen").await;
        assert_eq!(unreadable.violations(), [("id".to_owned(), "FORMAT".to_owned())]);
        assert_eq!(states(app, &site).await, ["PENDING"]);
    }
}
