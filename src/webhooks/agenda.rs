//! Which endpoints have something to start, something to read, or nothing at all. Each is noted where it belongs whenever it
//! changes, so that nobody has to go through all to find those few.

use std::collections::{BTreeSet, VecDeque};

use entity::id::{SubscriptionId, Timestamp};

use super::queue::{Lane, Queue};

/// Where an endpoint is noted.
#[derive(Debug, Default)]
pub(super) struct Noted {
    in_ring: [bool; Lane::COUNT],
    to_read: bool,
    due: [Option<Timestamp>; 2],
    idle: Option<Timestamp>,
}

/// The endpoints by what they have to do.
pub(super) struct Agenda {
    /// The latest instant that it was told.
    now: Timestamp,
    /// Those with jobs, by the lane of these: they take turns.
    rings: [VecDeque<SubscriptionId>; Lane::COUNT],
    /// Those whose deliveries have to be read, and of these apart those whose breaker is open.
    to_read: [VecDeque<SubscriptionId>; 2],
    /// Those of which a delivery in the database is due later, and apart those whose breaker is open.
    due: [BTreeSet<(Timestamp, SubscriptionId)>; 2],
    /// Those without work, and since when.
    idle: BTreeSet<(Timestamp, SubscriptionId)>,
}

impl Agenda {
    pub(super) const fn new() -> Self {
        Self {
            now: Timestamp(0),
            rings: [const { VecDeque::new() }; Lane::COUNT],
            to_read: [const { VecDeque::new() }; 2],
            due: [const { BTreeSet::new() }; 2],
            idle: BTreeSet::new(),
        }
    }

    /// Notes what time it is.
    pub(super) const fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Notes `queue` of `subscription` where it belongs now.
    pub(super) fn note(&mut self, subscription: SubscriptionId, queue: &mut Queue) {
        for lane in Lane::ALL {
            if queue.has_work(lane) && !queue.noted.in_ring[lane as usize] {
                queue.noted.in_ring[lane as usize] = true;
                self.rings[lane as usize].push_back(subscription);
            }
        }
        if queue.wants_reading() && !queue.noted.to_read {
            queue.noted.to_read = true;
            self.to_read[usize::from(queue.breaker.is_open())].push_back(subscription);
        }
        let due = queue.next_due.filter(|_| queue.fence.is_some());
        for is_open in [false, true] {
            let due = due.filter(|_| queue.breaker.is_open() == is_open);
            let place = usize::from(is_open);
            move_to(&mut self.due[place], subscription, &mut queue.noted.due[place], due);
        }
        let idle = (queue.fence.is_some() && queue.is_idle()).then(|| queue.noted.idle.unwrap_or(self.now));
        move_to(&mut self.idle, subscription, &mut queue.noted.idle, idle);
    }

    /// Forgets `queue` of `subscription`, which is no longer this node's.
    pub(super) fn forget(&mut self, subscription: SubscriptionId, queue: &mut Queue) {
        for (due, noted) in self.due.iter_mut().zip(&mut queue.noted.due) {
            move_to(due, subscription, noted, None);
        }
        move_to(&mut self.idle, subscription, &mut queue.noted.idle, None);
    }

    /// How many turns there are in `lane`.
    pub(super) fn turns(&self, lane: Lane) -> usize {
        self.rings[lane as usize].len()
    }

    /// Whose turn it is in `lane`. Its queue has to be told ([`Noted::leave_ring`]).
    pub(super) fn next_turn(&mut self, lane: Lane) -> Option<SubscriptionId> {
        self.rings[lane as usize].pop_front()
    }

    /// How many endpoints are to be read whose breaker is open, or is not.
    pub(super) fn reads(&self, is_open: bool) -> usize {
        self.to_read[usize::from(is_open)].len()
    }

    /// Which of these is to be read next. Its queue has to be told ([`Noted::leave_reads`]).
    pub(super) fn next_read(&mut self, is_open: bool) -> Option<SubscriptionId> {
        self.to_read[usize::from(is_open)].pop_front()
    }

    /// Whether there is an endpoint of which a delivery has become due, and whose breaker is open, or is not.
    pub(super) fn has_due(&self, is_open: bool) -> bool {
        self.due[usize::from(is_open)].first().is_some_and(|(at, _)| *at <= self.now)
    }

    /// Such an endpoint, each once. Its queue has to be told that it is not due later any more.
    pub(super) fn next_due(&mut self, is_open: bool) -> Option<SubscriptionId> {
        let is_due = self.has_due(is_open);
        let due = &mut self.due[usize::from(is_open)];
        if is_due { due.pop_first().map(|(_, subscription)| subscription) } else { None }
    }

