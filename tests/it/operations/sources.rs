//! What the metrics tell of platforms: what waits, and what came in.

use entity::kinds::{ItemStatus, Platform};
use followpoints::inbox::{self, NewItem, Settled};
use followpoints::rows;
use sea_orm::ConnectionTrait as _;

use crate::on_both;
use crate::support::TestApp;

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
