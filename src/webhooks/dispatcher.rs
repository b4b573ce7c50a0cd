//! Sending what the queues hand out. Fresh jobs arrive from the transaction that wrote them; the keeper finds the due ones:
//! retries, what an earlier process left, what did not fit in memory.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use entity::id::{SubscriptionId, Timestamp};
use futures_util::FutureExt as _;
use sea_orm::DbErr;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::delivery::{Outcome, Try, Verdict};
use super::outbox::FreshDeliveries;
use super::queue::Lane;
use super::queues::{Next, State};
use super::sending::Ways;
use super::{Job, SignedToken, answer, endpoints, keeper, outcomes, pace};
use crate::db::{Db, OpenError};
use crate::metrics::Metrics;
use crate::outbound::SendError;
use crate::sites::config::SiteConfigs;

/// Pause before a delivery is read again for which the database did not tell what it needs.
const UNTRIED_PAUSE: Duration = Duration::from_millis(500);
/// Rest between two tries at endpoints whose breaker is open: 500 of them start in a second at the most.
const PROBES_REST: Duration = Duration::from_millis(2);
/// Connections to PostgreSQL for the looks for due deliveries: one that writes and one that reads meanwhile.
const KEEPER_CONNECTIONS: u32 = 2;
/// How long a stop waits for tries under way.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Why it could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Connections of its own could not be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its thread.
    #[error("cannot start a thread: {0}; check the limit on processes")]
    Thread(#[from] io::Error),
    /// What an earlier process left could not be taken over.
    #[error("cannot read the deliveries that an earlier process left: {0}")]
    Recover(#[from] DbErr),
}

/// Sends webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(pub(super) Arc<Inner>);

pub(super) struct Inner {
    db: Db,
    /// For what runs on the keeper's thread.
    pub(super) keeper_db: Db,
    /// By which lock others know whether this process is connected.
    pub(super) session: i32,
    pub(super) configs: SiteConfigs,
    ways: Ways,
    metrics: Metrics,
    outcomes: mpsc::Sender<Outcome>,
    state: Mutex<State>,
    pub(super) wake: Notify,
    /// Tries after a failure may start.
    again: Notify,
    /// Tries at endpoints whose breaker is open may start.
    probe: Notify,
    pub(super) idle: Notify,
    pub(super) looking: tokio::sync::Mutex<()>,
    started: Instant,
    beat_ms: AtomicI64,
    loops: Mutex<JoinSet<()>>,
    /// Tries run here, whichever thread offers the jobs.
    runtime: Handle,
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

/// What a transaction may count on that is about to write deliveries.
pub(super) struct Reserved {
    /// Endpoints of this node: their fence, and how many jobs have room.
    pub(super) rooms: HashMap<SubscriptionId, (i64, usize)>,
    /// Keeps them this node's.
    pub(super) pins: Pins,
    /// Endpoints that are not this node's.
    pub(super) strangers: Vec<SubscriptionId>,
    /// For whom they may be taken, if at all.
    pub(super) node: Option<Uuid>,
    /// How many jobs of each have room then.
    pub(super) room_of_new: usize,
}

/// Keeps endpoints with this node until it is dropped.
#[must_use]
pub(super) struct Pins {
    dispatcher: Dispatcher,
    subscriptions: Vec<SubscriptionId>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.dispatcher.lock();
        for subscription in &self.subscriptions {
            state.unpin(*subscription);
        }
    }
}

impl Dispatcher {
    /// Starts sending. The keeper begins with a look for due deliveries at once, which is the recovery after a crash.
    pub async fn start(
        db: Db,
        configs: SiteConfigs,
        ways: Ways,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        // The largest statements of all: only one connection should keep room for them.
        let outcomes_db = db.for_worker(1).await?;
        let keeper_db = db.for_worker(KEEPER_CONNECTIONS).await?;
        let (outcomes, unwritten) = mpsc::channel(outcomes::QUEUE_MAX);
        let node = db.new_id();
        endpoints::recover(&db).await?;
        // The random half of the id, cut to what a lock can have.
        let session = i32::from_ne_bytes(node.as_fields().3[4..].try_into().unwrap_or_default());
        let alive_until = endpoints::enter(&db, node, session).await?;
        let dispatcher = Self(Arc::new(Inner {
            state: Mutex::new(State::new(node, alive_until)),
            db,
            keeper_db,
            session,
            configs,
            ways,
            metrics,
            outcomes,
            wake: Notify::new(),
            again: Notify::new(),
            probe: Notify::new(),
            idle: Notify::new(),
            looking: tokio::sync::Mutex::default(),
            started: Instant::now(),
            beat_ms: AtomicI64::new(0),
            loops: Mutex::default(),
            runtime: Handle::current(),
        }));
        let (until, ended) = oneshot::channel();
        let background = background(ended)?;
        {
            let mut loops = dispatcher.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
            loops.spawn_on(outcomes::write(dispatcher.clone(), outcomes_db, unwritten), &background);
            loops.spawn_on(keeper::tick(dispatcher.clone()), &background);
            loops.spawn_on(keeper::listen(dispatcher.clone()), &background);
            loops.spawn(start_again(dispatcher.clone()));
            loops.spawn(start_probes(dispatcher.clone()));
            // The thread ends with this runtime at the latest.
            loops.spawn(async move {
                let _until: oneshot::Sender<()> = until;
                std::future::pending::<()>().await;
            });
        }
        Ok(dispatcher)
    }

    /// Which of `subscriptions` are this node's to send for.
    pub(super) fn reserve(&self, subscriptions: &[SubscriptionId]) -> Reserved {
        let now = self.0.db.now();
        let mut state = self.lock();
        let mut rooms = HashMap::new();
        let (mut pinned, mut strangers) = (Vec::new(), Vec::new());
        for subscription in subscriptions {
            match state.owned(*subscription).filter(|_| state.is_alive(now)) {
                Some(owned) => {
                    rooms.insert(*subscription, owned);
                    state.pin(*subscription);
                    pinned.push(*subscription);
                }
                None => strangers.push(*subscription),
            }
        }
        let room_of_new = state.room_of_new();
        let node = (state.is_alive(now) && room_of_new > 0).then_some(state.node);
        drop(state);
        let pins = Pins { dispatcher: self.clone(), subscriptions: pinned };
        Reserved { rooms, pins, strangers, node, room_of_new }
    }

    /// Takes the deliveries of a transaction that has committed. What does not fit waits in the database until there is room.
    pub fn offer(&self, fresh: FreshDeliveries) {
        let FreshDeliveries { jobs, behind, taken, pins } = fresh;
        let wants_more = {
            let mut state = self.lock();
            for owned in taken {
                state.own(owned);
            }
            for job in jobs {
                state.push(job);
            }
            for subscription in behind {
                state.leave_behind(subscription);
            }
            std::mem::take(&mut state.wants_more)
        };
        drop(pins);
        if wants_more {
            self.wake();
        }
        self.pump();
    }

    /// Looks for due deliveries now rather than at the next tick.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Sends everything that is due and waits until every outcome is written.
    pub async fn drain(&self) -> Result<(), DbErr> {
        loop {
            self.settle().await;
            if !Box::pin(self.look()).await? && self.lock().held.is_empty() {
                return Ok(());
            }
        }
    }

    /// Forgets what is queued for `subscription`, which has changed or been disabled, and reads it again. Tries under
    /// way go on.
    pub fn requeue(&self, subscription: SubscriptionId) {
        self.lock().forget(subscription);
        self.0.idle.notify_waiters();
        self.wake();
    }

    /// Forgets what is queued for `subscription`, which was deleted. Tries under way go on.
    pub fn forget_deleted(&self, subscription: SubscriptionId) {
        self.lock().disown(subscription);
        self.0.idle.notify_waiters();
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        let age = self.since_start_ms().saturating_sub(self.0.beat_ms.load(Ordering::Relaxed));
        let state = self.lock();
        Health {
            heartbeat_age: Duration::from_millis(age.unsigned_abs()),
            held: state.held.len(),
            in_flight: state.in_flight(),
        }
    }

    /// Notes that the keeper has looked.
    pub(super) fn beat(&self) {
        self.0.beat_ms.store(self.since_start_ms(), Ordering::Relaxed);
    }

    fn since_start_ms(&self) -> i64 {
        i64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// When the oldest delivery became due whose endpoint no node has looked at yet.
    pub async fn oldest_due(&self) -> Result<Option<Timestamp>, DbErr> {
        endpoints::oldest_due(&self.0.db).await
    }

    /// Starts nothing more, gives other nodes what has no try under way, waits for these and writes their outcomes.
    pub async fn stop(&self) {
        self.lock().stop();
        if let Err(error) = self.release_idle(true).await {
            tracing::warn!(%error, "endpoints could not be given back; they end with this node");
        }
        if tokio::time::timeout(STOP_WAIT, self.settle()).await.is_err() {
            tracing::warn!("tries still under way at the stop are repeated at the next start");
        }
        let node = self.lock().node;
        if let Err(error) = self.0.db.in_time(endpoints::leave(&self.0.db, node)).await {
            tracing::warn!(%error, "this node could not be removed; it is taken for dead later");
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the first tries that may start, and has the others started after them.
    pub(super) fn pump(&self) {
        for lane in [Lane::Fresh, Lane::Unproven] {
            while self.start_one(lane) {}
        }
        let state = self.lock();
        for (lane, starter) in [(Lane::Resends, &self.0.again), (Lane::Probes, &self.0.probe)] {
            if state.has_turns(lane) {
                starter.notify_one();
            }
        }
    }

    /// Starts one try of `lane`, and says whether there may be more.
    fn start_one(&self, lane: Lane) -> bool {
        let now = self.0.db.now();
        let (next, wants_more) = {
            let mut state = self.lock();
            (state.take(now, lane), std::mem::take(&mut state.wants_more))
        };
        if wants_more {
            self.wake();
        }
        match next {
            Next::Job(job, lane) => {
                self.0.runtime.spawn(run(self.clone(), job, lane));
            }
            Next::Later(subscription, at) => {
                let wait = Duration::from_millis((at.0 - now.0).unsigned_abs());
                self.0.runtime.spawn(resume(self.clone(), subscription, wait));
            }
            Next::Nothing => return false,
        }
        true
    }

    /// Sends `job` now, past the queues, and writes nothing: what the receiver said, and whether it accepted. Fails if the
    /// database did; then nothing was sent.
    pub async fn test(&self, job: &Job) -> Result<(Try, bool), DbErr> {
        let tried = self.try_once(job).await?;
        Ok((tried.attempt, tried.verdict == Verdict::Delivered))
    }

    async fn try_once(&self, job: &Job) -> Result<Tried, DbErr> {
        let started_at = self.0.db.now();
        let clock = Instant::now();
        let mut new_token = None;
        // A defect must cost this try and not the slot, which nobody else would free.
        let sent = AssertUnwindSafe(self.0.ways.send(job, &mut new_token)).catch_unwind().await;
        let failed = |_| Ok(SendError::InvalidRequest("the sender failed".to_owned()).into());
        let sent = sent.unwrap_or_else(failed)?;
        let at = self.0.db.now();
        let duration_ms = i32::try_from(clock.elapsed().as_millis()).unwrap_or(i32::MAX);
        let verdict = answer::judge(job, &sent.result, at);
        Ok(Tried { attempt: answer::record(sent, started_at, duration_ms), verdict, new_token, at })
    }
}

/// A runtime with a thread of its own for what handles hundreds of deliveries in one go, which those that send one would have to
/// wait for. It lives until `ended`.
fn background(ended: oneshot::Receiver<()>) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("webhooks".to_owned()).spawn(move || runtime.block_on(ended))?;
    Ok(handle)
}

/// Has the endpoint of `subscription` go on after `wait`, when its rate allows it.
async fn resume(dispatcher: Dispatcher, subscription: SubscriptionId, wait: Duration) {
    let _ = tokio::time::timeout(wait, std::future::pending::<()>()).await;
    dispatcher.lock().resume(subscription);
    dispatcher.pump();
}

/// Starts tries after failures, one by one.
async fn start_again(dispatcher: Dispatcher) {
    pace::one_by_one(&dispatcher.0.again, || dispatcher.start_one(Lane::Resends)).await;
}

/// Starts tries at endpoints whose breaker is open: nobody waits for what will most likely fail again.
async fn start_probes(dispatcher: Dispatcher) {
    pace::with_rests(&dispatcher.0.probe, PROBES_REST, || dispatcher.start_one(Lane::Probes)).await;
}

async fn run(dispatcher: Dispatcher, job: Box<Job>, lane: Lane) {
    let Ok(Tried { attempt, verdict, new_token, at }) = dispatcher.try_once(&job).await else {
        // Keeping the slot meanwhile slows down with the database.
        let _ = tokio::time::timeout(UNTRIED_PAUSE, std::future::pending::<()>()).await;
        dispatcher.lock().put_back(&job, lane);
        dispatcher.0.idle.notify_waiters();
        dispatcher.wake();
        return;
    };
    dispatcher.0.metrics.observe_attempt(&attempt, &job, at, verdict);
    let has_failed = verdict != Verdict::Delivered;
    if verdict == Verdict::Gone {
        dispatcher.lock().gone.insert(job.target.subscription_id);
    }
    let outcome = Outcome { job: Job::clone(&job), attempt, verdict, new_token, at };
    // Waiting here while outcomes pile up keeps the slot, so that tries slow down with the database.
    let _ = dispatcher.0.outcomes.send(outcome).await;
    dispatcher.lock().release(&job, lane, has_failed);
    dispatcher.pump();
}
