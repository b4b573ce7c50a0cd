//! Posts that providers push.

use entity::kinds::ItemStatus;
use entity::{member_handle, member_profile};
use followpoints::inbox::LEASE_MS;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};

use super::{
    DAY, HOUR, NOW, activities, brewery, items, outcomes, post, push, reward_mentions, signature,
    signature_at, states, statuses, track, uuid, work,
};
use crate::on_both;
use crate::support::callers::{MANAGE, READ, UNKNOWN_ID};
use crate::support::tiktok::{
    BUSINESS_SECRET, DEVELOPER_SECRET, OLD_DEVELOPER_SECRET, options, payload, payload_text,
};
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const PATH: &str = "/ingest/tiktok/posts";
const RULES: &str = "/admin/v1/activity-rules";

/// A site that rewards mentions, and a member of it who claims `handle`.
async fn rewarded(app: &TestApp, handle: &str) -> (Site, Member) {
    let site = brewery(app).await;
    reward_mentions(app, &site).await;
    let mia = app.member(&site, "mia").await;
    app.claim_on_tiktok(&site, &mia, handle).await;
    (site, mia)
}

on_both! {
    async fn a_batch_is_answered_item_by_item(app: &TestApp) {
        let (site, mia) = rewarded(app, "miarunsoslo").await;

        let answer = push(app, &site, &payload("provider_push_batch")).await;
        let stored = items(app).await;
        let mut expected = payload("provider_push_reply");
        expected["results"][0]["event_id"] = stored[0].id.0.to_string().into();
        assert_eq!(answer, expected);

        work(app).await;
        let recorded = activities(app).await;
        assert_eq!(outcomes(app).await, [
            ("MENTIONED_YOU_SOCIAL", "AWARDED", 25), ("MENTIONED_YOU_SOCIAL", "UNMATCHED", 0),
        ]);
        let properties: Value = serde_json::from_str(&recorded[0].properties).unwrap();
        assert_eq!(properties, json!({
            "caption": "Cortado after 21k #NordbrewCoffee #oslo", "like_count": 240, "comments_count": 19,
            "platform": "tiktok", "mention_type": "hashtag", "media_type": "tiktok video",
        }));
        assert_eq!(recorded[0].external_id, "7709406013564211501");
        assert_eq!(recorded[0].occurred_at.to_rfc3339(), "2026-11-18T07:12:44.000Z");
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);

        // What the provider told of her is on her profile.
        let rows = member_profile::Entity::find().all(app.app.db.read()).await.unwrap();
        let profile: Value = serde_json::from_str(&rows[0].attributes).unwrap();
        for (name, value) in [
            ("tiktok_handle", json!("miarunsoslo")),
            ("tiktok_followers", json!(15320)),
            ("tiktok_follows", json!(411)),
            ("tiktok_bio", json!("running + coffee")),
            ("tiktok_profile_image", json!("https://p16-sign-va.tiktokcdn.com/a.webp")),
        ] {
            assert_eq!(profile[name]["value"], value, "{name}");
        }
    }
}

on_both! {
    async fn g1_a_post_is_recorded_before_it_is_acknowledged(app: &TestApp) {
        let (site, mia) = rewarded(app, "mia").await;
        let batch = json!({"items": [post(app, "mia", 1, 1), post(app, "nobody", 1, 2)]});
        assert_eq!(statuses(&push(app, &site, &batch).await), ["accepted", "unmatched"]);

        // Nobody has looked what is due.
        assert_eq!(outcomes(app).await, [
            ("MENTIONED_YOU_SOCIAL", "AWARDED", 25), ("MENTIONED_YOU_SOCIAL", "UNMATCHED", 0),
        ]);
        let settled: Vec<_> = items(app).await.iter().map(|item| (item.status, item.attempts)).collect();
        assert_eq!(settled, [(ItemStatus::Done, 1), (ItemStatus::Parked, 1)]);
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);
    }
}

