//! An endpoint has one owner at a time, and whoever slept through its lease changes nothing.

use std::sync::Arc;

use entity::id::Timestamp;
use entity::{delivery, endpoint, event, subscription};
use followpoints::db::Db;
use followpoints::sites::config::Target;
use followpoints::webhooks::delivery::{Outcome, Try, Verdict, write_outcomes};
use followpoints::webhooks::endpoints::{self, Owned};
use followpoints::webhooks::{Job, Lease, OutgoingEvent, log};
use futures_util::future::join_all;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, EntityTrait as _};
use uuid::Uuid;

use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Site};
use crate::support::{Backend, Options, TestApp, TestDatabase};

/// Two nodes on one database with a delivery whose resend is due, and nobody who works on it by himself.
struct Two {
    first: TestApp,
    site: Site,
    a: Node,
    b: Node,
}

/// A node that does what the test tells it to.
struct Node {
    db: Db,
    id: Uuid,
    session: i32,
}

impl Node {
    async fn new(db: Db, session: i32) -> Self {
        let id = db.new_id();
        endpoints::enter(&db, id, session).await.unwrap();
        Self { db, id, session }
    }

    /// Is connected to the database at `url` for as long as the answer is kept.
    async fn connect(&self, url: &str) -> DatabaseConnection {
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        let connection = Database::connect(options).await.unwrap();
        let lock = format!("SELECT pg_advisory_lock({}, {})", endpoints::SESSION_LOCKS, self.session);
        connection.execute_unprepared(&lock).await.unwrap();
        connection
    }

    async fn take(&self) -> Vec<Owned> {
        endpoints::take_due(&self.db, self.id).await.unwrap()
    }

    /// The delivery, as this node would send it while it owns `owned`.
    async fn job(&self, owned: &Owned) -> Job {
        let read = self.db.read();
        let row = delivery::Entity::find().one(read).await.unwrap().unwrap();
        let event = event::Entity::find().one(read).await.unwrap().unwrap();
        let subscription = subscription::Entity::find().one(read).await.unwrap().unwrap();
        assert_eq!(owned.subscription, subscription.id);
        Job {
            lease: Lease { site_id: row.site_id, delivery_id: row.id, fence: owned.fence },
            attempt_count: row.attempt_count,
            schedule_step: row.schedule_step,
            order_key: None,
            event: Arc::new(OutgoingEvent::from(event)),
            token: Arc::default(),
            target: Arc::new(Target::from(subscription)),
        }
    }
}

impl Two {
    async fn new() -> Option<Self> {
        let database = TestDatabase::new(Backend::Postgres).await?;
        let first = TestApp::start(database, Options::default()).await;
        let site = first.site().await;
        let installed = first.installed_app(&site).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500)]);
        first.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
        let member = first.member(&site, "u-1").await;
        first.follow(&member, "X").await;
        first.drain().await;
        first.app.dispatcher.stop().await;
        first.clock.advance_ms(66_000);
        let seams = first.seams.clone();
        let second = Db::open(first.database_url(), seams.clock, seams.ids).await.unwrap();
        let (a, b) = (Node::new(first.app.db.clone(), 1).await, Node::new(second, 2).await);
        Some(Self { first, site, a, b })
    }

    /// The row and its attempts as they are stored.
    async fn stored(&self) -> (delivery::Model, Vec<(i32, Option<i32>)>) {
        let row = delivery::Entity::find().one(self.b.db.read()).await.unwrap().unwrap();
        let (row, attempts) =
            log::find_delivery(self.b.db.read(), row.site_id, row.id).await.unwrap().unwrap();
        assert_eq!(row.site_id.to_string(), self.site.id);
        (row, attempts.iter().map(|attempt| (attempt.number, attempt.status_code)).collect())
    }

    async fn endpoint(&self) -> endpoint::Model {
        endpoint::Entity::find().one(self.b.db.read()).await.unwrap().unwrap()
    }
}

