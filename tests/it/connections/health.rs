//! Looking after connections: what the platform says about them, and tokens renewed before they end.

use entity::connection;
use entity::kinds::ConnectionLogin;
use followpoints::connections::TOKEN_PURPOSE;
use serde_json::json;

use super::Browser;
use crate::support::graph::{BRAND, Fault, Graph, INSTAGRAM_TOKEN, PAGE, PAGE_TOKEN};
use crate::support::world::Site;
use crate::support::{TestApp, until};
use crate::{on_both, on_both_databases};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Looks after what is due; says how many those were.
async fn check(app: &TestApp) -> usize {
    app.app.connections.check_due().await.unwrap()
}

/// A connection of Instagram Login with a token that was given so long ago and ends so long from now.
async fn instagram(app: &TestApp, site: &Site, age_ms: i64, left_ms: i64) -> connection::Model {
    let mut row = app.blank_connection(site, BRAND);
    let now = row.created_at;
    row.login = ConnectionLogin::Instagram;
    row.page_id = None;
    row.token = Some(app.app.sealer.seal(TOKEN_PURPOSE, INSTAGRAM_TOKEN.as_bytes()).unwrap());
    row.token_issued_at = Some(now.plus_ms(-age_ms));
    row.token_expires_at = Some(now.plus_ms(left_ms));
    app.store(row).await
}

