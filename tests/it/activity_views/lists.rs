//! The lists of activities and of what platforms sent, and one activity with all that belongs to it.

use entity::id::{AccountId, MemberId, SiteId};
use entity::kinds::{ActivityOutcome, ActivityType, ItemStatus, MentionType, Platform};
use entity::{activity, follow_change, item};
use serde_json::{Value, json};

use super::{ACTIVITIES, AT, ITEMS};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::sources::{activity as unmatched, award, guid, insert, item as sent};
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

/// Every id of the list at `path`, from page to page, and how long the pages are.
async fn walk(
    app: &TestApp,
    (auth, site): (&str, &str),
    (path, name): (&str, &str),
    (query, limit): (&str, usize),
) -> (Vec<usize>, Vec<String>) {
    let (mut sizes, mut ids) = (Vec::new(), Vec::new());
    let mut url = format!("{path}?limit={limit}&{query}");
    loop {
        let mut call = app.call("GET", &url).auth(auth);
        if !site.is_empty() {
            call = call.header("wix-site-id", site);
        }
        let page = call.ok().await;
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
        // The cursor holds the filter.
        url = format!("{path}?limit={limit}&cursor={next}");
    }
}

/// An activity of each sort, a second apart: the rows from the newest.
async fn some_of_each(app: &TestApp, site: &Site, member: &Member) -> Vec<activity::Model> {
    use ActivityOutcome as O;
    use ActivityType as T;
    let member = Some(MemberId(guid(&member.id)));
    let mut rows = Vec::new();
    for (number, (kind, platform, outcome, member_id, handle)) in [
        (T::MentionedYou, Platform::Instagram, O::Awarded, member, Some("nordfan")),
        (T::MentionedYou, Platform::Tiktok, O::Capped, member, Some("nord.fan")),
        (T::DmYou, Platform::Instagram, O::Held, member, Some("nordfan")),
        (T::FollowedYou, Platform::Instagram, O::AlreadyEarned, member, None),
        (T::CommentedYou, Platform::Tiktok, O::Ignored, None, Some("somebody")),
        (T::CommentMentionedYou, Platform::Instagram, O::Unmatched, None, Some("nordfan")),
    ]
    .into_iter()
    .enumerate()
    {
        let tx = app.app.db.write().await.unwrap();
        let item = item::Model { platform, ..sent(&tx, site, &format!("thing:{number}")) };
        let row = activity::Model {
            activity_type: kind,
            outcome,
            member_id,
            handle: handle.map(str::to_owned),
            ..unmatched(&tx, &item)
        };
        insert(&tx, [item]).await;
        insert(&tx, [row.clone()]).await;
        tx.commit().await.unwrap();
        rows.insert(0, row);
        app.clock.advance_ms(1_000);
    }
    rows
}

