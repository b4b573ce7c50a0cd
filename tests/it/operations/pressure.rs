//! More calls than the store can serve: those beyond the queue are told to come back at once, none of the others is
//! lost, and a batch that dies takes nobody else with it.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use entity::id::SiteId;
use entity::refresh_token;
use followpoints::gather::{Gather, GatherError, GatherLimits};
use followpoints::http::limits::{Rate, Rates};
use followpoints::sites::config;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sea_orm::{EntityTrait as _, QuerySelect as _};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use crate::support::client::Answer;
use crate::support::world::{Member, Site};
use crate::support::{ADMIN_KEY, Backend, Options, TestApp, TestDatabase};
use crate::{on_both, on_both_databases};

const FOLLOWED: &str = "/loyalty-social-media/v1/followed-channels";
const PROGRAM: &str = "/loyalty-programs/v1/program";
/// More than the queue and the batches under way can hold.
const CALLS: usize = 3_200;

fn unlimited() -> Options {
    let rate = Rate { per_second: 1_000_000, burst: 1_000_000 };
    Options { rates: Rates { member: rate, client: rate, address: rate }, ..Options::default() }
}

on_both! {
    options: unlimited(),
    async fn g1_beyond_the_queue_callers_are_told_to_come_back_and_nobody_is_lost(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let wish = json!({"followedChannel": {"channel": "X"}});
        // The store stands still: a transaction that every follow has to wait for.
        let blocking = app.app.db.write().await.unwrap();
        config::touch(&blocking, SiteId(site.id.parse().unwrap())).await.unwrap();
        let mut blocking = Some(blocking);

        let mut calls: FuturesUnordered<_> =
            (0..CALLS).map(|_| app.call("POST", FOLLOWED).auth(&member.token).json(&wish).send()).collect();
        let mut counts = std::collections::BTreeMap::new();
        let mut made = None;
        while let Some(answer) = calls.next().await {
            let status = answer.status.as_u16();
            *counts.entry(status).or_insert(0_usize) += 1;
            match status {
                200 => made = Some(answer.json()["followedChannel"].clone()),
                409 => assert_eq!(answer.error().1, "ALREADY_EXISTS"),
                _ => {
                    assert_eq!((status, answer.json()), (503, json!({"message": "", "details": {}})));
                    assert_eq!(answer.headers["retry-after"], "1");
                    drop(blocking.take());
                }
            }
        }

        assert_eq!(counts.values().sum::<usize>(), CALLS, "{counts:?}");
        assert!(counts[&503] > 0 && counts[&409] > 0, "{counts:?}");
        assert_eq!(counts[&200], 1, "{counts:?}");
        let listed = app.call("GET", FOLLOWED).auth(&member.token).ok().await;
        assert_eq!(listed, json!({"followedChannels": [made.unwrap()]}));
        assert_eq!(app.account(&member).await["points"]["balance"], 50);
    }
}

