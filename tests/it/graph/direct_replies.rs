//! Answers to those whose message has proven their handle.

use entity::direct_reply;
use followpoints::instagram::understand::Instagram;
use futures_util::future::join_all;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::stage::{Stage, messaging};
use crate::on_both;
use crate::support::graph::{BRAND, Fault, Graph, PAGE_TOKEN, payload};
use crate::support::world::{Member, text};
use crate::support::{ADMIN_KEY, TestApp, until};

const MIA: &str = "5512034987760112";
const THANKS: &str = "Tusen takk! You are linked.";
const MINUTE_MS: i64 = 60_000;

impl Stage<'_> {
    async fn wants_replies(&self, reply: &str) {
        let channel = json!({"type": "INSTAGRAM", "linkReply": reply});
        let body = json!({"socialMediaSettings": {"channels": [channel]}});
        let call = self.app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &self.site.id);
        call.json(&body).ok().await;
    }

    async fn code(&self, member: &Member) -> String {
        let call = self.app.call("POST", "/me/v1/link-codes").auth(&member.token);
        text(&call.json(&json!({"channel": "INSTAGRAM"})).ok().await["linkCode"]["code"])
    }

    /// Mia writes `said` now, and everything is worked on.
    async fn mia_writes(&self, mid: &str, said: &str) {
        self.writes(MIA, (mid, said), self.app.app.db.now().0).await;
    }

    async fn writes(&self, person: &str, (mid, said): (&str, &str), at: i64) {
        self.receive(&[messaging(&json!({
            "sender": {"id": person}, "recipient": {"id": BRAND}, "timestamp": at,
            "message": {"mid": mid, "text": said},
        }))])
        .await;
        self.work().await;
        self.answers().await;
    }

    async fn answers(&self) {
        self.app.app.instagram.answer_due().await.unwrap();
    }

    /// What was sent to people, accepted or not.
    fn sent(&self) -> Vec<Value> {
        self.graph.calls_about("/messages").into_iter().map(|call| call.body).collect()
    }

    /// Answers that were not sent yet.
    async fn waiting(&self) -> usize {
        direct_reply::Entity::find().all(self.app.app.db.read()).await.unwrap().len()
    }
}

fn thanks() -> Value {
    json!({"recipient": {"id": MIA}, "message": {"text": THANKS}})
}

/// A site that answers, and a member with a code.
async fn linking(app: &TestApp) -> (Stage<'_>, String) {
    let stage = Stage::new(app).await;
    stage.wants_replies(THANKS).await;
    let member = app.member(&stage.site, "u-1").await;
    let code = stage.code(&member).await;
    (stage, code)
}

on_both! {
    options: Graph::options().await,
    async fn a_message_with_a_code_is_answered_once_and_its_echo_never(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.mia_writes("m-0", "hello").await;
        assert!(stage.sent().is_empty(), "nothing was proven");
        stage.mia_writes("m-1", &format!("my code: {code}")).await;
        assert_eq!(stage.sent(), [thanks()]);
        let call = &stage.graph.calls_about("/messages")[0];
        assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "me/messages"));
        // What comes of it: the echo, the code once more, the same message in another batch.
        stage.receive(&[messaging(&json!({
            "sender": {"id": BRAND}, "recipient": {"id": MIA}, "timestamp": app.app.db.now().0,
            "message": {"mid": "mid-of-brand-1", "text": format!("{THANKS} {code}"), "is_echo": true},
        }))])
        .await;
        stage.work().await;
        stage.mia_writes("m-2", &code).await;
        stage.mia_writes("m-1", &format!("my code: {code}")).await;
        app.clock.advance_ms(10 * MINUTE_MS);
        stage.answers().await;
        assert_eq!(stage.sent(), [thanks()]);
        assert_eq!(stage.waiting().await, 0);
    }
}

