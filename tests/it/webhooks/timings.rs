//! What the log says of a try beside its outcome: what was sent, and how long its parts took.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use followpoints::outbound::{BoxFuture, Resolve};
use serde_json::{Value, json};

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, advance_to, delivery_of, installed_site, new_follower,
    subscribe_with,
};
use crate::on_both;
use crate::support::receiver::{Gate, Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, Options, TestApp};

/// Takes every name but `unknown.test` for 127.0.0.1.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let found = if host == "unknown.test" {
            Err(io::Error::other("no such name"))
        } else {
            Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
        };
        Box::pin(async { found })
    }
}

/// Every attempt of the one delivery of `subscription`.
async fn attempts(app: &TestApp, site: &Site, subscription: &str) -> Vec<Value> {
    let id = text(&delivery_of(app, site, subscription).await["id"]);
    let path = format!("{DELIVERIES}/{id}");
    let body = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
    body["webhookDelivery"]["attempts"].as_array().unwrap().clone()
}

/// The parts that have a time.
fn parts(attempt: &Value) -> Vec<&str> {
    let timings = attempt["timings"].as_object().unwrap();
    assert!(timings.values().all(|part| part.as_f64().is_some_and(|part| part >= 0.0)), "{timings:?}");
    timings.keys().map(String::as_str).collect()
}

on_both! {
    options: Options { resolver: Arc::new(Loopback), ..Options::default() },
    async fn each_attempt_says_how_long_its_parts_took_as_far_as_it_came(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let port = receiver.url.rsplit(':').next().unwrap().to_owned();
        let named = app.subscribe(&site, &installed, &[FOLLOWED], &format!("http://hooks.test:{port}")).await;
        let unknown = app.subscribe(&site, &installed, &[FOLLOWED], "http://unknown.test/").await;
        let closed = app.subscribe(&site, &installed, &[FOLLOWED], "http://127.0.0.1:1/").await;
        let silent = Receiver::start().await;
        silent.answer([Reply::hang()]);
        let quick = json!({"timeoutMs": 100});
        let hung = text(&subscribe_with(app, &site, &installed, &silent.url, &quick).await["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let all = ["connectMs", "dnsMs", "firstByteMs", "totalMs"];
        assert_eq!(parts(&attempts(app, &site, &named).await[0]), all);
        assert_eq!(parts(&attempts(app, &site, &unknown).await[0]), ["dnsMs", "totalMs"]);
        assert_eq!(parts(&attempts(app, &site, &closed).await[0]), ["connectMs", "totalMs"]);
        let hung = attempts(app, &site, &hung).await;
        assert_eq!(parts(&hung[0]), ["connectMs", "totalMs"]);
        assert!(hung[0]["timings"]["totalMs"].as_f64().unwrap() >= 100.0);
        let (total, whole) = (&hung[0]["timings"]["totalMs"], &hung[0]["durationMs"]);
        assert!(total.as_f64().unwrap() < whole.as_f64().unwrap() + 1.0, "{total} of {whole}");

        // The second try comes a minute later, by the clock that tells how old a name is, on the connection of the first.
        advance_to(app, &delivery_of(app, &site, &named).await["nextAttemptDate"]);
        app.drain().await;
        let second = attempts(app, &site, &named).await.swap_remove(1);
        assert_eq!(parts(&second), ["dnsMs", "firstByteMs", "totalMs"]);
    }
}

on_both! {
    async fn each_attempt_shows_the_headers_that_were_sent(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let request = receiver.received().swap_remove(0);
        let sent: serde_json::Map<String, Value> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
            .collect();
        let shown = &attempts(app, &site, &subscription).await[0]["requestHeaders"];
        assert_eq!(shown, &Value::Object(sent));
        let host = receiver.url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        assert_eq!(
            shown,
            &json!({
                "content-type": "text/plain", "user-agent": "Followpoints/0.1.0", "host": host,
                "content-length": request.body.len().to_string(),
            })
        );

        let path = format!("{SUBSCRIPTIONS}/{subscription}/test");
        let tested = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        let attempt = &tested["webhookTest"]["attempt"];
        assert_eq!(attempt["requestHeaders"]["host"], host);
        assert_eq!(parts(attempt), ["firstByteMs", "totalMs"], "a test uses the same connections");
    }
}

on_both! {
    async fn the_body_is_told_as_it_was_sent(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let delivery = delivery_of(app, &site, &subscription).await;
        let path = format!("{DELIVERIES}/{}", text(&delivery["id"]));
        let told = async || {
            let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
            read["webhookDelivery"]["requestBody"].clone()
        };
        assert_eq!(told().await, receiver.bodies()[0]);
        let listed = app.admin_list(&site, DELIVERIES, "webhookDeliveries").await;
        assert_eq!(listed[0].get("requestBody"), None, "a page of them would be long");
        // The token of 11:51:41.431 has expired: another one is sent.
        app.clock.advance_ms(300_000_000);
        app.drain().await;
        assert_ne!(told().await, receiver.bodies()[0]);
        assert_eq!(told().await, receiver.bodies()[1]);

        let events = app.admin_list(&site, "/admin/v1/events", "events").await;
        let account = events.iter().find_map(|event| event["accountId"].as_str()).unwrap();
        let body = json!({"accountId": account});
        app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(told().await, Value::Null, "its words are gone");
    }
}

on_both! {
    async fn no_body_is_told_of_what_was_not_sent_yet(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.answer([Reply::status(200), Reply::status(200).behind(&gate)]);
        let more = json!({"timeoutMs": 15_000, "maxInFlight": 1});
        app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        let slow = text(&subscribe_with(app, &site, &installed, &receiver.url, &more).await["id"]);
        new_follower(app, &site, "u-1").await;
        receiver.wait_for(2).await;
        // The other subscription of the same app has sent the same event.
        let path = format!("{DELIVERIES}/{}", text(&delivery_of(app, &site, &slow).await["id"]));
        let pending = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        gate.open();
        app.drain().await;
        let sent = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(pending["webhookDelivery"].get("requestBody"), None, "{pending}");
        assert_eq!(sent["webhookDelivery"]["requestBody"], receiver.bodies()[0]);
    }
}
