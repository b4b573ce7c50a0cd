//! The model's half of the webhooks: who listens, what is on its way, and what becomes of it when its receiver answers so
//! or so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::model::{Model, Site};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// By how much a clock may be set back without anybody minding.
pub const CLOCK_ERROR_MS: i64 = MINUTE;
/// A receiver that accepts nothing for so long, of which two deliveries were exhausted so far apart, is given up.
const FAILING_MAX: i64 = 5 * 24 * HOUR;
const EXHAUSTED_APART: i64 = 12 * HOUR;
/// Wix's resends.
const RESENDS: [i64; 12] = [
    MINUTE,
    10 * MINUTE,
    HOUR,
    2 * HOUR,
    2 * HOUR,
    2 * HOUR,
    4 * HOUR,
    4 * HOUR,
    4 * HOUR,
    8 * HOUR,
    8 * HOUR,
    12 * HOUR,
];

/// How a receiver answers at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// 200, or 204.
    Accepts(u16),
    /// This status, with so many seconds of `Retry-After`, or 0 for none.
    Fails(u16, i64),
    /// 410.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    Enabled,
    Disabled,
    Deleted,
}

pub struct Subscription {
    pub id: String,
    /// Its receiver, by number.
    pub receiver: usize,
    pub kinds: BTreeSet<&'static str>,
    pub state: Listening,
    pub revision: i64,
    pub health: Health,
}

/// How a receiver did since it last accepted something.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// The earliest that it may have failed first.
    failing_since: Option<i64>,
    /// The earliest that a delivery may have been exhausted first, and the latest that one was last.
    exhausted: Option<(i64, i64)>,
}

impl Health {
    /// It was tried at some instant of `when`, and that was the end of `delivery` or not.
    fn note(&mut self, delivery: &Delivery, when: &RangeInclusive<i64>) {
        if delivery.status == "DELIVERED" {
            *self = Self::default();
            return;
        }
        self.failing_since.get_or_insert(*when.start());
        if delivery.status == "EXHAUSTED" {
            self.exhausted.get_or_insert((*when.start(), 0)).1 = *when.end();
        }
    }

    fn may_be_given_up(&self, now: i64) -> bool {
        let is_long = self.failing_since.is_some_and(|since| now - since >= FAILING_MAX);
        is_long && self.exhausted.is_some_and(|(first, last)| last - first >= EXHAUSTED_APART)
    }
}

impl Subscription {
    pub fn new(id: String, receiver: usize, kinds: BTreeSet<&'static str>) -> Self {
        Self { id, receiver, kinds, state: Listening::Enabled, revision: 1, health: Health::default() }
    }

    pub fn enable(&mut self) {
        if !self.is_enabled() {
            self.health = Health::default();
        }
        self.state = Listening::Enabled;
    }

    pub fn is_enabled(&self) -> bool {
        self.state == Listening::Enabled
    }
}

/// One event for one subscription.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub status: &'static str,
    pub attempts: i64,
    /// Resends of the schedule used up.
    pub step: usize,
    /// When it is due: only bounds, until the instant is learned.
    pub due: RangeInclusive<i64>,
    pub created: i64,
    /// When it was tried last, as the log has it.
    pub tried: Option<i64>,
    /// Requests beyond the attempts on record that crashes may have caused.
    pub spare: i64,
    /// What it is if it was not tried, as its subscription was disabled before its turn came: by a 410, or given up.
    pub or_else: Option<Box<Self>>,
}

impl Delivery {
    pub fn new(now: i64) -> Self {
        Self {
            status: "PENDING",
            attempts: 0,
            step: 0,
            due: now..=now,
            created: now,
            tried: None,
            spare: 0,
            or_else: None,
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.status, "PENDING" | "RETRYING")
    }

