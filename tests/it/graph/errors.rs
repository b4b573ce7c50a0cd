//! The table of the Graph API's errors: what becomes of the thing that was looked up, and of the connection.

use followpoints::activities::Fate;
use sea_orm::ActiveValue::Set;
use serde_json::json;

use super::stage::{FAR, Stage, ignored, later, message, seen};
use crate::on_both;
use crate::support::graph::{Fault, Graph, PAGE_TOKEN};

const MINUTE: i64 = 60_000;

/// What an error of the lookup of a mention leads to.
enum Expected {
    /// Another try after this many milliseconds, and the connection rests until then.
    Throttled(i64),
    /// Another try after half a minute.
    Retried,
    /// The same, and the connection is dead.
    Dead,
    /// The same, and the connection says which permission is missing.
    Degraded,
    /// Nothing.
    GivenUp,
    /// It waits for the person.
    Parked,
}

use Expected::{Dead, Degraded, GivenUp, Parked, Retried, Throttled};

const SAMPLES: [(&str, Expected); 17] = [
    ("graph_error_1_unknown.json", Retried),
    ("graph_error_4_app_rate_limit.json", Throttled(15 * MINUTE)),
    ("graph_error_17_user_rate_limit.json", Throttled(15 * MINUTE)),
    ("graph_error_32_page_rate_limit.json", Throttled(15 * MINUTE)),
    ("graph_error_613_custom_rate_limit.json", Throttled(15 * MINUTE)),
    ("graph_error_190_expired.json", Dead),
    ("graph_error_190_app_removed.json", Dead),
    ("graph_error_ig_login.json", Dead),
    ("graph_error_10_permission.json", Degraded),
    ("graph_error_200_permission.json", Degraded),
    ("graph_error_230_user_consent.json", Parked),
    ("graph_error_9010_no_matching_user.json", GivenUp),
    ("graph_error_100_object_missing.json", GivenUp),
    ("graph_error_100_not_igsid.json", GivenUp),
    ("graph_error_10_outside_window.json", GivenUp),
    ("graph_error_business_discovery_not_found.json", GivenUp),
    ("graph_error_100_invalid_parameter.json", Retried),
];

