//! Rate limits: each caller has its own bucket, and the token endpoint one per address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use followpoints::config::RATES_DEFAULT;
use followpoints::http::limits::{Rate, Rates};
use followpoints::server::Bound;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::on_both;
use crate::support::wire::{self, WireAnswer};
use crate::support::{Options, TestApp};

const PATH: &str = "/loyalty-programs/v1/program";
/// Calls after which a limit must have been met, even on a machine that needs many seconds for them.
const CALLS_MAX: u32 = 1_000;

fn tight() -> Options {
    let rates = Rates {
        member: Rate { per_second: 1, burst: 3 },
        client: Rate { per_second: 1, burst: 60 },
        address: Rate { per_second: 1, burst: 5 },
    };
    Options { rates, ..Options::default() }
}

/// Calls until one is turned away, which must be said properly, and neither too late nor too soon.
async fn exhaust(app: &TestApp, auth: &str, burst: u32) {
    let started = Instant::now();
    for let_through in 0..CALLS_MAX {
        let answer = app.call("GET", PATH).auth(auth).send().await;
        if answer.status.as_u16() == 200 {
            continue;
        }
        let refilled = u32::try_from(started.elapsed().as_secs()).unwrap() + 1;
        assert!((burst..=burst + refilled).contains(&let_through), "{let_through} calls for {burst}");
        let description = "too many requests; slow down";
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (
                429,
                json!({"message": description, "details": {"applicationError": {
                    "code": "RESOURCE_EXHAUSTED", "description": description, "data": {},
                }}})
            )
        );
        assert_eq!(answer.headers["retry-after"], "1");
        return;
    }
    panic!("nobody was turned away");
}

on_both! {
    options: tight(),
    async fn a_caller_that_asks_too_much_is_turned_away_alone(app: &TestApp) {
        let site = app.site().await;
        let (one, two) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        let front_end = app.front_end(&site, &[]).await;
        let (visitor, _) = app.visitor(&front_end).await;
        let installed = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;
        let key = app.site_key(&site, crate::support::callers::READ).await;

        exhaust(app, &one.token, 3).await;
        exhaust(app, &two.token, 3).await;
        exhaust(app, &visitor, 3).await;
        exhaust(app, &token, 60).await;
        exhaust(app, &key.secret, 60).await;
    }
}

on_both! {
    options: tight(),
    async fn a_renewed_token_is_no_fresh_bucket(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let renewed = app.member(&site, "u-1").await;
        assert_eq!(member.id, renewed.id);
        let started = Instant::now();
        let mut let_through = 0;
        for _ in 0..30 {
            for token in [&member.token, &renewed.token] {
                let_through +=
                    u64::from(app.call("GET", PATH).auth(token).send().await.status.as_u16() == 200);
            }
        }
        let refilled = started.elapsed().as_secs() + 1;
        assert!((3..=3 + refilled).contains(&let_through), "{let_through} calls were let through");
    }
}

/// The service on a port, until the task is aborted: only what comes over a connection has an address.
async fn serve(app: &TestApp) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    let bound = Bound::new("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, served) = (bound.address(), app.app.clone());
    (address, tokio::spawn(async move { bound.serve(&served, std::future::pending()).await }))
}

async fn ask_for_token(from: IpAddr, to: SocketAddr, client: &str) -> WireAnswer {
    let body = json!({"grantType": "anonymous", "clientId": client}).to_string();
    let headers = ["content-type: application/json".to_owned()];
    wire::send_from(from, to, "POST /oauth2/token", &headers, &body).await
}

on_both! {
    options: tight(),
    async fn the_token_endpoint_counts_by_address(app: &TestApp) {
        let site = app.site().await;
        let front_end = app.front_end(&site, &[]).await;
        let (address, running) = serve(app).await;
        let (here, there) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into());

        let started = Instant::now();
        let mut turned_away = None;
        for let_through in 0..CALLS_MAX {
            let answer = ask_for_token(here, address, &front_end).await;
            if answer.status != 200 {
                let refilled = u32::try_from(started.elapsed().as_secs()).unwrap() + 1;
                assert!((5..=5 + refilled).contains(&let_through), "{let_through} calls");
                turned_away = Some(answer);
                break;
            }
        }
        let answer = turned_away.expect("somebody is turned away");
        assert_eq!(answer.status, 429);
        assert!(
            answer.head.contains("\r\nretry-after: 1\r\n") || answer.head.ends_with("\r\nretry-after: 1"),
            "{}",
            answer.head
        );
        assert_eq!(
            serde_json::from_str::<Value>(&answer.body).unwrap(),
            json!({
                "error": "temporarily_unavailable", "error_description": "too many token requests; slow down",
            })
        );
        assert_eq!(ask_for_token(there, address, &front_end).await.status, 200);
        // Other paths do not count by address.
        assert_eq!(wire::send(address, "GET /healthz", &[], "").await.status, 200);
        running.abort();
    }
}

