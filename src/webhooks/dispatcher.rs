//! Sending what the queues hand out. Fresh jobs arrive from the transaction that wrote them; a tick finds the due ones:
//! retries, what an earlier process left, what did not fit in memory.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use entity::id::{SubscriptionId, Timestamp};
use entity::kinds::SubscriptionKind;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, header};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::answer::{Failure, Reply};
use super::delivery::{self, Outcome, Try, Verdict};
use super::outbox::{FreshDeliveries, LEASE_MS};
use super::queues::{HELD_MAX, QUEUE_MAX, Queue, State};
use super::signing::Signer;
use super::{Job, Lease, SignedToken, answer, stream};
use crate::db::{Db, OpenError};
use crate::metrics::Metrics;
use crate::outbound::{Answer, Client, OutboundRequest, SendError};
use crate::streams::Streams;

/// How often due deliveries are looked for.
const TICK: Duration = Duration::from_millis(500);
/// Ticks between two renewals of the leases.
const TICKS_PER_RENEWAL: u32 = 10;
/// How long outcomes are gathered, and how many, before they are written.
const OUTCOMES_WAIT: Duration = Duration::from_millis(20);
const OUTCOMES_MAX: usize = 256;
/// Outcomes that may wait to be written; then tries wait too.
const OUTCOMES_QUEUE_MAX: usize = 1_024;
/// Pause before outcomes that could not be written are written again.
const OUTCOMES_RETRY: Duration = Duration::from_millis(200);
/// Times that outcomes are written together before each is written alone.
const OUTCOMES_TRIES_MAX: u32 = 5;
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long a stop waits for tries under way.
const STOP_WAIT: Duration = Duration::from_secs(20);

const USER_AGENT: &str = concat!("Followpoints/", env!("CARGO_PKG_VERSION"));

/// Sends webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    db: Db,
    signer: Signer,
    ways: Ways,
    metrics: Metrics,
    outcomes: mpsc::Sender<Outcome>,
    state: Mutex<State>,
    wake: Notify,
    idle: Notify,
    looking: tokio::sync::Mutex<()>,
    started: Instant,
    beat_ms: AtomicI64,
    loops: Mutex<JoinSet<()>>,
    /// Tries run here, whichever thread offers the jobs.
    runtime: Handle,
}

/// The ways out.
pub struct Ways {
    /// To a URL.
    pub client: Client,
    /// To the operator's NATS server, if there is one.
    pub streams: Option<Streams>,
}

/// One try and what follows from it.
struct Tried {
    attempt: Try,
    verdict: Verdict,
    new_token: Option<SignedToken>,
    at: Timestamp,
}

/// How the dispatcher is, for readiness and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Time since the last look for due deliveries.
    pub heartbeat_age: Duration,
    /// Jobs in memory.
    pub held: usize,
    /// Tries under way.
    pub in_flight: usize,
}

impl Dispatcher {
    /// Starts sending. The loop that looks for due deliveries begins with a look at once, which is the recovery after
    /// a crash.
    pub async fn start(db: Db, signer: Signer, ways: Ways, metrics: Metrics) -> Result<Self, OpenError> {
        // The largest statements of all: only one connection should keep room for them.
        let outcomes_db = db.for_worker().await?;
        let (outcomes, unwritten) = mpsc::channel(OUTCOMES_QUEUE_MAX);
        let dispatcher = Self(Arc::new(Inner {
            db,
            signer,
            ways,
            metrics,
            outcomes,
            state: Mutex::default(),
            wake: Notify::new(),
            idle: Notify::new(),
            looking: tokio::sync::Mutex::default(),
            started: Instant::now(),
            beat_ms: AtomicI64::new(0),
            loops: Mutex::default(),
            runtime: Handle::current(),
        }));
        {
            let mut loops = dispatcher.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
            loops.spawn(write_outcomes(dispatcher.clone(), outcomes_db, unwritten));
            loops.spawn(tick(dispatcher.clone()));
        }
        Ok(dispatcher)
    }

