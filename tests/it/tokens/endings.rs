//! When a token or key stops: at its end, and at once when what it stands on is taken away.

use serde_json::json;

use super::{FOLLOWED, PROGRAM, both, status};
use crate::on_both;
use crate::support::callers::{READ, SITE_ADMIN};
use crate::support::{ADMIN_KEY, START};

on_both! {
    async fn an_access_token_ends_at_its_second_even_if_it_was_used_just_before(app: &TestApp) {
        let all = app.everything().await;
        let ends_ms = (START.0 / 1000 + 14_400) * 1000;
        let tokens = [&all.visitor, &all.member.token, &all.app_token];

        app.clock.advance_ms(ends_ms - 1 - START.0);
        for token in tokens {
            assert_eq!(status(app, token).await, 200);
        }
        app.clock.advance_ms(1);
        for token in tokens {
            let answer = app.call("GET", FOLLOWED).auth(token).send().await;
            let description = "the token or key is not valid";
            assert_eq!(
                both(&answer),
                (
                    401,
                    json!({"message": description, "details": {"applicationError": {
                        "code": "UNAUTHENTICATED", "description": description, "data": {},
                    }}})
                )
            );
            let info = app.call("POST", "/oauth2/token-info").json(&json!({"token": token})).ok().await;
            assert_eq!(info, json!({"active": false}));
        }
    }
}

on_both! {
    async fn a_token_from_the_future_is_not_valid_yet(app: &TestApp) {
        let all = app.everything().await;
        app.clock.advance_ms(-2_000);
        for token in [&all.visitor, &all.member.token, &all.app_token] {
            // What was verified before stays so for a minute; the site header makes it another question.
            let answer =
                app.call("GET", PROGRAM).auth(token).header("wix-site-id", &all.site.id).send().await;
            assert_eq!(answer.error(), (401, "UNAUTHENTICATED".to_owned()));
        }
    }
}

on_both! {
    async fn a_deleted_key_stops_at_once(app: &TestApp) {
        let site = app.site().await;
        let (key, kept) = (app.site_key(&site, READ).await, app.site_key(&site, READ).await);
        assert_eq!(status(app, &key.secret).await, 200);

        let path = format!("/admin/v1/api-keys/{}", key.id);
        assert_eq!(app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await, json!({}));

        assert_eq!(status(app, &key.secret).await, 401);
        assert_eq!(status(app, &kept.secret).await, 200);
        let again = app.call("DELETE", &path).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(again.error(), (404, "API_KEY_NOT_FOUND".to_owned()));
    }
}

on_both! {
    async fn a_key_that_deletes_itself_is_gone(app: &TestApp) {
        let site = app.site().await;
        let key = app.site_key(&site, SITE_ADMIN).await;
        app.call("DELETE", &format!("/admin/v1/api-keys/{}", key.id)).auth(&key.secret).ok().await;
        assert_eq!(status(app, &key.secret).await, 401);
    }
}

on_both! {
    async fn an_uninstalled_apps_token_stops_at_once(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;
        assert_eq!(status(app, &token).await, 200);

        let path = format!("/admin/v1/app-instances/{}", installed.instance_id);
        assert_eq!(app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await, json!({}));

        assert_eq!(status(app, &token).await, 401);
        let body = json!({
            "grant_type": "client_credentials", "client_id": installed.id,
            "client_secret": installed.secret, "instance_id": installed.instance_id,
        });
        let refused = json!({"error": "invalid_grant", "error_description": "the app has no such instance"});
        assert_eq!(both(&app.token(&body).await), (400, refused));
    }
}

on_both! {
    async fn token_info_knows_that_an_uninstalled_apps_token_is_dead(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;
        let path = format!("/admin/v1/app-instances/{}", installed.instance_id);
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        let info = app.call("POST", "/oauth2/token-info").json(&json!({"token": token})).ok().await;
        assert_eq!(info, json!({"active": false}));
    }
}

on_both! {
    async fn an_uninstalled_apps_token_stays_dead_when_the_app_is_installed_again(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;
        let path = format!("/admin/v1/app-instances/{}", installed.instance_id);
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        app.install(&site, ADMIN_KEY, &installed.id).await;
        assert_eq!(status(app, &token).await, 401);
    }
}
