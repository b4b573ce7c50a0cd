//! The hashtags that a site tracks.

use serde_json::{Value, json};

use super::track;
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::world::text;

const PATH: &str = "/admin/v1/tiktok-hashtags";

on_both! {
    async fn a_hashtag_is_tracked_once_however_it_is_written(app: &TestApp) {
        let site = app.site().await;
        let first = track(app, &site, "#NordbrewCoffee").await;
        assert_eq!(
            first,
            json!({"tiktokHashtag": {
                "id": first["tiktokHashtag"]["id"], "hashtag": "#NordbrewCoffee", "matches": "nordbrewcoffee",
                "createdDate": "2024-08-01T11:51:41.431Z",
            }})
        );
        for same in ["nordbrewcoffee", "＃NORDBREWCOFFEE", " #nordbrewCoffee "] {
            assert_eq!(track(app, &site, same).await, first, "{same}");
        }
        let second = track(app, &site, "#珈琲").await;
        let listed = app.admin_list(&site, PATH, "tiktokHashtags").await;
        assert_eq!(listed, [second["tiktokHashtag"].clone(), first["tiktokHashtag"].clone()]);

        let page = app.call("GET", &format!("{PATH}?limit=1")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(page["tiktokHashtags"], json!([second["tiktokHashtag"]]));
        let next = format!("{PATH}?limit=1&cursor={}", text(&page["pagingMetadata"]["cursors"]["next"]));
        let page = app.call("GET", &next).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(page["tiktokHashtags"], json!([first["tiktokHashtag"]]));
        assert_eq!(page["pagingMetadata"]["hasNext"], false);

        let one = format!("{PATH}/{}", text(&first["tiktokHashtag"]["id"]));
        let other = app.site().await;
        let stranger = app.call("DELETE", &one).key(ADMIN_KEY, &other.id).send().await;
        assert_eq!(stranger.error(), (404, "TIKTOK_HASHTAG_NOT_FOUND".to_owned()));
        app.call("DELETE", &one).key(ADMIN_KEY, &site.id).ok().await;
        let again = app.call("DELETE", &one).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(again.error(), (404, "TIKTOK_HASHTAG_NOT_FOUND".to_owned()));
        assert_eq!(app.admin_list(&site, PATH, "tiktokHashtags").await.len(), 1);
    }
}

on_both! {
    async fn what_is_no_hashtag_is_refused(app: &TestApp) {
        let site = app.site().await;
        for (hashtag, rule) in [
            (json!("two words"), "FORMAT"),
            (json!("#"), "FORMAT"),
            (json!("☕"), "FORMAT"),
            (json!("#a#b"), "FORMAT"),
            (json!("a\u{0}"), "FORMAT"),
            (json!("x".repeat(101)), "FORMAT"),
            (json!("x".repeat(121)), "MAX_LENGTH"),
            (json!(""), "MIN_LENGTH"),
            (json!(7), "FORMAT"),
            (Value::Null, "REQUIRED_FIELD"),
        ] {
            let body = json!({"tiktokHashtag": {"hashtag": hashtag}});
            let answer = app.call("POST", PATH).key(ADMIN_KEY, &site.id).json(&body).send().await;
            assert_eq!(answer.violations(), [("tiktokHashtag.hashtag".to_owned(), rule.to_owned())], "{hashtag}");
        }
    }
}

on_both! {
    async fn a_site_tracks_a_hundred(app: &TestApp) {
        let site = app.site().await;
        for number in 0..100 {
            track(app, &site, &format!("#brew{number}")).await;
        }
        let body = json!({"tiktokHashtag": {"hashtag": "#brew100"}});
        let answer = app.call("POST", PATH).key(ADMIN_KEY, &site.id).json(&body).send().await;
        assert_eq!(answer.error(), (428, "TOO_MANY_TIKTOK_HASHTAGS".to_owned()));
        track(app, &site, "#BREW7").await;
        track(app, &app.site().await, "#brew100").await;
    }
}