on_both! {
    async fn g6_a_post_that_cannot_be_recorded_is_kept_and_recorded_once_it_can_be(app: &TestApp) {
        let (site, mia) = rewarded(app, "mia").await;
        let batch = json!({"items": [post(app, "mia", 1, 1)]});
        app.break_table("activity", "BEFORE INSERT", "NEW.handle = 'mia'").await;
        assert_eq!(statuses(&push(app, &site, &batch).await), ["accepted"]);
        assert_eq!(activities(app).await, []);
        assert_eq!(items(app).await[0].status, ItemStatus::Waiting);

        app.mend_table("activity").await;
        assert_eq!(statuses(&push(app, &site, &batch).await), ["duplicate"]);
        app.clock.advance_ms(LEASE_MS);
        work(app).await;
        assert_eq!(outcomes(app).await, [("MENTIONED_YOU_SOCIAL", "AWARDED", 25)]);
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);
    }
}

on_both! {
    async fn g1_a_post_counts_once_and_its_counts_may_change(app: &TestApp) {
        let (site, mia) = rewarded(app, "miarunsoslo").await;
        let mut batch = payload("provider_push_batch");
        push(app, &site, &batch).await;
        work(app).await;

        batch["items"][2]["like_count"] = json!(999);
        batch["items"][2]["caption"] = json!("another #nordbrewcoffee");
        let answer = push(app, &site, &batch).await;
        assert_eq!(statuses(&answer), ["duplicate", "duplicate", "duplicate"]);
        let alone = push(app, &site, &json!({"items": [batch["items"][1]]})).await;
        assert_eq!(alone, json!({"results": [{"external_id": "7708732717019908778", "status": "duplicate"}]}));
        work(app).await;

        let recorded = activities(app).await;
        let properties: Value = serde_json::from_str(&recorded[0].properties).unwrap();
        assert_eq!(properties["like_count"], 999);
        assert_eq!(properties["comments_count"], 19);
        assert_eq!(properties["caption"], "Cortado after 21k #NordbrewCoffee #oslo");
        assert_eq!(outcomes(app).await.len(), 2);
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);
        assert_eq!(items(app).await.len(), 2);
    }
}

on_both! {
    async fn g5_a_post_counts_on_each_site_by_itself(app: &TestApp) {
        let (one, two) = (brewery(app).await, app.site().await);
        let batch = payload("provider_push_batch");
        push(app, &one, &batch).await;
        assert_eq!(statuses(&push(app, &two, &batch).await), ["unmatched", "unmatched", "duplicate"]);
        assert_eq!(items(app).await.len(), 4);
    }
}

on_both! {
    async fn a_post_waits_for_whoever_claims_its_handle_later(app: &TestApp) {
        let site = brewery(app).await;
        reward_mentions(app, &site).await;
        let old = post(app, "@Mia.Runs", 60, 1);
        assert_eq!(statuses(&push(app, &site, &json!({"items": [old]})).await), ["unmatched"]);
        work(app).await;
        assert_eq!(states(app).await[0].1, ItemStatus::Parked);

        app.clock.advance_ms(3 * DAY);
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "mia.runs").await;
        work(app).await;
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);

        // What comes now and was posted long before the claim does not count for who only says so: it waits for somebody else.
        let before = post(app, "mia.runs", 25, 2);
        let within = post(app, "mia.runs", 23, 3);
        let answer = push(app, &site, &json!({"items": [before, within]})).await;
        assert_eq!(statuses(&answer), ["unmatched", "accepted"]);
        work(app).await;
        assert_eq!(app.account(&mia).await["points"]["balance"], 50);
        let (_, status, reason) = states(app).await[1].clone();
        assert_eq!((status, reason.as_str()), (ItemStatus::Parked, "it was posted before the member claimed the handle"));

        prove_on_tiktok(app, &mia).await;
        let answer = push(app, &site, &json!({"items": [before, post(app, "mia.runs", 26, 4)]})).await;
        assert_eq!(statuses(&answer), ["duplicate", "too_old"]);
        assert_eq!(answer["results"][1]["reason"], "it was posted before the member claimed the handle");
    }
}

