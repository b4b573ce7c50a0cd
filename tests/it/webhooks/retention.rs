//! The log is kept for a while: answers, deliveries and events each for a time of their own; and no longer for an account whose
//! events are expunged.

use std::time::Duration;

use entity::id::{AccountId, DeliveryId, EventId, SiteId, SubscriptionId};
use entity::kinds::DeliveryStatus;
use entity::{attempt, delivery, event, signed_event};
use followpoints::db::Tx;
use followpoints::webhooks::partitions::{self, AHEAD_MS, WEEK_MS};
use followpoints::webhooks::retention::{Removed, Retention, clean_up, is_expunged};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, EntityTrait as _, PaginatorTrait as _, Statement};
use serde_json::{Value, json};

use super::{DELIVERIES, deliveries, installed_site, new_follower, patch_subscription, subscribe_with};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::sources::{guid, insert};
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{ADMIN_KEY, Backend, Options, TestApp, TestDatabase};

const DAY: Duration = Duration::from_hours(24);
const KEPT: Retention =
    Retention { answers: DAY, deliveries: Duration::from_hours(48), events: Duration::from_hours(72) };

async fn counts(app: &TestApp) -> [u64; 4] {
    let db = app.app.db.read();
    [
        attempt::Entity::find().count(db).await.unwrap(),
        delivery::Entity::find().count(db).await.unwrap(),
        event::Entity::find().count(db).await.unwrap(),
        signed_event::Entity::find().count(db).await.unwrap(),
    ]
}

fn removed(answers: u64, deliveries: u64, events: u64) -> Removed {
    Removed { answers, deliveries, events, partitions: 0 }
}

/// On PostgreSQL events and tries go by the week. At the last instant of one they go when they would one by one.
fn to_the_end_of_the_week(app: &TestApp) {
    app.clock.advance_ms(WEEK_MS - 1 - app.app.db.now().0 % WEEK_MS);
}

on_both! {
    async fn answers_deliveries_and_events_go_one_after_the_other_and_what_waits_stays(app: &TestApp) {
        to_the_end_of_the_week(app);
        let by_week = app.backend() == Backend::Postgres;
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let held = subscribe_with(app, &site, &installed, &receiver.url, &json!({"status": "PAUSED"})).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let begin = counts(app).await;
        assert_eq!(begin, [4, 5, 4, 4]);
        let db = &app.app.db;

        app.clock.advance_ms(24 * 3_600_000);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 0), "to the very millisecond");
        app.clock.advance_ms(1);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(4, 0, 0));
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 0), "nothing is done twice");
        for row in attempt::Entity::find().all(db.read()).await.unwrap() {
            assert_eq!((row.status_code, row.response_headers, row.request_headers), (Some(200), None, None));
        }
        app.clock.advance_ms(24 * 3_600_000);
        let tries = u64::from(by_week);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), Removed { partitions: tries, ..removed(0, 4, 0) });
        assert_eq!(counts(app).await, [0, 1, 4, 4]);
        app.clock.advance_ms(24 * 3_600_000);
        // One event still waits to be sent, and keeps its week.
        let (gone, left) = if by_week { (0, 4) } else { (3, 1) };
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, gone));
        assert_eq!(counts(app).await, [0, 1, left, left]);

        patch_subscription(app, &site, &text(&held["id"]), &json!({"status": "ENABLED"})).await;
        app.drain().await;
        assert_eq!(receiver.count(), 5);
        assert_eq!(deliveries(app, &site).await[0]["status"], "DELIVERED");
        assert_eq!(counts(app).await, [1, 1, left, left], "its try has a place, though its week is gone");
        // It has only just ended, however old it is.
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 0));
        app.clock.advance_ms(2 * 24 * 3_600_000 + 1);
        let (gone, tables) = if by_week { (0, 2) } else { (1, 0) };
        assert_eq!(clean_up(db, KEPT).await.unwrap(), Removed { partitions: tables, ..removed(1, 1, gone) });
        assert_eq!(counts(app).await, [0; 4]);
        // What happens from now on is kept again.
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        assert_eq!(counts(app).await, [5, 5, 4, 4]);
    }
}

