//! G3: a receiver that fails is tried again, with the same event id and the same bytes, until the schedule has ended.

use serde_json::{Value, json};

use super::{
    DELIVERIES, FOLLOWED, advance_to, deliveries, delivery_of, installed_site, millis, new_follower,
    patch_subscription, subscribe_with, unfold,
};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, text};

const AT: &str = "2024-08-01T11:51:41.431Z";
const MINUTE: i64 = 60_000;
/// Wix's waits between tries, and the jitter that may be added: a tenth, but 1 s at least and 15 min at most.
const WAITS: [(i64, i64); 12] = [
    (MINUTE, 6_000),
    (10 * MINUTE, MINUTE),
    (60 * MINUTE, 6 * MINUTE),
    (120 * MINUTE, 12 * MINUTE),
    (120 * MINUTE, 12 * MINUTE),
    (120 * MINUTE, 12 * MINUTE),
    (240 * MINUTE, 15 * MINUTE),
    (240 * MINUTE, 15 * MINUTE),
    (240 * MINUTE, 15 * MINUTE),
    (480 * MINUTE, 15 * MINUTE),
    (480 * MINUTE, 15 * MINUTE),
    (720 * MINUTE, 15 * MINUTE),
];

on_both! {
    async fn g3_a_failing_receiver_gets_thirteen_tries_and_the_delivery_ends_as_exhausted(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer((0..13).map(|_| Reply::status(500).body("no")));
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let mut tried_at = vec![json!(AT)];
        for (tries, (wait, jitter)) in (1_usize..).zip(WAITS) {
            let delivery = delivery_of(app, &site, &subscription).await;
            assert_eq!((&delivery["status"], &delivery["attemptCount"]), (&json!("RETRYING"), &json!(tries)));
            let due = &delivery["nextAttemptDate"];
            let waits = millis(due) - millis(tried_at.last().unwrap());
            assert!((wait..=wait + jitter).contains(&waits), "try {tries}: waits for {waits}");
            app.clock.advance_ms(waits - 1);
            app.drain().await;
            assert_eq!(receiver.count(), tries, "nothing is sent a millisecond early");
            app.clock.advance_ms(1);
            app.drain().await;
            assert_eq!(receiver.count(), tries + 1);
            tried_at.push(due.clone());
        }

        let delivery = delivery_of(app, &site, &subscription).await;
        let attempts: Vec<Value> = (1..)
            .zip(&tried_at)
            .map(|(number, at)| {
                json!({
                    "number": number, "startedDate": at, "statusCode": 500,
                    "responseHeaders": {"content-length": "2"}, "responseBody": "no",
                })
            })
            .collect();
        assert_eq!(
            delivery,
            json!({
                "id": delivery["id"], "subscriptionId": subscription, "eventId": delivery["eventId"],
                "eventType": FOLLOWED, "status": "EXHAUSTED", "attemptCount": 13, "lastStatusCode": 500,
                "createdDate": AT, "finishedDate": tried_at[12], "attempts": attempts,
            })
        );
        app.clock.advance_ms(30 * 24 * 60 * MINUTE);
        app.drain().await;
        let sent = receiver.bodies();
        assert_eq!(sent.len(), 13);
        assert!(sent.iter().all(|body| *body == sent[0]), "every try sends the same bytes");
        assert_eq!(unfold(&sent[0])["jti"], delivery["eventId"]);
    }
}

