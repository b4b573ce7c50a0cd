//! The handshake by which Meta looks whether a callback is ours.

use serde_json::Value;

use super::{FACEBOOK_LOGIN, INSTAGRAM_LOGIN, SIGNATURE, options, signature};
use crate::on_both;
use crate::support::{Options, TestApp};

async fn shake(app: &TestApp, path: &str, query: &str) -> (u16, String) {
    let answer = app.call("GET", &format!("{path}?{query}")).send().await;
    if answer.status.as_u16() == 200 {
        assert_eq!(answer.headers["content-type"], "text/plain");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    } else {
        assert!(answer.json()["details"].is_object(), "{}", answer.text);
    }
    (answer.status.as_u16(), answer.text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_of_a_handshake_is_answered_as_it_says() {
    let cases: Value =
        serde_json::from_str(include_str!("../payloads/instagram/verification_requests.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for token in ["test-verify-token", ""] {
        let database = crate::support::TestDatabase::new(crate::support::Backend::Sqlite).await.unwrap();
        let platforms = vec![("FOLLOWPOINTS_META_VERIFY_TOKEN", token.to_owned())];
        let app = TestApp::start(database, Options { platforms, ..Options::default() }).await;
        for case in cases.iter().filter(|case| case["verify_token"] == token) {
            let (status, body) = shake(&app, FACEBOOK_LOGIN, case["query"].as_str().unwrap()).await;
            assert_eq!(u64::from(status), case["status"].as_u64().unwrap(), "{case}: {body}");
            if let Some(expected) = case["body"].as_str() {
                assert_eq!(body, expected);
            }
        }
        app.app.stop().await;
    }
}

on_both! {
    options: options(),
    async fn each_flavour_has_its_own_verify_token(app: &TestApp) {
        let query = |token: &str| format!("hub.mode=subscribe&hub.challenge=11-a_B&hub.verify_token={token}&x=1");
        for (path, own, other) in [
            (FACEBOOK_LOGIN, "test-verify-token", "another-verify-token"),
            (INSTAGRAM_LOGIN, "another-verify-token", "test-verify-token"),
        ] {
            assert_eq!(shake(app, path, &query(own)).await, (200, "11-a_B".to_owned()));
            assert_eq!(shake(app, path, &query(other)).await.0, 403);
            assert_eq!(shake(app, path, &query("")).await.0, 403);
        }
        for query in [
            "",
            "hub.mode=subscribe&hub.verify_token=test-verify-token",
            "hub.challenge=1&hub.verify_token=test-verify-token",
            "hub.mode=subscribe&hub.challenge=1",
            "hub_mode=subscribe&hub_challenge=1&hub_verify_token=test-verify-token",
            "hub.mode=subscribe&hub.challenge=1&hub.challenge=2&hub.verify_token=test-verify-token",
            "hub.mode=subscribe&hub.challenge=&hub.verify_token=test-verify-token",
            "hub.mode=subscribe&hub.challenge=1%202&hub.verify_token=test-verify-token",
            "hub.mode=subscribe&hub.challenge=%00&hub.verify_token=test-verify-token",
            &format!("hub.mode=subscribe&hub.challenge={}&hub.verify_token=test-verify-token", "1".repeat(257)),
        ] {
            assert_eq!(shake(app, FACEBOOK_LOGIN, query).await.0, 400, "{query}");
        }
        let answer = app.call("PUT", FACEBOOK_LOGIN).send().await;
        assert_eq!(answer.error(), (405, "METHOD_NOT_ALLOWED".to_owned()));
    }
}

on_both! {
    options: Options { platforms: Vec::new(), ..Options::default() },
    async fn an_entrance_that_is_not_configured_is_closed_and_says_why(app: &TestApp) {
        for (path, names) in [
            (FACEBOOK_LOGIN, ["FOLLOWPOINTS_META_VERIFY_TOKEN", "FOLLOWPOINTS_META_APP_SECRETS"]),
            (
                INSTAGRAM_LOGIN,
                ["FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN", "FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS"],
            ),
        ] {
            let query = "hub.mode=subscribe&hub.challenge=1&hub.verify_token=";
            let get = app.call("GET", &format!("{path}?{query}")).send().await;
            let post =
                app.call("POST", path).header(SIGNATURE, &signature("", b"{}")).bytes("{}").send().await;
            for (answer, name) in [get, post].into_iter().zip(names) {
                assert_eq!(answer.error(), (403, "NOT_CONFIGURED".to_owned()));
                assert_eq!(answer.json()["message"], format!("this entrance is closed: {name} is not set"));
            }
        }
    }
}
