//! Ten thousand receivers that do not answer, and one that does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use entity::id::{DeliveryId, SubscriptionId};
use entity::kinds::DeliveryStatus;
use entity::{delivery, endpoint, event, subscription};
use followpoints::webhooks::endpoints;
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait as _, DatabaseConnection, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
};
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{connect, until};
use crate::on_both_databases;
use crate::recovery::check_received;
use crate::recovery::drive::{Drive, Shop};
use crate::support::process::Installation;
use crate::support::receiver::Receiver;
use crate::support::world::ALL_EVENTS;

const DEAD: usize = 10_000;
/// Of those, how many are being tried before anybody follows.
const AT_LEAST: usize = 50;
/// Rows that one statement writes.
const PART: usize = 500;
const NEVER: &str = "followpoints.social.v1.activity_recorded";
/// Follows, nearly all while the dead are tried.
const FOLLOWS: usize = 100;

/// A receiver that takes connections and never says anything; and how many it has taken.
async fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let taken = Arc::clone(&count);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
            taken.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, count)
}

/// Writes, past the service, ten thousand subscriptions like the one that is there, each with a delivery that is due.
async fn bury(database: &DatabaseConnection, url: &str) {
    let like = subscription::Entity::find()
        .filter(subscription::Column::Url.eq(url))
        .one(database)
        .await
        .unwrap()
        .unwrap();
    let of_site = event::Column::SiteId.eq(like.site_id);
    let told = event::Entity::find().filter(of_site).one(database).await.unwrap().unwrap();
    let ids: Vec<Uuid> = (1..).map(Uuid::from_u128).take(DEAD).collect();
    for part in ids.chunks(PART) {
        let rows = part
            .iter()
            .map(|id| subscription::Model { id: SubscriptionId(*id), ..like.clone() }.into_active_model());
        subscription::Entity::insert_many(rows).exec_without_returning(database).await.unwrap();
        let rows = part.iter().map(|id| {
            let row = delivery::Model {
                site_id: like.site_id,
                id: DeliveryId(*id),
                subscription_id: SubscriptionId(*id),
                event_id: told.id,
                status: DeliveryStatus::Pending,
                attempt_count: 0,
                schedule_step: 0,
                next_attempt_at: told.occurred_at,
                order_key: None,
                created_at: told.occurred_at,
                finished_at: None,
            };
            row.into_active_model()
        });
        delivery::Entity::insert_many(rows).exec_without_returning(database).await.unwrap();
        let rows = part.iter().map(|id| {
            let nobodys = endpoints::new(like.site_id, SubscriptionId(*id), false);
            endpoint::ActiveModel { due_at: Set(told.occurred_at), ..nobodys }
        });
        endpoint::Entity::insert_many(rows).exec_without_returning(database).await.unwrap();
    }
}

on_both_databases! {
    async fn g3_a_healthy_receiver_gets_everything_while_ten_thousand_dead_ones_are_tried(database: TestDatabase) {
        let installation = Installation::new(database);
        let process = installation.serve().await;
        let shop = Shop::open(&process.url).await;
        let ((url, tried), healthy) = (silent().await, Receiver::start().await);
        shop.subscribe(&ALL_EVENTS[..1], &healthy.url).await;
        // Of what comes later nothing is meant for the dead.
        shop.subscribe_with(&[NEVER], &url, json!({"timeoutMs": 15_000})).await;
        let drive = Drive::start_with(shop, 1);
        drive.wait_for(1).await;

        let database = connect(&installation.database.url).await;
        bury(&database, &url).await;
        until("the dead are tried", async || tried.load(Ordering::SeqCst) > AT_LEAST).await;
        drive.go_on(FOLLOWS - 1).await;
        drive.stop().await;
        healthy.wait_for(FOLLOWS).await;

        let tried = tried.load(Ordering::SeqCst);
        assert!(tried < DEAD, "it waited until all the dead had their turn");
        assert_eq!(check_received(&healthy).len(), FOLLOWS);
        assert_eq!(healthy.count(), FOLLOWS, "each event at the first try");
        process.kill();
    }
}
