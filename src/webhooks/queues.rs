//! Jobs in memory: one queue per endpoint, and slots handed out round robin over the queues that have work and a free one. Each
//! kind of try has a share of the slots, and endpoints whose breaker is open a small one, so that those that work hardly notice
//! them.

use std::collections::{HashMap, HashSet};

use entity::id::{DeliveryId, SubscriptionId, Timestamp};
use uuid::Uuid;

use super::Job;
use super::agenda::Agenda;
use super::claims::{Ahead, Due, Found};
use super::endpoints::Owned;
use super::queue::{Blocked, Breaker, Lane, QUEUE_MAX, Queue};
use super::slots::Slots;

/// Jobs kept in memory.
pub(super) const HELD_MAX: usize = 20_000;
/// Jobs in memory at which endpoints whose breaker is open get no more.
const HELD_BY_PROBES_MAX: usize = HELD_MAX / 2;
/// How long an endpoint without work stays with its node, in milliseconds.
const IDLE_MS: i64 = 10_000;
/// Jobs that one round of a look may bring, about.
const LOOK_MAX: usize = 1_024;
/// Endpoints that one round finds due: whoever brings or asks for a job waits meanwhile.
const DUE_MAX: usize = 256;
/// The same, and jobs, for endpoints whose breaker is open: they are read as slowly as they are tried.
const PROBES_DUE_MAX: usize = 16;

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
    /// What time it was when the keeper last looked. At the start it is the end of this node's life, which on SQLite is never:
    /// as nobody knows what time it was to the process before, the clock counts as set back since.
    pub(super) latest: Timestamp,
    /// The last endpoint that was compared, while some are left.
    pub(super) reviewed: Option<SubscriptionId>,
    queues: HashMap<SubscriptionId, Queue>,
    agenda: Agenda,
    pub(super) held: HashSet<DeliveryId>,
    slots: Slots,
    /// Endpoints whose receiver answered 410, until their subscription is disabled: nothing more is sent to them.
    pub(super) gone: HashSet<SubscriptionId>,
    pub(super) is_stopping: bool,
    /// A queue that left jobs in the database has nearly run out of its own.
    pub(super) wants_more: bool,
    /// What changed since the look into the database that is under way, which may not show it.
    meanwhile: Option<Meanwhile>,
}

/// What was written, or changed, while the database was being looked into.
#[derive(Default)]
struct Meanwhile {
    written: HashSet<DeliveryId>,
    /// Orders whose first failed.
    held_up: HashSet<(SubscriptionId, Uuid)>,
    /// Subscriptions whose queues were forgotten: they are read again.
    forgotten: HashSet<SubscriptionId>,
}

impl Meanwhile {
    /// Whether `job` was read as it no longer is.
    fn outdates(&self, job: &Job) -> bool {
        let is_held_up = |key| self.held_up.contains(&(job.target.subscription_id, key));
        self.written.contains(&job.lease.delivery_id)
            || self.forgotten.contains(&job.target.subscription_id)
            || job.order_key.is_some_and(is_held_up)
    }
}

/// What comes of asking for the next job.
pub(super) enum Next {
    /// It may start.
    Job(Box<Job>, Lane),
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
    /// After which order to go on, if some are left of the look before.
    pub(super) order: Option<Uuid>,
}

impl State {
    pub(super) fn new(node: Uuid, alive_until: Timestamp) -> Self {
        Self {
            node,
            alive_until,
            renew_at: Timestamp(0),
            review_at: Timestamp(0),
            latest: alive_until,
            reviewed: None,
            queues: HashMap::new(),
            agenda: Agenda::new(),
            held: HashSet::new(),
            slots: Slots::default(),
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
        queue.len_max().min(queue.len() + self.room_in_all(queue.breaker.is_open()))
    }

    /// How many jobs have room of all endpoints whose breaker is open, or is not.
    fn room_in_all(&self, is_open: bool) -> usize {
        let max = if is_open { HELD_BY_PROBES_MAX } else { HELD_MAX };
        max.saturating_sub(self.held.len())
    }

    /// Notes what has become of the endpoint of `subscription`; call it after every change.
    pub(super) fn note(&mut self, subscription: SubscriptionId) {
        let Some(queue) = self.queues.get_mut(&subscription) else { return };
        self.agenda.note(subscription, queue);
        if queue.fence.is_none() && !queue.is_busy() {
            self.queues.remove(&subscription);
        }
    }

    /// Keeps `subscription` from being given back, if this node owns it.
    pub(super) fn pin(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.pins += 1;
            self.note(subscription);
        }
    }

