//! The log can be searched by account, entity and time, and exported.

use serde_json::{Value, json};

use super::{DELIVERIES, advance_to, deliveries, delivery, installed_site, new_follower};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

async fn found(app: &TestApp, site: &Site, what: &str, query: &str) -> Vec<String> {
    let (path, name) = match what {
        "events" => ("/admin/v1/events", "events"),
        _ => (DELIVERIES, "webhookDeliveries"),
    };
    let rows = app.admin_list(site, &format!("{path}?limit=100&{query}"), name).await;
    rows.iter().map(|row| text(&row["id"])).collect()
}

on_both! {
    async fn deliveries_and_events_are_found_by_account_entity_and_time(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let first = new_follower(app, &site, "u-1").await;
        app.clock.advance_ms(60_000);
        let second = new_follower(app, &site, "u-2").await;
        app.drain().await;
        let account = text(&app.account(&first).await["id"]);
        let other = text(&app.account(&second).await["id"]);
        let all = deliveries(app, &site).await;
        assert_eq!(all.len(), 8);
        let ids: Vec<String> = all.iter().map(|row| text(&row["id"])).collect();
        assert_eq!(found(app, &site, "deliveries", &format!("accountId={account}")).await, ids[4..]);
        assert_eq!(found(app, &site, "deliveries", &format!("accountId={other}")).await, ids[..4]);

        let events = app.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
        let of_first: Vec<&Value> = events.iter().filter(|event| event["accountId"] == account.as_str()).collect();
        assert_eq!(of_first.len(), 4);
        let event_ids = |events: &[&Value]| events.iter().map(|event| text(&event["id"])).collect::<Vec<_>>();
        assert_eq!(found(app, &site, "events", &format!("accountId={account}")).await, event_ids(&of_first));
        let follow = of_first.iter().find(|event| event["eventType"] == ALL_EVENTS[0]).unwrap();
        let query = format!("entityId={}", text(&follow["entityId"]));
        assert_eq!(found(app, &site, "events", &query).await, [text(&follow["id"])]);
        let told: Vec<&Value> = all.iter().filter(|row| row["eventId"] == follow["id"]).collect();
        assert_eq!(found(app, &site, "deliveries", &query).await, event_ids(&told));

        // The first at 11:51:41.431, the second a minute later.
        for what in ["events", "deliveries"] {
            let everything = found(app, &site, what, "").await;
            let of = async |query: &str| found(app, &site, what, query).await;
            assert_eq!(of("since=2024-08-01T11:52:41.431Z").await, everything[..4], "{what}");
            assert_eq!(of("until=2024-08-01T11:52:41.431Z").await, everything[4..], "{what}");
            assert_eq!(of("since=2024-08-01T11:52:41.432Z").await, Vec::<String>::new(), "{what}");
        }
        let foreign = app.site().await;
        assert_eq!(found(app, &foreign, "deliveries", &format!("accountId={account}")).await, Vec::<String>::new());
    }
}

on_both! {
    async fn the_log_is_exported_as_a_table_newest_first(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(503)]);
        let id = app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        app.subscribe(&site, &installed, &ALL_EVENTS[..1], "http://127.0.0.1:1/closed").await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let rows = deliveries(app, &site).await;
        let export = async |query: &str| {
            let path = format!("{DELIVERIES}/export{query}");
            app.call("GET", &path).key(ADMIN_KEY, &site.id).send().await
        };

        let answer = export("").await;
        assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8");
        let mut expected = vec![
            "id,subscriptionId,eventId,eventType,status,attemptCount,createdDate,nextAttemptDate,finishedDate,\
             lastStatusCode,lastErrorClass,held"
                .to_owned(),
        ];
        for row in &rows {
            let last = if row["subscriptionId"] == id.as_str() { "503," } else { ",CONNECT_FAILED" };
            let of = |name: &str| text(&row[name]);
            let head = [of("id"), of("subscriptionId"), of("eventId"), ALL_EVENTS[0].to_owned()].join(",");
            expected.push(format!("{head},RETRYING,1,{},{},,{last},", of("createdDate"), of("nextAttemptDate")));
        }
        assert_eq!(answer.text.lines().collect::<Vec<_>>(), expected);
        assert_eq!(export(&format!("?subscriptionId={id}")).await.text.lines().count(), 2);
        assert_eq!(export("?status=DELIVERED").await.text.lines().count(), 1);
        let event = app.admin_list(&site, "/admin/v1/events?limit=1", "events").await[0].clone();
        let (account, follow) = (text(&event["accountId"]), text(&rows[0]["eventId"]));
        assert_eq!(export(&format!("?accountId={account}")).await.text.lines().count(), 3);
        assert_eq!(export(&format!("?eventId={follow}")).await.text.lines().count(), 3);
        // The account itself has no delivery, and nobody else has any.
        for query in ["entityId", "accountId", "eventId"] {
            let of_nobody = export(&format!("?{query}={}", event["id"].as_str().unwrap())).await;
            assert_eq!(of_nobody.text.lines().count(), 1, "{query}");
        }
        let wrong = export("?since=yesterday").await;
        assert_eq!(wrong.violations(), [("since".to_owned(), "FORMAT".to_owned())]);
    }
}

