//! Rotation of an app's secret: within the overlap the old and the new one get tokens, afterwards the new one only.

use entity::app_secret;
use followpoints::apps::secrets;
use futures_util::future::join_all;
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::{Value, json};

use super::{both, status};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::client::Answer;
use crate::support::dump::dump;
use crate::support::world::{InstalledApp, text};
use crate::support::{ADMIN_KEY, TestApp};

/// Whether `secret` gets the app a token.
async fn works(app: &TestApp, installed: &InstalledApp, secret: &str) -> bool {
    let body = json!({
        "grant_type": "client_credentials", "client_id": installed.id, "client_secret": secret,
        "instance_id": installed.instance_id,
    });
    let answer = app.token(&body).await;
    if answer.status.as_u16() == 200 {
        return true;
    }
    let unknown = json!({
        "error": "invalid_client", "error_description": "the client is unknown or its secret is wrong",
    });
    assert_eq!(both(&answer), (401, unknown));
    false
}

async fn try_rotating(app: &TestApp, id: &str, auth: &str, body: &Value) -> Answer {
    app.call("POST", &format!("/admin/v1/apps/{id}/rotate-secret")).auth(auth).json(body).send().await
}

/// Rotates; gives the new secret.
async fn rotate(app: &TestApp, installed: &InstalledApp, overlap_s: i64) -> String {
    let answer = try_rotating(app, &installed.id, ADMIN_KEY, &json!({"overlapSeconds": overlap_s})).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    text(&answer.json()["appSecret"])
}

async fn kept(app: &TestApp) -> u64 {
    app_secret::Entity::find().count(app.app.db.read()).await.unwrap()
}

on_both! {
    async fn the_old_secret_works_beside_the_new_one_to_the_millisecond(app: &TestApp) {
        let all = app.everything().await;
        let path = format!("/admin/v1/apps/{}", all.app.id);
        let shown = app.call("GET", &path).auth(&all.admin.secret).ok().await;

        let answer = try_rotating(app, &all.app.id, &all.admin.secret, &json!({})).await.json();
        let new = text(&answer["appSecret"]);
        assert_eq!(answer, json!({"app": shown["app"], "appSecret": new}));
        assert!(new.starts_with("fps_") && new.len() == 47 && new != all.app.secret, "{new}");
        assert_eq!(app.call("GET", &path).auth(&all.admin.secret).ok().await, shown);
        assert!(dump(&app.app.db).await.iter().all(|row| !row.contains(&new)), "only its hash is kept");

        app.clock.advance_ms(86_400_000 - 1);
        for secret in [&all.app.secret, &new] {
            assert!(works(app, &all.app, secret).await);
        }
        app.clock.advance_ms(1);
        assert_eq!((works(app, &all.app, &all.app.secret).await, works(app, &all.app, &new).await), (false, true));

        assert_eq!(kept(app).await, 2);
        let tx = app.app.db.write().await.unwrap();
        assert_eq!(secrets::delete_expired(&tx).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(kept(app).await, 1);
        assert!(works(app, &all.app, &new).await);
    }
}

on_both! {
    async fn without_overlap_every_old_secret_ends_at_once_and_tokens_go_on(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let other = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;
        let second = rotate(app, &installed, 604_800).await;
        for secret in [&installed.secret, &second] {
            assert!(works(app, &installed, secret).await);
        }

        let third = rotate(app, &installed, 0).await;
        for secret in [&installed.secret, &second] {
            assert!(!works(app, &installed, secret).await);
        }
        // Nor does a clock that is set back bring them back.
        app.clock.advance_ms(-1_000);
        for secret in [&installed.secret, &second] {
            assert!(!works(app, &installed, secret).await);
        }
        app.clock.advance_ms(1_000);
        assert!(works(app, &installed, &third).await);
        assert!(works(app, &other, &other.secret).await, "another app's is its own");
        assert!(!works(app, &other, &third).await);
        assert_eq!(status(app, &token).await, 200);
    }
}

on_both! {
    async fn ten_replaced_secrets_work_and_an_eleventh_is_refused_until_one_ends(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let mut known = vec![installed.secret.clone()];
        for number in 0..10 {
            known.push(rotate(app, &installed, if number == 0 { 604_800 } else { 60 }).await);
        }
        for secret in &known {
            assert!(works(app, &installed, secret).await);
        }
        let full = try_rotating(app, &installed.id, ADMIN_KEY, &json!({"overlapSeconds": 1})).await;
        let what = "10 replaced secrets still work; wait until the overlap of one ends, or rotate with overlapSeconds 0";
        let refusal = json!({"message": what, "details": {"applicationError": {
            "code": "TOO_MANY_APP_SECRETS", "description": what, "data": {},
        }}});
        assert_eq!(both(&full), (428, refusal));
        assert!(works(app, &installed, &known[10]).await, "a refused rotation changes nothing");

        app.clock.advance_ms(60_000);
        known.push(rotate(app, &installed, 1).await);
        let mut working = Vec::new();
        for (number, secret) in known.iter().enumerate() {
            if works(app, &installed, secret).await {
                working.push(number);
            }
        }
        assert_eq!(working, [0, 10, 11], "the first has a week, the tenth a second more");
    }
}

on_both! {
    async fn only_its_owner_and_the_operator_rotate_a_secret_by_a_week_at_most(app: &TestApp) {
        let (own, other) = (app.everything().await, app.everything().await);
        let operators = app.installed_app(&own.site).await;
        for (id, key) in [
            (&own.app.id, &other.admin.secret),
            (&operators.id, &own.admin.secret),
            (&UNKNOWN_ID.to_owned(), &own.admin.secret),
            (&UNKNOWN_ID.to_owned(), &ADMIN_KEY.to_owned()),
        ] {
            let refused = try_rotating(app, id, key, &json!({"overlapSeconds": 0})).await;
            assert_eq!(refused.error(), (404, "APP_NOT_FOUND".to_owned()));
        }
        for (overlap, rule) in [(json!(-1), "MIN"), (json!(604_801), "MAX"), (json!("1"), "FORMAT")] {
            let refused = try_rotating(app, &own.app.id, ADMIN_KEY, &json!({"overlapSeconds": overlap})).await;
            assert_eq!(refused.violations(), [("overlapSeconds".to_owned(), rule.to_owned())]);
        }
        assert!(works(app, &own.app, &own.app.secret).await && works(app, &operators, &operators.secret).await);
        let by_operator = try_rotating(app, &own.app.id, ADMIN_KEY, &json!({"overlapSeconds": 0})).await.json();
        assert!(works(app, &own.app, &text(&by_operator["appSecret"])).await);
    }
}

on_both! {
    async fn of_rotations_at_the_same_moment_one_secret_is_the_newest(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let working = async |known: &[String]| {
            let mut working = 0;
            for secret in known {
                working += usize::from(works(app, &installed, secret).await);
            }
            working
        };
        let overlapping = join_all((0..8).map(|_| rotate(app, &installed, 60))).await;
        assert_eq!((working(&overlapping).await, works(app, &installed, &installed.secret).await), (8, true));
        app.clock.advance_ms(60_000);
        assert_eq!((working(&overlapping).await, works(app, &installed, &installed.secret).await), (1, false));

        let at_once = join_all((0..8).map(|_| rotate(app, &installed, 0))).await;
        assert_eq!((working(&at_once).await, working(&overlapping).await, kept(app).await), (1, 0, 1));
    }
}
