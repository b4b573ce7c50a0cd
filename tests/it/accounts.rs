//! Loyalty accounts: who may read which, how they are named, and making one before the first follow.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::client::Answer;
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const PATH: &str = "/loyalty-accounts/v1/accounts";

fn error(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn violation(field: &str, rule: &str) -> Vec<(String, String)> {
    vec![(field.to_owned(), rule.to_owned())]
}

async fn create(app: &TestApp, site: &Site, contact: &str) -> Answer {
    let body = json!({"contactId": contact});
    app.call("POST", PATH).key(ADMIN_KEY, &site.id).json(&body).send().await
}

async fn get(app: &TestApp, token: &str, rest: &str) -> Answer {
    app.call("GET", &format!("{PATH}{rest}")).auth(token).send().await
}

on_both! {
    async fn an_account_is_made_from_a_contact_and_told_as_an_event(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let installed = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;

        let body = json!({"contactId": member.contact_id, "unknown": 1});
        let created = app.call("POST", PATH).auth(&token).json(&body).ok().await;

        let account = &created["account"];
        assert_eq!(
            created,
            json!({"account": {
                "id": account["id"], "contactId": member.contact_id, "memberId": member.id,
                "points": {"balance": 0, "earned": 0, "adjusted": 0, "redeemed": 0, "expired": 0},
                "createdDate": "2024-08-01T11:51:41.431Z", "updatedDate": "2024-08-01T11:51:41.431Z", "revision": "1",
            }})
        );
        assert_eq!(app.account(&member).await, *account);
        let events = app.admin_list(&site, "/admin/v1/events", "events").await;
        let [event] = events.as_slice() else { panic!("not one event: {events:?}") };
        assert_eq!(
            *event,
            json!({
                "id": event["id"], "eventType": "wix.loyalty.v1.account_created", "entityId": account["id"],
                "accountId": account["id"], "entityEventSequence": "1", "eventDate": "2024-08-01T11:51:41.431Z",
                "identity": {"identityType": "APP", "appId": installed.id},
                "data": {
                    "id": event["id"], "entityFqdn": "wix.loyalty.v1.account", "slug": "created",
                    "entityId": account["id"], "createdEvent": {"entity": account},
                    "eventTime": "2024-08-01T11:51:41.431Z", "triggeredByAnonymizeRequest": false,
                    "originatedFrom": null, "entityEventSequence": "1",
                },
            })
        );
    }
}

on_both! {
    async fn refusals_of_a_new_account_come_in_the_order_contact_program_repeat(app: &TestApp) {
        let site = app.draft_site().await;
        let elsewhere = app.site().await;
        let member = app.member(&site, "u-1").await;
        let foreign = app.member(&elsewhere, "u-1").await;

        for unknown in [UNKNOWN_ID, &member.id, &foreign.contact_id] {
            let refused = create(app, &site, unknown).await;
            assert_eq!(
                (refused.status.as_u16(), refused.json()),
                (404, json!({"message": format!("there is no contact {unknown}"), "details": {"applicationError": {
                    "code": "CONTACT_NOT_FOUND", "description": format!("there is no contact {unknown}"), "data": {},
                }}}))
            );
        }
        let refused = create(app, &site, &member.contact_id).await;
        assert_eq!(refused.error(), error(428, "PROGRAM_NOT_ACTIVE"));
        assert_eq!(refused.json()["details"]["applicationError"]["data"], json!({"status": "DRAFT"}));

        app.call("POST", "/loyalty-programs/v1/program/activate").key(ADMIN_KEY, &site.id).ok().await;
        let created = create(app, &site, &member.contact_id).await.json();
        let refused = create(app, &site, &member.contact_id).await;
        assert_eq!(refused.error(), error(409, "ALREADY_EXISTS"));
        assert_eq!(
            refused.json()["details"]["applicationError"]["data"],
            json!({"accountId": created["account"]["id"]})
        );
        app.call("POST", "/loyalty-programs/v1/program/pause").key(ADMIN_KEY, &site.id).ok().await;
        let refused = create(app, &site, &member.contact_id).await;
        assert_eq!(refused.json()["details"]["applicationError"]["data"], json!({"status": "PAUSED"}));

        let send = |body: Value| app.call("POST", PATH).key(ADMIN_KEY, &site.id).json(&body).send();
        assert_eq!(send(json!({})).await.violations(), violation("contactId", "REQUIRED_FIELD"));
        assert_eq!(send(json!({"contactId": "c-1"})).await.violations(), violation("contactId", "FORMAT"));
        assert_eq!(app.admin_list(&site, "/admin/v1/events", "events").await.len(), 1);
    }
}

on_both! {
    async fn g1_parallel_creations_of_one_account_make_one(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;

        let answers = join_all((0..40).map(|_| create(app, &site, &member.contact_id))).await;

        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200], vec![409; 39]].concat());
        assert_eq!(app.admin_list(&site, "/admin/v1/events", "events").await.len(), 1);
    }
}

