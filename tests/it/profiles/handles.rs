//! A member writes its handles; whoever claims one has not proven it.

use entity::id::ItemId;
use entity::item;
use entity::kinds::{ItemStatus, Platform};
use followpoints::profiles::{self, By, ProfileError, erasure, handles};
use sea_orm::{EntityTrait as _, SqlErr};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{NOW, PROFILE, claim, member_id, patch, profile, prove, site_id, tell, verified};
use crate::on_both;
use crate::support::callers::{SITE_ADMIN, UNKNOWN_ID};
use crate::support::dump::dump;
use crate::support::world::{Member, Site};
use crate::support::{ADMIN_KEY, START, TestApp};

/// Until when the item of [`park`] waits.
const LATE: entity::id::Timestamp = START.plus_ms(30 * 24 * 3_600_000);

on_both! {
    async fn a_member_claims_handles_and_reads_them_back(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        assert_eq!(
            profile(app, &member).await,
            json!({"profile": {"memberId": member.id, "attributes": {}}}),
            "nothing is known, and nothing is invented"
        );
        let changed = patch(app, &member, json!({"instagramHandle": " @Mia.Runs_Oslo ", "tiktokHandle": "miarunsoslo"}));
        let expected = json!({"profile": {
            "memberId": member.id,
            "instagramHandle": {"handle": "mia.runs_oslo", "verified": false, "claimedDate": NOW},
            "tiktokHandle": {"handle": "miarunsoslo", "verified": false, "claimedDate": NOW},
            "attributes": verified(false, NOW),
        }});
        assert_eq!(changed.await.json(), expected);
        assert_eq!(profile(app, &member).await, expected);

        // What is absent stays, null takes away.
        app.clock.advance_ms(60_000);
        let changed = patch(app, &member, json!({"tiktokHandle": null})).await.json();
        assert_eq!(changed, json!({"profile": {
            "memberId": member.id,
            "instagramHandle": {"handle": "mia.runs_oslo", "verified": false, "claimedDate": NOW},
            "attributes": verified(false, NOW),
        }}));
        let changed = patch(app, &member, json!({"instagramHandle": null})).await.json();
        assert_eq!(changed, json!({"profile": {"memberId": member.id, "attributes": {}}}));
        assert_eq!(patch(app, &member, json!({})).await.json(), changed);
        assert_eq!(patch(app, &member, json!({"instagramHandle": null})).await.json(), changed);
    }
}

on_both! {
    async fn the_same_handle_again_changes_nothing(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        claim(app, &member, "mia.runs.oslo").await;
        prove(app, &site, &member, Platform::Instagram, "5512034987760112").await.unwrap();
        let before = profile(app, &member).await;
        assert_eq!(before, json!({"profile": {
            "memberId": member.id,
            "instagramHandle": {"handle": "mia.runs.oslo", "verified": true, "verifiedDate": NOW, "claimedDate": NOW},
            "attributes": verified(true, NOW),
        }}));
        app.clock.advance_ms(60_000);
        for same in ["mia.runs.oslo", "@mia.runs.oslo", "  MIA.Runs.Oslo"] {
            assert_eq!(patch(app, &member, json!({"instagramHandle": same})).await.json(), before, "{same}");
        }
    }
}

on_both! {
    async fn another_handle_is_no_longer_proven(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        claim(app, &member, "mia.runs.oslo").await;
        prove(app, &site, &member, Platform::Instagram, "5512034987760112").await.unwrap();
        app.clock.advance_ms(60_000);
        let later = "2024-08-01T11:52:41.431Z";
        assert_eq!(
            patch(app, &member, json!({"instagramHandle": "mia.walks"})).await.json(),
            json!({"profile": {
                "memberId": member.id,
                "instagramHandle": {"handle": "mia.walks", "verified": false, "claimedDate": later},
                "attributes": verified(false, later),
            }})
        );
        // Who has given up a handle does not keep others from proving it.
        let other = app.member(&site, "u-2").await;
        claim(app, &other, "mia.runs.oslo").await;
        prove(app, &site, &other, Platform::Instagram, "5512034987760112").await.unwrap();
    }
}

