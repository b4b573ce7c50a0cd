//! What a stream that is there but does not take events leads to: plain words in the log of deliveries, and another try.

use serde_json::{Value, json};

use super::{PATIENT, STREAM, deliver_everything, failures, installed_site, service, states, subscribe};
use crate::on_both_databases;
use crate::support::nats::{Observer, Server};
use crate::support::{Options, TestApp, TestDatabase};

/// A service on a server with the stream as given, after a follow.
async fn followed(
    database: TestDatabase,
    nats: &Server,
    (stream, config): (&str, &Value),
    timeout_ms: i32,
) -> (TestApp, crate::support::world::Site, Observer) {
    let observer = Observer::new(&nats.url()).await;
    observer.make(stream, config).await;
    let app = service(database, nats).await;
    let (site, installed) = installed_site(&app).await;
    subscribe(&app, &site, &installed, timeout_ms).await;
    let member = app.member(&site, "u-1").await;
    app.follow(&member, "FACEBOOK").await;
    app.drain().await;
    (app, site, observer)
}

fn failure(class: &str, told: &str) -> (String, String) {
    (class.to_owned(), told.to_owned())
}

on_both_databases! {
    async fn a_full_stream_is_told_and_takes_the_events_once_there_is_room(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let mut config = json!({
            "name": STREAM, "subjects": ["followpoints.>"], "storage": "file", "discard": "new", "max_bytes": 100,
            "retention": "limits", "num_replicas": 1,
        });
        let (app, site, observer) = followed(database, &nats, (STREAM, &config), PATIENT).await;

        let told = "the stream FOLLOWPOINTS did not take the event: maximum bytes exceeded (NATS error 10077)";
        assert_eq!(failures(&app, &site).await, [failure("NATS_REFUSED", told)]);
        assert_eq!(states(&app, &site).await, [("RETRYING".to_owned(), 2)]);

        config["max_bytes"] = json!(1_000_000);
        let updated = observer.answer(&format!("STREAM.UPDATE.{STREAM}"), &config).await;
        assert!(updated.get("error").is_none(), "{updated}");
        deliver_everything(&app, &site).await;
        assert_eq!(observer.messages(STREAM).await.len(), 2);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn a_stream_with_other_subjects_is_told_and_not_changed(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let config = json!({
            "name": STREAM, "subjects": ["orders.>"], "storage": "memory", "retention": "limits", "num_replicas": 1,
        });
        let (app, site, observer) = followed(database, &nats, (STREAM, &config), 1_000).await;

        let failed = failures(&app, &site).await;
        assert_eq!(failed.len(), 2, "{failed:?}");
        for (class, told) in failed {
            assert_eq!(class, "NATS_NO_STREAM");
            let start = format!("no stream takes the subject followpoints.{}.wix.loyalty.", site.id);
            let end = ": the stream FOLLOWPOINTS has other subjects, or no leader at the moment";
            assert!(told.starts_with(&start) && told.ends_with(end), "{told}");
        }
        let kept = observer.info(STREAM).await["config"].clone();
        assert_eq!((&kept["subjects"], &kept["storage"]), (&json!(["orders.>"]), &json!("memory")));
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn another_stream_that_takes_the_subjects_is_not_filled_by_mistake(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let config = json!({
            "name": "ARCHIVE", "subjects": ["followpoints.>"], "storage": "file", "retention": "limits",
            "num_replicas": 1,
        });
        let (app, site, observer) = followed(database, &nats, ("ARCHIVE", &config), PATIENT).await;

        let told = "the stream FOLLOWPOINTS did not take the event: expected stream does not match (NATS error 10060)";
        assert_eq!(failures(&app, &site).await, [failure("NATS_REFUSED", told)]);
        assert_eq!(observer.info("ARCHIVE").await["state"]["messages"], json!(0));
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn a_stream_that_cannot_be_made_is_told(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let mut given = nats.given();
        given.replicas = Some("3".to_owned());
        let app = TestApp::start(database, Options { nats: given, ..Options::default() }).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "FACEBOOK").await;
        app.drain().await;

        let told = "the stream FOLLOWPOINTS could not be made: replicas > 1 not supported in non-clustered mode (NATS error 10074)";
        assert_eq!(failures(&app, &site).await, [failure("NATS_NO_STREAM", told)]);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn a_server_without_jetstream_is_told(database: TestDatabase) {
        let Some(nats) = Server::start_plain().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, 1_000).await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "FACEBOOK").await;
        app.drain().await;

        let told = "JetStream does not answer: it is not enabled on the NATS server, or has no leader at the moment";
        assert_eq!(failures(&app, &site).await, [failure("NATS_NO_JETSTREAM", told)]);
        app.app.stop().await;
    }
}
