//! Replies to mentions.

use serde_json::{Value, json};

use super::stage::{Stage, message};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::UNKNOWN_ID;
use crate::support::client::Answer;
use crate::support::graph::{Fault, Graph, PAGE_TOKEN, payload};

impl Stage<'_> {
    async fn reply(&self, activity: &str, body: &Value) -> Answer {
        let path = format!("/admin/v1/instagram/mentions/{activity}/reply");
        self.app.call("POST", &path).key(ADMIN_KEY, &self.site.id).json(body).send().await
    }

    /// The activity of the one thing in `body`.
    async fn activity_of(&self, body: Value) -> String {
        let before = self.activity_rows().await.len();
        self.receive(&[body]).await;
        self.work().await;
        self.activity_rows().await[before].id.to_string()
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_mention_is_answered_where_it_was_made(app: &TestApp) {
        let stage = Stage::new(app).await;
        let caption = stage.activity_of(payload("webhook_mentions_caption.json")).await;
        let comment = stage.activity_of(payload("webhook_mentions_comment.json")).await;
        stage.graph.forget_calls();
        let answer = stage.reply(&caption, &json!({"message": "Thanks, Mia!"})).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"reply": {"id": "17911499988878901"}})));
        let answer = stage.reply(&comment, &json!({"message": "We might."})).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        let calls = stage.graph.calls();
        let sent: Vec<(&str, &str, &Value)> =
            calls.iter().map(|call| (call.method.as_str(), call.path.as_str(), &call.body)).collect();
        let path = "17841460998877001/mentions";
        assert_eq!(sent, [
            ("POST", path, &json!({"media_id": "18055512345678901", "message": "Thanks, Mia!"})),
            ("POST", path, &json!({
                "media_id": "18055512345678901", "comment_id": "17990011223344556", "message": "We might.",
            })),
        ]);
    }
}

on_both! {
    options: Graph::options().await,
    async fn only_mentions_that_can_be_answered_are(app: &TestApp) {
        let stage = Stage::new(app).await;
        let say = json!({"message": "Thanks!"});
        let written = stage.activity_of(message("m-1", "hello")).await;
        let story = stage.activity_of(payload("webhook_message_story_mention.json")).await;
        let comment = stage.activity_of(payload("webhook_comments_fb_login.json")).await;
        stage.graph.forget_calls();
        // The first message of somebody who follows is a follow, too.
        for activity in [written, story, comment] {
            let error = stage.reply(&activity, &say).await.error();
            assert_eq!(error, (409, "ACTIVITY_NOT_A_MENTION".to_owned()));
        }
        let unknown = stage.reply(UNKNOWN_ID, &say).await.error();
        assert_eq!(unknown, (404, "ACTIVITY_NOT_FOUND".to_owned()));
        let mention = stage.activity_of(payload("webhook_mentions_caption.json")).await;
        // Another site does not know it.
        let other = app.site().await;
        let path = format!("/admin/v1/instagram/mentions/{mention}/reply");
        let answer = app.call("POST", &path).key(ADMIN_KEY, &other.id).json(&say).send().await;
        assert_eq!(answer.error(), (404, "ACTIVITY_NOT_FOUND".to_owned()));
        let rule = |field: &str, rule: &str| vec![(field.to_owned(), rule.to_owned())];
        let empty = stage.reply(&mention, &json!({"message": ""})).await;
        assert_eq!(empty.violations(), rule("message", "MIN_LENGTH"));
        let long = stage.reply(&mention, &json!({"message": "x".repeat(2201)})).await;
        assert_eq!(long.violations(), rule("message", "MAX_LENGTH"));
        let odd = stage.reply("x", &say).await;
        assert_eq!(odd.violations(), rule("id", "FORMAT"));
        assert!(stage.graph.calls_about("/mentions").is_empty());
    }
}

on_both! {
    options: Graph::options().await,
    async fn what_instagram_refuses_is_said_and_never_a_500(app: &TestApp) {
        let stage = Stage::new(app).await;
        let mention = stage.activity_of(payload("webhook_mentions_caption.json")).await;
        let say = json!({"message": "Thanks!"});
        for (fault, expected) in [
            (Fault::sample("graph_error_1_unknown.json"), (503, "INSTAGRAM_UNAVAILABLE")),
            (Fault::answer(502, "<html>"), (503, "INSTAGRAM_UNAVAILABLE")),
            (Fault::answer(200, "{}"), (503, "INSTAGRAM_UNAVAILABLE")),
            (Fault::sample("graph_error_10_permission.json"), (409, "CONNECTION_PERMISSION_MISSING")),
            (Fault::sample("graph_error_100_object_missing.json"), (409, "MENTION_NOT_AVAILABLE")),
            (Fault::sample("graph_error_10_outside_window.json"), (409, "MENTION_NOT_AVAILABLE")),
            (Fault::sample("graph_error_100_invalid_parameter.json"), (409, "INSTAGRAM_REFUSED")),
            (Fault::sample("graph_error_613_custom_rate_limit.json"), (429, "RESOURCE_EXHAUSTED")),
            (Fault::code(400, 368, 0), (409, "CONNECTION_BLOCKED")),
        ] {
            stage.graph.fail("/mentions", Some(1), fault.clone());
            let answer = stage.reply(&mention, &say).await;
            assert_eq!(answer.error(), (expected.0, expected.1.to_owned()), "{fault:?}");
            if expected.0 == 429 {
                assert_eq!(answer.headers["retry-after"], "900");
            }
            stage.heal().await;
        }
        stage.graph.kill(PAGE_TOKEN, 460);
        assert_eq!(stage.reply(&mention, &say).await.error(), (409, "CONNECTION_DEAD".to_owned()));
        assert!(stage.connection().await.dead_since.is_some());
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_reply_goes_out_through_no_other_sites_account(app: &TestApp) {
        let stage = Stage::new(app).await;
        let mention = stage.activity_of(payload("webhook_mentions_caption.json")).await;
        stage.move_to(&app.site().await).await;
        let refused = stage.reply(&mention, &json!({"message": "Thanks!"})).await;
        assert_eq!(refused.error(), (409, "CONNECTION_NOT_FOUND".to_owned()));
        assert!(stage.graph.calls_about("/mentions").is_empty());
    }
}
