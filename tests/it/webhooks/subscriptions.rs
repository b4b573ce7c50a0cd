//! Making, changing and seeing subscriptions.

use entity::id::SubscriptionId;
use entity::subscription;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    FOLLOWED, SUBSCRIPTIONS, installed_site, new_follower, patch_subscription, subscribe_with, unfold,
};
use crate::on_both;
use crate::support::client::Answer;
use crate::support::receiver::Receiver;
use crate::support::sources::insert;
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ADMIN_KEY, Options, TestApp};

const AT: &str = "2024-08-01T11:51:41.431Z";
const UNKNOWN: &str = "01a1fae0-1eff-77b5-972a-09dcdce0937d";

async fn create(app: &TestApp, site: &Site, new: &Value) -> Answer {
    let body = json!({"webhookSubscription": new});
    app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).send().await
}

fn application_error(code: &str, description: &str) -> Value {
    json!({"message": description, "details": {"applicationError": {
        "code": code, "description": description, "data": {},
    }}})
}

on_both! {
    async fn a_subscription_is_made_with_defaults_listed_changed_and_read(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let new = json!({"appId": installed.id, "eventTypes": ALL_EVENTS, "url": "http://127.0.0.1:9/hook"});
        let created = create(app, &site, &new).await.json()["webhookSubscription"].clone();
        let mut expected = json!({
            "id": created["id"], "appId": installed.id, "appInstanceId": installed.instance_id,
            "eventTypes": ALL_EVENTS, "type": "WEBHOOK", "url": "http://127.0.0.1:9/hook", "status": "ENABLED",
            "timeoutMs": 1250, "maxInFlight": 64, "retryProfile": "WIX", "ordering": "PARALLEL", "customHeaders": [], "signatureHeaders": [],
            "revision": "1", "createdDate": AT, "updatedDate": AT,
        });
        assert_eq!(created, expected);

        let path = format!("{SUBSCRIPTIONS}/{}", text(&created["id"]));
        app.clock.advance_ms(1);
        let change = json!({"webhookSubscription": {
            "revision": "1", "url": "https://hooks.example/x?y=z", "eventTypes": [FOLLOWED],
            "timeoutMs": 15_000, "maxInFlight": 256,
        }});
        let changed = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&change).ok().await;
        expected["url"] = json!("https://hooks.example/x?y=z");
        expected["eventTypes"] = json!([FOLLOWED]);
        expected["timeoutMs"] = json!(15_000);
        expected["maxInFlight"] = json!(256);
        expected["revision"] = json!("2");
        expected["updatedDate"] = json!("2024-08-01T11:51:41.432Z");
        assert_eq!(changed, json!({"webhookSubscription": expected}));
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, changed);

        let new = json!({
            "appId": installed.id, "eventTypes": [FOLLOWED], "url": "https://other.example/",
            "timeoutMs": 100, "maxInFlight": 1, "status": "DISABLED",
        });
        let second = create(app, &site, &new).await.json()["webhookSubscription"].clone();
        assert_eq!((&second["timeoutMs"], &second["maxInFlight"]), (&json!(100), &json!(1)));
        assert_eq!(second["status"], "DISABLED");
        let listed = app.call("GET", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(
            listed,
            json!({
                "webhookSubscriptions": [second, expected],
                "pagingMetadata": {"count": 2, "hasNext": false, "cursors": {}},
            })
        );
    }
}

on_both! {
    async fn a_change_based_on_an_old_revision_is_refused_and_changes_nothing(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let id = app.subscribe(&site, &installed, &[FOLLOWED], "https://hooks.example/").await;
        let path = format!("{SUBSCRIPTIONS}/{id}");
        let update = |change: Value| {
            let body = json!({"webhookSubscription": change});
            app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).send()
        };
        let first = update(json!({"revision": "1", "timeoutMs": 500})).await.json();
        assert_eq!(first["webhookSubscription"]["revision"], "2");

        for revision in ["1", "3", "0"] {
            let stale = update(json!({"revision": revision, "timeoutMs": 900})).await;
            let text = "entity has already changed since the requested revision";
            assert_eq!((stale.status.as_u16(), stale.json()), (409, application_error("ABORTED", text)));
        }
        let unreadable = update(json!({"revision": "two"})).await;
        assert_eq!(
            unreadable.violations(),
            [("webhookSubscription.revision".to_owned(), "FORMAT".to_owned())]
        );
        let wrong = update(json!({"revision": "2", "timeoutMs": 900, "url": "https://10.0.0.1/"})).await;
        assert_eq!(wrong.violations(), [("webhookSubscription.url".to_owned(), "FORMAT".to_owned())]);
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, first);
        let unconditional = update(json!({"timeoutMs": 900})).await.json();
        assert_eq!(unconditional["webhookSubscription"]["revision"], "3");
        assert_eq!(unconditional["webhookSubscription"]["timeoutMs"], 900);
    }
}

