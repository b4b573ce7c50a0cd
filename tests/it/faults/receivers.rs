//! Receivers that hang, drip, break off, answer too much or nonsense: each costs its own deliveries only, what is
//! recorded says what happened, and a healthy receiver beside them gets everything.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use followpoints::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::until;
use crate::on_both_databases;
use crate::recovery::check_received;
use crate::recovery::drive::{Drive, Shop};
use crate::support::process::Installation;
use crate::support::receiver::Receiver;
use crate::support::world::{ALL_EVENTS, text};

/// Bytes of an answer that nobody wants.
const HUGE: usize = 300_000_000;
/// How much the service may grow by while it gets such answers, in KiB: buffers of eight tries at once.
const GROWTH_KIB: u64 = 8 * 1024;
const DRIP: Duration = Duration::from_millis(20);
/// Follows while the receivers misbehave.
const FOLLOWS: usize = 20;

/// How a receiver misbehaves, on every connection.
#[derive(Clone)]
enum Manner {
    /// Says these bytes and closes.
    Says(Vec<u8>),
    /// Never says anything.
    Hangs,
    /// Says the first at once and the second byte by byte, again and again.
    Drips(&'static str, &'static str),
    /// Says the head of a good answer and then as much as there is.
    Floods,
    /// Says these bytes and resets the connection.
    Resets(&'static str),
}

impl Manner {
    fn says(text: impl Into<String>) -> Self {
        Self::Says(text.into().into_bytes())
    }

    async fn behave(self, mut stream: TcpStream) -> std::io::Result<()> {
        read_request(&mut stream).await?;
        match self {
            Self::Says(bytes) => stream.write_all(&bytes).await?,
            Self::Hangs => drop(stream.read(&mut [0]).await?),
            Self::Drips(first, again) => {
                stream.write_all(first.as_bytes()).await?;
                let mut drops = tokio::time::interval(DRIP);
                for byte in again.bytes().cycle() {
                    drops.tick().await;
                    stream.write_all(&[byte]).await?;
                }
            }
            Self::Floods => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                let piece = vec![b'x'; 1 << 16];
                for _ in 0..HUGE / piece.len() {
                    stream.write_all(&piece).await?;
                }
            }
            Self::Resets(first) => {
                stream.write_all(first.as_bytes()).await?;
                stream.flush().await?;
                stream.set_zero_linger()?;
            }
        }
        Ok(())
    }
}

/// Reads a head and the body that it announces.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&buffer[..count]);
        let said = String::from_utf8_lossy(&seen);
        if let Some((head, body)) = said.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse::<usize>().unwrap() {
                return Ok(());
            }
        }
    }
}

/// Listens; gives the URL and the number of requests so far.
async fn misbehaving(manner: Manner) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(manner.clone().behave(stream));
        }
    });
    (url, count)
}

