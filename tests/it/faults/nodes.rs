//! Three nodes on one PostgreSQL, and one of them is killed, sleeps through its life, or loses its network while members
//! follow: nothing is lost, what the lost node says too late does not count, and the others go on within the lease.

use std::time::{Duration, Instant};

use entity::{endpoint, node};
use followpoints::webhooks::endpoints::{LEASE_MS, SILENCE_MS};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseBackend, DatabaseConnection, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, Statement,
};
use uuid::Uuid;

use super::clocks::DAY;
use super::relay::{Line, Relay};
use super::{check_attempts, connect, until};
use crate::recovery::drive::Drive;
use crate::recovery::{check_everything, set_up};
use crate::support::process::{Installation, Process};
use crate::support::receiver::Receiver;
use crate::support::{Backend, TestDatabase};

/// What the others may take beyond the lost node's life: a look of theirs on a busy machine.
const SLACK: Duration = Duration::from_secs(4);
const NODES: usize = 3;

/// A process on a way of its own to the database.
struct Node {
    process: Process,
    relay: Relay,
    /// By which name the database knows it.
    id: Uuid,
}

/// Nodes under load.
struct Scene {
    installation: Installation,
    database: DatabaseConnection,
    nodes: Vec<Node>,
    drive: Drive,
    all: Receiver,
    some: Receiver,
}

async fn known(database: &DatabaseConnection) -> Vec<Uuid> {
    node::Entity::find().all(database).await.unwrap().into_iter().map(|node| node.id).collect()
}

async fn join(installation: &Installation, database: &DatabaseConnection, wrong_by: i64) -> Node {
    let before = known(database).await;
    let relay = Relay::to(&installation.database.url).await;
    let process = installation.serve_through(&relay.url, wrong_by).await;
    if wrong_by != 0 {
        process.wait_until_said("the clock is set by the database's", 1).await;
    }
    let after = known(database).await;
    let [id] = after.into_iter().filter(|id| !before.contains(id)).collect::<Vec<_>>()[..] else {
        panic!("one node has come")
    };
    Node { process, relay, id }
}

impl Scene {
    async fn new() -> Option<Self> {
        Self::with_clocks([0; NODES]).await
    }

    /// Nodes whose clocks are wrong by so many seconds.
    async fn with_clocks([first, others @ ..]: [i64; NODES]) -> Option<Self> {
        let installation = Installation::new(TestDatabase::new(Backend::Postgres).await?);
        let database = connect(&installation.database.url).await;
        let mut nodes = vec![join(&installation, &database, first).await];
        let (drive, all, some) = set_up(&nodes[0].process).await;
        for wrong_by in others {
            nodes.push(join(&installation, &database, wrong_by).await);
        }
        let scene = Self { installation, database, nodes, drive, all, some };
        scene.call_all();
        scene.drive.wait_for(60).await;
        Some(scene)
    }

    fn call_all(&self) {
        let urls: Vec<_> = self.nodes.iter().map(|node| node.process.url.as_str()).collect();
        self.drive.shop.is_at_all(&urls);
    }

    async fn owned_by(&self, node: Uuid) -> u64 {
        endpoint::Entity::find().filter(endpoint::Column::Owner.eq(node)).count(&self.database).await.unwrap()
    }

    /// Takes a node that serves an endpoint from those that are called.
    async fn lose(&mut self) -> Node {
        let mut owner = None;
        until("somebody serves", async || {
            let rows = endpoint::Entity::find().all(&self.database).await.unwrap();
            owner = rows.iter().find_map(|row| row.owner);
            owner.is_some_and(|owner| self.nodes.iter().any(|node| node.id == owner))
        })
        .await;
        let place = self.nodes.iter().position(|node| Some(node.id) == owner).unwrap();
        let lost = self.nodes.remove(place);
        self.call_all();
        lost
    }

    /// The others take over what `lost` served, `life` after `since` at the latest, and go on.
    async fn goes_on(&self, lost: Uuid, since: Instant, life: i64) {
        until("the others take over", async || self.owned_by(lost).await == 0).await;
        let took = since.elapsed();
        assert!(took < Duration::from_millis(life.unsigned_abs()) + SLACK, "it took {took:?}");
        self.drive.wait_for(self.drive.count() + 40).await;
        self.all.wait_for(self.all.count() + 40).await;
    }

