//! What waits for one endpoint, and how many of it may be under way: its cap, its order, its rate, its breaker.

use std::collections::{HashSet, VecDeque};

use entity::id::Timestamp;
use uuid::Uuid;

use super::Job;
use super::agenda::Noted;

/// Jobs kept in memory per endpoint; the rest waits in the database.
pub(super) const QUEUE_MAX: usize = 512;
/// The same while the breaker of an endpoint is open: however many receivers are dead, they do not fill the memory.
const PROBED_MAX: usize = 4;
/// Failures in a row after which an endpoint gets one slot at a time, until one try succeeds.
const FAILURES_MAX: u32 = 5;
/// Slots of an endpoint that has not proven itself in this process yet; each success doubles them up to its cap.
const SLOTS_AT_FIRST: usize = 8;

/// What kind of try a job is for. Each kind has turns and slots of its own, so that none keeps another from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// First tries, and everything of an ordered endpoint, at an endpoint whose last try succeeded.
    Fresh,
    /// The same at one whose last try failed, or which has not been tried yet by this process: many of them may hang.
    Unproven,
    /// Tries after a failure, at an endpoint whose last try did not fail.
    Resends,
    /// Tries that most likely fail: everything of an endpoint whose breaker is open, and tries after a failure at one whose last
    /// try failed.
    Probes,
}

impl Lane {
    pub(super) const COUNT: usize = 4;
    pub(super) const ALL: [Self; Self::COUNT] = [Self::Fresh, Self::Unproven, Self::Resends, Self::Probes];
}

/// What waits for one endpoint.
#[derive(Default)]
pub(super) struct Queue {
    /// The number that outcomes carry; none if the endpoint is not this node's, or no longer.
    pub(super) fence: Option<i64>,
    /// Transactions under way that count on this node's owning it.
    pub(super) pins: usize,
    /// First tries, and everything of an ordered endpoint by age.
    first: VecDeque<Job>,
    resends: VecDeque<Job>,
    /// Order keys of which a try is under way, or failed and is not written yet.
    busy_keys: HashSet<Uuid>,
    pub(super) in_flight: usize,
    /// Deliveries in memory: queued, under way, or not written yet.
    pub(super) held: usize,
    /// Whether some of its deliveries have an order.
    pub(super) is_ordered: bool,
    /// Whether so much waits in order that it is read order by order, the first of each.
    pub(super) has_many: bool,
    /// The last of its orders that was read, when others are left.
    pub(super) order: Option<Uuid>,
    /// There may be more in the database that is due.
    pub(super) has_more: bool,
    /// When the next delivery in the database is due that was not due at the last look.
    pub(super) next_due: Option<Timestamp>,
    pub(super) breaker: Breaker,
    bucket: Bucket,
    /// Until when its rate allows none; it goes on when it is told to.
    pub(super) rests_until: Option<Timestamp>,
    /// Where the agenda has it.
    pub(super) noted: Noted,
}