    /// Up to `max` endpoints that have had no work for `idle_ms` milliseconds.
    pub(super) fn idle(&self, idle_ms: i64, max: usize) -> Vec<SubscriptionId> {
        let since = self.now.plus_ms(-idle_ms);
        let idle = self.idle.iter().take_while(|(at, _)| *at <= since);
        idle.map(|(_, subscription)| *subscription).take(max).collect()
    }

    /// Forgets all turns: nothing starts any more.
    pub(super) fn clear_turns(&mut self) {
        self.rings.iter_mut().for_each(VecDeque::clear);
    }
}

impl Noted {
    /// Notes that its turn in `lane` has come.
    pub(super) const fn leave_ring(&mut self, lane: Lane) {
        self.in_ring[lane as usize] = false;
    }

    /// Notes that it is being read.
    pub(super) const fn leave_reads(&mut self) {
        self.to_read = false;
    }

    /// Notes that nobody has a turn any more.
    pub(super) const fn leave_rings(&mut self) {
        self.in_ring = [false; Lane::COUNT];
    }
}

fn move_to(
    set: &mut BTreeSet<(Timestamp, SubscriptionId)>,
    subscription: SubscriptionId,
    from: &mut Option<Timestamp>,
    to: Option<Timestamp>,
) {
    if *from != to {
        if let Some(at) = *from {
            set.remove(&(at, subscription));
        }
        set.extend(to.map(|at| (at, subscription)));
        *from = to;
    }
}

#[cfg(test)]
mod tests {
    use entity::id::SubscriptionId;
    use uuid::Uuid;

    use super::*;
    use crate::webhooks::queue::Breaker;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn owned() -> Queue {
        let mut queue = Queue::default();
        queue.fence = Some(1);
        queue
    }

    fn id(number: u128) -> SubscriptionId {
        SubscriptionId(Uuid::from_u128(number))
    }

    #[test]
    fn what_is_due_later_is_found_once_and_not_before() {
        let (mut agenda, mut queue) = (Agenda::new(), owned());
        queue.next_due = Some(START.plus_ms(5));
        agenda.note(id(1), &mut queue);
        agenda.set_now(START.plus_ms(4));
        assert_eq!(agenda.next_due(false), None);
        agenda.set_now(START.plus_ms(5));
        assert_eq!([(); 2].map(|()| agenda.next_due(false)), [Some(id(1)), None]);

        // Another time takes the place of the first.
        for at in [9, 7] {
            queue.next_due = Some(START.plus_ms(at));
            agenda.note(id(1), &mut queue);
        }
        agenda.set_now(START.plus_ms(9));
        assert_eq!([(); 2].map(|()| agenda.next_due(false)), [Some(id(1)), None]);
        queue.next_due = Some(START);
        agenda.note(id(1), &mut queue);
        agenda.forget(id(1), &mut queue);
        assert_eq!(agenda.next_due(false), None, "it is not this node's any more");
    }

    #[test]
    fn those_whose_breaker_is_open_are_due_apart() {
        let (mut agenda, mut queue) = (Agenda::new(), owned());
        agenda.set_now(START);
        queue.next_due = Some(START);
        for breaker in [Breaker::default(), Breaker::failing()] {
            queue.breaker = breaker;
            agenda.note(id(1), &mut queue);
        }
        assert_eq!([false, true].map(|is_open| agenda.has_due(is_open)), [false, true]);
        assert_eq!([false, true].map(|is_open| agenda.next_due(is_open)), [None, Some(id(1))]);
    }

    #[test]
    fn an_endpoint_is_idle_from_its_last_work_on() {
        let (mut agenda, mut queue) = (Agenda::new(), owned());
        agenda.set_now(START);
        agenda.note(id(1), &mut queue);
        agenda.note(id(2), &mut owned());
        agenda.set_now(START.plus_ms(10));
        for pins in [1, 0] {
            queue.pins = pins;
            agenda.note(id(1), &mut queue);
        }
        assert_eq!(agenda.idle(10, 9), [id(2)]);
        agenda.set_now(START.plus_ms(20));
        assert_eq!(agenda.idle(10, 9), [id(2), id(1)], "the longest idle first");
        assert_eq!(agenda.idle(10, 1), [id(2)]);
    }

    #[test]
    fn what_is_to_be_read_takes_turns() {
        let mut agenda = Agenda::new();
        let mut queues = [owned(), owned()];
        for _ in 0..2 {
            for (number, queue) in (1..).zip(&mut queues) {
                queue.has_more = true;
                agenda.note(id(number), queue);
            }
        }
        assert_eq!((agenda.reads(false), agenda.reads(true)), (2, 0), "each once");
        assert_eq!(agenda.next_read(false), Some(id(1)));
        queues[0].noted.leave_reads();
        agenda.note(id(1), &mut queues[0]);
        let order = [(); 3].map(|()| agenda.next_read(false));
        assert_eq!(order, [Some(id(2)), Some(id(1)), None]);
    }
}
