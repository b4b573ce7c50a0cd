//! In which order deliveries are sent is the subscription's choice: none, per account, or all one after the other.

use serde_json::{Value, json};

use super::{
    SUBSCRIPTIONS, advance_to, deliveries, installed_site, new_follower, patch_subscription, subscribe_with,
    unfold,
};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, InstalledApp, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

/// Events that a first follow makes: the account, the follow, the points, the account as it then is.
const PER_FOLLOW: usize = 4;

async fn subscribed(app: &TestApp, ordering: &str, more: Value) -> (Site, InstalledApp, Receiver, String) {
    let (site, installed) = installed_site(app).await;
    let receiver = Receiver::start().await;
    let mut settings = json!({"eventTypes": ALL_EVENTS, "ordering": ordering});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = subscribe_with(app, &site, &installed, &receiver.url, &settings).await;
    assert_eq!(made["ordering"], ordering);
    (site, installed, receiver, text(&made["id"]))
}

/// The ids of the events of all requests so far, in the order in which they came.
fn told(receiver: &Receiver) -> Vec<String> {
    receiver.bodies().iter().map(|body| text(&unfold(body)["jti"])).collect()
}

/// The ids of the site's deliveries' events, oldest first, with their states.
async fn log(app: &TestApp, site: &Site) -> Vec<(String, String)> {
    let rows = deliveries(app, site).await;
    rows.iter().rev().map(|row| (text(&row["eventId"]), text(&row["status"]))).collect()
}

async fn retry(app: &TestApp, site: &Site) {
    let rows = deliveries(app, site).await;
    let waiting = rows.iter().find(|row| row["status"] == "RETRYING").expect("one is to be tried again");
    advance_to(app, &waiting["nextAttemptDate"]);
    app.drain().await;
}

