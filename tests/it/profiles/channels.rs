//! The channels as a member sees them.

use entity::followed_channel;
use entity::id::{FollowedChannelId, ItemId};
use entity::kinds::{Evidence, FollowSource, Platform};
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set};
use serde_json::{Value, json};

use super::{NOW, claim, connect, id, patch, prove};
use crate::on_both;
use crate::support::world::{Member, Site};
use crate::support::{ADMIN_KEY, START, TestApp};

/// As if a platform had confirmed the follow `id`.
pub(super) async fn confirm(app: &TestApp, follow: &Value, evidence: Evidence) {
    let tx = app.app.db.write().await.unwrap();
    let row = followed_channel::ActiveModel {
        id: Set(FollowedChannelId(id(follow["id"].as_str().unwrap()))),
        source: Set(FollowSource::Instagram),
        evidence: Set(evidence),
        evidence_item: Set(Some(ItemId(tx.new_id()))),
        evidence_at: Set(Some(tx.now())),
        ..Default::default()
    };
    row.update(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn channels(app: &TestApp, member: &Member) -> Value {
    app.call("GET", "/me/v1/channels").auth(&member.token).ok().await["channels"].clone()
}

async fn settings(app: &TestApp, site: &Site, channel: Value) {
    let body = json!({"socialMediaSettings": {"channels": [channel]}});
    app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id).json(&body).ok().await;
}

on_both! {
    async fn the_enabled_channels_are_shown_with_where_the_member_stands(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let facebook = json!({
            "type": "FACEBOOK", "id": "nordbrew", "url": "https://www.facebook.com/nordbrew", "points": 0,
            "followed": false, "howToFollow": ["DECLARE"],
        });
        let instagram = json!({
            "type": "INSTAGRAM", "id": "nordbrew", "url": "https://www.instagram.com/nordbrew", "points": 30,
            "followed": false, "howToFollow": ["DECLARE"],
        });
        let x = json!({
            "type": "X", "id": "nordbrew", "url": "https://x.com/nordbrew", "points": 50,
            "followed": false, "howToFollow": ["DECLARE"],
        });
        assert_eq!(channels(app, &member).await, json!([facebook, instagram, x]));

        let x_follow = app.follow(&member, "X").await;
        let instagram_follow = app.follow(&member, "INSTAGRAM").await;
        app.clock.advance_ms(60_000);
        let later = "2024-08-01T11:52:41.431Z";
        confirm(app, &instagram_follow, Evidence::Verified).await;
        claim(app, &member, "mia.runs.oslo").await;
        prove(app, &site, &member, Platform::Instagram, "5512034987760112").await.unwrap();
        connect(app, &site, Platform::Instagram, Some("nordbrew"), None).await;
        settings(app, &site, json!({"type": "TIKTOK", "enabled": true, "id": "nordbrew", "points": 20})).await;
        patch(app, &member, json!({"tiktokHandle": "miarunsoslo"})).await;
        assert_eq!(channels(app, &member).await, json!([
            facebook,
            {
                "type": "INSTAGRAM", "id": "nordbrew", "url": "https://www.instagram.com/nordbrew", "points": 30,
                "followed": true,
                "followedChannel": {
                    "id": instagram_follow["id"], "createdDate": NOW, "source": "INSTAGRAM",
                    "evidence": "VERIFIED", "evidenceDate": later,
                },
                "handle": {
                    "handle": "mia.runs.oslo", "verified": true, "verifiedDate": later, "claimedDate": later,
                },
                "howToFollow": ["DIRECT_MESSAGE", "DECLARE"],
            },
            {
                "type": "X", "id": "nordbrew", "url": "https://x.com/nordbrew", "points": 50,
                "followed": true,
                "followedChannel": {
                    "id": x_follow["id"], "createdDate": NOW, "source": "API", "evidence": "DECLARED",
                },
                "howToFollow": ["DECLARE"],
            },
            {
                "type": "TIKTOK", "id": "nordbrew", "url": "https://www.tiktok.com/@nordbrew", "points": 20,
                "followed": false,
                "handle": {"handle": "miarunsoslo", "verified": false, "claimedDate": later},
                "howToFollow": ["DECLARE"],
            },
        ]));
        settings(app, &site, json!({"type": "INSTAGRAM", "enabled": false})).await;
        let types: Vec<Value> =
            channels(app, &member).await.as_array().unwrap().iter().map(|it| it["type"].clone()).collect();
        assert_eq!(types, ["FACEBOOK", "X", "TIKTOK"]);
    }
}

on_both! {
    async fn there_is_no_way_to_follow_while_the_program_is_not_active(app: &TestApp) {
        let site = app.draft_site().await;
        let member = app.member(&site, "u-1").await;
        connect(app, &site, Platform::Instagram, Some("nordbrew"), None).await;
        let shown = |status: &str, [direct, other]: [Value; 2]| {
            let channel = |name: &str, url: &str, points: i64, ways: &Value| json!({
                "type": name, "id": "nordbrew", "url": url, "points": points, "followed": false, "howToFollow": ways,
            });
            json!({"programStatus": status, "channels": [
                channel("FACEBOOK", "https://www.facebook.com/nordbrew", 0, &other),
                channel("INSTAGRAM", "https://www.instagram.com/nordbrew", 30, &direct),
                channel("X", "https://x.com/nordbrew", 50, &other),
            ]})
        };
        let read = async || app.call("GET", "/me/v1/channels").auth(&member.token).ok().await;
        let program = async |change: &str| {
            let path = format!("/loyalty-programs/v1/program/{change}");
            app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        };
        let none = || [json!([]), json!([])];
        assert_eq!(read().await, shown("DRAFT", none()));
        program("activate").await;
        let both = [json!(["DIRECT_MESSAGE", "DECLARE"]), json!(["DECLARE"])];
        assert_eq!(read().await, shown("ACTIVE", both));
        program("pause").await;
        assert_eq!(read().await, shown("PAUSED", none()));
    }
}

on_both! {
    async fn a_direct_message_is_a_way_only_while_an_account_of_the_site_is_connected(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let member = app.member(&site, "u-1").await;
        let ways = async || channels(app, &member).await[1]["howToFollow"].clone();
        connect(app, &other, Platform::Instagram, Some("brew"), None).await;
        connect(app, &site, Platform::Tiktok, Some("nordbrew"), None).await;
        connect(app, &site, Platform::Instagram, Some("nordbrew"), Some(START)).await;
        assert_eq!(ways().await, json!(["DECLARE"]));
        connect(app, &site, Platform::Instagram, Some("nordbrew"), None).await;
        assert_eq!(ways().await, json!(["DIRECT_MESSAGE", "DECLARE"]));
    }
}

on_both! {
    async fn g5_members_see_their_own_state_only(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let (member, neighbour) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        let stranger = app.member(&other, "u-1").await;
        claim(app, &member, "mia").await;
        app.follow(&member, "X").await;
        app.follow(&member, "INSTAGRAM").await;
        for somebody in [&neighbour, &stranger] {
            for channel in channels(app, somebody).await.as_array().unwrap() {
                assert_eq!((&channel["followed"], channel.get("handle")), (&json!(false), None), "{channel}");
            }
        }
    }
}
