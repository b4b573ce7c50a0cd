//! Rules: what earns, how often, and what has to wait for a proof.

use entity::kinds::ActivityType::{DmYou, MentionedYou};
use entity::kinds::MentionType::{Mention, Tag};
use entity::{activity_rule, item};
use followpoints::activities::rules::{Limits, PerMember, Period, Requires};
use followpoints::activities::{Conditions, Fate, Sighting, Understood};
use futures_util::future::join_all;
use sea_orm::EntityTrait as _;

use super::stage::{MIA, Says, Stage, done};
use crate::on_both;

fn once_a(every: Period) -> Limits {
    Limits { per_member: Some(PerMember { count: 1, every }), total_points: None }
}

on_both! {
    async fn g1_a_post_earns_once_per_rule_also_as_mention_and_tag(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        stage.rule(MentionedYou, 25, Limits::default(), Requires::default()).await;
        stage.rule(MentionedYou, 5, Limits::default(), Requires::default()).await;
        stage.see("mention:p1", stage.post(&MIA, "p1", Mention, "hi @nordbrew")).await;
        stage.see("tag:p1", stage.post(&MIA, "p1", Tag, "hi @nordbrew")).await;
        stage.see("mention:p2", stage.post(&MIA, "p2", Mention, "again")).await;
        let outcome = |outcome, points| done("MENTIONED_YOU_SOCIAL", outcome, points, &member);
        let expected = [outcome("AWARDED", 30), outcome("ALREADY_EARNED", 0), outcome("AWARDED", 30)];
        assert_eq!(stage.activities().await, expected);
        assert_eq!(stage.balance(&member).await, 60);
    }
}

on_both! {
    async fn limits_cap_members_and_rules(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (one, two) = (app.member(&stage.site, "u-1").await, app.member(&stage.site, "u-2").await);
        let joe = Says { external: Some("77"), handle: Some("joe_brews"), ..MIA };
        stage.claim(&one, "mia.runs.oslo").await;
        stage.claim(&two, "joe_brews").await;
        let limits = Limits { total_points: Some(30), ..once_a(Period::Day) };
        stage.rule(DmYou, 10, limits, Requires::default()).await;
        let message = async |says: &Says, mid: &str| {
            stage.see(&format!("message:{mid}"), stage.message(says, mid, "hello")).await;
            stage.activities().await.last().unwrap().1.clone()
        };
        assert_eq!(message(&MIA, "a").await, "AWARDED");
        assert_eq!(message(&MIA, "b").await, "CAPPED");
        assert_eq!(message(&joe, "c").await, "AWARDED");
        app.clock.advance_ms(24 * 3_600_000 - 1);
        assert_eq!(message(&MIA, "d").await, "CAPPED");
        app.clock.advance_ms(1);
        assert_eq!(message(&MIA, "e").await, "AWARDED");
        app.clock.advance_ms(48 * 3_600_000);
        assert_eq!(message(&joe, "f").await, "CAPPED", "the rule has awarded all its points");
        assert_eq!((stage.balance(&one).await, stage.balance(&two).await), (20, 10));
    }
}

/// People with their handles.
const CROWD: [(&str, &str); 8] = [
    ("71", "a_brews"),
    ("72", "b_brews"),
    ("73", "c_brews"),
    ("74", "d_brews"),
    ("75", "e_brews"),
    ("76", "f_brews"),
    ("77", "g_brews"),
    ("78", "h_brews"),
];

/// Records each of `things` by itself, all at once.
async fn record_at_once(stage: &Stage<'_>, things: Vec<Understood>) {
    let recorders = things.into_iter().map(|thing| (stage.recorder(), thing));
    let recorded = recorders.map(|(recorder, thing)| async move { recorder.record(vec![thing]).await });
    for done in join_all(recorded).await {
        done.unwrap();
    }
}

