//! API keys, front-ends, apps and their installations.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::{INSTANCE_ADMIN, MANAGE, READ, SITE_ADMIN, UNKNOWN_ID};
use crate::support::world::{ALL_EVENTS, text};

const KEYS: &str = "/admin/v1/api-keys";
const CLIENTS: &str = "/admin/v1/oauth-clients";

on_both! {
    async fn a_key_is_shown_with_its_scopes_and_once_with_its_secret(app: &TestApp) {
        let site = app.site().await;
        let body = json!({"apiKey": {"name": "ci", "scopes": [READ, MANAGE]}});
        let made = app.call("POST", KEYS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let shown = json!({
            "id": made["apiKey"]["id"], "name": "ci", "siteId": site.id, "scopes": [READ, MANAGE],
            "createdDate": "2024-08-01T11:51:41.431Z",
        });
        let secret = text(&made["secret"]);
        assert_eq!(made, json!({"apiKey": shown, "secret": secret}));
        assert!(secret.starts_with("fpk_") && secret.len() == 47, "{secret}");
        let listed = app.call("GET", KEYS).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(
            listed,
            json!({"apiKeys": [shown], "pagingMetadata": {"count": 1, "cursors": {}, "hasNext": false}})
        );
        // The instance-wide keys are another list.
        let listed = app.call("GET", KEYS).auth(ADMIN_KEY).ok().await;
        assert_eq!(listed["apiKeys"], json!([]));
    }
}

on_both! {
    async fn scopes_default_to_everything_where_the_key_belongs(app: &TestApp) {
        let site = app.site().await;
        let body = json!({"apiKey": {"name": "default"}});
        let of_site = app.call("POST", KEYS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(of_site["apiKey"]["scopes"], json!([SITE_ADMIN]));
        let instance = app.call("POST", KEYS).auth(ADMIN_KEY).json(&body).ok().await;
        assert_eq!(
            instance["apiKey"],
            json!({
                "id": instance["apiKey"]["id"], "name": "default", "scopes": [INSTANCE_ADMIN],
                "createdDate": "2024-08-01T11:51:41.431Z",
            })
        );
        let secret = text(&instance["secret"]);
        let new_site = json!({"site": {"name": "Second"}});
        app.call("POST", "/admin/v1/sites").auth(&secret).json(&new_site).ok().await;
        app.call("DELETE", &format!("{KEYS}/{}", text(&instance["apiKey"]["id"]))).auth(ADMIN_KEY).ok().await;
        let gone = app.call("POST", "/admin/v1/sites").auth(&secret).json(&new_site).send().await;
        assert_eq!(gone.error(), (401, "UNAUTHENTICATED".to_owned()));
    }
}

on_both! {
    async fn g5_a_key_cannot_make_a_stronger_one(app: &TestApp) {
        let site = app.site().await;
        let admin = app.site_key(&site, SITE_ADMIN).await;
        let send = |auth: &str, scopes: Value| {
            let body = json!({"apiKey": {"name": "stronger", "scopes": scopes}});
            app.call("POST", KEYS).auth(auth).json(&body).send()
        };
        let refused = send(&admin.secret, json!([READ, INSTANCE_ADMIN])).await;
        assert_eq!(refused.violations(), [("apiKey.scopes".to_owned(), "FIELD_NOT_ALLOWED".to_owned())]);
        let unknown = send(&admin.secret, json!(["SCOPE.EVERYTHING"])).await;
        assert_eq!(unknown.violations(), [("apiKey.scopes[0]".to_owned(), "INVALID_ENUM_VALUE".to_owned())]);
        let none = send(&admin.secret, json!([])).await;
        assert_eq!(none.violations(), [("apiKey.scopes".to_owned(), "MIN_SIZE".to_owned())]);

        // An instance-wide key that may administer sites, but not the installation.
        let weak = text(&send(ADMIN_KEY, json!([SITE_ADMIN])).await.json()["secret"]);
        for (method, path, body) in [
            ("POST", KEYS, json!({"apiKey": {"name": "stronger"}})),
            ("POST", "/admin/v1/sites", json!({"site": {"name": "Second"}})),
        ] {
            let answer = app.call(method, path).auth(&weak).json(&body).send().await;
            assert_eq!(answer.error(), (403, "PERMISSION_DENIED".to_owned()), "{path}");
        }
        let listed = app.call("GET", KEYS).auth(&weak).send().await;
        assert_eq!(listed.error(), (403, "PERMISSION_DENIED".to_owned()));
        let of_site =
            app.call("POST", KEYS).key(&weak, &site.id).json(&json!({"apiKey": {"name": "own"}})).ok().await;
        assert_eq!(of_site["apiKey"]["scopes"], json!([SITE_ADMIN]));
        let reading = text(&send(ADMIN_KEY, json!([READ])).await.json()["secret"]);
        let admin_call = app.call("GET", "/admin/v1/members").key(&reading, &site.id).send().await;
        assert_eq!(admin_call.error(), (403, "PERMISSION_DENIED".to_owned()));
    }
}

on_both! {
    async fn a_front_end_has_origins_as_browsers_send_them(app: &TestApp) {
        let site = app.site().await;
        let origins = json!([
            "https://shop.example",
            "http://localhost:3000",
            "https://shop.example:8443",
            "http://[::1]:8080"
        ]);
        let body = json!({"oauthClient": {"name": "Shop front-end", "allowedOrigins": origins}});
        let made = app.call("POST", CLIENTS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(
            made,
            json!({"oauthClient": {
                "id": made["oauthClient"]["id"], "name": "Shop front-end", "allowedOrigins": origins,
                "createdDate": "2024-08-01T11:51:41.431Z", "updatedDate": "2024-08-01T11:51:41.431Z",
            }})
        );
        assert_eq!(app.admin_list(&site, CLIENTS, "oauthClients").await, [made["oauthClient"].clone()]);
        for wrong in [
            "",
            "*",
            "null",
            "shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://shop.example?a",
            "https://shop.example:443",
            "https://user@shop.example",
            "ftp://shop.example",
            "HTTPS://shop.example",
            "https://Shop.example",
            "https://*.example",
            "https://shop.example https://x.example",
            "file:///a",
        ] {
            let body = json!({"oauthClient": {"name": "a", "allowedOrigins": ["https://a.example", wrong]}});
            let answer = app.call("POST", CLIENTS).key(ADMIN_KEY, &site.id).json(&body).send().await;
            let expected = [("oauthClient.allowedOrigins[1]".to_owned(), "FORMAT".to_owned())];
            assert_eq!(answer.violations(), expected, "{wrong:?}");
        }
        let many = json!({"oauthClient": {"name": "a", "allowedOrigins": vec!["https://a.example"; 21]}});
        let answer = app.call("POST", CLIENTS).key(ADMIN_KEY, &site.id).json(&many).send().await;
        assert_eq!(answer.violations(), [("oauthClient.allowedOrigins".to_owned(), "MAX_SIZE".to_owned())]);
        let gone =
            app.call("DELETE", &format!("{CLIENTS}/{UNKNOWN_ID}")).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(gone.error(), (404, "OAUTH_CLIENT_NOT_FOUND".to_owned()));
    }
}

on_both! {
    async fn a_front_end_is_read_and_changed_field_by_field(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let id = app.front_end(&site, &["https://shop.example"]).await;
        let path = format!("{CLIENTS}/{id}");
        let shown = |name: &str, origins: Value, updated: &str| json!({"oauthClient": {
            "id": id, "name": name, "allowedOrigins": origins, "createdDate": "2024-08-01T11:51:41.431Z",
            "updatedDate": updated,
        }});
        let read = async || app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        let send = |change: Value| {
            let body = json!({"oauthClient": change});
            app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).send()
        };
        let (first, two) = (json!(["https://shop.example"]), json!(["https://a.example", "https://b.example"]));
        assert_eq!(read().await, shown("Shop front-end", first.clone(), "2024-08-01T11:51:41.431Z"));
        for (second, change, name, origins) in [
            (42, json!({"name": "Shop"}), "Shop", first),
            (43, json!({"allowedOrigins": two}), "Shop", two.clone()),
            (44, json!({}), "Shop", two.clone()),
            (45, json!({"name": null, "allowedOrigins": null}), "Shop", json!([])),
            (46, json!({"name": "Both", "allowedOrigins": two}), "Both", two.clone()),
        ] {
            app.clock.advance_ms(1_000);
            let expected = shown(name, origins, &format!("2024-08-01T11:51:{second}.431Z"));
            assert_eq!(send(change).await.json(), expected);
            assert_eq!(read().await, expected);
        }

        let long = format!("https://{}.example", "a".repeat(240));
        assert_eq!(long.len(), 256);
        for (change, field, rule) in [
            (json!({"name": ""}), "name", "MIN_LENGTH"),
            (json!({"name": "a".repeat(101)}), "name", "MAX_LENGTH"),
            (json!({"allowedOrigins": ["https://a.example", "https://a.example/"]}), "allowedOrigins[1]", "FORMAT"),
            (json!({"allowedOrigins": [long]}), "allowedOrigins[0]", "MAX_LENGTH"),
            (json!({"allowedOrigins": vec!["https://a.example"; 21]}), "allowedOrigins", "MAX_SIZE"),
        ] {
            let expected = [(format!("oauthClient.{field}"), rule.to_owned())];
            assert_eq!(send(change).await.violations(), expected);
        }
        let unknown = format!("{CLIENTS}/{UNKNOWN_ID}");
        for (path, site) in [(&path, &other), (&unknown, &site)] {
            let read = app.call("GET", path).key(ADMIN_KEY, &site.id).send().await;
            let body = json!({"oauthClient": {"name": "Mine"}});
            let changed = app.call("PATCH", path).key(ADMIN_KEY, &site.id).json(&body).send().await;
            for refused in [read, changed] {
                assert_eq!(refused.error(), (404, "OAUTH_CLIENT_NOT_FOUND".to_owned()));
            }
        }
        assert_eq!(read().await, shown("Both", two, "2024-08-01T11:51:46.431Z"));
    }
}

on_both! {
    async fn a_site_has_a_hundred_front_ends_at_most_with_origins_of_255_characters(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let send = |origins: Value| {
            let body = json!({"oauthClient": {"name": "Shop", "allowedOrigins": origins}});
            app.call("POST", CLIENTS).key(ADMIN_KEY, &site.id).json(&body).send()
        };
        let of_label = |last: usize| format!("https://{0}.{0}.{0}.{1}:8443", "a".repeat(60), "a".repeat(last));
        let (longest, longer) = (of_label(59), of_label(60));
        assert_eq!(longest.len(), 255);
        let refused = send(json!([longer, longest, "shop"])).await;
        let origin = |index: usize| format!("oauthClient.allowedOrigins[{index}]");
        assert_eq!(refused.violations(), [(origin(0), "MAX_LENGTH".to_owned()), (origin(2), "FORMAT".to_owned())]);
        let said = refused.json();
        let violation = &said["details"]["validationError"]["fieldViolations"][0];
        assert_eq!(violation["description"], "has at most 255 characters");
        assert_eq!(violation["data"], json!({"threshold": 255}));

        let first = send(json!([longest])).await;
        assert_eq!(first.status.as_u16(), 200, "{}", first.text);
        for _ in 0..95 {
            app.front_end(&site, &[]).await;
        }
        // Of many at the same moment as many succeed as there is room for.
        let answers = join_all((0..8).map(|_| send(json!([])))).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 200, 428, 428, 428, 428]);
        let what = "a site can have at most 100 front-ends; delete some";
        let refusal = json!({"message": what, "details": {"applicationError": {
            "code": "TOO_MANY_OAUTH_CLIENTS", "description": what, "data": {},
        }}});
        let full = send(json!([])).await;
        assert_eq!((full.status.as_u16(), full.json()), (428, refusal));
        app.front_end(&other, &[]).await;
        let path = format!("{CLIENTS}/{}", text(&first.json()["oauthClient"]["id"]));
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        app.front_end(&site, &[]).await;
    }
}