on_both! {
    options: Graph::options().await,
    async fn several_nodes_send_an_answer_once(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.graph.fail("/messages", Some(1), Fault::sample("graph_error_1_unknown.json"));
        stage.mia_writes("m-1", &code).await;
        app.clock.advance_ms(MINUTE_MS);
        let node = || Instagram::new(app.app.db.clone(), app.app.sealer.clone(), app.app.instagram.graph().clone());
        let sent = join_all((0..8).map(|_| async move { node().answer_due().await.unwrap() })).await;
        assert!(sent.iter().sum::<usize>() <= 1, "{sent:?}");
        stage.answers().await;
        assert_eq!(stage.sent(), [thanks(), thanks()], "the one that failed, and one");
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_that_cannot_be_noted_keeps_no_others_waiting(app: &TestApp) {
        let (stage, code) = linking(app).await;
        let joe = "6120098345511209";
        stage.graph.person(joe, json!({"username": "joe_brews", "is_user_follow_business": true}));
        let other = stage.code(&app.member(&stage.site, "u-2").await).await;
        app.break_table("direct_reply", "BEFORE DELETE", &format!("OLD.person = '{MIA}'")).await;
        let written = |person: &str, mid: &str, said: &str| messaging(&json!({
            "sender": {"id": person}, "recipient": {"id": BRAND}, "timestamp": app.app.db.now().0,
            "message": {"mid": mid, "text": said},
        }));
        stage.receive(&[written(MIA, "m-1", &code), written(joe, "m-2", &other)]).await;
        stage.work().await;
        stage.answers().await;
        assert_eq!((stage.sent().len(), stage.waiting().await), (2, 1));
    }
}

on_both! {
    options: Graph::options().await,
    async fn nobody_is_answered_unless_the_owner_wants_it(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.wants_replies(" ").await;
        stage.mia_writes("m-1", &code).await;
        assert_eq!((stage.sent(), stage.waiting().await), (vec![], 0));
        let settings = app.call("GET", "/admin/v1/social-media-settings").key(ADMIN_KEY, &stage.site.id).ok().await;
        assert!(!settings.to_string().contains("linkReply"), "{settings}");
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_is_tried_again_until_it_is_accepted(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.graph.fail("/messages", Some(1), Fault::sample("graph_error_1_unknown.json"));
        stage.mia_writes("m-1", &code).await;
        assert_eq!((stage.sent().len(), stage.waiting().await), (1, 1));
        stage.graph.fail("/messages", Some(1), Fault::sample("graph_error_613_custom_rate_limit.json"));
        for (wait_ms, tries) in [(29_999, 1), (1, 2), (15 * MINUTE_MS - 1, 2), (1, 3)] {
            app.clock.advance_ms(wait_ms);
            stage.answers().await;
            assert_eq!(stage.sent().len(), tries, "{wait_ms}");
        }
        assert_eq!(stage.waiting().await, 0);
        app.clock.advance_ms(60 * MINUTE_MS);
        stage.answers().await;
        assert_eq!(stage.sent().len(), 3, "the third was accepted");
    }
}

on_both! {
    options: Graph::options().await,
    async fn answers_are_sent_by_themselves(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.graph.fail("/messages", Some(1), Fault::sample("graph_error_1_unknown.json"));
        stage.mia_writes("m-1", &code).await;
        assert_eq!((stage.sent().len(), stage.waiting().await), (1, 1));
        app.clock.advance_ms(MINUTE_MS);
        until("it is tried again", async || (stage.waiting().await == 0).then_some(())).await;
        assert_eq!(stage.sent(), [thanks(), thanks()]);
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_goes_out_through_no_other_sites_account(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.graph.fail("/messages", Some(1), Fault::sample("graph_error_1_unknown.json"));
        stage.mia_writes("m-1", &code).await;
        assert_eq!((stage.sent().len(), stage.waiting().await), (1, 1));
        stage.move_to(&app.site().await).await;
        app.clock.advance_ms(MINUTE_MS);
        stage.answers().await;
        until("it is given up", async || (stage.waiting().await == 0).then_some(())).await;
        assert_eq!(stage.sent().len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_that_instagram_will_not_take_is_given_up(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.wants_replies(THANKS).await;
        for (person, fault) in [
            ("5512034987760901", "graph_error_10_outside_window.json"),
            ("5512034987760902", "graph_error_10_permission.json"),
            ("5512034987760903", "graph_error_100_invalid_parameter.json"),
        ] {
            let mut profile = payload("graph_user_profile_following.json");
            profile["username"] = format!("nora.{person}").into();
            stage.graph.person(person, profile);
            let member = app.member(&stage.site, person).await;
            let code = stage.code(&member).await;
            stage.graph.forget_calls();
            stage.graph.fail("/messages", Some(1), Fault::sample(fault));
            stage.writes(person, (fault, &code), app.app.db.now().0).await;
            assert_eq!((stage.sent().len(), stage.waiting().await), (1, 0), "{fault}");
            stage.heal().await;
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn nothing_is_sent_a_day_after_the_message(app: &TestApp) {
        let (stage, code) = linking(app).await;
        // It is worked on late: the code counts, as it was sent in time, and the answer would be too late.
        let written_at = app.app.db.now().0;
        app.clock.advance_ms(24 * 60 * MINUTE_MS);
        stage.writes(MIA, ("m-1", &code), written_at).await;
        assert_eq!(stage.activities().await.len(), 2, "the follow and the message");
        assert_eq!((stage.sent(), stage.waiting().await), (vec![], 0));
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_waits_for_the_account_to_be_connected_again_and_no_longer_than_a_day(app: &TestApp) {
        let (stage, code) = linking(app).await;
        stage.graph.fail("/messages", None, Fault::code(400, 190, 463));
        stage.mia_writes("m-1", &code).await;
        assert!(stage.connection().await.dead_since.is_some());
        assert_eq!((stage.sent().len(), stage.waiting().await), (1, 1));
        app.clock.advance_ms(24 * 60 * MINUTE_MS);
        stage.answers().await;
        assert_eq!((stage.sent().len(), stage.waiting().await), (1, 0));
        assert_eq!(stage.graph.calls_about("/messages")[0].token.as_deref(), Some(PAGE_TOKEN));
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_must_fit_into_a_message_on_instagram(app: &TestApp) {
        let site = app.site().await;
        let change = async |channel: &str, reply: &str| {
            let body = json!({"socialMediaSettings": {"channels": [{"type": channel, "linkReply": reply}]}});
            app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id).json(&body).send().await
        };
        let field = "socialMediaSettings.channels[0].linkReply".to_owned();
        // 1,000 bytes in 500 characters.
        assert_eq!(change("INSTAGRAM", &"é".repeat(500)).await.status.as_u16(), 200);
        let long = change("INSTAGRAM", &"é".repeat(501)).await;
        assert_eq!(long.violations(), [(field.clone(), "MAX_LENGTH".to_owned())]);
        let other = change("TIKTOK", "thanks").await;
        assert_eq!(other.violations(), [(field, "FIELD_NOT_ALLOWED".to_owned())]);
    }
}
