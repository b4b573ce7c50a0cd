//! Jobs in memory: one queue per endpoint, and slots handed out round robin over the queues that have work and a free one. A
//! share is kept for first tries, and endpoints whose breaker is open share a small part, so that those that work hardly
//! notice them.

use std::collections::{HashMap, HashSet, VecDeque};

use entity::id::{DeliveryId, SubscriptionId, Timestamp};
use uuid::Uuid;

use super::Job;
use super::claims::Found;
use super::endpoints::Owned;
use super::queue::{Blocked, Breaker, Queue};

/// Tries under way at once.
const IN_FLIGHT_MAX: usize = 512;
/// Of these, at most so many may be resends: the rest is kept for first tries.
const RESENDS_IN_FLIGHT_MAX: usize = IN_FLIGHT_MAX / 4 * 3;
/// Of these, at most so many may be for endpoints whose breaker is open.
const PROBES_IN_FLIGHT_MAX: usize = IN_FLIGHT_MAX / 4;
/// Jobs kept in memory.
pub(super) const HELD_MAX: usize = 20_000;
/// Jobs kept in memory per endpoint; the rest waits in the database.
pub(super) const QUEUE_MAX: usize = 512;
/// The same while the breaker of an endpoint is open: however many receivers are dead, they do not fill the memory.
const PROBED_MAX: usize = 4;
/// Jobs in memory at which endpoints whose breaker is open get no more.
const HELD_BY_PROBES_MAX: usize = HELD_MAX / 2;
/// How long an endpoint without work stays with its node, in milliseconds.
const IDLE_MS: i64 = 10_000;

/// Every queue, and what is on its way.
pub(super) struct State {
    /// This process among those that share the database.
    pub(super) node: Uuid,
    /// Until when it may send without having renewed its life.
    pub(super) alive_until: Timestamp,
    /// When the keeper next has to say that this node lives …
    pub(super) renew_at: Timestamp,
    /// … and to compare what it owns with the database.
    pub(super) review_at: Timestamp,
    queues: HashMap<SubscriptionId, Queue>,
    ring: VecDeque<SubscriptionId>,
    /// The ring of those whose breaker is open.
    probes: VecDeque<SubscriptionId>,
    pub(super) held: HashSet<DeliveryId>,
    pub(super) in_flight: usize,
    resends_in_flight: usize,
    probes_in_flight: usize,
    /// Endpoints whose receiver answered 410, until their subscription is disabled: nothing more is sent to them.
    pub(super) gone: HashSet<SubscriptionId>,
    pub(super) is_stopping: bool,
    /// A queue that left jobs in the database has nearly run out of its own.
    pub(super) wants_more: bool,
    /// What changed since the look into the database that is under way, which may not show it.
    meanwhile: Option<Meanwhile>,
}

/// What was written while the database was being looked into.
#[derive(Default)]
struct Meanwhile {
    written: HashSet<DeliveryId>,
    /// Orders whose first failed.
    held_up: HashSet<(SubscriptionId, Uuid)>,
}

impl Meanwhile {
    /// Whether `job` was read as it no longer is.
    fn outdates(&self, job: &Job) -> bool {
        let is_held_up = |key| self.held_up.contains(&(job.target.subscription_id, key));
        self.written.contains(&job.lease.delivery_id) || job.order_key.is_some_and(is_held_up)
    }
}

/// What comes of asking for the next job.
pub(super) enum Next {
    /// It may start.
    Job(Box<Job>),
    /// The rate of this endpoint allows its next one from then on.
    Later(SubscriptionId, Timestamp),
    /// Nothing may start now.
    Nothing,
}

/// What is to be read from the database for an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// Whose deliveries.
    pub(super) subscription: SubscriptionId,
    /// What their outcomes must carry.
    pub(super) fence: i64,
    /// How many have room.
    pub(super) room: usize,
    /// How many of them are in memory already.
    pub(super) held: usize,
    /// Whether some have an order.
    pub(super) is_ordered: bool,
}

impl State {
    pub(super) fn new(node: Uuid, alive_until: Timestamp) -> Self {
        Self {
            node,
            alive_until,
            renew_at: Timestamp(0),
            review_at: Timestamp(0),
            queues: HashMap::new(),
            ring: VecDeque::new(),
            probes: VecDeque::new(),
            held: HashSet::new(),
            in_flight: 0,
            resends_in_flight: 0,
            probes_in_flight: 0,
            gone: HashSet::new(),
            is_stopping: false,
            wants_more: false,
            meanwhile: None,
        }
    }