on_both! {
    async fn an_app_has_a_key_pair_and_a_secret_that_is_shown_once(app: &TestApp) {
        let body = json!({"app": {"name": "CRM sync"}});
        let made = app.call("POST", "/admin/v1/apps").auth(ADMIN_KEY).json(&body).ok().await;
        let shown = json!({
            "id": made["app"]["id"], "name": "CRM sync", "keyId": made["app"]["keyId"],
            "publicKey": made["app"]["publicKey"], "keyActiveDate": "2024-08-01T11:51:41.431Z",
            "createdDate": "2024-08-01T11:51:41.431Z", "updatedDate": "2024-08-01T11:51:41.431Z",
        });
        let secret = text(&made["appSecret"]);
        assert_eq!(made, json!({"app": shown, "appSecret": secret}));
        assert!(secret.starts_with("fps_") && secret.len() == 47, "{secret}");
        let pem = text(&shown["publicKey"]);
        assert!(
            pem.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.ends_with("-----END PUBLIC KEY-----\n")
        );
        let path = format!("/admin/v1/apps/{}", text(&shown["id"]));
        assert_eq!(app.call("GET", &path).auth(ADMIN_KEY).ok().await, json!({"app": shown}));
        let listed = app.call("GET", "/admin/v1/apps").auth(ADMIN_KEY).ok().await;
        assert_eq!(listed["apps"], json!([shown]));

        let rotated = app.call("POST", &format!("{path}/rotate-key")).auth(ADMIN_KEY).ok().await;
        assert_ne!(rotated["app"]["keyId"], shown["keyId"]);
        assert_eq!(rotated["app"]["keyActiveDate"], "2024-08-01T11:56:41.431Z");
        let unknown = app.call("GET", &format!("/admin/v1/apps/{UNKNOWN_ID}")).auth(ADMIN_KEY).send().await;
        assert_eq!(unknown.error(), (404, "APP_NOT_FOUND".to_owned()));
    }
}