on_both! {
    async fn activities_are_listed_by_every_filter_in_pages(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let rows = some_of_each(app, &site, &member).await;
        let list = (ACTIVITIES, "activities");
        let as_owner = (ADMIN_KEY, site.id.as_str());
        let only = |wanted: &dyn Fn(&activity::Model) -> bool| -> Vec<String> {
            rows.iter().filter(|row| wanted(row)).map(|row| row.id.to_string()).collect()
        };
        assert_eq!(walk(app, as_owner, list, ("", 4)).await, (vec![4, 2], only(&|_| true)));
        assert_eq!(walk(app, as_owner, list, ("", 6)).await.0, [6]);
        for kind in ActivityType::ALL {
            let expected = only(&|row| row.activity_type == *kind);
            assert_eq!(walk(app, as_owner, list, (&format!("type={kind}"), 1)).await.1, expected, "{kind}");
        }
        for outcome in ActivityOutcome::ALL {
            let expected = only(&|row| row.outcome == *outcome);
            assert_eq!(expected.len(), 1);
            assert_eq!(walk(app, as_owner, list, (&format!("outcome={outcome}"), 1)).await.1, expected);
        }
        let expected = only(&|row| row.platform == Platform::Instagram);
        assert_eq!(walk(app, as_owner, list, ("platform=INSTAGRAM", 3)).await, (vec![3, 1], expected));
        let query = format!("memberId={}", member.id);
        assert_eq!(walk(app, as_owner, list, (&query, 3)).await, (vec![3, 1], only(&|row| row.member_id.is_some())));
        for written in ["nordfan", "@NordFan", "%20@nordfan%20"] {
            let expected = only(&|row| row.handle.as_deref() == Some("nordfan"));
            assert_eq!(walk(app, as_owner, list, (&format!("handle={written}"), 2)).await, (vec![2, 1], expected));
        }
        let between = "since=2024-08-01T11:51:42.431Z&until=2024-08-01T13:51:45.431%2B02:00";
        assert_eq!(walk(app, as_owner, list, (between, 2)).await, (vec![2, 1], only(&|row| {
            (1_000..4_000).contains(&(row.created_at.0 - rows[5].created_at.0))
        })));
        let query = format!("{between}&platform=INSTAGRAM&type=DM_YOU_SOCIAL&outcome=HELD&memberId={}", member.id);
        assert_eq!(walk(app, as_owner, list, (&query, 1)).await.1, only(&|row| row.activity_type == ActivityType::DmYou));
        let query = format!("memberId={UNKNOWN_ID}");
        assert_eq!(walk(app, as_owner, list, (&query, 1)).await, (vec![0], vec![]));

        let other = app.site().await;
        assert_eq!(walk(app, (ADMIN_KEY, &other.id), list, ("", 9)).await, (vec![0], vec![]));
    }
}

on_both! {
    async fn what_cannot_be_asked_is_refused(app: &TestApp) {
        let site = app.site().await;
        for (path, field, rule) in [
            (format!("{ACTIVITIES}?type=LIKED_YOU_SOCIAL"), "type", "INVALID_ENUM_VALUE"),
            (format!("{ACTIVITIES}?platform=X"), "platform", "INVALID_ENUM_VALUE"),
            (format!("{ACTIVITIES}?outcome=awarded"), "outcome", "INVALID_ENUM_VALUE"),
            (format!("{ACTIVITIES}?memberId=7"), "memberId", "FORMAT"),
            (format!("{ACTIVITIES}?handle=no%20handle"), "handle", "FORMAT"),
            (format!("{ACTIVITIES}?since=yesterday"), "since", "FORMAT"),
            (format!("{ACTIVITIES}?until=2024"), "until", "FORMAT"),
            (format!("{ACTIVITIES}?limit=0"), "limit", "MIN"),
            (format!("{ACTIVITIES}?limit=101"), "limit", "MAX"),
            (format!("{ACTIVITIES}?cursor=garbage"), "cursor", "FORMAT"),
            (format!("{ACTIVITIES}/7"), "id", "FORMAT"),
            (format!("{ITEMS}?status=LOST"), "status", "INVALID_ENUM_VALUE"),
            (format!("{ITEMS}?kind={}", "k".repeat(101)), "kind", "FORMAT"),
            (format!("{ITEMS}?limit=101"), "limit", "MAX"),
            (format!("{ITEMS}?cursor=garbage"), "cursor", "FORMAT"),
        ] {
            let answer = app.call("GET", &path).key(ADMIN_KEY, &site.id).send().await;
            let expected = (400, vec![(field.to_owned(), rule.to_owned())]);
            assert_eq!((answer.status.as_u16(), answer.violations()), expected, "{path}");
        }
    }
}