on_both! {
    async fn a_member_changes_to_another_handle_five_times_in_thirty_days(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        for number in 0..=5 {
            claim(app, &member, &format!("mia.{number}")).await;
            claim(app, &member, &format!("@Mia.{number}")).await;
        }
        let description = "at most 5 other handles in 30 days";
        let refused = json!({"message": description, "details": {"applicationError": {
            "code": "TOO_MANY_HANDLES", "description": description,
            "data": {"channel": "INSTAGRAM", "againDate": "2024-08-31T11:51:41.431Z"},
        }}});
        let both = json!({"tiktokHandle": "mia", "instagramHandle": "mia.6"});
        let answer = patch(app, &member, both).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (428, refused.clone()));
        assert_eq!(profile(app, &member).await["profile"].get("tiktokHandle"), None, "all or nothing");
        // To have none in between changes nothing, and the one before may be taken again.
        for (handle, status) in [(Value::Null, 200), (json!("mia.6"), 428), (json!("mia.5"), 200)] {
            let answer = patch(app, &member, json!({"instagramHandle": handle})).await;
            assert_eq!(answer.status.as_u16(), status, "{handle}");
        }
        assert_eq!(patch(app, &member, json!({"tiktokHandle": "mia"})).await.status.as_u16(), 200);
        // The owner may.
        let path = format!("/admin/v1/members/{}/profile", member.id);
        let body = json!({"profile": {"instagramHandle": "mia.6"}});
        app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;

        erasure::erase(&app.app.db, site_id(&site), member_id(&member)).await.unwrap();
        assert!(!dump(&app.app.db).await.iter().any(|row| row.contains("mia.")));
        assert_eq!(patch(app, &member, json!({"instagramHandle": "mia.7"})).await.json(), refused);
        let wish = [(Platform::Instagram, Some("mia.7".to_owned()))];
        let change = || profiles::change(&app.app.db, (site_id(&site), member_id(&member)), By::Member, &wish);
        app.clock.advance_ms(handles::CHANGES_MS - 1);
        assert!(matches!(change().await, Err(ProfileError::TooManyHandles { .. })));
        app.clock.advance_ms(1);
        assert_eq!(change().await.unwrap().handles[0].handle, "mia.7");
    }
}

on_both! {
    async fn unusable_handles_and_read_only_names_are_told_by_path(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        for unusable in ["", "@", "mia runs", "mía", "https://www.instagram.com/mia", &"a".repeat(31)] {
            let answer = patch(app, &member, json!({"instagramHandle": unusable, "tiktokHandle": "mia"})).await;
            let description = "is not a handle: 1 to 30 letters without accents, digits, dots and underscores";
            assert_eq!((answer.status.as_u16(), answer.json()), (400, json!({
                "message": format!("profile.instagramHandle {description}"),
                "details": {"validationError": {"fieldViolations": [{
                    "field": "profile.instagramHandle", "description": description,
                    "violatedRule": "FORMAT", "data": {"expected": "HANDLE"},
                }]}},
            })), "{unusable:?}");
        }
        for (field, value, rule) in [
            ("instagramHandle", json!(7), "FORMAT"),
            ("instagramHandle", json!({"name": null}), "FORMAT"),
            ("instagramHandle", json!({"handle": "m i a"}), "FORMAT"),
            ("instagramHandle", json!("a\u{0}b"), "FORMAT"),
            ("instagram_followers", json!(1_000_000), "FIELD_NOT_ALLOWED"),
            ("instagram_verified", json!(true), "FIELD_NOT_ALLOWED"),
            ("instagram_handle", Value::Null, "FIELD_NOT_ALLOWED"),
            ("dm_keyword", json!("NORDBREW"), "FIELD_NOT_ALLOWED"),
            ("tiktok_bio", json!("runs"), "FIELD_NOT_ALLOWED"),
            ("attributes", json!({"instagram_followers": 7}), "FIELD_NOT_ALLOWED"),
            ("memberId", json!(UNKNOWN_ID), "FIELD_NOT_ALLOWED"),
        ] {
            let answer = patch(app, &member, json!({"tiktokHandle": "mia", field: value})).await;
            let expected = [(format!("profile.{field}"), rule.to_owned())];
            assert_eq!(answer.violations(), expected, "{field}");
        }
        let both = patch(app, &member, json!({"tiktokHandle": "m i a", "instagram_bio": "x", "tiktok_bio": "x"}));
        assert_eq!(both.await.violations(), [
            ("profile.instagram_bio".to_owned(), "FIELD_NOT_ALLOWED".to_owned()),
            ("profile.tiktok_bio".to_owned(), "FIELD_NOT_ALLOWED".to_owned()),
            ("profile.tiktokHandle".to_owned(), "FORMAT".to_owned()),
        ]);
        let long = patch(app, &member, json!({"n".repeat(100_000): 1})).await;
        assert!(long.status.as_u16() == 400 && long.text.len() < 1_000, "{} bytes", long.text.len());
        let nothing = app.call("PATCH", PROFILE).auth(&member.token).json(&json!({})).send().await;
        assert_eq!(nothing.violations(), [("profile".to_owned(), "REQUIRED_FIELD".to_owned())]);
        assert_eq!(
            profile(app, &member).await,
            json!({"profile": {"memberId": member.id, "attributes": {}}}),
            "nothing of all that was stored"
        );
    }
}

