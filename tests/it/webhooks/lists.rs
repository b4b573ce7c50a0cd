//! The lists of deliveries and events: pages without gaps or repeats, filters inside the cursor.

use serde_json::{Value, json};

use super::{DELIVERIES, FOLLOWED, SUBSCRIPTIONS, installed_site, new_follower};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const EVENTS: &str = "/admin/v1/events";

/// Walks a list from `query` on with nothing but cursors and `limit`; gives the sizes of the pages and every id. New
/// events happen between the pages when `meanwhile` names a member.
async fn walk(
    app: &TestApp,
    site: &Site,
    (path, name): (&str, &str),
    (query, limit): (&str, usize),
    meanwhile: Option<&str>,
) -> (Vec<usize>, Vec<String>) {
    let mut url = format!("{path}?limit={limit}&{query}");
    let (mut sizes, mut ids) = (Vec::new(), Vec::new());
    loop {
        let page = app.call("GET", &url).key(ADMIN_KEY, &site.id).ok().await;
        let items = page[name].as_array().unwrap();
        sizes.push(items.len());
        ids.extend(items.iter().map(|item| text(&item["id"])));
        let next = page["pagingMetadata"]["cursors"]["next"].as_str().map(str::to_owned);
        let metadata = match &next {
            Some(next) => json!({"count": items.len(), "hasNext": true, "cursors": {"next": next}}),
            None => json!({"count": items.len(), "hasNext": false, "cursors": {}}),
        };
        assert_eq!(page["pagingMetadata"], metadata);
        let Some(next) = next else { return (sizes, ids) };
        url = format!("{path}?limit={limit}&cursor={next}");
        if let Some(prefix) = meanwhile {
            new_follower(app, site, &format!("{prefix}-{}", sizes.len())).await;
        }
    }
}

fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| text(&row["id"])).collect()
}

/// The rows whose `field` is `value`.
fn only(rows: &[Value], field: &str, value: &str) -> Vec<String> {
    rows.iter().filter(|row| row[field] == value).map(|row| text(&row["id"])).collect()
}

on_both! {
    async fn deliveries_come_in_pages_without_gaps_or_repeats_and_the_cursor_holds_the_filter(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (one, two) = (Receiver::start().await, Receiver::start().await);
        two.answer((0..5).map(|_| Reply::status(500)));
        let steady = app.subscribe(&site, &installed, &ALL_EVENTS, &one.url).await;
        let failing = app.subscribe(&site, &installed, &[FOLLOWED], &two.url).await;
        for number in 0..5 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        app.drain().await;
        let all = app.admin_list(&site, &format!("{DELIVERIES}?limit=100"), "webhookDeliveries").await;
        assert_eq!(all.len(), 25);
        assert!(all.windows(2).all(|pair| pair[0]["id"].as_str() > pair[1]["id"].as_str()), "newest first");

        let list = (DELIVERIES, "webhookDeliveries");
        assert_eq!(walk(app, &site, list, ("", 10), None).await, (vec![10, 10, 5], ids(&all)));
        assert_eq!(walk(app, &site, list, ("", 25), None).await, (vec![25], ids(&all)));
        assert_eq!(walk(app, &site, list, ("", 1), None).await.1, ids(&all));
        let of_failing = only(&all, "subscriptionId", &failing);
        let query = format!("subscriptionId={failing}");
        assert_eq!(walk(app, &site, list, (&query, 2), None).await, (vec![2, 2, 1], of_failing.clone()));
        assert_eq!(walk(app, &site, list, ("status=RETRYING", 2), None).await, (vec![2, 2, 1], of_failing));
        let event = text(&all[0]["eventId"]);
        let query = format!("eventId={event}&subscriptionId={steady}");
        let expected: Vec<String> = only(&all, "eventId", &event)
            .into_iter()
            .filter(|id| only(&all, "subscriptionId", &steady).contains(id))
            .collect();
        assert_eq!(expected.len(), 1);
        assert_eq!(walk(app, &site, list, (&query, 1), None).await, (vec![1], expected));
        let nothing = (vec![0], Vec::<String>::new());
        assert_eq!(walk(app, &site, list, ("status=CANCELLED", 7), None).await, nothing);

        let query = format!("subscriptionId={steady}&status=DELIVERED");
        let (sizes, seen) = walk(app, &site, list, (&query, 9), Some("during")).await;
        assert_eq!((sizes, seen), (vec![9, 9, 2], only(&all, "subscriptionId", &steady)));
        let stranger = app.site().await;
        assert_eq!(walk(app, &stranger, list, (&query, 9), None).await, nothing);
    }
}