    /// One after the other is killed.
    async fn loses_all_but_one(mut self) {
        for _ in 1..NODES {
            let lost = self.lose().await;
            let since = Instant::now();
            lost.process.kill();
            self.goes_on(lost.id, since, SILENCE_MS).await;
        }
        self.ends_well().await;
    }

    async fn ends_well(self) {
        self.drive.wait_for(self.drive.count() + 20).await;
        self.drive.stop().await;
        check_everything(&self.installation, &self.drive, [&self.all, &self.some]).await;
        check_attempts(&self.database).await;
        for node in self.nodes {
            assert!(node.process.terminate().await.success());
        }
    }
}

/// Transactions that nobody works on.
async fn left_open(database: &DatabaseConnection) -> bool {
    let sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
               AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '200 ms'";
    let statement = Statement::from_string(DatabaseBackend::Postgres, sql);
    database.query_one_raw(statement).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_nodes_that_are_killed_lose_nothing_and_the_others_go_on_at_once() {
    let Some(scene) = Scene::new().await else { return };
    scene.loses_all_but_one().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_nodes_whose_clocks_are_a_day_wrong_take_over_from_each_other_at_once() {
    let Some(scene) = Scene::with_clocks([DAY, 0, -DAY]).await else { return };
    scene.loses_all_but_one().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_node_that_sleeps_in_a_transaction_loses_nothing_and_changes_nothing_when_it_wakes() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.drive.shop.may_fail(true);
    let lost = scene.lose().await;
    // What it holds must not hold up the others, so it falls asleep while it holds something.
    let mut since = Instant::now();
    until("it sleeps in a transaction", async || {
        since = Instant::now();
        lost.process.signal("STOP");
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..5 {
            looks.tick().await;
        }
        if left_open(&scene.database).await {
            return true;
        }
        lost.process.signal("CONT");
        scene.drive.shop.is_at(&lost.process.url);
        scene.drive.wait_for(scene.drive.count() + 3).await;
        scene.call_all();
        false
    })
    .await;
    scene.goes_on(lost.id, since, LEASE_MS).await;
    lost.process.signal("CONT");
    lost.process.wait_until_said("this node was taken for dead; it starts anew", 1).await;
    scene.nodes.push(lost);
    scene.call_all();
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_node_without_a_network_loses_nothing_and_changes_nothing_when_it_has_one_again() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.drive.shop.may_fail(true);
    let lost = scene.lose().await;
    let since = Instant::now();
    lost.relay.set(Line::Frozen);
    scene.goes_on(lost.id, since, LEASE_MS).await;
    lost.relay.set(Line::Open);
    lost.process.wait_until_said("this node was taken for dead; it starts anew", 1).await;
    scene.nodes.push(lost);
    scene.call_all();
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_node_whose_connections_are_cut_loses_nothing_and_the_others_go_on_at_once() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.drive.shop.may_fail(true);
    let lost = scene.lose().await;
    let since = Instant::now();
    lost.relay.set(Line::Cut);
    scene.goes_on(lost.id, since, SILENCE_MS).await;
    lost.relay.set(Line::Open);
    lost.process.wait_until_said("this node was taken for dead; it starts anew", 1).await;
    scene.nodes.push(lost);
    scene.call_all();
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_node_whose_connections_are_forgotten_loses_nothing_and_goes_on_with_others() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let installation = Installation::new(database);
    let database = connect(&installation.database.url).await;
    let node = join(&installation, &database, 0).await;
    let (drive, all, some) = set_up(&node.process).await;
    drive.shop.may_fail(true);
    for _ in 0..2 {
        drive.wait_for(drive.count() + 60).await;
        node.relay.forget();
    }
    drive.wait_for(drive.count() + 60).await;
    drive.stop().await;
    check_everything(&installation, &drive, [&all, &some]).await;
    check_attempts(&database).await;
    node.relay.forget();
    assert!(node.process.terminate().await.success());
}