on_both! {
    async fn an_app_is_installed_once_and_removed_when_nothing_hangs_on_it(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let path = format!("/admin/v1/app-instances/{}", installed.instance_id);
        let shown = json!({
            "id": installed.instance_id, "appId": installed.id, "siteId": site.id,
            "createdDate": "2024-08-01T11:51:41.431Z",
        });
        assert_eq!(app.install(&site, ADMIN_KEY, &installed.id).await, installed.instance_id);
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, json!({"appInstance": shown}));
        assert_eq!(app.admin_list(&site, "/admin/v1/app-instances", "appInstances").await, [shown]);
        let body = json!({"appInstance": {"appId": UNKNOWN_ID}});
        let unknown =
            app.call("POST", "/admin/v1/app-instances").key(ADMIN_KEY, &site.id).json(&body).send().await;
        assert_eq!(unknown.error(), (404, "APP_NOT_FOUND".to_owned()));

        let subscription = app.subscribe(&site, &installed, &ALL_EVENTS, "http://127.0.0.1:9/hook").await;
        let refused = app.call("DELETE", &path).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(refused.error(), (428, "HAS_SUBSCRIPTIONS".to_owned()));
        let of_subscription = format!("/admin/v1/webhook-subscriptions/{subscription}");
        app.call("DELETE", &of_subscription).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await, json!({}));
        let again = app.call("DELETE", &path).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(again.error(), (404, "APP_INSTANCE_NOT_FOUND".to_owned()));
    }
}