/// What keeps the next job from starting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// There is none, or none whose order allows it, or every slot is taken: something else must happen first.
    Waits,
    /// The rate allows it from then on.
    Until(Timestamp),
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.resends.len()
    }

    pub(super) fn push(&mut self, job: Job) {
        self.held += 1;
        if job.order_key.is_some() {
            let place = self.first.partition_point(|other| other.lease.delivery_id < job.lease.delivery_id);
            self.first.insert(place, job);
        } else if job.attempt_count == 0 {
            self.first.push_back(job);
        } else {
            self.resends.push_back(job);
        }
    }

    /// Whether there is something in `lane` that may start now, as far as the rate goes.
    pub(super) fn has_work(&self, lane: Lane) -> bool {
        let [first, resends] = self.breaker.lanes();
        let has_jobs =
            (first == lane && !self.first.is_empty()) || (resends == lane && !self.resends.is_empty());
        has_jobs && self.rests_until.is_none()
    }

    /// How many jobs it may have.
    pub(super) const fn len_max(&self) -> usize {
        if self.breaker.is_open() { PROBED_MAX } else { QUEUE_MAX }
    }

    /// Whether the database is to be asked for more. What is due for a busy one stays where it is.
    pub(super) fn wants_reading(&self) -> bool {
        self.has_more && self.fence.is_some() && self.len() < self.len_max() / 2
    }

    /// The next job of `lane` that may start at `now`.
    pub(super) fn take(&mut self, now: Timestamp, lane: Lane) -> Result<Job, Blocked> {
        let in_order =
            self.first.iter().position(|job| job.order_key.is_none_or(|key| !self.busy_keys.contains(&key)));
        let [first, resends] = self.breaker.lanes();
        let (from, place) = match in_order {
            Some(place) if first == lane => (&mut self.first, place),
            _ if resends == lane => (&mut self.resends, 0),
            _ => return Err(Blocked::Waits),
        };
        let Some(target) = from.get(place).map(|job| &job.target) else { return Err(Blocked::Waits) };
        if self.in_flight >= self.breaker.slots(target.in_flight_max) {
            return Err(Blocked::Waits);
        }
        if let Some(rate) = target.rate_limit {
            self.bucket.take(rate, now).map_err(Blocked::Until)?;
        }
        let job = from.remove(place).ok_or(Blocked::Waits)?;
        self.busy_keys.extend(job.order_key);
        self.in_flight += 1;
        Ok(job)
    }

    /// Notes that the try of `job` is over, and says whether that has opened the breaker. After a success the next in its order
    /// may start.
    pub(super) fn release(&mut self, job: &Job, has_failed: bool) -> bool {
        self.in_flight -= 1;
        let was_open = self.breaker.is_open();
        self.breaker.note(has_failed, job.target.in_flight_max);
        if let Some(key) = job.order_key
            && !has_failed
        {
            self.busy_keys.remove(&key);
        }
        self.breaker.is_open() && !was_open
    }

    /// Notes that the outcome of `job` is written; `next` is when it is tried again. After a failure what comes behind it in its
    /// order leaves memory, to be read again when it may be sent; it is given.
    pub(super) fn written(&mut self, job: &Job, has_failed: bool, next: Option<Timestamp>) -> VecDeque<Job> {
        self.held -= 1;
        self.next_due = self.next_due.into_iter().chain(next).min();
        self.has_more |= self.has_many && job.order_key.is_some();
        let Some(key) = job.order_key.filter(|_| has_failed) else { return VecDeque::new() };
        self.busy_keys.remove(&key);
        self.has_more = true;
        let (behind, rest): (VecDeque<Job>, VecDeque<Job>) =
            std::mem::take(&mut self.first).into_iter().partition(|job| job.order_key == Some(key));
        self.first = rest;
        self.held -= behind.len();
        behind
    }

    /// Notes that a try could not be made and has to be read again.
    pub(super) const fn put_back(&mut self) {
        self.in_flight -= 1;
        self.has_more = true;
    }

    /// Takes out all that is queued.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        let jobs: Vec<Job> = self.first.drain(..).chain(self.resends.drain(..)).collect();
        self.held -= jobs.len();
        jobs
    }

    /// Whether this node may give it back.
    pub(super) const fn is_idle(&self) -> bool {
        !self.is_busy() && !self.has_more
    }

    /// Whether something is under way that will come back to it. The outcome of a try may be written before its slot is free.
    pub(super) const fn is_busy(&self) -> bool {
        self.held > 0 || self.in_flight > 0 || self.pins > 0
    }
}

/// How an endpoint has done lately.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    proven: usize,
}

impl Breaker {
    /// Of an endpoint whose last delivery failed.
    pub(super) const fn failing() -> Self {
        Self { failures: FAILURES_MAX, proven: 0 }
    }

