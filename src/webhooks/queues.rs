//! Jobs in memory: one queue per subscription, and slots handed out round robin over the queues that have work and a free
//! one, with a share kept for first attempts.

use std::collections::{HashMap, HashSet, VecDeque};

use entity::id::{DeliveryId, SubscriptionId};

use super::{Job, Lease};

/// Tries under way at once.
const IN_FLIGHT_MAX: usize = 512;
/// Of these, at most so many may be resends: the rest is kept for first attempts.
const RESENDS_IN_FLIGHT_MAX: usize = IN_FLIGHT_MAX / 4 * 3;
/// Jobs kept in memory.
pub(super) const HELD_MAX: usize = 20_000;
/// Jobs kept in memory per subscription; the rest waits in the database.
pub(super) const QUEUE_MAX: usize = 512;

/// Every queue, and what is on its way.
#[derive(Default)]
pub(super) struct State {
    pub(super) queues: HashMap<SubscriptionId, Queue>,
    pub(super) ring: VecDeque<SubscriptionId>,
    pub(super) held: HashMap<DeliveryId, Lease>,
    pub(super) in_flight: usize,
    pub(super) resends_in_flight: usize,
    /// Subscriptions whose receiver answered 410, until that is written: nothing more is sent to them.
    pub(super) gone: HashSet<SubscriptionId>,
    pub(super) is_stopping: bool,
    /// A queue that left jobs in the database has nearly run out of its own.
    pub(super) wants_more: bool,
}

/// What waits for one subscription.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) first: VecDeque<Job>,
    pub(super) resends: VecDeque<Job>,
    pub(super) in_flight: usize,
    pub(super) in_ring: bool,
    pub(super) last_failed: bool,
    /// There is more in the database than had room here.
    pub(super) has_more: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.resends.len()
    }
}

impl State {
    /// How many more jobs of `subscription` have room.
    pub(super) fn room(&self, subscription: SubscriptionId) -> usize {
        if self.is_stopping {
            return 0;
        }
        let queued = self.queues.get(&subscription).map_or(0, Queue::len);
        HELD_MAX.saturating_sub(self.held.len()).min(QUEUE_MAX.saturating_sub(queued))
    }

    /// Notes that `subscription` has deliveries in the database that have to be claimed.
    pub(super) fn leave_behind(&mut self, subscription: SubscriptionId) {
        let queue = self.queues.entry(subscription).or_default();
        queue.has_more = true;
        self.wants_more |= queue.len() < QUEUE_MAX / 4;
    }

    /// Takes `job` if there is room.
    pub(super) fn push(&mut self, job: Job) -> bool {
        let subscription = job.target.subscription_id;
        if self.room(subscription) == 0 {
            self.leave_behind(subscription);
            return false;
        }
        let queue = self.queues.entry(subscription).or_default();
        self.held.insert(job.lease.delivery_id, job.lease);
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
    pub(super) fn take(&mut self) -> Option<Job> {
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
            self.wants_more |= queue.has_more && queue.len() < QUEUE_MAX / 4;
            self.in_flight += 1;
            self.resends_in_flight += usize::from(job.attempt_count > 0);
            return Some(job);
        }
        None
    }

    /// Takes what is queued for `subscription` out of memory.
    pub(super) fn forget(&mut self, subscription: SubscriptionId) -> Vec<Lease> {
        let Some(queue) = self.queues.get_mut(&subscription) else { return Vec::new() };
        let jobs: Vec<Job> = queue.first.drain(..).chain(queue.resends.drain(..)).collect();
        for job in &jobs {
            self.held.remove(&job.lease.delivery_id);
        }
        jobs.into_iter().map(|job| job.lease).collect()
    }

    /// Frees the slot of `job`.
    pub(super) fn release(&mut self, job: &Job, has_failed: bool) {
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
