//! The same requests on a small and on a large store. Both services run at once and take turns, so that the machine's moods
//! fall on both.

use std::rc::Rc;

use super::Bench;
use super::create::World;
use super::database::Kind;
use super::fill;
use super::generator::{Plan, Requests};
use super::report::Limit;

/// Accounts of the small store, and accounts that take part on each.
const SMALL: i64 = 10_000;
/// What the accounts follow before.
const FOLLOWED: &[&str] = &["X"];
/// What they follow then, one channel a round.
const TO_FOLLOW: [&str; 4] = ["INSTAGRAM", "FACEBOOK", "TIKTOK", "LINKEDIN"];
/// Members without an account, kept ready for a second of load.
const MEMBERS_PER_S: i64 = 20_000;
/// The most that a request may cost on the large store.
const COST_MAX: f64 = 1.3;

struct Store {
    world: World,
    accounts: i64,
    /// The next member without an account.
    next: i64,
    lists: Vec<f64>,
    keyed_lists: Vec<f64>,
    first_follows: Vec<f64>,
    more_follows: Vec<f64>,
    by_member: Rc<Requests>,
    by_key: Rc<Requests>,
}

impl Store {
    fn new(bench: &mut Bench, kind: Kind, accounts: i64) -> Self {
        let world = World::new(bench, kind);
        let spare = MEMBERS_PER_S * i64::from(bench.seconds * bench.rounds);
        println!("filling {accounts} accounts");
        fill::add_members(&world.database, world.site, &(0..accounts + spare));
        fill::add_accounts(&world.database, world.site, &(0..accounts), FOLLOWED);
        world.database.settle();
        let by_member = world.list_requests(bench.token, spread(accounts));
        let by_key = world.list_requests_by_key(spread(accounts));
        Self {
            world,
            accounts,
            next: accounts,
            lists: Vec::new(),
            keyed_lists: Vec::new(),
            first_follows: Vec::new(),
            more_follows: Vec::new(),
            by_member,
            by_key,
        }
    }

    fn round(&mut self, bench: &Bench, channel: &str) {
        let world = &self.world;
        let name = |what: &str| format!("{} accounts, {what}", self.accounts);
        let plan = world.plan(bench.duration());
        let again = Plan { repeat: true, ..plan };
        self.lists.push(world.load(&name("list"), &self.by_member, again).rate());
        self.keyed_lists.push(world.load(&name("list by API key"), &self.by_key, again).rate());
        let count = MEMBERS_PER_S * i64::from(bench.seconds);
        let requests = world.follow_requests(bench.token, self.next..self.next + count, "X");
        let run = world.load(&name("first follow"), &requests, plan);
        self.first_follows.push(run.rate());
        self.next += i64::try_from(run.used).unwrap_or(0);
        let requests = world.follow_requests(bench.token, spread(self.accounts), channel);
        self.more_follows.push(world.load(&name("another follow"), &requests, plan).rate());
    }
}

/// As many accounts on each store, from all over it, in an order that jumps.
fn spread(accounts: i64) -> impl Iterator<Item = i64> {
    // A number without a common factor with SMALL, so that every step meets another account.
    (0..SMALL).map(move |step| (step * 7_919 % SMALL) * (accounts / SMALL))
}

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== scale, {} ==", kind.name());
    let mut small = Store::new(bench, kind, SMALL);
    let mut large = Store::new(bench, kind, bench.accounts.max(SMALL));
    for round in 0..bench.rounds {
        let channel = TO_FOLLOW[usize::try_from(round).unwrap_or(0) % TO_FOLLOW.len()];
        small.round(bench, channel);
        large.round(bench, channel);
    }
    let mut compare = |what: &str, small: &[f64], large: &[f64]| {
        // Rates: the small store's over the large one's is the large one's cost over the small one's.
        let what = format!("{what}/s, 10,000 against {} accounts, {}", bench.accounts, kind.name());
        bench.report.compare(&what, small, large, Limit::AtMost(COST_MAX));
    };
    compare("list", &small.lists, &large.lists);
    compare("list by API key", &small.keyed_lists, &large.keyed_lists);
    compare("first follow", &small.first_follows, &large.first_follows);
    compare("another follow", &small.more_follows, &large.more_follows);
    let what = format!("MiB resident at the most with {} accounts, {}", bench.accounts, kind.name());
    bench.report.figure(&what, large.world.service.memory().peak_mib, Limit::AtMost(80.0));
}
