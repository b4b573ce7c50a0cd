//! What the metrics tell of platforms: what waits, and what came in.

use entity::kinds::{ItemStatus, Platform};
use followpoints::inbox::{self, NewItem, Settled};
use followpoints::rows;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::on_both;
use crate::support::{ADMIN_KEY, TestApp};

/// The lines of the metrics that begin with `name`.
async fn metrics(app: &TestApp, name: &str) -> Vec<String> {
    let text = app.call("GET", "/metrics").send().await.text;
    text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

fn item(key: &str) -> NewItem {
    NewItem {
        platform: Platform::Tiktok,
        account: "account".to_owned(),
        key: key.to_owned(),
        kind: "message".to_owned(),
        person: None,
        handle: None,
        site: None,
        occurred_at: None,
        payload: "{}".to_owned(),
    }
}

on_both! {
    async fn what_waits_of_each_platform_is_counted_with_the_age_of_the_oldest(app: &TestApp) {
        let nothing = [
            "followpoints_inbox_waiting{platform=\"INSTAGRAM\"} 0",
            "followpoints_inbox_waiting{platform=\"TIKTOK\"} 0",
        ];
        assert_eq!(metrics(app, "followpoints_inbox_waiting{").await, nothing);
        let oldest = "followpoints_inbox_oldest_due_seconds ";
        assert_eq!(metrics(app, oldest).await, ["followpoints_inbox_oldest_due_seconds 0"]);

        let later = app.app.db.now().plus_ms(60_000);
        let tx = app.app.db.write().await.unwrap();
        let stored = inbox::add(&tx, &["first", "second", "parked", "done"].map(item)).await.unwrap();
        let settled: Vec<_> = stored
            .new
            .iter()
            .map(|(key, id)| Settled {
                id: *id,
                site: None,
                handle: None,
                status: match key.as_str() {
                    "parked" => ItemStatus::Parked,
                    "done" => ItemStatus::Done,
                    _ => ItemStatus::Waiting,
                },
                reason: None,
                due_at: later,
                expires_at: None,
            })
            .collect();
        rows::write_all(tx.conn(), vec![inbox::settle(&settled)]).await.unwrap();
        tx.commit().await.unwrap();
        let two = [nothing[0], "followpoints_inbox_waiting{platform=\"TIKTOK\"} 2"];
        assert_eq!(metrics(app, "followpoints_inbox_waiting{").await, two);
        assert_eq!(metrics(app, oldest).await, ["followpoints_inbox_oldest_due_seconds 0"], "it is not due");

        // Whoever would take them has to wait.
        let tx = app.app.db.write().await.unwrap();
        tx.conn().execute_unprepared("UPDATE item SET attempts = attempts").await.unwrap();
        app.clock.advance_ms(90_000);
        assert_eq!(metrics(app, oldest).await, ["followpoints_inbox_oldest_due_seconds 30"]);
        drop(tx);
    }
}

on_both! {
    async fn calls_of_platforms_and_providers_are_counted_by_entrance_and_outcome(app: &TestApp) {
        let site = app.site().await;
        let push = |key: &'static str| app.call("POST", "/ingest/tiktok/posts").key(key, &site.id).json(&json!({"items": [{}]}));
        push(ADMIN_KEY).ok().await;
        push(ADMIN_KEY).ok().await;
        assert_eq!(push("another-admin-key-0123456789").send().await.status.as_u16(), 401);
        for entrance in ["tiktok/webhook", "tiktok/business-webhook", "instagram/facebook-login", "instagram/instagram-login"] {
            let call = app.call("POST", &format!("/ingest/{entrance}")).text("application/json", "{}");
            assert_eq!(call.send().await.status.as_u16(), 403, "{entrance}");
        }
        let counted = [
            r#"followpoints_ingest_total{outcome="accepted",source="tiktok/posts"} 2"#,
            r#"followpoints_ingest_total{outcome="refused",source="instagram/facebook-login"} 1"#,
            r#"followpoints_ingest_total{outcome="refused",source="instagram/instagram-login"} 1"#,
            r#"followpoints_ingest_total{outcome="refused",source="tiktok/business-webhook"} 1"#,
            r#"followpoints_ingest_total{outcome="refused",source="tiktok/posts"} 1"#,
            r#"followpoints_ingest_total{outcome="refused",source="tiktok/webhook"} 1"#,
        ];
        assert_eq!(sorted(metrics(app, "followpoints_ingest_total").await), counted);
        app.app.db.close().await.unwrap();
        assert!(push(ADMIN_KEY).send().await.status.is_server_error());
        let busy = r#"followpoints_ingest_total{outcome="busy",source="tiktok/posts"} 1"#;
        assert!(metrics(app, "followpoints_ingest_total").await.iter().any(|line| line == busy));
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

on_both! {
    async fn routes_that_are_no_part_of_the_document_have_names_too(app: &TestApp) {
        for (path, status, name) in [
            ("/docs", 200, "getDocs"),
            ("/ingest/instagram/facebook-login", 403, "verifyFacebookLoginCallback"),
            ("/ingest/instagram/instagram-login", 403, "verifyInstagramLoginCallback"),
            ("/connect/nothing", 404, "showConnectionInvitation"),
            ("/connect/callback/facebook", 400, "finishConnecting"),
            ("/connect/tiktok/callback", 400, "returnFromTiktokLogin"),
            ("/privacy/deletion", 404, "showDeletion"),
        ] {
            assert_eq!(app.call("GET", path).send().await.status.as_u16(), status, "{path}");
            let counted = format!(r#"followpoints_http_requests_total{{operation="{name}",status="{status}"}}"#);
            assert_eq!(metrics(app, &counted).await, [format!("{counted} 1")], "{path}");
        }
        let unnamed = r#"followpoints_http_requests_total{operation="none""#;
        assert_eq!(metrics(app, unnamed).await, [""; 0]);
    }
}
