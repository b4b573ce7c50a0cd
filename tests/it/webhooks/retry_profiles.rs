//! Which waits lie between the tries of a delivery is the subscription's choice.

use serde_json::{Value, json};

use super::{
    FOLLOWED, SUBSCRIPTIONS, advance_to, delivery_of, installed_site, millis, new_follower,
    patch_subscription, subscribe_with,
};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::text;
use crate::support::{ADMIN_KEY, TestApp};

/// The waits in milliseconds between the tries of a delivery that fails to the end.
async fn waits(app: &TestApp, more: &Value) -> Vec<i64> {
    let (site, installed) = installed_site(app).await;
    let receiver = Receiver::start().await;
    receiver.answer((0..20).map(|_| Reply::status(500)));
    let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, more).await["id"]);
    new_follower(app, &site, "u-1").await;
    app.drain().await;
    let mut tried_at = millis(&delivery_of(app, &site, &subscription).await["createdDate"]);
    let mut waits = Vec::new();
    loop {
        let delivery = delivery_of(app, &site, &subscription).await;
        if delivery["status"] == "EXHAUSTED" {
            assert_eq!(delivery["attemptCount"], json!(waits.len() + 1));
            assert_eq!(receiver.count(), waits.len() + 1);
            return waits;
        }
        let due = &delivery["nextAttemptDate"];
        waits.push(millis(due) - tried_at);
        tried_at = millis(due);
        advance_to(app, due);
        app.drain().await;
    }
}

/// Each wait is the one asked for in seconds, or up to a tenth more: 1 s at least and 15 min at most.
fn assert_waits(waits: &[i64], seconds: &[i64]) {
    assert_eq!(waits.len(), seconds.len());
    for (wait, base) in waits.iter().zip(seconds.iter().map(|seconds| seconds * 1_000)) {
        assert!((base..=base + (base / 10).clamp(1_000, 900_000)).contains(wait), "{wait} after {base}");
    }
}

on_both! {
    async fn the_standard_profile_has_the_waits_of_standard_webhooks(app: &TestApp) {
        let waits = waits(app, &json!({"retryProfile": "STANDARD"})).await;
        assert_waits(&waits, &[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    }
}

on_both! {
    async fn a_custom_profile_has_its_own_waits_or_none(app: &TestApp) {
        let own = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": [2, 86_400]});
        assert_waits(&waits(app, &own).await, &[2, 86_400]);
        let none = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": []});
        assert_waits(&waits(app, &none).await, &[]);
    }
}

on_both! {
    async fn another_profile_counts_for_the_next_failure(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500), Reply::status(500)]);
        let made = subscribe_with(app, &site, &installed, &receiver.url, &json!({})).await;
        assert_eq!((&made["retryProfile"], made.get("retryDelaysSeconds")), (&json!("WIX"), None));
        let id = text(&made["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let own = json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": [60, 7]});
        let changed = patch_subscription(app, &site, &id, &own).await;
        assert_eq!(changed["retryDelaysSeconds"], json!([60, 7]));
        let due = delivery_of(app, &site, &id).await["nextAttemptDate"].clone();
        advance_to(app, &due);
        app.drain().await;
        let next = delivery_of(app, &site, &id).await["nextAttemptDate"].clone();
        assert_waits(&[millis(&next) - millis(&due)], &[7]);

        let kept = patch_subscription(app, &site, &id, &json!({"retryProfile": "CUSTOM"})).await;
        assert_eq!(kept["retryDelaysSeconds"], json!([60, 7]));
        let back = patch_subscription(app, &site, &id, &json!({"retryProfile": "WIX"})).await;
        assert_eq!((&back["retryProfile"], back.get("retryDelaysSeconds")), (&json!("WIX"), None));
    }
}

on_both! {
    async fn waits_that_make_no_sense_are_refused(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let field = "webhookSubscription.retryDelaysSeconds";
        for (more, rule) in [
            (json!({"retryProfile": "CUSTOM"}), "REQUIRED_FIELD"),
            (json!({"retryDelaysSeconds": [1]}), "FORMAT"),
            (json!({"retryProfile": "STANDARD", "retryDelaysSeconds": [1]}), "FORMAT"),
            (json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": [0]}), "FORMAT"),
            (json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": [86_401]}), "FORMAT"),
            (json!({"retryProfile": "CUSTOM", "retryDelaysSeconds": vec![1; 31]}), "MAX_SIZE"),
        ] {
            let mut new = json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": "https://example.com/"});
            new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let body = json!({"webhookSubscription": new});
            let answer = app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).send().await;
            assert_eq!(answer.error().0, 400, "{more}");
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{more}");
        }
    }
}
