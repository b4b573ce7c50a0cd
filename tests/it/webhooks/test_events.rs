//! A test event: sent once, signed like every other, and kept nowhere.

use serde_json::json;

use super::{DELIVERIES, SUBSCRIPTIONS, deliveries, installed_site, subscribe_with, unfold};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::text;

on_both! {
    async fn a_test_event_comes_signed_in_the_envelope_and_is_kept_nowhere(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(202).header("x-served-by", "crm-1").body("thanks")]);
        let disabled = json!({"status": "DISABLED"});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &disabled).await["id"]);

        let path = format!("{SUBSCRIPTIONS}/{subscription}/test");
        let tested = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;

        let test = &tested["webhookTest"];
        let attempt = &test["attempt"];
        assert_eq!((&test["accepted"], &attempt["statusCode"]), (&json!(true), &json!(202)));
        assert_eq!((&attempt["number"], &attempt["responseBody"]), (&json!(1), &json!("thanks")));
        assert_eq!(attempt["responseHeaders"]["x-served-by"], "crm-1");
        let claims = unfold(&receiver.bodies()[0]);
        assert_eq!((&claims["aud"], &claims["jti"]), (&json!(installed.id), &test["eventId"]));
        assert_eq!(claims["data"]["eventType"], "followpoints.webhooks.v1.test");
        assert_eq!(claims["data"]["identity"]["identityType"], "WIX_USER");
        assert_eq!(
            claims["data"]["data"],
            json!({
                "id": test["eventId"], "entityFqdn": "followpoints.webhooks.v1.subscription", "slug": "test",
                "entityId": subscription,
                "actionEvent": {"body": {"message": "This is a test: nothing happened."}},
                "eventTime": "2024-08-01T11:51:41.431Z", "triggeredByAnonymizeRequest": false,
                "originatedFrom": null, "entityEventSequence": "0",
            })
        );
        app.drain().await;
        assert_eq!(receiver.count(), 1);
        assert_eq!(deliveries(app, &site).await, [] as [serde_json::Value; 0]);
        let events = app.call("GET", "/admin/v1/events").key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(events["events"], json!([]));
    }
}

on_both! {
    async fn a_test_tells_why_a_receiver_did_not_accept_and_does_not_try_again(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(410), Reply::hang()]);
        let quick = json!({"timeoutMs": 100});
        let subscription = text(&subscribe_with(app, &site, &installed, &receiver.url, &quick).await["id"]);
        let path = format!("{SUBSCRIPTIONS}/{subscription}/test");

        let gone = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(gone["webhookTest"]["accepted"], json!(false));
        assert_eq!(gone["webhookTest"]["attempt"]["statusCode"], json!(410));
        let hung = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(hung["webhookTest"]["accepted"], json!(false));
        assert_eq!(hung["webhookTest"]["attempt"]["errorClass"], "TIMEOUT");

        let read = app.call("GET", &format!("{SUBSCRIPTIONS}/{subscription}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["webhookSubscription"]["status"], "ENABLED", "a test disables nothing");
        app.drain().await;
        assert_eq!(receiver.count(), 2);
        let listed = app.call("GET", DELIVERIES).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(listed["webhookDeliveries"], json!([]));
    }
}