    /// Whether it is tried with one slot only.
    pub(super) const fn is_open(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// The lanes of first tries and of tries after a failure.
    const fn lanes(&self) -> [Lane; 2] {
        match self.failures {
            0 if self.proven > 0 => [Lane::Fresh, Lane::Resends],
            0 => [Lane::Unproven, Lane::Resends],
            1..FAILURES_MAX => [Lane::Unproven, Lane::Probes],
            FAILURES_MAX.. => [Lane::Probes, Lane::Probes],
        }
    }

    fn slots(&self, cap: usize) -> usize {
        if self.is_open() { 1 } else { cap.min(self.proven.max(SLOTS_AT_FIRST)) }
    }

    fn note(&mut self, has_failed: bool, cap: usize) {
        if has_failed {
            self.failures = self.failures.saturating_add(1);
            self.proven = 0;
        } else {
            self.failures = 0;
            self.proven = (self.proven.max(SLOTS_AT_FIRST) * 2).min(cap);
        }
    }
}

/// A bucket of tokens, one a try. It holds as many as the rate gives in a tenth of a second, and at least one: so many more than the
/// rate may start in the second in which a receiver is first tried.
#[derive(Debug, Default)]
struct Bucket {
    /// When it will be full again.
    full_at_us: i64,
}

impl Bucket {
    /// Takes a token, or says when there will be one.
    fn take(&mut self, rate: u32, now: Timestamp) -> Result<(), Timestamp> {
        let now_us = now.0.saturating_mul(1_000);
        let rate = i64::from(rate.max(1));
        let token_us = 1_000_000 / rate;
        let empty_us = (rate / 10).max(1) * token_us;
        // Further ahead than when it is empty it is only after the clock was set back, or with another rate.
        let full_at_us = self.full_at_us.clamp(now_us, now_us.saturating_add(empty_us)) + token_us;
        let lacks_us = full_at_us - now_us - empty_us;
        if lacks_us > 0 {
            return Err(Timestamp((now_us + lacks_us + 999) / 1_000));
        }
        self.full_at_us = full_at_us;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_one_by_one_however_long_nobody_took_any() {
        let mut bucket = Bucket::default();
        let start = Timestamp(1_700_000_000_000);
        assert_eq!(bucket.take(3, start), Ok(()));
        assert_eq!(bucket.take(3, start), Err(start.plus_ms(334)));
        assert_eq!(bucket.take(3, start.plus_ms(333)), Err(start.plus_ms(334)));
        assert_eq!(bucket.take(3, start.plus_ms(334)), Ok(()));
        assert_eq!(bucket.take(3, start.plus_ms(334)), Err(start.plus_ms(668)));
        let later = start.plus_ms(60_000);
        assert_eq!((0..4).filter(|_| bucket.take(3, later).is_ok()).count(), 1, "no more for having waited");
        let back = start.plus_ms(-3_600_000);
        assert_eq!(bucket.take(3, back), Err(back.plus_ms(334)), "nor less because the clock was set back");
    }

    #[test]
    fn in_no_second_a_bucket_gives_a_tenth_more_than_the_rate() {
        let start = Timestamp(1_700_000_000_000);
        for rate in [1, 2, 9, 10, 15, 100, 999, 10_000] {
            let mut bucket = Bucket::default();
            let mut given = |at: Timestamp| {
                let mut count = 0_u32;
                while bucket.take(rate, at).is_ok() {
                    count += 1;
                }
                count
            };
            let given: Vec<u32> = (0..3_000).map(|ms| given(start.plus_ms(ms))).collect();
            let fullest = given.windows(1_000).map(|second| second.iter().sum::<u32>()).max();
            assert!(fullest <= Some(rate + (rate / 10).max(1)), "{rate}: {fullest:?}");
            let total: u32 = given.iter().sum();
            assert!(total >= 3 * rate, "{rate}: {total} in three seconds");
        }
    }

    #[test]
    fn a_breaker_opens_after_five_failures_and_closes_with_one_success() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.slots(64), SLOTS_AT_FIRST);
        assert_eq!(breaker.lanes(), [Lane::Unproven, Lane::Resends]);
        for slots in [16, 32, 64, 64] {
            breaker.note(false, 64);
            assert_eq!(breaker.slots(64), slots);
            assert_eq!(breaker.lanes(), [Lane::Fresh, Lane::Resends]);
        }
        for _ in 1..FAILURES_MAX {
            breaker.note(true, 64);
            assert_eq!((breaker.slots(64), breaker.is_open()), (SLOTS_AT_FIRST, false));
            assert_eq!(
                breaker.lanes(),
                [Lane::Unproven, Lane::Probes],
                "another try after a failure may wait"
            );
        }
        breaker.note(true, 64);
        assert_eq!((breaker.slots(64), breaker.is_open()), (1, true));
        assert_eq!(breaker.lanes(), [Lane::Probes, Lane::Probes]);
        breaker.note(false, 64);
        assert_eq!(breaker.lanes(), [Lane::Fresh, Lane::Resends]);
        assert_eq!((breaker.slots(64), breaker.is_open()), (16, false));
        assert_eq!(Breaker::default().slots(3), 3, "never more than the subscription allows");
        assert!(Breaker::failing().is_open());
    }
}
