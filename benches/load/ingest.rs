//! Webhooks of 100 messages, each for the first time: how long the platform waits for the acknowledgement, which comes when the
//! bytes and the things in them are stored.

use std::fmt::Write as _;
use std::rc::Rc;

use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::Bench;
use super::create::World;
use super::database::Kind;
use super::generator::{Plan, Requests};
use super::report::{Limit, median};
use super::service::META_SECRET;

/// Things in one call.
const BATCH: usize = 100;
/// Calls kept ready for a second of load.
const CALLS_PER_S: usize = 1_000;
/// Connections of a platform that sends as fast as it is answered.
const CONNECTIONS: usize = 4;
/// Milliseconds within which an acknowledgement must come.
const P99_MS: f64 = 50.0;
const PATH: &str = "/ingest/instagram/facebook-login";

/// Calls with the messages from `first` on.
fn calls(first: usize, count: usize) -> Rc<Requests> {
    let key = hmac::Key::new(HMAC_SHA256, META_SECRET.as_bytes());
    let mut requests = Requests::default();
    for call in first..first + count {
        let mut entries = String::new();
        for number in 0..BATCH {
            let comma = if number > 0 { "," } else { "" };
            let mid = format!(
                "aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlEOjE3ODQxNDYwOTk4ODc3MDAxOjM0MDI4MjM2Njg0MTcx{call:012}{number:04}"
            );
            let _ = write!(
                entries,
                r#"{comma}{{"sender":{{"id":"55120349{number:08}"}},"recipient":{{"id":"17841460998877001"}},"timestamp":1794994867215,"message":{{"mid":"{mid}","text":"Best flat white in Oslo"}}}}"#
            );
        }
        let body = format!(
            r#"{{"object":"instagram","entry":[{{"time":1794994867565,"id":"17841460998877001","messaging":[{entries}]}}]}}"#
        );
        let mut header = "x-hub-signature-256: sha256=".to_owned();
        for byte in hmac::sign(&key, body.as_bytes()).as_ref() {
            let _ = write!(header, "{byte:02x}");
        }
        requests.push("POST", PATH, &[&header], &body);
    }
    Rc::new(requests)
}

pub(crate) fn measure(bench: &mut Bench, kind: Kind) {
    println!("\n== ingest, {} ==", kind.name());
    let world = World::new(bench, kind);
    let count = CALLS_PER_S * usize::try_from(bench.seconds).unwrap_or(1);
    let plan = Plan { connections: CONNECTIONS, ..world.plan(bench.duration()) };
    let (mut rates, mut slowest) = (Vec::new(), Vec::new());
    let mut first = 0;
    for _ in 0..bench.rounds {
        let mut run = world.load("batches of 100 messages", &calls(first, count), plan);
        first += count;
        rates.push(run.rate());
        slowest.push(run.percentile_ms(0.99));
    }
    let name = kind.name();
    bench.report.figure(&format!("ingest, {name}: batches of 100/s"), median(&rates), Limit::None);
    let what = format!("ingest, {name}: p99 of the acknowledgement, ms");
    bench.report.figure(&what, median(&slowest), Limit::AtMost(P99_MS));
}
