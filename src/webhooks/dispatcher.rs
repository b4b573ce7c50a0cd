//! Sending. Jobs wait in one queue per subscription; slots are handed out round robin over the subscriptions that have a
//! free one, with a share kept for first attempts. Fresh jobs arrive from the transaction that wrote them; a tick finds
//! the due ones: retries, what an earlier process left, what did not fit in memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use entity::id::{DeliveryId, SubscriptionId, Timestamp};
use http::{HeaderValue, Method, header};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::delivery::{self, Outcome, Verdict};
use super::outbox::{FreshDeliveries, LEASE_MS};
use super::signing::Signer;
use super::{Job, SignedToken, answer};
use crate::db::Db;
use crate::metrics::Metrics;
use crate::outbound::{Answer, Client, OutboundRequest, SendError};

/// Tries under way at once.
const IN_FLIGHT_MAX: usize = 512;
/// Of these, at most so many may be resends: the rest is kept for first attempts.
const RESENDS_IN_FLIGHT_MAX: usize = IN_FLIGHT_MAX / 4 * 3;
/// Jobs kept in memory.
const HELD_MAX: usize = 20_000;
/// Jobs kept in memory per subscription; the rest waits in the database.
const QUEUE_MAX: usize = 1_000;
/// How often due deliveries are looked for.
const TICK: Duration = Duration::from_millis(500);
/// Ticks between two renewals of the leases.
const TICKS_PER_RENEWAL: u32 = 10;
/// How long outcomes are gathered, and how many, before they are written.
const OUTCOMES_WAIT: Duration = Duration::from_millis(2);
const OUTCOMES_MAX: usize = 128;
/// Outcomes that may wait to be written; then tries wait too.
const OUTCOMES_QUEUE_MAX: usize = 4_096;
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
    client: Client,
    metrics: Metrics,
    outcomes: mpsc::Sender<Outcome>,
    state: Mutex<State>,
    wake: Notify,
    idle: Notify,
    looking: tokio::sync::Mutex<()>,
    started: Instant,
    beat_ms: AtomicI64,
}

#[derive(Default)]
struct State {
    queues: HashMap<SubscriptionId, Queue>,
    ring: VecDeque<SubscriptionId>,
    held: HashMap<DeliveryId, Uuid>,
    in_flight: usize,
    resends_in_flight: usize,
    /// Subscriptions whose receiver answered 410, until that is written: nothing more is sent to them.
    gone: HashSet<SubscriptionId>,
    is_stopping: bool,
}

#[derive(Default)]
struct Queue {
    first: VecDeque<Job>,
    resends: VecDeque<Job>,
    in_flight: usize,
    in_ring: bool,
    last_failed: bool,
}

impl Queue {
    fn len(&self) -> usize {
        self.first.len() + self.resends.len()
    }
}

impl State {
    fn push(&mut self, job: Job) -> bool {
        let subscription = job.target.subscription_id;
        let queue = self.queues.entry(subscription).or_default();
        if self.is_stopping
            || self.held.len() >= HELD_MAX
            || queue.len() >= QUEUE_MAX
            || self.held.contains_key(&job.delivery_id)
        {
            return false;
        }
        self.held.insert(job.delivery_id, job.lease_id);
        if job.attempt_count == 0 {
            queue.first.push_back(job);
        } else {
            queue.resends.push_back(job);
        }
        if !queue.in_ring {
            queue.in_ring = true;
            self.ring.push_back(subscription);
        }
        true
    }

    /// The next job that may start: the subscription at the front of the ring gives one and goes to the back; one
    /// whose slots are all taken leaves the ring until a slot is free.
    fn take(&mut self) -> Option<Job> {
        if self.is_stopping {
            return None;
        }
        for _ in 0..self.ring.len() {
            if self.in_flight >= IN_FLIGHT_MAX {
                return None;
            }
            let subscription = self.ring.pop_front()?;
            let queue = self.queues.get_mut(&subscription)?;
            let may_resend = self.resends_in_flight < RESENDS_IN_FLIGHT_MAX;
            let front = queue.first.front().or_else(|| queue.resends.front());
            let Some(cap) = front.map(|job| job.target.in_flight_max) else {
                queue.in_ring = false;
                if queue.in_flight == 0 && !queue.last_failed {
                    self.queues.remove(&subscription);
                }
                continue;
            };
            if queue.in_flight >= cap || self.gone.contains(&subscription) {
                queue.in_ring = false;
                continue;
            }
            self.ring.push_back(subscription);
            let job = match queue.first.pop_front() {
                Some(job) => job,
                None if may_resend => match queue.resends.pop_front() {
                    Some(job) => job,
                    None => continue,
                },
                None => continue,
            };
            queue.in_flight += 1;
            self.in_flight += 1;
            self.resends_in_flight += usize::from(job.attempt_count > 0);
            return Some(job);
        }
        None
    }

