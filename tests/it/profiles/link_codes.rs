//! Link codes: short, for half an hour, few, and stored as hashes.

use std::collections::BTreeSet;

use entity::kinds::Platform;
use entity::link_code;
use followpoints::profiles::link_codes::{candidates, delete_expired, hash};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{CODES, claim, connect, member_id};
use crate::on_both;
use crate::support::client::Answer;
use crate::support::dump::dump;
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, START, TestApp};

async fn ask(app: &TestApp, member: &Member, body: Value) -> Answer {
    app.call("POST", CODES).auth(&member.token).json(&body).send().await
}

/// A fresh code for `channel`, with everything that was answered.
async fn code(app: &TestApp, member: &Member, channel: &str) -> Value {
    let answer = ask(app, member, json!({"linkCode": {"channel": channel}})).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    answer.json()["linkCode"].clone()
}

async fn rows(app: &TestApp) -> Vec<link_code::Model> {
    link_code::Entity::find().all(app.app.db.read()).await.unwrap()
}

on_both! {
    async fn a_code_is_made_of_letters_that_nobody_mistakes(app: &TestApp) {
        let site = app.site().await;
        let mut codes = BTreeSet::new();
        for number in 0..6 {
            let member = app.member(&site, &format!("u-{number}")).await;
            for _ in 0..5 {
                let made = code(app, &member, "INSTAGRAM").await;
                let code = text(&made["code"]);
                let (one, other) = code.split_once('-').unwrap();
                assert_eq!((one.len(), other.len()), (4, 4), "{code}");
                let clear = |letter: char| "23456789ABCDEFGHJKMNPQRSTWXYZ".contains(letter);
                assert!(one.chars().chain(other.chars()).all(clear), "{code}");
                assert_eq!(made, json!({
                    "code": code, "channel": "INSTAGRAM", "expiresDate": "2024-08-01T12:21:41.431Z",
                    "url": format!("https://ig.me/m/nordbrew?ref={code}"),
                }));
                codes.insert(code);
            }
        }
        assert_eq!(codes.len(), 30, "each is another");
    }
}

on_both! {
    async fn the_bare_form_is_accepted_and_other_channels_are_not(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let bare = ask(app, &member, json!({"channel": "INSTAGRAM"})).await.json();
        assert_eq!(bare["linkCode"]["channel"], "INSTAGRAM");
        let tiktok = code(app, &member, "TIKTOK").await;
        assert_eq!(tiktok, json!({
            "code": tiktok["code"], "channel": "TIKTOK", "expiresDate": "2024-08-01T12:21:41.431Z",
        }), "TikTok has no page for it");
        for (body, field, rule) in [
            (json!({}), "linkCode.channel", "REQUIRED_FIELD"),
            (json!({"linkCode": {}}), "linkCode.channel", "REQUIRED_FIELD"),
            (json!({"linkCode": {"channel": "FACEBOOK"}}), "linkCode.channel", "INVALID_ENUM_VALUE"),
            (json!({"channel": "X"}), "channel", "INVALID_ENUM_VALUE"),
            (json!({"linkCode": {"channel": "instagram"}}), "linkCode.channel", "INVALID_ENUM_VALUE"),
        ] {
            let answer = ask(app, &member, body).await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())]);
        }
        assert_eq!(rows(app).await.len(), 2);
    }
}

on_both! {
    async fn the_page_is_the_connected_accounts_else_the_settings_else_none(app: &TestApp) {
        let body = json!({"site": {"name": "Nordbrew"}});
        let made = app.call("POST", "/admin/v1/sites").auth(ADMIN_KEY).json(&body).ok().await;
        let site = Site { id: text(&made["site"]["id"]) };
        let settings = async |handle: &str| {
            let body = json!({"socialMediaSettings": {"channels": [{"type": "INSTAGRAM", "id": handle}]}});
            app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id).json(&body).ok().await
        };
        let page = async || {
            let member = app.member(&site, &format!("u-{}", rows(app).await.len())).await;
            let made = code(app, &member, "INSTAGRAM").await;
            made.get("url").map(|url| text(url).replace(&text(&made["code"]), "CODE"))
        };
        assert_eq!(page().await, None);
        settings("nørd-brew").await;
        assert_eq!(page().await, None);
        settings("@NordBrew").await;
        assert_eq!(page().await.as_deref(), Some("https://ig.me/m/nordbrew?ref=CODE"));
        connect(app, &site, Platform::Tiktok, Some("nordbrew.tiktok"), None).await;
        connect(app, &site, Platform::Instagram, None, None).await;
        assert_eq!(page().await.as_deref(), Some("https://ig.me/m/nordbrew?ref=CODE"));
        connect(app, &site, Platform::Instagram, Some("nordbrew.old"), Some(START)).await;
        assert_eq!(page().await.as_deref(), Some("https://ig.me/m/nordbrew.old?ref=CODE"));
        connect(app, &site, Platform::Instagram, Some("nordbrew.coffee"), None).await;
        assert_eq!(page().await.as_deref(), Some("https://ig.me/m/nordbrew.coffee?ref=CODE"));
        // Another site's account is not this one's.
        let other = app.site().await;
        let member = app.member(&other, "u-1").await;
        assert!(text(&code(app, &member, "INSTAGRAM").await["url"]).starts_with("https://ig.me/m/nordbrew?ref="));
    }
}

