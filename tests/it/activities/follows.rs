//! Follows that a platform tells: proven by a code, or seen from a handle that is only claimed; once for ever.

use entity::account;
use followpoints::activities::Fate;
use followpoints::follows::evidence;
use followpoints::points::{self, Booking, verify};
use followpoints::{accounts, rows};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, EntityTrait as _};
use serde_json::json;

use super::stage::{MIA, Says, Stage, done, follow};
use crate::on_both;
use crate::support::TestApp;

const FOLLOWER: Says = Says { follows: Some(true), followers: Some(12_480), ..MIA };
const STRANGER: Says = Says { follows: Some(false), ..MIA };

async fn set(stage: &Stage<'_>, settings: &str) {
    let tx = stage.app.app.db.write().await.unwrap();
    for sql in [
        format!("UPDATE site_channel SET {settings}"),
        "UPDATE site SET config_version = config_version + 1".to_owned(),
    ] {
        tx.conn().execute_unprepared(&sql).await.unwrap();
    }
    tx.commit().await.unwrap();
}

on_both! {
    async fn g1_g2_a_message_with_the_code_proves_the_handle_and_follows_once(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        let code = stage.code(&member).await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &format!("hi! {code}"))).await;

        let handle = stage.handle(&member).await.unwrap();
        assert_eq!((handle.handle.as_str(), handle.person.as_deref()), ("mia.runs.oslo", FOLLOWER.external));
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "VERIFIED")]);
        assert_eq!(stage.balance(&member).await, 30);
        let followed = done("FOLLOWED_YOU_SOCIAL", "AWARDED", 30, &member);
        let message = |_| done("DM_YOU_SOCIAL", "IGNORED", 0, &member);
        assert_eq!(stage.activities().await, [followed.clone(), message(1)]);
        let events = stage.events().await;
        for (kind, count) in [
            ("wix.loyalty.v1.account_created", 1),
            ("wix.loyalty.socialmedia.v1.followed_channel_created", 1),
            ("wix.loyalty.v1.account_points_updated", 1),
            ("wix.loyalty.v1.account_updated", 1),
            ("followpoints.social.v1.activity_recorded", 2),
        ] {
            assert_eq!(events.iter().filter(|event| *event == kind).count(), count, "{kind}: {events:?}");
        }
        let attributes = stage.attributes(&member).await;
        assert_eq!(attributes["instagram_follows_you"], json!(true));
        assert_eq!(attributes["instagram_followers"], json!(12_480));

        // Unfollowing and following again earns nothing more, and the code is used up.
        stage.see("message:m2", stage.message(&STRANGER, "m2", "bye")).await;
        stage.see("message:m3", stage.message(&FOLLOWER, "m3", &code)).await;
        assert_eq!(stage.balance(&member).await, 30);
        let again = done("FOLLOWED_YOU_SOCIAL", "ALREADY_EARNED", 0, &member);
        assert_eq!(stage.activities().await, [followed, message(1), message(2), again, message(3)]);
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "VERIFIED")]);
    }
}

on_both! {
    async fn g1_the_same_thing_recorded_many_times_at_once_counts_once(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        let code = stage.code(&member).await;
        let item = stage.item("message:m1").await;
        join_all((0..8).map(|_| stage.again(&item, stage.message(&FOLLOWER, "m1", &code)))).await;
        assert_eq!(stage.balance(&member).await, 30);
        assert_eq!(stage.activities().await.len(), 2);
        assert_eq!(stage.events().await.len(), 6);
    }
}

on_both! {
    async fn g7_a_flag_that_is_absent_says_nothing(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        for (number, says) in [MIA, STRANGER, MIA].iter().enumerate() {
            let key = format!("message:m{number}");
            stage.see(&key, stage.message(says, &key, "hello")).await;
            assert!(stage.follows().await.is_empty());
        }
        assert_eq!(stage.attributes(&member).await["instagram_follows_you"], json!(false));
        // Only a message's lookup says whether somebody follows.
        let mut post = stage.message(&FOLLOWER, "c1", "nice");
        post.is_message = false;
        stage.see("comment:c1", post).await;
        assert!(stage.follows().await.is_empty());
        stage.see("message:m9", stage.message(&FOLLOWER, "m9", "hello")).await;
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "CLAIMED_HANDLE")]);
        assert_eq!(stage.balance(&member).await, 30);
    }
}

