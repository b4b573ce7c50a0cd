//! The brand's account, read by API for Business.

use entity::connection;
use entity::id::ConnectionId;
use entity::kinds::ItemStatus;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    BUSINESS, HOUR, activities, brewery, connect, items, outcomes, post, push, reward_mentions, send, states,
    statuses, work,
};
use crate::support::sources::insert;
use crate::support::tiktok::{BUSINESS_SECRET, Tiktok, options, payload, payload_text};
use crate::support::{TestApp, until};
use crate::{on_both, on_both_databases};

const HASHTAGS: &str = "/open_api/v1.3/business/mention/hashtag/video/list/";
const MENTIONS: &str = "/open_api/v1.3/business/mention/video/list/";

fn list(videos: &[Value]) -> Value {
    json!({"code": 0, "message": "OK", "request_id": "r", "data": {"videos": videos, "cursor": 0, "has_more": false}})
}

async fn connection(app: &TestApp) -> connection::Model {
    connection::Entity::find().one(app.app.db.read()).await.unwrap().unwrap()
}

/// A video as the list has it.
fn video(app: &TestApp, handle: &str, number: u64) -> Value {
    let post = post(app, handle, 1, number);
    json!({
        "item_id": post["external_id"], "create_time": (app.app.db.now().seconds() - 3600).to_string(),
        "video_link": format!("https://www.tiktok.com/@{handle}/video/{}", post["external_id"].as_str().unwrap()),
        "caption": "again #nordbrewcoffee", "likes": 3, "comments": 1, "matched_hashtags": ["NordbrewCoffee"],
    })
}

on_both! {
    options: options().await,
    async fn g1_the_first_reading_marks_what_was_there_before(app: &TestApp) {
        let site = brewery(app).await;
        reward_mentions(app, &site).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        connect(app, &site).await;
        let tiktok = Tiktok::of(app);

        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 1);
        work(app).await;
        assert_eq!(items(app).await.len(), 3, "two by hashtag, one by mention");
        assert!(states(app).await.iter().all(|(_, status, reason)| {
            *status == ItemStatus::Done && reason == "it was posted before the account was connected and its hashtag tracked"
        }));
        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 0, "it is read again when it is due");
        // A provider that tells of a marked one tells nothing new.
        let batch = payload("provider_push_batch");
        assert_eq!(statuses(&push(app, &site, &json!({"items": [batch["items"][0]]})).await), ["duplicate"]);

        app.clock.advance_ms(HOUR / 6);
        let mut videos = payload("business_mention_hashtag_video_list")["data"]["videos"].as_array().unwrap().clone();
        videos.extend([video(app, "MiaRunsOslo", 1), video(app, "stranger", 2)]);
        tiktok.always(HASHTAGS, 200, list(&videos));
        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 1);
        app.clock.advance_ms(HOUR / 6);
        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 1);
        work(app).await;
        assert_eq!(outcomes(app).await, [("MENTIONED_YOU_SOCIAL", "AWARDED", 25), ("MENTIONED_YOU_SOCIAL", "UNMATCHED", 0)]);
        let recorded = activities(app).await;
        let properties: Value = serde_json::from_str(&recorded[0].properties).unwrap();
        assert_eq!(properties, json!({
            "caption": "again #nordbrewcoffee", "like_count": 3, "comments_count": 1, "platform": "tiktok",
            "mention_type": "hashtag", "media_type": "tiktok video",
        }));
        assert_eq!(recorded[0].handle.as_deref(), Some("miarunsoslo"), "it is taken from the address");
        assert_eq!(connection(app).await.last_item_at.map(|at| at.0), Some(app.app.db.now().0 - HOUR / 6));
    }
}

on_both! {
    options: options().await,
    async fn g1_the_first_reading_counts_what_came_after_the_connection_or_the_hashtag(app: &TestApp) {
        let site = brewery(app).await;
        reward_mentions(app, &site).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        // The hashtag is tracked for four hours when the account is connected, and the first reading comes two hours later.
        app.clock.advance_ms(4 * HOUR);
        connect(app, &site).await;
        app.clock.advance_ms(2 * HOUR);
        let posted = |number: u64, hours: i64, caption: &str| {
            let post = post(app, "miarunsoslo", hours, number);
            json!({
                "item_id": post["external_id"], "create_time": (app.app.db.now().seconds() - hours * 3600).to_string(),
                "video_link": format!("https://www.tiktok.com/@miarunsoslo/video/{}", post["external_id"].as_str().unwrap()),
                "caption": caption,
            })
        };
        let (tag, tiktok) = ("#nordbrewcoffee", Tiktok::of(app));
        tiktok.always(HASHTAGS, 200, list(&[posted(1, 7, tag), posted(2, 5, tag), posted(3, 1, tag), posted(4, 5, "#other")]));
        tiktok.always(MENTIONS, 200, list(&[posted(5, 5, "@nordbrew"), posted(6, 1, "@nordbrew")]));
        app.app.tiktok.poll_due().await.unwrap();
        work(app).await;
        let marked = states(app).await.iter().filter(|(.., reason)| reason.starts_with("it was posted before the account")).count();
        assert_eq!(marked, 3, "older than both, without a tracked hashtag, and a mention from before the connection");
        let mut told: Vec<_> = activities(app).await.iter().map(|row| (row.mention_type.unwrap().as_str(), row.occurred_at.0)).collect();
        told.sort_unstable();
        let ago = |hours: i64| (app.app.db.now().0 - hours * HOUR) / 1000 * 1000;
        assert_eq!(told, [("hashtag", ago(5)), ("hashtag", ago(1)), ("mention", ago(1))]);
        // Whoever pushes what counted tells nothing new.
        let again = json!({"items": [post(app, "miarunsoslo", 5, 2), post(app, "miarunsoslo", 1, 3)]});
        assert_eq!(statuses(&push(app, &site, &again).await), ["duplicate", "duplicate"]);
    }
}

