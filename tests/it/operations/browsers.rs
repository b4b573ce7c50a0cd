//! Browsers of the owner's front-ends may read answers; those of other origins may not.

use futures_util::future::join_all;
use poem::http::HeaderMap;
use serde_json::json;

use crate::on_both;
use crate::support::callers::Everything;
use crate::support::{ADMIN_KEY, TestApp};

const FOLLOWED: &str = "/loyalty-social-media/v1/followed-channels";
const SHOP: &str = "https://shop.example";
const OTHER: &str = "https://other.example";

/// The headers about sharing, sorted.
fn sharing(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("access-control-") || *name == "vary")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort_unstable();
    lines
}

fn shared_with(origin: &str) -> Vec<String> {
    vec![
        format!("access-control-allow-origin: {origin}"),
        "access-control-expose-headers: x-wix-request-id, x-wix-consistent, retry-after".to_owned(),
        "vary: Origin".to_owned(),
    ]
}

fn not_shared() -> Vec<String> {
    vec!["vary: Origin".to_owned()]
}

/// A site that `https://shop.example` calls, and one that `https://other.example` calls.
async fn two_sites(app: &TestApp) -> (Everything, String) {
    let own = app.everything().await;
    let other = app.site().await;
    let front_end = app.front_end(&other, &[OTHER]).await;
    (own, app.visitor(&front_end).await.0)
}

on_both! {
    async fn a_preflight_is_answered_for_every_known_origin_and_no_other(app: &TestApp) {
        two_sites(app).await;
        let preflight = |origin: &str, path: &str| {
            app.call("OPTIONS", path)
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization,content-type")
                .send()
        };
        for origin in [SHOP, OTHER] {
            for path in [FOLLOWED, "/_api/loyalty-social-media/v1/followed-channels", "/oauth2/token"] {
                let answer = preflight(origin, path).await;
                assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
                assert_eq!(
                    sharing(&answer.headers),
                    [
                        "access-control-allow-headers: authorization, content-type, idempotency-key, \
                                             x-wix-bi-gateway, wix-site-id, wix-account-id, x-wix-consistent"
                            .to_owned(),
                        "access-control-allow-methods: GET, POST, PATCH, PUT, DELETE".to_owned(),
                        format!("access-control-allow-origin: {origin}"),
                        "access-control-expose-headers: x-wix-request-id, x-wix-consistent, retry-after"
                            .to_owned(),
                        "access-control-max-age: 600".to_owned(),
                        "vary: Origin".to_owned(),
                    ]
                );
            }
        }
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://shop.example",
            "https://shop.example:8443",
            "https://shop.example.evil.example",
            "https://SHOP.example",
            "https://shop.example/",
            "*",
        ] {
            assert_eq!(sharing(&preflight(origin, FOLLOWED).await.headers), not_shared(), "{origin:?}");
        }
    }
}

on_both! {
    async fn g5_an_answer_about_a_site_is_shared_with_that_sites_origins_only(app: &TestApp) {
        let (own, others_visitor) = two_sites(app).await;
        let get =
            |auth: &str, origin: &str| app.call("GET", FOLLOWED).auth(auth).header("origin", origin).send();
        for (auth, origin, expected) in [
            (&own.member.token, SHOP, shared_with(SHOP)),
            (&own.visitor, SHOP, shared_with(SHOP)),
            (&own.member.token, OTHER, not_shared()),
            (&own.visitor, OTHER, not_shared()),
            (&others_visitor, OTHER, shared_with(OTHER)),
            (&others_visitor, SHOP, not_shared()),
            (&own.member.token, "https://evil.example", not_shared()),
            (&own.member.token, "null", not_shared()),
        ] {
            let answer = get(auth, origin).await;
            assert_eq!(answer.status.as_u16(), 200);
            assert_eq!(sharing(&answer.headers), expected, "{origin}");
        }
        let no_browser = app.call("GET", FOLLOWED).auth(&own.member.token).send().await;
        assert_eq!(sharing(&no_browser.headers).iter().filter(|line| line.starts_with("access")).count(), 0);
    }
}

on_both! {
    async fn tokens_are_shared_with_pages_of_their_own_site_only(app: &TestApp) {
        let (own, _) = two_sites(app).await;
        let body = json!({"clientId": own.front_end, "grantType": "anonymous"});
        for (origin, expected) in [(SHOP, shared_with(SHOP)), (OTHER, not_shared())] {
            let answer = app.call("POST", "/oauth2/token").header("origin", origin).json(&body).send().await;
            assert_eq!((answer.status.as_u16(), sharing(&answer.headers)), (200, expected));
        }
    }
}