on_both! {
    async fn a_rule_gives_no_more_than_its_total_to_those_who_come_at_once(app: &TestApp) {
        let stage = Stage::new(app).await;
        let limits = Limits { per_member: None, total_points: Some(30) };
        stage.rule(DmYou, 10, limits, Requires::default()).await;
        let (mut members, mut things) = (Vec::new(), Vec::new());
        for (person, handle) in CROWD {
            let member = app.member(&stage.site, handle).await;
            stage.claim(&member, handle).await;
            members.push(member);
            let says = Says { external: Some(person), handle: Some(handle), ..MIA };
            let item = stage.item(&format!("message:{person}")).await;
            things.push((item, Fate::Seen(Box::new(stage.message(&says, person, "hello")))));
        }
        record_at_once(&stage, things).await;

        let mut outcomes: Vec<_> = stage.activities().await.into_iter().map(|row| row.1).collect();
        outcomes.sort_unstable();
        assert_eq!(outcomes, [["AWARDED"; 3].as_slice(), &["CAPPED"; 5]].concat());
        let mut points = 0;
        for member in &members {
            points += stage.balance(member).await;
        }
        assert_eq!(points, 30);
        let rule = activity_rule::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!(rule.awarded_points, 30);
    }
}

on_both! {
    async fn g1_a_person_who_sends_codes_of_two_members_at_once_counts_for_one(app: &TestApp) {
        let stage = Stage::new(app).await;
        let follower = Says { follows: Some(true), ..MIA };
        let (mut members, mut things) = (Vec::new(), Vec::new());
        for mid in ["m1", "m2"] {
            let member = app.member(&stage.site, mid).await;
            let code = stage.code(&member).await;
            members.push(member);
            let item = stage.item(&format!("message:{mid}")).await;
            things.push((item, Fate::Seen(Box::new(stage.message(&follower, mid, &code)))));
        }
        record_at_once(&stage, things).await;
        assert_eq!(stage.balance(&members[0]).await + stage.balance(&members[1]).await, 30);
        assert_eq!(stage.follows().await.len(), 1);
    }
}

on_both! {
    async fn limits_hold_within_one_batch(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        stage.rule(DmYou, 10, once_a(Period::Ever), Requires::default()).await;
        let mut batch = Vec::new();
        for number in 0..300 {
            let mid = format!("m{number}");
            let item = stage.item(&format!("message:{mid}")).await;
            batch.push((item, Fate::Seen(Box::new(stage.message(&MIA, &mid, "hello")))));
        }
        stage.recorder().record(batch).await.unwrap();
        let outcomes: Vec<_> = stage.activities().await.into_iter().map(|row| row.1).collect();
        assert_eq!(outcomes.len(), 300);
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "AWARDED").count(), 1);
        assert_eq!(stage.balance(&member).await, 10);
    }
}

on_both! {
    async fn g7_an_unproven_handle_waits_and_earns_when_it_is_proven(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let requires = Requires { verified_handle: true, ..Requires::default() };
        stage.rule(MentionedYou, 25, Limits::default(), requires).await;
        let post = stage.see("mention:p1", stage.post(&MIA, "p1", Mention, "hi")).await;
        assert_eq!(stage.activities().await, [done("MENTIONED_YOU_SOCIAL", "HELD", 0, &member)]);
        let code = stage.code(&member).await;
        stage.see("message:m1", stage.message(&MIA, "m1", &code)).await;
        let parked = stage.find_item(post.id).await;
        assert_eq!(parked.due_at, app.app.db.now());
        for _ in 0..2 {
            stage.again(&parked, stage.post(&MIA, "p1", Mention, "hi")).await;
        }
        assert_eq!(stage.activities().await[0], done("MENTIONED_YOU_SOCIAL", "AWARDED", 25, &member));
        assert_eq!(stage.balance(&member).await, 25);
        let told = stage.events().await;
        let recorded = told.iter().filter(|kind| *kind == "followpoints.social.v1.activity_recorded").count();
        assert_eq!(recorded, 2, "each activity is told once");
    }
}