    /// Whether this node may send at `now`.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        !self.is_stopping && now < self.alive_until
    }

    /// The fence of `subscription` if this node owns it, and how many more of its jobs have room.
    pub(super) fn owned(&self, subscription: SubscriptionId) -> Option<(i64, usize)> {
        let queue = self.queues.get(&subscription)?;
        let room = self.room_of(queue).saturating_sub(queue.len());
        Some((queue.fence?, if self.is_stopping { 0 } else { room }))
    }

    /// How many jobs of an endpoint have room that nobody owned so far.
    pub(super) fn room_of_new(&self) -> usize {
        if self.is_stopping { 0 } else { HELD_MAX.saturating_sub(self.held.len()).min(QUEUE_MAX) }
    }

    /// How many jobs `queue` may have.
    fn room_of(&self, queue: &Queue) -> usize {
        let (max, held_max) =
            if queue.breaker.is_open() { (PROBED_MAX, HELD_BY_PROBES_MAX) } else { (QUEUE_MAX, HELD_MAX) };
        max.min(queue.len() + held_max.saturating_sub(self.held.len()))
    }

    /// Keeps `subscription` from being given back, if this node owns it.
    pub(super) fn pin(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.pins += 1;
        }
    }

    pub(super) fn unpin(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.pins = queue.pins.saturating_sub(1);
        }
    }

    /// Notes that this node owns an endpoint, whose deliveries must be read.
    pub(super) fn own(&mut self, owned: Owned) {
        let queue = self.queues.entry(owned.subscription).or_default();
        if queue.fence.is_none() && owned.is_failing {
            queue.breaker = Breaker::failing();
        }
        if owned.has_changed {
            self.gone.remove(&owned.subscription);
            queue.breaker = if owned.is_failing { Breaker::failing() } else { Breaker::default() };
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
        }
        queue.fence = Some(owned.fence);
        queue.is_ordered = owned.is_ordered;
        queue.has_more = true;
        queue.idle_since = None;
    }

    /// Notes that the database has deliveries for `subscription` that have to be read.
    pub(super) fn leave_behind(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.has_more = true;
            self.wants_more |= queue.len() < QUEUE_MAX / 4;
        }
    }

    /// Takes `job` if there is room. One of an endpoint that is another node's by now is left to that node.
    pub(super) fn push(&mut self, job: Job) {
        let subscription = job.target.subscription_id;
        let owned = self.owned(subscription).filter(|(fence, _)| *fence == job.lease.fence);
        let Some((_, room)) = owned.filter(|_| !self.held.contains(&job.lease.delivery_id)) else { return };
        if room == 0 {
            self.leave_behind(subscription);
        } else if let Some(queue) = self.queues.get_mut(&subscription) {
            self.held.insert(job.lease.delivery_id);
            queue.push(job);
            self.enqueue(subscription);
        }
    }

    /// Puts `subscription` into the ring it belongs to, unless it is in one.
    pub(super) fn enqueue(&mut self, subscription: SubscriptionId) {
        let Some(queue) = self.queues.get_mut(&subscription) else { return };
        if !queue.in_ring && queue.len() > 0 {
            queue.in_ring = true;
            let ring = if queue.breaker.is_open() { &mut self.probes } else { &mut self.ring };
            ring.push_back(subscription);
        }
    }

    /// The next job that may start: the endpoint at the front of the ring gives one and goes to the back; one that may
    /// not start any leaves the ring until something changes.
    pub(super) fn take(&mut self, now: Timestamp) -> Next {
        if !self.is_alive(now) {
            return Next::Nothing;
        }
        match self.take_from(now, false) {
            Next::Nothing => self.take_from(now, true),
            found => found,
        }
    }

    fn take_from(&mut self, now: Timestamp, probing: bool) -> Next {
        for _ in 0..if probing { self.probes.len() } else { self.ring.len() } {
            let full = probing && self.probes_in_flight >= PROBES_IN_FLIGHT_MAX;
            if self.in_flight >= IN_FLIGHT_MAX || full {
                return Next::Nothing;
            }
            let ring = if probing { &mut self.probes } else { &mut self.ring };
            let Some(subscription) = ring.pop_front() else { return Next::Nothing };
            let Some(queue) = self.queues.get_mut(&subscription) else { continue };
            queue.in_ring = false;
            if queue.breaker.is_open() != probing {
                self.enqueue(subscription);
                continue;
            }
            if self.gone.contains(&subscription) {
                continue;
            }
            match queue.take(now, self.resends_in_flight < RESENDS_IN_FLIGHT_MAX) {
                Ok(mut job) => {
                    job.is_probe = probing;
                    self.wants_more |= queue.has_more && queue.len() < QUEUE_MAX / 4;
                    self.count(&job, true);
                    self.enqueue(subscription);
                    return Next::Job(Box::new(job));
                }
                Err(Blocked::Waits) => {}
                Err(Blocked::Resends) => self.enqueue(subscription),
                Err(Blocked::Until(at)) => return Next::Later(subscription, at),
            }
        }
        Next::Nothing
    }

    fn count(&mut self, job: &Job, starts: bool) {
        let change = |count: &mut usize, of: bool| {
            let of = usize::from(of);
            *count = if starts { *count + of } else { count.saturating_sub(of) };
        };
        change(&mut self.in_flight, true);
        change(&mut self.resends_in_flight, job.attempt_count > 0);
        change(&mut self.probes_in_flight, job.is_probe);
    }

    /// Frees the slot of `job`.
    pub(super) fn release(&mut self, job: &Job, has_failed: bool) {
        self.count(job, false);
        let subscription = job.target.subscription_id;
        if let Some(queue) = self.queues.get_mut(&subscription) {
            if queue.release(job, has_failed) {
                // Its breaker has opened: what it has in memory goes back to the database, where it is anyway.
                for queued in queue.drain() {
                    self.held.remove(&queued.lease.delivery_id);
                }
                queue.has_more = true;
                self.wants_more = true;
            }
            self.enqueue(subscription);
        }
    }

    /// Notes that the outcome of `job` is written; `next` is when it is tried again.
    pub(super) fn written(&mut self, job: &Job, has_failed: bool, next: Option<Timestamp>) {
        self.held.remove(&job.lease.delivery_id);
        let subscription = job.target.subscription_id;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.written.insert(job.lease.delivery_id);
            if let Some(key) = job.order_key.filter(|_| has_failed) {
                meanwhile.held_up.insert((subscription, key));
            }
        }
        if let Some(queue) = self.queues.get_mut(&subscription) {
            for behind in queue.written(job, has_failed, next) {
                self.held.remove(&behind.lease.delivery_id);
            }
            self.wants_more |= queue.has_more && queue.len() == 0;
            self.enqueue(subscription);
        }
    }

    /// Forgets what is queued for `subscription`; it is read again.
    pub(super) fn forget(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
            queue.has_more = true;
        }
        self.gone.remove(&subscription);
    }

    /// Forgets everything that is queued, and that this node owns anything.
    pub(super) fn disown_all(&mut self) {
        self.ring.clear();
        self.probes.clear();
        for queue in self.queues.values_mut() {
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
            queue.fence = None;
            queue.in_ring = false;
            queue.has_more = false;
            queue.next_due = None;
        }
        self.queues.retain(|_, queue| queue.is_busy());
    }

    /// What to read from the database now, for up to `max` endpoints.
    pub(super) fn wants(&mut self, now: Timestamp, max: usize) -> Vec<Want> {
        if self.is_stopping {
            return Vec::new();
        }
        for queue in self.queues.values_mut() {
            if queue.next_due.is_some_and(|at| at <= now) {
                queue.next_due = None;
                queue.has_more = true;
            }
        }
        let mut wants = Vec::new();
        for (subscription, queue) in &self.queues {
            let Some(fence) = queue.fence else { continue };
            let room = self.room_of(queue).saturating_sub(queue.len());
            // What is due for a busy one stays where it is.
            if queue.has_more && room > queue.len() {
                wants.push(Want {
                    subscription: *subscription,
                    fence,
                    room,
                    held: queue.held,
                    is_ordered: queue.is_ordered,
                });
                if wants.len() == max {
                    break;
                }
            }
        }
        self.meanwhile = Some(Meanwhile::default());
        // Before the database is asked: what is written meanwhile sets it again.
        for want in &wants {
            if let Some(queue) = self.queues.get_mut(&want.subscription) {
                queue.has_more = false;
            }
        }
        wants
    }

    /// Takes what a look into the database for `wants` has found; without it, the look failed and must be made again.
    pub(super) fn looked(&mut self, wants: &[Want], found: Option<Found>) {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        let Found { jobs, ahead } =
            found.unwrap_or_else(|| Found { jobs: Vec::new(), ahead: vec![(true, None); wants.len()] });
        for job in jobs {
            if !meanwhile.outdates(&job) {
                self.push(job);
            }
        }
        for (want, (has_more, next_due)) in wants.iter().zip(ahead) {
            if let Some(queue) = self.queues.get_mut(&want.subscription) {
                queue.has_more |= has_more;
                queue.next_due = queue.next_due.into_iter().chain(next_due).min();
            }
        }
    }

    /// Endpoints that have had no work for a while, or for a moment if `at_once`.
    pub(super) fn idle(&mut self, now: Timestamp, at_once: bool) -> Vec<SubscriptionId> {
        let mut idle = Vec::new();
        self.queues.retain(|subscription, queue| {
            if !queue.is_idle() {
                queue.idle_since = None;
                return true;
            }
            let since = *queue.idle_since.get_or_insert(now);
            if at_once || now.0 - since.0 >= IDLE_MS {
                idle.push(*subscription);
            }
            queue.fence.is_some()
        });
        idle
    }

    /// Those of `subscriptions` that are still idle; they are no longer this node's.
    pub(super) fn disown_idle(&mut self, subscriptions: &[SubscriptionId]) -> Vec<SubscriptionId> {
        let idle = |id: &&SubscriptionId| self.queues.get(id).is_none_or(Queue::is_idle);
        let idle: Vec<SubscriptionId> = subscriptions.iter().filter(idle).copied().collect();
        for subscription in &idle {
            self.queues.remove(subscription);
        }
        idle
    }

    /// From here on nothing starts, and nothing is queued.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.ring.clear();
        self.probes.clear();
        for queue in self.queues.values_mut() {
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
            queue.in_ring = false;
            queue.has_more = false;
        }
    }
}
