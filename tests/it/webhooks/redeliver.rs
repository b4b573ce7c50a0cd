//! Sending a delivery again by hand.

use serde_json::json;

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, advance_to, deliveries, delivery_of, exhaust, installed_site, kid,
    millis, new_follower, patch_subscription, subscribe_with, unfold,
};
use crate::on_both;
use crate::support::client::Answer;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const AT: &str = "2024-08-01T11:51:41.431Z";

async fn redeliver(app: &TestApp, site: &Site, delivery: &str) -> Answer {
    app.call("POST", &format!("{DELIVERIES}/{delivery}/redeliver")).key(ADMIN_KEY, &site.id).send().await
}

/// The same where it must succeed, until it is sent.
async fn sent_again(app: &TestApp, site: &Site, delivery: &str) {
    let answer = redeliver(app, site, delivery).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    app.drain().await;
}

on_both! {
    async fn g3_a_delivered_one_is_sent_again_with_the_same_bytes_and_counts_on(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let before = delivery_of(app, &site, &subscription).await;
        let id = text(&before["id"]);

        app.clock.advance_ms(60_000);
        let gate = Gate::closed();
        receiver.answer([Reply::status(202).behind(&gate)]);
        let answer = redeliver(app, &site, &id).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (
                200,
                json!({"webhookDelivery": {
                    "id": id, "subscriptionId": subscription, "eventId": before["eventId"], "status": "RETRYING",
                    "eventType": FOLLOWED, "attemptCount": 1, "lastStatusCode": 200, "createdDate": AT,
                    "nextAttemptDate": "2024-08-01T11:52:41.431Z",
                }})
            )
        );
        receiver.wait_for(2).await;
        gate.open();
        app.drain().await;

        let after = delivery_of(app, &site, &subscription).await;
        let headers = json!({"content-length": "0"});
        assert_eq!(
            after,
            json!({
                "id": id, "subscriptionId": subscription, "eventId": before["eventId"], "status": "DELIVERED",
                "eventType": FOLLOWED, "attemptCount": 2, "lastStatusCode": 202, "createdDate": AT,
                "finishedDate": "2024-08-01T11:52:41.431Z",
                "attempts": [
                    {"number": 1, "startedDate": AT, "statusCode": 200, "responseHeaders": headers},
                    {"number": 2, "startedDate": "2024-08-01T11:52:41.431Z", "statusCode": 202, "responseHeaders": headers},
                ],
            })
        );
        let bodies = receiver.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
    }
}

on_both! {
    async fn g3_an_exhausted_one_gets_the_whole_schedule_again_and_counts_on(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer((0..14).map(|_| Reply::status(500)));
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        exhaust(app, &site, &subscription).await;
        let exhausted = delivery_of(app, &site, &subscription).await;
        assert_eq!((&exhausted["attemptCount"], receiver.count()), (&json!(13), 13));

        app.clock.advance_ms(1);
        let again_at = app.app.db.now().0;
        sent_again(app, &site, &text(&exhausted["id"])).await;
        let failed = delivery_of(app, &site, &subscription).await;
        assert_eq!((&failed["status"], &failed["attemptCount"]), (&json!("RETRYING"), &json!(14)));
        let waits = millis(&failed["nextAttemptDate"]) - again_at;
        assert!((60_000..=66_000).contains(&waits), "the schedule begins anew, but waits for {waits}");

        advance_to(app, &failed["nextAttemptDate"]);
        app.drain().await;
        let sent = delivery_of(app, &site, &subscription).await;
        assert_eq!((&sent["status"], &sent["attemptCount"]), (&json!("DELIVERED"), &json!(15)));
        let numbers: Vec<_> = sent["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| attempt["number"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
        let bodies = receiver.bodies();
        assert_eq!(bodies.len(), 15);
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    }
}

on_both! {
    async fn one_that_waits_is_sent_at_once_and_one_under_way_is_left_alone(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(500), Reply::status(200).behind(&gate)]);
        let more = json!({"timeoutMs": 15_000});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let id = text(&delivery_of(app, &site, &subscription).await["id"]);

        assert_eq!(redeliver(app, &site, &id).await.status.as_u16(), 200);
        receiver.wait_for(2).await;
        let under_way = redeliver(app, &site, &id).await;
        assert_eq!(under_way.json()["webhookDelivery"]["status"], "RETRYING");
        gate.open();
        app.drain().await;

        let sent = delivery_of(app, &site, &subscription).await;
        assert_eq!((&sent["status"], &sent["attemptCount"]), (&json!("DELIVERED"), &json!(2)));
        assert_eq!(receiver.count(), 2);
    }
}