on_both! {
    options: Options { allow_nets: "10.9.0.0/16", ..Options::default() },
    async fn a_url_that_must_not_be_called_is_refused_with_the_reason(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let https = "a URL must start with https://, unless the operator has allowed its network";
        let private = "is not publicly reachable and must not be called";
        for (url, reason) in [
            ("http://8.8.8.8/hook", https.to_owned()),
            ("ftp://hooks.example/", "a URL must start with https://".to_owned()),
            ("hooks.example/hook", "this is not a complete URL: it does not start with https://".to_owned()),
            ("https://", "a URL must name a host".to_owned()),
            ("https://127.0.0.1/hook", format!("the address 127.0.0.1 {private}")),
            ("https://2130706433/hook", format!("the address 127.0.0.1 {private}")),
            ("https://10.0.0.1/hook", format!("the address 10.0.0.1 {private}")),
            ("https://192.168.1.1/", format!("the address 192.168.1.1 {private}")),
            ("https://169.254.169.254/latest/meta-data", format!("the address 169.254.169.254 {private}")),
            ("https://[::1]/", format!("the address ::1 {private}")),
            ("https://[::ffff:10.0.0.1]/", format!("the address 10.0.0.1 {private}")),
            ("https://localhost/", "the name localhost means this machine and must not be called".to_owned()),
            (
                "https://a.localhost./",
                "the name a.localhost. means this machine and must not be called".to_owned(),
            ),
            (
                "https://user:pass@hooks.example/",
                "a URL must not contain a user name or a password".to_owned(),
            ),
            ("https://user@hooks.example/", "a URL must not contain a user name or a password".to_owned()),
            (
                "https://hooks.example/#part",
                "a URL must not contain a fragment (the part after #)".to_owned(),
            ),
            ("https://hooks.example:0/", "port 0 cannot be called".to_owned()),
            (
                "https://hooks.example/a b",
                "this is not a complete URL: it contains white space or control characters".to_owned(),
            ),
        ] {
            let refused =
                create(app, &site, &json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": url}))
                    .await;
            assert_eq!(refused.status.as_u16(), 400, "{url}");
            assert_eq!(
                refused.json(),
                json!({
                    "message": format!("webhookSubscription.url {reason}"),
                    "details": {"validationError": {"fieldViolations": [{
                        "field": "webhookSubscription.url", "description": reason, "violatedRule": "FORMAT", "data": {},
                    }]}},
                }),
                "{url}"
            );
        }
        for url in ["http://10.9.8.7:8080/hook", "https://10.9.8.7/", "https://hooks.example:8443/a?b=c"] {
            let new = json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": url});
            assert_eq!(create(app, &site, &new).await.status.as_u16(), 200, "{url}");
        }
        assert_eq!(app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await.len(), 3);
    }
}

on_both! {
    async fn every_field_of_a_subscription_is_checked_and_named(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let good = json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": "https://hooks.example/"});
        for (field, value, path, rule) in [
            ("appId", Value::Null, "appId", "REQUIRED_FIELD"),
            ("appId", json!("seventeen"), "appId", "FORMAT"),
            ("eventTypes", Value::Null, "eventTypes", "REQUIRED_FIELD"),
            ("eventTypes", json!([]), "eventTypes", "MIN_SIZE"),
            ("eventTypes", json!(vec![FOLLOWED; 21]), "eventTypes", "MAX_SIZE"),
            ("eventTypes", json!([FOLLOWED, "wix.unknown"]), "eventTypes[1]", "INVALID_ENUM_VALUE"),
            ("eventTypes", json!(["wix.loyalty.v1.acc*"]), "eventTypes[0]", "INVALID_ENUM_VALUE"),
            ("eventTypes", json!(FOLLOWED), "eventTypes", "FORMAT"),
            ("url", Value::Null, "url", "REQUIRED_FIELD"),
            ("url", json!(""), "url", "MIN_LENGTH"),
            ("url", json!(format!("https://hooks.example/{}", "x".repeat(2_048))), "url", "MAX_LENGTH"),
            ("timeoutMs", json!(99), "timeoutMs", "MIN"),
            ("timeoutMs", json!(15_001), "timeoutMs", "MAX"),
            ("timeoutMs", json!("1250"), "timeoutMs", "FORMAT"),
            ("maxInFlight", json!(0), "maxInFlight", "MIN"),
            ("maxInFlight", json!(257), "maxInFlight", "MAX"),
            ("retryProfile", json!("OFTEN"), "retryProfile", "INVALID_ENUM_VALUE"),
            ("signatureHeaders", json!(["V1", "v1a"]), "signatureHeaders[1]", "INVALID_ENUM_VALUE"),
            ("signatureHeaders", json!(["V1", "V1A", "V1"]), "signatureHeaders", "MAX_SIZE"),
            ("signatureHeaders", json!("V1"), "signatureHeaders", "FORMAT"),
            ("status", json!("SLEEPING"), "status", "INVALID_ENUM_VALUE"),
        ] {
            let mut new = good.clone();
            new[field] = value.clone();
            let violations = create(app, &site, &new).await.violations();
            assert_eq!(
                violations,
                [(format!("webhookSubscription.{path}"), rule.to_owned())],
                "{field}: {value}"
            );
        }
        assert_eq!(create(app, &site, &good).await.status.as_u16(), 200);
    }
}

on_both! {
    async fn the_app_must_exist_and_be_installed_on_the_site(app: &TestApp) {
        let (site, _) = installed_site(app).await;
        let new = |app_id: &str| json!({"appId": app_id, "eventTypes": [FOLLOWED], "url": "https://hooks.example/"});
        let unknown = create(app, &site, &new(UNKNOWN)).await;
        let absent = application_error("APP_NOT_FOUND", "there is no such app");
        assert_eq!((unknown.status.as_u16(), unknown.json()), (404, absent));

        let body = json!({"app": {"name": "Elsewhere"}});
        let elsewhere = app.call("POST", "/admin/v1/apps").auth(ADMIN_KEY).json(&body).ok().await;
        let refused = create(app, &site, &new(&text(&elsewhere["app"]["id"]))).await;
        let description = "the app is not installed on this site; create an app instance first";
        assert_eq!(
            (refused.status.as_u16(), refused.json()),
            (428, application_error("APP_NOT_INSTALLED", description))
        );
        assert_eq!(app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await, Vec::<Value>::new());
    }
}

/// A key of this site alone.
async fn site_key(app: &TestApp, site: &Site) -> String {
    let body = json!({"apiKey": {"name": "owner"}});
    text(&app.call("POST", "/admin/v1/api-keys").key(ADMIN_KEY, &site.id).json(&body).ok().await["secret"])
}

on_both! {
    async fn g5_another_sites_apps_and_subscriptions_answer_like_unknown_ones(app: &TestApp) {
        let (site, stranger) = (app.site().await, app.site().await);
        let (key, strange_key) = (site_key(app, &site).await, site_key(app, &stranger).await);
        let body = json!({"app": {"name": "Private"}});
        let private = app.call("POST", "/admin/v1/apps").auth(&key).json(&body).ok().await;
        let private = text(&private["app"]["id"]);
        let body = json!({"appInstance": {"appId": private}});
        app.call("POST", "/admin/v1/app-instances").auth(&key).json(&body).ok().await;
        let subscribe = |key: &str, app_id: &str| {
            let new = json!({"appId": app_id, "eventTypes": [FOLLOWED], "url": "https://hooks.example/"});
            app.call("POST", SUBSCRIPTIONS).auth(key).json(&json!({"webhookSubscription": new})).send()
        };
        let own = subscribe(&key, &private).await.json();
        let id = text(&own["webhookSubscription"]["id"]);

        for method in ["GET", "PATCH", "DELETE"] {
            let ask = |id: &str| {
                let call = app.call(method, &format!("{SUBSCRIPTIONS}/{id}")).auth(&strange_key);
                let call = if method == "PATCH" {
                    call.json(&json!({"webhookSubscription": {"status": "DISABLED"}}))
                } else {
                    call
                };
                call.send()
            };
            let (unknown, foreign) = (ask(UNKNOWN).await, ask(&id).await);
            assert_eq!(foreign.error(), (404, "WEBHOOK_SUBSCRIPTION_NOT_FOUND".to_owned()), "{method}");
            assert_eq!(foreign.text, unknown.text, "{method}");
        }
        let path = format!("{SUBSCRIPTIONS}/{id}");
        assert_eq!(app.call("GET", &path).auth(&key).ok().await, own);

        let (unknown, foreign) =
            (subscribe(&strange_key, UNKNOWN).await, subscribe(&strange_key, &private).await);
        assert_eq!(unknown.error(), (404, "APP_NOT_FOUND".to_owned()));
        assert_eq!(
            (foreign.status, foreign.text),
            (unknown.status, unknown.text),
            "a foreign app is as unknown"
        );
    }
}

on_both! {
    async fn a_pattern_subscribes_to_every_type_that_begins_so_and_each_event_comes_once(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (accounts, all) = (Receiver::start().await, Receiver::start().await);
        let made = app.subscribe(&site, &installed, &["wix.loyalty.v1.*"], &accounts.url).await;
        app.subscribe(&site, &installed, &["*", "wix.loyalty.*", FOLLOWED], &all.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let types = |receiver: &Receiver| {
            let mut types: Vec<String> =
                receiver.bodies().iter().map(|body| text(&unfold(body)["data"]["eventType"])).collect();
            types.sort();
            types
        };
        let (mut every, mut of_accounts) = (ALL_EVENTS.to_vec(), ALL_EVENTS[1..].to_vec());
        every.sort_unstable();
        of_accounts.sort_unstable();
        assert_eq!((types(&accounts), types(&all)), (
            of_accounts.into_iter().map(str::to_owned).collect(),
            every.into_iter().map(str::to_owned).collect(),
        ));
        let path = format!("{SUBSCRIPTIONS}/{made}");
        let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["webhookSubscription"]["eventTypes"], json!(["wix.loyalty.v1.*"]));
    }
}

on_both! {
    async fn null_takes_away_what_a_subscription_has_and_absence_leaves_it(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let given = json!({
            "maxPerSecond": 5, "filter": {"channels": ["X"]}, "signatureHeaders": ["V1"],
            "customHeaders": [{"name": "x-environment", "value": "test"}],
        });
        let made = subscribe_with(app, &site, &installed, &receiver.url, &given).await;
        let id = text(&made["id"]);
        let shown = |row: &Value| {
            ["maxPerSecond", "filter", "signatureHeaders", "customHeaders"].map(|field| row[field].clone())
        };
        let kept = [json!(5), json!({"channels": ["X"]}), json!(["V1"]), json!([{"name": "x-environment"}])];
        assert_eq!(shown(&patch_subscription(app, &site, &id, &json!({"timeoutMs": 500})).await), kept);
        let none = json!({"maxPerSecond": null, "filter": null, "signatureHeaders": null, "customHeaders": null});
        let left = [Value::Null, Value::Null, json!([]), json!([])];
        assert_eq!(shown(&patch_subscription(app, &site, &id, &none).await), left);
    }
}

on_both! {
    async fn a_site_has_at_most_a_thousand_subscriptions(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let other = app.site().await;
        app.install(&other, ADMIN_KEY, &installed.id).await;
        let new = json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": "https://hooks.example/"});
        assert_eq!(create(app, &site, &new).await.status.as_u16(), 200);
        let like = subscription::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        let tx = app.app.db.write().await.unwrap();
        let rows = (0..998).map(|_| subscription::Model { id: SubscriptionId(tx.new_id()), ..like.clone() });
        insert(&tx, rows).await;
        tx.commit().await.unwrap();

        assert_eq!(create(app, &site, &new).await.status.as_u16(), 200, "the thousandth");
        let refused = create(app, &site, &new).await;
        let what = "a site has at most 1000 webhook subscriptions";
        assert_eq!(
            (refused.status.as_u16(), refused.json()),
            (428, application_error("TOO_MANY_SUBSCRIPTIONS", what))
        );
        assert_eq!(create(app, &other, &new).await.status.as_u16(), 200, "another site has its own");
        let path = format!("{SUBSCRIPTIONS}/{}", like.id);
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(create(app, &site, &new).await.status.as_u16(), 200);
    }
}
