//! Keys that cannot be read for a while although everything else can.

use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{check_attempts, connect};
use crate::on_both_databases;
use crate::recovery::drive::{Drive, Shop};
use crate::recovery::{check_events, check_received, settled};
use crate::support::TestDatabase;
use crate::support::process::Installation;
use crate::support::receiver::Receiver;
use crate::support::world::{ALL_EVENTS, text};
use crate::webhooks::unfold;

/// What is said of each delivery that cannot be signed.
const UNSIGNED: &str = "a delivery could not be signed";

/// The events as the log lists them, oldest first.
async fn told_in_order(shop: &Shop) -> Vec<String> {
    let page = shop.admin("GET", "/admin/v1/events?limit=100", None).await;
    let events: Vec<&Value> = page["events"].as_array().unwrap().iter().rev().collect();
    events.into_iter().map(|event| text(&event["id"])).collect()
}

async fn keys_cannot_be_read(database: TestDatabase, table: &str, settings: Value) {
    let installation = Installation::new(database);
    let process = installation.serve().await;
    let shop = Shop::open(&process.url).await;
    let receiver = Receiver::start().await;
    shop.subscribe_with(&ALL_EVENTS, &receiver.url, settings).await;
    let database = connect(&installation.database.url).await;
    let rename = async |from: &str, to: &str| {
        database.execute_unprepared(&format!("ALTER TABLE {from} RENAME TO {to}")).await.unwrap();
    };

    rename(table, "away").await;
    let drive = Drive::start_with(shop, 5);
    drive.wait_for(5).await;
    drive.stop().await;
    process.wait_until_said(UNSIGNED, 2).await;
    assert_eq!(receiver.count(), 0);
    rename("away", table).await;
    settled(&drive.shop).await;

    let events = check_events(&drive.shop, &drive.acknowledged()).await;
    assert_eq!(check_received(&receiver).into_values().collect::<Vec<_>>(), vec![1; events.len()]);
    let ids: Vec<String> = receiver.bodies().iter().map(|body| text(&unfold(body)["jti"])).collect();
    assert_eq!(ids, told_in_order(&drive.shop).await, "in order");
    check_attempts(&database).await;
    let page = drive.shop.admin("GET", "/admin/v1/webhook-deliveries?limit=100", None).await;
    for row in page["webhookDeliveries"].as_array().unwrap() {
        assert_eq!((&row["status"], &row["attemptCount"]), (&json!("DELIVERED"), &json!(1)), "{row}");
    }
    assert!(process.terminate().await.success());
}

on_both_databases! {
    async fn g3_an_apps_keys_that_cannot_be_read_cost_no_try_and_no_order(database: TestDatabase) {
        keys_cannot_be_read(database, "app_key", json!({"ordering": "STRICT"})).await;
    }
}

on_both_databases! {
    async fn g3_secrets_that_cannot_be_read_cost_no_try_and_no_order(database: TestDatabase) {
        let settings = json!({"ordering": "STRICT", "signatureHeaders": ["V1"]});
        keys_cannot_be_read(database, "subscription_secret", settings).await;
    }
}
