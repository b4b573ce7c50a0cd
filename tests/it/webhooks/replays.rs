//! Replays: the events of a time are sent to a subscription again, as its owner says, and whatever happens meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use entity::id::{DeliveryId, EventId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::DeliveryStatus;
use entity::{delivery, event};
use futures_util::future::join_all;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, deliveries, installed_site, new_follower, patch_subscription,
    subscribe_with, unfold,
};
use crate::support::client::Answer;
use crate::support::process::LOOK;
use crate::support::receiver::{Receiver, Reply};
use crate::support::sources::{guid, insert};
use crate::support::world::{ALL_EVENTS, InstalledApp, Site, text};
use crate::support::{ADMIN_KEY, TestApp};
use crate::{on_both, on_both_databases};

const REPLAYS: &str = "/admin/v1/webhook-replays";
const BEGINNING: &str = "2024-08-01T00:00:00Z";

async fn ask(app: &TestApp, site: &Site, subscription: &str, body: &Value) -> Answer {
    let path = format!("{SUBSCRIPTIONS}/{subscription}/replay");
    app.call("POST", &path).key(ADMIN_KEY, &site.id).json(body).send().await
}

/// Starts a replay and lets it come to its end.
async fn replay(app: &TestApp, site: &Site, subscription: &str, body: &Value) -> Value {
    let started = ask(app, site, subscription, body).await;
    assert_eq!(started.status, 200, "{}", started.text);
    app.drain().await;
    let path = format!("{REPLAYS}/{}", text(&started.json()["webhookReplay"]["id"]));
    app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["webhookReplay"].clone()
}

fn told(receiver: &Receiver) -> BTreeSet<String> {
    receiver.bodies().iter().map(|body| text(&unfold(body)["jti"])).collect()
}

/// One delivery of each kind: accepted, exhausted, cancelled, and an event from before the subscription.
async fn history(app: &TestApp) -> (Site, InstalledApp, String, Receiver) {
    let (site, installed) = installed_site(app).await;
    let receiver = Receiver::start().await;
    new_follower(app, &site, "before").await;
    let once = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": []});
    let id = text(&subscribe_with(app, &site, &installed, &receiver.url, &once).await["id"]);
    receiver.answer([Reply::status(200), Reply::status(500)]);
    for name in ["accepted", "exhausted"] {
        app.clock.advance_ms(60_000);
        new_follower(app, &site, name).await;
        app.drain().await;
    }
    patch_subscription(app, &site, &id, &json!({"status": "PAUSED"})).await;
    app.clock.advance_ms(60_000);
    new_follower(app, &site, "cancelled").await;
    patch_subscription(app, &site, &id, &json!({"heldDeliveries": "CANCEL", "status": "ENABLED"})).await;
    app.clock.advance_ms(60_000);
    app.drain().await;
    let states: Vec<String> = deliveries(app, &site).await.iter().map(|row| text(&row["status"])).collect();
    assert_eq!(states, ["CANCELLED", "EXHAUSTED", "DELIVERED"]);
    assert_eq!(receiver.count(), 2);
    (site, installed, id, receiver)
}

on_both! {
    async fn failed_missing_and_all_mean_what_they_say(app: &TestApp) {
        for (scope, replayed) in [("FAILED", 2), ("MISSING", 1), ("ALL", 4)] {
            let (site, _, id, receiver) = history(app).await;
            let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": scope})).await;
            assert_eq!(
                (&done["status"], &done["scope"], &done["progressPercent"]),
                (&json!("DONE"), &json!(scope), &json!(100))
            );
            // Every follow made four events, of which the subscription is to one.
            assert_eq!((&done["examinedCount"], &done["replayedCount"]), (&json!(16), &json!(replayed)));
            assert_eq!(receiver.count(), 2 + replayed, "{scope}");
            let rows = deliveries(app, &site).await;
            let waiting = rows.iter().filter(|row| row["status"] != "DELIVERED").count();
            assert_eq!((rows.len(), waiting), if scope == "FAILED" { (3, 0) } else if scope == "ALL" { (4, 0) } else { (4, 2) });
            let events: BTreeSet<String> = rows.iter().map(|row| text(&row["eventId"])).collect();
            assert!(told(&receiver).is_subset(&events), "under the ids that they always had");
        }
    }
}

