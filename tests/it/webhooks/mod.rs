//! Webhooks: what is sent, how often, to whom, and that nothing is lost (G2, G3).

mod answers;
mod atomicity;
mod backlog;
mod cancelling;
mod changes;
mod client_certificates;
mod custom_headers;
mod deletions;
mod envelope;
mod filters;
mod health;
mod holding;
mod isolation;
mod keys;
mod lists;
mod ordering;
mod rates;
mod redeliver;
mod replays;
mod restart;
mod retention;
mod retries;
mod retry_profiles;
mod search;
mod secret_rotation;
mod signature_headers;
mod subscriptions;
mod test_events;
mod timings;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::world::{ALL_EVENTS, InstalledApp, Member, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

pub const SUBSCRIPTIONS: &str = "/admin/v1/webhook-subscriptions";
pub const DELIVERIES: &str = "/admin/v1/webhook-deliveries";
/// The event of which every follow makes one.
pub const FOLLOWED: &str = ALL_EVENTS[0];

/// An active site with an app installed on it.
async fn installed_site(app: &TestApp) -> (Site, InstalledApp) {
    let site = app.site().await;
    let installed = app.installed_app(&site).await;
    (site, installed)
}

/// Subscribes to [`FOLLOWED`] with more fields; gives the whole subscription.
async fn subscribe_with(
    app: &TestApp,
    site: &Site,
    installed: &InstalledApp,
    url: &str,
    more: &Value,
) -> Value {
    let mut new = json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": url});
    new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({"webhookSubscription": new});
    let created = app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    created["webhookSubscription"].clone()
}

async fn patch_subscription(app: &TestApp, site: &Site, id: &str, change: &Value) -> Value {
    let path = format!("{SUBSCRIPTIONS}/{id}");
    let body = json!({"webhookSubscription": change});
    let changed = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    changed["webhookSubscription"].clone()
}

/// A new member follows X.
async fn new_follower(app: &TestApp, site: &Site, external_id: &str) -> Member {
    let member = app.member(site, external_id).await;
    app.follow(&member, "X").await;
    member
}

/// Every delivery of the site, newest first.
async fn deliveries(app: &TestApp, site: &Site) -> Vec<Value> {
    app.admin_list(site, &format!("{DELIVERIES}?limit=100"), "webhookDeliveries").await
}

/// The one delivery of the subscription with its attempts.
async fn delivery_of(app: &TestApp, site: &Site, subscription: &str) -> Value {
    let path = format!("{DELIVERIES}?subscriptionId={subscription}");
    let listed = app.admin_list(site, &path, "webhookDeliveries").await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    delivery(app, site, &text(&listed[0]["id"])).await
}

/// A delivery with its attempts, without what only the machine's clock knows: durations and `date` headers. What is sent
/// has a test of its own.
async fn delivery(app: &TestApp, site: &Site, id: &str) -> Value {
    let path = format!("{DELIVERIES}/{id}");
    let mut body = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
    let mut delivery = body["webhookDelivery"].take();
    delivery.as_object_mut().unwrap().remove("requestBody");
    for attempt in delivery["attempts"].as_array_mut().unwrap() {
        let attempt = attempt.as_object_mut().unwrap();
        assert!(attempt.remove("durationMs").unwrap().as_u64().is_some());
        if let Some(timings) = attempt.remove("timings") {
            assert!(timings["totalMs"].as_f64().unwrap() > 0.0);
            assert_eq!(attempt.remove("requestHeaders").unwrap()["content-type"], "text/plain");
        }
        if let Some(headers) = attempt.get_mut("responseHeaders") {
            headers.as_object_mut().unwrap().remove("date");
        }
    }
    delivery
}

/// Moves the clock to the very millisecond of `date`.
fn advance_to(app: &TestApp, date: &Value) {
    app.clock.advance_ms(millis(date) - app.app.db.now().0);
}

fn millis(date: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(&text(date)).unwrap().timestamp_millis()
}

/// Lets every try fail that the schedule has left.
async fn exhaust(app: &TestApp, site: &Site, subscription: &str) {
    loop {
        app.drain().await;
        let delivery = delivery_of(app, site, subscription).await;
        if delivery["status"] == "EXHAUSTED" {
            return;
        }
        assert_eq!(delivery["status"], "RETRYING");
        advance_to(app, &delivery["nextAttemptDate"]);
    }
}

/// The header of a compact JWS, as text.
fn jws_header(token: &str) -> String {
    decode_part(token.split('.').next().unwrap())
}

fn decode_part(part: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The claims of a token with the JSON texts in it unfolded: `data`, `data.data` and `data.identity` must be texts.
pub fn unfold(token: &str) -> Value {
    let inner = |value: &Value| serde_json::from_str::<Value>(&text(value)).unwrap();
    let mut claims: Value = serde_json::from_str(&decode_part(token.split('.').nth(1).unwrap())).unwrap();
    let mut envelope = inner(&claims["data"]);
    envelope["data"] = inner(&envelope["data"]);
    envelope["identity"] = inner(&envelope["identity"]);
    claims["data"] = envelope;
    claims
}

/// The `kid` of a token.
fn kid(token: &str) -> String {
    let header: Value = serde_json::from_str(&jws_header(token)).unwrap();
    text(&header["kid"])
}

/// The header of a token.
pub fn unfold_head(token: &str) -> Value {
    serde_json::from_str(&jws_header(token)).unwrap()
}