    /// Takes the deliveries of a transaction that has committed. What does not fit waits in the database, free to be
    /// claimed when there is room.
    pub fn offer(&self, fresh: FreshDeliveries) {
        if fresh.jobs.is_empty() && fresh.behind.is_empty() {
            return;
        }
        for subscription in fresh.behind {
            self.lock().leave_behind(subscription);
        }
        let refused = self.queue(fresh.jobs);
        if !refused.is_empty() {
            let dispatcher = self.clone();
            self.0.runtime.spawn(async move { dispatcher.give_back(&refused).await });
        }
    }

    /// How many more deliveries of `subscription` there is room for in memory.
    #[must_use]
    pub fn room(&self, subscription: SubscriptionId) -> usize {
        self.lock().room(subscription)
    }

    /// Looks for due deliveries now rather than at the next tick.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Sends everything that is due and waits until every outcome is written.
    pub async fn drain(&self) -> Result<(), sea_orm::DbErr> {
        loop {
            self.settle().await;
            if self.claim().await? == 0 && self.lock().held.is_empty() {
                return Ok(());
            }
        }
    }

    /// Puts what is queued for `subscription` back into the database, from where it is taken again as the subscription now
    /// is: changed, disabled or deleted. Tries under way go on.
    pub async fn requeue(&self, subscription: SubscriptionId) {
        let queued = self.lock().forget(subscription);
        self.0.idle.notify_waiters();
        self.give_back(&queued).await;
        self.wake();
    }

    async fn give_back(&self, queued: &[Lease]) {
        if let Err(error) = delivery::set_leases(&self.0.db, queued, Timestamp(0)).await {
            tracing::warn!(%error, "leases could not be given back; they end by themselves");
        }
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        let since_start = i64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let age = since_start.saturating_sub(self.0.beat_ms.load(Ordering::Relaxed));
        let state = self.lock();
        Health {
            heartbeat_age: Duration::from_millis(age.unsigned_abs()),
            held: state.held.len(),
            in_flight: state.in_flight,
        }
    }

    /// When the oldest due delivery of a healthy subscription became due that nobody has taken yet.
    pub async fn oldest_due(&self) -> Result<Option<Timestamp>, sea_orm::DbErr> {
        let troubled: Vec<_> = {
            let state = self.lock();
            let is_troubled =
                |queue: &Queue| queue.last_failed || queue.has_more || queue.len() >= QUEUE_MAX / 2;
            state.queues.iter().filter(|(_, queue)| is_troubled(queue)).map(|(id, _)| *id).collect()
        };
        delivery::oldest_untaken(&self.0.db, &troubled).await
    }

    /// Starts nothing more, waits for the tries under way and writes their outcomes; what is queued goes back.
    pub async fn stop(&self) {
        let queued: Vec<Lease> = {
            let mut state = self.lock();
            state.is_stopping = true;
            state.ring.clear();
            let queues: Vec<Queue> = state.queues.drain().map(|(_, queue)| queue).collect();
            let jobs = queues.into_iter().flat_map(|queue| queue.first.into_iter().chain(queue.resends));
            let given_back: Vec<_> = jobs.map(|job| job.lease).collect();
            for lease in &given_back {
                state.held.remove(&lease.delivery_id);
            }
            given_back
        };
        self.give_back(&queued).await;
        if tokio::time::timeout(STOP_WAIT, self.settle()).await.is_err() {
            tracing::warn!("tries still under way at the stop are repeated at the next start");
        }
        let mut loops = std::mem::take(&mut *self.0.loops.lock().unwrap_or_else(PoisonError::into_inner));
        loops.shutdown().await;
    }

    async fn settle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.lock().held.is_empty() {
                return;
            }
            idle.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `jobs` and gives those for which there is no room.
    fn queue(&self, jobs: Vec<Job>) -> Vec<Lease> {
        let mut refused = Vec::new();
        {
            let mut state = self.lock();
            for job in jobs {
                let lease = job.lease;
                if !state.held.contains_key(&lease.delivery_id) && !state.push(job) {
                    refused.push(lease);
                }
            }
        }
        self.pump();
        refused
    }

    fn pump(&self) {
        loop {
            let (job, wants_more) = {
                let mut state = self.lock();
                (state.take(), std::mem::take(&mut state.wants_more))
            };
            if wants_more {
                self.wake();
            }
            let Some(job) = job else { return };
            self.0.runtime.spawn(run(self.clone(), job));
        }
    }

