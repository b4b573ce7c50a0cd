//! What may happen next, chosen at random.

use super::model::{CHANNELS, Model};
use super::outbox::{Listening, Mood};
use super::receiver::RECEIVERS;

/// Members of a site.
const MEMBERS_MAX: usize = 10;
/// Subscriptions of a site that are not deleted.
const SUBSCRIPTIONS_MAX: usize = 4;
/// With more deliveries waiting the receivers get well. One claim takes all that is due then, so that a 410 reaches all of it.
const WAITING_MAX: usize = 80;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A small generator of random numbers, the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn is_one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// An account as apps and keys name it.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Of this member of the site.
    Own(usize),
    /// Of this member of the other site.
    Foreign(usize),
    Unknown,
    Missing,
}

#[derive(Debug, Clone, Copy)]
pub enum By {
    Member(usize),
    Visitor,
    App(Target),
    Key(Target),
}

#[derive(Debug, Clone, Copy)]
pub enum Change {
    Enable,
    Disable,
    Kinds(usize),
}

#[derive(Debug, Clone)]
pub enum Step {
    Join {
        site: usize,
        name: usize,
    },
    Follow {
        site: usize,
        by: By,
        channel: &'static str,
        key: Option<usize>,
        old_token: bool,
    },
    List {
        site: usize,
        by: By,
        old_token: bool,
    },
    ReadAccount {
        site: usize,
        member: usize,
    },
    OpenAccount {
        site: usize,
        of: Target,
    },
    Settings {
        site: usize,
        channel: &'static str,
        enabled: Option<bool>,
        points: Option<i64>,
        page: bool,
        stale: bool,
    },
    Program {
        site: usize,
        activate: bool,
    },
    Clock {
        ms: i64,
    },
    Mood {
        receiver: usize,
        mood: Mood,
    },
    Subscribe {
        site: usize,
        receiver: usize,
        kinds: usize,
    },
    Change {
        site: usize,
        subscription: usize,
        change: Change,
    },
    Unsubscribe {
        site: usize,
        subscription: usize,
    },
    Redeliver {
        site: usize,
        delivery: usize,
    },
    /// With a follow, the service ends straight after its answer, while it sends the webhooks.
    Restart {
        crash: bool,
        follow: Option<(usize, usize, &'static str)>,
    },
}

/// Chooses the next step; what it is about exists in the model. With `repeatable`, nothing of it depends on chance.
pub fn choose(random: &mut Random, model: &Model, moods: [Mood; RECEIVERS], repeatable: bool) -> Step {
    let bad = (0..RECEIVERS).find(|receiver| !matches!(moods[*receiver], Mood::Accepts(_)));
    if let Some(receiver) = bad.filter(|_| model.waiting() > WAITING_MAX) {
        return Step::Mood { receiver, mood: Mood::Accepts(200) };
    }
    let site = random.below(2);
    let state = &model.sites[site];
    if state.members.len() < 2 {
        return Step::Join { site, name: random.below(MEMBERS_MAX) };
    }
    match random.below(100) {
        0..38 => Step::Follow {
            site,
            by: by(random, model, site),
            channel: channel(random, model, site),
            key: random.is_one_in(4).then(|| random.below(3)),
            old_token: random.is_one_in(5),
        },
        38..43 => Step::List { site, by: by(random, model, site), old_token: random.is_one_in(5) },
        43..45 => Step::ReadAccount { site, member: random.below(state.members.len()) },
        45..48 => Step::OpenAccount { site, of: target(random, model, site) },
        48..54 => Step::Join { site, name: random.below(MEMBERS_MAX) },
        54..58 => Step::Settings {
            site,
            channel: random.pick(&CHANNELS),
            enabled: random.is_one_in(2).then(|| !random.is_one_in(4)),
            points: random.is_one_in(2).then(|| random.pick(&[0, 1, 25, 9_999_999])),
            page: !random.is_one_in(4),
            stale: random.is_one_in(6),
        },
        58..62 => Step::Program { site, activate: state.program != "ACTIVE" || random.is_one_in(2) },
        62..74 => Step::Clock { ms: jump(random) },
        74..82 => Step::Mood { receiver: random.below(RECEIVERS), mood: mood(random) },
        _ => {
            // Which requests are answered 410 before the service ends would depend on chance.
            let may_follow = !repeatable || !moods.contains(&Mood::Gone);
            about_webhooks(random, model, site, may_follow)
        }
    }
}

fn about_webhooks(random: &mut Random, model: &Model, site: usize, may_follow: bool) -> Step {
    let state = &model.sites[site];
    let alive = state.subscriptions.iter().filter(|subscription| subscription.state != Listening::Deleted);
    let alive = alive.count();
    let subscribe = Step::Subscribe { site, receiver: random.below(RECEIVERS), kinds: random.below(16) };
    if alive == 0 {
        return subscribe;
    }
    let subscription = random.below(state.subscriptions.len());
    match random.below(18) {
        0..4 if alive < SUBSCRIPTIONS_MAX => subscribe,
        0..8 => {
            let change = match random.below(4) {
                0 => Change::Disable,
                1 => Change::Kinds(random.below(16)),
                _ => Change::Enable,
            };
            Step::Change { site, subscription, change }
        }
        8 => Step::Unsubscribe { site, subscription },
        9..14 => Step::Redeliver { site, delivery: random.below(state.deliveries.len() + 1) },
        _ => {
            let may_follow = may_follow && !random.is_one_in(4);
            let follow =
                may_follow.then(|| (site, random.below(state.members.len()), channel(random, model, site)));
            Step::Restart { crash: random.is_one_in(2), follow }
        }
    }
}

/// Mostly a channel that can be followed.
fn channel(random: &mut Random, model: &Model, site: usize) -> &'static str {
    let channel = random.pick(&CHANNELS);
    if random.is_one_in(30) {
        "MYSPACE"
    } else if model.sites[site].channels[channel].is_enabled || random.is_one_in(3) {
        channel
    } else {
        "X"
    }
}

fn by(random: &mut Random, model: &Model, site: usize) -> By {
    match random.below(14) {
        0 => By::Visitor,
        1 | 2 => By::App(target(random, model, site)),
        3 => By::Key(target(random, model, site)),
        _ => By::Member(random.below(model.sites[site].members.len())),
    }
}

fn target(random: &mut Random, model: &Model, site: usize) -> Target {
    let others = model.sites[1 - site].members.len();
    match random.below(12) {
        0 => Target::Unknown,
        1 => Target::Missing,
        2 if others > 0 => Target::Foreign(random.below(others)),
        _ => Target::Own(random.below(model.sites[site].members.len())),
    }
}

fn jump(random: &mut Random) -> i64 {
    let jumps =
        [1, SECOND, 61 * SECOND, 2 * MINUTE, 12 * MINUTE, HOUR, 2 * HOUR, 5 * HOUR, 14 * HOUR, 100 * HOUR];
    if random.is_one_in(12) { -10 * MINUTE } else { random.pick(&jumps) }
}

fn mood(random: &mut Random) -> Mood {
    random.pick(&[
        Mood::Accepts(200),
        Mood::Accepts(200),
        Mood::Accepts(204),
        Mood::Fails(500, 0),
        Mood::Fails(302, 0),
        Mood::Fails(503, 20),
        Mood::Fails(429, 7_200),
        Mood::Gone,
    ])
}
