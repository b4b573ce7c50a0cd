//! The model's half of the webhooks: who listens, what is on its way, and what becomes of it when its receiver answers so
//! or so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::model::Model;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
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
}

impl Subscription {
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
    /// Requests beyond the attempts on record that crashes may have caused.
    pub spare: i64,
    /// Status and attempts before a 410. Once one request is answered so, no more are sent: this one may not have been.
    pub or_else: Option<(&'static str, i64)>,
}

impl Delivery {
    pub fn new(now: i64) -> Self {
        Self {
            status: "PENDING",
            attempts: 0,
            step: 0,
            due: now..=now,
            created: now,
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
    /// Everything that is due is tried, at some instant between `since` and now.
    pub fn settle(&mut self, moods: &[Mood], since: i64) {
        let when = since..=self.now;
        for site in &mut self.sites {
            let mut gone = BTreeSet::new();
            for ((_, index), delivery) in &mut site.deliveries {
                let subscription = &site.subscriptions[*index];
                if delivery.is_waiting() && subscription.is_enabled() && *delivery.due.end() <= self.now {
                    let mood = moods[subscription.receiver];
                    if mood == Mood::Gone {
                        delivery.or_else = Some((delivery.status, delivery.attempts));
                        gone.insert(*index);
                    }
                    delivery.tried(mood, &when);
                }
            }
            // However many requests were answered so, it is disabled once.
            for index in gone {
                site.subscriptions[index].state = Listening::Disabled;
                site.subscriptions[index].revision += 1;
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
