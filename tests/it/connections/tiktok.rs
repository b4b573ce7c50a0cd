//! A brand's account at `TikTok`, by API for Business.

use entity::connection;
use entity::kinds::{ConnectionLogin, Platform};
use followpoints::connections::REFRESH_PURPOSE;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Browser, parameter};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::{Options, TestApp};

const APP_ID: &str = "7400000000000000001";
const SECRET: &str = "tiktok-business-secret-0123456789";
const HOUR_MS: i64 = 3_600_000;

fn options() -> Options {
    let mut options = Options::default();
    for (name, text) in
        [("FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID", APP_ID), ("FOLLOWPOINTS_TIKTOK_BUSINESS_SECRETS", SECRET)]
    {
        options.platforms.retain(|(known, _)| *known != name);
        options.platforms.push((name, text.to_owned()));
    }
    options
}

/// The options with `TikTok` at `receiver`.
fn at(receiver: &Receiver) -> Options {
    let mut options = options();
    options.platforms.retain(|(known, _)| *known != "FOLLOWPOINTS_TIKTOK_BUSINESS_URL");
    let url = receiver.url.trim_end_matches("/hook").to_owned();
    options.platforms.push(("FOLLOWPOINTS_TIKTOK_BUSINESS_URL", url));
    options
}