on_both! {
    options: Graph::options().await,
    async fn every_sample_of_an_error_has_its_consequence(app: &TestApp) {
        let stage = Stage::new(app).await;
        for (sample, expected) in SAMPLES {
            let now = app.app.db.now();
            stage.graph.fail("mentioned_media", None, Fault::sample(sample));
            let fate = stage.fate("webhook_mentions_caption.json").await;
            stage.graph.recover();
            let row = stage.connection().await;
            match expected {
                Throttled(ms) => {
                    assert_eq!(later(&fate).1, ms, "{sample}");
                    assert_eq!(row.limited_until, Some(now.plus_ms(ms)), "{sample}");
                }
                Retried | Dead | Degraded => assert_eq!(later(&fate).1, 30_000, "{sample}: {fate:?}"),
                GivenUp => assert!(!ignored(&fate).is_empty(), "{sample}"),
                Parked => assert!(matches!(fate, Fate::Parked { .. }), "{sample}"),
            }
            let is_dead = matches!(expected, Dead);
            assert_eq!(row.dead_since.is_some(), is_dead, "{sample}");
            if is_dead {
                let problem = row.problem.as_deref().unwrap();
                assert!(problem.ends_with("; reconnect the account"), "{problem}");
            }
            let missing = if matches!(expected, Degraded) { r#"["instagram_manage_comments"]"# } else { "[]" };
            assert_eq!(row.missing_permissions, missing, "{sample}");
            if matches!(expected, Degraded) {
                assert!(row.problem.unwrap().contains("instagram_manage_comments"), "{sample}");
            }
            stage.heal().await;
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn codes_without_a_sample_have_theirs(app: &TestApp) {
        let stage = Stage::new(app).await;
        for (code, subcode, after_ms) in [
            (2, 0, 30_000),
            (341, 0, 60 * MINUTE),
            (80002, 0, 15 * MINUTE),
            (102, 0, 30_000),
            (190, 460, 30_000),
            (3, 0, 30_000),
            (200, 2_534_041, 30_000),
            (368, 0, 30_000),
            (2500, 1, 30_000),
        ] {
            stage.graph.fail("mentioned_media", None, Fault::code(400, code, subcode));
            let fate = stage.fate("webhook_mentions_caption.json").await;
            assert_eq!(later(&fate).1, after_ms, "{code}/{subcode}: {fate:?}");
            stage.graph.recover();
            let row = stage.connection().await;
            if code == 368 {
                assert_eq!(row.limited_until, Some(app.app.db.now().plus_ms(24 * 60 * MINUTE)));
                assert!(row.problem.as_ref().unwrap().contains("368"));
            }
            if subcode == 2_534_041 {
                assert!(row.problem.unwrap().contains("Connected tools"));
            }
            stage.heal().await;
        }
        stage.graph.fail("mentioned_media", None, Fault::code(400, 551, 0));
        assert_eq!(ignored(&stage.fate("webhook_mentions_caption.json").await), "the person is not available");
    }
}

on_both! {
    options: Graph::options().await,
    /// Nothing that is unreadable, or comes from somebody else, says that a person follows or that a mention is none.
    async fn g7_what_is_no_answer_is_asked_for_again(app: &TestApp) {
        let stage = Stage::new(app).await;
        let long = format!(r#"{{"is_user_follow_business":true,"x":"{}"}}"#, "x".repeat(1024 * 1024));
        for fault in [
            Fault::answer(502, "<html>Bad gateway</html>"),
            Fault::answer(200, "<html>Log in to the hotel's network</html>"),
            Fault::answer(200, ""),
            Fault::answer(200, "[]"),
            Fault::answer(200, "true"),
            Fault::answer(200, r#"{"is_user_follow_business":tr"#),
            Fault::answer(200, long),
            Fault::answer(500, r#"{"is_user_follow_business":true}"#),
            Fault::answer(302, r#"{"is_user_follow_business":true}"#),
            Fault::answer(200, r#"{"error":{"message":"odd"},"is_user_follow_business":true}"#),
            Fault::answer(403, r#"{"blocked":"by a proxy"}"#),
        ] {
            stage.graph.fail("5512034987760112", Some(1), fault.clone());
            let fate = stage.fate("webhook_message_text.json").await;
            let (reason, after_ms) = later(&fate);
            assert!(reason.starts_with("Instagram cannot be reached at the moment"), "{fault:?}: {reason}");
            assert_eq!(after_ms, 30_000);
        }
        stage.graph.fail("5512034987760112", Some(1), Fault::Hang);
        let fate = stage.fate("webhook_message_text.json").await;
        assert_eq!(later(&fate), ("Instagram cannot be reached at the moment (TIMEOUT)", 30_000));
        assert_eq!(stage.connection().await.dead_since, None);
    }
}

on_both! {
    options: Graph::options().await,
    async fn the_pauses_double_up_to_an_hour_and_end_after_36_hours(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.fail("5512034987760112", None, Fault::sample("graph_error_1_unknown.json"));
        let mut pauses = Vec::new();
        for attempts in [1, 2, 3, 7, 8, 9, 40, i32::MAX] {
            let mut things = stage.things("webhook_message_text.json");
            things[0].attempts = attempts;
            pauses.push(later(&stage.fates(things).await[0]).1);
        }
        assert_eq!(
            pauses,
            [30_000, 60_000, 120_000, 1_920_000, 3_600_000, 3_600_000, 3_600_000, 3_600_000]
        );
        let old = |age_ms: i64, attempts: i32| {
            let mut things = stage.things("webhook_message_text.json");
            things[0].received_at = app.app.db.now().plus_ms(-age_ms);
            things[0].attempts = attempts;
            things
        };
        let hours = 3_600_000;
        assert_eq!(later(&stage.fates(old(36 * hours - 1, 43)).await[0]).1, 3_600_000);
        let fates = stage.fates(old(36 * hours, 43)).await;
        let reason = "given up after 36 hours: Instagram cannot be reached at the moment (code 1)";
        assert_eq!(ignored(&fates[0]), reason);
        // What was woken late has a few tries all the same.
        assert_eq!(later(&stage.fates(old(700 * hours, 2)).await[0]).1, 60_000);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_token_that_was_refused_is_used_no_more(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.kill(PAGE_TOKEN, 463);
        stage.receive(&[message("m-1", "hello")]).await;
        stage.work().await;
        let asked = stage.graph.calls_about("5512034987760112").len();
        assert_eq!(asked, 1);
        let row = stage.connection().await;
        assert_eq!(row.dead_since, Some(app.app.db.now()));
        let problem = "Instagram no longer accepts the token (code 190/463: it has expired); reconnect the account";
        assert_eq!(row.problem.as_deref(), Some(problem));
        assert_eq!(stage.inbox().await[0].2.as_deref(), Some(problem));
        app.clock.advance_ms(30_000);
        stage.work().await;
        assert_eq!(stage.graph.calls_about("5512034987760112").len(), asked);
        assert_eq!(stage.activities().await, []);
        // Connected anew, everything that waited is understood.
        stage.graph.token("fb", PAGE_TOKEN);
        stage.heal().await;
        app.clock.advance_ms(3_600_000);
        stage.work().await;
        let seen: Vec<(String, String)> =
            stage.activities().await.into_iter().map(|(kind, _, outcome, _)| (kind, outcome)).collect();
        let unmatched = |kind: &str| (kind.to_owned(), "UNMATCHED".to_owned());
        assert_eq!(seen, [unmatched("FOLLOWED_YOU_SOCIAL"), unmatched("DM_YOU_SOCIAL")]);
    }
}

on_both! {
    options: Graph::options().await,
    async fn what_is_public_of_an_author_is_waited_for_a_little_and_then_done_without(app: &TestApp) {
        let stage = Stage::new(app).await;
        let of = |attempts: i32| {
            let mut things = stage.things("webhook_mentions_caption.json");
            things[0].attempts = attempts;
            things
        };
        stage.graph.fail("business_discovery", None, Fault::sample("graph_error_1_unknown.json"));
        later(&stage.fates(of(3)).await[0]);
        seen(stage.fates(of(4)).await.remove(0));
        // Without the permission nobody waits, and it is not asked for again.
        stage.graph.recover();
        stage.graph.fail("business_discovery", None, Fault::sample("graph_error_10_permission.json"));
        seen(stage.fates(of(1)).await.remove(0));
        assert_eq!(stage.connection().await.missing_permissions, r#"["instagram_manage_insights"]"#);
        stage.graph.forget_calls();
        seen(stage.fates(of(1)).await.remove(0));
        assert!(stage.graph.calls_about("business_discovery").is_empty());
        assert_eq!(stage.connection().await.dead_since, None);
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_author_of_whom_nothing_is_public_is_asked_for_once_a_day(app: &TestApp) {
        let stage = Stage::new(app).await;
        let ask = async || drop(stage.sighting("webhook_mentions_caption.json").await);
        let asked = || stage.graph.calls_about("business_discovery").len();
        ask().await;
        ask().await;
        assert_eq!(asked(), 1);
        app.clock.advance_ms(24 * 60 * MINUTE);
        ask().await;
        assert_eq!(asked(), 2);
    }
}

impl Stage<'_> {
    /// As after a new connection, long after.
    pub async fn heal(&self) {
        self.app.clock.advance_ms(25 * 60 * MINUTE);
        self.set(|row| {
            row.dead_since = Set(None);
            row.problem = Set(None);
            row.limited_until = Set(None);
            row.missing_permissions = Set(json!([]).to_string());
            row.poll_due_at = Set(FAR);
        })
        .await;
    }
}
