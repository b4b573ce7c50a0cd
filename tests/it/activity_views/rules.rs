//! Making, changing, seeing and deleting rules.

use serde_json::{Value, json};

use super::{AT, RULES};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::client::Answer;
use crate::support::sources::{activity, award, guid, insert, item};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

async fn create(app: &TestApp, site: &Site, rule: &Value) -> Answer {
    let body = json!({"activityRule": rule});
    app.call("POST", RULES).key(ADMIN_KEY, &site.id).json(&body).send().await
}

async fn change(app: &TestApp, site: &Site, id: &str, rule: &Value) -> Answer {
    let body = json!({"activityRule": rule});
    app.call("PATCH", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).json(&body).send().await
}

fn full() -> Value {
    json!({
        "type": "MENTIONED_YOU_SOCIAL", "platform": "INSTAGRAM", "mentionType": "tag", "points": 25,
        "limits": {"perMember": {"count": 1, "every": "P1D"}, "total": {"points": 100_000}},
        "requires": {"verifiedHandle": true, "followersMin": 1_000, "captionContains": ["#nordbrew"]},
        "startsAt": "2024-08-01T02:00:00+02:00", "endsAt": "2024-09-01T00:00:00Z",
    })
}

fn with(mut rule: Value, more: &Value) -> Value {
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

/// The full rule as it is shown, with `more`.
fn shown(id: &Value, more: &Value) -> Value {
    let rule = with(
        full(),
        &json!({
            "id": id, "revision": "1", "enabled": true, "awardedPoints": 0, "createdDate": AT, "updatedDate": AT,
            "startsAt": "2024-08-01T00:00:00.000Z", "endsAt": "2024-09-01T00:00:00.000Z",
        }),
    );
    with(rule, more)
}

on_both! {
    async fn a_rule_is_made_read_changed_and_deleted(app: &TestApp) {
        let site = app.site().await;
        let made = create(app, &site, &full()).await.json()["activityRule"].clone();
        assert_eq!(made, shown(&made["id"], &json!({})));
        let id = text(&made["id"]);
        let get = || app.call("GET", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).send();
        assert_eq!(get().await.json(), json!({"activityRule": made}));

        app.clock.advance_ms(1);
        let later = "2024-08-01T11:51:41.432Z";
        let changed = change(app, &site, &id, &json!({"revision": "1", "points": 30, "enabled": false})).await.json();
        let more = json!({"revision": "2", "points": 30, "enabled": false, "updatedDate": later});
        assert_eq!(changed, json!({"activityRule": shown(&made["id"], &more)}), "what is absent stays");
        assert_eq!(get().await.json(), changed);

        let nothing = app.call("DELETE", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(nothing, json!({}));
        let gone = json!({
            "message": "there is no such activity rule",
            "details": {"applicationError": {
                "code": "ACTIVITY_RULE_NOT_FOUND", "description": "there is no such activity rule", "data": {},
            }},
        });
        let answers = [
            get().await,
            change(app, &site, &id, &json!({"points": 1})).await,
            app.call("DELETE", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).send().await,
        ];
        for answer in answers {
            assert_eq!((answer.status.as_u16(), answer.json()), (404, gone.clone()));
        }
    }
}

on_both! {
    async fn null_takes_away_what_is_optional_and_parts_of_parts_change_alone(app: &TestApp) {
        let site = app.site().await;
        let made = create(app, &site, &full()).await.json();
        let id = text(&made["activityRule"]["id"]);
        let some = json!({
            "platform": null, "mentionType": null, "startsAt": null, "limits": {"total": null},
            "requires": {"followersMin": null, "captionContains": ["#ale", "#mug"]},
        });
        let changed = change(app, &site, &id, &some).await.json()["activityRule"].clone();
        let mut expected = shown(&json!(id), &json!({
            "revision": "2", "limits": {"perMember": {"count": 1, "every": "P1D"}},
            "requires": {"verifiedHandle": true, "captionContains": ["#ale", "#mug"]},
        }));
        for field in ["platform", "mentionType", "startsAt"] {
            expected.as_object_mut().unwrap().remove(field);
        }
        assert_eq!(changed, expected);

        let other = json!({
            "type": "DM_YOU_SOCIAL", "limits": {"perMember": {"count": 3, "every": "EVER"}, "total": {"points": 7}},
            "requires": {"verifiedHandle": null, "captionContains": null, "followersMin": 5},
        });
        let changed = change(app, &site, &id, &other).await.json()["activityRule"].clone();
        assert_eq!(changed["type"], "DM_YOU_SOCIAL");
        assert_eq!(changed["limits"], other["limits"]);
        assert_eq!(changed["requires"], json!({"followersMin": 5}));

        let rest = json!({"limits": null, "requires": null, "endsAt": null});
        let changed = change(app, &site, &id, &rest).await.json()["activityRule"].clone();
        assert_eq!(
            changed,
            json!({
                "id": id, "revision": "4", "type": "DM_YOU_SOCIAL", "points": 25, "enabled": true, "awardedPoints": 0,
                "createdDate": AT, "updatedDate": AT,
            })
        );
        let least = json!({"type": "FOLLOWED_YOU_SOCIAL", "points": 1, "enabled": false});
        let least = create(app, &site, &least).await.json()["activityRule"].clone();
        assert_eq!(
            least,
            json!({
                "id": least["id"], "revision": "1", "type": "FOLLOWED_YOU_SOCIAL", "points": 1, "enabled": false,
                "awardedPoints": 0, "createdDate": AT, "updatedDate": AT,
            })
        );
    }
}

on_both! {
    async fn a_change_based_on_an_old_revision_is_refused(app: &TestApp) {
        let site = app.site().await;
        let id = text(&create(app, &site, &full()).await.json()["activityRule"]["id"]);
        assert_eq!(change(app, &site, &id, &json!({"revision": "1", "points": 30})).await.status.as_u16(), 200);
        for stale in ["0", "1", "3"] {
            let answer = change(app, &site, &id, &json!({"revision": stale, "points": 40})).await;
            assert_eq!(answer.error(), (409, "ABORTED".to_owned()));
        }
        let unreadable = change(app, &site, &id, &json!({"revision": "two"})).await;
        assert_eq!(unreadable.violations(), [("activityRule.revision".to_owned(), "FORMAT".to_owned())]);
        let read = app.call("GET", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!((&read["activityRule"]["points"], &read["activityRule"]["revision"]), (&json!(30), &json!("2")));
    }
}

/// What breaks which rule of a rule, where it stands below `activityRule`.
fn refusals() -> Vec<(Value, Vec<(&'static str, &'static str)>)> {
    let long = "x".repeat(101);
    vec![
        (json!({"type": "LIKED_YOU_SOCIAL"}), vec![("type", "INVALID_ENUM_VALUE")]),
        (json!({"type": null}), vec![("type", "REQUIRED_FIELD")]),
        (json!({"platform": "X"}), vec![("platform", "INVALID_ENUM_VALUE")]),
        (json!({"mentionType": "Tag"}), vec![("mentionType", "INVALID_ENUM_VALUE")]),
        (json!({"type": "DM_YOU_SOCIAL"}), vec![("mentionType", "FORMAT")]),
        (json!({"points": null}), vec![("points", "REQUIRED_FIELD")]),
        (json!({"points": 0}), vec![("points", "MIN")]),
        (json!({"points": 10_000_000}), vec![("points", "MAX")]),
        (json!({"points": 2.5}), vec![("points", "FORMAT")]),
        (json!({"points": "25"}), vec![("points", "FORMAT")]),
        (
            json!({"limits": {"perMember": {}}}),
            vec![("limits.perMember.count", "REQUIRED_FIELD"), ("limits.perMember.every", "REQUIRED_FIELD")],
        ),
        (
            json!({"limits": {"perMember": {"count": 0, "every": "P2D"}}}),
            vec![("limits.perMember.count", "MIN"), ("limits.perMember.every", "INVALID_ENUM_VALUE")],
        ),
        (
            json!({"limits": {"perMember": {"count": 1_000_001, "every": "PT1H"}}}),
            vec![("limits.perMember.count", "MAX")],
        ),
        (json!({"limits": {"total": {"points": 0}}}), vec![("limits.total.points", "MIN")]),
        (json!({"limits": {"total": {}}}), vec![("limits.total.points", "REQUIRED_FIELD")]),
        (json!({"limits": 7}), vec![("limits", "FORMAT")]),
        (json!({"requires": {"verifiedHandle": "yes"}}), vec![("requires.verifiedHandle", "FORMAT")]),
        (json!({"requires": {"followersMin": 0}}), vec![("requires.followersMin", "MIN")]),
        (
            json!({"requires": {"captionContains": vec!["x"; 21]}}),
            vec![("requires.captionContains", "MAX_SIZE")],
        ),
        (
            json!({"requires": {"captionContains": ["#a", " ", long]}}),
            vec![
                ("requires.captionContains[1]", "REQUIRED_FIELD"),
                ("requires.captionContains[2]", "MAX_LENGTH"),
            ],
        ),
        (
            json!({"requires": {"captionContains": ["\u{0}"]}}),
            vec![("requires.captionContains[0]", "FORMAT")],
        ),
        (json!({"startsAt": "tomorrow"}), vec![("startsAt", "FORMAT")]),
        (json!({"endsAt": "2024-09-01"}), vec![("endsAt", "FORMAT")]),
        (json!({"endsAt": "2024-08-01T00:00:00Z"}), vec![("endsAt", "FORMAT")]),
        (
            json!({"endsAt": "2024-07-31T23:59:59Z", "type": "COMMENTED_YOU_SOCIAL"}),
            vec![("mentionType", "FORMAT"), ("endsAt", "FORMAT")],
        ),
        (json!({"enabled": 1}), vec![("enabled", "FORMAT")]),
    ]
}

on_both! {
    async fn what_a_rule_cannot_be_is_refused_with_its_path(app: &TestApp) {
        let site = app.site().await;
        let id = text(&create(app, &site, &full()).await.json()["activityRule"]["id"]);
        for (wrong, expected) in refusals() {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(field, rule)| (format!("activityRule.{field}"), rule.to_owned()))
                .collect();
            let refused = create(app, &site, &with(full(), &wrong)).await;
            assert_eq!((refused.status.as_u16(), refused.violations()), (400, expected.clone()), "{wrong}");
            // A change must not lead there either; what must be there cannot be taken away and stays.
            if expected.iter().all(|(_, rule)| rule != "REQUIRED_FIELD") {
                let refused = change(app, &site, &id, &wrong).await;
                assert_eq!((refused.status.as_u16(), refused.violations()), (400, expected), "{wrong}");
            }
        }
        let empty = app.call("POST", RULES).key(ADMIN_KEY, &site.id).json(&json!({})).send().await;
        assert_eq!(empty.violations(), [("activityRule".to_owned(), "REQUIRED_FIELD".to_owned())]);
        let read = app.call("GET", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read, json!({"activityRule": shown(&json!(id), &json!({}))}), "nothing has changed");
        let words = json!({"requires": {"captionContains": vec!["ø".repeat(100); 20]}, "points": 9_999_999});
        assert_eq!(create(app, &site, &with(full(), &words)).await.status.as_u16(), 200, "the limits themselves");
        for period in ["PT1H", "P1D", "P7D", "P30D", "P365D", "EVER"] {
            let limits = json!({"limits": {"perMember": {"count": 1, "every": period}}});
            let made = create(app, &site, &with(full(), &limits)).await.json();
            assert_eq!(made["activityRule"]["limits"], limits["limits"]);
        }
    }
}

on_both! {
    async fn a_site_has_a_hundred_rules_and_lists_them_in_pages(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let mut ids = Vec::new();
        for number in 1..=100 {
            let rule = json!({"type": "DM_YOU_SOCIAL", "points": number});
            ids.insert(0, text(&create(app, &site, &rule).await.json()["activityRule"]["id"]));
        }
        let one_more = create(app, &site, &json!({"type": "DM_YOU_SOCIAL", "points": 1})).await;
        let why = "a site has at most 100 activity rules; delete one first";
        assert_eq!(
            (one_more.status.as_u16(), one_more.json()),
            (428, json!({"message": why, "details": {"applicationError": {
                "code": "TOO_MANY_ACTIVITY_RULES", "description": why, "data": {},
            }}}))
        );
        assert_eq!(create(app, &other, &full()).await.status.as_u16(), 200, "another site has its own hundred");

        let (mut seen, mut path) = (Vec::new(), format!("{RULES}?limit=40"));
        loop {
            let page = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
            seen.push(page["activityRules"].as_array().unwrap().iter().map(|rule| text(&rule["id"])).collect::<Vec<_>>());
            let Some(next) = page["pagingMetadata"]["cursors"]["next"].as_str() else { break };
            path = format!("{RULES}?limit=40&cursor={next}");
        }
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [40, 40, 20]);
        assert_eq!(seen.concat(), ids, "newest first");

        app.call("DELETE", &format!("{RULES}/{}", ids[7])).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(create(app, &site, &full()).await.status.as_u16(), 200, "there is room again");
    }
}

on_both! {
    async fn what_a_deleted_rule_awarded_still_names_it(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let account = app.new_account(&site, &member).await;
        let rule = text(&create(app, &site, &full()).await.json()["activityRule"]["id"]);
        let tx = app.app.db.write().await.unwrap();
        let sent = item(&tx, &site, "mention:1");
        let mut seen = activity(&tx, &sent);
        (seen.account_id, seen.points) = (Some(entity::id::AccountId(guid(&account))), 25);
        insert(&tx, [award(&tx, &seen, &rule, 3)]).await;
        let id = seen.id.to_string();
        insert(&tx, [sent]).await;
        insert(&tx, [seen]).await;
        tx.commit().await.unwrap();
        app.call("DELETE", &format!("{RULES}/{rule}")).key(ADMIN_KEY, &site.id).ok().await;
        let story = app.call("GET", &format!("/admin/v1/activities/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(
            story["effects"]["awards"],
            json!([{"ruleId": rule, "ruleRevision": "3", "points": 25, "awardedDate": AT}])
        );
    }
}

on_both! {
    async fn g5_a_rule_of_another_site_is_answered_like_an_unknown_one(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let id = text(&create(app, &site, &full()).await.json()["activityRule"]["id"]);
        for id in [id.as_str(), UNKNOWN_ID] {
            let path = format!("{RULES}/{id}");
            for (method, body) in [("GET", None), ("PATCH", Some(json!({"activityRule": {"points": 1}}))), ("DELETE", None)] {
                let mut call = app.call(method, &path).key(ADMIN_KEY, &other.id);
                if let Some(body) = &body {
                    call = call.json(body);
                }
                assert_eq!(call.send().await.error(), (404, "ACTIVITY_RULE_NOT_FOUND".to_owned()), "{method}");
            }
        }
        let read = app.call("GET", &format!("{RULES}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read, json!({"activityRule": shown(&json!(id), &json!({}))}));
        assert_eq!(app.admin_list(&other, RULES, "activityRules").await, Vec::<Value>::new());
    }
}
