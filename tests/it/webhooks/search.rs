//! The log can be searched by account, entity and time, and exported.

use serde_json::Value;

use super::{DELIVERIES, deliveries, installed_site, new_follower};
use crate::on_both;
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
             lastStatusCode,lastErrorClass"
                .to_owned(),
        ];
        for row in &rows {
            let last = if row["subscriptionId"] == id.as_str() { "503," } else { ",CONNECT_FAILED" };
            let of = |name: &str| text(&row[name]);
            let head = [of("id"), of("subscriptionId"), of("eventId"), ALL_EVENTS[0].to_owned()].join(",");
            expected.push(format!("{head},RETRYING,1,{},{},,{last}", of("createdDate"), of("nextAttemptDate")));
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