on_both! {
    options: tight(),
    async fn what_cannot_be_read_counts_at_the_token_endpoint_too(app: &TestApp) {
        let (address, running) = serve(app).await;
        let headers = ["content-type: application/json".to_owned()];
        let mut statuses = Vec::new();
        for _ in 0..60 {
            statuses.push(wire::send(address, "POST /oauth2/token", &headers, "{").await.status);
        }
        assert!(statuses.starts_with(&[400; 5]) && statuses.contains(&429), "{statuses:?}");
        running.abort();
    }
}

on_both! {
    options: Options { trusted_proxies: "127.0.0.2", ..tight() },
    async fn behind_a_trusted_proxy_the_callers_of_the_proxy_count(app: &TestApp) {
        let site = app.site().await;
        let front_end = app.front_end(&site, &[]).await;
        let (address, running) = serve(app).await;
        let (stranger, proxy) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into());
        let body = json!({"grantType": "anonymous", "clientId": front_end}).to_string();
        let statuses = async |from: IpAddr, forwarded: &dyn Fn(u32) -> String| {
            let mut statuses = Vec::new();
            for number in 0..60 {
                let headers =
                    ["content-type: application/json".to_owned(), format!("x-forwarded-for: {}", forwarded(number))];
                statuses.push(wire::send_from(from, address, "POST /oauth2/token", &headers, &body).await.status);
            }
            statuses
        };

        let others = statuses(proxy, &|number| format!("198.51.100.{number}")).await;
        assert_eq!(others, [200; 60], "each has a bucket of its own");
        let one = statuses(proxy, &|number| format!("198.51.100.{number}, 203.0.113.7")).await;
        assert!(one.contains(&429), "what it says of itself does not count: {one:?}");
        let one = statuses(stranger, &|number| format!("203.0.113.{number}")).await;
        assert!(one.contains(&429), "nobody else is believed: {one:?}");
        running.abort();
    }
}

on_both! {
    options: tight(),
    async fn whoever_has_tokens_described_is_limited_apart(app: &TestApp) {
        let site = app.site().await;
        let front_end = app.front_end(&site, &[]).await;
        let (address, running) = serve(app).await;

        let headers = ["content-type: application/json".to_owned()];
        let body = json!({"token": "none"}).to_string();
        let mut turned_away = None;
        let mut let_through = 0;
        while turned_away.is_none() && let_through < CALLS_MAX {
            let answer = wire::send(address, "POST /oauth2/token-info", &headers, &body).await;
            if answer.status == 200 { let_through += 1 } else { turned_away = Some(answer) }
        }
        let answer = turned_away.expect("somebody is turned away");
        assert!(let_through >= 60, "only {let_through} calls");
        assert_eq!(answer.status, 429);
        assert!(answer.head.contains("\r\nretry-after: 1"), "{}", answer.head);
        assert_eq!(
            serde_json::from_str::<Value>(&answer.body).unwrap()["details"]["applicationError"]["code"],
            "RESOURCE_EXHAUSTED"
        );
        assert_eq!(ask_for_token(Ipv4Addr::LOCALHOST.into(), address, &front_end).await.status, 200);
        running.abort();
    }
}

#[test]
fn the_defaults_let_a_page_of_buttons_and_a_nightly_synchronisation_through() {
    assert_eq!(RATES_DEFAULT.member, Rate { per_second: 100, burst: 1_000 });
    assert_eq!(RATES_DEFAULT.client, Rate { per_second: 10_000, burst: 10_000 });
    assert_eq!(RATES_DEFAULT.address, Rate { per_second: 50, burst: 500 });
}