on_both! {
    async fn retry_after_delays_the_next_try_by_twelve_hours_at_most_and_never_hastens_it(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let mut cases = Vec::new();
        for (status, hint, due) in [
            (429, "3600", Some("2024-08-01T12:51:41.431Z")),
            (503, "Thu, 01 Aug 2024 13:51:41 GMT", Some("2024-08-01T13:51:41.000Z")),
            (500, "99999999999999999999999999", Some("2024-08-01T23:51:41.431Z")),
            (302, "99999999", Some("2024-08-01T23:51:41.431Z")),
            (429, "Fri, 01 Jan 2100 00:00:00 GMT", Some("2024-08-01T23:51:41.431Z")),
            (429, "5", None),
            (429, "0", None),
            (429, "-3600", None),
            (429, "Thu, 01 Aug 2024 11:00:00 GMT", None),
            (429, "an hour", None),
        ] {
            let receiver = Receiver::start().await;
            receiver.answer([Reply::status(status).header("retry-after", hint)]);
            let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
            cases.push((status, hint, due, subscription));
        }
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        for (status, hint, due, subscription) in cases {
            let delivery = delivery_of(app, &site, &subscription).await;
            assert_eq!(
                (&delivery["status"], &delivery["attemptCount"]),
                (&json!("RETRYING"), &json!(1)),
                "{hint}"
            );
            assert_eq!(delivery["attempts"][0]["statusCode"], status);
            assert_eq!(delivery["attempts"][0]["responseHeaders"]["retry-after"], hint);
            let next = &delivery["nextAttemptDate"];
            match due {
                Some(due) => assert_eq!(next, due, "{hint}"),
                None => {
                    let waits = millis(next) - millis(&json!(AT));
                    assert!((MINUTE..=MINUTE + 6_000).contains(&waits), "{hint}: waits for {waits}");
                }
            }
        }
    }
}

on_both! {
    async fn g3_each_subscription_active_at_the_commit_gets_each_event_under_one_id_always(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
        let [steady, flaky, late] = &receivers;
        flaky.answer((0..8).map(|_| Reply::status(503)));
        app.subscribe(&site, &installed, &ALL_EVENTS, &steady.url).await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &flaky.url).await;
        let disabled = json!({"status": "DISABLED"});
        let off = subscribe_with(app, &site, &installed, &late.url, &disabled).await;
        new_follower(app, &site, "u-1").await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &late.url).await;
        patch_subscription(app, &site, &text(&off["id"]), &json!({"status": "ENABLED"})).await;
        app.drain().await;
        for _ in 0..2 {
            for delivery in deliveries(app, &site).await {
                if delivery["status"] == "RETRYING"
                    && millis(&delivery["nextAttemptDate"]) > app.app.db.now().0
                {
                    advance_to(app, &delivery["nextAttemptDate"]);
                }
            }
            app.drain().await;
        }

        let mut ids: Vec<String> = app
            .admin_list(&site, "/admin/v1/events", "events")
            .await
            .iter()
            .map(|event| text(&event["id"]))
            .collect();
        ids.sort();
        assert_eq!(ids.len(), 4);
        let sent = |receiver: &Receiver| {
            let mut sent: Vec<String> =
                receiver.bodies().iter().map(|body| text(&unfold(body)["jti"])).collect();
            sent.sort();
            sent
        };
        assert_eq!(sent(steady), ids);
        assert_eq!(
            sent(flaky),
            ids.iter().flat_map(|id| [id.clone(), id.clone(), id.clone()]).collect::<Vec<_>>()
        );
        let followed = format!("/admin/v1/events?type={FOLLOWED}");
        let held = app.admin_list(&site, &followed, "events").await;
        assert_eq!(sent(late), [text(&held[0]["id"])], "held by the one that was off, not known to the new one");
        let path = format!("{DELIVERIES}?status=DELIVERED");
        assert_eq!(app.admin_list(&site, &path, "webhookDeliveries").await.len(), 9);
    }
}

on_both! {
    async fn g3_a_clock_that_goes_back_a_day_loses_nothing_and_delays_nothing(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        app.clock.advance_ms(-24 * 60 * MINUTE);
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        let states = |rows: Vec<Value>| rows.iter().map(|row| text(&row["status"])).collect::<Vec<_>>();
        assert_eq!(unfold(&receiver.bodies()[1])["data"]["data"]["eventTime"], "2024-07-31T11:51:41.431Z");
        assert_eq!(states(deliveries(app, &site).await), ["DELIVERED", "DELIVERED"]);
        let bodies = receiver.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (3, &bodies[2]), "the resend does not wait for a day to come again");
    }
}