on_both! {
    async fn a_member_gets_five_an_hour_and_is_told_when_the_next(app: &TestApp) {
        let site = app.site().await;
        let (member, neighbour) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        for _ in 0..5 {
            code(app, &member, "INSTAGRAM").await;
            app.clock.advance_ms(60_000);
        }
        // The first was made five minutes ago.
        for channel in ["INSTAGRAM", "TIKTOK"] {
            let refused = ask(app, &member, json!({"linkCode": {"channel": channel}})).await;
            assert_eq!(refused.error(), (429, "RESOURCE_EXHAUSTED".to_owned()));
            assert_eq!(refused.headers["retry-after"], "3300");
        }
        code(app, &neighbour, "INSTAGRAM").await;
        app.clock.advance_ms(3_300_000 - 1);
        let refused = ask(app, &member, json!({"linkCode": {"channel": "INSTAGRAM"}})).await;
        assert_eq!((refused.status.as_u16(), &refused.headers["retry-after"]), (429, &"1".parse().unwrap()));
        app.clock.advance_ms(1);
        code(app, &member, "INSTAGRAM").await;
        let refused = ask(app, &member, json!({"linkCode": {"channel": "INSTAGRAM"}})).await;
        assert_eq!(refused.headers["retry-after"], "60", "the second was made a minute after the first");
        assert_eq!(rows(app).await.len(), 7, "what was refused is not stored");
    }
}

on_both! {
    async fn calls_at_the_same_moment_get_no_more_than_five_either(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let calls = (0..20).map(|_| ask(app, &member, json!({"channel": "INSTAGRAM"})));
        let mut statuses: Vec<_> =
            futures_util::future::join_all(calls).await.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200; 5], vec![429; 15]].concat());
    }
}

on_both! {
    async fn g8_a_code_is_stored_as_its_hash_and_never_shown_again(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        claim(app, &member, "mia").await;
        let answer = ask(app, &member, json!({"linkCode": {"channel": "INSTAGRAM"}})).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let code = text(&answer.json()["linkCode"]["code"]);
        let plain = code.replace('-', "");
        let hex = plain.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        for row in dump(&app.app.db).await {
            let row = row.to_uppercase();
            for spelling in [&code, &plain, &hex.to_uppercase()] {
                assert!(!row.contains(spelling.as_str()), "{row}");
            }
        }
        // What the message says finds it, however it is typed.
        let stored = rows(app).await.remove(0);
        assert_eq!((stored.member_id, stored.platform), (member_id(&member), Platform::Instagram));
        assert_eq!((stored.used_at, stored.used_by), (None, None));
        let typed = candidates(&format!("hi! it is {}.", code.to_lowercase()));
        assert!(typed.iter().any(|code| hash(code) == stored.code_hash));
        for path in ["/me/v1/profile", "/me/v1/channels"] {
            let shown = app.call("GET", path).auth(&member.token).ok().await.to_string();
            assert!(!shown.contains(&code) && !shown.contains(&plain));
        }
    }
}

on_both! {
    async fn codes_are_deleted_a_day_after_they_ended(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        code(app, &member, "INSTAGRAM").await;
        let clean_up = async || {
            let tx = app.app.db.write().await.unwrap();
            let deleted = delete_expired(&tx).await.unwrap();
            tx.commit().await.unwrap();
            deleted
        };
        app.clock.advance_ms(30 * 60_000 + 24 * 3_600_000);
        assert_eq!(clean_up().await, 0);
        app.clock.advance_ms(1);
        let late = app.member(&site, "u-2").await;
        code(app, &late, "INSTAGRAM").await;
        assert_eq!(clean_up().await, 1);
        assert_eq!(rows(app).await.iter().map(|row| row.member_id).collect::<Vec<_>>(), [member_id(&late)]);
    }
}