on_both! {
    async fn refusals_are_shared_too_so_that_a_page_can_say_what_is_wrong(app: &TestApp) {
        let (own, _) = two_sites(app).await;
        let wish = json!({"followedChannel": {"channel": "X"}});
        let again = app
            .call("POST", FOLLOWED)
            .auth(&own.member.token)
            .header("origin", SHOP)
            .json(&wish)
            .send()
            .await;
        assert_eq!((again.status.as_u16(), sharing(&again.headers)), (409, shared_with(SHOP)));
        let elsewhere = app
            .call("POST", FOLLOWED)
            .auth(&own.member.token)
            .header("origin", OTHER)
            .json(&wish)
            .send()
            .await;
        assert_eq!((elsewhere.status.as_u16(), sharing(&elsewhere.headers)), (409, not_shared()));
        for (path, status) in [(FOLLOWED, 401), ("/nothing", 404)] {
            let answer = app.call("GET", path).auth("expired").header("origin", SHOP).send().await;
            assert_eq!((answer.status.as_u16(), sharing(&answer.headers)), (status, shared_with(SHOP)));
            let evil =
                app.call("GET", path).auth("expired").header("origin", "https://evil.example").send().await;
            assert_eq!((evil.status.as_u16(), sharing(&evil.headers)), (status, not_shared()));
        }
        let token = json!({"grantType": "anonymous", "clientId": own.front_end});
        let answer = app.call("POST", "/oauth2/token").header("origin", SHOP).json(&token).send().await;
        assert_eq!((answer.status.as_u16(), sharing(&answer.headers)), (200, shared_with(SHOP)));
    }
}

on_both! {
    async fn an_origin_counts_at_once_and_no_longer_than_its_front_end(app: &TestApp) {
        let own = app.everything().await;
        let origin = || async {
            let answer = app.call("GET", FOLLOWED).auth(&own.visitor).header("origin", OTHER).send().await;
            sharing(&answer.headers)
        };
        assert_eq!(origin().await, not_shared());
        let front_end = app.front_end(&own.site, &[OTHER]).await;
        assert_eq!(origin().await, shared_with(OTHER));
        let path = format!("/admin/v1/oauth-clients/{front_end}");
        app.call("DELETE", &path).auth(&own.admin.secret).ok().await;
        assert_eq!(origin().await, not_shared());
    }
}

on_both! {
    async fn an_origin_that_is_changed_counts_at_once_also_for_those_who_ask_meanwhile(app: &TestApp) {
        let own = app.everything().await;
        let other = app.site().await;
        let elsewhere = app.front_end(&other, &[OTHER]).await;
        let path = format!("/admin/v1/oauth-clients/{}", own.front_end);
        let change = |origins: serde_json::Value| {
            let body = json!({"oauthClient": {"allowedOrigins": origins}});
            app.call("PATCH", &path).auth(&own.admin.secret).json(&body).ok()
        };
        let asked = |origin: &'static str| {
            let call = app.call("GET", FOLLOWED).auth(&own.visitor).header("origin", origin);
            async move { sharing(&call.send().await.headers) }
        };
        for _ in 0..5 {
            change(json!([OTHER])).await;
            assert_eq!((asked(SHOP).await, asked(OTHER).await), (not_shared(), shared_with(OTHER)));
            // Whatever those read who ask while it changes, it is not what counts afterwards.
            let (_, during) = tokio::join!(change(json!([SHOP])), join_all((0..8).map(|_| asked(SHOP))));
            assert!(during.iter().all(|headers| [not_shared(), shared_with(SHOP)].contains(headers)), "{during:?}");
            let after = join_all((0..8).map(|_| asked(SHOP))).await;
            assert_eq!(after, vec![shared_with(SHOP); 8]);
            assert_eq!(asked(OTHER).await, not_shared());
        }
        // What a site no longer has another may have still.
        let preflight = app.call("OPTIONS", FOLLOWED).header("origin", OTHER).header("access-control-request-method", "GET");
        assert_eq!(preflight.send().await.headers["access-control-allow-origin"], OTHER);
        let path = format!("/admin/v1/oauth-clients/{elsewhere}");
        app.call("DELETE", &path).key(ADMIN_KEY, &other.id).ok().await;
        let preflight = app.call("OPTIONS", FOLLOWED).header("origin", OTHER).header("access-control-request-method", "GET");
        assert_eq!(sharing(&preflight.send().await.headers), not_shared());
    }
}
