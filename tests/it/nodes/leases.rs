//! A claim is a lease: one node has it at a time, and whoever slept through it changes nothing.

use std::collections::HashMap;

use entity::delivery;
use entity::id::Timestamp;
use followpoints::db::Db;
use followpoints::webhooks::delivery::{Outcome, Try, Verdict, claim_due, write_outcomes};
use followpoints::webhooks::{Job, log};
use futures_util::future::join_all;
use sea_orm::EntityTrait as _;

use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, Site};
use crate::support::{Backend, Options, TestApp, TestDatabase};

/// Two handles on one database with a delivery whose resend is due, and nobody who works on it by himself.
struct Lease {
    first: TestApp,
    second: Db,
    site: Site,
}

impl Lease {
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
        Some(Self { first, second, site })
    }

    async fn claim(&self, db: &Db) -> Vec<Job> {
        claim_due(db, &[], &HashMap::new()).await.unwrap()
    }

    /// The row and its attempts as they are stored.
    async fn stored(&self) -> (delivery::Model, Vec<(i32, Option<i32>)>) {
        let row = delivery::Entity::find().one(self.second.read()).await.unwrap().unwrap();
        let (row, attempts) =
            log::find_delivery(self.second.read(), row.site_id, row.id).await.unwrap().unwrap();
        assert_eq!(row.site_id.to_string(), self.site.id);
        (row, attempts.iter().map(|attempt| (attempt.number, attempt.status_code)).collect())
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
async fn g3_a_lease_that_ran_out_is_claimed_by_another_node_and_the_late_outcome_changes_nothing() {
    let Some(lease) = Lease::new().await else { return };
    let (a, b) = (&lease.first.app.db, &lease.second);
    let slow = lease.claim(a).await;
    assert_eq!((slow.len(), slow[0].attempt_count, slow[0].schedule_step), (1, 1, 1));
    assert!(lease.claim(b).await.is_empty(), "the lease of the first holds");
    lease.first.clock.advance_ms(14_999);
    assert!(lease.claim(b).await.is_empty());
    lease.first.clock.advance_ms(1);
    let quick = lease.claim(b).await;
    assert_eq!((quick.len(), quick[0].lease.delivery_id), (1, slow[0].lease.delivery_id));
    assert_ne!(quick[0].lease.lease_id, slow[0].lease.lease_id);
    assert!(lease.claim(a).await.is_empty());

    // The sleeper wakes before its successor is done: nothing changes.
    let before = lease.stored().await;
    let late = outcome(&slow[0], a.now(), 500, Verdict::Retry(a.now().plus_ms(600_000)));
    write_outcomes(a, std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(lease.stored().await, before);
    assert_eq!(before.1, [(1, Some(500))]);

    write_outcomes(b, &[outcome(&quick[0], b.now(), 202, Verdict::Delivered)]).await.unwrap();
    let delivered = lease.stored().await;
    assert_eq!((delivered.0.status.as_str(), delivered.0.attempt_count), ("DELIVERED", 2));
    assert_eq!(delivered.1, [(1, Some(500)), (2, Some(202))]);

    // And after it: neither a failure nor a 410 of the sleeper counts.
    for verdict in [late.verdict, Verdict::Exhausted, Verdict::Gone] {
        write_outcomes(a, &[outcome(&slow[0], a.now(), 410, verdict)]).await.unwrap();
        assert_eq!(lease.stored().await, delivered);
    }
    let subscriptions =
        lease.first.admin_list(&lease.site, "/admin/v1/webhook-subscriptions", "webhookSubscriptions").await;
    assert_eq!(subscriptions[0]["status"], "ENABLED");
    lease.first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_a_claim_that_many_nodes_make_at_once_goes_to_one_of_them() {
    let Some(lease) = Lease::new().await else { return };
    for _ in 0..20 {
        let claims = (0..8).map(|number| {
            let db = if number % 2 == 0 { &lease.first.app.db } else { &lease.second };
            lease.claim(db)
        });
        let jobs: Vec<Job> = join_all(claims).await.into_iter().flatten().collect();
        assert_eq!(jobs.len(), 1);
        lease.first.clock.advance_ms(15_000);
    }
    lease.first.app.stop().await;
}