    /// Tried at some instant of `when`, and answered so.
    fn tried(&mut self, mood: Mood, when: &RangeInclusive<i64>) {
        self.attempts += 1;
        let Mood::Fails(_, hint_s) = mood else {
            self.status = if mood == Mood::Gone { "EXHAUSTED" } else { "DELIVERED" };
            return;
        };
        let Some(base) = RESENDS.get(self.step) else {
            self.status = "EXHAUSTED";
            return;
        };
        let spread = (base / 10).clamp(1_000, 15 * MINUTE);
        let hint = hint_s * 1_000;
        self.status = "RETRYING";
        self.step += 1;
        self.due = when.start() + hint.max(*base)..=when.end() + hint.max(base + spread);
    }
}

impl Model {
    /// Everything that is due is tried, at some instant between `since` and now; the service has disabled the subscriptions with
    /// the ids `disabled`.
    pub fn settle(&mut self, moods: &[Mood], since: i64, disabled: &BTreeSet<String>) {
        let when = since..=self.now;
        for Site { subscriptions, deliveries, .. } in &mut self.sites {
            let may_be = |subscriptions: &[Subscription]| -> Vec<bool> {
                subscriptions.iter().map(|of| of.health.may_be_given_up(self.now)).collect()
            };
            let before = may_be(subscriptions);
            let mut gone = BTreeSet::new();
            for ((_, index), delivery) in deliveries {
                let subscription = &mut subscriptions[*index];
                if delivery.is_waiting() && subscription.is_enabled() && *delivery.due.end() <= self.now {
                    let mood = moods[subscription.receiver];
                    if disabled.contains(&subscription.id) {
                        delivery.or_else = Some(Box::new(delivery.clone()));
                    }
                    if mood == Mood::Gone {
                        gone.insert(*index);
                    }
                    delivery.tried(mood, &when);
                    subscription.health.note(delivery, &when);
                }
            }
            let after = may_be(subscriptions);
            for (index, subscription) in subscriptions.iter_mut().enumerate() {
                let is_disabled = disabled.contains(&subscription.id);
                assert!(is_disabled || !gone.contains(&index), "{} is gone", subscription.id);
                if subscription.is_enabled() && is_disabled {
                    let may_be = gone.contains(&index) || before[index] || after[index];
                    assert!(may_be, "{} is disabled too early: {:?}", subscription.id, subscription.health);
                    // However many requests were answered so, it is disabled once.
                    subscription.state = Listening::Disabled;
                    subscription.revision += 1;
                }
            }
        }
    }

    /// The clock was set back: what was made, or tried last, at a time that is still to come is due now.
    pub fn bring_forward(&mut self) {
        let future = self.now + CLOCK_ERROR_MS;
        for delivery in self.sites.iter_mut().flat_map(|site| site.deliveries.values_mut()) {
            let is_put_off = delivery.tried.unwrap_or(delivery.created) > future;
            if delivery.is_waiting() && *delivery.due.start() > future && is_put_off {
                delivery.due = self.now..=self.now;
            }
        }
    }

    /// A crash now may repeat what is due.
    pub fn crash(&mut self) {
        for site in &mut self.sites {
            for ((_, index), delivery) in &mut site.deliveries {
                let is_enabled = site.subscriptions[*index].is_enabled();
                if delivery.is_waiting() && is_enabled && *delivery.due.end() <= self.now {
                    delivery.spare += 1;
                }
            }
        }
    }

    /// Deliveries that are not done.
    pub fn waiting(&self) -> usize {
        let deliveries = self.sites.iter().flat_map(|site| site.deliveries.values());
        deliveries.filter(|delivery| delivery.is_waiting()).count()
    }

    /// Requests on record for each receiver path, and how many more there may be.
    pub fn requests(&self) -> BTreeMap<(usize, usize), (i64, i64)> {
        let mut requests = BTreeMap::new();
        for (number, site) in self.sites.iter().enumerate() {
            for ((_, index), delivery) in &site.deliveries {
                let (attempts, spare) = requests.entry((number, *index)).or_insert((0, 0));
                *attempts += delivery.attempts;
                *spare += delivery.spare;
            }
        }
        requests
    }
}