on_both! {
    async fn a_replay_keeps_to_its_time_and_its_event_types(app: &TestApp) {
        let (site, installed, id, receiver) = history(app).await;
        // The events were a minute apart, from 11:51:41.431 on.
        let range = json!({"since": "2024-08-01T11:53:41.431Z", "until": "2024-08-01T11:54:41.431Z", "scope": "ALL"});
        let done = replay(app, &site, &id, &range).await;
        assert_eq!((&done["examinedCount"], &done["replayedCount"]), (&json!(4), &json!(1)));
        assert_eq!((&done["since"], &done["until"]), (&range["since"], &range["until"]));
        let exhausted = &deliveries(app, &site).await[1];
        assert_eq!((&exhausted["status"], &exhausted["attemptCount"]), (&json!("DELIVERED"), &json!(2)));
        assert_eq!(receiver.count(), 3);

        let other = Receiver::start().await;
        let types = json!({"eventTypes": ["wix.loyalty.v1.*"]});
        let id = text(&subscribe_with(app, &site, &installed, &other.url, &types).await["id"]);
        let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": "MISSING"})).await;
        assert_eq!((&done["replayedCount"], other.count()), (&json!(12), 12));
        let kinds: BTreeSet<String> =
            other.bodies().iter().map(|body| text(&unfold(body)["data"]["eventType"])).collect();
        assert!(!kinds.contains(FOLLOWED));
    }
}

on_both! {
    async fn what_makes_no_sense_is_refused(app: &TestApp) {
        let (site, _, id, _) = history(app).await;
        for (body, field, rule) in [
            (json!({}), "since", "REQUIRED_FIELD"),
            (json!({"since": "yesterday"}), "since", "FORMAT"),
            (json!({"since": BEGINNING, "until": "tomorrow"}), "until", "FORMAT"),
            (json!({"since": BEGINNING, "until": BEGINNING}), "since", "FORMAT"),
            (json!({"since": "2034-08-01T00:00:00Z"}), "since", "FORMAT"),
            (json!({"since": BEGINNING, "scope": "SOME"}), "scope", "INVALID_ENUM_VALUE"),
        ] {
            let answer = ask(app, &site, &id, &body).await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{body}");
        }
        patch_subscription(app, &site, &id, &json!({"status": "PAUSED"})).await;
        let answer = ask(app, &site, &id, &json!({"since": BEGINNING})).await;
        assert_eq!(answer.error(), (428, "WEBHOOK_SUBSCRIPTION_NOT_ENABLED".to_owned()));
    }
}

on_both! {
    async fn what_waits_for_its_next_try_is_replayed_at_once(app: &TestApp) {
        for (scope, replayed) in [("FAILED", 1), ("MISSING", 0), ("ALL", 1)] {
            let (site, installed) = installed_site(app).await;
            let receiver = Receiver::start().await;
            receiver.answer([Reply::status(500)]);
            let id = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
            new_follower(app, &site, "u-1").await;
            app.drain().await;
            let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": scope})).await;
            assert_eq!((&done["status"], &done["replayedCount"]), (&json!("DONE"), &json!(replayed)), "{scope}");
            let state = if replayed == 1 { "DELIVERED" } else { "RETRYING" };
            assert_eq!(deliveries(app, &site).await[0]["status"], state, "{scope}");
            assert_eq!(receiver.count(), 1 + replayed, "{scope}");
        }
    }
}