on_both! {
    async fn per_entity_what_fails_holds_up_its_account_and_no_other(app: &TestApp) {
        let (site, _, receiver, _) = subscribed(app, "PER_ENTITY", json!({})).await;
        receiver.answer([Reply::status(500)]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        assert_eq!(receiver.count(), 1, "the three behind it wait");
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        assert_eq!(receiver.count(), 1 + PER_FOLLOW);
        let rows = log(app, &site).await;
        let states: Vec<&str> = rows.iter().map(|(_, status)| status.as_str()).collect();
        assert_eq!(states[..PER_FOLLOW], ["RETRYING", "PENDING", "PENDING", "PENDING"]);
        assert_eq!(states[PER_FOLLOW..], ["DELIVERED"; PER_FOLLOW]);

        receiver.answer([Reply::status(503)]);
        retry(app, &site).await;
        assert_eq!(receiver.count(), 2 + PER_FOLLOW, "it fails again, and they wait again");
        retry(app, &site).await;
        let ids: Vec<String> = rows.into_iter().map(|(id, _)| id).collect();
        let told = told(&receiver);
        assert_eq!(told[0], ids[0]);
        assert_eq!(told[1..=PER_FOLLOW], ids[PER_FOLLOW..]);
        assert_eq!(told[PER_FOLLOW + 1], ids[0]);
        assert_eq!(told[PER_FOLLOW + 2..], ids[..PER_FOLLOW], "in the order in which they happened");
    }
}

on_both! {
    async fn per_entity_nobody_waits_for_what_others_have_waiting_however_much_that_is(app: &TestApp) {
        use entity::delivery;
        use entity::id::{DeliveryId, EventId, SiteId, SubscriptionId};
        use entity::kinds::DeliveryStatus;
        use sea_orm::EntityTrait as _;

        let (site, _, receiver, id) = subscribed(app, "PER_ENTITY", json!({})).await;
        let tx = app.app.db.write().await.unwrap();
        let (now, later) = (tx.now(), tx.now().plus_ms(3_600_000));
        // Of each account the first is tried again in an hour, and four wait behind it: more in all than a look goes through.
        let waiting = (0..1_100).flat_map(|_| {
            let account = tx.new_id();
            (0..5).map(move |place| (account, place))
        });
        let rows: Vec<delivery::ActiveModel> = waiting
            .map(|(account, place)| {
                delivery::ActiveModel::from(delivery::Model {
                    site_id: SiteId(site.id.parse().unwrap()),
                    id: DeliveryId(tx.new_id()),
                    subscription_id: SubscriptionId(id.parse().unwrap()),
                    event_id: EventId(tx.new_id()),
                    status: if place == 0 { DeliveryStatus::Retrying } else { DeliveryStatus::Pending },
                    attempt_count: i32::from(place == 0),
                    schedule_step: i32::from(place == 0),
                    next_attempt_at: if place == 0 { later } else { now },
                    order_key: Some(account),
                    created_at: now,
                    finished_at: None,
                })
            })
            .collect();
        for part in rows.chunks(1_000) {
            let insert = delivery::Entity::insert_many(part.to_vec());
            insert.exec_without_returning(tx.conn()).await.unwrap();
        }
        tx.commit().await.unwrap();
        app.clock.advance_ms(1_000);
        for name in ["u-1", "u-2", "u-3"] {
            new_follower(app, &site, name).await;
        }
        app.drain().await;
        assert_eq!(receiver.count(), 3 * PER_FOLLOW);
        let rows = log(app, &site).await;
        let states: Vec<&str> = rows.iter().rev().take(3 * PER_FOLLOW).map(|(_, status)| status.as_str()).collect();
        assert_eq!(states, ["DELIVERED"; 3 * PER_FOLLOW]);
    }
}

on_both! {
    async fn strict_sends_everything_in_the_order_in_which_it_happened(app: &TestApp) {
        let (site, _, receiver, _) = subscribed(app, "STRICT", json!({})).await;
        receiver.answer([Reply::status(200), Reply::status(500)]);
        for name in ["u-1", "u-2", "u-3"] {
            new_follower(app, &site, name).await;
        }
        app.drain().await;
        assert_eq!(receiver.count(), 2, "everything waits behind the second");
        retry(app, &site).await;
        let ids: Vec<String> = log(app, &site).await.into_iter().map(|(id, _)| id).collect();
        let mut expected = ids.clone();
        expected.insert(1, ids[1].clone());
        assert_eq!((told(&receiver), ids.len()), (expected, 3 * PER_FOLLOW));
    }
}

on_both! {
    async fn strict_goes_on_once_a_delivery_is_exhausted(app: &TestApp) {
        let once = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": []});
        let (site, _, receiver, _) = subscribed(app, "STRICT", once).await;
        receiver.answer([Reply::status(500)]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let rows = log(app, &site).await;
        let states: Vec<&str> = rows.iter().map(|(_, status)| status.as_str()).collect();
        assert_eq!(states, ["EXHAUSTED", "DELIVERED", "DELIVERED", "DELIVERED"]);
        let ids: Vec<String> = rows.into_iter().map(|(id, _)| id).collect();
        assert_eq!(told(&receiver), ids);
    }
}

on_both! {
    async fn an_order_counts_for_what_happens_after_it_was_chosen(app: &TestApp) {
        let (site, _, receiver, id) = subscribed(app, "PARALLEL", json!({"status": "PAUSED"})).await;
        new_follower(app, &site, "u-1").await;
        patch_subscription(app, &site, &id, &json!({"ordering": "STRICT"})).await;
        new_follower(app, &site, "u-2").await;
        patch_subscription(app, &site, &id, &json!({"status": "ENABLED"})).await;
        app.drain().await;
        assert_eq!(receiver.count(), 2 * PER_FOLLOW);
        let ids: Vec<String> = log(app, &site).await.into_iter().map(|(id, _)| id).collect();
        let ordered: Vec<String> = told(&receiver).into_iter().filter(|id| ids[PER_FOLLOW..].contains(id)).collect();
        assert_eq!(ordered, ids[PER_FOLLOW..]);
        patch_subscription(app, &site, &id, &json!({"ordering": "PARALLEL"})).await;
        new_follower(app, &site, "u-3").await;
        app.drain().await;
        assert_eq!(receiver.count(), 3 * PER_FOLLOW);
    }
}

on_both! {
    async fn what_is_replayed_keeps_to_the_order_that_the_subscription_has_by_then(app: &TestApp) {
        let (site, _, receiver, id) = subscribed(app, "PARALLEL", json!({})).await;
        for name in ["u-1", "u-2"] {
            new_follower(app, &site, name).await;
        }
        app.drain().await;
        assert_eq!(receiver.count(), 2 * PER_FOLLOW);
        app.clock.advance_ms(1);
        let path = format!("{SUBSCRIPTIONS}/{id}/replay");
        let all = json!({"since": "2024-08-01T00:00:00Z", "scope": "ALL"});
        let ids: Vec<String> = log(app, &site).await.into_iter().map(|(id, _)| id).collect();

        patch_subscription(app, &site, &id, &json!({"ordering": "STRICT"})).await;
        receiver.answer([Reply::status(200), Reply::status(500)]);
        app.call("POST", &path).key(ADMIN_KEY, &site.id).json(&all).ok().await;
        app.drain().await;
        assert_eq!(receiver.count(), 2 * PER_FOLLOW + 2, "everything waits behind the second");
        let rows = deliveries(app, &site).await;
        let second = rows.iter().find(|row| row["eventId"] == ids[1].as_str()).unwrap();
        advance_to(app, &second["nextAttemptDate"]);
        app.drain().await;
        let mut expected = ids.clone();
        expected.insert(1, ids[1].clone());
        assert_eq!(told(&receiver)[2 * PER_FOLLOW..], expected);

        // And in none once it has none.
        patch_subscription(app, &site, &id, &json!({"ordering": "PARALLEL"})).await;
        receiver.answer([Reply::status(500)]);
        app.call("POST", &path).key(ADMIN_KEY, &site.id).json(&all).ok().await;
        app.drain().await;
        let states: Vec<String> = log(app, &site).await.into_iter().map(|(_, status)| status).collect();
        assert_eq!(states.iter().filter(|status| *status == "DELIVERED").count(), 2 * PER_FOLLOW - 1);
    }
}
