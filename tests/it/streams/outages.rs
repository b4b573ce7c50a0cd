//! A server that is away, stops in the middle or is killed: nothing is lost, and nothing is in the stream twice (G3).

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::{
    PATIENT, STREAM, assert_each_once, attempts, deliver_everything, deliveries, failures, installed_site,
    members, patch, service, states, subscribe,
};
use crate::support::TestApp;
use crate::support::nats::{Observer, Server};
use crate::support::until;
use crate::support::world::text;
use crate::{on_both, on_both_databases};

/// What the metrics say of NATS.
async fn gauges(app: &TestApp) -> Vec<String> {
    let text = app.call("GET", "/metrics").send().await.text;
    text.lines().filter(|line| line.starts_with("followpoints_nats")).map(str::to_owned).collect()
}

on_both! {
    async fn without_a_server_the_metrics_say_nothing_of_it(app: &TestApp) {
        assert_eq!(gauges(app).await, [""; 0]);
    }
}

on_both_databases! {
    async fn g3_what_happens_before_the_server_is_there_waits_for_it(database: TestDatabase) {
        let Some(nats) = Server::place("late", "") else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        let subscription = subscribe(&app, &site, &installed, 100).await;
        for member in members(&app, &site, 3).await {
            app.follow(&member, "X").await;
        }
        app.drain().await;
        assert_eq!(gauges(&app).await, ["followpoints_nats_awaited 0", "followpoints_nats_connected 0"]);
        let failed = failures(&app, &site).await;
        let told = "there is no connection to the NATS server: it refused the connection, or broke it off";
        assert_eq!(failed, [("CONNECT_FAILED".to_owned(), told.to_owned())]);
        assert_eq!(states(&app, &site).await, [("RETRYING".to_owned(), 12)]);

        nats.run();
        patch(&app, &site, &subscription, &json!({"timeoutMs": PATIENT})).await;
        deliver_everything(&app, &site).await;

        assert_each_once(&app, &site, &Observer::new(&nats.url()).await).await;
        assert_eq!(gauges(&app).await, ["followpoints_nats_awaited 0", "followpoints_nats_connected 1"]);
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn g3_what_is_stored_but_not_acknowledged_in_time_is_tried_again_and_dropped_by_the_stream(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        let subscription = subscribe(&app, &site, &installed, PATIENT).await;
        let [one, other] = members(&app, &site, 2).await.try_into().ok().unwrap();
        app.follow(&one, "X").await;
        app.drain().await;
        patch(&app, &site, &subscription, &json!({"timeoutMs": 100})).await;

        nats.signal("STOP");
        app.follow(&other, "X").await;
        app.drain().await;
        assert_eq!(states(&app, &site).await, [("DELIVERED".to_owned(), 4), ("RETRYING".to_owned(), 4)]);
        nats.signal("CONT");

        let observer = Observer::new(&nats.url()).await;
        let all_stored = async || (observer.info(STREAM).await["state"]["messages"] == 8).then_some(());
        until("what was sent arrives late", all_stored).await;
        patch(&app, &site, &subscription, &json!({"timeoutMs": PATIENT})).await;
        deliver_everything(&app, &site).await;
        for delivery in &deliveries(&app, &site).await[4..] {
            let attempts = attempts(&app, &site, delivery).await;
            let told = "the time ran out before the NATS server acknowledged the event";
            assert_eq!((&attempts[0]["errorClass"], &attempts[0]["error"]), (&json!("TIMEOUT"), &json!(told)));
            let said: Value = serde_json::from_str(&text(&attempts[1]["responseBody"])).unwrap();
            assert_eq!(said["duplicate"], json!(true));
        }
        assert_each_once(&app, &site, &observer).await;
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn g3_a_server_killed_under_load_loses_and_doubles_nothing(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let members = members(&app, &site, 60).await;
        let observer = Observer::new(&nats.url()).await;

        let (first, second) = members.split_at(30);
        let follows = join_all(first.iter().map(|member| app.follow(member, "X")));
        let killing = async {
            let some = async || (observer.info(STREAM).await["state"]["messages"].as_u64()? >= 10).then_some(());
            until("some events are stored", some).await;
            nats.kill();
        };
        join(follows, killing).await;
        join_all(second.iter().map(|member| app.follow(member, "X"))).await;
        nats.run();
        deliver_everything(&app, &site).await;

        assert_eq!(states(&app, &site).await, [("DELIVERED".to_owned(), 240)]);
        assert_each_once(&app, &site, &observer).await;
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn g3_a_broken_connection_is_told_when_the_server_does_not_come_back(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        let subscription = subscribe(&app, &site, &installed, PATIENT).await;
        let [one, other] = members(&app, &site, 2).await.try_into().ok().unwrap();
        app.follow(&one, "FACEBOOK").await;
        app.drain().await;
        patch(&app, &site, &subscription, &json!({"timeoutMs": 1_000})).await;

        nats.kill();
        app.follow(&other, "FACEBOOK").await;
        app.drain().await;

        let classes: Vec<_> = deliveries(&app, &site).await.split_off(2);
        for delivery in &classes {
            let last = attempts(&app, &site, delivery).await.pop().unwrap();
            assert_eq!(last["errorClass"], "CONNECT_FAILED");
        }
        nats.run();
        patch(&app, &site, &subscription, &json!({"timeoutMs": PATIENT})).await;
        deliver_everything(&app, &site).await;
        assert_each_once(&app, &site, &Observer::new(&nats.url()).await).await;
        app.app.stop().await;
    }
}

on_both_databases! {
    async fn g3_what_is_lost_with_a_killed_server_is_published_again_by_the_same_try(database: TestDatabase) {
        let Some(nats) = Server::start().await else { return };
        let app = service(database, &nats).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let [one, other] = members(&app, &site, 2).await.try_into().ok().unwrap();
        app.follow(&one, "X").await;
        app.drain().await;

        // A server that stands still takes what is sent to it no further than into its socket.
        nats.signal("STOP");
        app.follow(&other, "X").await;
        let streams = app.app.streams.as_ref().unwrap();
        until("four acknowledgements are awaited", async || (streams.awaited() == 4).then_some(())).await;
        nats.kill();
        nats.run();
        app.drain().await;

        let delivered = deliveries(&app, &site).await;
        assert_eq!(delivered.len(), 8);
        for delivery in &delivered {
            assert_eq!((&delivery["status"], &delivery["attemptCount"]), (&json!("DELIVERED"), &json!(1)));
        }
        assert_each_once(&app, &site, &Observer::new(&nats.url()).await).await;
        app.app.stop().await;
    }
}
