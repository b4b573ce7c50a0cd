//! Connections that the database cuts: what was answered stays, and the nodes go on.

use entity::delivery;
use entity::kinds::DeliveryStatus;
use followpoints::points::verify::{self, Report};
use futures_util::future::join_all;
use sea_orm::{
    ColumnTrait as _, ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _,
};
use serde_json::json;

use super::{PATH, members, two_nodes, wish};
use crate::support::client::{Answer, Call};
use crate::support::receiver::Receiver;
use crate::support::world::ALL_EVENTS;
use crate::support::{ENOUGH, TestApp};

/// A connection of the test's own, which cuts all others.
async fn cutter(app: &TestApp) -> DatabaseConnection {
    let mut options = ConnectOptions::new(app.database_url());
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn delivered(database: &DatabaseConnection) -> u64 {
    let delivered = delivery::Column::Status.eq(DeliveryStatus::Delivered);
    delivery::Entity::find().filter(delivered).count(database).await.unwrap()
}

/// Calls until the answer is no failure of the node; every pooled connection that was cut fails once.
async fn insist<'a>(call: impl Fn() -> Call<'a>) -> Answer {
    for _ in 0..50 {
        let answer = call().send().await;
        if answer.status.as_u16() != 503 {
            return answer;
        }
        assert_eq!(answer.json(), json!({"message": "", "details": {}}));
    }
    panic!("the node does not recover");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_connections_that_the_database_cuts_lose_nothing_that_was_answered() {
    let Some((first, second)) = two_nodes().await else { return };
    let site = first.site().await;
    let installed = first.installed_app(&site).await;
    let receiver = Receiver::start().await;
    first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
    let members = members(&first, &site, 60).await;
    let cutter = cutter(&first).await;

    let mut followed = Vec::new();
    for (number, group) in members.chunks(10).enumerate() {
        let calls = group.iter().map(|member| {
            let call =
                if number % 2 == 0 { first.call("POST", PATH) } else { second.client.call("POST", PATH) };
            call.auth(&member.token).json(&wish("X")).send()
        });
        let (answers, cut) = tokio::join!(join_all(calls), cutter.execute_unprepared(CUT));
        cut.unwrap();
        for (member, answer) in group.iter().zip(answers) {
            match answer.status.as_u16() {
                200 => followed.push((member, answer.json()["followedChannel"].clone())),
                status => assert_eq!((status, answer.json()), (503, json!({"message": "", "details": {}}))),
            }
        }
    }
    for member in &members {
        let answer = insist(|| first.call("POST", PATH).auth(&member.token).json(&wish("X"))).await;
        assert!([200, 409].contains(&answer.status.as_u16()), "{}", answer.text);
    }

    for (member, row) in followed {
        let listed = insist(|| first.call("GET", PATH).auth(&member.token)).await;
        assert_eq!(listed.json(), json!({"followedChannels": [row]}));
    }
    let ledger = verify::verify(&cutter, |_| {}).await.unwrap();
    assert_eq!(ledger, Report { accounts: 60, entries: 60, faults: Vec::new() });
    for _ in 0..50 {
        if delivered(&cutter).await == 60 {
            break;
        }
        first.clock.advance_ms(15_000);
        // A cut connection fails here too, once.
        let drains = async { tokio::join!(first.app.dispatcher.drain(), second.app.dispatcher.drain()) };
        let _ = tokio::time::timeout(ENOUGH, drains).await.expect("deliveries come to an end");
    }
    assert_eq!(delivered(&cutter).await, 60);
    let mut sent = receiver.bodies();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 60, "what came twice was the same");
    second.stop_with(&first).await;
}
