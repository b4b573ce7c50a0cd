//! Follows as the owner sees them: who told of them, and how well they are proven.

use entity::kinds::Evidence;
use serde_json::{Value, json};

use super::NOW;
use super::channels::confirm;
use crate::on_both;
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

async fn list(app: &TestApp, site: &Site, query: &str) -> Value {
    app.call("GET", &format!("/admin/v1/followed-channels{query}")).key(ADMIN_KEY, &site.id).ok().await
}

async fn ids(app: &TestApp, site: &Site, query: &str) -> Vec<String> {
    let body = list(app, site, query).await;
    body["followedChannels"].as_array().unwrap().iter().map(|follow| text(&follow["id"])).collect()
}

on_both! {
    async fn follows_are_listed_with_their_evidence(app: &TestApp) {
        let site = app.site().await;
        let (one, two) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        assert_eq!(
            list(app, &site, "").await,
            json!({"followedChannels": [], "pagingMetadata": {"count": 0, "cursors": {}, "hasNext": false}})
        );
        let x = app.follow(&one, "X").await;
        let instagram = app.follow(&one, "INSTAGRAM").await;
        let other = app.follow(&two, "INSTAGRAM").await;
        app.clock.advance_ms(60_000);
        confirm(app, &instagram, Evidence::Verified).await;
        assert_eq!(list(app, &site, "").await, json!({
            "followedChannels": [
                {"id": other["id"], "accountId": other["accountId"], "memberId": two.id, "channel": "INSTAGRAM",
                 "createdDate": NOW, "source": "API", "evidence": "DECLARED"},
                {"id": instagram["id"], "accountId": x["accountId"], "memberId": one.id, "channel": "INSTAGRAM",
                 "createdDate": NOW, "source": "INSTAGRAM", "evidence": "VERIFIED",
                 "evidenceDate": "2024-08-01T11:52:41.431Z"},
                {"id": x["id"], "accountId": x["accountId"], "memberId": one.id, "channel": "X",
                 "createdDate": NOW, "source": "API", "evidence": "DECLARED"},
            ],
            "pagingMetadata": {"count": 3, "cursors": {}, "hasNext": false},
        }));
    }
}

on_both! {
    async fn follows_are_found_by_account_channel_and_evidence_page_by_page(app: &TestApp) {
        let site = app.site().await;
        let mut follows = Vec::new();
        for number in 0..3 {
            let member = app.member(&site, &format!("u-{number}")).await;
            for channel in ["X", "INSTAGRAM", "FACEBOOK"] {
                follows.push(app.follow(&member, channel).await);
            }
        }
        confirm(app, &follows[1], Evidence::Verified).await;
        confirm(app, &follows[4], Evidence::ClaimedHandle).await;
        confirm(app, &follows[7], Evidence::Verified).await;
        let chosen = |numbers: &[usize]| numbers.iter().map(|number| text(&follows[*number]["id"])).collect::<Vec<_>>();
        let account = text(&follows[3]["accountId"]);
        for (query, expected) in [
            (String::new(), chosen(&[8, 7, 6, 5, 4, 3, 2, 1, 0])),
            (format!("?accountId={account}"), chosen(&[5, 4, 3])),
            ("?channel=INSTAGRAM".to_owned(), chosen(&[7, 4, 1])),
            ("?evidence=VERIFIED".to_owned(), chosen(&[7, 1])),
            ("?evidence=CLAIMED_HANDLE".to_owned(), chosen(&[4])),
            ("?evidence=WITHDRAWN".to_owned(), chosen(&[])),
            ("?evidence=DECLARED&channel=INSTAGRAM".to_owned(), chosen(&[])),
            ("?evidence=DECLARED".to_owned(), chosen(&[8, 6, 5, 3, 2, 0])),
            (format!("?evidence=CLAIMED_HANDLE&channel=INSTAGRAM&accountId={account}"), chosen(&[4])),
        ] {
            assert_eq!(ids(app, &site, &query).await, expected, "{query}");
        }
        // The cursor holds the filter.
        let first = list(app, &site, "?evidence=DECLARED&limit=4").await;
        assert_eq!((&first["pagingMetadata"]["count"], &first["pagingMetadata"]["hasNext"]), (&json!(4), &json!(true)));
        let cursor = text(&first["pagingMetadata"]["cursors"]["next"]);
        assert_eq!(ids(app, &site, &format!("?cursor={cursor}")).await, chosen(&[2, 0]));
        let first = list(app, &site, &format!("?accountId={account}&limit=2")).await;
        let cursor = text(&first["pagingMetadata"]["cursors"]["next"]);
        assert_eq!(ids(app, &site, &format!("?cursor={cursor}")).await, chosen(&[3]));
        for (query, field, rule) in [
            ("?evidence=PROVEN", "evidence", "INVALID_ENUM_VALUE"),
            ("?channel=MYSPACE", "channel", "INVALID_ENUM_VALUE"),
            ("?accountId=u-1", "accountId", "FORMAT"),
            ("?limit=101", "limit", "MAX"),
            ("?cursor=x", "cursor", "FORMAT"),
        ] {
            let answer =
                app.call("GET", &format!("/admin/v1/followed-channels{query}")).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{query}");
        }
    }
}

on_both! {
    async fn g5_follows_of_another_site_are_not_listed(app: &TestApp) {
        let (one, two) = (app.site().await, app.site().await);
        let (of_one, of_two) = (app.member(&one, "u-1").await, app.member(&two, "u-1").await);
        let foreign = app.follow(&of_one, "X").await;
        let own = app.follow(&of_two, "X").await;
        confirm(app, &foreign, Evidence::Verified).await;
        assert_eq!(ids(app, &two, "").await, [text(&own["id"])]);
        assert_eq!(ids(app, &two, "?evidence=VERIFIED").await, Vec::<String>::new());
        let path = format!("?accountId={}", text(&foreign["accountId"]));
        assert_eq!(ids(app, &two, &path).await, Vec::<String>::new());
    }
}