    pub(super) fn unpin(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.pins = queue.pins.saturating_sub(1);
            self.note(subscription);
        }
    }

    /// Notes that this node owns an endpoint, whose deliveries must be read.
    pub(super) fn own(&mut self, owned: Owned) {
        let queue = self.queues.entry(owned.subscription).or_default();
        if queue.fence.is_none() && owned.is_failing {
            queue.breaker = Breaker::failing();
        }
        if owned.has_changed || queue.fence != Some(owned.fence) {
            self.gone.remove(&owned.subscription);
        }
        if owned.has_changed {
            queue.breaker = if owned.is_failing { Breaker::failing() } else { Breaker::default() };
            queue.rests_until = None;
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
        }
        queue.fence = Some(owned.fence);
        queue.is_ordered = owned.is_ordered;
        queue.has_more = true;
        self.note(owned.subscription);
    }

    /// Notes that the database has deliveries for `subscription` that have to be read.
    pub(super) fn leave_behind(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.has_more = true;
            self.wants_more |= queue.len() < QUEUE_MAX / 4;
            self.note(subscription);
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
            self.note(subscription);
        }
    }

    /// Whether all that is left to read is for endpoints whose breaker is open.
    pub(super) fn wants_only_probes(&self) -> bool {
        let has_wants = |is_open| self.agenda.reads(is_open) > 0 || self.agenda.has_due(is_open);
        !has_wants(false) && has_wants(true)
    }

    /// Tries under way.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.in_use()
    }

    /// Whether a try of `lane` may find both a turn and a slot.
    pub(super) fn has_turns(&self, lane: Lane) -> bool {
        self.slots.has_room(lane) && self.agenda.turns(lane) > 0
    }

    /// The next job of `lane` that may start: the endpoint whose turn it is gives one and goes to the back; one that may not start
    /// any has no turn until something changes.
    pub(super) fn take(&mut self, now: Timestamp, lane: Lane) -> Next {
        self.agenda.set_now(now);
        while self.is_alive(now) && self.has_turns(lane) {
            let Some(subscription) = self.agenda.next_turn(lane) else { break };
            let Some(queue) = self.queues.get_mut(&subscription) else { continue };
            queue.noted.leave_ring(lane);
            if self.gone.contains(&subscription) {
                continue;
            }
            match queue.take(now, lane) {
                Ok(job) => {
                    self.wants_more |= queue.has_more && queue.len() < QUEUE_MAX / 4;
                    self.slots.take(lane);
                    self.note(subscription);
                    return Next::Job(Box::new(job), lane);
                }
                Err(Blocked::Waits) => {}
                // Its turn in another lane may come before it is told to go on.
                Err(Blocked::Until(_)) if queue.rests_until.is_some() => {}
                Err(Blocked::Until(at)) => {
                    queue.rests_until = Some(at);
                    return Next::Later(subscription, at);
                }
            }
        }
        Next::Nothing
    }

    /// Has the endpoint of `subscription` go on whose rate allowed none.
    pub(super) fn resume(&mut self, subscription: SubscriptionId) {
        if let Some(queue) = self.queues.get_mut(&subscription) {
            queue.rests_until = None;
            self.note(subscription);
        }
    }

    /// Frees the slot in `lane` of `job`.
    pub(super) fn release(&mut self, job: &Job, lane: Lane, has_failed: bool) {
        self.slots.give_back(lane);
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
            self.note(subscription);
        }
    }

    /// Frees the slot in `lane` of `job`, which could not be tried: it is read again, and what comes behind it in its order.
    pub(super) fn put_back(&mut self, job: &Job, lane: Lane) {
        self.slots.give_back(lane);
        if let Some(queue) = self.queues.get_mut(&job.target.subscription_id) {
            queue.put_back();
        }
        self.written(job, true, None);
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
            self.note(subscription);
        }
    }

    /// Forgets `subscription`, which is there no more.
    pub(super) fn disown(&mut self, subscription: SubscriptionId) {
        let Some(queue) = self.queues.get_mut(&subscription) else { return };
        for job in queue.drain() {
            self.held.remove(&job.lease.delivery_id);
        }
        (queue.fence, queue.has_more) = (None, false);
        self.agenda.forget(subscription, queue);
        self.gone.remove(&subscription);
        self.note(subscription);
    }

    /// Forgets what is queued for `subscription`; it is read again.
    pub(super) fn forget(&mut self, subscription: SubscriptionId) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.forgotten.insert(subscription);
        }
        if let Some(queue) = self.queues.get_mut(&subscription) {
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
            queue.has_more = true;
        }
        self.gone.remove(&subscription);
        self.note(subscription);
    }

    /// Forgets everything that is queued, and that this node owns anything.
    pub(super) fn disown_all(&mut self) {
        self.drain_all();
        self.gone.clear();
        for (subscription, queue) in &mut self.queues {
            queue.fence = None;
            queue.next_due = None;
            self.agenda.note(*subscription, queue);
        }
        self.queues.retain(|_, queue| queue.is_busy());
    }

    fn drain_all(&mut self) {
        self.agenda.clear_turns();
        for queue in self.queues.values_mut() {
            for job in queue.drain() {
                self.held.remove(&job.lease.delivery_id);
            }
            queue.noted.leave_rings();
            queue.has_more = false;
        }
    }

    /// What to read from the database now, for up to `max` endpoints.
    pub(super) fn wants(&mut self, now: Timestamp, max: usize) -> Vec<Want> {
        if self.is_stopping {
            return Vec::new();
        }
        self.agenda.set_now(now);
        let mut wants = Vec::new();
        for is_open in [false, true] {
            for _ in 0..if is_open { PROBES_DUE_MAX } else { DUE_MAX } {
                let Some(subscription) = self.agenda.next_due(is_open) else { break };
                let Some(queue) = self.queues.get_mut(&subscription) else { continue };
                queue.next_due = None;
                queue.has_more = true;
                self.note(subscription);
            }
            self.add_wants(is_open, max, &mut wants);
        }
        // Before the database is asked: what is written meanwhile sets it again.
        for want in &wants {
            if let Some(queue) = self.queues.get_mut(&want.subscription) {
                queue.has_more = false;
            }
        }
        self.meanwhile = Some(Meanwhile::default());
        wants
    }

    /// Adds to `wants` endpoints whose breaker is open, or is not.
    fn add_wants(&mut self, is_open: bool, max: usize, wants: &mut Vec<Want>) {
        let look_max = if is_open { PROBES_DUE_MAX } else { LOOK_MAX };
        let mut room_in_all = self.room_in_all(is_open).min(look_max);
        let reads = self.agenda.reads(is_open);
        // So that those that are behind go on side by side: what they tell is read, and signed, once for all of them.
        let share = room_in_all.checked_div(reads.min(max)).unwrap_or(0).max(1);
        for _ in 0..reads {
            if wants.len() == max || room_in_all == 0 {
                return;
            }
            let Some(subscription) = self.agenda.next_read(is_open) else { return };
            let Some(queue) = self.queues.get_mut(&subscription) else { continue };
            queue.noted.leave_reads();
            if queue.breaker.is_open() != is_open || !queue.wants_reading() {
                self.note(subscription);
                continue;
            }
            let Some(fence) = queue.fence else { continue };
            let room = (queue.len_max() - queue.len()).min(share).min(room_in_all);
            room_in_all -= room;
            let Queue { held, is_ordered, order, .. } = *queue;
            wants.push(Want { subscription, fence, room, held, is_ordered, order });
        }
    }

    /// Takes out of `due` what is in memory.
    pub(super) fn drop_held(&self, due: &mut Vec<Due>) {
        due.retain(|due| !self.held.contains(&due.delivery()));
    }

    /// Takes what a look into the database for `wants` has found; without it, the look failed and must be made again.
    pub(super) fn looked(&mut self, wants: &[Want], found: Option<Found>) {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        let again = |want: &Want| Ahead { has_more: true, order: want.order, ..Ahead::default() };
        let Found { jobs, ahead } =
            found.unwrap_or_else(|| Found { jobs: Vec::new(), ahead: wants.iter().map(again).collect() });
        for job in jobs {
            if !meanwhile.outdates(&job) {
                self.push(job);
            }
        }
        for (want, ahead) in wants.iter().zip(ahead) {
            if let Some(queue) = self.queues.get_mut(&want.subscription) {
                queue.has_more |= ahead.has_more;
                (queue.has_many, queue.order) = (ahead.has_many, ahead.order);
                queue.next_due = queue.next_due.into_iter().chain(ahead.next_due).min();
                self.note(want.subscription);
            }
        }
    }

    /// Up to `max` endpoints that have had no work for a while.
    pub(super) fn idle(&mut self, now: Timestamp, max: usize) -> Vec<SubscriptionId> {
        self.agenda.set_now(now);
        self.agenda.idle(IDLE_MS, max)
    }

    /// All endpoints that have no work now.
    pub(super) fn all_idle(&self) -> Vec<SubscriptionId> {
        self.queues.iter().filter(|(_, queue)| queue.is_idle()).map(|(id, _)| *id).collect()
    }

    /// Those of `subscriptions` that are still idle; they are no longer this node's.
    pub(super) fn disown_idle(&mut self, subscriptions: &[SubscriptionId]) -> Vec<SubscriptionId> {
        let idle = |id: &&SubscriptionId| self.queues.get(id).is_none_or(Queue::is_idle);
        let idle: Vec<SubscriptionId> = subscriptions.iter().filter(idle).copied().collect();
        for subscription in &idle {
            if let Some(mut queue) = self.queues.remove(subscription) {
                self.agenda.forget(*subscription, &mut queue);
            }
        }
        idle
    }

    /// From here on nothing starts, and nothing is queued.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.drain_all();
    }
}
