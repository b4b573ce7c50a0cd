//! The poller of tags: pages, the first reading, and that nothing is read or counted twice.

use entity::connection;
use entity::kinds::ItemStatus;
use followpoints::instagram::tags::SEEN_BEFORE;
use sea_orm::ActiveValue::Set;
use serde_json::{Value, json};

use super::stage::{Stage, properties, seen};
use crate::support::graph::{Fault, Graph, payload};
use crate::support::sources::insert;
use crate::support::{TestApp, brand, until};
use crate::{on_both, on_both_databases};

fn tag(number: usize) -> Value {
    json!({
        "id": format!("180{number:05}"), "caption": "New mug", "media_type": "IMAGE", "username": "anais.cafe",
        "permalink": format!("https://www.instagram.com/p/{number}/"), "timestamp": "2024-07-01T08:58:10+0000",
    })
}

fn tags(numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers.map(tag).collect()
}

impl Stage<'_> {
    /// Makes the connection due, `has_polled` as given, and reads its tags.
    async fn poll(&self, has_polled: bool) {
        let now = self.app.app.db.now();
        self.set(|row| {
            row.has_polled = Set(has_polled);
            row.poll_due_at = Set(now);
        })
        .await;
        self.app.app.tags.poll_due().await.unwrap();
    }

    /// Done with the reason of the first reading, and all others.
    async fn marked(&self) -> (usize, usize) {
        let inbox = self.inbox().await;
        let is_marked = |(_, status, reason): &&(String, ItemStatus, Option<String>)| {
            *status == ItemStatus::Done && reason.as_deref() == Some(SEEN_BEFORE)
        };
        let marked = inbox.iter().filter(is_marked).count();
        (marked, inbox.len() - marked)
    }
}