on_both! {
    async fn what_a_late_try_sent_and_got_is_kept_as_long_as_that_of_any_other(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(200).body("the first"), Reply::status(200).body("the second")]);
        app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let path = format!("{DELIVERIES}/{}", text(&deliveries(app, &site).await[0]["id"]));
        let bodies = async || -> Vec<Value> {
            let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
            let attempts = read["webhookDelivery"]["attempts"].as_array().unwrap().clone();
            for tried in &attempts {
                assert_eq!(tried.get("responseBody").is_some(), tried.get("requestHeaders").is_some());
                assert_eq!(tried.get("responseBody").is_some(), tried.get("responseHeaders").is_some());
            }
            attempts.iter().map(|tried| tried["responseBody"].clone()).collect()
        };
        let (db, kept) = (&app.app.db, Retention { answers: DAY, ..Retention::default() });
        app.clock.advance_ms(24 * 3_600_000 + 1);
        assert_eq!(clean_up(db, kept).await.unwrap(), removed(1, 0, 0));
        assert_eq!(bodies().await, [Value::Null]);

        app.call("POST", &format!("{path}/redeliver")).key(ADMIN_KEY, &site.id).ok().await;
        app.drain().await;
        assert_eq!(bodies().await, [Value::Null, json!("the second")]);
        app.clock.advance_ms(24 * 3_600_000);
        assert_eq!(clean_up(db, kept).await.unwrap(), removed(0, 0, 0), "to the very millisecond");
        assert_eq!(bodies().await, [Value::Null, json!("the second")]);
        app.clock.advance_ms(1);
        assert_eq!(clean_up(db, kept).await.unwrap(), removed(1, 0, 0));
        assert_eq!(bodies().await, [Value::Null, Value::Null]);
        assert_eq!(clean_up(db, kept).await.unwrap(), removed(0, 0, 0), "nothing is done twice");
    }
}

on_both! {
    async fn what_no_week_was_made_for_goes_one_by_one(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        // Nobody has looked after the database for months.
        app.clock.advance_ms(20 * WEEK_MS);
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;
        app.drain().await;
        assert_eq!(counts(app).await, [4, 4, 4, 4]);
        app.clock.advance_ms(72 * 3_600_000);
        let db = &app.app.db;
        // The week of the start is empty and over.
        let partitions = if app.backend() == Backend::Postgres { 3 } else { 0 };
        assert_eq!(clean_up(db, KEPT).await.unwrap(), Removed { partitions, ..removed(4, 4, 0) });
        assert_eq!(counts(app).await, [0, 0, 4, 4]);
        app.clock.advance_ms(1);
        assert_eq!(clean_up(db, KEPT).await.unwrap(), removed(0, 0, 4));
        assert_eq!(counts(app).await, [0; 4]);
    }
}

/// More than one transaction takes away.
const MUCH: u64 = 1_100;

/// Events that nobody caused, of `account`.
fn events(tx: &Tx, site: SiteId, account: Option<AccountId>, count: u64) -> Vec<event::Model> {
    let event = |_| event::Model {
        site_id: site,
        id: EventId(tx.new_id()),
        event_type: ALL_EVENTS[0].to_owned(),
        entity_id: account.map_or_else(|| tx.new_id(), |account| account.0),
        account_id: account,
        sequence: 1,
        data: "{}".to_owned(),
        identity: r#"{"identityType":"WIX_USER"}"#.to_owned(),
        occurred_at: tx.now(),
    };
    (0..count).map(event).collect()
}