on_both! {
    async fn a_claimed_handle_earns_at_once_or_waits_as_the_owner_wants(app: &TestApp) {
        let stage = Stage::new(app).await;
        set(&stage, "claimed_handle_earns = false").await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let item = stage.see("message:m1", stage.message(&FOLLOWER, "m1", "hello")).await;
        assert!(stage.follows().await.is_empty());
        assert_eq!(stage.find_item(item.id).await.status.as_str(), "PARKED");
        assert_eq!(stage.activities().await[0], done("FOLLOWED_YOU_SOCIAL", "HELD", 0, &member));

        let code = stage.code(&member).await;
        stage.see("message:m2", stage.message(&FOLLOWER, "m2", &code)).await;
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "VERIFIED")]);
        let parked = stage.find_item(item.id).await;
        assert_eq!(parked.due_at, app.app.db.now(), "what waited for the proof is worked on now");
        stage.again(&parked, stage.message(&FOLLOWER, "m1", "hello")).await;
        assert_eq!(stage.find_item(item.id).await.status.as_str(), "DONE");
        assert_eq!(stage.balance(&member).await, 30);
    }
}

on_both! {
    async fn a_declared_follow_is_proven_later_without_a_second_award(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        let body = json!({"followedChannel": {"channel": "INSTAGRAM"}});
        app.call("POST", "/loyalty-social-media/v1/followed-channels").auth(&member.token).json(&body).ok().await;
        assert_eq!(stage.follows().await, [follow("API", "DECLARED")]);
        stage.claim(&member, "mia.runs.oslo").await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", "hello")).await;
        assert_eq!(stage.follows().await, [follow("API", "CLAIMED_HANDLE")]);
        let code = stage.code(&member).await;
        stage.see("message:m2", stage.message(&FOLLOWER, "m2", &code)).await;
        assert_eq!(stage.follows().await, [follow("API", "VERIFIED")]);
        assert_eq!(stage.balance(&member).await, 30);
    }
}

on_both! {
    async fn g4_an_unfollow_keeps_flags_or_takes_back_and_never_awards_again(app: &TestApp) {
        for (policy, days, evidence, balance) in [
            ("KEEP", 0, "VERIFIED", 30),
            ("FLAG", 0, "WITHDRAWN", 30),
            ("REVERSE", 29, "WITHDRAWN", 0),
            ("REVERSE", 30, "WITHDRAWN", 30),
        ] {
            let stage = Stage::new(app).await;
            set(&stage, &format!("unfollow_policy = '{policy}', reverse_within_days = 30")).await;
            let member = app.member(&stage.site, "u-1").await;
            let code = stage.code(&member).await;
            let key = |number| format!("message:{policy}{days}-{number}");
            stage.see(&key(1), stage.message(&FOLLOWER, &key(1), &code)).await;
            app.clock.advance_ms(days * 24 * 3_600_000);
            let before = stage.balance(&member).await;
            stage.see(&key(2), stage.message(&STRANGER, &key(2), "bye")).await;
            assert_eq!((before, stage.balance(&member).await), (30, balance), "{policy} after {days} days");
            assert_eq!(stage.follows().await, [follow("INSTAGRAM", evidence)]);
            for number in [3, 4, 5] {
                let says = if number % 2 == 1 { FOLLOWER } else { STRANGER };
                stage.see(&key(number), stage.message(&says, &key(number), "again")).await;
            }
            assert_eq!(stage.balance(&member).await, balance, "nothing is given or taken twice");
            app.clock.advance_ms(-days * 24 * 3_600_000);
        }
        let report = verify::verify(app.app.db.read(), |_| {}).await.unwrap();
        assert!(report.faults.is_empty(), "{report:?}");
    }
}

on_both! {
    async fn g4_a_late_message_takes_nothing_back_and_gives_nothing(app: &TestApp) {
        let stage = Stage::new(app).await;
        set(&stage, "unfollow_policy = 'REVERSE', reverse_within_days = 30").await;
        let (mia, joe) = (app.member(&stage.site, "u-1").await, app.member(&stage.site, "u-2").await);
        let other = |follows| Says { external: Some("77"), handle: Some("joe_brews"), follows: Some(follows), ..MIA };
        let not_yet = stage.message(&STRANGER, "m0", "hello");
        let still = stage.message(&other(true), "m1", "hello");
        app.clock.advance_ms(1_000);
        let (mias, joes) = (stage.code(&mia).await, stage.code(&joe).await);
        stage.see("message:m2", stage.message(&FOLLOWER, "m2", &mias)).await;
        stage.see("message:m3", stage.message(&other(false), "m3", &joes)).await;
        stage.see("message:m0", not_yet).await;
        stage.see("message:m1", still).await;
        assert_eq!((stage.balance(&mia).await, stage.balance(&joe).await), (30, 0));
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "VERIFIED")]);
    }
}

on_both! {
    async fn g4_what_is_given_and_taken_in_one_transaction_is_booked_once(app: &TestApp) {
        let stage = Stage::new(app).await;
        set(&stage, "unfollow_policy = 'REVERSE', reverse_within_days = 30").await;
        let member = app.member(&stage.site, "u-1").await;
        let code = stage.code(&member).await;
        for flags in [&[true, false][..], &[false, true, false, true, false]] {
            let mut together = Vec::new();
            for (number, follows) in flags.iter().enumerate() {
                let key = format!("message:{}-{number}", flags.len());
                let says = Says { follows: Some(*follows), ..MIA };
                let sighting = stage.message(&says, &key, &code);
                together.push((stage.item(&key).await, Fate::Seen(Box::new(sighting))));
            }
            stage.recorder().record(together).await.unwrap();
            assert_eq!(stage.balance(&member).await, 0);
            assert_eq!(stage.follows().await, [follow("INSTAGRAM", "WITHDRAWN")]);
        }
        let report = verify::verify(app.app.db.read(), |_| {}).await.unwrap();
        assert_eq!((report.entries, report.faults.len()), (2, 0), "{report:?}");
    }
}