    /// Sends `job` now, past the queues, and writes nothing: what the receiver said, and whether it accepted.
    pub async fn test(&self, job: &Job) -> (Try, bool) {
        let tried = self.try_once(job).await;
        (tried.attempt, tried.verdict == Verdict::Delivered)
    }

    async fn try_once(&self, job: &Job) -> Tried {
        let started_at = self.0.db.now();
        let clock = Instant::now();
        let mut new_token = None;
        // A defect must cost this try and not the slot, which nobody else would free.
        let sent = AssertUnwindSafe(sign_and_send(self, job, &mut new_token)).catch_unwind().await;
        let sent =
            sent.unwrap_or_else(|_| Err(SendError::InvalidRequest("the sender failed".to_owned()).into()));
        let at = self.0.db.now();
        let duration_ms = i32::try_from(clock.elapsed().as_millis()).unwrap_or(i32::MAX);
        let verdict = answer::judge(job, &sent, at);
        Tried { attempt: answer::record(sent, started_at, duration_ms), verdict, new_token, at }
    }

    async fn claim(&self) -> Result<usize, sea_orm::DbErr> {
        // One look at a time: another's answer would be old by the time its deliveries are sent and written.
        let _looking = self.0.looking.lock().await;
        let (busy, held) = {
            let mut state = self.lock();
            if state.is_stopping || state.held.len() >= HELD_MAX {
                return Ok(0);
            }
            let mut busy = Vec::new();
            for (id, queue) in &mut state.queues {
                // What is due for a busy one stays where it is; the others are read to the end.
                queue.has_more = queue.len() >= QUEUE_MAX / 2;
                if queue.has_more {
                    busy.push(*id);
                }
            }
            (busy, state.held.clone())
        };
        let jobs = delivery::claim_due(&self.0.db, &busy, &held).await?;
        let claimed = jobs.len();
        let refused = self.queue(jobs);
        self.give_back(&refused).await;
        Ok(claimed - refused.len())
    }

    /// Puts back what is queued for subscriptions that another node changed.
    async fn requeue_changed(&self) -> Result<(), sea_orm::DbErr> {
        let queued: Vec<_> = {
            let state = self.lock();
            let front = |queue: &Queue| queue.first.front().or_else(|| queue.resends.front()).cloned();
            let jobs = state.queues.values().filter_map(front);
            jobs.map(|job| (job.target.subscription_id, job.target.url.clone())).collect()
        };
        for subscription in delivery::changed_subscriptions(&self.0.db, &queued).await? {
            self.requeue(subscription).await;
        }
        Ok(())
    }

    async fn renew_leases(&self) -> Result<(), sea_orm::DbErr> {
        // On SQLite nobody else could claim.
        if self.0.db.backend() == sea_orm::DatabaseBackend::Sqlite {
            return Ok(());
        }
        let held: Vec<_> = self.lock().held.values().copied().collect();
        delivery::set_leases(&self.0.db, &held, self.0.db.now().plus_ms(LEASE_MS)).await
    }
}

async fn tick(dispatcher: Dispatcher) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => count = count.wrapping_add(1),
            () = dispatcher.0.wake.notified() => {}
        }
        if dispatcher.lock().is_stopping {
            return;
        }
        if count.is_multiple_of(TICKS_PER_RENEWAL)
            && let Err(error) = dispatcher.renew_leases().await
        {
            tracing::warn!(%error, "leases could not be renewed");
        }
        if let Err(error) = dispatcher.requeue_changed().await {
            tracing::warn!(%error, "changed subscriptions could not be read; the next tick tries again");
        }
        loop {
            match dispatcher.claim().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "due deliveries could not be read; the next tick tries again");
                    break;
                }
            }
        }
        let since_start = i64::try_from(dispatcher.0.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        dispatcher.0.beat_ms.store(since_start, Ordering::Relaxed);
    }
}

async fn run(dispatcher: Dispatcher, job: Job) {
    let Tried { attempt, verdict, new_token, at } = dispatcher.try_once(&job).await;
    dispatcher.0.metrics.observe_attempt(&attempt, &job, at, verdict);
    let has_failed = verdict != Verdict::Delivered;
    if verdict == Verdict::Gone {
        dispatcher.lock().gone.insert(job.target.subscription_id);
    }
    let outcome = Outcome { job: job.clone(), attempt, verdict, new_token, at };
    // Waiting here while outcomes pile up keeps the slot, so that tries slow down with the database.
    let _ = dispatcher.0.outcomes.send(outcome).await;
    dispatcher.lock().release(&job, has_failed);
    dispatcher.pump();
}