fn tokens() -> Value {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/payloads/tiktok");
    let text = std::fs::read_to_string(folder.join("business_oauth_token.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn says(answer: &Value) -> Reply {
    Reply::status(200).header("content-type", "application/json").body(answer.to_string())
}

async fn started(backend: crate::support::Backend) -> Option<(TestApp, Receiver)> {
    let database = crate::support::TestDatabase::new(backend).await?;
    let tiktok = Receiver::start().await;
    let app = TestApp::start(database, at(&tiktok)).await;
    Some((app, tiktok))
}

async fn connects_and_renews(backend: crate::support::Backend) {
    let Some((app, tiktok)) = started(backend).await else { return };
    let site = app.site().await;
    let invitation = app.invite(&site, "TIKTOK_BUSINESS").await;
    let browser = Browser::new(&app);
    let dialog = browser.begin(&invitation).await;
    assert!(dialog.starts_with("https://www.tiktok.com/v2/auth/authorize/?"), "{dialog}");
    assert_eq!(parameter(&dialog, "client_key").unwrap(), APP_ID);
    assert!(parameter(&dialog, "scope").unwrap().contains("biz.brand.insights"));
    let redirect = parameter(&dialog, "redirect_uri").unwrap();
    assert_eq!(redirect, "http://127.0.0.1/connect/callback/tiktok");
    let state = parameter(&dialog, "state").unwrap();

    tiktok.answer([says(&tokens())]);
    let done = browser.get(&format!("/connect/callback/tiktok?code=abc%2A%21&scopes=x&state={state}")).await;
    assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
    let asked = tiktok.received().remove(0);
    assert_eq!(asked.path, "/open_api/v1.3/tt_user/oauth2/token/");
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(
        body,
        json!({
            "client_id": APP_ID, "client_secret": SECRET, "grant_type": "authorization_code",
            "auth_code": "abc*!", "redirect_uri": redirect,
        })
    );
    let stored = app.stored_connections().await.remove(0);
    assert_eq!(stored.external_id, "bizopen_8LRRn1ZpYGVLUJnFrpbhVCXh");
    assert_eq!(app.token_of(&stored).unwrap(), tokens()["data"]["access_token"]);
    assert_eq!(app.refresh_token_of(&stored).unwrap(), tokens()["data"]["refresh_token"]);
    assert_eq!(stored.token_expires_at, Some(app.app.db.now().plus_ms(24 * HOUR_MS)));
    let shown = app.connections(&site).await.remove(0);
    assert_eq!((&shown["platform"], &shown["login"]), (&json!("TIKTOK"), &json!("TIKTOK_BUSINESS")));
    assert_eq!(shown["state"], "CONNECTED", "a day is enough where it is renewed by itself");

    // Renewed half a day before its end, with the refresh token that the last answer gave.
    let mut expected = tokens()["data"]["refresh_token"].as_str().unwrap().to_owned();
    for round in 0..2 {
        app.clock.advance_ms(11 * HOUR_MS);
        app.app.connections.check_due().await.unwrap();
        assert_eq!(tiktok.count(), 1 + round);
        app.clock.advance_ms(HOUR_MS);
        let mut new = tokens();
        new["data"]["access_token"] = json!(format!("act.NEW-{round}"));
        new["data"]["refresh_token"] = json!(format!("rft.NEW-{round}"));
        tiktok.answer([says(&new)]);
        app.app.connections.check_due().await.unwrap();
        let asked = tiktok.received().pop().unwrap();
        assert_eq!(asked.path, "/open_api/v1.3/tt_user/oauth2/refresh_token/");
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(
            (&body["grant_type"], &body["refresh_token"]),
            (&json!("refresh_token"), &json!(expected))
        );
        let stored = app.stored_connections().await.remove(0);
        expected = format!("rft.NEW-{round}");
        assert_eq!(app.token_of(&stored).unwrap(), format!("act.NEW-{round}"));
        assert_eq!(app.refresh_token_of(&stored).unwrap(), expected);
    }
    // Errors come with status 200.
    app.clock.advance_ms(12 * HOUR_MS);
    tiktok.answer([says(&json!({"code": 40100, "message": "too fast", "data": {}}))]);
    app.app.connections.check_due().await.unwrap();
    assert_eq!(app.connections(&site).await[0]["state"], "RATE_LIMITED");
    app.clock.advance_ms(HOUR_MS);
    tiktok.answer([says(&json!({"code": 40105, "message": "revoked", "data": {}}))]);
    app.app.connections.check_due().await.unwrap();
    assert_eq!(app.connections(&site).await[0]["state"], "REVOKED");
    let stored = app.stored_connections().await.remove(0);
    assert_eq!((stored.token, stored.refresh_token), (None, None));
    app.app.stop().await;
}

mod the_account_is_connected_and_its_token_renewed {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        super::connects_and_renews(crate::support::Backend::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        super::connects_and_renews(crate::support::Backend::Postgres).await;
    }
}

async fn renews_once(backend: crate::support::Backend) {
    let Some((app, tiktok)) = started(backend).await else { return };
    let site = app.site().await;
    let now = app.app.db.now();
    app.store(connection::Model {
        platform: Platform::Tiktok,
        login: ConnectionLogin::TiktokBusiness,
        page_id: None,
        owner_id: None,
        refresh_token: Some(app.app.sealer.seal(REFRESH_PURPOSE, b"rft.once").unwrap()),
        token_expires_at: Some(now.plus_ms(HOUR_MS)),
        ..app.blank_connection(&site, "bizopen_8LRRn1ZpYGVLUJnFrpbhVCXh")
    })
    .await;
    tiktok.answer([says(&tokens())]);
    let node = || app.app.connections.clone();
    let looks = join_all((0..8).map(|_| async move { node().check_due().await.unwrap() })).await;
    assert_eq!((looks.iter().sum::<usize>(), tiktok.count()), (1, 1), "{looks:?}");
    let stored = app.stored_connections().await.remove(0);
    assert_eq!(app.refresh_token_of(&stored).unwrap(), tokens()["data"]["refresh_token"]);
    app.app.stop().await;
}

/// A refresh token works once.
mod of_nodes_that_look_at_once_one_renews_the_token {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        super::renews_once(crate::support::Backend::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        super::renews_once(crate::support::Backend::Postgres).await;
    }
}

on_both! {
    options: options(),
    async fn a_platform_that_does_not_answer_fails_the_login(app: &TestApp) {
        let site = app.site().await;
        let invitation = app.invite(&site, "TIKTOK_BUSINESS").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let state = parameter(&dialog, "state").unwrap();
        let failed = browser.get(&format!("/connect/callback/tiktok?code=abc&state={state}")).await;
        assert!(failed.text.contains("cannot be reached at the moment"), "{}", failed.text);
        assert_eq!(app.invited(&site, &invitation).await["status"], "FAILED");
    }
}
