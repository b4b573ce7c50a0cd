//! What goes wrong around the real program: other nodes, receivers, databases. Whatever was acknowledged is there and
//! every event is delivered, and the service goes on when the fault is over.

mod clocks;
mod databases;
mod dead;
mod keys;
mod midway;
mod nodes;
mod receivers;
mod relay;

use std::collections::HashMap;

use entity::kinds::DeliveryStatus;
use entity::{attempt, delivery};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, EntityTrait as _, QueryOrder as _};

use crate::support::process::{LOOK, WAIT};

/// A connection of the test's own to the service's database.
async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

/// Waits until `is_so`; `what` is said when it does not come.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(LOOK);
    let wait = async {
        while !is_so().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(WAIT, wait).await.is_ok(), "{what}: this does not come");
}

/// The tries of every delivery are numbered 1, 2, 3 … and counted, and nothing was tried or written after one was
/// accepted: no outcome of a node that was taken for dead counted.
async fn check_attempts(database: &DatabaseConnection) {
    let mut tries: HashMap<_, Vec<attempt::Model>> = HashMap::new();
    for row in attempt::Entity::find().order_by_asc(attempt::Column::Number).all(database).await.unwrap() {
        tries.entry(row.delivery_id).or_default().push(row);
    }
    for row in delivery::Entity::find().all(database).await.unwrap() {
        let tries = tries.remove(&row.id).unwrap_or_default();
        let numbers: Vec<_> = tries.iter().map(|one| one.number).collect();
        assert_eq!(numbers, (1..=row.attempt_count).collect::<Vec<_>>(), "{row:?}");
        let accepted = |one: &attempt::Model| one.status_code.is_some_and(|code| (200..300).contains(&code));
        let first_accepted = tries.iter().position(accepted);
        if row.status == DeliveryStatus::Delivered {
            assert_eq!(first_accepted, Some(tries.len() - 1), "{tries:?}");
        } else {
            assert_eq!(first_accepted, None, "{row:?} {tries:?}");
        }
    }
    assert!(tries.is_empty(), "tries without a delivery: {tries:?}");
}