/// A delivery of `event` that was accepted at the first try.
fn accepted(
    tx: &Tx,
    event: &event::Model,
    subscription: SubscriptionId,
) -> (delivery::Model, attempt::Model) {
    let delivery = delivery::Model {
        site_id: event.site_id,
        id: DeliveryId(tx.new_id()),
        subscription_id: subscription,
        event_id: event.id,
        status: DeliveryStatus::Delivered,
        attempt_count: 1,
        schedule_step: 1,
        next_attempt_at: tx.now(),
        order_key: None,
        created_at: tx.now(),
        finished_at: Some(tx.now()),
    };
    let attempt = attempt::Model {
        delivery_id: delivery.id,
        number: 1,
        site_id: event.site_id,
        started_at: tx.now(),
        duration_ms: 1,
        status_code: Some(200),
        error_class: None,
        error: None,
        response_headers: Some("{}".to_owned()),
        response_body: None,
        dns_us: None,
        connect_us: None,
        tls_us: None,
        first_byte_us: None,
        total_us: None,
        request_headers: Some("{}".to_owned()),
        late_at: None,
    };
    (delivery, attempt)
}

on_both! {
    async fn much_is_taken_away_a_little_at_a_time(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let id = app.subscribe(&site, &installed, &ALL_EVENTS, "https://hooks.example/").await;
        // Nobody has made weeks for so late: everything goes one by one.
        app.clock.advance_ms(20 * WEEK_MS);
        let db = &app.app.db;
        let tx = db.write().await.unwrap();
        let events = events(&tx, SiteId(guid(&site.id)), None, MUCH);
        let (deliveries, attempts): (Vec<_>, Vec<_>) =
            events.iter().map(|event| accepted(&tx, event, SubscriptionId(guid(&id)))).unzip();
        insert(&tx, events).await;
        insert(&tx, deliveries).await;
        insert(&tx, attempts).await;
        tx.commit().await.unwrap();
        assert_eq!(counts(app).await, [MUCH, MUCH, MUCH, 0]);

        app.clock.advance_ms(72 * 3_600_000 + 1);
        let partitions = if app.backend() == Backend::Postgres { 3 } else { 0 };
        assert_eq!(clean_up(db, KEPT).await.unwrap(), Removed { partitions, ..removed(MUCH, MUCH, MUCH) });
        assert_eq!(counts(app).await, [0; 4]);
    }
}

/// Several nodes look after one database. SQLite has no tables of a week.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weeks_are_made_once_and_ahead() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let app = TestApp::start(database, Options::default()).await;
    let db = &app.app.db;
    let tables = async || -> Vec<String> {
        let sql =
            "SELECT relname::text AS name FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1";
        let rows = db.read().query_all_raw(Statement::from_string(db.backend(), sql)).await.unwrap();
        rows.iter().map(|row| row.try_get("", "name").unwrap()).collect()
    };
    let week = db.now().0 / WEEK_MS;
    let expected = |weeks: std::ops::RangeInclusive<i64>| {
        let mut expected: Vec<String> = ["attempt", "event", "signed_event"]
            .iter()
            .flat_map(|of| {
                let weeks = weeks.clone().map(move |week| format!("{of}_w{week}"));
                weeks.chain([format!("{of}_rest")])
            })
            .collect();
        expected.sort_unstable();
        expected
    };
    assert_eq!(tables().await, expected(week..=week), "a start waits for no more than it needs");
    partitions::make(db, AHEAD_MS).await.unwrap();
    assert_eq!(tables().await, expected(week..=week + 4));
    app.clock.advance_ms(2 * WEEK_MS);
    for done in join_all((0..4).map(|_| partitions::make(db, AHEAD_MS))).await {
        done.unwrap();
    }
    assert_eq!(tables().await, expected(week..=week + 6));
    app.clock.advance_ms(2 * WEEK_MS);
    for done in join_all((0..4).map(|_| partitions::drop_old(db, KEPT))).await {
        done.unwrap();
    }
    assert_eq!(tables().await, expected(week + 3..=week + 6), "three days are kept, in whole weeks");
    app.app.stop().await;
}