on_both! {
    async fn a_post_of_nobody_waits_thirty_days_for_somebody_to_claim_its_handle(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.rule(MentionedYou, 25, Limits::default(), Requires::default()).await;
        let early = stage.see("mention:p1", stage.post(&MIA, "p1", Mention, "hi")).await;
        let unmatched = stage.activities().await.remove(0);
        assert_eq!((unmatched.1.as_str(), unmatched.3), ("UNMATCHED", None));
        assert_eq!(stage.events().await, [""; 0], "nothing is told of nobody");
        app.clock.advance_ms(29 * 24 * 3_600_000);
        stage.claim(&member, "mia.runs.oslo").await;
        let parked = stage.find_item(early.id).await;
        assert_eq!(parked.due_at, app.app.db.now());
        stage.again(&parked, stage.post(&MIA, "p1", Mention, "hi")).await;
        assert_eq!(stage.activities().await, [done("MENTIONED_YOU_SOCIAL", "AWARDED", 25, &member)]);

        let joe = Says { handle: Some("joe_brews"), ..MIA };
        let late = stage.see("mention:p2", stage.post(&joe, "p2", Mention, "hi")).await;
        app.clock.advance_ms(30 * 24 * 3_600_000);
        stage.again(&stage.find_item(late.id).await, stage.post(&joe, "p2", Mention, "hi")).await;
        let given_up = stage.find_item(late.id).await;
        assert_eq!(given_up.status.as_str(), "DONE");
        assert_eq!(given_up.reason.unwrap(), "nobody came forward within 30 days: no member has this handle");
    }
}

on_both! {
    async fn nothing_is_earned_while_the_program_rests(app: &TestApp) {
        let stage = Stage { app, site: app.draft_site().await };
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        stage.rule(MentionedYou, 25, Limits::default(), Requires::default()).await;
        stage.see("mention:p1", stage.post(&MIA, "p1", Mention, "hi")).await;
        let row = stage.activity_rows().await.remove(0);
        assert_eq!(row.reason.as_deref(), Some("the loyalty program is DRAFT"));
        assert_eq!(row.points, 0);
    }
}

on_both! {
    async fn a_thing_counts_by_what_was_claimed_before_it_came(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.rule(MentionedYou, 25, Limits::default(), Requires::default()).await;
        let claimed_at = app.app.db.now();
        let post = |media: &str, until_ms| {
            let conditions = Conditions { claimed_until: Some(claimed_at.plus_ms(until_ms)), hashtags: None };
            Sighting { conditions, ..stage.post(&MIA, media, Tag, "hi") }
        };
        let waiting = stage.see("tag:p1", post("p1", -1)).await;
        app.clock.advance_ms(1);
        stage.claim(&member, "mia.runs.oslo").await;
        stage.again(&waiting, post("p1", -1)).await;
        let early = stage.see("tag:p2", post("p2", 0)).await;
        let in_time = stage.see("tag:p3", post("p3", 1)).await;

        // Nobody has proven the handle: what does not count for the one waits for another.
        let awarded = done("MENTIONED_YOU_SOCIAL", "AWARDED", 25, &member);
        let unmatched = ("MENTIONED_YOU_SOCIAL".to_owned(), "UNMATCHED".to_owned(), 0, None);
        assert_eq!(stage.activities().await, [awarded.clone(), unmatched, awarded]);
        let fate = async |item: &item::Model| {
            let item = stage.find_item(item.id).await;
            (item.status.as_str(), item.reason)
        };
        let late = || Some("it was posted before the member claimed the handle".to_owned());
        assert_eq!(fate(&waiting).await, ("DONE", None));
        assert_eq!(fate(&early).await, ("PARKED", late()));
        assert_eq!(fate(&in_time).await, ("DONE", None));
        assert!(!stage.attributes(&member).await.is_empty());

        let code = stage.code(&member).await;
        stage.see("message:m1", stage.message(&MIA, "m1", &code)).await;
        let parked = stage.find_item(early.id).await;
        assert_eq!(parked.due_at, app.app.db.now(), "somebody has proven the handle");
        stage.again(&parked, post("p2", 0)).await;
        assert_eq!(fate(&early).await, ("DONE", late()));
        assert_eq!(stage.balance(&member).await, 50);
    }
}