/// The platform has said that the member has the handle that they claim.
async fn prove_on_tiktok(app: &TestApp, member: &Member) {
    let tx = app.app.db.write().await.unwrap();
    member_handle::Entity::update_many()
        .col_expr(member_handle::Column::Person, Expr::val("open id"))
        .col_expr(member_handle::Column::PersonAccount, Expr::val(""))
        .col_expr(member_handle::Column::ProvenAt, Expr::val(tx.now().0))
        .filter(member_handle::Column::MemberId.eq(uuid(&member.id)))
        .exec(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

on_both! {
    async fn rules_and_hashtags_count_from_when_they_are_said(app: &TestApp) {
        let site = brewery(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "mia").await;
        let next = async |number: u64| {
            push(app, &site, &json!({"items": [post(app, "mia", 1, number)]})).await;
            let state = states(app).await.pop().unwrap().2;
            outcomes(app).await.last().map(|(_, outcome, points)| (*outcome, *points, state))
        };
        let state = |outcome, points, reason: &str| Some((outcome, points, reason.to_owned()));
        assert_eq!(next(1).await, state("IGNORED", 0, ""));
        let body = json!({"activityRule": {
            "type": "MENTIONED_YOU_SOCIAL", "points": 25, "enabled": true, "limits": {"total": {"points": 55}},
        }});
        let rule = app.call("POST", RULES).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(next(2).await, state("AWARDED", 25, ""));
        assert_eq!(next(3).await, state("AWARDED", 25, ""));
        assert_eq!(next(4).await, state("CAPPED", 0, ""), "50 of 55 points are awarded");

        let path = format!("{RULES}/{}", text(&rule["activityRule"]["id"]));
        let body = json!({"activityRule": {"points": 5}});
        let changed = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(changed["activityRule"]["awardedPoints"], 50);
        assert_eq!(next(5).await, state("AWARDED", 5, ""));
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(next(6).await, state("IGNORED", 0, ""));

        let hashtag = app.admin_list(&site, "/admin/v1/tiktok-hashtags", "tiktokHashtags").await.pop().unwrap();
        let path = format!("/admin/v1/tiktok-hashtags/{}", text(&hashtag["id"]));
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(next(7).await, state("IGNORED", 0, "no tracked hashtag is in it"));
        assert_eq!(outcomes(app).await.len(), 6);
        track(app, &site, "#nordbrewcoffee").await;
        next(8).await;
        assert_eq!(outcomes(app).await.len(), 7);
    }
}

on_both! {
    async fn a_known_post_is_a_duplicate_however_late_it_comes_again(app: &TestApp) {
        let (site, _) = rewarded(app, "mia").await;
        let mut known = post(app, "mia", 1, 1);
        push(app, &site, &json!({"items": [known]})).await;
        app.clock.advance_ms(40 * DAY);
        known["like_count"] = json!(7);
        let mut late = post(app, "mia", 39 * 24, 2);
        late["posted_at"] = known["posted_at"].clone();
        let answer = push(app, &site, &json!({"items": [known, late, late]})).await;
        assert_eq!(statuses(&answer), ["duplicate", "too_old", "too_old"]);
        assert_eq!(answer["results"][0]["reason"], Value::Null);
        let recorded: Value = serde_json::from_str(&activities(app).await[0].properties).unwrap();
        assert_eq!(recorded["like_count"], 7);
        assert_eq!(items(app).await.len(), 1);
    }
}

on_both! {
    async fn what_is_too_old_or_of_another_time_does_not_count(app: &TestApp) {
        let site = brewery(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "mia").await;
        app.clock.advance_ms(40 * DAY);
        let replayed = |hours: i64, number: u64, said_hours: i64| {
            let mut post = post(app, "mia", hours, number);
            post["posted_at"] = app.app.db.now().plus_ms(-said_hours * HOUR).to_rfc3339().into();
            post
        };
        let answer = push(app, &site, &json!({"items": [
            post(app, "mia", 30 * 24 - 1, 1),
            post(app, "mia", 30 * 24 + 1, 2),
            replayed(24 * 20, 3, 1),
            replayed(71, 4, 1),
            replayed(1, 5, -48),
            {"external_id": "short-id_7", "author_handle": "mia", "posted_at": app.app.db.now().seconds(), "caption": "#x"},
        ]})).await;
        assert_eq!(statuses(&answer), ["accepted", "too_old", "too_old", "accepted", "too_old", "accepted"]);
        let reasons: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| r["reason"].as_str()).collect();
        assert_eq!(reasons, [
            None,
            Some("it was posted more than 30 days ago"),
            Some("its id was made at another time"),
            None,
            Some("it says that it was posted in the future"),
            None,
        ]);
        assert_eq!(items(app).await.len(), 3, "what does not count is not stored by itself");
    }
}

on_both! {
    async fn one_bad_row_spoils_nothing(app: &TestApp) {
        let site = brewery(app).await;
        let good = post(app, "mia", 1, 1);
        let without = |name: &str| {
            let mut post = post(app, "mia", 1, 9);
            post.as_object_mut().unwrap().remove(name);
            post
        };
        let with = |name: &str, value: Value| {
            let mut post = post(app, "mia", 1, 8);
            post[name] = value;
            post
        };
        let rows = [
            (json!({"error": "no_items", "errorDescription": "Empty or private data", "url": "https://x"}),
             "is an error of the provider: no_items"),
            (json!(null), "is not an object"),
            (json!([]), "is not an object"),
            (json!({}), "external_id is missing, or is not an id"),
            (without("external_id"), "external_id is missing, or is not an id"),
            (with("external_id", json!("a b")), "external_id is missing, or is not an id"),
            (with("external_id", json!(1.5)), "external_id is missing, or is not an id"),
            (without("author_handle"), "author_handle is missing"),
            (with("author_handle", json!("mía")), "author_handle is not a handle"),
            (without("posted_at"), "posted_at is missing, or is not an instant"),
            (with("posted_at", json!("yesterday")), "posted_at is missing, or is not an instant"),
            (with("platform", json!("instagram")), "platform is not tiktok"),
        ];
        let mut batch: Vec<Value> = rows.iter().map(|(row, _)| row.clone()).collect();
        batch.push(good.clone());
        let answer = push(app, &site, &json!({"batch_id": "b", "items": batch})).await;
        let results = answer["results"].as_array().unwrap();
        for ((row, reason), result) in rows.iter().zip(results) {
            assert_eq!(result["status"], "invalid", "{row}");
            assert_eq!(result["reason"], *reason, "{row}");
        }
        assert_eq!(results[rows.len()], json!({"external_id": good["external_id"], "status": "unmatched"}));
        assert_eq!(answer["batch_id"], "b");
    }
}

on_both! {
    async fn apifys_rows_are_understood(app: &TestApp) {
        let site = brewery(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        let row = json!({
            "id": "7709406013564211501", "text": "Cortado after 21k", "createTime": 1_794_985_964,
            "createTimeISO": "2026-11-18T07:12:44.000Z", "diggCount": 231, "commentCount": 18, "shareCount": 4,
            "authorMeta": {"id": "6812345678901234567", "name": "MiaRunsOslo", "nickName": "Mia Runs", "verified": false,
                           "signature": "running + coffee", "fans": 15320, "following": 411,
                           "avatar": "https://p16-sign-va.tiktokcdn.com/a.webp"},
            "webVideoUrl": "https://www.tiktok.com/@miarunsoslo/video/7709406013564211501",
            "hashtags": [{"id": "1", "name": "NordbrewCoffee"}, {"name": null}, 7], "isAd": false,
        });
        assert_eq!(statuses(&push(app, &site, &json!({"items": [row]})).await), ["accepted"]);
        work(app).await;
        let recorded = activities(app).await;
        let properties: Value = serde_json::from_str(&recorded[0].properties).unwrap();
        assert_eq!(properties["like_count"], 231);
        assert_eq!(properties["comments_count"], 18);
        assert_eq!(properties["caption"], "Cortado after 21k");
        assert_eq!(recorded[0].handle.as_deref(), Some("miarunsoslo"));
    }
}

on_both! {
    async fn only_posts_with_a_tracked_hashtag_count(app: &TestApp) {
        let site = brewery(app).await;
        track(app, &site, "#珈琲").await;
        let captions = [
            ("no tag", false),
            ("#nordbrewcoffees", false),
            ("nordbrewcoffee", false),
            ("#NORDBREWCOFFEE!", true),
            ("#x#nordbrewcoffee☕", true),
            ("今日は＃珈琲。", true),
            ("#nordbrew\u{200d}coffee", true),
        ];
        let posts: Vec<Value> = captions.iter().zip(1..).map(|((caption, _), number)| {
            let mut post = post(app, "nobody", 1, number);
            post["caption"] = json!(caption);
            post
        }).collect();
        push(app, &site, &json!({"items": posts})).await;
        work(app).await;
        for ((caption, counts), (_, _, reason)) in captions.iter().zip(states(app).await) {
            assert_eq!(reason == "no tracked hashtag is in it", !counts, "{caption}: {reason}");
        }
        assert_eq!(activities(app).await.len(), 4);
    }
}

on_both! {
    options: options().await,
    async fn g6_a_provider_without_a_key_signs(app: &TestApp) {
        let site = brewery(app).await;
        let body = payload_text("provider_push_batch").into_bytes();
        let call = |signature: &str, site: Option<&str>| {
            let call = app.call("POST", PATH).header("tiktok-signature", signature);
            let call = if let Some(site) = site { call.header("wix-site-id", site) } else { call };
            call.text("application/json", body.clone()).send()
        };
        let good = signature(app, DEVELOPER_SECRET, &body);
        for (wrong, reason) in [
            ("", "is not t="),
            ("t=1,s=00", "is not t="),
            (&signature(app, BUSINESS_SECRET, &body), "was not made"),
            (&signature(app, DEVELOPER_SECRET, b"another"), "was not made"),
            (&signature_at(NOW.plus_ms(-74 * HOUR), DEVELOPER_SECRET, &body), "too old"),
            (&signature_at(NOW.plus_ms(HOUR), DEVELOPER_SECRET, &body), "future"),
        ] {
            let answer = call(wrong, Some(&site.id)).await;
            assert_eq!(answer.error(), (403, "PERMISSION_DENIED".to_owned()), "{wrong}");
            assert!(answer.text.contains(reason), "{}", answer.text);
        }
        assert_eq!(call(&good, None).await.violations(), [("wix-site-id".to_owned(), "REQUIRED_FIELD".to_owned())]);
        assert_eq!(call(&good, Some("x")).await.violations(), [("wix-site-id".to_owned(), "FORMAT".to_owned())]);
        assert_eq!(call(&good, Some(UNKNOWN_ID)).await.error(), (404, "SITE_NOT_FOUND".to_owned()));
        let with_key = app.call("POST", PATH).auth("fpk_wrong").header("tiktok-signature", &good);
        let with_key = with_key.header("wix-site-id", &site.id).text("application/json", body.clone()).send().await;
        assert_eq!(with_key.status.as_u16(), 401, "a key beside it goes first");
        assert!(items(app).await.is_empty());

        assert_eq!(statuses(&call(&good, Some(&site.id)).await.json()), ["unmatched", "unmatched", "duplicate"]);
        let old = signature(app, OLD_DEVELOPER_SECRET, &body);
        assert_eq!(call(&old, Some(&site.id)).await.status.as_u16(), 200, "while secrets are exchanged both count");
    }
}

on_both! {
    async fn keys_need_the_scope_and_batches_have_limits(app: &TestApp) {
        let site = brewery(app).await;
        let (reader, manager) = (app.site_key(&site, READ).await, app.site_key(&site, MANAGE).await);
        let batch = json!({"items": []});
        let denied = app.call("POST", PATH).auth(&reader.secret).json(&batch).send().await;
        assert_eq!(denied.error(), (403, "PERMISSION_DENIED".to_owned()));
        let bearer = format!("Bearer {}", manager.secret);
        assert_eq!(app.call("POST", PATH).auth(&bearer).json(&batch).ok().await, json!({"results": []}));
        let nobody = app.call("POST", PATH).header("wix-site-id", &site.id).json(&batch).send().await;
        assert_eq!(nobody.status.as_u16(), 401);

        let many = json!({"items": vec![json!({}); 501]});
        let answer = app.call("POST", PATH).key(ADMIN_KEY, &site.id).json(&many).send().await;
        assert_eq!(answer.violations(), [("items".to_owned(), "MAX_SIZE".to_owned())]);
        let full: Vec<Value> = (0..500).map(|number| post(app, "nobody", 1, number)).collect();
        let answer = push(app, &site, &json!({"items": full})).await;
        assert!(statuses(&answer).iter().all(|status| *status == "unmatched"));
        assert_eq!(items(app).await.len(), 500);

        let call = |size: usize| {
            let body = format!("{{\"items\":[]{}}}", " ".repeat(size - 12));
            app.call("POST", PATH).key(ADMIN_KEY, &site.id).text("application/json", body).send()
        };
        assert_eq!(call(4 * 1024 * 1024).await.status.as_u16(), 200);
        assert_eq!(call(4 * 1024 * 1024 + 1).await.status.as_u16(), 413);
    }
}