on_both! {
    async fn g1_a_creation_beside_first_follows_leaves_one_account(app: &TestApp) {
        let site = app.site().await;
        for round in 0..8 {
            let member = app.member(&site, &format!("u-{round}")).await;
            let (created, followed) = tokio::join!(
                create(app, &site, &member.contact_id),
                join_all(["X", "INSTAGRAM"].map(|channel| app.follow(&member, channel))),
            );

            assert!([200, 409].contains(&created.status.as_u16()), "{}", created.text);
            let account = app.account(&member).await;
            assert_eq!(account["points"]["balance"], 80);
            assert_eq!(followed[0]["accountId"], account["id"]);
            assert_eq!(followed[1]["accountId"], account["id"]);
        }
        let made = "/admin/v1/events?type=wix.loyalty.v1.account_created";
        assert_eq!(app.admin_list(&site, made, "events").await.len(), 8);
    }
}

on_both! {
    async fn the_revision_grows_with_every_movement_of_points_and_with_nothing_else(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        create(app, &site, &member.contact_id).await;
        let mut seen = vec![app.account(&member).await["revision"].clone()];
        // FACEBOOK gives no points.
        for channel in ["FACEBOOK", "X", "INSTAGRAM"] {
            app.clock.advance_ms(1_000);
            app.follow(&member, channel).await;
            seen.push(app.account(&member).await["revision"].clone());
        }
        assert_eq!(seen, ["1", "1", "2", "3"]);
        let account = app.account(&member).await;
        assert_eq!(account["createdDate"], "2024-08-01T11:51:41.431Z");
        assert_eq!(account["updatedDate"], "2024-08-01T11:51:44.431Z");
        assert_eq!(account["lastActivityDate"], "2024-08-01T11:51:44.431Z");
    }
}

on_both! {
    async fn g5_a_member_reads_its_own_account_and_no_other(app: &TestApp) {
        let (site, elsewhere) = (app.site().await, app.site().await);
        let (own, other) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        let foreign = app.member(&elsewhere, "u-1").await;
        assert_eq!(get(app, &own.token, "/my-account").await.error(), error(404, "ACCOUNT_NOT_FOUND"));
        for member in [&own, &other, &foreign] {
            app.follow(member, "X").await;
        }
        let account = app.account(&own).await;
        let id = text(&account["id"]);

        // The Wix SDK repeats the id of the path in the query.
        for rest in [format!("/{id}"), format!("/{id}?id={id}"), format!("/{id}?id=x&id={UNKNOWN_ID}")] {
            let answer = get(app, &own.token, &rest).await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"account": account})));
        }
        let others = text(&app.account(&other).await["id"]);
        let foreigners = text(&app.account(&foreign).await["id"]);
        let unknown = get(app, &own.token, &format!("/{UNKNOWN_ID}")).await;
        for id in [&others, &foreigners, &own.id, &own.contact_id] {
            let answer = get(app, &own.token, &format!("/{id}")).await;
            assert_eq!(answer.error(), error(404, "ACCOUNT_NOT_FOUND"));
            assert_eq!(answer.text, unknown.text);
        }
        assert_eq!(get(app, &own.token, "/not-a-guid").await.violations(), violation("id", "FORMAT"));
        for rest in [format!("/fetch-by?memberId={}", own.id), format!("/fetch-by?memberId={}", other.id)] {
            assert_eq!(get(app, &own.token, &rest).await.error(), error(403, "PERMISSION_DENIED"));
        }
        let body = json!({"contactId": own.contact_id});
        let refused = app.call("POST", PATH).auth(&own.token).json(&body).send().await;
        assert_eq!(refused.error(), error(403, "PERMISSION_DENIED"));
    }
}