    /// Takes what is queued for `subscription` out of memory.
    fn forget(&mut self, subscription: SubscriptionId) -> Vec<(DeliveryId, Uuid)> {
        let Some(queue) = self.queues.get_mut(&subscription) else { return Vec::new() };
        let jobs: Vec<Job> = queue.first.drain(..).chain(queue.resends.drain(..)).collect();
        for job in &jobs {
            self.held.remove(&job.delivery_id);
        }
        jobs.into_iter().map(|job| (job.delivery_id, job.lease_id)).collect()
    }

    fn release(&mut self, job: &Job, has_failed: bool) {
        self.in_flight -= 1;
        self.resends_in_flight -= usize::from(job.attempt_count > 0);
        let subscription = job.target.subscription_id;
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.in_flight -= 1;
            queue.last_failed = has_failed;
            if queue.len() > 0 && !queue.in_ring {
                queue.in_ring = true;
                self.ring.push_back(subscription);
            }
            if queue.len() == 0 && queue.in_flight == 0 && !queue.in_ring && !queue.last_failed {
                self.queues.remove(&subscription);
            }
        }
    }
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
    #[must_use]
    pub fn start(db: Db, signer: Signer, client: Client, metrics: Metrics) -> Self {
        let (outcomes, unwritten) = mpsc::channel(OUTCOMES_QUEUE_MAX);
        let dispatcher = Self(Arc::new(Inner {
            db,
            signer,
            client,
            metrics,
            outcomes,
            state: Mutex::default(),
            wake: Notify::new(),
            idle: Notify::new(),
            looking: tokio::sync::Mutex::default(),
            started: Instant::now(),
            beat_ms: AtomicI64::new(0),
        }));
        tokio::spawn(write_outcomes(dispatcher.clone(), unwritten));
        tokio::spawn(tick(dispatcher.clone()));
        dispatcher
    }

    /// Takes the deliveries of a transaction that has committed. What does not fit waits in the database.
    pub fn offer(&self, fresh: FreshDeliveries) {
        self.queue(fresh.0);
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
        if let Err(error) = delivery::set_leases(&self.0.db, &queued, Timestamp(0)).await {
            tracing::warn!(%error, "leases could not be given back; they end by themselves");
        }
        self.wake();
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
            let is_troubled = |queue: &Queue| queue.last_failed || queue.len() >= QUEUE_MAX / 2;
            state.queues.iter().filter(|(_, queue)| is_troubled(queue)).map(|(id, _)| *id).collect()
        };
        delivery::oldest_untaken(&self.0.db, &troubled).await
    }

    /// Starts nothing more, waits for the tries under way and writes their outcomes; what is queued goes back.
    pub async fn stop(&self) {
        let queued: Vec<(DeliveryId, Uuid)> = {
            let mut state = self.lock();
            state.is_stopping = true;
            state.ring.clear();
            let queues: Vec<Queue> = state.queues.drain().map(|(_, queue)| queue).collect();
            let jobs = queues.into_iter().flat_map(|queue| queue.first.into_iter().chain(queue.resends));
            let given_back: Vec<_> = jobs.map(|job| (job.delivery_id, job.lease_id)).collect();
            for (delivery, _) in &given_back {
                state.held.remove(delivery);
            }
            given_back
        };
        if let Err(error) = delivery::set_leases(&self.0.db, &queued, Timestamp(0)).await {
            tracing::warn!(%error, "leases could not be given back; they end by themselves");
        }
        if tokio::time::timeout(STOP_WAIT, self.settle()).await.is_err() {
            tracing::warn!("tries still under way at the stop are repeated at the next start");
        }
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

    fn queue(&self, jobs: Vec<Job>) -> usize {
        if jobs.is_empty() {
            return 0;
        }
        let taken = {
            let mut state = self.lock();
            jobs.into_iter().filter_map(|job| state.push(job).then_some(())).count()
        };
        self.pump();
        taken
    }

    fn pump(&self) {
        loop {
            let Some(job) = self.lock().take() else { return };
            tokio::spawn(run(self.clone(), job));
        }
    }

    async fn claim(&self) -> Result<usize, sea_orm::DbErr> {
        // One look at a time: another's answer would be old by the time its deliveries are sent and written.
        let _looking = self.0.looking.lock().await;
        let (busy, held) = {
            let state = self.lock();
            let is_busy = |queue: &Queue| queue.len() >= QUEUE_MAX / 2;
            let busy: Vec<_> =
                state.queues.iter().filter(|(_, queue)| is_busy(queue)).map(|(id, _)| *id).collect();
            if state.is_stopping || state.held.len() >= HELD_MAX {
                return Ok(0);
            }
            (busy, state.held.clone())
        };
        let jobs = delivery::claim_due(&self.0.db, &busy, &held).await?;
        Ok(self.queue(jobs))
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
        let held: Vec<_> = self.lock().held.iter().map(|(id, lease)| (*id, *lease)).collect();
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
    let started_at = dispatcher.0.db.now();
    let clock = Instant::now();
    let mut new_token = None;
    let sent = match dispatcher.0.signer.token(&job).await {
        Ok(token) => {
            let sent = send(&dispatcher, &job, &token).await;
            new_token = (!token.stored).then_some(token);
            sent
        }
        Err(error) => {
            tracing::error!(%error, delivery.id = %job.delivery_id, "an event could not be signed");
            Err(SendError::InvalidRequest(error.to_string()))
        }
    };
    let at = dispatcher.0.db.now();
    let duration_ms = i32::try_from(clock.elapsed().as_millis()).unwrap_or(i32::MAX);
    let verdict = answer::judge(&job, &sent, at);
    let attempt = answer::record(sent, started_at, duration_ms);
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

async fn send(dispatcher: &Dispatcher, job: &Job, token: &SignedToken) -> Result<Answer, SendError> {
    let client = &dispatcher.0.client;
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

async fn write_outcomes(dispatcher: Dispatcher, mut unwritten: mpsc::Receiver<Outcome>) {
    let mut outcomes = Vec::with_capacity(OUTCOMES_MAX);
    while unwritten.recv_many(&mut outcomes, OUTCOMES_MAX).await > 0 {
        let deadline = tokio::time::Instant::now() + OUTCOMES_WAIT;
        while outcomes.len() < OUTCOMES_MAX {
            match tokio::time::timeout_at(deadline, unwritten.recv()).await {
                Ok(Some(outcome)) => outcomes.push(outcome),
                Ok(None) | Err(_) => break,
            }
        }
        write_batch(&dispatcher, &outcomes).await;
        {
            let mut state = dispatcher.lock();
            for outcome in &outcomes {
                state.held.remove(&outcome.job.delivery_id);
            }
        }
        let gone = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Gone);
        for subscription in gone.map(|outcome| outcome.job.target.subscription_id) {
            dispatcher.requeue(subscription).await;
            dispatcher.lock().gone.remove(&subscription);
        }
        outcomes.clear();
        dispatcher.0.idle.notify_waiters();
    }
}

/// Writes the outcomes together; when that keeps failing, each alone, so that one that cannot be written holds up nobody
/// else. What is let go is tried again when its lease ends.
async fn write_batch(dispatcher: &Dispatcher, outcomes: &[Outcome]) {
    for _ in 0..OUTCOMES_TRIES_MAX {
        let Err(error) = delivery::write_outcomes(&dispatcher.0.db, outcomes).await else { return };
        tracing::warn!(%error, outcomes = outcomes.len(), "outcomes could not be written; trying again");
        if dispatcher.lock().is_stopping {
            return;
        }
        let _ = tokio::time::timeout(OUTCOMES_RETRY, std::future::pending::<()>()).await;
    }
    for outcome in outcomes {
        let alone = std::slice::from_ref(outcome);
        if let Err(error) = delivery::write_outcomes(&dispatcher.0.db, alone).await {
            let delivery = outcome.job.delivery_id;
            tracing::error!(%error, delivery.id = %delivery, "an outcome is let go; its delivery is tried again");
        }
    }
}