on_both! {
    async fn a_redeliver_for_a_disabled_subscription_or_of_an_unknown_delivery_is_refused(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let stranger = app.site().await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let delivery = delivery_of(app, &site, &subscription).await;
        let id = text(&delivery["id"]);

        let unknown = redeliver(app, &site, "01a1fae0-1eff-77b5-972a-09dcdce0937d").await;
        let description = "there is no such delivery";
        assert_eq!(
            (unknown.status.as_u16(), unknown.json()),
            (
                404,
                json!({"message": description, "details": {"applicationError": {
                    "code": "WEBHOOK_DELIVERY_NOT_FOUND", "description": description, "data": {},
                }}})
            )
        );
        let foreign = redeliver(app, &stranger, &id).await;
        assert_eq!((foreign.status.as_u16(), foreign.json()), (404, unknown.json()));
        let unreadable = redeliver(app, &site, "seventeen").await;
        assert_eq!(unreadable.violations(), [("id".to_owned(), "FORMAT".to_owned())]);

        patch_subscription(app, &site, &subscription, &json!({"status": "DISABLED"})).await;
        let description = "the webhook subscription of this delivery is deleted or not enabled";
        let refused = (
            428,
            json!({"message": description, "details": {"applicationError": {
                "code": "WEBHOOK_SUBSCRIPTION_NOT_ENABLED", "description": description, "data": {},
            }}}),
        );
        let disabled = redeliver(app, &site, &id).await;
        assert_eq!((disabled.status.as_u16(), disabled.json()), refused);
        let path = format!("{SUBSCRIPTIONS}/{subscription}");
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        let deleted = redeliver(app, &site, &id).await;
        assert_eq!((deleted.status.as_u16(), deleted.json()), refused);

        app.drain().await;
        assert_eq!((receiver.count(), delivery_of(app, &site, &subscription).await), (1, delivery));
    }
}

on_both! {
    async fn a_token_is_signed_anew_once_it_has_expired_and_not_before(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let id = text(&delivery_of(app, &site, &subscription).await["id"]);

        // The token of 11:51:41.431 was issued at 11:51:41 and lives 300 000 s.
        app.clock.advance_ms(300_000_000 - 431 - 1);
        sent_again(app, &site, &id).await;
        app.clock.advance_ms(1);
        sent_again(app, &site, &id).await;
        app.clock.advance_ms(1_000);
        sent_again(app, &site, &id).await;

        let bodies = receiver.bodies();
        assert_eq!(bodies.len(), 4);
        assert_eq!(bodies[0], bodies[1], "the old one is still good");
        assert_eq!(bodies[2], bodies[3], "the new one is kept");
        let (old, mut new) = (unfold(&bodies[1]), unfold(&bodies[2]));
        assert_eq!((&old["iat"], &old["exp"]), (&json!(1_722_513_101), &json!(1_722_813_101)));
        assert_eq!((&new["iat"], &new["exp"]), (&json!(1_722_813_101), &json!(1_723_113_101)));
        new["iat"] = old["iat"].clone();
        new["exp"] = old["exp"].clone();
        assert_eq!(new, old, "only the times differ");
        assert_eq!(kid(&bodies[2]), installed.key_id);
    }
}

/// The states of all deliveries of the site, oldest first.
async fn states(app: &TestApp, site: &Site) -> Vec<String> {
    deliveries(app, site).await.iter().rev().map(|row| text(&row["status"])).collect()
}

on_both! {
    async fn what_was_accepted_before_holds_up_nothing(app: &TestApp) {
        for ordering in ["STRICT", "PER_ENTITY"] {
            let (site, installed) = installed_site(app).await;
            let receiver = Receiver::start().await;
            let more = json!({"ordering": ordering});
            subscribe_with(app, &site, &installed, &receiver.url, &more).await;
            let member = new_follower(app, &site, "u-1").await;
            app.drain().await;
            let id = text(&deliveries(app, &site).await[0]["id"]);
            // Also when it is sent once more while it waits.
            receiver.answer([Reply::status(500), Reply::status(500)]);
            for _ in 0..2 {
                app.clock.advance_ms(1);
                sent_again(app, &site, &id).await;
                assert_eq!(states(app, &site).await, ["RETRYING"], "{ordering}");
            }
            app.follow(&member, "INSTAGRAM").await;
            app.drain().await;
            assert_eq!(states(app, &site).await, ["RETRYING", "DELIVERED"], "{ordering}");
            assert_eq!(receiver.count(), 4, "{ordering}");
        }
    }
}

on_both! {
    async fn what_was_never_accepted_keeps_to_the_order_that_the_subscription_has_by_then(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500), Reply::status(500)]);
        let more = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": []});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        assert_eq!(states(app, &site).await, ["EXHAUSTED"]);
        let strict = json!({"ordering": "STRICT", "retryDelaysSeconds": [60]});
        patch_subscription(app, &site, &subscription, &strict).await;
        let first = deliveries(app, &site).await[0].clone();
        sent_again(app, &site, &text(&first["id"])).await;
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        assert_eq!(states(app, &site).await, ["RETRYING", "PENDING"]);
        assert_eq!(receiver.count(), 2);

        let waiting = deliveries(app, &site).await[1].clone();
        assert_eq!(waiting["id"], first["id"]);
        advance_to(app, &waiting["nextAttemptDate"]);
        app.drain().await;
        assert_eq!(states(app, &site).await, ["DELIVERED", "DELIVERED"]);
        assert_eq!(unfold(&receiver.bodies()[2])["jti"], first["eventId"], "in their order");
    }
}