/// A good head with a body that would become very large if it were unpacked.
fn gzip_bomb() -> Vec<u8> {
    let packed = Command::new("sh").args(["-c", "head -c 50000000 /dev/zero | gzip -9"]).output().unwrap();
    let body = packed.stdout;
    assert!(body.len() > 16 * 1024 && body.len() < 1_000_000, "{}", body.len());
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

/// What a delivery comes to.
#[derive(Clone, Copy)]
enum End {
    Delivered,
    /// Is tried again so many seconds later, at the least and at the most.
    Later(i64, i64),
    /// Ends with the subscription.
    Gone,
}

/// A receiver, and what the log has of each first try: its status, or the class of its error.
struct Case {
    name: &'static str,
    manner: Manner,
    status: Option<u16>,
    class: Option<&'static str>,
    end: End,
}

/// The wait after a failure, in seconds, and the most that it may become.
const WAIT_S: i64 = 600;
const RETRY: End = End::Later(WAIT_S, WAIT_S + 75);

fn case(name: &'static str, manner: Manner, status: u16, end: End) -> Case {
    Case { name, manner, status: Some(status), class: None, end }
}

fn failure(name: &'static str, manner: Manner, class: &'static str) -> Case {
    Case { name, manner, status: None, class: Some(class), end: RETRY }
}

fn answer(status: &str, headers: &str, body: &str) -> Manner {
    Manner::says(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

fn cases(inner: &Receiver) -> Vec<Case> {
    let in_an_hour = DateTime::<Utc>::from_timestamp_millis(SystemClock::default().now().0 + 3_600_000);
    let date = in_an_hour.unwrap().format("retry-after: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string();
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let later = |header: &str| answer("429 Too Many Requests", header, "");
    let absurd = "retry-after: 99999999999999999999999999\r\n";
    let half_a_day = 12 * 3_600;
    vec![
        failure("hangs", Manner::Hangs, "TIMEOUT"),
        failure("drips its head", Manner::Drips("HTTP/1.1 200 OK\r\n", "x-a: b\r\n"), "TIMEOUT"),
        case("drips its body", Manner::Drips(chunked, "1\r\nx\r\n"), 200, End::Delivered),
        case("floods", Manner::Floods, 200, End::Delivered),
        failure("resets", Manner::Resets(""), "PROTOCOL_ERROR"),
        failure("resets in its head", Manner::Resets("HTTP/1.1 200 OK\r\ncontent-"), "PROTOCOL_ERROR"),
        failure("closes", Manner::says(""), "PROTOCOL_ERROR"),
        failure("garbage", Manner::Says(b"\x16\x03\x01\x00\xff\xfe\r\n\r\n".to_vec()), "PROTOCOL_ERROR"),
        failure("endless 1xx", Manner::Drips("", "HTTP/1.1 100 Continue\r\n\r\n"), "TIMEOUT"),
        case("204 with a body", answer("204 No Content", "", "body"), 204, End::Delivered),
        case("gzip bomb", Manner::Says(gzip_bomb()), 200, End::Delivered),
        case(
            "redirect to loopback",
            answer("302 Found", &format!("location: {}\r\n", inner.url), ""),
            302,
            RETRY,
        ),
        case("410", answer("410 Gone", "", ""), 410, End::Gone),
        case("429 in seconds", later("retry-after: 7200\r\n"), 429, End::Later(7_200, 7_200)),
        case("429 at a date", later(&date), 429, End::Later(3_500, 3_600)),
        case("429 absurd", later(absurd), 429, End::Later(half_a_day, half_a_day)),
        case("429 nonsense", later("retry-after: soon\r\n"), 429, RETRY),
    ]
}

fn seconds(date: &Value) -> i64 {
    DateTime::parse_from_rfc3339(date.as_str().unwrap()).unwrap().timestamp()
}

/// The deliveries of the subscription.
async fn deliveries(shop: &Shop, subscription: &str) -> Vec<Value> {
    let path = format!("/admin/v1/webhook-deliveries?limit=100&subscriptionId={subscription}");
    shop.admin("GET", &path, None).await["webhookDeliveries"].as_array().unwrap().clone()
}

/// Every delivery that was tried went as `case` says; gives how many there were.
async fn check_case(shop: &Shop, case: &Case, subscription: &str) -> usize {
    let rows = deliveries(shop, subscription).await;
    assert_eq!(rows.len(), FOLLOWS, "{}: every event has its delivery", case.name);
    let mut tried = 0;
    for row in rows.iter().filter(|row| row["attemptCount"] != 0) {
        let path = format!("/admin/v1/webhook-deliveries/{}", text(&row["id"]));
        let row = shop.admin("GET", &path, None).await["webhookDelivery"].clone();
        let attempts = row["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{}: {row}", case.name);
        let attempt = &attempts[0];
        assert_eq!(attempt["statusCode"], json!(case.status), "{}: {attempt}", case.name);
        assert_eq!(attempt["errorClass"], json!(case.class), "{}: {attempt}", case.name);
        let kept = attempt["responseBody"].as_str().unwrap_or("").chars().count();
        assert!(kept <= 16 * 1024, "{}: {kept} characters are kept", case.name);
        match case.end {
            End::Delivered => assert_eq!(row["status"], "DELIVERED", "{}", case.name),
            End::Gone => assert_ne!(row["status"], "DELIVERED", "{}", case.name),
            End::Later(least, most) => {
                assert_eq!(row["status"], "RETRYING", "{}", case.name);
                let wait = seconds(&row["nextAttemptDate"]) - seconds(&attempt["startedDate"]);
                assert!((least - 1..=most + 2).contains(&wait), "{}: {wait} s", case.name);
            }
        }
        tried += 1;
    }
    tried
}

/// Waits until every subscription has had its tries: all of them but where it was over with the first.
async fn tried_out(shop: &Shop, case: &Case, subscription: &str) {
    let least = if matches!(case.end, End::Gone) { 1 } else { FOLLOWS };
    until(case.name, async || {
        let rows = deliveries(shop, subscription).await;
        rows.iter().filter(|row| row["attemptCount"] != 0).count() >= least
    })
    .await;
}

/// Number of distinct events that came.
fn told(receiver: &Receiver) -> usize {
    check_received(receiver).into_keys().collect::<HashSet<_>>().len()
}

async fn follow(shop: Shop, count: usize) -> Drive {
    let drive = Drive::start_with(shop, count);
    drive.wait_for(count).await;
    drive.stop().await;
    drive
}

on_both_databases! {
    async fn g3_every_misbehaving_receiver_costs_its_own_deliveries_only(database: TestDatabase) {
        let installation = Installation::new(database);
        let process = installation.serve().await;
        let shop = Shop::open(&process.url).await;
        let (healthy, inner) = (Receiver::start().await, Receiver::start().await);
        shop.subscribe(&ALL_EVENTS[..1], &healthy.url).await;
        let mut scenes = Vec::new();
        for case in cases(&inner) {
            let (url, count) = misbehaving(case.manner.clone()).await;
            let more = json!({
                "timeoutMs": 500, "maxInFlight": 32, "retryProfile": "CUSTOM", "retryDelaysSeconds": [WAIT_S],
            });
            let made = shop.subscribe_with(&ALL_EVENTS[..1], &url, more).await;
            scenes.push((case, text(&made["webhookSubscription"]["id"]), count));
        }

        let drive = follow(shop, FOLLOWS).await;
        healthy.wait_for(FOLLOWS).await;
        assert_eq!((told(&healthy), healthy.count()), (FOLLOWS, FOLLOWS));
        for (case, subscription, count) in &scenes {
            tried_out(&drive.shop, case, subscription).await;
            let tried = check_case(&drive.shop, case, subscription).await;
            if !matches!(case.manner, Manner::Hangs) {
                assert_eq!(count.load(Ordering::SeqCst), tried, "{}: nothing is sent beside the tries", case.name);
            }
            let path = format!("/admin/v1/webhook-subscriptions/{subscription}");
            let status = drive.shop.admin("GET", &path, None).await["webhookSubscription"]["status"].clone();
            let expected = if matches!(case.end, End::Gone) { "DISABLED" } else { "ENABLED" };
            assert_eq!(status, expected, "{}", case.name);
        }
        assert_eq!(inner.count(), 0, "a redirect is not followed");
        assert!(process.terminate().await.success());
    }
}

on_both_databases! {
    async fn g3_answers_of_three_hundred_megabytes_take_no_memory(database: TestDatabase) {
        let installation = Installation::new(database);
        let process = installation.serve().await;
        let shop = Shop::open(&process.url).await;
        let healthy = Receiver::start().await;
        shop.subscribe(&ALL_EVENTS[..1], &healthy.url).await;
        // As many events as later, so that what a delivery takes by itself is not counted.
        let drive = follow(shop, 2 * FOLLOWS).await;
        healthy.wait_for(2 * FOLLOWS).await;
        let (url, _) = misbehaving(Manner::Floods).await;
        let made = drive.shop.subscribe_with(&ALL_EVENTS[..1], &url, json!({"timeoutMs": 5_000})).await;
        let subscription = text(&made["webhookSubscription"]["id"]);

        let before = process.peak_kib();
        drive.go_on(2 * FOLLOWS).await;
        healthy.wait_for(4 * FOLLOWS).await;
        until("the large answers come", async || {
            let rows = deliveries(&drive.shop, &subscription).await;
            rows.iter().filter(|row| row["status"] == "DELIVERED").count() == 2 * FOLLOWS
        })
        .await;
        let growth = process.peak_kib() - before;
        println!("the service grew by {growth} KiB");
        assert!(growth <= GROWTH_KIB, "the service grew by {growth} KiB");
        assert!(process.terminate().await.success());
    }
}
