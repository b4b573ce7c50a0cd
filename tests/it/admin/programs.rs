//! The loyalty program of a site.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::callers::{MANAGE, READ};
use crate::support::world::text;
use crate::support::{ADMIN_KEY, TestApp};

const PATH: &str = "/loyalty-programs/v1/program";

async fn change(app: &TestApp, site: &str, program: Value) -> crate::support::client::Answer {
    app.call("PATCH", PATH).key(ADMIN_KEY, site).json(&json!({"loyaltyProgram": program})).send().await
}

on_both! {
    async fn a_program_is_a_draft_then_active_then_paused(app: &TestApp) {
        let body = json!({"site": {"name": "Nordbrew"}});
        let site =
            text(&app.call("POST", "/admin/v1/sites").auth(ADMIN_KEY).json(&body).ok().await["site"]["id"]);
        let draft = app.call("GET", PATH).key(ADMIN_KEY, &site).ok().await;
        assert_eq!(
            draft,
            json!({"loyaltyProgram": {
                "name": "Loyalty program", "pointDefinition": {}, "status": "DRAFT",
                "createdDate": "2024-08-01T11:51:41.431Z", "updatedDate": "2024-08-01T11:51:41.431Z",
            }})
        );
        for (step, status) in
            [("activate", "ACTIVE"), ("pause", "PAUSED"), ("pause", "PAUSED"), ("activate", "ACTIVE")]
        {
            app.clock.advance_ms(1);
            // With a body as the SDK sends it, and without.
            let path = format!("{PATH}/{step}");
            let answer = app.call("POST", &path).key(ADMIN_KEY, &site).json(&json!({})).ok().await;
            assert_eq!(answer["loyaltyProgram"]["status"], status);
            let second = app.call("POST", &format!("/_api{path}")).key(ADMIN_KEY, &site).ok().await;
            assert_eq!(second, answer);
            assert_eq!(app.call("GET", PATH).key(ADMIN_KEY, &site).ok().await, answer);
        }
    }
}

on_both! {
    async fn fields_that_are_given_change_and_the_others_stay(app: &TestApp) {
        let site = app.site().await;
        app.clock.advance_ms(1_000);
        let expected = |name: &str, point_name: &str| {
            json!({"loyaltyProgram": {
                "name": name, "pointDefinition": {"customName": point_name}, "status": "ACTIVE",
                "createdDate": "2024-08-01T11:51:41.431Z", "updatedDate": "2024-08-01T11:51:42.431Z",
            }})
        };
        let twenty = "\u{1f37a}".repeat(20);
        assert_eq!(
            change(app, &site.id, json!({"name": "Brew Club", "pointDefinition": {"customName": "Hops"}}))
                .await
                .json(),
            expected("Brew Club", "Hops")
        );
        assert_eq!(change(app, &site.id, json!({"name": "Bc"})).await.json(), expected("Bc", "Hops"));
        assert_eq!(
            change(app, &site.id, json!({"pointDefinition": {"customName": twenty}})).await.json(),
            expected("Bc", &twenty)
        );
        assert_eq!(change(app, &site.id, json!({})).await.json(), expected("Bc", &twenty));
        // Read-only fields are ignored.
        assert_eq!(
            change(app, &site.id, json!({"status": "PAUSED", "createdDate": 1})).await.json(),
            expected("Bc", &twenty)
        );
    }
}

on_both! {
    async fn fields_out_of_range_are_named_and_change_nothing(app: &TestApp) {
        let site = app.site().await;
        let before = app.call("GET", PATH).key(ADMIN_KEY, &site.id).ok().await;
        for (program, field, rule) in [
            (json!({"name": "B"}), ".name", "MIN_LENGTH"),
            (json!({"name": "B".repeat(51)}), ".name", "MAX_LENGTH"),
            (json!({"name": ["Brew"]}), ".name", "FORMAT"),
            (
                json!({"pointDefinition": {"customName": "a".repeat(21)}}),
                ".pointDefinition.customName",
                "MAX_LENGTH",
            ),
            (json!({"pointDefinition": "Hops"}), ".pointDefinition", "FORMAT"),
            (Value::Null, "", "REQUIRED_FIELD"),
        ] {
            let answer = change(app, &site.id, program.clone()).await;
            let expected = [(format!("loyaltyProgram{field}"), rule.to_owned())];
            assert_eq!(answer.violations(), expected, "{program}");
        }
        assert_eq!(app.call("GET", PATH).key(ADMIN_KEY, &site.id).ok().await, before);
    }
}

on_both! {
    async fn reading_is_for_everybody_and_changing_for_those_who_manage(app: &TestApp) {
        let site = app.site().await;
        let (reader, manager) = (app.site_key(&site, READ).await, app.site_key(&site, MANAGE).await);
        let member = app.member(&site, "u-1").await;
        let body = json!({"loyaltyProgram": {"name": "Brew Club"}});
        for (auth, read, write) in
            [(&member.token, 200, 403), (&reader.secret, 200, 403), (&manager.secret, 200, 200)]
        {
            assert_eq!(app.call("GET", PATH).auth(auth).send().await.status.as_u16(), read);
            assert_eq!(app.call("PATCH", PATH).auth(auth).json(&body).send().await.status.as_u16(), write);
        }
        let refused = app.call("PATCH", PATH).auth(&reader.secret).json(&body).send().await;
        assert_eq!(refused.json()["message"], "this needs scope SCOPE.DC-LOYALTY.MANAGE-LOYALTY");
    }
}

on_both! {
    async fn the_name_of_points_is_taken_away_by_null_or_nothing(app: &TestApp) {
        let site = app.site().await;
        for none in [json!(null), json!(""), json!("  ")] {
            let named = change(app, &site.id, json!({"pointDefinition": {"customName": "Hops"}})).await.json();
            assert_eq!(named["loyaltyProgram"]["pointDefinition"], json!({"customName": "Hops"}));
            let kept = change(app, &site.id, json!({"pointDefinition": {}})).await.json();
            assert_eq!(kept["loyaltyProgram"]["pointDefinition"], json!({"customName": "Hops"}));
            let gone = change(app, &site.id, json!({"pointDefinition": {"customName": none}})).await.json();
            assert_eq!(gone["loyaltyProgram"]["pointDefinition"], json!({}), "{none}");
        }
    }
}