on_both! {
    async fn what_was_expunged_is_not_sent_again(app: &TestApp) {
        let (site, _, id, receiver) = history(app).await;
        let events = app.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
        let accounts: BTreeSet<String> = events.iter().map(|event| text(&event["accountId"])).collect();
        for account in accounts {
            let body = json!({"accountId": account});
            app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        }
        for scope in ["FAILED", "MISSING", "ALL"] {
            let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": scope})).await;
            assert_eq!((&done["examinedCount"], &done["replayedCount"]), (&json!(16), &json!(0)), "{scope}");
        }
        for delivery in deliveries(app, &site).await {
            let path = format!("{DELIVERIES}/{}/redeliver", text(&delivery["id"]));
            let refused = app.call("POST", &path).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(refused.error(), (428, "EVENT_EXPUNGED".to_owned()));
        }
        app.drain().await;
        assert_eq!(receiver.count(), 2);
    }
}

/// What an order keeps together that is of no account.
const LINE: u128 = 7;

/// A thousand deliveries of nothing, the most of which a replay goes ahead: the first is due in an hour, and so are the others or
/// they stand behind it.
async fn a_thousand_wait(app: &TestApp, site: &Site, subscription: &str, is_line: bool) {
    let tx = app.app.db.write().await.unwrap();
    let (now, later) = (tx.now(), tx.now().plus_ms(3_600_000));
    let rows = (0..=1_000).map(|place| delivery::Model {
        site_id: SiteId(guid(&site.id)),
        id: DeliveryId(tx.new_id()),
        subscription_id: SubscriptionId(guid(subscription)),
        event_id: EventId(tx.new_id()),
        status: DeliveryStatus::Retrying,
        attempt_count: 1,
        schedule_step: 1,
        next_attempt_at: if is_line && place > 0 { now } else { later },
        order_key: is_line.then(|| Uuid::from_u128(LINE)),
        created_at: now,
        finished_at: None,
    });
    insert(&tx, rows).await;
    tx.commit().await.unwrap();
}

/// A replay that cannot end yet, as too much is due for its receiver that stands behind something that is not.
async fn held_up(app: &TestApp) -> (Site, String, Receiver, Value) {
    let (site, _, id, receiver) = history(app).await;
    patch_subscription(app, &site, &id, &json!({"ordering": "PER_ENTITY"})).await;
    a_thousand_wait(app, &site, &id, true).await;
    let started = ask(app, &site, &id, &json!({"since": BEGINNING, "scope": "ALL"})).await.json();
    app.drain().await;
    (site, id, receiver, started["webhookReplay"].clone())
}

