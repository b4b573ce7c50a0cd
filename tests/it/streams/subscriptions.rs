//! Making, changing and seeing subscriptions of type `NATS`.

use serde_json::{Value, json};

use super::{PATIENT, SUBSCRIPTIONS, failures, installed_site, service, states, subscribe};
use crate::support::client::Answer;
use crate::support::nats::Server;
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, Options, TestApp, TestDatabase};
use crate::{on_both, on_both_databases};

const AT: &str = "2024-08-01T11:51:41.431Z";

async fn create(app: &TestApp, site: &Site, new: &Value) -> Answer {
    let body = json!({"webhookSubscription": new});
    app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).send().await
}

/// A service whose server is not there: nothing here needs it.
async fn lonely(database: TestDatabase) -> TestApp {
    let nats =
        followpoints::streams::Given { url: Some("nats://127.0.0.1:9".to_owned()), ..Default::default() };
    TestApp::start(database, Options { nats, ..Options::default() }).await
}

on_both_databases! {
    async fn it_has_a_type_and_no_url_and_keeps_its_type(database: TestDatabase) {
        let app = lonely(database).await;
        let (site, installed) = installed_site(&app).await;
        let new = json!({"appId": installed.id, "eventTypes": ["*"], "type": "NATS"});
        let created = create(&app, &site, &new).await.json()["webhookSubscription"].clone();
        let mut expected = json!({
            "id": created["id"], "appId": installed.id, "appInstanceId": installed.instance_id,
            "eventTypes": ["*"], "type": "NATS", "status": "ENABLED", "timeoutMs": 1250, "maxInFlight": 64,
            "retryProfile": "WIX", "ordering": "PARALLEL", "customHeaders": [], "signatureHeaders": [], "revision": "1", "createdDate": AT, "updatedDate": AT,
        });
        assert_eq!(created, expected);
        let path = format!("{SUBSCRIPTIONS}/{}", text(&created["id"]));
        let change = json!({"webhookSubscription": {"type": "WEBHOOK", "timeoutMs": 2_000}});
        let changed = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&change).ok().await;
        expected["timeoutMs"] = json!(2_000);
        expected["revision"] = json!("2");
        assert_eq!(changed["webhookSubscription"], expected);
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, changed);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn a_url_belongs_to_a_webhook_and_only_to_one(database: TestDatabase) {
        let app = lonely(database).await;
        let (site, installed) = installed_site(&app).await;
        let url = "https://hooks.example/";
        let of = |more: Value| {
            let mut new = json!({"appId": installed.id, "eventTypes": ["*"]});
            new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            new
        };
        for (new, field, rule) in [
            (of(json!({"type": "NATS", "customHeaders": [{"name": "x-a", "value": "b"}]})), "customHeaders", "FORMAT"),
            (of(json!({"type": "NATS", "signatureHeaders": ["V1"]})), "signatureHeaders", "FORMAT"),
            (of(json!({"type": "NATS", "url": url})), "url", "FORMAT"),
            (of(json!({"type": "WEBHOOK"})), "url", "REQUIRED_FIELD"),
            (of(json!({})), "url", "REQUIRED_FIELD"),
            (of(json!({"type": "KAFKA"})), "type", "INVALID_ENUM_VALUE"),
        ] {
            let violations = create(&app, &site, &new).await.violations();
            assert_eq!(violations, [(format!("webhookSubscription.{field}"), rule.to_owned())], "{new}");
        }
        let id = subscribe(&app, &site, &installed, PATIENT).await;
        let body = json!({"webhookSubscription": {"url": url}});
        let path = format!("{SUBSCRIPTIONS}/{id}");
        let refused = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).send().await;
        let reason = "is only for type WEBHOOK: where the operator's NATS server is, the operator says";
        assert_eq!(
            (refused.status.as_u16(), refused.json()),
            (400, json!({
                "message": format!("webhookSubscription.url {reason}"),
                "details": {"validationError": {"fieldViolations": [{
                    "field": "webhookSubscription.url", "description": reason, "violatedRule": "FORMAT", "data": {},
                }]}},
            }))
        );
        app.app.stop().await;
    }
}

on_both! {
    async fn without_a_server_there_is_no_such_subscription(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let refused =
            create(app, &site, &json!({"appId": installed.id, "eventTypes": ["*"], "type": "NATS"})).await;
        let description = "this service has no NATS server; its operator must set FOLLOWPOINTS_NATS_URL";
        assert_eq!(
            (refused.status.as_u16(), refused.json()),
            (428, json!({"message": description, "details": {"applicationError": {
                "code": "NATS_NOT_CONFIGURED", "description": description, "data": {},
            }}}))
        );
        assert_eq!(app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await, [] as [Value; 0]);
    }
}

on_both_databases! {
    async fn the_events_of_a_site_are_published_by_one_app(database: TestDatabase) {
        let app = lonely(database).await;
        let (site, first) = installed_site(&app).await;
        let second = app.installed_app(&site).await;
        let of = |installed: &crate::support::world::InstalledApp, types: &str| {
            json!({"appId": installed.id, "eventTypes": [types], "type": "NATS"})
        };
        assert_eq!(create(&app, &site, &of(&first, "*")).await.status.as_u16(), 200);
        assert_eq!(create(&app, &site, &of(&first, "wix.loyalty.v1.*")).await.status.as_u16(), 200);
        let refused = create(&app, &site, &of(&second, "*")).await;
        assert_eq!(refused.error(), (428, "NATS_OTHER_APP".to_owned()));
        let (elsewhere, stranger) = installed_site(&app).await;
        assert_eq!(create(&app, &elsewhere, &of(&stranger, "*")).await.status.as_u16(), 200, "per site");

        for made in app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await {
            let path = format!("{SUBSCRIPTIONS}/{}", text(&made["id"]));
            app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        }
        assert_eq!(create(&app, &site, &of(&second, "*")).await.status.as_u16(), 200);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn what_was_published_before_the_settings_changed_waits_and_says_why(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let member = app.member(&site, "u-1").await;

        let mut app = app;
        app.config.nats = None;
        app.app.stop().await;
        let app = app.again().await;
        app.follow(&member, "FACEBOOK").await;
        app.drain().await;

        let class = "NATS_NOT_CONFIGURED".to_owned();
        let told = "this service has no NATS server (FOLLOWPOINTS_NATS_URL is not set)".to_owned();
        assert_eq!(failures(&app, &site).await, [(class, told)]);
        assert_eq!(states(&app, &site).await, [("RETRYING".to_owned(), 2)]);
        app.app.stop().await;
    }
}
