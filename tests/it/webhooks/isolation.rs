//! One slow or dead receiver never delays another.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{DELIVERIES, installed_site, new_follower, subscribe_with};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ENOUGH, TestApp};

/// Makes followers one after the other, so that each finds the receivers as the one before left them.
async fn followers(app: &TestApp, site: &Site, count: usize) {
    for number in 0..count {
        new_follower(app, site, &format!("u-{number}")).await;
    }
}

on_both! {
    async fn hanging_deliveries_of_one_subscription_do_not_delay_another(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (hanging, healthy) = (Receiver::start().await, Receiver::start().await);
        let gate = Gate::closed();
        hanging.answer((0..12).map(|_| Reply::status(200).behind(&gate)));
        let more = json!({"eventTypes": ALL_EVENTS, "maxInFlight": 3, "timeoutMs": 15_000});
        subscribe_with(app, &site, &installed, &hanging.url, &more).await;
        let more = json!({"eventTypes": ALL_EVENTS, "maxInFlight": 1, "timeoutMs": 15_000});
        let other = text(&subscribe_with(app, &site, &installed, &healthy.url, &more).await["id"]);
        followers(app, &site, 3).await;

        healthy.wait_for(12).await;
        assert_eq!(hanging.wait_for(3).await.len(), 3, "never more at once than the subscription allows");
        let mut looks = tokio::time::interval(crate::support::process::LOOK);
        let path = format!("{DELIVERIES}?subscriptionId={other}&status=DELIVERED");
        let delivered = async {
            while app.admin_list(&site, &path, "webhookDeliveries").await.len() < 12 {
                looks.tick().await;
            }
        };
        tokio::time::timeout(ENOUGH, delivered).await.expect("its outcomes are written too");
        assert_eq!(hanging.count(), 3, "all that time the other hung");

        gate.open();
        app.drain().await;
        assert_eq!((hanging.count(), healthy.count()), (12, 12));
    }
}

on_both! {
    async fn a_receiver_that_keeps_failing_is_tried_one_at_a_time_and_delays_nobody(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (dead, healthy) = (Receiver::start().await, Receiver::start().await);
        let gate = Gate::closed();
        dead.answer((0..40).map(|_| Reply::status(500)));
        let more = json!({"eventTypes": ALL_EVENTS, "maxInFlight": 256, "timeoutMs": 15_000});
        subscribe_with(app, &site, &installed, &dead.url, &more).await;
        followers(app, &site, 10).await;
        app.drain().await;
        assert_eq!(dead.count(), 40);

        subscribe_with(app, &site, &installed, &healthy.url, &json!({"timeoutMs": 15_000})).await;
        dead.answer((0..44).map(|_| Reply::status(500).behind(&gate)));
        app.clock.advance_ms(66_000);
        app.app.dispatcher.wake();
        dead.wait_for(41).await;
        new_follower(app, &site, "late").await;
        healthy.wait_for(1).await;
        assert_eq!(dead.count(), 41, "39 resends and 4 first tries wait for the one that hangs");
        let held = app.app.dispatcher.health().held;
        assert!(held <= 6, "of those, four wait in memory, and the rest in the database: {held}");

        gate.open();
        app.drain().await;
        let retrying = app
            .admin_list(&site, &format!("{DELIVERIES}?status=RETRYING&limit=100"), "webhookDeliveries")
            .await;
        let tries: Vec<&Value> = retrying.iter().map(|row| &row["attemptCount"]).collect();
        assert_eq!(tries.iter().filter(|tries| **tries == 2).count(), 40);
        assert_eq!((tries.len(), healthy.count()), (44, 1));
    }
}

on_both! {
    async fn a_due_delivery_is_sent_once_however_many_look_for_due_ones_at_once(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer((0..400).map(|_| Reply::status(500)));
        let more = json!({"eventTypes": ALL_EVENTS, "timeoutMs": 15_000});
        subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        followers(app, &site, 20).await;
        app.drain().await;
        let path = format!("{DELIVERIES}?limit=100");
        for (tries, minutes) in [(2, 2), (3, 11), (4, 66), (5, 132), (6, 132)] {
            app.clock.advance_ms(minutes * 60_000);
            join_all((0..8).map(|_| app.drain())).await;
            let rows = app.admin_list(&site, &path, "webhookDeliveries").await;
            let counts: Vec<_> = rows.iter().map(|row| row["attemptCount"].as_u64().unwrap()).collect();
            assert_eq!(counts, vec![tries; 80]);
            assert_eq!(receiver.count() as u64, tries * 80);
        }
    }
}