on_both! {
    async fn events_come_in_pages_without_gaps_or_repeats_and_the_cursor_holds_the_filter(app: &TestApp) {
        let site = app.site().await;
        for number in 0..3 {
            new_follower(app, &site, &format!("u-{number}")).await;
            app.clock.advance_ms(1_000);
        }
        let all = app.admin_list(&site, &format!("{EVENTS}?limit=100"), "events").await;
        assert_eq!(all.len(), 12);
        let types: Vec<_> = all[..4].iter().map(|event| text(&event["eventType"])).collect();
        assert_eq!(types, [ALL_EVENTS[2], ALL_EVENTS[3], ALL_EVENTS[0], ALL_EVENTS[1]]);

        let list = (EVENTS, "events");
        assert_eq!(walk(app, &site, list, ("", 5), None).await, (vec![5, 5, 2], ids(&all)));
        assert_eq!(walk(app, &site, list, ("", 12), None).await, (vec![12], ids(&all)));
        let followed = only(&all, "eventType", FOLLOWED);
        let query = format!("type={FOLLOWED}");
        assert_eq!(walk(app, &site, list, (&query, 1), None).await, (vec![1, 1, 1], followed));
        let since = "since=2024-08-01T11:51:42.431Z";
        assert_eq!(walk(app, &site, list, (since, 3), None).await, (vec![3, 3, 2], ids(&all[..8])));
        let since = "since=2024-08-01T13:51:42.432%2B02:00";
        assert_eq!(walk(app, &site, list, (since, 3), None).await, (vec![3, 1], ids(&all[..4])));
        let query = format!("type={}&since=2024-08-01T11:51:42.431Z", ALL_EVENTS[3]);
        let updated: Vec<String> = only(&all[..8], "eventType", ALL_EVENTS[3]);
        assert_eq!(walk(app, &site, list, (&query, 1), None).await, (vec![1, 1], updated));
        assert_eq!(walk(app, &site, list, ("", 5), Some("during")).await, (vec![5, 5, 2], ids(&all)));
    }
}

on_both! {
    async fn a_page_that_cannot_be_is_refused(app: &TestApp) {
        let site = app.site().await;
        for path in [DELIVERIES, EVENTS, SUBSCRIPTIONS] {
            for (query, field, rule) in [
                ("limit=0", "limit", "MIN"),
                ("limit=101", "limit", "MAX"),
                ("limit=-1", "limit", "FORMAT"),
                ("limit=many", "limit", "FORMAT"),
                ("cursor=", "cursor", "FORMAT"),
                ("cursor=garbage", "cursor", "FORMAT"),
                ("cursor=WyJub3QtYS1ndWlkIix7fV0", "cursor", "FORMAT"),
                ("cursor=%00", "query", "FORMAT"),
            ] {
                let answer =
                    app.call("GET", &format!("{path}?{query}")).key(ADMIN_KEY, &site.id).send().await;
                assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{path}?{query}");
            }
            app.call("GET", &format!("{path}?limit=100&unknown=key")).key(ADMIN_KEY, &site.id).ok().await;
        }
        for (query, field, rule) in [
            (format!("{DELIVERIES}?status=LOST"), "status", "INVALID_ENUM_VALUE"),
            (format!("{DELIVERIES}?subscriptionId=7"), "subscriptionId", "FORMAT"),
            (format!("{DELIVERIES}?eventId=x"), "eventId", "FORMAT"),
            (format!("{EVENTS}?type=wix.unknown"), "type", "INVALID_ENUM_VALUE"),
            (format!("{EVENTS}?since=yesterday"), "since", "FORMAT"),
        ] {
            let answer = app.call("GET", &query).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{query}");
        }
        let answer =
            app.call("GET", &format!("{DELIVERIES}?limit=101")).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(
            answer.json(),
            json!({"message": "limit is between 1 and 100", "details": {"validationError": {"fieldViolations": [
                {"field": "limit", "description": "is between 1 and 100", "violatedRule": "MAX", "data": {"threshold": 100}},
            ]}}})
        );
    }
}