/// What writes, each as it is refused: one for the owner, one for a member, and the token endpoint.
async fn writes(app: &TestApp, site: &Site, member: &Member) -> [Answer; 3] {
    let change = json!({"loyaltyProgram": {"name": "Nordbrew friends"}});
    let tokens = format!("/admin/v1/members/{}/tokens", member.id);
    let refresh = json!({"grantType": "refresh_token", "refreshToken": member.refresh_token});
    let (change, tokens, refreshed) = tokio::join!(
        app.call("PATCH", PROGRAM).key(ADMIN_KEY, &site.id).json(&change).send(),
        app.call("POST", &tokens).key(ADMIN_KEY, &site.id).send(),
        app.token(&refresh),
    );
    [change, tokens, refreshed]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_too_long_for_the_only_connection_that_writes_is_told_to_come_back() {
    let app = TestApp::start(TestDatabase::new(Backend::Sqlite).await.unwrap(), Options::default()).await;
    let site = app.site().await;
    let member = app.member(&site, "u-1").await;
    let blocking = app.app.db.write().await.unwrap();
    let refused = writes(&app, &site, &member).await;
    drop(blocking);
    let nothing = json!({"message": "", "details": {}});
    let busy = json!({"error": "temporarily_unavailable", "error_description": "overloaded; try again"});
    for (answer, body) in refused.iter().zip([&nothing, &nothing, &busy]) {
        assert_eq!((answer.status.as_u16(), &answer.json()), (503, body));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    app.app.stop().await;
}

on_both_databases! {
    async fn a_request_that_takes_too_long_is_given_up(database: TestDatabase) {
        let mut app = TestApp::start(database, Options::default()).await;
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        app.app.stop().await;
        app.seams.request_timeout = Duration::from_millis(50);
        let app = app.again().await;
        // The site and the member's token are somebody else's for now, and on SQLite everything is.
        let blocking = app.app.db.write().await.unwrap();
        config::touch(&blocking, SiteId(site.id.parse().unwrap())).await.unwrap();
        refresh_token::Entity::find().lock_exclusive().all(blocking.conn()).await.unwrap();
        let [change, _, refreshed] = writes(&app, &site, &member).await;
        drop(blocking);
        assert_eq!((change.status.as_u16(), change.json()), (504, json!({"message": "", "details": {}})));
        let late = json!({"error": "server_error", "error_description": ""});
        assert_eq!((refreshed.status.as_u16(), refreshed.json()), (504, late));
        app.app.stop().await;
    }
}

const ONE_AT_A_TIME: GatherLimits = GatherLimits { batch_max: 2, queue_max: 3 };

/// Looks at a future once, as if nothing had happened meanwhile.
fn look<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_what_waits_forms_the_next_batches() {
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let batches: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
    let (held, begun, seen) = (gate.clone(), started.clone(), batches.clone());
    let gather = Gather::start(ONE_AT_A_TIME, move |questions: Vec<u32>| {
        let (held, begun, seen) = (held.clone(), begun.clone(), seen.clone());
        async move {
            seen.lock().unwrap().push(questions.clone());
            begun.notify_one();
            held.acquire().await.unwrap().forget();
            questions.into_iter().map(|question| question * 10).collect()
        }
    });
    let mut first = pin!(gather.call(1));
    assert!(look(first.as_mut()).is_pending());
    started.notified().await;
    let mut waiting = [2, 3, 4].map(|number| Box::pin(gather.call(number)));
    for call in &mut waiting {
        assert!(look(call.as_mut()).is_pending());
    }
    assert_eq!(look(pin!(gather.call(5))), Poll::Ready(Err(GatherError::Full)));

    gate.add_permits(10);
    assert_eq!(first.await, Ok(10));
    for (call, answer) in waiting.into_iter().zip([20, 30, 40]) {
        assert_eq!(call.await, Ok(answer));
    }
    assert_eq!(*batches.lock().unwrap(), [vec![1], vec![2, 3], vec![4]]);
    assert_eq!(gather.call(6).await, Ok(60));
}

#[tokio::test]
async fn a_batch_that_panics_ends_its_own_calls_and_no_others() {
    let gather = Gather::start(ONE_AT_A_TIME, |questions: Vec<u32>| async move {
        assert!(!questions.contains(&13), "an unlucky batch");
        questions
    });
    assert_eq!(gather.call(1).await, Ok(1));
    assert_eq!(gather.call(13).await, Err(GatherError::Stopped));
    assert_eq!(gather.call(2).await, Ok(2));
}

#[tokio::test]
async fn a_call_without_an_answer_is_told_so() {
    let gather = Gather::start(ONE_AT_A_TIME, |_: Vec<u32>| async move { Vec::<u32>::new() });
    assert_eq!(gather.call(1).await, Err(GatherError::Stopped));
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_disturb_the_others_of_its_batch() {
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (held, begun) = (gate.clone(), started.clone());
    let gather = Gather::start(ONE_AT_A_TIME, move |questions: Vec<u32>| {
        let (held, begun) = (held.clone(), begun.clone());
        async move {
            begun.notify_one();
            held.acquire().await.unwrap().forget();
            questions
        }
    });
    let mut first = pin!(gather.call(1));
    assert!(look(first.as_mut()).is_pending());
    started.notified().await;
    let mut leaving = Box::pin(gather.call(2));
    let mut staying = pin!(gather.call(3));
    assert!(look(leaving.as_mut()).is_pending() && look(staying.as_mut()).is_pending());
    drop(leaving);
    gate.add_permits(10);
    assert_eq!((first.await, staying.await), (Ok(1), Ok(3)));
}