on_both! {
    async fn installing_at_the_same_moment_makes_one_installation_and_no_failure(app: &TestApp) {
        let site = app.site().await;
        let make = || async {
            let body = json!({"app": {"name": "CRM"}});
            app.call("POST", "/admin/v1/apps").key(ADMIN_KEY, &site.id).json(&body).ok().await["app"]["id"].clone()
        };
        let site_id = &site.id;
        let install = |id: Value| async move {
            let body = json!({"appInstance": {"appId": id}});
            app.call("POST", "/admin/v1/app-instances").key(ADMIN_KEY, site_id).json(&body).ok().await
        };
        let (mut id, mut installed) = (make().await, Value::Null);
        for _ in 0..20 {
            id = make().await;
            let all = join_all((0..8).map(|_| install(id.clone()))).await;
            assert!(all.iter().all(|answer| *answer == all[0]), "{all:?}");
            installed = all[0].clone();
        }

        // Whoever comes first, the other is told.
        let path = format!("/admin/v1/app-instances/{}", installed["appInstance"]["id"].as_str().unwrap());
        let body = json!({"webhookSubscription": {
            "appId": id, "eventTypes": ["wix.loyalty.*"], "url": "http://127.0.0.1:9/",
        }});
        let subscribe =
            || app.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body).send();
        let (removed, subscribed) = tokio::join!(
            app.call("DELETE", &path).key(ADMIN_KEY, &site.id).send(),
            join_all((0..8).map(|_| subscribe()))
        );
        let statuses: BTreeSet<u16> = subscribed.iter().map(|answer| answer.status.as_u16()).collect();
        let expected = if removed.status.as_u16() == 200 { 428 } else { 200 };
        assert_eq!((statuses.len(), statuses.contains(&expected)), (1, true), "{statuses:?} {}", removed.text);
    }
}

on_both! {
    async fn a_cursor_of_another_list_is_refused(app: &TestApp) {
        let site = app.site().await;
        for _ in 0..2 {
            let body = json!({"apiKey": {"name": "ci"}});
            app.call("POST", KEYS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        }
        let page = app.call("GET", &format!("{KEYS}?limit=1")).key(ADMIN_KEY, &site.id).ok().await;
        let cursor = text(&page["pagingMetadata"]["cursors"]["next"]);
        for list in [CLIENTS, "/admin/v1/apps", "/admin/v1/app-instances", "/admin/v1/webhook-subscriptions"] {
            let answer = app.call("GET", &format!("{list}?cursor={cursor}")).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(answer.violations(), [("cursor".to_owned(), "FORMAT".to_owned())], "{list}");
        }
        let next = app.call("GET", &format!("{KEYS}?cursor={cursor}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(next["apiKeys"].as_array().map(Vec::len), Some(1));
    }
}
