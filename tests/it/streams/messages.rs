//! What a message looks like, in the stream and in the log of deliveries.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::{
    DELIVERIES, PATIENT, STREAM, SUBSCRIPTIONS, attempts, deliveries, event_ids, installed_site, service,
    subscribe,
};
use crate::on_both_databases;
use crate::support::nats::{Observer, Server};
use crate::support::world::{ALL_EVENTS, InstalledApp, text};
use crate::support::{ADMIN_KEY, TestApp};

const AT: &str = "2024-08-01T11:51:41.431Z";

/// The claims of a token, which a key of the published set proves.
async fn verified(app: &TestApp, installed: &InstalledApp, token: &str) -> Value {
    let set: JwkSet =
        serde_json::from_str(&app.call("GET", "/.well-known/jwks.json").send().await.text).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let key = DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    // The token's time is the test's clock, not the machine's.
    validation.validate_exp = false;
    validation.set_audience(&[&installed.id]);
    validation.set_issuer(&["followpoints"]);
    jsonwebtoken::decode(token, &key, &validation).unwrap().claims
}

on_both_databases! {
    async fn events_arrive_with_subject_headers_and_a_token_like_a_webhooks(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;
        app.drain().await;

        let deliveries = deliveries(&app, &site).await;
        let stored = Observer::new(&nats.url()).await.messages(STREAM).await;
        assert_eq!((stored.len(), deliveries.len()), (4, 4));
        let mut sequences = Vec::new();
        for delivery in &deliveries {
            let event_id = text(&delivery["eventId"]);
            let index = stored.iter().position(|message| message.header("Nats-Msg-Id") == event_id).unwrap();
            let message = &stored[index];
            let claims = verified(&app, &installed, &message.payload).await;
            let envelope: Value = serde_json::from_str(&text(&claims["data"])).unwrap();
            let event_type = text(&envelope["eventType"]);
            assert_eq!(claims["jti"], event_id);
            assert_eq!(message.subject, format!("followpoints.{}.{event_type}", site.id));
            let headers = [
                ("Nats-Msg-Id", event_id), ("Nats-Expected-Stream", STREAM.to_owned()),
                ("Followpoints-Event-Type", event_type), ("Followpoints-Delivery-Id", text(&delivery["id"])),
            ];
            let mut headers = headers.map(|(name, value)| (name.to_owned(), value));
            headers.sort();
            let mut came = message.headers.clone();
            came.sort();
            assert_eq!(came, headers);
            let said = format!(r#"{{"duplicate":false,"sequence":{},"stream":"FOLLOWPOINTS"}}"#, index + 1);
            let expected = json!([{"number": 1, "startedDate": AT, "responseBody": said}]);
            assert_eq!(Value::from(attempts(&app, &site, delivery).await), expected);
            assert_eq!((&delivery["status"], &delivery["attemptCount"]), (&json!("DELIVERED"), &json!(1)));
            sequences.push(index);
        }
        sequences.sort_unstable();
        assert_eq!(sequences, [0, 1, 2, 3]);
        let mut types: Vec<_> =
            stored.iter().map(|message| message.header("Followpoints-Event-Type").to_owned()).collect();
        let mut every = ALL_EVENTS.map(str::to_owned);
        types.sort();
        every.sort();
        assert_eq!(types, every);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn an_event_that_is_sent_again_stays_once_in_the_stream(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "FACEBOOK").await;
        app.drain().await;
        let observer = Observer::new(&nats.url()).await;
        let before = observer.messages(STREAM).await;
        let first = deliveries(&app, &site).await[0].clone();

        let path = format!("{}/{}/redeliver", DELIVERIES, text(&first["id"]));
        app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        app.drain().await;

        let said = attempts(&app, &site, &first).await;
        let body: Value = serde_json::from_str(&text(&said[1]["responseBody"])).unwrap();
        assert_eq!((&body["duplicate"], &body["stream"]), (&json!(true), &json!("FOLLOWPOINTS")));
        let earlier: Value = serde_json::from_str(&text(&said[0]["responseBody"])).unwrap();
        assert_eq!(body["sequence"], earlier["sequence"], "the message that is there already");
        assert_eq!(observer.messages(STREAM).await, before);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn a_test_event_goes_to_the_stream_and_is_acknowledged(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        let subscription = subscribe(&app, &site, &installed, PATIENT).await;

        let path = format!("{SUBSCRIPTIONS}/{subscription}/test");
        let tested = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;

        let test = &tested["webhookTest"];
        assert_eq!(test["accepted"], json!(true));
        let said = r#"{"duplicate":false,"sequence":1,"stream":"FOLLOWPOINTS"}"#;
        assert_eq!(test["attempt"]["responseBody"], said);
        let stored = Observer::new(&nats.url()).await.messages(STREAM).await;
        assert_eq!(stored[0].subject, format!("followpoints.{}.followpoints.webhooks.v1.test", site.id));
        assert_eq!(stored[0].header("Nats-Msg-Id"), text(&test["eventId"]));
        assert_eq!(event_ids(&app, &site).await, [""; 0]);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn a_stream_that_is_missing_is_made_at_the_start_and_kept_safely(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let config = Observer::new(&nats.url()).await.info(STREAM).await["config"].clone();
        let expected = json!({
            "name": "FOLLOWPOINTS", "subjects": ["followpoints.>"], "storage": "file", "retention": "limits",
            "num_replicas": 1, "duplicate_window": 3_600_000_000_000_u64, "discard": "old", "max_age": 0,
            "max_msgs": -1, "max_bytes": -1,
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&config[name], value, "{name}");
        }
        app.app.stop().await;
    }
}