on_both! {
    async fn g1_one_person_s_follow_counts_for_one_member(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (claimer, first, second) = (
            app.member(&stage.site, "u-0").await,
            app.member(&stage.site, "u-1").await,
            app.member(&stage.site, "u-2").await,
        );
        stage.claim(&claimer, "mia.runs.oslo").await;
        stage.see("message:m0", stage.message(&FOLLOWER, "m0", "hello")).await;
        assert_eq!(stage.balance(&claimer).await, 30);
        for (number, member, balance) in [(1, &first, 30), (2, &second, 0)] {
            let code = stage.code(member).await;
            let key = format!("message:m{number}");
            stage.see(&key, stage.message(&FOLLOWER, &key, &code)).await;
            assert_eq!(stage.handle(member).await.unwrap().person.as_deref(), FOLLOWER.external);
            assert_eq!(stage.balance(member).await, balance, "who proves it goes before who claims it, and the first before the next");
            stage.claim(member, &format!("other{number}")).await;
        }
        assert_eq!(stage.follows().await, [follow("INSTAGRAM", "CLAIMED_HANDLE"), follow("INSTAGRAM", "VERIFIED")]);
    }
}

/// Takes points from the member by hand.
async fn take(app: &TestApp, points: i64) {
    let tx = app.app.db.write().await.unwrap();
    let mut account = account::Entity::find().one(tx.conn()).await.unwrap().unwrap();
    let booking = Booking {
        amount: -points,
        description: "Spent".to_owned(),
        channel: None,
        key: "by hand".to_owned(),
    };
    let entry = points::book(&tx, &mut account, booking);
    let writes = vec![points::insertion(&tx, &[entry]), accounts::points_update(&tx, &[&account])];
    rows::write_all(tx.conn(), writes).await.unwrap();
    tx.commit().await.unwrap();
}

on_both! {
    async fn g4_what_was_spent_is_not_taken_back(app: &TestApp) {
        let stage = Stage::new(app).await;
        set(&stage, "unfollow_policy = 'REVERSE', reverse_within_days = 30").await;
        let member = app.member(&stage.site, "u-1").await;
        let code = stage.code(&member).await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &code)).await;
        take(app, 20).await;
        stage.see("message:m2", stage.message(&STRANGER, "m2", "bye")).await;
        assert_eq!(stage.balance(&member).await, 0);
        let report = verify::verify(app.app.db.read(), |_| {}).await.unwrap();
        assert!(report.faults.is_empty(), "{report:?}");
    }
}

on_both! {
    async fn what_was_confirmed_half_a_year_ago_is_stale_until_it_is_confirmed_again(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        let code = stage.code(&member).await;
        stage.see("message:m1", stage.message(&FOLLOWER, "m1", &code)).await;
        let look = async |days: i64, evidence: &str| {
            app.clock.advance_ms(days * 24 * 3_600_000);
            let tx = app.app.db.write().await.unwrap();
            evidence::make_stale(&tx).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(stage.follows().await, [follow("INSTAGRAM", evidence)], "{days} days later");
        };
        look(179, "VERIFIED").await;
        stage.see("message:m2", stage.message(&FOLLOWER, "m2", "hello again")).await;
        look(179, "VERIFIED").await;
        look(1, "STALE").await;
        stage.see("message:m3", stage.message(&FOLLOWER, "m3", "still here")).await;
        look(0, "VERIFIED").await;
        assert_eq!(stage.balance(&member).await, 30);
    }
}

on_both! {
    async fn g5_a_handle_or_code_of_another_site_matches_nobody(app: &TestApp) {
        let (here, there) = (Stage::new(app).await, Stage::new(app).await);
        let member = app.member(&there.site, "u-1").await;
        there.claim(&member, "mia.runs.oslo").await;
        let code = there.code(&member).await;
        here.see("message:m1", here.message(&FOLLOWER, "m1", &code)).await;
        assert!(here.follows().await.is_empty());
        assert!(there.follows().await.is_empty());
        assert_eq!(here.activities().await.iter().filter(|row| row.3.is_some()).count(), 0);
        assert!(there.activities().await.is_empty());
        there.see("message:m2", there.message(&FOLLOWER, "m2", &code)).await;
        assert_eq!(there.follows().await, [follow("INSTAGRAM", "VERIFIED")], "the code was not used up");
    }
}