on_both! {
    async fn what_the_log_says_of_an_account_is_expunged_and_nothing_else(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(200).body("hello u-1"), Reply::status(500)]);
        app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let member = new_follower(app, &site, "u-1").await;
        app.drain().await;
        app.follow(&member, "INSTAGRAM").await;
        app.drain().await;
        let other = new_follower(app, &site, "u-2").await;
        app.drain().await;
        let account = text(&app.account(&member).await["id"]);
        let body = json!({"accountId": account});
        let expunge = async || {
            app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await
        };
        assert_eq!(expunge().await, json!({"expungedCount": 7}));

        let events = app.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
        let (gone, kept): (Vec<&Value>, Vec<&Value>) =
            events.iter().partition(|event| event["accountId"] == account.as_str());
        assert_eq!((gone.len(), kept.len()), (7, 4));
        for event in gone {
            let names: Vec<&str> = event["data"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(names, ["entityEventSequence", "entityId", "eventTime", "expunged", "id"]);
            assert_eq!(event["identity"], json!({}));
        }
        assert!(kept.iter().all(|event| event["data"].get("expunged").is_none()));
        let states: Vec<Value> = deliveries(app, &site).await.iter().map(|row| row["status"].clone()).collect();
        assert_eq!(states, [json!("DELIVERED"), json!("CANCELLED"), json!("DELIVERED")], "newest first");
        let first = text(&deliveries(app, &site).await[2]["id"]);
        let path = format!("{DELIVERIES}/{first}");
        let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        let tried = &read["webhookDelivery"]["attempts"][0];
        assert_eq!((&tried["statusCode"], tried.get("responseBody")), (&json!(200), None));
        assert_eq!(signed_event::Entity::find().count(app.app.db.read()).await.unwrap(), 1);

        app.clock.advance_ms(66_000);
        app.drain().await;
        assert_eq!(receiver.count(), 3, "what waited is not sent");
        assert_eq!(app.account(&member).await["points"]["balance"], 80);
        assert_eq!(app.account(&other).await["points"]["balance"], 50);
    }
}

on_both! {
    async fn more_than_one_step_empties_is_expunged(app: &TestApp) {
        let site = app.site().await;
        let tx = app.app.db.write().await.unwrap();
        let account = AccountId(tx.new_id());
        insert(&tx, events(&tx, SiteId(guid(&site.id)), Some(account), 450)).await;
        insert(&tx, events(&tx, SiteId(guid(&site.id)), None, 1)).await;
        tx.commit().await.unwrap();

        let body = json!({"accountId": account});
        let expunged = app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(expunged, json!({"expungedCount": 450}));
        let rows = event::Entity::find().all(app.app.db.read()).await.unwrap();
        let gone: Vec<&event::Model> = rows.iter().filter(|row| is_expunged(row)).collect();
        assert_eq!((gone.len(), rows.len()), (450, 451));
        assert!(gone.iter().all(|row| row.account_id == Some(account)));
    }
}

on_both! {
    async fn what_is_under_way_while_it_is_expunged_leaves_no_words(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(200).body("hello u-1").behind(&gate)]);
        let more = json!({"timeoutMs": 15_000});
        subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        let member = new_follower(app, &site, "u-1").await;
        receiver.wait_for(1).await;
        let body = json!({"accountId": app.account(&member).await["id"]});
        app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        gate.open();
        app.drain().await;
        let path = format!("{DELIVERIES}/{}", text(&deliveries(app, &site).await[0]["id"]));
        let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["webhookDelivery"]["status"], "CANCELLED");
        let tried = &read["webhookDelivery"]["attempts"][0];
        assert_eq!(tried["statusCode"], 200);
        for words in ["responseBody", "responseHeaders", "requestHeaders"] {
            assert_eq!(tried.get(words), None, "{words}");
        }
        assert_eq!(signed_event::Entity::find().count(app.app.db.read()).await.unwrap(), 0);
    }
}
