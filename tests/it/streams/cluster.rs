//! Three servers and one of them killed: what was acknowledged is in the stream, once (G3).

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::{
    PATIENT, STREAM, assert_each_once, attempts, deliver_everything, deliveries, installed_site, members,
    states, subscribe,
};
use crate::on_both_databases;
use crate::support::nats::Cluster;
use crate::support::until;
use crate::support::world::text;
use crate::support::{Options, TestApp};

on_both_databases! {
    async fn g3_the_leader_of_a_stream_on_three_servers_is_killed_under_load(database: TestDatabase) {
        let Some(cluster) = Cluster::start().await else { return };
        let nats = followpoints::streams::Given {
            url: Some(cluster.url()),
            replicas: Some("3".to_owned()),
            ..Default::default()
        };
        let app = TestApp::start(database, Options { nats, ..Options::default() }).await;
        let (site, installed) = installed_site(&app).await;
        subscribe(&app, &site, &installed, PATIENT).await;
        let members = members(&app, &site, 60).await;
        let observer = cluster.observer().await;
        assert_eq!(observer.info(STREAM).await["config"]["num_replicas"], json!(3));

        let (first, second) = members.split_at(30);
        let follows = join_all(first.iter().map(|member| app.follow(member, "X")));
        let killing = async {
            let leader = until("some events are stored", async || {
                let info = observer.info(STREAM).await;
                let is_under_way = info["state"]["messages"].as_u64()? >= 10;
                is_under_way.then(|| info["cluster"]["leader"].as_str().map(str::to_owned))?
            })
            .await;
            cluster.named(&leader).kill();
            leader
        };
        let (_, killed) = join(follows, killing).await;
        join_all(second.iter().map(|member| app.follow(member, "X"))).await;
        deliver_everything(&app, &site).await;

        assert_eq!(states(&app, &site).await, [("DELIVERED".to_owned(), 240)]);
        let info = observer.info(STREAM).await;
        assert_ne!(info["cluster"]["leader"], json!(killed), "another one leads now");
        assert_each_once(&app, &site, &observer).await;
        // What the log says was acknowledged is where the acknowledgement said.
        let stored = observer.messages(STREAM).await;
        for delivery in deliveries(&app, &site).await {
            let last = attempts(&app, &site, &delivery).await.pop().unwrap();
            let said: Value = serde_json::from_str(&text(&last["responseBody"])).unwrap();
            let sequence = said["sequence"].as_u64().unwrap();
            let message = stored.iter().find(|message| message.sequence == sequence).unwrap();
            assert_eq!(message.header("Nats-Msg-Id"), text(&delivery["eventId"]));
        }
        app.app.stop().await;
    }
}
