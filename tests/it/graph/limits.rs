//! The limits of calls: what answers say of them is obeyed, and a storm of refusals settles by itself.

use entity::kinds::ItemStatus;
use serde_json::{Value, json};

use super::stage::{Stage, caption_mention, later, message, seen};
use crate::on_both;
use crate::support::graph::{BRAND, Fault, Graph, payload};

const MINUTE: i64 = 60_000;

/// `X-Business-Use-Case-Usage` with quoted numbers, as some senders have them.
fn usage(percent: i64, minutes: i64) -> String {
    json!({BRAND: [{
        "type": "instagram", "call_count": percent.to_string(), "total_time": 3,
        "estimated_time_to_regain_access": minutes.to_string(),
    }]})
    .to_string()
}

on_both! {
    options: Graph::options().await,
    async fn at_ninety_five_percent_nothing_is_called_until_access_comes_back(app: &TestApp) {
        let stage = Stage::new(app).await;
        let headers = payload("graph_rate_limit_headers.json");
        for name in ["X-App-Usage", "X-Business-Use-Case-Usage"] {
            stage.graph.header(name, headers[name].as_str().unwrap());
        }
        let now = app.app.db.now();
        // The answer itself counts.
        seen(stage.fate("webhook_message_text.json").await);
        assert_eq!(stage.connection().await.limited_until, Some(now.plus_ms(19 * MINUTE)));
        app.clock.advance_ms(MINUTE);
        let fate = stage.fate("webhook_message_text.json").await;
        assert_eq!(later(&fate), ("Instagram wants fewer calls for a while", 18 * MINUTE));
        assert_eq!(stage.graph.calls().len(), 1);
        stage.graph.no_headers();
        app.clock.advance_ms(18 * MINUTE);
        seen(stage.fate("webhook_message_text.json").await);
        assert_eq!(stage.graph.calls().len(), 2);
    }
}

on_both! {
    options: Graph::options().await,
    async fn at_eighty_percent_calls_are_spread_over_time(app: &TestApp) {
        let stage = Stage::new(app).await;
        // Known from here on: one call is enough for a mention.
        seen(stage.fate("webhook_mentions_caption.json").await);
        stage.graph.header("X-Business-Use-Case-Usage", &usage(80, 0));
        seen(stage.fate("webhook_message_text.json").await);
        let mentions: Vec<Value> = (0..4).map(|number| caption_mention(&number.to_string())).collect();
        let things = mentions.iter().flat_map(|body| stage.things_of(body)).collect();
        let mut waits: Vec<i64> = Vec::new();
        for fate in stage.fates(things).await {
            if let followpoints::activities::Fate::Later { after_ms, reason, .. } = fate {
                assert_eq!(reason, "calls of Instagram are spread over time, as its limit is near");
                waits.push(after_ms);
            }
        }
        waits.sort_unstable();
        // One of the four was asked for, and for each of the others there is a time of its own.
        assert_eq!(waits, [10_000, 15_000, 20_000]);
        assert_eq!(stage.connection().await.limited_until, None);
        stage.graph.header("X-Business-Use-Case-Usage", &usage(79, 0));
        app.clock.advance_ms(10_000);
        seen(stage.fate("webhook_message_text.json").await);
        seen(stage.fate("webhook_message_text.json").await);
    }
}

on_both! {
    options: Graph::options().await,
    async fn the_named_time_is_kept_although_the_service_restarts(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.header("X-Business-Use-Case-Usage", &usage(100, 7));
        stage.graph.fail("mentioned_media", Some(1), Fault::code(400, 80002, 0));
        let now = app.app.db.now();
        let fate = stage.fate("webhook_mentions_caption.json").await;
        assert_eq!(later(&fate).1, 7 * MINUTE);
        assert_eq!(stage.connection().await.limited_until, Some(now.plus_ms(7 * MINUTE)));
        stage.graph.no_headers();
        // Another node knows it from the database only.
        let platforms = app.config.platforms.meta.clone();
        let graph = followpoints::instagram::graph::Graph::new(app.app.client.clone(), platforms, app.clock.clone());
        let (db, sealer) = (app.app.db.clone(), app.app.sealer.clone());
        let other = followpoints::instagram::understand::Instagram::new(db, sealer, graph);
        let things = stage.things("webhook_mentions_caption.json");
        let understood = followpoints::sources::Understand::understand(&other, things).await.unwrap();
        assert_eq!(later(&understood[0].1).1, 7 * MINUTE);
        assert_eq!(stage.graph.calls().len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn g1_g5_a_storm_of_429_awards_nothing_and_settles_by_itself(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.claim("mia.runs.oslo").await;
        stage.graph.fail("", None, Fault::answer(429, "<html>Too many requests</html>"));
        let mut bodies: Vec<Value> = (0..30).map(|number| message(&format!("m-{number}"), "hi")).collect();
        bodies.push(payload("webhook_mentions_caption.json"));
        bodies.push(payload("webhook_message_story_mention.json"));
        stage.receive(&bodies).await;
        for _ in 0..5 {
            stage.work().await;
            app.clock.advance_ms(15 * MINUTE);
        }
        assert_eq!(stage.activities().await, []);
        let inbox = stage.inbox().await;
        assert_eq!(inbox.len(), 32);
        for (key, status, reason) in inbox {
            assert_eq!(status, ItemStatus::Waiting, "{key}");
            assert_eq!(reason.as_deref(), Some("Instagram wants fewer calls for a while"), "{key}");
        }
        assert!(stage.graph.calls().len() <= 12, "{} calls", stage.graph.calls().len());
        assert!(stage.connection().await.limited_until.is_some());
        // The same again changes nothing.
        stage.receive(&bodies).await;
        stage.graph.recover();
        for _ in 0..3 {
            app.clock.advance_ms(60 * MINUTE);
            stage.work().await;
        }
        let inbox = stage.inbox().await;
        assert!(inbox.iter().all(|(_, status, _)| *status == ItemStatus::Done), "{inbox:?}");
        let activities = stage.activities().await;
        let count = |kind: &str| activities.iter().filter(|(of, ..)| of == kind).count();
        assert_eq!(
            (count("DM_YOU_SOCIAL"), count("MENTIONED_YOU_SOCIAL"), count("FOLLOWED_YOU_SOCIAL")),
            (30, 2, 1)
        );
        let earned: i64 = activities.iter().map(|(.., points)| points).sum();
        assert_eq!(earned, 30, "the follow was awarded once");
    }
}

impl Stage<'_> {
    /// A member who claims `handle`.
    async fn claim(&self, handle: &str) {
        let member = self.app.member(&self.site, "u-1").await;
        let tx = self.app.app.db.write().await.unwrap();
        let id = entity::id::MemberId(member.id.parse().unwrap());
        let platform = entity::kinds::Platform::Instagram;
        followpoints::profiles::handles::claim(&tx, self.site_id(), id, platform, Some(handle))
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}
