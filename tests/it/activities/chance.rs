//! Random use: whatever members claim and platforms tell, in whatever order, what must hold holds. `FOLLOWPOINTS_TEST_SEED` repeats a run.

use std::collections::{HashMap, HashSet};

use entity::kinds::{Evidence, MentionType};
use entity::{activity_award, followed_channel, item, ledger_entry, member_handle};
use followpoints::activities::rules::{Limits, Requires};
use followpoints::points::verify;
use sea_orm::EntityTrait as _;
use serde_json::json;

use super::stage::{MIA, Says, Stage};
use crate::on_both;
use crate::recovery::Lcg;

/// Steps of a run.
const STEPS: usize = 120;
const PEOPLE: [Says; 3] = [
    MIA,
    Says { external: Some("77"), handle: Some("joe_brews"), ..MIA },
    // Another person with the name of the first.
    Says { external: Some("99"), ..MIA },
];

/// What steps remember.
#[derive(Default)]
struct Run {
    codes: Vec<String>,
    unsent: HashSet<usize>,
}

async fn step(stage: &Stage<'_>, random: &mut Lcg, number: usize, run: &mut Run) {
    let members = ["u-1", "u-2", "u-3"];
    let member = stage.app.member(&stage.site, members[random.below(3)]).await;
    let says = PEOPLE[random.below(3)].clone();
    let follows = [None, Some(true), Some(false)][random.below(3)];
    let says = Says { follows, ..says };
    let mid = format!("m{number}");
    match random.below(8) {
        0 => stage.claim(&member, says.handle.unwrap()).await,
        1 => {
            // Five an hour.
            stage.app.clock.advance_ms(3_600_000);
            run.codes.push(stage.code(&member).await);
        }
        2 => {
            let body = json!({"followedChannel": {"channel": "INSTAGRAM"}});
            let call = stage.app.call("POST", "/loyalty-social-media/v1/followed-channels");
            call.auth(&member.token).json(&body).send().await;
        }
        3 => {
            let post = stage.post(&says, &format!("p{}", random.below(5)), MentionType::Tag, "mug");
            stage.see(&format!("tag:{number}"), post).await;
        }
        4 => {
            let message = random.below(number as u64 + 1);
            if run.unsent.insert(message) {
                stage.unsend(&format!("m{message}")).await;
            }
        }
        _ => {
            let text = match random.below(2) {
                0 => run.codes.get(random.below(run.codes.len() as u64 + 1)).cloned(),
                _ => None,
            };
            let message = stage.message(&says, &mid, &text.unwrap_or_else(|| "hello".to_owned()));
            stage.see(&format!("message:{mid}"), message).await;
        }
    }
}

async fn check(stage: &Stage<'_>) {
    let db = stage.app.app.db.read();
    let items: HashMap<_, _> =
        item::Entity::find().all(db).await.unwrap().into_iter().map(|row| (row.id, row.item_key)).collect();
    for follow in followed_channel::Entity::find().all(db).await.unwrap() {
        let proof = follow.evidence_item.map(|id| items[&id].as_str());
        let is_message = proof.is_some_and(|key| key.starts_with("message:"));
        assert_eq!(follow.evidence != Evidence::Declared, is_message, "{follow:?}");
    }
    let handles = member_handle::Entity::find().all(db).await.unwrap();
    for row in handles.iter().filter(|row| row.person.is_some()) {
        let proof = &items[&row.proven_by.unwrap()];
        assert!(proof.starts_with("message:"), "{row:?}");
        assert_eq!(handles.iter().filter(|other| other.person == row.person).count(), 1, "{row:?}");
    }
    let mut awards: HashMap<_, usize> = HashMap::new();
    for award in activity_award::Entity::find().all(db).await.unwrap() {
        *awards.entry((award.account_id, award.external_id)).or_default() += 1;
    }
    assert!(awards.values().all(|count| *count == 1), "one rule, one award for each thing: {awards:?}");
    let mut follows: HashMap<_, usize> = HashMap::new();
    for entry in ledger_entry::Entity::find().all(db).await.unwrap() {
        if entry.award_key.as_deref() == Some("follow:INSTAGRAM") {
            *follows.entry(entry.account_id).or_default() += 1;
        }
    }
    assert!(follows.values().all(|count| *count == 1), "{follows:?}");
    let report = verify::verify(db, |_| {}).await.unwrap();
    assert!(report.faults.is_empty(), "{report:?}");
}

on_both! {
    async fn g1_g4_g7_nothing_is_verified_without_a_message_and_nothing_is_awarded_twice(app: &TestApp) {
        let stage = Stage::new(app).await;
        let kind = entity::kinds::ActivityType::MentionedYou;
        stage.rule(kind, 5, Limits::default(), Requires::default()).await;
        let mut random = Lcg::new();
        let mut run = Run::default();
        for number in 0..STEPS {
            step(&stage, &mut random, number, &mut run).await;
            if number % 20 == 19 {
                check(&stage).await;
            }
        }
        check(&stage).await;
        assert!(!stage.follows().await.is_empty(), "something has happened");
    }
}