on_both! {
    async fn a_profile_that_was_read_can_be_sent_back(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        claim(app, &member, "mia.runs.oslo").await;
        prove(app, &site, &member, Platform::Instagram, "5512034987760112").await.unwrap();
        tell(app, &site, &member).await;
        app.clock.advance_ms(60_000);
        let read = profile(app, &member).await;
        assert_eq!(patch(app, &member, read["profile"].clone()).await.json(), read);
        let path = format!("/admin/v1/members/{}/profile", member.id);
        assert_eq!(app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&read).ok().await, read);

        let refused = async |way: &str, value: Value| {
            let mut other = read["profile"].clone();
            *other.pointer_mut(way).unwrap() = value;
            patch(app, &member, other).await.violations()
        };
        let not_allowed = |field: &str| vec![(field.to_owned(), "FIELD_NOT_ALLOWED".to_owned())];
        let attributes = not_allowed("profile.attributes");
        assert_eq!(refused("/attributes/instagram_followers/value", json!(1_205)).await, attributes);
        assert_eq!(refused("/memberId", json!(UNKNOWN_ID)).await, not_allowed("profile.memberId"));
        let proof = not_allowed("profile.instagramHandle.verifiedDate");
        let later = "2024-08-01T11:52:41.431Z";
        assert_eq!(refused("/instagramHandle/verifiedDate", json!(later)).await, proof);
        assert_eq!(profile(app, &member).await, read);

        // The handle in what was read can be another, which is not proven for that.
        let mut changed = read["profile"].clone();
        changed["instagramHandle"]["handle"] = json!("@Mia.Walks");
        changed["tiktokHandle"] = Value::Null;
        let changed = patch(app, &member, changed).await.json();
        assert_eq!(
            changed["profile"]["instagramHandle"],
            json!({"handle": "mia.walks", "verified": false, "claimedDate": later})
        );
        let unclaimed = json!({"tiktokHandle": {"handle": "mia", "verified": true, "verifiedDate": null}});
        let refused = patch(app, &member, unclaimed).await.violations();
        assert_eq!(refused, not_allowed("profile.tiktokHandle.verified"));
    }
}

on_both! {
    async fn two_members_claim_one_handle_and_one_can_prove_it(app: &TestApp) {
        let site = app.site().await;
        let (first, second) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        claim(app, &first, "mia.runs.oslo").await;
        claim(app, &second, "mia.runs.oslo").await;
        prove(app, &site, &first, Platform::Instagram, "5512034987760112").await.unwrap();
        let is_taken = |error: sea_orm::DbErr| matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)));
        let other_person = prove(app, &site, &second, Platform::Instagram, "5512034987760113").await;
        assert!(is_taken(other_person.unwrap_err()), "a handle is proven once");
        claim(app, &second, "mia.walks").await;
        let same_person = prove(app, &site, &second, Platform::Instagram, "5512034987760112").await;
        assert!(is_taken(same_person.unwrap_err()), "a person is one member");
        prove(app, &site, &second, Platform::Instagram, "5512034987760113").await.unwrap();
        for member in [&first, &second] {
            assert_eq!(profile(app, member).await["profile"]["instagramHandle"]["verified"], true);
        }
        // Whoever claims a proven handle does not take it away.
        let third = app.member(&site, "u-3").await;
        claim(app, &third, "mia.runs.oslo").await;
        assert_eq!(profile(app, &third).await["profile"]["instagramHandle"]["verified"], false);
        assert_eq!(profile(app, &first).await["profile"]["instagramHandle"]["verified"], true);
    }
}

