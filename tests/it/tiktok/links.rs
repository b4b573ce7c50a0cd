//! Links that members hand in.

use serde_json::{Value, json};

use super::{DAY, activities, brewery, items, outcomes, push, reward_mentions, statuses, work};
use crate::on_both;
use crate::support::TestApp;
use crate::support::client::Answer;
use crate::support::tiktok::{Tiktok, options, payload};
use crate::support::world::Member;

const LINK: &str = "https://www.tiktok.com/@miarunsoslo/video/7709406013564211501";

async fn hand_in(app: &TestApp, member: &Member, url: &str) -> Answer {
    app.call("POST", "/me/v1/tiktok-posts").auth(&member.token).json(&json!({"url": url})).send().await
}

on_both! {
    options: options().await,
    async fn g1_a_link_to_an_own_post_counts_once(app: &TestApp) {
        let site = brewery(app).await;
        reward_mentions(app, &site).await;
        let mia = app.member(&site, "mia").await;
        assert_eq!(hand_in(app, &mia, LINK).await.error(), (428, "TIKTOK_HANDLE_MISSING".to_owned()));
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        let expected = |is_known: bool| json!({"tiktokPost": {
            "externalId": "7709406013564211501", "handle": "miarunsoslo",
            "caption": "Cortado after 21k #NordbrewCoffee #oslo", "postedDate": "2026-11-18T07:12:44.000Z",
            "isKnown": is_known,
        }});
        assert_eq!(hand_in(app, &mia, LINK).await.json(), expected(false));
        assert_eq!(hand_in(app, &mia, "https://vm.tiktok.com/ZM8AbCdEf/").await.json(), expected(true));
        let asked = Tiktok::of(app).asked("/oembed");
        assert_eq!(asked[1].query, "url=https%3A%2F%2Fvm.tiktok.com%2FZM8AbCdEf%2F");
        assert!(asked.iter().all(|asked| !asked.headers.contains_key("authorization")));
        work(app).await;
        assert_eq!(outcomes(app).await, [("MENTIONED_YOU_SOCIAL", "AWARDED", 25)]);
        let properties: Value = serde_json::from_str(&activities(app).await[0].properties).unwrap();
        assert_eq!(properties, json!({
            "caption": "Cortado after 21k #NordbrewCoffee #oslo", "platform": "tiktok", "mention_type": "hashtag",
            "media_type": "tiktok video",
        }));
        // A provider tells of it, too, and how many like it.
        let batch = payload("provider_push_batch");
        assert_eq!(statuses(&push(app, &site, &json!({"items": [batch["items"][0]]})).await), ["duplicate"]);
        let properties: Value = serde_json::from_str(&activities(app).await[0].properties).unwrap();
        assert_eq!(properties["like_count"], 231);
        assert_eq!(app.account(&mia).await["points"]["balance"], 25);
    }
}

on_both! {
    options: options().await,
    async fn g6_only_tiktok_is_asked_and_only_own_posts_count(app: &TestApp) {
        let site = brewery(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        let tiktok = Tiktok::of(app);
        for url in [
            "http://www.tiktok.com/@miarunsoslo/video/1",
            "https://127.0.0.1/@miarunsoslo/video/1",
            "https://www.tiktok.com.evil.example/@miarunsoslo/video/1",
            "https://user@www.tiktok.com/@miarunsoslo/video/1",
            &format!("{}/@miarunsoslo/video/1", tiktok.url),
            "x",
        ] {
            assert_eq!(hand_in(app, &mia, url).await.violations(), [("url".to_owned(), "FORMAT".to_owned())], "{url}");
        }
        assert!(tiktok.asked("/oembed").is_empty());

        let with = |name: &str, value: Value| {
            let mut answer = payload("oembed");
            answer[name] = value;
            answer
        };
        let mut by_page = with("author_url", json!("https://www.tiktok.com/@someoneelse.42"));
        by_page.as_object_mut().unwrap().remove("author_unique_id");
        for (status, answer, code) in [
            (400, payload("oembed_error"), "TIKTOK_POST_NOT_VISIBLE"),
            (302, json!({}), "TIKTOK_UNAVAILABLE"),
            (500, json!({}), "TIKTOK_UNAVAILABLE"),
            (200, json!([]), "TIKTOK_UNAVAILABLE"),
            (200, json!({}), "TIKTOK_POST_NOT_VISIBLE"),
            (200, with("author_unique_id", json!("someoneelse.42")), "TIKTOK_POST_OF_SOMEBODY_ELSE"),
            (200, by_page, "TIKTOK_POST_OF_SOMEBODY_ELSE"),
            (200, with("embed_product_id", json!("7708732717019908778")), "TIKTOK_POST_NOT_VISIBLE"),
            (200, with("embed_product_id", json!("../7")), "TIKTOK_POST_NOT_VISIBLE"),
        ] {
            tiktok.next("/oembed", status, answer.clone());
            assert_eq!(hand_in(app, &mia, LINK).await.error(), (428, code.to_owned()), "{answer}");
        }
        assert!(items(app).await.is_empty());
        let visitor = app.call("POST", "/me/v1/tiktok-posts").key(crate::support::ADMIN_KEY, &site.id);
        assert_eq!(visitor.json(&json!({"url": LINK})).send().await.status.as_u16(), 403);
    }
}

on_both! {
    options: options().await,
    async fn an_old_link_does_not_count(app: &TestApp) {
        let site = brewery(app).await;
        app.clock.advance_ms(2 * DAY);
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        let answer = hand_in(app, &mia, LINK).await;
        assert_eq!(answer.error(), (428, "TIKTOK_POST_TOO_OLD".to_owned()));
        assert!(answer.text.contains("before you said"), "{}", answer.text);
        assert!(items(app).await.is_empty());
    }
}

on_both! {
    options: options().await,
    async fn a_member_has_tiktok_asked_twenty_times_at_once(app: &TestApp) {
        let site = brewery(app).await;
        let mia = app.member(&site, "mia").await;
        app.claim_on_tiktok(&site, &mia, "miarunsoslo").await;
        for _ in 0..20 {
            assert_eq!(hand_in(app, &mia, LINK).await.status.as_u16(), 200);
        }
        let refused = hand_in(app, &mia, LINK).await;
        assert_eq!(refused.error(), (429, "RESOURCE_EXHAUSTED".to_owned()));
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(Tiktok::of(app).asked("/oembed").len(), 20);
        // Logins are counted with them, and other members apart.
        let body = json!({"state": "s", "code": "c"});
        let login = app.call("POST", "/me/v1/tiktok-login/complete").auth(&mia.token).json(&body).send().await;
        assert_eq!(login.status.as_u16(), 429);
        let other = app.member(&site, "other").await;
        assert_eq!(hand_in(app, &other, LINK).await.error(), (428, "TIKTOK_HANDLE_MISSING".to_owned()));
    }
}
