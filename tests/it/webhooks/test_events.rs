//! A test event: sent once, signed like every other, and kept nowhere.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DELIVERIES, SUBSCRIPTIONS, deliveries, installed_site, new_follower, subscribe_with, unfold};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const AT: &str = "2024-08-01T11:51:41.431Z";
const TEST: &str = "followpoints.webhooks.v1.test";

/// Sends a sample of an event of type `kind`, and gives the claims that the receiver was sent.
async fn sampled(app: &TestApp, site: &Site, subscription: &str, kind: &str, receiver: &Receiver) -> Value {
    let path = format!("{SUBSCRIPTIONS}/{subscription}/test");
    let body = json!({"eventType": kind});
    let tested = app.call("POST", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
    assert_eq!(tested["webhookTest"]["accepted"], true, "{tested}");
    let claims = unfold(receiver.bodies().last().unwrap());
    assert_eq!(claims["data"]["eventType"], kind);
    assert_eq!(
        (&claims["jti"], &claims["data"]["data"]["id"]),
        (&tested["webhookTest"]["eventId"], &claims["jti"])
    );
    claims
}

/// `value` with the kinds of its values instead of them.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), shape(field))).collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("truth value"),
        Value::Null => Value::Null,
    }
}

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

on_both! {
    async fn a_sample_has_the_shape_of_the_real_event_and_says_that_it_is_a_test(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let subscription = app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        let real: BTreeMap<String, Value> = receiver
            .bodies()
            .iter()
            .map(|body| unfold(body)["data"].take())
            .map(|envelope| (text(&envelope["eventType"]), envelope))
            .collect();
        assert_eq!(real.len(), ALL_EVENTS.len());
        for (kind, mut of_real) in real {
            let mut claims = sampled(app, &site, &subscription, &kind, &receiver).await;
            let mut data = claims["data"]["data"].take();
            assert_eq!(data["originatedFrom"].take(), TEST);
            assert_eq!(data["entityEventSequence"], "0");
            let of_real_data = of_real["data"].take();
            assert_eq!(shape(&data), shape(&of_real_data), "{kind}");
            for name in ["entityFqdn", "slug"] {
                assert_eq!(data[name], of_real_data[name], "{kind}");
            }
            assert_ne!(data["entityId"], of_real_data["entityId"]);
            assert_eq!(claims["data"]["instanceId"], of_real["instanceId"]);
            assert_eq!(claims["data"]["identity"]["identityType"], "WIX_USER");
        }
        assert_eq!(deliveries(app, &site).await.len(), ALL_EVENTS.len(), "samples are kept nowhere");
        let events = app.call("GET", "/admin/v1/events").key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(events["events"].as_array().unwrap().len(), ALL_EVENTS.len());
    }
}

on_both! {
    async fn every_type_has_a_sample_whether_or_not_the_subscription_names_it(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let id = app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let mut followed = sampled(app, &site, &id, ALL_EVENTS[0], &receiver).await;
        let event = followed["data"]["data"].take();
        assert_eq!(event, json!({
            "id": followed["jti"], "entityFqdn": "wix.loyalty.socialmedia.v1.followed_channel", "slug": "created",
            "entityId": "01910dc8-1277-7000-8000-000000000010",
            "createdEvent": {"entity": {
                "id": "01910dc8-1277-7000-8000-000000000010", "accountId": "01910dc8-1277-7000-8000-00000000000e",
                "channel": "X", "createdDate": AT,
            }},
            "eventTime": AT, "triggeredByAnonymizeRequest": false, "originatedFrom": TEST, "entityEventSequence": "0",
        }));
        let recorded = sampled(app, &site, &id, "followpoints.social.v1.activity_recorded", &receiver).await;
        assert_eq!(recorded["data"]["data"]["createdEvent"], json!({"entity": {
            "id": "01910dc8-1277-7000-8000-00000000003e", "type": "MENTIONED_YOU_SOCIAL", "platform": "INSTAGRAM",
            "externalId": "17895695668004550", "mentionType": "mention", "handle": "nordfan",
            "memberId": "01910dc8-1277-7000-8000-000000000007", "accountId": "01910dc8-1277-7000-8000-00000000000e",
            "properties": {"platform": "instagram", "caption": "New mug day #NordBrew"},
            "outcome": "AWARDED", "points": 50, "occurredDate": AT, "createdDate": AT,
        }}));
        let of_subscription = |status: &str, more: Value| {
            let mut told = json!({"id": id, "appId": installed.id, "url": receiver.url, "status": status});
            told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"body": {"subscription": told}})
        };
        for (slug, expected) in [
            ("failing", of_subscription("ENABLED", json!({
                "failingSinceDate": "2024-07-29T23:51:41.431Z", "disabledFromDate": "2024-08-03T23:51:41.431Z",
                "lastStatusCode": 503,
            }))),
            ("recovered", of_subscription("ENABLED", json!({}))),
            ("disabled", of_subscription("DISABLED", json!({
                "statusReason": "the receiver has accepted nothing for 5 days",
                "failingSinceDate": "2024-07-27T11:51:41.431Z", "lastStatusCode": 503,
            }))),
        ] {
            let kind = format!("followpoints.webhooks.v1.subscription_{slug}");
            let told = sampled(app, &site, &id, &kind, &receiver).await["data"]["data"].clone();
            assert_eq!(told["actionEvent"], expected, "{slug}");
            assert_eq!((&told["slug"], &told["entityId"]), (&json!(slug), &json!(id)));
            assert_eq!(told["originatedFrom"], TEST);
        }
    }
}

on_both! {
    async fn a_test_without_a_type_is_of_its_own_and_an_unknown_type_is_refused(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let id = app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let path = format!("{SUBSCRIPTIONS}/{id}/test");
        let call = || app.call("POST", &path).key(ADMIN_KEY, &site.id);
        for answer in [
            call().send().await,
            call().text("application/json", "").send().await,
            call().json(&json!({})).send().await,
            call().json(&json!({"eventType": null})).send().await,
            call().json(&json!({"eventType": TEST})).send().await,
        ] {
            assert_eq!(answer.json()["webhookTest"]["accepted"], true, "{}", answer.text);
            let data = unfold(receiver.bodies().last().unwrap())["data"].clone();
            assert_eq!((&data["eventType"], &data["data"]["originatedFrom"]), (&json!(TEST), &Value::Null));
        }
        for unknown in ["wix.loyalty.v1.*", "wix.loyalty.v2.account_created", "*"] {
            let refused = call().json(&json!({"eventType": unknown})).send().await;
            assert_eq!(refused.violations(), [("eventType".to_owned(), "INVALID_ENUM_VALUE".to_owned())], "{unknown}");
        }
        let refused = call().json(&json!({"eventType": 7})).send().await;
        assert_eq!(refused.violations(), [("eventType".to_owned(), "FORMAT".to_owned())]);
        let refused = call().text("text/plain", "{}").send().await;
        assert_eq!(refused.error(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
        assert_eq!(receiver.count(), 5);
    }
}