async fn sign_and_send(
    dispatcher: &Dispatcher,
    job: &Job,
    new_token: &mut Option<SignedToken>,
) -> Result<Reply, Failure> {
    match dispatcher.0.signer.token(job).await {
        Ok(token) => {
            let sent = match job.target.kind {
                SubscriptionKind::Webhook => {
                    send(dispatcher, job, &token).await.map(Reply::Answer).map_err(Failure::from)
                }
                SubscriptionKind::Nats => {
                    let streams = dispatcher.0.ways.streams.as_ref();
                    stream::publish(streams, job, &token).await.map(Reply::Ack).map_err(Failure::from)
                }
            };
            *new_token = (!token.stored).then_some(token);
            sent
        }
        Err(error) => {
            tracing::error!(%error, delivery.id = %job.lease.delivery_id, "an event could not be signed");
            Err(SendError::InvalidRequest(error.to_string()).into())
        }
    }
}

async fn send(dispatcher: &Dispatcher, job: &Job, token: &SignedToken) -> Result<Answer, SendError> {
    let client = &dispatcher.0.ways.client;
    let url = client.guard().check_url(&job.target.url)?;
    let headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
        (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
    ];
    let timeout = Duration::from_millis(u64::from(job.target.timeout_ms));
    let body = token.token.clone();
    client
        .send(OutboundRequest {
            method: Method::POST,
            url,
            headers,
            body,
            timeout,
            body_max: ANSWER_BYTES_MAX,
        })
        .await
}

async fn write_outcomes(dispatcher: Dispatcher, db: Db, mut unwritten: mpsc::Receiver<Outcome>) {
    let mut outcomes = Vec::with_capacity(OUTCOMES_MAX);
    while unwritten.recv_many(&mut outcomes, OUTCOMES_MAX).await > 0 {
        let deadline = tokio::time::Instant::now() + OUTCOMES_WAIT;
        while outcomes.len() < OUTCOMES_MAX {
            match tokio::time::timeout_at(deadline, unwritten.recv()).await {
                Ok(Some(outcome)) => outcomes.push(outcome),
                Ok(None) | Err(_) => break,
            }
        }
        write_batch(&dispatcher, &db, &outcomes).await;
        let queued = {
            let mut state = dispatcher.lock();
            let mut queued = Vec::new();
            for outcome in &outcomes {
                state.held.remove(&outcome.job.lease.delivery_id);
                if outcome.verdict == Verdict::Gone {
                    // From here on the database says that it is disabled. Both at once, or a job that came in between
                    // would stay in a queue that nobody looks at.
                    let subscription = outcome.job.target.subscription_id;
                    state.gone.remove(&subscription);
                    queued.extend(state.forget(subscription));
                }
            }
            queued
        };
        dispatcher.give_back(&queued).await;
        outcomes.clear();
        dispatcher.0.idle.notify_waiters();
    }
}

/// Writes the outcomes together; when that keeps failing, each alone, so that one that cannot be written holds up nobody
/// else. What is let go is tried again when its lease ends.
async fn write_batch(dispatcher: &Dispatcher, db: &Db, outcomes: &[Outcome]) {
    for _ in 0..OUTCOMES_TRIES_MAX {
        let Err(error) = delivery::write_outcomes(db, outcomes).await else { return };
        tracing::warn!(%error, outcomes = outcomes.len(), "outcomes could not be written; trying again");
        if dispatcher.lock().is_stopping {
            return;
        }
        let _ = tokio::time::timeout(OUTCOMES_RETRY, std::future::pending::<()>()).await;
    }
    for outcome in outcomes {
        let alone = std::slice::from_ref(outcome);
        if let Err(error) = delivery::write_outcomes(db, alone).await {
            let delivery = outcome.job.lease.delivery_id;
            tracing::error!(%error, delivery.id = %delivery, "an outcome is let go; its delivery is tried again");
        }
    }
}