on_both! {
    async fn the_owner_reads_and_writes_by_the_same_rules(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let path = format!("/admin/v1/members/{}/profile", member.id);
        let owner = async |fields: Value| {
            let body = json!({"profile": fields});
            app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).send().await
        };
        let changed = owner(json!({"instagramHandle": "@Mia"})).await.json();
        assert_eq!(changed, json!({"profile": {
            "memberId": member.id,
            "instagramHandle": {"handle": "mia", "verified": false, "claimedDate": NOW},
            "attributes": verified(false, NOW),
        }}));
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, changed);
        assert_eq!(profile(app, &member).await, changed);
        let refused = owner(json!({"instagramHandle": "m i a", "instagram_followers": 7})).await;
        assert_eq!(refused.violations(), [
            ("profile.instagram_followers".to_owned(), "FIELD_NOT_ALLOWED".to_owned()),
            ("profile.instagramHandle".to_owned(), "FORMAT".to_owned()),
        ]);
    }
}

on_both! {
    async fn g5_profiles_of_another_site_are_as_unknown_as_nobodys(app: &TestApp) {
        let (one, two) = (app.site().await, app.site().await);
        let (of_one, of_two) = (app.member(&one, "u-1").await, app.member(&two, "u-1").await);
        let admin = app.site_key(&two, SITE_ADMIN).await;
        claim(app, &of_one, "mia").await;
        let mut answers = Vec::new();
        for id in [&of_one.id, UNKNOWN_ID] {
            let path = format!("/admin/v1/members/{id}/profile");
            let read = app.call("GET", &path).auth(&admin.secret).send().await;
            assert_eq!(read.error(), (404, "MEMBER_NOT_FOUND".to_owned()));
            let body = json!({"profile": {"instagramHandle": "stolen"}});
            let write = app.call("PATCH", &path).auth(&admin.secret).json(&body).send().await;
            assert_eq!(write.error(), (404, "MEMBER_NOT_FOUND".to_owned()));
            answers.push((read.text, write.text));
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(profile(app, &of_one).await["profile"]["instagramHandle"]["handle"], "mia");

        // The same person may be a member of two sites.
        claim(app, &of_two, "mia").await;
        prove(app, &one, &of_one, Platform::Instagram, "5512034987760112").await.unwrap();
        prove(app, &two, &of_two, Platform::Instagram, "5512034987760112").await.unwrap();
        // Claims on one site touch nothing of the other.
        claim(app, &of_two, "someoneelse").await;
        assert_eq!(profile(app, &of_one).await["profile"]["instagramHandle"]["verified"], true);
    }
}

on_both! {
    async fn members_changing_their_profile_at_once_all_get_an_answer(app: &TestApp) {
        let site = app.site().await;
        let (one, two) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        let calls = (0..12).map(|number| {
            let member: &Member = if number % 2 == 0 { &one } else { &two };
            patch(app, member, json!({"instagramHandle": format!("mia{number}"), "tiktokHandle": format!("mia{number}")}))
        });
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
            let profile = &answer.json()["profile"];
            assert_eq!(profile["instagramHandle"]["handle"], profile["tiktokHandle"]["handle"], "both or none");
        }
    }
}

/// As if a post of `handle` waited for somebody to have it; gives its id.
async fn park(app: &TestApp, site: &Site, platform: Platform, handle: &str) -> ItemId {
    let tx = app.app.db.write().await.unwrap();
    let id = ItemId(tx.new_id());
    let row = item::Model {
        id,
        platform,
        account: "17841460998877001".to_owned(),
        item_key: id.to_string(),
        kind: "tag".to_owned(),
        person: None,
        handle: Some(handle.to_owned()),
        payload: "{}".to_owned(),
        occurred_at: None,
        delivery_id: None,
        site_id: Some(site_id(site)),
        status: ItemStatus::Parked,
        reason: None,
        attempts: 1,
        due_at: LATE,
        expires_at: Some(LATE),
        received_at: tx.now(),
    };
    item::Entity::insert(item::ActiveModel::from(row)).exec_without_returning(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

on_both! {
    async fn what_waited_for_a_handle_is_worked_on_when_somebody_claims_it(app: &TestApp) {
        let (site, elsewhere) = (app.site().await, app.site().await);
        let member = app.member(&site, "u-1").await;
        assert_ne!(member_id(&member).0, Uuid::nil());
        let wanted = park(app, &site, Platform::Instagram, "mia").await;
        let others = [
            park(app, &site, Platform::Instagram, "mia2").await,
            park(app, &site, Platform::Tiktok, "mia").await,
            park(app, &elsewhere, Platform::Instagram, "mia").await,
        ];
        app.clock.advance_ms(5_000);
        claim(app, &member, "@Mia").await;
        let due = async |id: ItemId| {
            item::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap().due_at
        };
        assert!(due(wanted).await <= START.plus_ms(5_000), "it is due");
        for other in others {
            assert_eq!(due(other).await, LATE);
        }
    }
}
