//! Headers of the owner's own go with every try, and are shown to nobody.

use entity::subscription;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, delivery_of, installed_site, new_follower, patch_subscription,
    subscribe_with,
};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::text;

const SECRET: &str = "Bearer the receiver's own secret";

on_both! {
    async fn g8_custom_headers_are_sent_with_every_try_sealed_at_rest_and_never_shown(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let headers = json!({"customHeaders": [
            {"name": "Authorization", "value": SECRET}, {"name": "X-Environment", "value": "production"},
        ]});
        let made = subscribe_with(app, &site, &installed, &receiver.url, &headers).await;
        assert_eq!(made["customHeaders"], json!([{"name": "authorization"}, {"name": "x-environment"}]));
        let id = text(&made["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        app.clock.advance_ms(66_000);
        app.drain().await;

        let requests = receiver.received();
        assert_eq!(requests.len(), 2);
        for request in &requests {
            assert_eq!(request.headers["authorization"], SECRET);
            assert_eq!(request.headers["x-environment"], "production");
            assert_eq!(request.headers["content-type"], "text/plain");
        }
        let path = format!("{DELIVERIES}/{}", text(&delivery_of(app, &site, &id).await["id"]));
        let delivery = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["webhookDelivery"].clone();
        let sent = &delivery["attempts"][0]["requestHeaders"];
        assert_eq!((&sent["authorization"], &sent["x-environment"]), (&json!("***"), &json!("***")));
        let row = subscription::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        let stored = String::from_utf8_lossy(&row.custom_headers.unwrap()).into_owned();
        assert!(stored.contains("x-environment") && !stored.contains("receiver's own") && !stored.contains("production"));

        let kept = patch_subscription(app, &site, &id, &json!({"timeoutMs": 500})).await;
        assert_eq!(kept["customHeaders"], made["customHeaders"]);
        let other = json!({"customHeaders": [{"name": "X-Environment", "value": "test"}]});
        assert_eq!(patch_subscription(app, &site, &id, &other).await["customHeaders"], json!([{"name": "x-environment"}]));
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        let last = &receiver.received()[2];
        assert_eq!((last.headers.get("authorization"), last.headers["x-environment"].as_bytes()), (None, &b"test"[..]));
        let none = patch_subscription(app, &site, &id, &json!({"customHeaders": []})).await;
        assert_eq!(none["customHeaders"], json!([]));
        new_follower(app, &site, "u-3").await;
        app.drain().await;
        assert_eq!(receiver.received()[3].headers.get("x-environment"), None);
    }
}

on_both! {
    async fn headers_that_were_read_can_be_sent_back_and_keep_their_values(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let headers = json!({"customHeaders": [
            {"name": "Authorization", "value": SECRET}, {"name": "X-Environment", "value": "production"},
        ]});
        let made = subscribe_with(app, &site, &installed, &receiver.url, &headers).await;
        let id = text(&made["id"]);
        let again = patch_subscription(app, &site, &id, &made).await;
        assert_eq!((&again["customHeaders"], &again["revision"]), (&made["customHeaders"], &json!("2")));
        let other = json!({"customHeaders": [
            {"name": "X-Region", "value": "north"}, {"name": "AUTHORIZATION"}, {"name": "x-environment", "value": "test"},
        ]});
        let changed = patch_subscription(app, &site, &id, &other).await;
        let names = json!([{"name": "x-region"}, {"name": "authorization"}, {"name": "x-environment"}]);
        assert_eq!(changed["customHeaders"], names);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let sent = &receiver.received()[0].headers;
        assert_eq!(sent["authorization"], SECRET);
        assert_eq!((sent["x-environment"].as_bytes(), sent["x-region"].as_bytes()), (&b"test"[..], &b"north"[..]));

        let unknown = json!({"customHeaders": [{"name": "authorization"}, {"name": "x-zone"}]});
        let body = json!({"webhookSubscription": unknown});
        let path = format!("{SUBSCRIPTIONS}/{id}");
        let refused = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).send().await;
        let violation = ("webhookSubscription.customHeaders[1].value".to_owned(), "REQUIRED_FIELD".to_owned());
        assert_eq!(refused.violations(), std::slice::from_ref(&violation));
        assert_eq!(refused.json()["message"], format!("{} must not be empty", violation.0));
        let mut new = unknown;
        new["appId"] = json!(installed.id);
        (new["eventTypes"], new["url"]) = (json!([FOLLOWED]), json!(receiver.url));
        let body = json!({"webhookSubscription": new});
        let refused = app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).send().await;
        let first = ("webhookSubscription.customHeaders[0].value".to_owned(), "REQUIRED_FIELD".to_owned());
        assert_eq!(refused.violations(), [first, violation]);
        let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["webhookSubscription"], changed);
    }
}

on_both! {
    async fn headers_that_cannot_be_are_refused_by_their_place(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let header = |name: &str, value: &str| json!({"name": name, "value": value});
        for (headers, field) in [
            (json!([header("X-A", "1"), header("Content-Type", "x")]), "customHeaders[1].name"),
            (json!([header("Webhook-Id", "x")]), "customHeaders[0].name"),
            (json!([header("Host", "x")]), "customHeaders[0].name"),
            (json!([header("Content-Length", "1")]), "customHeaders[0].name"),
            (json!([header("two words", "x")]), "customHeaders[0].name"),
            (json!([header("X-A", "1"), header("x-a", "2")]), "customHeaders[1].name"),
            (json!([header("X-A", "a\r\nX-B: c")]), "customHeaders[0].value"),
            (json!([header("X-A", "")]), "customHeaders[0].value"),
            (json!([header("X-A", &"x".repeat(1_025))]), "customHeaders[0].value"),
            (Value::from((0..21).map(|n| header(&format!("X-{n}"), "x")).collect::<Vec<_>>()), "customHeaders"),
        ] {
            let new = json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": "http://127.0.0.1:9/hook",
                "customHeaders": headers});
            let body = json!({"webhookSubscription": new});
            let answer = app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).send().await;
            let fields: Vec<String> = answer.violations().into_iter().map(|(field, _)| field).collect();
            assert_eq!(fields, [format!("webhookSubscription.{field}")], "{headers}");
        }
    }
}
