//! What the log tells an operator of calls that were refused.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};

use super::{Sandbox, Serving};
use crate::support::process::Http;

#[tokio::test]
async fn g8_calls_of_platforms_that_are_refused_are_in_the_log_without_what_they_said() {
    let mut sandbox = Sandbox::new();
    sandbox
        .set("FOLLOWPOINTS_META_VERIFY_TOKEN", "expected-hunter1")
        .set("FOLLOWPOINTS_META_APP_ID", "1122334455667788")
        .set("FOLLOWPOINTS_META_APP_SECRETS", "hunter3-hunter3-hunter3");
    let mut child = sandbox.spawn(&["serve"]);
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut next = |message: &str| {
        let entries = log.by_ref().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        entries.into_iter().find(|entry| entry["message"] == message).expect("it ended")
    };
    let mut serving = Serving { child, url: String::new() };
    serving.url = format!("http://{}", next("serving")["address"].as_str().unwrap());
    for (method, path, header, message, source, error) in [
        (
            "GET",
            "/ingest/instagram/facebook-login?hub.mode=subscribe&hub.verify_token=hunter2&hub.challenge=1",
            "x-nothing",
            "the callback was not verified",
            "instagram/facebook-login",
            "hub.verify_token is not the one that is configured",
        ),
        (
            "GET",
            "/ingest/instagram/instagram-login",
            "x-nothing",
            "the callback was not verified",
            "instagram/instagram-login",
            "this entrance is closed: FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN is not set",
        ),
        (
            "POST",
            "/ingest/tiktok/webhook",
            "x-nothing",
            "a webhook was refused",
            "tiktok/webhook",
            "TikTok-Signature is not t=<seconds>,s=<64 hexadecimal digits>",
        ),
        (
            "POST",
            "/ingest/tiktok/posts",
            "tiktok-signature",
            "a webhook was refused",
            "tiktok/posts",
            "TikTok-Signature is not t=<seconds>,s=<64 hexadecimal digits>",
        ),
    ] {
        let url = format!("{}{path}", serving.url);
        let body = (method == "POST").then(|| json!({"items": []}));
        let answer = Http::new().send((method, &url), &[(header, "hunter2")], body.as_ref()).await.unwrap();
        assert_eq!(answer.0, 403, "{path}");
        let entry = next(message);
        assert_eq!((&entry["level"], &entry["source"]), (&json!("WARN"), &json!(source)), "{entry}");
        assert_eq!(entry["error"], error, "{entry}");
        assert!(!entry.to_string().contains("hunter"), "{entry}");
    }
}
