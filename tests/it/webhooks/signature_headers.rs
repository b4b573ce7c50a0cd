//! The headers of Standard Webhooks beside the token: who gets them, what they sign, and what is shown of the secrets.

use serde_json::{Value, json};

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, advance_to, delivery_of, installed_site, new_follower,
    patch_subscription, unfold,
};
use crate::on_both;
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::world::{InstalledApp, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

use followpoints::webhooks::standard::{Headers, HeadersError, VerifyingKey};

const AT: &str = "2024-08-01T11:51:41.431Z";
const AT_S: &str = "1722513101";

/// Subscribes to [`FOLLOWED`] with these signatures; gives the whole answer.
pub(super) async fn subscribe_signed(
    app: &TestApp,
    site: &Site,
    installed: &InstalledApp,
    url: &str,
    schemes: &[&str],
) -> Value {
    let new =
        json!({"appId": installed.id, "eventTypes": [FOLLOWED], "url": url, "signatureHeaders": schemes});
    let body = json!({"webhookSubscription": new});
    app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).ok().await
}

/// One of the headers, which must be there.
pub(super) fn header<'a>(request: &'a Received, name: &str) -> &'a str {
    request.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

/// What a receiver that has only `key` says of the request at the service's time.
pub(super) fn accepts(app: &TestApp, key: &str, request: &Received) -> Result<(), HeadersError> {
    let headers = Headers {
        id: header(request, "webhook-id"),
        timestamp: header(request, "webhook-timestamp"),
        signature: header(request, "webhook-signature"),
    };
    VerifyingKey::parse(key).unwrap().verify(headers, request.body.as_bytes(), app.app.db.now())
}

on_both! {
    async fn the_headers_sign_the_token_with_both_keys_and_follow_the_time_of_each_try(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (receiver, plain) = (Receiver::start().await, Receiver::start().await);
        let made = subscribe_signed(app, &site, &installed, &receiver.url, &["V1A", "V1"]).await;
        app.subscribe(&site, &installed, &[FOLLOWED], &plain.url).await;
        let (secret, public) = (
            text(&made["signingSecret"]),
            text(&made["webhookSubscription"]["signingPublicKey"]),
        );
        receiver.answer([Reply::status(500)]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let delivery = delivery_of(app, &site, &text(&made["webhookSubscription"]["id"])).await;
        advance_to(app, &delivery["nextAttemptDate"]);
        app.drain().await;

        let requests = receiver.received();
        let [first, second] = requests.as_slice() else { panic!("{} requests", requests.len()) };
        let event = text(&unfold(&first.body)["jti"]);
        assert_eq!((header(first, "webhook-id"), header(second, "webhook-id")), (event.as_str(), event.as_str()));
        assert_eq!(header(first, "webhook-timestamp"), AT_S);
        let resent_at = app.app.db.now().seconds().to_string();
        assert_eq!(header(second, "webhook-timestamp"), resent_at);
        assert_ne!(resent_at, AT_S);
        assert_eq!(first.body, second.body, "the token stays the same");
        assert_eq!(header(first, "content-type"), "text/plain");
        let schemes: Vec<&str> =
            header(first, "webhook-signature").split(' ').map(|one| one.split(',').next().unwrap()).collect();
        assert_eq!(schemes, ["v1a", "v1"], "the pair was made last");
        for key in [&secret, &public] {
            assert_eq!(accepts(app, key, second), Ok(()), "{key}");
        }
        // The same signature one try earlier is a replay by now.
        app.clock.advance_ms(300_000);
        for key in [&secret, &public] {
            assert!(matches!(accepts(app, key, first), Err(HeadersError::TooOld(_))), "{key}");
        }
        let without = plain.received();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            assert_eq!(without[0].headers.get(name), None);
        }
    }
}

on_both! {
    async fn a_secret_is_made_when_first_wanted_and_shown_once_the_public_key_always(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let id = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        let path = format!("{SUBSCRIPTIONS}/{id}");
        let update = |schemes: &[&str]| {
            let body = json!({"webhookSubscription": {"signatureHeaders": schemes}});
            app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok()
        };
        let first = update(&["V1"]).await;
        let secret = text(&first["signingSecret"]);
        assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
        let subscription = |schemes: Value, revision: &str| {
            json!({
                "id": id, "appId": installed.id, "appInstanceId": installed.instance_id, "eventTypes": [FOLLOWED],
                "type": "WEBHOOK", "url": receiver.url, "status": "ENABLED", "timeoutMs": 1250, "maxInFlight": 64, "retryProfile": "WIX",
                "ordering": "PARALLEL", "customHeaders": [], "signatureHeaders": schemes, "revision": revision, "createdDate": AT, "updatedDate": AT,
            })
        };
        let expected = subscription(json!(["V1"]), "2");
        assert_eq!(first, json!({"webhookSubscription": expected, "signingSecret": secret}));
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, json!({"webhookSubscription": expected}));
        assert_eq!(update(&["V1", "V1"]).await, json!({"webhookSubscription": subscription(json!(["V1"]), "3")}));

        let both = update(&["V1A", "V1"]).await;
        let public = text(&both["webhookSubscription"]["signingPublicKey"]);
        assert!(public.starts_with("whpk_") && public.len() == 49, "{public}");
        let mut expected = subscription(json!(["V1", "V1A"]), "4");
        expected["signingPublicKey"] = json!(public);
        assert_eq!(both, json!({"webhookSubscription": expected}));
        let listed = app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await;
        assert_eq!(listed, [expected]);

        // What is left out does not sign; what comes back is what it was.
        update(&[]).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        assert_eq!(receiver.received()[0].headers.get("webhook-signature"), None);
        let back = update(&["V1", "V1A"]).await;
        assert_eq!((back.get("signingSecret"), &back["webhookSubscription"]["signingPublicKey"]), (None, &json!(public)));
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        for key in [&secret, &public] {
            assert_eq!(accepts(app, key, &receiver.received()[1]), Ok(()));
        }
    }
}

on_both! {
    async fn the_test_event_and_a_new_signature_of_an_old_event_have_the_headers_too(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let made = subscribe_signed(app, &site, &installed, &receiver.url, &["V1"]).await;
        let (id, secret) = (text(&made["webhookSubscription"]["id"]), text(&made["signingSecret"]));
        let path = format!("{SUBSCRIPTIONS}/{id}/test");
        let test = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        let requests = receiver.received();
        assert_eq!(header(&requests[0], "webhook-id"), text(&test["webhookTest"]["eventId"]));
        assert_eq!(accepts(app, &secret, &requests[0]), Ok(()));

        // Held until the token has expired: what is sent then is another token, with headers that fit it.
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        patch_subscription(app, &site, &id, &json!({"status": "PAUSED"})).await;
        let delivery = text(&delivery_of(app, &site, &id).await["id"]);
        app.clock.advance_ms(300_000_000);
        patch_subscription(app, &site, &id, &json!({"status": "ENABLED"})).await;
        let path = format!("{DELIVERIES}/{delivery}/redeliver");
        app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        app.drain().await;
        let requests = receiver.received();
        assert_ne!(requests[1].body, requests[2].body);
        assert_eq!(header(&requests[1], "webhook-id"), header(&requests[2], "webhook-id"));
        assert_eq!(accepts(app, &secret, &requests[2]), Ok(()));
    }
}