/// The pause between two readings unless the operator says otherwise.
const POLL_EVERY_MS: i64 = 10 * 60_000;
on_both! {
    options: Graph::options().await,
    async fn the_first_reading_marks_and_later_ones_tell_what_is_new(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.tags(tags(0..320));
        stage.poll(false).await;
        assert!(stage.connection().await.has_polled);
        assert_eq!(stage.marked().await, (320, 0));
        assert_eq!(stage.graph.calls_about("tags").len(), 8, "seven pages of fifty, and the empty one");
        stage.work().await;
        assert_eq!(stage.activities().await, []);
        // Two new ones come first, and nothing that was marked is told again.
        stage.graph.forget_calls();
        stage.graph.tags([tags(320..322), tags(0..320)].concat());
        app.clock.advance_ms(POLL_EVERY_MS);
        stage.poll(true).await;
        assert_eq!(stage.graph.calls_about("tags").len(), 5);
        assert_eq!(stage.marked().await, (320, 2));
        stage.work().await;
        let told: Vec<String> = stage.activities().await.into_iter().map(|(_, id, ..)| id).collect();
        assert_eq!(told.len(), 2);
        assert!(told.contains(&"18000320".to_owned()) && told.contains(&"18000321".to_owned()), "{told:?}");
        stage.poll(true).await;
        stage.work().await;
        assert_eq!(stage.activities().await.len(), 2);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_claim_moves_the_next_reading_ten_minutes_ahead(app: &TestApp) {
        let stage = Stage::new(app).await;
        let now = app.app.db.now();
        stage.poll(true).await;
        assert_eq!(stage.connection().await.poll_due_at, now.plus_ms(POLL_EVERY_MS));
        assert_eq!(stage.graph.calls_about("tags").len(), 1);
        app.clock.advance_ms(POLL_EVERY_MS - 1);
        app.app.tags.poll_due().await.unwrap();
        assert_eq!(stage.graph.calls_about("tags").len(), 1);
        app.clock.advance_ms(1);
        app.app.tags.poll_due().await.unwrap();
        assert_eq!(stage.graph.calls_about("tags").len(), 2);
    }
}

on_both! {
    options: Graph::options().await,
    async fn tags_that_cannot_be_stored_keep_no_others_waiting(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.tags(tags(0..3));
        let now = app.app.db.now();
        stage
            .set(|row| {
                row.has_polled = Set(false);
                row.poll_due_at = Set(now);
            })
            .await;
        // That its token is useless cannot be noted.
        app.break_table("connection", "BEFORE UPDATE", "NEW.dead_since IS NOT NULL").await;
        let other = connection::Model {
            token: Some(b"sealed under another key".to_vec()),
            poll_due_at: now.plus_ms(-1),
            ..brand::connection(app, stage.site_id(), "17841460998870009")
        };
        let tx = app.app.db.write().await.unwrap();
        insert(&tx, [other]).await;
        tx.commit().await.unwrap();
        assert_eq!(app.app.tags.poll_due().await.unwrap(), 3);
        assert_eq!(stage.marked().await, (3, 0));
    }
}

on_both! {
    options: Graph::options().await,
    async fn half_a_first_reading_marks_nothing(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.tags(tags(0..120));
        stage.poll(false).await;
        assert_eq!(stage.marked().await, (120, 0));
        let stage = stage.afresh().await;
        // The third page fails.
        stage.graph.tags(tags(200..320));
        stage.graph.fail_after("tags", 2, Fault::sample("graph_error_1_unknown.json"));
        stage.poll(false).await;
        assert!(!stage.connection().await.has_polled);
        assert_eq!(stage.marked().await, (120, 0), "what was read is not told as new either");
        stage.graph.recover();
        stage.poll(false).await;
        assert_eq!(stage.marked().await, (240, 0));
        // Later readings keep what they have.
        stage.graph.tags(tags(400..520));
        stage.graph.fail_after("tags", 2, Fault::sample("graph_error_1_unknown.json"));
        stage.poll(true).await;
        assert_eq!(stage.marked().await, (240, 100));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_tag_is_understood_without_a_lookup_of_its_own(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.tags(payload("graph_tags_page1.json")["data"].as_array().unwrap().clone());
        stage.poll(true).await;
        stage.work().await;
        let mut rows = stage.activity_rows().await;
        rows.sort_by(|one, other| one.external_id.cmp(&other.external_id));
        let found: Vec<Value> =
            rows.iter().map(|row| serde_json::from_str(&row.properties).unwrap()).collect();
        assert_eq!(found, [
            json!({
                "platform": "instagram", "caption": "New mug day", "mention_type": "tag", "media_type": "post",
                "media_url": "https://www.instagram.com/p/DQxAbCdEfGh/",
            }),
            json!({
                "platform": "instagram", "mention_type": "tag", "media_type": "reel",
                "media_url": "https://scontent.cdninstagram.com/o1/v/t16/f2/m86/DEF.mp4",
            }),
        ]);
        assert_eq!(rows[0].handle.as_deref(), Some("anais.cafe"));
        assert_eq!(rows[0].occurred_at.to_rfc3339(), "2026-11-18T08:58:10.000Z");
        // The brand's own media.
        let own = json!({"id": "5", "username": "nordbrew.coffee"});
        stage.graph.tags(vec![own, json!({"caption": "without an id"})]);
        stage.poll(true).await;
        stage.work().await;
        assert_eq!(stage.activity_rows().await.len(), 2);
        let inbox = stage.inbox().await;
        let own = inbox.iter().find(|(key, ..)| key == "tag:5").unwrap();
        assert_eq!(own.2.as_deref(), Some("the brand posted it itself"));
    }
}

on_both! {
    options: Graph::options().await,
    async fn one_medium_is_one_thing_whether_mentioned_or_tagged(app: &TestApp) {
        let stage = Stage::new(app).await;
        let mention = stage.sighting("webhook_mentions_caption.json").await;
        let tag = json!({"id": "18055512345678901", "username": "mia.runs.oslo", "media_type": "IMAGE"});
        let mut things = stage.things("webhook_mentions_caption.json");
        (things[0].kind, things[0].payload) = ("tag".to_owned(), tag.to_string());
        let tagged = seen(stage.fates(things).await.remove(0));
        assert_eq!(properties(&tagged)["mention_type"], "tag");
        assert_eq!(tagged.source, "INSTAGRAM_TAG");
        assert_eq!(tagged.activity.unwrap().external_id, mention.activity.unwrap().external_id);
    }
}

on_both! {
    options: Graph::options().await,
    async fn dead_and_limited_connections_are_left_alone_and_refusals_are_noted(app: &TestApp) {
        let stage = Stage::new(app).await;
        let now = app.app.db.now();
        stage.set(|row| row.dead_since = Set(Some(now))).await;
        stage.poll(true).await;
        stage.set(|row| {
            row.dead_since = Set(None);
            row.limited_until = Set(Some(now.plus_ms(1)));
        })
        .await;
        stage.poll(true).await;
        assert!(stage.graph.calls().is_empty());
        stage.set(|row| row.limited_until = Set(None)).await;
        stage.graph.fail("tags", Some(1), Fault::sample("graph_error_190_app_removed.json"));
        stage.poll(true).await;
        let row = stage.connection().await;
        assert_eq!(row.dead_since, Some(now));
        assert_eq!(
            row.problem.as_deref(),
            Some("Instagram no longer accepts the token (code 190/458: the app was removed); reconnect the account")
        );
    }
}

impl<'a> Stage<'a> {
    /// The same as if it had never been read.
    async fn afresh(self) -> Stage<'a> {
        self.set(|row| row.has_polled = Set(false)).await;
        self
    }
}

on_both! {
    options: {
        let mut options = Graph::options().await;
        options.platforms.push(("FOLLOWPOINTS_META_TAGS_MINUTES", "3".to_owned()));
        options
    },
    async fn the_operator_says_how_often_tags_are_read(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.set(|row| row.poll_due_at = Set(app.app.db.now())).await;
        app.app.tags.poll_due().await.unwrap();
        assert_eq!(stage.connection().await.poll_due_at, app.app.db.now().plus_ms(3 * 60_000));
    }
}

on_both_databases! {
    async fn tags_are_read_by_themselves(database: TestDatabase) {
        let app = TestApp::start_apart_with(database, Graph::options().await).await;
        let stage = Stage::new(&app).await;
        stage.graph.tags(tags(0..1));
        let now = app.app.db.now();
        stage
            .set(|row| {
                row.has_polled = Set(true);
                row.poll_due_at = Set(now);
            })
            .await;
        let Stage { graph, site, .. } = stage;
        let app = app.restart_at_work().await;
        let stage = Stage { app: &app, graph, site };
        let told = until("the tag becomes an activity", async || stage.activities().await.pop()).await;
        assert_eq!((told.0.as_str(), told.1.as_str()), ("MENTIONED_YOU_SOCIAL", "18000000"));
        app.app.stop().await;
    }
}