on_both! {
    options: Graph::options().await,
    async fn a_connection_is_looked_after_every_hour(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        graph.forget_calls();
        app.clock.advance_ms(HOUR_MS - 1);
        assert_eq!(check(app).await, 0);
        app.clock.advance_ms(1);
        assert_eq!(check(app).await, 1);
        // Its tags are read too, now and then.
        let asked = graph.calls_about("subscribed_apps");
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", "104500112233445/subscribed_apps"));
        assert_eq!(asked[0].token.as_deref(), Some(PAGE_TOKEN));
        assert_eq!(check(app).await, 0);
        // Several nodes look at once; one of them finds it.
        app.clock.advance_ms(HOUR_MS);
        let looks = futures_util::future::join_all((0..4).map(|_| check(app))).await;
        assert_eq!(looks.iter().sum::<usize>(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_subscription_that_was_lost_is_made_again(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let mut row = app.blank_connection(&site, BRAND);
        row.token = Some(app.app.sealer.seal(TOKEN_PURPOSE, PAGE_TOKEN.as_bytes()).unwrap());
        app.store(row).await;
        assert_eq!(graph.subscribed(PAGE), None);
        assert_eq!(check(app).await, 1);
        assert_eq!(graph.subscribed(PAGE), Some(vec!["feed".to_owned()]));
    }
}

on_both_databases! {
    async fn connections_are_looked_after_by_themselves(database: TestDatabase) {
        let app = TestApp::start_apart_with(database, Graph::options().await).await;
        let (graph, site) = (Graph::of(&app), app.site().await);
        let mut row = app.blank_connection(&site, BRAND);
        row.token = Some(app.app.sealer.seal(TOKEN_PURPOSE, PAGE_TOKEN.as_bytes()).unwrap());
        app.store(row).await;
        assert_eq!(graph.subscribed(PAGE), None);
        let app = app.restart_at_work().await;
        let fields = until("the lost subscription is made again", async || graph.subscribed(PAGE)).await;
        assert_eq!(fields, ["feed"]);
        app.app.stop().await;
    }
}

on_both! {
    options: Graph::options().await,
    async fn what_the_platform_says_becomes_the_state_and_what_is_well_again_ends_it(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        for (fault, state, problem) in [
            (Fault::answer(502, "<html>"), "CONNECTED", Some("cannot be reached at the moment")),
            (Fault::code(400, 100, 0), "CONNECTED", Some("refused the request (code 100)")),
            (Fault::sample("graph_error_10_permission.json"), "PERMISSION_MISSING", Some("permission is missing (code 10)")),
        ] {
            app.clock.advance_ms(HOUR_MS);
            graph.fail("subscribed_apps", Some(1), fault);
            assert_eq!(check(app).await, 1);
            let shown = app.connections(&site).await.remove(0);
            assert_eq!(shown["state"], state);
            assert!(shown["problem"].as_str().unwrap().contains(problem.unwrap()), "{shown}");
            app.clock.advance_ms(HOUR_MS);
            assert_eq!(check(app).await, 1);
            let shown = app.connections(&site).await.remove(0);
            assert_eq!((&shown["state"], shown.get("problem")), (&json!("CONNECTED"), None));
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_platform_that_wants_fewer_calls_is_left_alone_as_long_as_it_says(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        let usage = json!({BRAND: [{"type": "instagram", "call_count": 97, "estimated_time_to_regain_access": 150}]});
        graph.header("X-Business-Use-Case-Usage", &usage.to_string());
        graph.fail("subscribed_apps", Some(1), Fault::sample("graph_error_32_page_rate_limit.json"));
        app.clock.advance_ms(HOUR_MS);
        check(app).await;
        graph.no_headers();
        graph.forget_calls();
        let shown = app.connections(&site).await.remove(0);
        assert_eq!(shown["state"], "RATE_LIMITED");
        assert_eq!(shown["limitedUntilDate"], "2024-08-01T15:21:41.431Z", "150 minutes later");
        for _ in 0..2 {
            app.clock.advance_ms(HOUR_MS);
            assert_eq!(check(app).await, 1);
        }
        assert!(graph.calls().is_empty(), "nothing is asked before");
        app.clock.advance_ms(HOUR_MS);
        assert_eq!(check(app).await, 1);
        assert_eq!(graph.calls_about("subscribed_apps").len(), 1);
        let shown = app.connections(&site).await.remove(0);
        assert_eq!((&shown["state"], shown.get("limitedUntilDate")), (&json!("CONNECTED"), None));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_token_that_is_refused_ends_the_connection_until_somebody_logs_in(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        graph.kill(PAGE_TOKEN, 458);
        app.clock.advance_ms(HOUR_MS);
        assert_eq!(check(app).await, 1);
        let stored = app.stored_connections().await.remove(0);
        assert_eq!((stored.token, stored.dead_since), (None, Some(app.app.db.now())));
        assert_eq!(app.connections(&site).await[0]["state"], "REVOKED");
        app.clock.advance_ms(DAY_MS);
        assert_eq!(check(app).await, 0, "it is not asked about again");
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_token_of_instagram_login_is_renewed_weekly(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        instagram(app, &site, 7 * DAY_MS - 1, 53 * DAY_MS).await;
        check(app).await;
        assert_eq!(graph.calls_about("refresh_access_token").len(), 0);
        app.clock.advance_ms(HOUR_MS);
        check(app).await;
        assert_eq!(graph.calls_about("refresh_access_token").len(), 1);
        let renewed = app.stored_connections().await.remove(0);
        let token = app.token_of(&renewed).unwrap();
        assert!(token.starts_with("IGAA-long-"), "{token}");
        assert_eq!(renewed.token_issued_at, Some(app.app.db.now()));
        assert_eq!(renewed.token_expires_at, Some(app.app.db.now().plus_ms(5_183_944_000)));
        let asked = graph.calls_about("subscribed_apps");
        assert_eq!(asked.last().unwrap().token.as_deref(), Some(token.as_str()), "the new one is used at once");
        app.clock.advance_ms(6 * DAY_MS);
        check(app).await;
        assert_eq!(graph.calls_about("refresh_access_token").len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_token_is_never_renewed_in_its_first_day_nor_after_its_end(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        instagram(app, &site, DAY_MS - 1, DAY_MS).await;
        check(app).await;
        assert_eq!(graph.calls_about("refresh_access_token").len(), 0, "the platform would refuse");
        assert_eq!(app.connections(&site).await[0]["state"], "TOKEN_EXPIRING");
        app.clock.advance_ms(DAY_MS);
        check(app).await;
        assert_eq!(graph.calls_about("refresh_access_token").len(), 0, "only a new login helps");
        assert_eq!(app.connections(&site).await[0]["state"], "REVOKED");
    }
}

on_both! {
    options: Graph::options().await,
    async fn g6_a_new_token_is_stored_before_it_is_used(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        instagram(app, &site, 8 * DAY_MS, 52 * DAY_MS).await;
        // Whatever is done with the new token does not come to an end.
        graph.fail("subscribed_apps", None, Fault::Hang);
        let look = {
            let connections = app.app.connections.clone();
            tokio::spawn(async move { connections.check_due().await })
        };
        let used = async {
            while graph.calls_about("subscribed_apps").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::ENOUGH, used).await.expect("the new token is used");
        let stored = app.token_of(&app.stored_connections().await[0]).unwrap();
        look.abort();
        assert_ne!(stored, INSTAGRAM_TOKEN);
        assert_eq!(graph.calls_about("subscribed_apps")[0].token.as_deref(), Some(stored.as_str()));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_login_meanwhile_outweighs_what_a_look_finds(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let mut row = app.blank_connection(&site, BRAND);
        row.token = Some(app.app.sealer.seal(TOKEN_PURPOSE, b"EAAP-old").unwrap());
        app.store(row).await;
        // The old token is refused while somebody connects the account anew.
        graph.fail("subscribed_apps", Some(1), Fault::Hang);
        let look = {
            let connections = app.app.connections.clone();
            tokio::spawn(async move { connections.check_due().await })
        };
        let asked = async {
            while graph.calls_about("subscribed_apps").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::ENOUGH, asked).await.expect("the old token is used");
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        look.await.unwrap().unwrap();
        let stored = app.stored_connections().await.remove(0);
        assert_eq!(app.token_of(&stored).as_deref(), Some(PAGE_TOKEN));
        assert_eq!((stored.problem, stored.dead_since), (None, None));
    }
}
