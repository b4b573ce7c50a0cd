//! Lists of members who follow three channels.

use std::ops::Range;
use std::rc::Rc;

use serde_json::json;

use super::Bench;
use super::create::{PATH, World};
use super::database::Kind;
use super::fill::{self, Thing};
use super::generator::{Plan, Requests};
use super::pgbench;
use super::report::Limit;
use super::service;
use super::tokens::{Mint, Token};

/// Members who list, again and again.
const MEMBERS: Range<i64> = 0..10_000;
/// What each follows.
const FOLLOWED: &[&str] = &["X", "INSTAGRAM", "FACEBOOK"];

impl World {
    /// Requests of the members with `numbers` to list what they follow.
    pub(crate) fn list_requests(&self, token: Token, numbers: impl Iterator<Item = i64>) -> Rc<Requests> {
        let mint = Mint::new(token, &self.database, self.site);
        let mut requests = Requests::default();
        for number in numbers {
            requests.push("GET", PATH, &[&mint.header(number)], "");
        }
        Rc::new(requests)
    }

    /// Requests of an API key to list what accounts follow.
    pub(crate) fn list_requests_by_key(&self, numbers: impl Iterator<Item = i64>) -> Rc<Requests> {
        let asked = json!({"apiKey": {"name": "bench"}});
        let made = self.service.admin("POST", "/admin/v1/api-keys", Some(self.site), &asked);
        let key = format!("authorization: {}", made["secret"].as_str().expect("a secret"));
        let site = format!("wix-site-id: {}", self.site);
        let mut requests = Requests::default();
        for number in numbers {
            let path = format!("{PATH}?accountId={}", Thing::Account.id(number));
            requests.push("GET", &path, &[&key, &site], "");
        }
        Rc::new(requests)
    }

    /// The request of a visitor, which is answered without a look at the store.
    fn visitor_requests(&self) -> Rc<Requests> {
        let client = json!({"oauthClient": {"name": "Shop front-end", "allowedOrigins": []}});
        let made = self.service.admin("POST", "/admin/v1/oauth-clients", Some(self.site), &client);
        let client = service::id(&made["oauthClient"]["id"]);
        let grant = json!({"clientId": client, "grantType": "anonymous"});
        let granted = self.service.call("POST", "/oauth2/token", &[], &grant);
        let token = granted["access_token"].as_str().expect("a token");
        let mut requests = Requests::default();
        requests.push("GET", PATH, &[&format!("authorization: {token}")], "");
        Rc::new(requests)
    }
}

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== list, {} ==", kind.name());
    let world = World::new(bench, kind);
    fill::add_members(&world.database, world.site, &MEMBERS);
    fill::add_accounts(&world.database, world.site, &MEMBERS, FOLLOWED);
    world.database.settle();
    println!("filled");
    let plan = Plan { repeat: true, ..world.plan(bench.duration()) };
    let by_member = world.list_requests(bench.token, MEMBERS);
    let by_key = world.list_requests_by_key(MEMBERS);
    let (mut rates, mut others, mut keyed) = (Vec::new(), Vec::new(), Vec::new());
    let empty = Empty::new(bench, &world, kind);
    let mut of_nobody = Vec::new();
    for _ in 0..bench.rounds {
        rates.push(world.load("followpoints", &by_member, plan).rate());
        keyed.push(world.load("followpoints, by API key and account", &by_key, plan).rate());
        match &empty {
            Some(empty) => {
                let visitor = world.load("a visitor's list", &empty.visitor, plan);
                others.push(visitor.rate());
                let plan = Plan { repeat: true, ..empty.world.plan(bench.duration()) };
                of_nobody.push(empty.world.load("list with an empty store", &empty.members, plan).rate());
            }
            None => {
                let script = pgbench::list_script(world.site, &MEMBERS);
                others.push(world.pgbench(&script, bench.duration(), (0, 0)));
            }
        }
    }
    let report = &mut bench.report;
    match kind {
        Kind::Sqlite => {
            let what = "list/s, SQLite, against the same without a look at the store";
            report.compare(what, &rates, &others, Limit::AtLeast(0.35));
            report.compare(
                "list/s, SQLite, against an empty store",
                &rates,
                &of_nobody,
                Limit::AtLeast(0.35),
            );
        }
        Kind::Postgres => {
            let what = "list/s, PostgreSQL, against pgbench, 16 clients";
            report.compare(what, &rates, &others, Limit::AtLeast(1.0));
        }
    }
    report.compare("list/s by API key, same other side", &keyed, &others, Limit::None);
    let what = format!("MiB resident at the most while listing, {}", kind.name());
    report.figure(&what, world.service.memory().peak_mib, Limit::AtMost(80.0));
}

/// The same endpoint with nothing to read: a visitor's list, and members on a store without accounts.
struct Empty {
    world: World,
    visitor: Rc<Requests>,
    members: Rc<Requests>,
}

impl Empty {
    fn new(bench: &mut Bench, full: &World, kind: Kind) -> Option<Self> {
        if kind != Kind::Sqlite {
            return None;
        }
        let world = World::new(bench, kind);
        fill::add_members(&world.database, world.site, &MEMBERS);
        let members = world.list_requests(bench.token, MEMBERS);
        Some(Self { visitor: full.visitor_requests(), members, world })
    }
}
