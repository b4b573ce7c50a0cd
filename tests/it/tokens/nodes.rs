//! Two nodes on one cluster: what was taken away on one ends on the other too, as soon as it forgets what it remembers.

use followpoints::app::App;
use serde_json::json;

use super::PROGRAM;
use crate::support::callers::READ;
use crate::support::client::Client;
use crate::support::{ADMIN_KEY, Backend, Options, START, TestApp, TestDatabase, keys};

async fn status(node: &Client, secret: &str) -> u16 {
    node.call("GET", PROGRAM).auth(secret).send().await.status.as_u16()
}

/// A node, and the client of another one beside it; nothing where there is no PostgreSQL.
async fn two_nodes() -> Option<(TestApp, App)> {
    let database = TestDatabase::new(Backend::Postgres).await?;
    let first = TestApp::start(database, Options::default()).await;
    let second = App::start(&first.config, first.seams.clone()).await.unwrap();
    Some((first, second))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_key_and_a_removed_app_end_on_every_node_within_five_seconds() {
    let Some((first, second)) = two_nodes().await else { return };
    let node = Client::new(&second);
    let site = first.site().await;
    let key = first.site_key(&site, READ).await;
    let installed = first.installed_app(&site).await;
    let token = first.app_token(&installed).await;
    for secret in [&key.secret, &token] {
        assert_eq!(status(&node, secret).await, 200);
    }

    let of_key = format!("/admin/v1/api-keys/{}", key.id);
    first.call("DELETE", &of_key).key(ADMIN_KEY, &site.id).ok().await;
    let of_instance = format!("/admin/v1/app-instances/{}", installed.instance_id);
    first.call("DELETE", &of_instance).key(ADMIN_KEY, &site.id).ok().await;
    first.clock.advance_ms(5_000);

    for secret in [&key.secret, &token] {
        assert_eq!(status(&node, secret).await, 401);
    }
    second.stop().await;
    first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_one_node_are_good_on_the_other_and_issuers_are_forgotten_within_a_minute() {
    let Some((first, second)) = two_nodes().await else { return };
    let node = Client::new(&second);
    let site = first.site().await;
    let own = first.member(&site, "u-1").await.token;
    let change = |issuers: serde_json::Value| {
        let body = json!({"siteAuth": {"trustedIssuers": issuers}});
        let call = first.call("PATCH", "/admin/v1/site-auth").key(ADMIN_KEY, &site.id);
        async move { call.json(&body).ok().await }
    };
    change(json!([{"issuer": "https://id.example", "audience": "shop", "publicKeyPem": keys::ED_PUBLIC}]))
        .await;
    let now = START.0 / 1000;
    let claims = json!({"iss": "https://id.example", "aud": "shop", "sub": "u-1", "exp": now + 3_600});
    let token = keys::ed(keys::ED_PRIVATE).sign(&claims);
    for token in [&own, &token] {
        assert_eq!(status(&node, token).await, 200);
    }

    change(json!([])).await;
    first.clock.advance_ms(60_000);

    assert_eq!(status(&node, &token).await, 401);
    assert_eq!(status(&node, &own).await, 200);
    second.stop().await;
    first.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_is_known_and_forgotten_on_every_node_within_five_seconds() {
    let Some((first, second)) = two_nodes().await else { return };
    let node = Client::new(&second);
    let site = first.site().await;
    let is_shared = async || {
        let call = node.call("OPTIONS", PROGRAM).header("origin", "https://shop.example");
        let answer = call.header("access-control-request-method", "GET").send().await;
        answer.headers.contains_key("access-control-allow-origin")
    };
    assert!(!is_shared().await);
    let front_end = first.front_end(&site, &["https://shop.example"]).await;
    first.clock.advance_ms(4_999);
    assert!(!is_shared().await, "it does not ask for every request");
    first.clock.advance_ms(1);
    assert!(is_shared().await);
    let path = format!("/admin/v1/oauth-clients/{front_end}");
    first.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
    first.clock.advance_ms(5_000);
    assert!(!is_shared().await);
    second.stop().await;
    first.app.stop().await;
}
