//! What the fixtures mean.

use entity::id::Timestamp;
use entity::kinds::ItemStatus;
use entity::person;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    BRAND, BUSINESS, DEVELOPER, HOUR, activities, brewery, business_with, connect, items, outcomes,
    reward_mentions, send, states, work,
};
use crate::on_both;
use crate::support::TestApp;
use crate::support::tiktok::{BUSINESS_SECRET, DEVELOPER_SECRET, Tiktok, options, payload, payload_text};
use crate::support::world::Site;

/// A site that is connected with the brand's account.
async fn connected(app: &TestApp) -> Site {
    let site = brewery(app).await;
    connect(app, &site).await;
    site
}

async fn business(app: &TestApp, name: &str) {
    let answer = send(app, BUSINESS, BUSINESS_SECRET, payload_text(name).as_bytes()).await;
    assert_eq!(answer.status.as_u16(), 200);
    work(app).await;
}

fn properties(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

on_both! {
    options: options().await,
    async fn a_message_says_whether_its_writer_follows(app: &TestApp) {
        let site = connected(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        business(app, "business_webhook_im_receive_msg").await;
        business(app, "business_webhook_im_receive_msg_not_follower").await;

        let recorded = activities(app).await;
        let dm = recorded.iter().find(|row| row.external_id == "baDPa1tUSwjAhauEBvkXp88ZSHPvVm9G").unwrap();
        assert_eq!(dm.activity_type.as_str(), "DM_YOU_SOCIAL");
        assert_eq!(properties(&dm.properties), json!({"platform": "tiktok", "message": "NORDBREW 7K4Q"}));
        assert_eq!(dm.occurred_at, Timestamp(1_794_995_167_215));
        assert_eq!(dm.member_id.map(|id| id.0.to_string()), Some(mia.id.clone()));
        let image = recorded.iter().find(|row| row.external_id == "hEvxMEf7fXTnYSvHhTrFC7wZ0UDuvfp9").unwrap();
        assert_eq!(properties(&image.properties), json!({"platform": "tiktok", "message": ""}));
        assert!(recorded.iter().any(|row| row.activity_type.as_str() == "FOLLOWED_YOU_SOCIAL"));

        let people = person::Entity::find().all(app.app.db.read()).await.unwrap();
        let follows = |id: &str| people.iter().find(|row| row.external_id == id).unwrap().follows;
        assert_eq!(follows("u_dfrzqXdX40tiBKHA"), Some(true));
        assert_eq!(follows("u_1KMxXXMT5o8y3LEb"), Some(false));
    }
}

on_both! {
    options: options().await,
    async fn g7_a_flag_that_is_absent_or_null_is_unknown(app: &TestApp) {
        connected(app).await;
        for (number, flag) in [None, Some(Value::Null), Some(json!("true")), Some(json!(1))].into_iter().enumerate() {
            business_with(app, "business_webhook_im_receive_msg", |content| {
                content["message_id"] = format!("m{number}").into();
                content.as_object_mut().unwrap().remove("is_follower");
                if let Some(flag) = flag {
                    content["is_follower"] = flag;
                }
            })
            .await;
        }
        assert_eq!(outcomes(app).await, [("DM_YOU_SOCIAL", "UNMATCHED", 0); 4]);
        let people = person::Entity::find().all(app.app.db.read()).await.unwrap();
        assert!(people.iter().all(|row| row.follows.is_none()));
    }
}

on_both! {
    options: options().await,
    async fn what_is_no_members_deed_earns_nothing(app: &TestApp) {
        connected(app).await;
        business(app, "business_webhook_im_send_msg").await;
        business_with(app, "business_webhook_im_receive_msg", |content| {
            content["from_user"]["role"] = json!("business_account");
        })
        .await;
        for (event, content) in [
            ("im_receive_msg_eu", json!({"conversation_id": "c", "message_id": "eu"})),
            ("im_mark_read_msg", json!({"conversation_id": "c", "timestamp": 1_794_995_167_215_i64})),
            ("im_referral_msg", json!({"conversation_id": "c", "referral": {"ref": "x"}})),
            ("post.publish.complete", json!({"video_id": 7, "publish_id": "p"})),
            ("comment.update", json!({"comment_id": 7, "comment_action": "delete"})),
            ("comment.update", json!({"comment_id": 7, "comment_action": "set_to_hidden"})),
            ("comment.update", json!({"comment_id": 7})),
            ("comment.update", json!({"comment_action": "insert"})),
            ("im_receive_msg", json!({"text": {"body": "x"}})),
        ] {
            let call = json!({"event": event, "create_time": 1_794_994_300, "user_openid": BRAND, "content": content.to_string()});
            send(app, BUSINESS, BUSINESS_SECRET, call.to_string().as_bytes()).await;
            work(app).await;
        }
        for name in ["webhook_video_publish_completed", "webhook_video_upload_failed", "webhook_portability_ready"] {
            send(app, DEVELOPER, DEVELOPER_SECRET, payload_text(name).as_bytes()).await;
            work(app).await;
        }
        let told: Vec<_> = states(app).await.into_iter().map(|(kind, status, reason)| {
            assert_eq!(status, ItemStatus::Done, "{kind}");
            (kind, reason)
        }).collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(kind, reason)| (kind.as_str(), reason.as_str())).collect();
        let notice = ("notice", "news of the app's own uploads and downloads earn nothing");
        let unknown = ("unknown", "nobody here knows what this is");
        assert_eq!(told, [
            ("message_echo", "echo: the brand wrote it"),
            ("message", "echo: the brand wrote it"),
            ("message_eu", "TikTok does not say who wrote messages in the EEA, Switzerland and the United Kingdom"),
            ("message_read", "read receipts earn nothing"),
            unknown,
            unknown,
            ("comment", "comment deleted"),
            ("comment", "comment set to hidden"),
            ("comment", "comment unknown"),
            ("comment", "the comment has no id"),
            ("message", "the message has no id"),
            notice, notice, notice,
        ]);
        assert!(activities(app).await.is_empty());
    }
}

on_both! {
    options: options().await,
    async fn an_account_that_nobody_connected_is_nobodys(app: &TestApp) {
        brewery(app).await;
        business(app, "business_webhook_im_receive_msg").await;
        business(app, "business_webhook_brand_mention_video").await;
        let reason = "no site has connected this account".to_owned();
        assert_eq!(states(app).await, [
            ("message".to_owned(), ItemStatus::Done, reason.clone()), ("brand_mention".to_owned(), ItemStatus::Done, reason),
        ]);
    }
}

on_both! {
    options: options().await,
    async fn a_comment_is_recorded_with_its_whole_ids(app: &TestApp) {
        connected(app).await;
        business(app, "business_webhook_comment_update").await;
        let recorded = activities(app).await;
        assert_eq!(recorded[0].activity_type.as_str(), "COMMENTED_YOU_SOCIAL");
        assert_eq!(recorded[0].external_id, "7573111122223333555");
        assert_eq!(recorded[0].occurred_at, Timestamp(1_794_993_600_000));
        assert_eq!(properties(&recorded[0].properties), json!({
            "platform": "tiktok", "text": "where is your shop?", "video_id": "7709202284949334960",
        }));
    }
}

on_both! {
    options: options().await,
    async fn a_mention_is_looked_up_and_again_if_tiktok_is_busy(app: &TestApp) {
        let site = connected(app).await;
        reward_mentions(app, &site).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        let tiktok = Tiktok::of(app);
        let path = "/open_api/v1.3/business/mention/video/get/";
        tiktok.next(path, 200, payload("business_error_rate_limit"));
        business(app, "business_webhook_brand_mention_video").await;
        assert_eq!(states(app).await[0], (
            "brand_mention".to_owned(), ItemStatus::Waiting, "TikTok wants fewer calls for a while".to_owned(),
        ));
        app.clock.advance_ms(HOUR / 10);
        work(app).await;
        let recorded = activities(app).await;
        assert_eq!(outcomes(app).await, [("MENTIONED_YOU_SOCIAL", "AWARDED", 25)]);
        assert_eq!(properties(&recorded[0].properties), json!({
            "caption": "Cortado after 21k with @nordbrew #oslo", "like_count": 2, "comments_count": 0,
            "platform": "tiktok", "mention_type": "mention", "media_type": "tiktok video",
        }));
        let asked = tiktok.asked(path);
        assert_eq!(asked[1].query, format!("business_id={BRAND}&item_id=7709406013564211501"));
        assert_eq!(asked[1].headers["access-token"], "act.business");

        tiktok.next(path, 200, payload("business_error"));
        business_with(app, "business_webhook_brand_mention_video", |content| content["video_id"] = json!(8)).await;
        app.clock.advance_ms(49 * HOUR);
        tiktok.always(path, 200, payload("business_error"));
        work(app).await;
        assert_eq!(states(app).await[1].1, ItemStatus::Done, "after 48 hours nobody answers any more");
    }
}

on_both! {
    options: options().await,
    async fn a_comment_elsewhere_that_mentions_the_brand_is_looked_up(app: &TestApp) {
        let site = connected(app).await;
        let joe = app.member(&site, "joe").await;
        app.claim_on_tiktok(&site, &joe, "joebrews").await;
        business(app, "business_webhook_brand_mention_comment").await;
        let recorded = activities(app).await;
        assert_eq!(recorded[0].activity_type.as_str(), "COMMENT_MENTIONED_YOU_SOCIAL");
        assert_eq!(recorded[0].external_id, "7573111122223333444");
        assert_eq!(recorded[0].handle.as_deref(), Some("joebrews"));
        assert_eq!(recorded[0].occurred_at, Timestamp(1_794_988_800_000));
        assert_eq!(properties(&recorded[0].properties), json!({
            "platform": "tiktok", "text": "@nordbrew have this one", "video_id": "7708732717019908778",
        }));
        assert_eq!(items(app).await.len(), 1);
    }
}