fn outcome(job: &Job, at: Timestamp, status: i32, verdict: Verdict) -> Outcome {
    let attempt = Try {
        started_at: at,
        duration_ms: 5,
        status_code: Some(status),
        error_class: None,
        error: None,
        response_headers: None,
        response_body: None,
        request_headers: None,
        timings: None,
    };
    Outcome { job: job.clone(), attempt, verdict, new_token: None, at }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_node_that_sleeps_through_its_life_loses_its_endpoints_and_its_late_outcome_changes_nothing() {
    let Some(two) = Two::new().await else { return };
    let (a, b) = (&two.a, &two.b);
    let [slow] = a.take().await[..] else { panic!("the endpoint is due") };
    assert_eq!(slow.fence, 2, "the first owner was the service itself");
    let _connected = a.connect(two.first.database_url()).await;
    let late = a.job(&slow).await;
    assert_eq!((late.attempt_count, late.schedule_step), (1, 1));
    two.first.clock.advance_ms(14_999);
    assert!(endpoints::renew(&b.db, b.id).await.unwrap().is_some());
    endpoints::bury_dead(&b.db, b.id).await.unwrap();
    assert_eq!(b.take().await, [], "the first is alive");
    two.first.clock.advance_ms(1);
    endpoints::bury_dead(&b.db, b.id).await.unwrap();
    let [quick] = b.take().await[..] else { panic!("the first is dead") };
    assert_eq!((quick.fence, a.take().await), (3, Vec::new()));
    assert_eq!(endpoints::renew(&a.db, a.id).await.unwrap(), None, "it learns that it was taken for dead");

    // What the dead one still has to say does not count, before and after its successor has spoken.
    for verdict in [Verdict::Delivered, Verdict::Exhausted, Verdict::Gone] {
        write_outcomes(&a.db, &[outcome(&late, a.db.now(), 410, verdict)]).await.unwrap();
        assert_eq!(two.stored().await.1, [(1, Some(500))]);
    }
    assert_eq!(two.endpoint().await.due_at, a.db.now(), "its successor is told to look again");
    let job = b.job(&quick).await;
    write_outcomes(&b.db, &[outcome(&job, b.db.now(), 200, Verdict::Delivered)]).await.unwrap();
    let delivered = two.stored().await;
    assert_eq!(delivered.1, [(1, Some(500)), (2, Some(200))]);
    write_outcomes(&a.db, &[outcome(&late, a.db.now(), 410, Verdict::Gone)]).await.unwrap();
    assert_eq!(two.stored().await, delivered);
    let subscriptions =
        two.first.admin_list(&two.site, "/admin/v1/webhook-subscriptions", "webhookSubscriptions").await;
    assert_eq!(subscriptions[0]["status"], "ENABLED");
    two.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_an_endpoint_that_many_nodes_want_at_once_goes_to_one_of_them() {
    let Some(two) = Two::new().await else { return };
    for round in 0..20 {
        let takes = (0..8).map(|number| if number % 2 == 0 { two.a.take() } else { two.b.take() });
        let owned: Vec<Owned> = join_all(takes).await.into_iter().flatten().collect();
        assert_eq!(owned.len(), 1);
        assert_eq!(owned[0].fence, 2 + round);
        let holder = if two.endpoint().await.owner == Some(two.a.id) { &two.a } else { &two.b };
        endpoints::release(&holder.db, holder.id, &[owned[0].subscription], <[_]>::to_vec).await.unwrap();
    }
    two.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_what_a_node_takes_while_it_is_buried_is_freed_by_the_next_look() {
    let Some(two) = Two::new().await else { return };
    two.first.clock.advance_ms(15_000);
    assert!(endpoints::renew(&two.b.db, two.b.id).await.unwrap().is_some());
    endpoints::bury_dead(&two.b.db, two.b.id).await.unwrap();
    assert_eq!(two.a.take().await.len(), 1, "it does not know that it is dead");
    assert_eq!(two.b.take().await, []);
    endpoints::bury_dead(&two.b.db, two.b.id).await.unwrap();
    assert_eq!(two.b.take().await.len(), 1);
    two.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_node_whose_clock_jumps_after_it_renewed_its_life_does_not_bury_itself() {
    let Some(two) = Two::new().await else { return };
    let (a, b) = (&two.a, &two.b);
    assert_eq!(a.take().await.len(), 1);
    for jump_ms in [15_000, -600_000] {
        assert!(endpoints::renew(&a.db, a.id).await.unwrap().is_some());
        two.first.clock.advance_ms(jump_ms);
        endpoints::bury_dead(&a.db, a.id).await.unwrap();
        assert!(endpoints::renew(&a.db, a.id).await.unwrap().is_some(), "{jump_ms}");
        assert_eq!(two.endpoint().await.owner, Some(a.id));
    }
    assert_eq!(endpoints::renew(&b.db, b.id).await.unwrap(), None, "the other was taken for dead");
    two.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_node_whose_process_ended_is_dead_after_three_seconds_of_silence() {
    let Some(two) = Two::new().await else { return };
    let connected = two.a.connect(two.first.database_url()).await;
    assert_eq!(two.a.take().await.len(), 1);
    let look = async || {
        endpoints::bury_dead(&two.b.db, two.b.id).await.unwrap();
        two.b.take().await.len()
    };
    two.first.clock.advance_ms(14_000);
    assert!(endpoints::renew(&two.b.db, two.b.id).await.unwrap().is_some());
    assert_eq!(look().await, 0, "it is silent, but connected");
    assert!(endpoints::renew(&two.a.db, two.a.id).await.unwrap().is_some());
    connected.close().await.unwrap();
    // The server ends the session a moment later: whoever gets its lock has waited for that.
    let waited = two.a.connect(two.first.database_url()).await;
    let unlock = format!("SELECT pg_advisory_unlock({}, {})", endpoints::SESSION_LOCKS, two.a.session);
    waited.execute_unprepared(&unlock).await.unwrap();
    two.first.clock.advance_ms(2_999);
    assert!(endpoints::renew(&two.b.db, two.b.id).await.unwrap().is_some());
    assert_eq!(look().await, 0, "it may connect again");
    two.first.clock.advance_ms(1);
    assert_eq!(look().await, 1);
    two.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_due_after_a_change_does_not_hide_the_change() {
    let Some(two) = Two::new().await else { return };
    let (a, b) = (&two.a, &two.b);
    let [owned] = b.take().await[..] else { panic!("the endpoint is due") };
    let tx = a.db.write().await.unwrap();
    endpoints::changed(&tx, owned.subscription, false).await.unwrap();
    tx.commit().await.unwrap();
    let tx = a.db.write().await.unwrap();
    endpoints::poke(&tx, &[owned.subscription]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(b.take().await, [Owned { has_changed: true, ..owned }]);
    assert_eq!(b.take().await, [], "it is told once");
    two.first.app.stop().await;
}
