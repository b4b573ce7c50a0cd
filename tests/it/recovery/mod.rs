//! The real program, killed at random moments and started again on the same data: whatever was acknowledged is
//! there, and every event reaches the receiver. `FOLLOWPOINTS_TEST_KILLS` sets how often it is killed,
//! `FOLLOWPOINTS_TEST_SEED` repeats a choice of moments.

pub mod drive;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Instant;

use serde_json::{Value, json};

use self::drive::{CHANNELS, Drive, Shop};
use crate::on_both_databases;
use crate::support::process::{Installation, LOOK, Process, WAIT};
use crate::support::receiver::Receiver;
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{Backend, TestDatabase};
use crate::webhooks::unfold;

/// A small generator of numbers that only have to be different every time (Knuth's constants).
pub struct Lcg(u64);

impl Lcg {
    pub fn new() -> Self {
        let given = std::env::var("FOLLOWPOINTS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        println!("FOLLOWPOINTS_TEST_SEED={seed} repeats this run");
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit).unwrap()
    }
}

fn kills() -> usize {
    std::env::var("FOLLOWPOINTS_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3)
}

/// Waits until nothing waits to be sent.
pub async fn settled(shop: &Shop) {
    settled_while(shop, || 0).await;
}

/// The same for as long as `progress` grows: many kills on PostgreSQL leave much to be sent.
async fn settled_while(shop: &Shop, progress: impl Fn() -> usize) {
    let mut looks = tokio::time::interval(LOOK);
    let (mut reached, mut since) = (progress(), Instant::now());
    loop {
        looks.tick().await;
        let mut waiting = 0;
        for status in ["PENDING", "RETRYING"] {
            let path = format!("/admin/v1/webhook-deliveries?limit=1&status={status}");
            waiting += shop.admin("GET", &path, None).await["webhookDeliveries"].as_array().unwrap().len();
        }
        if waiting == 0 {
            return;
        }
        if progress() > reached {
            (reached, since) = (progress(), Instant::now());
        } else if since.elapsed() > WAIT {
            break;
        }
    }
    let rows = shop.admin("GET", "/admin/v1/webhook-deliveries?limit=5&status=PENDING", None).await;
    let more = shop.admin("GET", "/admin/v1/webhook-deliveries?limit=5&status=RETRYING", None).await;
    let tries = match more["webhookDeliveries"][0]["id"].as_str() {
        Some(failed) => shop.admin("GET", &format!("/admin/v1/webhook-deliveries/{failed}"), None).await,
        None => Value::Null,
    };
    panic!("deliveries still wait: {tries} of {rows} {more}");
}

/// Every acknowledged follow is there, and every account has the points of its follows.
async fn check_follows(shop: &Shop, acknowledged: &BTreeMap<usize, String>) {
    let mut by_member: BTreeMap<usize, HashSet<String>> = BTreeMap::new();
    for (number, id) in acknowledged {
        by_member.entry(number / CHANNELS.len()).or_default().insert(id.clone());
    }
    for (member, ids) in by_member {
        let listed = shop.as_member(member, "/loyalty-social-media/v1/followed-channels").await;
        let rows = listed["followedChannels"].as_array().unwrap();
        let there: HashSet<String> = rows.iter().map(|row| text(&row["id"])).collect();
        assert_eq!(there, ids, "member {member}");
        let account = shop.as_member(member, "/loyalty-accounts/v1/accounts/my-account").await;
        assert_eq!(account["account"]["points"]["balance"], 50 * ids.len(), "member {member}");
    }
}

/// Every event by its id, with its type; they are exactly those of the acknowledged follows.
pub async fn check_events(shop: &Shop, acknowledged: &BTreeMap<usize, String>) -> HashMap<String, String> {
    let mut path = "/admin/v1/events?limit=100".to_owned();
    let (mut types, mut followed) = (HashMap::new(), Vec::new());
    loop {
        let page = shop.admin("GET", &path, None).await;
        for event in page["events"].as_array().unwrap() {
            types.insert(text(&event["id"]), text(&event["eventType"]));
            if event["eventType"] == ALL_EVENTS[0] {
                followed.push(text(&event["entityId"]));
            }
        }
        let Some(next) = page["pagingMetadata"]["cursors"]["next"].as_str() else { break };
        path = format!("/admin/v1/events?limit=100&cursor={next}");
    }
    followed.sort();
    let mut expected: Vec<String> = acknowledged.values().cloned().collect();
    expected.sort();
    assert_eq!(followed, expected, "one event for each follow");
    let count = |name: &str| types.values().filter(|kind| *kind == name).count();
    let members: HashSet<usize> = acknowledged.keys().map(|number| number / CHANNELS.len()).collect();
    assert_eq!(
        ALL_EVENTS.map(count),
        [acknowledged.len(), members.len(), acknowledged.len(), acknowledged.len()]
    );
    types
}

/// How often the receiver got each event; whatever came twice was the same, byte for byte.
pub fn check_received(receiver: &Receiver) -> HashMap<String, usize> {
    let mut bodies: HashMap<String, String> = HashMap::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for body in receiver.bodies() {
        let claims = unfold(&body);
        let id = text(&claims["jti"]);
        assert_eq!(claims["data"]["data"]["id"], id.as_str());
        let first = bodies.entry(id.clone()).or_insert_with(|| body.clone());
        assert_eq!(*first, body, "event {id} came with other bytes");
        *counts.entry(id).or_default() += 1;
    }
    counts
}

pub async fn check_everything(installation: &Installation, drive: &Drive, [all, some]: [&Receiver; 2]) {
    let (shop, acknowledged) = (&drive.shop, drive.acknowledged());
    settled_while(shop, || all.count() + some.count()).await;
    check_follows(shop, &acknowledged).await;
    let events = check_events(shop, &acknowledged).await;
    let told: HashSet<String> = check_received(all).into_keys().collect();
    assert_eq!(told, events.keys().cloned().collect::<HashSet<_>>(), "every event, and nothing else");
    let subscribed: HashSet<String> =
        events.iter().filter(|(_, kind)| *kind == ALL_EVENTS[0]).map(|(id, _)| id.clone()).collect();
    assert_eq!(check_received(some).into_keys().collect::<HashSet<_>>(), subscribed);
    let verified = installation.run("verify").await;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    assert!(said.contains(&format!(", ledger entries: {}\n", acknowledged.len())), "{said}");
}

/// A site with two subscriptions: to everything, and to follows alone.
pub async fn set_up(process: &Process) -> (Drive, Receiver, Receiver) {
    let shop = Shop::open(&process.url).await;
    let (all, some) = (Receiver::start().await, Receiver::start().await);
    shop.subscribe(&ALL_EVENTS, &all.url).await;
    shop.subscribe(&ALL_EVENTS[..1], &some.url).await;
    (Drive::start(shop), all, some)
}

on_both_databases! {
    async fn g1_g2_g3_nothing_acknowledged_is_lost_by_kills_at_random_moments(database: TestDatabase) {
        let mut random = Lcg::new();
        let installation = Installation::new(database);
        let mut process = installation.serve().await;
        let (drive, all, some) = set_up(&process).await;

        for _ in 0..kills() {
            let more = 10 + random.below(90);
            if random.below(2) == 0 {
                drive.wait_for(drive.count() + more).await;
            } else {
                all.wait_for(all.count() + 3 * more).await;
            }
            drive.shop.is_away();
            process.kill();
            process = installation.serve().await;
            drive.shop.is_at(&process.url);
        }
        drive.wait_for(drive.count() + 20).await;
        drive.stop().await;

        check_everything(&installation, &drive, [&all, &some]).await;
        assert!(process.terminate().await.success());
    }
}

on_both_databases! {
    async fn g3_a_stop_on_request_exits_cleanly_loses_nothing_and_repeats_nothing(database: TestDatabase) {
        let installation = Installation::new(database);
        let mut process = installation.serve().await;
        let (drive, all, some) = set_up(&process).await;

        for _ in 0..2 {
            drive.wait_for(drive.count() + 40).await;
            let status = process.terminate().await;
            assert_eq!(status.code(), Some(0));
            drive.shop.is_away();
            process = installation.serve().await;
            drive.shop.is_at(&process.url);
        }
        drive.wait_for(drive.count() + 20).await;
        drive.stop().await;

        check_everything(&installation, &drive, [&all, &some]).await;
        let twice: Vec<_> = check_received(&all).into_iter().filter(|(_, count)| *count > 1).collect();
        assert_eq!(twice, [], "a stop waits for what is under way");
        assert!(process.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_sqlite_file_refuses_to_start_and_disturbs_nothing() {
    let installation = Installation::new(TestDatabase::new(Backend::Sqlite).await.unwrap());
    let process = installation.serve().await;
    let file =
        installation.database.url.trim_start_matches("sqlite://").trim_end_matches("?mode=rwc").to_owned();

    let refused = installation.run("serve").await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    let message = format!("followpoints: {file} is in use by another followpoints process; stop it first\n");
    assert!(said.ends_with(&message), "{said}");

    let shop = Shop::open(&process.url).await;
    let verified = installation.run("verify").await;
    assert_eq!(
        String::from_utf8(verified.stdout).unwrap(),
        "accounts: 0, ledger entries: 0\nevery balance is the sum of its entries\n"
    );
    assert_eq!(shop.admin("GET", "/admin/v1/events", None).await["events"], json!([]));
    process.kill();
    let process = installation.serve().await;
    shop.is_at(&process.url);
    let ready: Value = shop.admin("GET", "/readyz", None).await;
    assert_eq!(ready["ready"], true);
    assert!(process.terminate().await.success());
}