on_both! {
    async fn apps_and_keys_read_any_account_of_their_site_and_have_none_themselves(app: &TestApp) {
        let (site, elsewhere) = (app.site().await, app.site().await);
        let (member, foreign) = (app.member(&site, "u-1").await, app.member(&elsewhere, "u-1").await);
        app.follow(&member, "X").await;
        app.follow(&foreign, "X").await;
        let token = app.app_token(&app.installed_app(&site).await).await;
        let account = app.account(&member).await;
        let foreigners = app.account(&foreign).await;
        let own = [
            format!("/{}", text(&account["id"])),
            format!("/fetch-by?memberId={}", member.id),
            format!("/fetch-by?contactId={}", member.contact_id),
        ];
        let unknown = [
            format!("/{UNKNOWN_ID}"),
            format!("/{}", text(&foreigners["id"])),
            format!("/fetch-by?memberId={}", foreign.id),
            format!("/fetch-by?memberId={}", member.contact_id),
            format!("/fetch-by?contactId={}", foreign.contact_id),
            format!("/fetch-by?contactId={}", member.id),
        ];

        let by_key = |rest: String| app.call("GET", &format!("{PATH}{rest}")).key(ADMIN_KEY, &site.id).send();
        for rest in own {
            assert_eq!(get(app, &token, &rest).await.json(), json!({"account": account}), "{rest}");
            assert_eq!(by_key(rest).await.json(), json!({"account": account}));
        }
        for rest in unknown {
            assert_eq!(get(app, &token, &rest).await.error(), error(404, "ACCOUNT_NOT_FOUND"), "{rest}");
            assert_eq!(by_key(rest).await.error(), error(404, "ACCOUNT_NOT_FOUND"));
        }
        assert_eq!(get(app, &token, "/my-account").await.error(), error(403, "PERMISSION_DENIED"));
        assert_eq!(by_key("/my-account".to_owned()).await.error(), error(403, "PERMISSION_DENIED"));
        let nowhere = app.call("GET", &format!("{PATH}/{UNKNOWN_ID}")).auth(ADMIN_KEY).send().await;
        assert_eq!(nowhere.violations(), violation("wix-site-id", "REQUIRED_FIELD"));
    }
}

on_both! {
    async fn a_search_names_exactly_one_of_member_and_contact(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;
        let Member { id, contact_id, .. } = &member;

        let search = |query: String| {
            app.call("GET", &format!("{PATH}/fetch-by{query}")).key(ADMIN_KEY, &site.id).send()
        };
        for query in [String::new(), format!("?memberId={id}&contactId={contact_id}")] {
            assert_eq!(
                search(query).await.json(),
                json!({
                    "message": "memberId give exactly one of memberId and contactId",
                    "details": {"validationError": {"fieldViolations": [{
                        "field": "memberId", "description": "give exactly one of memberId and contactId",
                        "violatedRule": "ONE_OF_ALIGNMENT", "data": {},
                    }]}},
                })
            );
        }
        assert_eq!(search("?memberId=u-1".to_owned()).await.violations(), violation("memberId", "FORMAT"));
        assert_eq!(search("?contactId=".to_owned()).await.violations(), violation("contactId", "FORMAT"));
        assert_eq!(search(format!("?unknown=1&memberId={id}")).await.status.as_u16(), 200);
    }
}

on_both! {
    async fn a_visitor_has_no_account_and_reads_none(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;
        let id = text(&app.account(&member).await["id"]);
        let (token, _) = app.visitor(&app.front_end(&site, &["https://shop.example"]).await).await;

        let by_member = format!("/fetch-by?memberId={}", member.id);
        for rest in ["/my-account", &format!("/{id}"), &format!("/{UNKNOWN_ID}"), &by_member] {
            assert_eq!(get(app, &token, rest).await.error(), error(403, "PERMISSION_DENIED"), "{rest}");
        }
        let body = json!({"contactId": member.contact_id});
        let refused = app.call("POST", PATH).auth(&token).json(&body).send().await;
        assert_eq!(refused.error(), error(403, "PERMISSION_DENIED"));
        let nobody = app.call("GET", &format!("{PATH}/my-account")).send().await;
        assert_eq!(nobody.error(), error(401, "UNAUTHENTICATED"));
    }
}