/// Takes away what holds it up.
async fn let_go(app: &TestApp) {
    let tx = app.app.db.write().await.unwrap();
    let line = delivery::Column::OrderKey.eq(Uuid::from_u128(LINE));
    delivery::Entity::delete_many().filter(line).exec(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    app.drain().await;
}

on_both! {
    async fn what_waits_for_its_next_try_holds_no_replay_up(app: &TestApp) {
        for (scope, replayed) in [("FAILED", 2), ("MISSING", 1), ("ALL", 4)] {
            let (site, _, id, receiver) = history(app).await;
            a_thousand_wait(app, &site, &id, false).await;
            let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": scope})).await;
            assert_eq!((&done["status"], &done["replayedCount"]), (&json!("DONE"), &json!(replayed)), "{scope}");
            assert_eq!(receiver.count(), 2 + replayed, "{scope}");
        }
    }
}

on_both! {
    async fn what_failed_is_replayed_past_whatever_is_due(app: &TestApp) {
        let (site, id, receiver, started) = held_up(app).await;
        let path = format!("{REPLAYS}/{}/cancel", text(&started["id"]));
        app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": "FAILED"})).await;
        assert_eq!((&done["status"], &done["replayedCount"]), (&json!("DONE"), &json!(2)));
        assert_eq!(receiver.count(), 4);
    }
}

/// So many events of which nobody was told.
async fn events(app: &TestApp, site: &Site, count: usize) {
    let tx = app.app.db.write().await.unwrap();
    let rows: Vec<event::Model> = (0..count)
        .map(|_| event::Model {
            site_id: SiteId(guid(&site.id)),
            id: EventId(tx.new_id()),
            event_type: FOLLOWED.to_owned(),
            entity_id: tx.new_id(),
            account_id: None,
            sequence: 1,
            data: "{}".to_owned(),
            identity: r#"{"identityType":"WIX_USER"}"#.to_owned(),
            occurred_at: tx.now(),
        })
        .collect();
    for part in rows.chunks(1_000) {
        insert(&tx, part.to_vec()).await;
    }
    tx.commit().await.unwrap();
}

on_both! {
    async fn many_steps_miss_nothing_and_count_everything_once(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        events(app, &site, 1_234).await;
        let receiver = Receiver::start().await;
        let id = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        for (scope, replayed) in [("FAILED", 0), ("MISSING", 1_234), ("MISSING", 0), ("ALL", 1_234)] {
            let done = replay(app, &site, &id, &json!({"since": BEGINNING, "scope": scope})).await;
            assert_eq!(
                (&done["status"], &done["examinedCount"], &done["replayedCount"]),
                (&json!("DONE"), &json!(1_234), &json!(replayed)),
                "{scope}"
            );
        }
        assert_eq!((receiver.count(), told(&receiver).len()), (2 * 1_234, 1_234));
    }
}

on_both! {
    async fn a_replay_takes_its_next_step_at_once(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        events(app, &site, 6_000).await;
        let id = app.subscribe(&site, &installed, &[ALL_EVENTS[1]], "http://127.0.0.1:1/closed").await;
        let started = ask(app, &site, &id, &json!({"since": BEGINNING, "scope": "MISSING"})).await.json();
        // Thirty steps, each of which would wait for half a second.
        let mut looks = tokio::time::interval(LOOK);
        let ended = async {
            while get(app, &site, &started["webhookReplay"]).await["status"] != "DONE" {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it does not wait between its steps");
        let done = get(app, &site, &started["webhookReplay"]).await;
        assert_eq!((&done["examinedCount"], &done["replayedCount"]), (&json!(6_000), &json!(0)));
    }
}

async fn get(app: &TestApp, site: &Site, replay: &Value) -> Value {
    let path = format!("{REPLAYS}/{}", text(&replay["id"]));
    app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["webhookReplay"].clone()
}

on_both! {
    async fn a_replay_rests_while_much_waits_and_can_be_cancelled(app: &TestApp) {
        let (site, id, receiver, started) = held_up(app).await;
        let resting = get(app, &site, &started).await;
        assert_eq!((&resting["status"], &resting["examinedCount"]), (&json!("RUNNING"), &json!(0)));
        assert_eq!((receiver.count(), resting.get("finishedDate")), (2, None));
        let again = ask(app, &site, &id, &json!({"since": BEGINNING})).await;
        assert_eq!(again.error(), (428, "WEBHOOK_REPLAY_RUNNING".to_owned()));

        let path = format!("{REPLAYS}/{}/cancel", text(&started["id"]));
        let cancelled = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await["webhookReplay"].clone();
        assert_eq!((&cancelled["status"], &cancelled["replayedCount"]), (&json!("CANCELLED"), &json!(0)));
        assert!(cancelled["finishedDate"].is_string());
        let_go(app).await;
        assert_eq!((get(app, &site, &started).await, receiver.count()), (cancelled, 2));
        let listed = app.admin_list(&site, &format!("{REPLAYS}?subscriptionId={id}"), "webhookReplays").await;
        assert_eq!(listed, [get(app, &site, &started).await]);
    }
}

on_both! {
    async fn of_replays_that_are_asked_for_at_once_one_is_started(app: &TestApp) {
        let (site, id, _, started) = held_up(app).await;
        let mut running = text(&started["id"]);
        // The first time, most of them wait for a new connection and come one after the other.
        for _ in 0..4 {
            app.call("POST", &format!("{REPLAYS}/{running}/cancel")).key(ADMIN_KEY, &site.id).ok().await;
            let since = json!({"since": BEGINNING, "scope": "ALL"});
            let answers = join_all((0..8).map(|_| ask(app, &site, &id, &since))).await;
            let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
            assert_eq!((made.len(), refused.len()), (1, 7));
            for answer in refused {
                assert_eq!(answer.error(), (428, "WEBHOOK_REPLAY_RUNNING".to_owned()));
            }
            running = text(&made[0].json()["webhookReplay"]["id"]);
        }
    }
}

on_both! {
    async fn a_replay_rests_while_its_subscription_is_not_enabled(app: &TestApp) {
        for status in ["PAUSED", "DISABLED"] {
            let (site, id, receiver, started) = held_up(app).await;
            patch_subscription(app, &site, &id, &json!({"status": status})).await;
            let_go(app).await;
            let resting = get(app, &site, &started).await;
            assert_eq!((&resting["status"], &resting["examinedCount"]), (&json!("RUNNING"), &json!(0)), "{status}");
            patch_subscription(app, &site, &id, &json!({"status": "ENABLED"})).await;
            app.drain().await;
            let done = get(app, &site, &started).await;
            assert_eq!((&done["status"], &done["replayedCount"]), (&json!("DONE"), &json!(4)), "{status}");
            assert_eq!(receiver.count(), 6, "{status}");
        }
    }
}

on_both! {
    async fn who_wants_nothing_of_what_waits_wants_no_replay(app: &TestApp) {
        for change in [json!({"heldDeliveries": "CANCEL"}), json!({"heldDeliveries": "CANCEL", "status": "PAUSED"}), Value::Null] {
            let (site, id, receiver, started) = held_up(app).await;
            if change.is_null() {
                app.call("DELETE", &format!("{SUBSCRIPTIONS}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
            } else {
                patch_subscription(app, &site, &id, &change).await;
            }
            app.clock.advance_ms(1);
            app.drain().await;
            let ended = get(app, &site, &started).await;
            let now = Timestamp(app.app.db.now().0 - 1).to_rfc3339();
            assert_eq!(
                (&ended["status"], &ended["progressPercent"], &ended["finishedDate"]),
                (&json!("CANCELLED"), &json!(0), &json!(now)),
                "{change}"
            );
            assert_eq!((&ended["replayedCount"], receiver.count()), (&json!(0), 2), "{change}");
        }
    }
}

on_both! {
    async fn replays_that_rest_keep_no_other_from_going_on(app: &TestApp) {
        use entity::replay;

        let (held_up_site, _, _, resting) = held_up(app).await;
        let tx = app.app.db.write().await.unwrap();
        let found = replay::Entity::find_by_id(resting["id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap());
        let row = found.one(tx.conn()).await.unwrap().unwrap();
        // As many as a look takes, all of which began before the other.
        let others = (1..200).map(|_| {
            let id = entity::id::ReplayId(tx.new_id());
            replay::ActiveModel::from(replay::Model { id, ..row.clone() })
        });
        replay::Entity::insert_many(others.collect::<Vec<_>>()).exec_without_returning(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        app.clock.advance_ms(1_000);

        let (site, _, id, receiver) = history(app).await;
        let started = ask(app, &site, &id, &json!({"since": BEGINNING, "scope": "MISSING"})).await.json();
        app.clock.advance_ms(1);
        // The first look sends those that rest to the back, the second has its turn.
        for _ in 0..2 {
            app.drain().await;
        }
        let done = get(app, &site, &started["webhookReplay"]).await;
        assert_eq!((&done["status"], &done["replayedCount"]), (&json!("DONE"), &json!(1)));
        assert_eq!(receiver.count(), 3);
        assert_eq!(get(app, &held_up_site, &resting).await["status"], "RUNNING");
    }
}

on_both_databases! {
    async fn g3_a_replay_goes_on_after_a_crash_where_it_was(database: TestDatabase) {
        let app = TestApp::start_apart(database).await;
        let (site, _, receiver, started) = held_up(&app).await;
        let app = app.restart().await;
        app.clock.advance_ms(15_000);
        let_go(&app).await;
        let done = get(&app, &site, &started).await;
        assert_eq!((&done["status"], &done["examinedCount"]), (&json!("DONE"), &json!(16)));
        assert_eq!((&done["replayedCount"], receiver.count()), (&json!(4), 6));
        app.app.stop().await;
    }
}