on_both! {
    async fn the_list_and_a_single_delivery_say_how_the_newest_try_went(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(503)]);
        let answered = app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let closed = app.subscribe(&site, &installed, &ALL_EVENTS[..1], "http://127.0.0.1:1/closed").await;
        let untried = app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let pause = json!({"webhookSubscription": {"status": "PAUSED"}});
        let path = format!("/admin/v1/webhook-subscriptions/{untried}");
        app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&pause).ok().await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let said = async |subscription: &str| {
            let rows = deliveries(app, &site).await;
            let row = rows.into_iter().find(|row| row["subscriptionId"] == subscription).unwrap();
            let read = delivery(app, &site, &text(&row["id"])).await;
            let of = |row: &Value| {
                let named = ["eventType", "attemptCount", "lastStatusCode", "lastErrorClass"];
                named.map(|name| row.get(name).cloned())
            };
            assert_eq!(of(&read), of(&row));
            (of(&row), row["nextAttemptDate"].clone())
        };
        let kind = || Some(json!(ALL_EVENTS[0]));
        let refused = Some(json!("CONNECT_FAILED"));
        let (first, next) = said(&answered).await;
        assert_eq!(first, [kind(), Some(json!(1)), Some(json!(503)), None]);
        assert_eq!(said(&closed).await.0, [kind(), Some(json!(1)), None, refused.clone()]);
        assert_eq!(said(&untried).await.0, [kind(), Some(json!(0)), None, None]);

        advance_to(app, &next);
        app.drain().await;
        let (newest, _) = said(&answered).await;
        assert_eq!(newest, [kind(), Some(json!(2)), Some(json!(200)), None]);
    }
}

on_both! {
    async fn one_event_is_read_as_the_list_shows_it_and_another_sites_is_unknown(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let member = new_follower(app, &site, "u-1").await;
        let events = app.admin_list(&site, "/admin/v1/events", "events").await;
        assert_eq!(events.len(), 4);
        let read = async |id: &str, site: &Site| {
            app.call("GET", &format!("/admin/v1/events/{id}")).key(ADMIN_KEY, &site.id).send().await
        };
        for event in &events {
            assert_eq!(read(&text(&event["id"]), &site).await.json(), json!({"event": event}));
        }
        let unknown = "there is no such event";
        let refused = json!({"message": unknown, "details": {"applicationError": {
            "code": "EVENT_NOT_FOUND", "description": unknown, "data": {},
        }}});
        let id = text(&events[0]["id"]);
        for answer in [read(&id, &other).await, read(UNKNOWN_ID, &site).await, read(&member.id, &site).await] {
            assert_eq!((answer.status.as_u16(), answer.json()), (404, refused.clone()));
        }
        let malformed = read("newest", &site).await;
        assert_eq!(malformed.violations(), [("id".to_owned(), "FORMAT".to_owned())]);

        // What is expunged is empty here too.
        let body = json!({"accountId": app.account(&member).await["id"]});
        app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let emptied = app.admin_list(&site, "/admin/v1/events", "events").await;
        assert_eq!(read(&id, &site).await.json(), json!({"event": emptied[0]}));
    }
}

on_both! {
    async fn everything_is_exported_however_much_it_is(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        for number in 0..126 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        let path = format!("{DELIVERIES}/export");
        let table = app.call("GET", &path).key(ADMIN_KEY, &site.id).send().await.text;
        let ids: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        let mut in_order = ids.clone();
        in_order.sort_unstable_by(|one, other| other.cmp(one));
        in_order.dedup();
        assert_eq!((ids.len(), &ids), (504, &in_order), "more than a page, each once, newest first");
    }
}