/// An activity that has caused everything there is: its id and item, and the rule's id.
async fn awarded(app: &TestApp, site: &Site, member: &str, account: &str) -> (String, String) {
    let tx = app.app.db.write().await.unwrap();
    let item = sent(&tx, site, "mention:1");
    let row = activity::Model {
        mention_type: Some(MentionType::Tag),
        member_id: Some(MemberId(guid(member))),
        account_id: Some(AccountId(guid(account))),
        outcome: ActivityOutcome::Awarded,
        reason: None,
        points: 25,
        ..unmatched(&tx, &item)
    };
    let change = follow_change::Model {
        id: tx.new_id(),
        site_id: SiteId(guid(&site.id)),
        platform: Platform::Instagram,
        person: "17841400000000001".to_owned(),
        member_id: row.member_id,
        follows: true,
        item_id: item.id,
        seen_at: tx.now(),
    };
    let ids = (row.id.to_string(), item.id.to_string());
    insert(&tx, [award(&tx, &row, UNKNOWN_ID, 2)]).await;
    insert(&tx, [item]).await;
    insert(&tx, [row]).await;
    insert(&tx, [change]).await;
    tx.commit().await.unwrap();
    ids
}

on_both! {
    async fn an_activity_shows_where_it_came_from_and_what_it_has_caused(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let account = app.new_account(&site, &member).await;
        let (id, item) = awarded(app, &site, &member.id, &account).await;
        let read = app.call("GET", &format!("{ACTIVITIES}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        let occurred = "2024-08-01T11:51:40.431Z";
        let shown = json!({
            "id": id, "type": "MENTIONED_YOU_SOCIAL", "platform": "INSTAGRAM", "externalId": "thing of mention:1",
            "mentionType": "tag", "memberId": member.id, "accountId": account, "handle": "nordfan",
            "properties": {"caption": "New mug day #NordBrew", "platform": "instagram"}, "outcome": "AWARDED",
            "points": 25, "occurredDate": occurred, "createdDate": AT, "updatedDate": AT,
        });
        assert_eq!(
            read,
            json!({
                "activity": shown,
                "sourceItem": {
                    "id": item, "platform": "INSTAGRAM", "platformAccountId": format!("brand of {}", site.id),
                    "kind": "mention", "handle": "nordfan", "status": "DONE", "attempts": 1,
                    "occurredDate": occurred, "receivedDate": AT, "payload": {"media_id": "m-1"},
                },
                "effects": {
                    "awards": [{"ruleId": UNKNOWN_ID, "ruleRevision": "2", "points": 25, "awardedDate": AT}],
                    "followChange": {"follows": true, "memberId": member.id, "seenDate": AT},
                    "eventIds": [],
                },
            })
        );
        let list = app.call("GET", ACTIVITIES).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(list["activities"], json!([shown]));
        let mine = app.call("GET", "/me/v1/activities").auth(&member.token).ok().await;
        assert_eq!(
            mine,
            json!({"activities": [shown], "pagingMetadata": {"count": 1, "hasNext": false, "cursors": {}}})
        );

        let plain = app.activity_of(&site, &member.id, "mention:2").await;
        let read = app.call("GET", &format!("{ACTIVITIES}/{plain}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["effects"], json!({"awards": [], "eventIds": []}));
        assert_eq!(read["activity"]["reason"], "nobody is known to have this handle");
    }
}

on_both! {
    async fn g5_members_see_their_own_activities_only_and_owners_their_sites(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let (one, two) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        let abroad = app.member(&other, "u-1").await;
        let mut ids = Vec::new();
        for number in 0..3 {
            ids.insert(0, app.activity_of(&site, &one.id, &format!("of one:{number}")).await);
        }
        let of_two = app.activity_of(&site, &two.id, "of two").await;
        let list = ("/me/v1/activities", "activities");
        assert_eq!(walk(app, (&one.token, ""), list, ("", 2)).await, (vec![2, 1], ids));
        assert_eq!(walk(app, (&two.token, ""), list, ("", 2)).await, (vec![1], vec![of_two.clone()]));
        assert_eq!(walk(app, (&abroad.token, ""), list, ("", 2)).await, (vec![0], vec![]));
        // A cursor says where to go on, and never whose.
        let first = app.call("GET", "/me/v1/activities?limit=1").auth(&one.token).ok().await;
        let cursor = text(&first["pagingMetadata"]["cursors"]["next"]);
        let elsewhere = app.call("GET", &format!("/me/v1/activities?cursor={cursor}")).auth(&two.token).ok().await;
        assert_eq!(elsewhere["activities"], json!([]));
        let owners = format!("{ACTIVITIES}?limit=1&memberId={}", one.id);
        let first = app.call("GET", &owners).key(ADMIN_KEY, &site.id).ok().await;
        let cursor = text(&first["pagingMetadata"]["cursors"]["next"]);
        let stolen = app.call("GET", &format!("/me/v1/activities?cursor={cursor}")).auth(&two.token).send().await;
        assert!(!stolen.text.contains(&one.id), "{}", stolen.text);

        for id in [of_two.as_str(), UNKNOWN_ID] {
            let answer = app.call("GET", &format!("{ACTIVITIES}/{id}")).key(ADMIN_KEY, &other.id).send().await;
            assert_eq!(answer.error(), (404, "ACTIVITY_NOT_FOUND".to_owned()));
        }
        let query = format!("{ACTIVITIES}?memberId={}", two.id);
        let abroad = app.call("GET", &query).key(ADMIN_KEY, &other.id).ok().await;
        assert_eq!(abroad["activities"], json!([]));
    }
}

on_both! {
    async fn the_inbox_says_why_nothing_came_of_something(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let tx = app.app.db.write().await.unwrap();
        let later = tx.now().plus_ms(60_000);
        let done = item::Model { reason: Some("the dashboard's test".to_owned()), ..sent(&tx, &site, "1") };
        let waiting = item::Model {
            status: ItemStatus::Waiting,
            kind: "message".to_owned(),
            reason: Some("Instagram asks us to slow down".to_owned()),
            attempts: 3,
            due_at: later,
            ..sent(&tx, &site, "2")
        };
        let parked = item::Model {
            status: ItemStatus::Parked,
            due_at: later,
            expires_at: Some(later),
            occurred_at: None,
            handle: None,
            ..sent(&tx, &site, "3")
        };
        let ids = [&done, &waiting, &parked].map(|row| row.id.to_string());
        let nowhere = item::Model { site_id: None, ..sent(&tx, &site, "4") };
        let abroad = sent(&tx, &other, "5");
        insert(&tx, [done, waiting, parked, nowhere, abroad]).await;
        tx.commit().await.unwrap();

        let listed = app.call("GET", ITEMS).key(ADMIN_KEY, &site.id).ok().await;
        let shown = |id: &str, more: Value| {
            let mut item = json!({
                "id": id, "platform": "INSTAGRAM", "platformAccountId": format!("brand of {}", site.id),
                "attempts": 1, "receivedDate": AT,
            });
            item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            item
        };
        let (at, due) = ("2024-08-01T11:51:40.431Z", "2024-08-01T11:52:41.431Z");
        assert_eq!(listed, json!({
            "sourceItems": [
                shown(&ids[2], json!({"kind": "mention", "status": "PARKED", "dueDate": due, "expiresDate": due})),
                shown(&ids[1], json!({
                    "kind": "message", "status": "WAITING", "reason": "Instagram asks us to slow down", "attempts": 3,
                    "dueDate": due, "handle": "nordfan", "occurredDate": at,
                })),
                shown(&ids[0], json!({
                    "kind": "mention", "status": "DONE", "reason": "the dashboard's test", "handle": "nordfan",
                    "occurredDate": at,
                })),
            ],
            "pagingMetadata": {"count": 3, "hasNext": false, "cursors": {}},
        }));
        let (list, as_owner) = ((ITEMS, "sourceItems"), (ADMIN_KEY, site.id.as_str()));
        let [done, waiting, parked] = ids;
        for (query, expected) in [
            ("status=DONE", vec![done.clone()]),
            ("status=WAITING", vec![waiting.clone()]),
            ("status=PARKED", vec![parked.clone()]),
            ("kind=mention", vec![parked.clone(), done.clone()]),
            ("kind=mention&status=DONE", vec![done.clone()]),
            ("kind=story", vec![]),
            ("", vec![parked, waiting, done]),
        ] {
            assert_eq!(walk(app, as_owner, list, (query, 1)).await.1, expected, "{query}");
        }
    }
}