on_both! {
    options: options().await,
    async fn the_fixtures_of_the_lists_are_understood(app: &TestApp) {
        let site = brewery(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        connect(app, &site).await;
        let tiktok = Tiktok::of(app);
        tiktok.next(HASHTAGS, 200, list(&[]));
        tiktok.next(MENTIONS, 200, list(&[]));
        app.app.tiktok.poll_due().await.unwrap();
        app.clock.advance_ms(HOUR / 6);
        app.app.tiktok.poll_due().await.unwrap();
        work(app).await;
        let recorded = activities(app).await;
        let told: Vec<_> = recorded.iter().map(|row| {
            let properties: Value = serde_json::from_str(&row.properties).unwrap();
            assert_eq!(properties["media_type"], "tiktok video");
            (row.mention_type.unwrap().as_str(), row.handle.as_deref().unwrap(), row.member_id.is_some())
        }).collect();
        assert_eq!(told, [
            ("hashtag", "someoneelse.42", false), ("hashtag", "miarunsoslo", true), ("mention", "miarunsoslo", true),
        ]);
        // The webhook tells of the same mention: it is the same thing.
        send(app, BUSINESS, BUSINESS_SECRET, payload_text("business_webhook_brand_mention_video").as_bytes()).await;
        work(app).await;
        assert_eq!(activities(app).await.len(), 3);
    }
}

on_both! {
    options: options().await,
    async fn all_pages_are_read_and_none_for_ever(app: &TestApp) {
        let site = brewery(app).await;
        connect(app, &site).await;
        let tiktok = Tiktok::of(app);
        let page = |number: u64, cursor: u64, has_more: bool| {
            let mut page = list(&[video(app, "mia", number)]);
            page["data"]["cursor"] = cursor.into();
            page["data"]["has_more"] = has_more.into();
            page
        };
        tiktok.next(HASHTAGS, 200, page(1, 1, true));
        tiktok.next(HASHTAGS, 200, page(2, 2, false));
        tiktok.always(MENTIONS, 200, page(3, 1, true));
        app.app.tiktok.poll_due().await.unwrap();
        assert_eq!(items(app).await.len(), 3);
        let asked = tiktok.asked(HASHTAGS);
        assert!(!asked[0].query.contains("cursor="), "{}", asked[0].query);
        assert!(asked[1].query.contains("&cursor=1"), "{}", asked[1].query);
        assert_eq!(tiktok.asked(MENTIONS).len(), 2, "a cursor that stays leads nowhere");
    }
}

on_both! {
    options: options().await,
    async fn an_account_of_which_nothing_can_be_noted_keeps_no_others_waiting(app: &TestApp) {
        let site = brewery(app).await;
        connect(app, &site).await;
        app.break_table("connection", "BEFORE UPDATE", "NEW.problem IS NOT NULL").await;
        let other = connection::Model {
            id: ConnectionId(app.app.db.new_id()),
            external_id: "another account".to_owned(),
            token: Some(b"sealed under another key".to_vec()),
            poll_due_at: app.app.db.now().plus_ms(-1),
            ..connection(app).await
        };
        let tx = app.app.db.write().await.unwrap();
        insert(&tx, [other]).await;
        tx.commit().await.unwrap();
        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 2);
        assert_eq!(items(app).await.len(), 3);
    }
}

on_both! {
    options: options().await,
    async fn errors_come_with_status_200(app: &TestApp) {
        let site = brewery(app).await;
        connect(app, &site).await;
        let tiktok = Tiktok::of(app);
        tiktok.next(HASHTAGS, 200, payload("business_error_rate_limit"));
        app.app.tiktok.poll_due().await.unwrap();
        let row = connection(app).await;
        assert_eq!(row.limited_until.map(|at| at.0), Some(app.app.db.now().0 + HOUR / 4));
        assert!(!row.has_polled, "what was not read whole was not read");
        app.clock.advance_ms(HOUR / 6);
        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 0);
        app.clock.advance_ms(HOUR / 6);
        tiktok.next(MENTIONS, 200, payload("business_error"));
        assert_eq!(app.app.tiktok.poll_due().await.unwrap(), 1);
        let row = connection(app).await;
        assert_eq!(row.problem.as_deref(), Some("TikTok no longer accepts the token (40105)"));
        assert_eq!((row.check_due_at, row.dead_since), (app.app.db.now(), None), "its health check decides");
        app.clock.advance_ms(HOUR / 6);
        app.app.tiktok.poll_due().await.unwrap();
        assert!(connection(app).await.has_polled);
        work(app).await;
        assert!(activities(app).await.is_empty(), "until then what is older is only marked");
    }
}

on_both_databases! {
    async fn accounts_are_read_by_themselves(database: TestDatabase) {
        let app = TestApp::start_apart_with(database, options().await).await;
        let site = brewery(&app).await;
        connect(&app, &site).await;
        assert!(!connection(&app).await.has_polled);
        let app = app.restart_at_work().await;
        until("the account is read", async || connection(&app).await.has_polled.then_some(())).await;
        app.app.stop().await;
    }
}
